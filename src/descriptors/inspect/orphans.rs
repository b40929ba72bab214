//! Finds orphans, which are links, partly created links and addresses without a desired value. Each orphan is reported with the
//! operations that delete it.
//!
//! An object without the agent's ownership mark is never an orphan, except for foreign addresses in strict mode.

use std::{
    collections::HashSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use models::key::Key;

use super::{
    super::{
        address::addresses_prefix,
        alias::RELEASED,
        interface::{HOST_NAME_CONFLICT, host_name_claim, unique_claim_on},
        namespace::NAMESPACES,
        netns_of,
        observed::ObservedInterface,
        orphan::{orphan_key, orphans_prefix},
        owned,
        value::{Interface, NamespaceName, Orphan, Value, interface_key},
    },
    Inspection,
};
use crate::scheduler::Claim;
use link_kinds::LifeCycle;
use netns_kernel::{AddressSpec, AddressState, Guard, KernelOp, LinkChanges, PROTOCOL};

/// IFA_F_PERMANENT, linux/if_addr.h: the address has no lifetime.
const IFA_F_PERMANENT: u32 = 0x80;
/// IFA_F_MANAGETEMPADDR, linux/if_addr.h: the address comes from a router advertisement and has temporary addresses.
const IFA_F_MANAGETEMPADDR: u32 = 0x100;
/// IFA_F_STABLE_PRIVACY, linux/if_addr.h: the kernel generated the address (RFC 7217).
const IFA_F_STABLE_PRIVACY: u32 = 0x800;

impl<'s> Inspection<'_, 's> {
    /// Reports an orphan on a link. The link itself is not an orphan.
    ///
    /// An orphan on a `lo` must be deleted before the interface of the `lo`. Deleting the interface removes the ownership mark of
    /// the `lo`, and without this mark the owner of the orphan is unknown.
    pub(super) fn orphan_on(&mut self, link: &ObservedInterface<'s>, what: &str, removal: KernelOp, superseded: bool) {
        let of_loopback = link.mark_of_value().filter(|_| link.state.name == "lo");
        let provider = of_loopback.map(|mark| interface_key(mark.subject));
        let orphan = Orphan {
            provider,
            superseded,
            ..self.orphan_of(vec![removal])
        };
        self.orphan(what, orphan);
    }

    /// Returns an orphan in this namespace that `removal` deletes. All other fields have their defaults.
    fn orphan_of(&self, removal: Vec<KernelOp>) -> Orphan {
        Orphan {
            namespace: self.name.clone(),
            removal,
            claims: Vec::new(),
            provider: None,
            superseded: false,
        }
    }

    fn orphan(&mut self, what: &str, orphan: Orphan) {
        let key = orphan_key(self.netns, what);
        self.orphans.insert(key.clone());
        if self.view.applied(&key).is_none() {
            self.findings.found.push((key, Value::Orphan(orphan.into())));
        }
    }

    /// Reports applied orphans as lost if they no longer exist or now belong to a value again.
    ///
    /// An object that belongs to a value must not be deleted as an orphan.
    pub(super) fn former_orphans(&mut self) {
        let found = self.view.applied_under(&orphans_prefix(self.netns));
        let of_this_name = |value: &Value| value.orphan().is_some_and(|orphan| orphan.namespace == *self.name);
        let former = found.filter(|(key, value)| of_this_name(value) && !self.orphans.contains(*key) && !self.view.in_flight(key));
        let former: Vec<Key> = former.map(|(key, _)| key.clone()).collect();
        self.findings.lost.extend(former);
    }

    pub(super) fn orphan_link(&mut self, link: &ObservedInterface<'s>) {
        let (netns, guard) = (self.netns, owned(self.marks));
        // If the agent only removes its ownership mark from a link, it must delete its addresses on the link first. Otherwise, an
        // agent that is killed in between would leave the addresses behind.
        let changed = |changes: LinkChanges| {
            let mut ops: Vec<KernelOp> = self.marked_addresses(link).map(|state| self.address_removal(link, state)).collect();
            ops.push(KernelOp::SetLink {
                netns,
                name: link.state.name.clone(),
                guard: guard.clone(),
                changes: Box::new(changes),
            });
            ops
        };
        let left = link.link();
        let removal = match left.life_cycle() {
            LifeCycle::Created => vec![self.deletion(link)],
            LifeCycle::TakenOver => {
                let original = left.original().filter(|name| !name.is_empty()).unwrap_or(&link.state.name);
                changed(LinkChanges {
                    alias: Some(RELEASED.to_owned()),
                    rename: (original != link.state.name).then(|| original.to_owned()),
                    move_to: netns_of(self.view, &NamespaceName::Own).filter(|own| *own != netns),
                    ..LinkChanges::default()
                })
            }
            // This version of the agent does not support the kind of this link, so it does not delete the link.
            LifeCycle::Referred => return,
            LifeCycle::Builtin(_) => {
                let alias = if link.mark.is_some_and(|mark| mark.created_namespace) {
                    self.marks.created_namespace(None)
                } else {
                    RELEASED.to_owned()
                };
                changed(LinkChanges {
                    alias: Some(alias),
                    ..LinkChanges::default()
                })
            }
        };
        let known = self.known_name(link);
        let superseded = known.is_some_and(|name| !self.has_lost_end(link, name));
        self.report_orphan_link(link, removal, superseded);
    }

    /// Reports a link as an orphan. No interface can use the name of the link, or its VLAN id on the same parent, until the link
    /// is deleted.
    fn report_orphan_link(&mut self, link: &ObservedInterface<'s>, removal: Vec<KernelOp>, superseded: bool) {
        let orphan = Orphan {
            claims: self.claims_of(link),
            superseded,
            ..self.orphan_of(removal)
        };
        self.orphan(&format!("link/{}", link.state.name), orphan);
    }

    /// Returns the claims of a link that belongs to no value.
    ///
    /// The ownership mark contains the logical name, followed by the name of the parent. The logical name can end at any slash,
    /// so claims are returned for every possible parent.
    fn claims_of(&self, link: &ObservedInterface<'s>) -> Vec<Claim> {
        let host_name = Claim {
            name: host_name_claim(self.netns, &link.state.name),
            reason: HOST_NAME_CONFLICT,
        };
        let observed = link.link();
        let mark = link.mark_of_value();
        let parents = mark
            .into_iter()
            .flat_map(|mark| mark.candidates().map(move |name| mark.words_after(name)));
        let unique = parents
            .filter(|parent| !parent.is_empty())
            .filter_map(|parent| unique_claim_on(parent, &observed, self.view));
        std::iter::once(host_name).chain(unique).collect()
    }

    /// Returns the operation that deletes a link, provided that the link still has this agent's ownership mark at that time.
    fn deletion(&self, link: &ObservedInterface<'s>) -> KernelOp {
        KernelOp::DeleteLink {
            netns: self.netns,
            name: link.state.name.clone(),
            guard: owned(self.marks),
        }
    }

    /// Handles a link that an interrupted creation left behind.
    ///
    /// The link belongs to the desired interface that has this `host_name` in this namespace, provided that the interface has no
    /// other link. The link is an orphan if it belongs to no interface, or if the interface is still waiting for a dependency.
    pub(super) fn provisional(&mut self, link: &ObservedInterface<'s>) {
        let is_here = |value: &Value| {
            let is_here = |interface: &Interface| interface.host_name == link.state.name && self.is_here(&interface.namespace);
            value.interface().is_some_and(is_here)
        };
        let has_other_link = |key: &&Key| self.managed.values().flatten().any(|name| interface_key(name) == **key);
        // The namespace may have several names, and the interface may use any of these names.
        let names = self.view.applied_under(NAMESPACES).filter_map(|(_, value)| value.namespace_name());
        let names: Vec<&NamespaceName> = names.filter(|name| self.is_here(name)).collect();
        let desired = std::iter::once(self.name)
            .chain(names)
            .flat_map(|name| self.view.dependents(&name.key()))
            .filter(|key| self.view.applied(key).or(self.view.desired(key)).is_some_and(is_here))
            .find(|key| !has_other_link(key));
        let exists = |key: &Key| self.view.applied(key).is_some() || self.view.in_flight(key);
        match desired {
            Some(key) if exists(key) => {
                self.seen.insert(key.clone());
            }
            // The agent will soon create the interface again, and will delete this link first.
            Some(key) if self.view.is_undecided(key) => {
                self.seen.insert(key.clone());
                self.findings.unfinished.push(key.clone());
            }
            _ => self.report_orphan_link(link, vec![self.deletion(link)], false),
        }
    }

    pub(super) fn marked_addresses(&self, link: &ObservedInterface<'s>) -> impl Iterator<Item = &'s AddressState> + use<'s, '_> {
        let states = self.observed.addresses(link.state.index).iter().copied();
        states.filter(|state| state.protocol == PROTOCOL)
    }

    /// Returns the guard for the deletion of an object on a link.
    pub(super) fn guard(&self, link: &ObservedInterface<'s>) -> Guard {
        match link.mark {
            Some(_) => owned(self.marks),
            None => Guard::Any,
        }
    }

    pub(super) fn address_removal(&self, link: &ObservedInterface<'s>, state: &AddressState) -> KernelOp {
        KernelOp::DeleteAddress {
            netns: self.netns,
            link: link.state.name.clone(),
            guard: self.guard(link),
            address: state.address,
            shared: true,
        }
    }

    pub(super) fn orphan_address(&mut self, link: &ObservedInterface<'s>, state: &AddressState) {
        let removal = self.address_removal(link, state);
        let what = format!("address/{}/{}/{}", link.state.name, state.address.address, state.address.prefix_len);
        // An orphan in the agent's own namespace is not superseded, because the address may belong to an EXISTING interface whose
        // value the store has lost.
        let superseded = netns_of(self.view, &NamespaceName::Own) != Some(self.netns);
        self.orphan_on(link, &what, removal, superseded);
    }

    /// Returns the desired and the applied addresses of the interfaces with these names.
    fn desired_addresses(&self, names: &[String]) -> HashSet<AddressSpec> {
        let mut desired_addresses = HashSet::new();
        for name in names {
            let desired = self.view.desired(&interface_key(name)).into_iter().flat_map(Value::addresses);
            desired_addresses.extend(desired.filter_map(|address| address.spec));
            let applied = self.view.applied_under(addresses_prefix(name).as_str());
            desired_addresses.extend(applied.filter_map(|(_, value)| value.address()?.spec));
        }
        desired_addresses
    }

    /// Reports the agent's addresses on a link as orphans, except the addresses in `found` and the desired and applied addresses
    /// of the interfaces `names`. Reports nothing while an operation on an address of these interfaces is in flight.
    pub(super) fn orphan_addresses(&mut self, link: &ObservedInterface<'s>, names: &[String], found: &HashSet<AddressSpec>) {
        let mut left: Vec<&AddressState> = self
            .marked_addresses(link)
            .filter(|state| !found.contains(&state.address))
            .collect();
        if left.is_empty() {
            return;
        }
        let changing = |name: &String| {
            let mut applied = self.view.applied_under(addresses_prefix(name).as_str());
            applied.any(|(key, _)| self.view.in_flight(key))
        };
        if names.iter().any(changing) {
            return;
        }
        let desired_addresses = self.desired_addresses(names);
        left.retain(|state| !desired_addresses.contains(&state.address));
        left.into_iter().for_each(|state| self.orphan_address(link, state));
    }

    /// Reports the foreign addresses on a link as orphans, except the desired and applied addresses of the interfaces `names`.
    ///
    /// Addresses that the kernel assigned by itself are not reported.
    pub(super) fn foreign_addresses(&mut self, link: &ObservedInterface<'s>, names: &[String]) {
        let desired_addresses = self.desired_addresses(names);
        let foreign = |state: &&AddressState| {
            let others = state.link == link.state.index && state.protocol != PROTOCOL && !is_kernels(&link.state.name, state);
            others && !desired_addresses.contains(&state.address)
        };
        let foreign: Vec<AddressState> = self.snapshot.addresses.iter().filter(foreign).cloned().collect();
        for state in foreign {
            let what = format!(
                "foreign-address/{}/{}/{}",
                link.state.name, state.address.address, state.address.prefix_len
            );
            let removal = KernelOp::DeleteAddress {
                netns: self.netns,
                link: link.state.name.clone(),
                guard: self.guard(link),
                address: state.address,
                shared: false,
            };
            self.orphan_on(link, &what, removal, false);
        }
    }
}

/// Returns whether the kernel assigned an address by itself (IFAPROT_KERNEL_* in linux/if_addr.h).
///
/// Before Linux 5.18, addresses have no protocol, and later kernels do not set it for every address. Therefore the function also
/// recognises the loopback addresses of `lo`, link-local IPv6 addresses, and IPv6 addresses from router advertisements, which
/// have a lifetime or generation flags.
fn is_kernels(link: &str, state: &AddressState) -> bool {
    let by_itself = match state.address.address {
        IpAddr::V4(address) => link == "lo" && address == Ipv4Addr::LOCALHOST,
        IpAddr::V6(address) => {
            let from_prefix = state.flags & (IFA_F_MANAGETEMPADDR | IFA_F_STABLE_PRIVACY) != 0 || state.flags & IFA_F_PERMANENT == 0;
            address.is_unicast_link_local() || link == "lo" && address == Ipv6Addr::LOCALHOST || from_prefix
        }
    };
    (1..=3).contains(&state.protocol) || by_itself
}
