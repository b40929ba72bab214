//! Inspects the values on one link.
//!
//! A link in the agent's own namespace may belong to a VETH and to several EXISTING interfaces. Therefore orphans and foreign
//! objects on a link are determined for all these values together.

use std::{collections::HashSet, sync::Arc};

use super::{
    super::{
        observed::ObservedInterface,
        sharing::{contradicted, contradicts, deciding, existing_on},
        value::{Address, AppliedInterface, Interface, NamespaceName, Value, interface_key},
    },
    Inspection,
};
use crate::descriptors::netns_of;
use link_kinds::LifeCycle;
use netns_kernel::AddressSpec;

/// Logical names of the interfaces on a link: first the interface that created the link or took it over, then EXISTING interfaces
/// in key order.
pub(super) type Residents = Vec<String>;

/// Result of comparing one interface with its link.
enum Verdict {
    /// The interface exists in this state.
    Present(AppliedInterface),
    /// The interface cannot be applied on the link, because the link is down, or because the interface contradicts another
    /// interface on the link.
    Absent,
    /// The result is not known yet: an operation on the interface is in flight, its namespace is not open yet, or the interface
    /// still has to be moved to this link.
    Unsettled,
    /// The link has the ownership mark of a value that is not desired in this namespace.
    Orphan,
}

impl<'a, 's> Inspection<'a, 's> {
    /// Adds the names of EXISTING interfaces to the logical names that are recorded for each link.
    pub(super) fn add_existing(&mut self) {
        if netns_of(self.view, &NamespaceName::Own) != Some(self.netns) {
            return;
        }
        for link in self.observed.links().iter().map(|link| link.state) {
            let names = existing_on(self.view, &link.name);
            if !names.is_empty() {
                self.managed.entry(link.index).or_default().extend(names);
            }
        }
    }

    /// Returns the logical names of the interfaces on a link. The list is empty if the link is not managed.
    pub(super) fn residents(&self, index: u32) -> &[String] {
        self.managed.get(&index).map_or(&[], Vec::as_slice)
    }

    /// Returns the interfaces on a link. The `bool` is true if the link was adopted for the interface.
    ///
    /// Uses the desired version of an interface if there is one, and the applied version otherwise.
    fn interfaces_on(&self, index: u32) -> impl Iterator<Item = (&Interface, bool)> {
        self.residents(index).iter().filter_map(|name| {
            let key = interface_key(name);
            let value = self.view.desired(&key).or(self.view.applied(&key))?;
            Some((value.interface()?, value.is_adopted()))
        })
    }

    pub(super) fn link(&mut self, link: &ObservedInterface<'s>) {
        let mut names = self.residents(link.state.index).to_vec();
        // Several EXISTING interfaces on the link may conflict. After a restart, the addresses on the link show which of them was
        // applied before. Sort this interface first.
        if names.len() > 1 {
            names.sort_by_cached_key(|name| self.is_without_trace(link, name));
        }
        if names.is_empty() {
            if link.mark_of_value().is_some() {
                self.orphan_link(link);
            } else if link.is_provisional {
                self.provisional(link);
            }
            return;
        }
        let (mut present, mut settled) = (Vec::new(), true);
        for name in &names {
            match self.value_on(link, name, &present) {
                Verdict::Present(found) => present.push(found),
                Verdict::Absent => drop(self.missing.insert(name.clone())),
                Verdict::Unsettled => settled = false,
                Verdict::Orphan => {
                    self.orphaned.insert(link.state.index);
                    return self.orphan_link(link);
                }
            }
        }
        present.iter().for_each(|found| self.what_is_on(link, found));
        if settled && !present.is_empty() {
            self.what_is_left_over(link, &names, &present);
        }
    }

    /// Compares an interface with its link.
    fn value_on(&mut self, link: &ObservedInterface<'s>, name: &str, present: &[AppliedInterface]) -> Verdict {
        let key = interface_key(name);
        let known = self.view.known(&key);
        let desired = known.desired.and_then(Value::desired_interface);
        let applied = known.applied.and_then(Value::applied_interface);
        if known.in_flight {
            self.seen.insert(key);
            return Verdict::Unsettled;
        }
        let basis = match self.basis(link, name, present) {
            Ok(basis) => basis,
            Err(verdict) => return verdict,
        };
        // If an EXISTING interface is about to leave this link, its desired addresses belong to another link.
        let leaves = |desired: &Interface| desired.is_existing() && desired.host_name != link.state.name;
        let stays = desired.filter(|desired| !leaves(&desired.interface));
        let desired_addresses = stays.map_or(basis.addresses.clone(), |desired| desired.addresses.clone());
        let mut found = self.believe(basis, &desired_addresses, link);
        if stays.is_none() && applied.is_some() && !self.view.rejected(&key) {
            // While an interface is being removed from the link, some of its addresses may stay there for another interface.
            // Addresses that are no longer applied are left out.
            let is_kept = |address: &&Arc<Address>| self.view.applied(&address.key).is_some() || self.view.in_flight(&address.key);
            found.addresses = found.addresses.iter().filter(is_kept).cloned().collect();
        }
        self.findings.links.push((name.to_owned(), *link));
        self.seen.insert(key.clone());
        // Addresses are not compared here, because each address is a value that is compared separately.
        let is_as_applied = applied
            .filter(|applied| self.is_applied_here(applied))
            .is_some_and(|applied| (&applied.interface, applied.circumstances) == (&found.interface, found.circumstances));
        if !is_as_applied {
            self.findings.found.push((key, Value::AppliedInterface(found.clone().into())));
        }
        Verdict::Present(found)
    }

    /// Returns the expected state of an interface. The caller then corrects it according to the observed state of the link.
    ///
    /// The expected state is the applied version, if there is one. Otherwise, it is the state that the desired version has
    /// immediately after it is applied.
    ///
    /// # Errors
    /// Returns the verdict if the interface is not on this link.
    fn basis(&mut self, link: &ObservedInterface<'s>, name: &str, present: &[AppliedInterface]) -> Result<AppliedInterface, Verdict> {
        let key = interface_key(name);
        let known = self.view.known(&key);
        let desired = known.desired.and_then(Value::desired_interface);
        let applied = known.applied.and_then(Value::applied_interface);
        let applied_here = applied.filter(|applied| self.is_applied_here(applied));
        Ok(match (desired, applied_here) {
            (_, Some(applied)) => (**applied).clone(),
            // The interface is applied in another namespace, so an earlier run left this link behind. An EXISTING interface is an
            // exception, because it may still have to move to this link.
            (Some(desired), None) if self.is_elsewhere(applied) => match desired.interface.is_existing() {
                true => return Err(Verdict::Unsettled),
                false => return Err(Verdict::Orphan),
            },
            // Treat a link that is down as absent. The dependencies of an EXISTING interface treat it in the same way.
            (Some(desired), None) if desired.interface.is_existing() && !link.state.up => return Err(Verdict::Absent),
            (Some(desired), None) if let Some(other) = self.contradicted(&desired.interface, present) => {
                if !self.has_left_addresses(link, &desired.addresses) {
                    return Err(Verdict::Absent);
                }
                // The addresses on the link show that an earlier version of this interface was applied before the restart and did
                // not contradict the other interface. Keep the addresses, because the agent would have kept them without the
                // restart.
                let earlier = Interface {
                    mtu: 0,
                    mac: None,
                    enabled: other.enabled,
                    ..(*desired.interface).clone()
                };
                AppliedInterface {
                    interface: earlier.into(),
                    ..AppliedInterface::of(desired)
                }
            }
            (Some(desired), None) if self.is_on_former_parent(link, &desired.interface) => return Err(Verdict::Orphan),
            (Some(desired), None) => match netns_of(self.view, &desired.interface.namespace) {
                Some(netns) if netns == self.netns => AppliedInterface::of(desired),
                // The namespace of the interface is not open yet, and could be the inspected namespace.
                None if self.view.is_undecided(&desired.interface.namespace.key()) => {
                    self.findings.undecided = true;
                    self.undecided.insert(link.state.index);
                    return Err(Verdict::Unsettled);
                }
                _ => return Err(Verdict::Orphan),
            },
            // The last valid version of the interface is applied in another namespace, so an earlier run left this link behind.
            (None, None) if self.is_elsewhere(applied) => return Err(Verdict::Orphan),
            (None, None) if self.view.rejected(&key) => self.as_it_is(name, link),
            (None, None) => return Err(Verdict::Orphan),
        })
    }

    /// Returns whether an earlier run left the parent of a link behind. The kernel deletes the link together with this parent.
    ///
    /// The parent was left behind if this namespace contains either the parent link or the applied parent interface, but not both.
    fn is_on_former_parent(&self, link: &ObservedInterface<'_>, desired: &Interface) -> bool {
        let parent = desired.link.parent().and_then(|parent| self.view.applied(&interface_key(parent)));
        let netns = parent
            .and_then(Value::interface)
            .and_then(|parent| netns_of(self.view, &parent.namespace));
        netns.is_some_and(|netns| (netns == self.netns) != link.state.linked_netnsid.is_none())
    }

    /// Returns whether an applied interface is in this namespace.
    fn is_applied_here(&self, applied: &AppliedInterface) -> bool {
        netns_of(self.view, &applied.interface.namespace) == Some(self.netns)
    }

    /// Returns whether an interface is applied in another open namespace. The caller must already know that it is not applied in
    /// this namespace.
    fn is_elsewhere(&self, applied: Option<&Arc<AppliedInterface>>) -> bool {
        applied.is_some_and(|applied| netns_of(self.view, &applied.interface.namespace).is_some())
    }

    /// Returns an interface that contradicts an EXISTING interface on the same link. Searches `present` and the applied
    /// interfaces.
    fn contradicted<'p>(&self, desired: &Interface, present: &'p [AppliedInterface]) -> Option<&'p Interface>
    where
        'a: 'p,
    {
        if !desired.is_existing() {
            return None;
        }
        let mut found = present.iter().map(|other| deciding(self.view, &other.interface));
        let other = found.find(|other| contradicts(desired, other));
        other.or_else(|| contradicted(self.view, desired))
    }

    /// Returns whether an interface is EXISTING and none of its addresses is left on the link.
    fn is_without_trace(&self, link: &ObservedInterface<'s>, name: &str) -> bool {
        let desired = self.view.desired(&interface_key(name)).and_then(Value::desired_interface);
        desired.is_some_and(|desired| desired.interface.is_existing() && !self.has_left_addresses(link, &desired.addresses))
    }

    /// Returns whether at least one of these addresses is on the link and was added by an agent.
    fn has_left_addresses(&self, link: &ObservedInterface<'s>, addresses: &[Arc<Address>]) -> bool {
        let of_interface = |spec| {
            addresses
                .iter()
                .any(|address| address.expected.is_none() && address.spec == Some(spec))
        };
        self.marked_addresses(link).any(|state| of_interface(state.address))
    }

    /// Records the values that are derived from an interface and exist on its link.
    fn what_is_on(&mut self, link: &ObservedInterface<'s>, found: &AppliedInterface) {
        self.observe_addresses(link, found);
        self.memberships_of(link, &found.interface);
        for address in found.addresses.iter() {
            let known = self.view.known(&address.key);
            let applied = known.applied.and_then(Value::address);
            let is_news = match applied {
                Some(applied) => (applied.leads, applied.routed) != (address.leads, address.routed),
                None => known.applied.is_none(),
            };
            if is_news && !known.in_flight {
                let value = Value::Address(address.clone());
                self.findings.found.push((address.key.clone(), value));
            }
            self.seen.insert(address.key.clone());
            self.detection(link, address);
        }
        self.see_applied_addresses(link, &found.interface.name);
    }

    /// Reports the addresses on a link that belong to none of the link's interfaces.
    fn what_is_left_over(&mut self, link: &ObservedInterface<'s>, names: &[String], present: &[AppliedInterface]) {
        // Ignore the link of another agent. All agents use the same protocol number, so addresses with this number on that link
        // belong to the other agent.
        if link.is_other_agents() {
            return;
        }
        let addresses = present.iter().flat_map(|found| found.addresses.iter());
        let known: HashSet<AddressSpec> = addresses.filter_map(|address| address.spec).collect();
        self.orphan_addresses(link, names, &known);
        let is_exclusive = |(interface, adopted): (&Interface, bool)| {
            let is_of_agent = match interface.link.life_cycle() {
                LifeCycle::Created => !adopted,
                LifeCycle::Referred => true,
                LifeCycle::TakenOver | LifeCycle::Builtin(_) => false,
            };
            is_of_agent && !interface.link_only
        };
        let found = present.iter().map(|found| (&*found.interface, found.circumstances.adopted));
        if self.strict && self.interfaces_on(link.state.index).chain(found).all(is_exclusive) {
            self.foreign_addresses(link, names);
        }
    }
}
