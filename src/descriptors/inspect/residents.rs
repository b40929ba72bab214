//! The values on one link, and what of the link belongs to none of them.
//!
//! A link of the agent's own namespace may be that of a VETH and of EXISTING interfaces at once. Whether something on it is an orphan,
//! or foreign, is decided here for all of its values together, never for one of them.

use std::collections::HashSet;

use super::{
    super::{
        observed::ObservedInterface,
        sharing::{contradicted, contradicts, deciding, existing_on},
        value::{Address, Interface, NamespaceName, Value, interface_key},
    },
    Inspection,
};
use crate::descriptors::netns_of;
use netns_kernel::AddressSpec;

/// Logical names of the values on a link: the one that made it or took it over, then EXISTING interfaces in key order.
pub(super) type Residents = Vec<String>;

/// What an inspection says of one value on a link.
enum Verdict {
    /// The value is there.
    Present(Box<Interface>),
    /// The value does not count: its conditions are not met.
    Absent,
    /// An operation on the value is in flight, or its namespace is not open yet.
    Unsettled,
    /// The link has the mark of a value that is not desired here.
    Orphan,
}

impl<'s> Inspection<'_, 's> {
    /// Adds the EXISTING interfaces to the values on each link.
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

    /// Names of the values on a link; empty for a link that is not managed.
    pub(super) fn residents(&self, index: u32) -> &[String] {
        self.managed.get(&index).map_or(&[], Vec::as_slice)
    }

    /// The desired interfaces on a link, or the applied ones where nothing usable is desired.
    fn interfaces_on(&self, index: u32) -> impl Iterator<Item = &Interface> {
        self.residents(index).iter().filter_map(|name| {
            let key = interface_key(name);
            self.view.wanted(&key).or(self.view.applied(&key))?.interface()
        })
    }

    pub(super) fn link(&mut self, link: &ObservedInterface<'s>) {
        let mut names = self.residents(link.state.index).to_vec();
        // After a restart, addresses show which of two EXISTING interfaces in conflict was applied before.
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
                Verdict::Present(found) => present.push(*found),
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

    /// Compares one value on a link with the link.
    fn value_on(&mut self, link: &ObservedInterface<'s>, name: &str, present: &[Interface]) -> Verdict {
        let key = interface_key(name);
        let known = self.view.known(&key);
        let wanted = known.wanted.and_then(Value::interface);
        let applied = known.applied.and_then(Value::interface);
        let applied_here = applied.filter(|applied| netns_of(self.view, &applied.namespace) == Some(self.netns));
        if known.in_flight {
            self.seen.insert(key);
            return Verdict::Unsettled;
        }
        let (rejected, earlier);
        let basis = match (wanted, applied_here) {
            (_, Some(applied)) => applied,
            // It is applied in another namespace, and moves here only now: this link was left by an earlier run.
            (Some(wanted), None) if self.is_elsewhere(applied) => match wanted.is_existing() {
                true => return Verdict::Unsettled,
                false => return Verdict::Orphan,
            },
            // One that is not up is not there, as its dependency sees it.
            (Some(wanted), None) if wanted.is_existing() && !link.state.up => return Verdict::Absent,
            (Some(wanted), None) if let Some(other) = self.contradicted(wanted, present) => {
                if !self.has_left_addresses(link, wanted) {
                    return Verdict::Absent;
                }
                // A version without the contradiction was applied before a restart. Its addresses stay, as they would without the restart.
                earlier = Interface {
                    mtu: 0,
                    mac: None,
                    enabled: other.enabled,
                    ..wanted.clone()
                };
                &earlier
            }
            (Some(wanted), None) => match netns_of(self.view, &wanted.namespace) {
                Some(netns) if netns == self.netns => wanted,
                // Its namespace is not open yet: it may turn out to be this one.
                None if self.view.is_undecided(&wanted.namespace.key()) => {
                    self.findings.undecided = true;
                    self.undecided.insert(link.state.index);
                    return Verdict::Unsettled;
                }
                _ => return Verdict::Orphan,
            },
            // Its last usable version is elsewhere: this one was left by an earlier run.
            (None, None) if self.is_elsewhere(applied) => return Verdict::Orphan,
            (None, None) if self.view.rejected(&key) => {
                rejected = self.as_it_is(name, link);
                &rejected
            }
            (None, None) => return Verdict::Orphan,
        };
        // The desired addresses of an EXISTING interface that leaves this link are to be on another one.
        let leaves = |wanted: &&Interface| wanted.is_existing() && wanted.host_name != link.state.name;
        let stays = wanted.filter(|wanted| !leaves(wanted));
        let mut found = self.interface(basis, stays.unwrap_or(basis), link);
        if stays.is_none() && applied.is_some() && !self.view.rejected(&key) {
            // Of an interface that is being taken off the link, an address that was given up may stay for the sake of another value.
            let is_kept = |address: &Address| self.view.applied(&address.key).is_some() || self.view.in_flight(&address.key);
            found.addresses.retain(is_kept);
        }
        self.findings.links.push((name.to_owned(), *link));
        self.seen.insert(key.clone());
        let differs = applied_here.is_none_or(|applied| !applied.equals_without_addresses(&found));
        let told = differs.then(|| (key, Value::Interface(found.clone().into())));
        self.findings.found.extend(told);
        Verdict::Present(Box::new(found))
    }

    /// Returns whether an interface that is not applied in this namespace is applied in another one, which is open.
    fn is_elsewhere(&self, applied: Option<&Interface>) -> bool {
        applied.is_some_and(|applied| netns_of(self.view, &applied.namespace).is_some())
    }

    /// Returns the interface that an EXISTING interface contradicts on its link: one that is applied, or one of `present`.
    fn contradicted(&self, wanted: &Interface, present: &[Interface]) -> Option<Interface> {
        if !wanted.is_existing() {
            return None;
        }
        let mut found = present.iter().map(|other| deciding(self.view, other));
        let other = found.find(|other| contradicts(wanted, other));
        other.or_else(|| contradicted(self.view, wanted)).cloned()
    }

    /// Returns whether a value is an EXISTING interface without any of its addresses on the link.
    fn is_without_trace(&self, link: &ObservedInterface<'s>, name: &str) -> bool {
        let desired = self.view.wanted(&interface_key(name)).and_then(Value::interface);
        desired.is_some_and(|desired| desired.is_existing() && !self.has_left_addresses(link, desired))
    }

    /// Returns whether the link has an address that the agent added for an interface.
    fn has_left_addresses(&self, link: &ObservedInterface<'s>, interface: &Interface) -> bool {
        let of_interface = |spec| {
            let mut addresses = interface.addresses.iter();
            addresses.any(|address| address.expected.is_none() && address.spec == Some(spec))
        };
        self.marked_addresses(link).any(|state| of_interface(state.address))
    }

    /// Notes the values derived from an interface on a link.
    fn what_is_on(&mut self, link: &ObservedInterface<'s>, found: &Interface) {
        self.observe_addresses(link, found);
        self.memberships_of(link, found);
        for address in &found.addresses {
            let known = self.view.known(&address.key);
            let applied = known.applied.and_then(Value::address);
            let is_news = match applied {
                Some(applied) => (applied.leads, applied.routed) != (address.leads, address.routed),
                None => known.applied.is_none(),
            };
            if is_news && !known.in_flight {
                let value = Value::Address(address.clone().into());
                self.findings.found.push((address.key.clone(), value));
            }
            self.seen.insert(address.key.clone());
            self.detection(link, address);
        }
        self.see_applied_addresses(link, &found.name);
    }

    /// Reports the addresses of a link that belong to none of its values.
    fn what_is_left_over(&mut self, link: &ObservedInterface<'s>, names: &[String], present: &[Interface]) {
        // All agents mark with one protocol number: on another agent's link, what carries it is that agent's.
        if link.is_other_agents() {
            return;
        }
        let addresses = present.iter().flat_map(|interface| &interface.addresses);
        let known: HashSet<AddressSpec> = addresses.filter_map(|address| address.spec).collect();
        self.orphan_addresses(link, names, &known);
        let is_exclusive = |interface: &Interface| {
            let of_agent = interface.is_made_by_agent() || interface.is_existing();
            of_agent && !interface.link_only
        };
        if self.strict && self.interfaces_on(link.state.index).chain(present).all(is_exclusive) {
            self.foreign_addresses(link, names);
        }
    }
}
