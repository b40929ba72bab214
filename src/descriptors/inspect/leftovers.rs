//! What carries the agent's mark although nobody wants it.
//!
//! Owns the orphans: links, addresses and half-made links, each with the operations that remove it. Must never name one without the
//! agent's mark. Start reading at [`Inspection::orphan_link`].

use std::net::IpAddr;

use super::{
    super::{
        address::addresses_prefix,
        alias::RELEASED,
        interface::host_name_claim,
        netns_of,
        orphan::orphan_key,
        owned,
        value::{Interface, NamespaceName, Orphan, Value, interface_key},
    },
    Inspection,
};
use crate::kernel::{AddressSpec, AddressState, Guard, KernelOp, LinkChanges, LinkState, PROTOCOL};

/// What the keys of namespaces begin with.
const NAMESPACES: &str = "linux/namespace/";

impl<'a> Inspection<'a> {
    pub(super) fn orphan(&mut self, what: &str, removal: Vec<KernelOp>, claim: Option<String>) {
        let key = orphan_key(self.netns, what);
        if self.view.applied(&key).is_none() {
            self.findings.found.push((
                key,
                Value::Orphan(
                    Orphan {
                        namespace: self.name.clone(),
                        removal,
                        claim,
                    }
                    .into(),
                ),
            ));
        }
    }

    pub(super) fn orphan_link(&mut self, link: &LinkState) {
        let (netns, guard) = (self.netns, owned(self.marks));
        // A link that stays must lose its addresses before its mark, or an agent killed between the two would leave them.
        let changed = |changes: LinkChanges| {
            let mut ops: Vec<KernelOp> = self
                .marked_addresses(link)
                .iter()
                .map(|state| self.address_removal(link, state))
                .collect();
            ops.push(KernelOp::SetLink {
                netns,
                name: link.name.clone(),
                guard: guard.clone(),
                changes: Box::new(changes),
            });
            ops
        };
        let removal = match link.kind.as_str() {
            "veth" | "dummy" | "vrf" => vec![KernelOp::DeleteLink {
                netns,
                name: link.name.clone(),
                guard: guard.clone(),
            }],
            "tun" => {
                let original = link
                    .alias
                    .rsplit('/')
                    .next()
                    .filter(|name| !name.is_empty())
                    .unwrap_or(&link.name)
                    .to_owned();
                changed(LinkChanges {
                    alias: Some(RELEASED.to_owned()),
                    rename: (original != link.name).then_some(original),
                    move_to: netns_of(self.view, &NamespaceName::Own).filter(|own| *own != netns),
                    ..LinkChanges::default()
                })
            }
            _ if link.name == "lo" => {
                let created = self.marks.is_created_namespace(&link.alias);
                let alias = if created {
                    self.marks.created_namespace(None)
                } else {
                    RELEASED.to_owned()
                };
                changed(LinkChanges {
                    alias: Some(alias),
                    ..LinkChanges::default()
                })
            }
            _ => return,
        };
        self.orphan(&format!("link/{}", link.name), removal, Some(host_name_claim(netns, &link.name)));
    }

    /// A link of an interrupted creation: left to the interface that wants this name here, else a leftover.
    pub(super) fn provisional(&mut self, link: &LinkState) {
        let is_here = |value: &Value| {
            let is_here = |interface: &Interface| interface.host_name == link.name && self.is_here(&interface.namespace);
            value.interface().is_some_and(is_here)
        };
        // The namespace may have other names, too; its value stands under one of them.
        let names = self.view.applied_under(NAMESPACES).filter_map(|(_, value)| value.namespace());
        let names: Vec<&NamespaceName> = names.map(|namespace| &namespace.name).filter(|name| self.is_here(name)).collect();
        let wanted = std::iter::once(self.name)
            .chain(names)
            .flat_map(|name| self.view.dependents(&name.key()))
            .find(|key| self.view.applied(key).or(self.view.wanted(key)).is_some_and(is_here));
        match wanted {
            Some(key) => {
                self.seen.insert(key.clone());
                if self.view.applied(key).is_none() && !self.view.in_flight(key) {
                    self.findings.unfinished.push(key.clone());
                }
            }
            None => {
                let removal = KernelOp::DeleteLink {
                    netns: self.netns,
                    name: link.name.clone(),
                    guard: owned(self.marks),
                };
                self.orphan(
                    &format!("link/{}", link.name),
                    vec![removal],
                    Some(host_name_claim(self.netns, &link.name)),
                );
            }
        }
    }

    pub(super) fn marked_addresses(&self, link: &LinkState) -> Vec<AddressState> {
        let on_link = |state: &&AddressState| state.link == link.index && state.protocol == PROTOCOL;
        self.snapshot.addresses.iter().filter(on_link).cloned().collect()
    }

    /// What must still hold of a link when something is removed from it.
    pub(super) fn guard(&self, link: &LinkState) -> Guard {
        match self.marks.subject(&link.alias) {
            Some(_) => owned(self.marks),
            None => Guard::Any,
        }
    }

    pub(super) fn address_removal(&self, link: &LinkState, state: &AddressState) -> KernelOp {
        KernelOp::DeleteAddress {
            netns: self.netns,
            link: link.name.clone(),
            guard: self.guard(link),
            address: state.address,
            shared: true,
        }
    }

    pub(super) fn orphan_address(&mut self, link: &LinkState, state: &AddressState) {
        let removal = self.address_removal(link, state);
        let what = format!("address/{}/{}/{}", link.name, state.address.address, state.address.prefix_len);
        self.orphan(&what, vec![removal], None);
    }

    /// Marked addresses of a link that are none of those `found` on it, nor wanted, nor being changed.
    pub(super) fn orphan_addresses(&mut self, link: &LinkState, name: &str, found: &[AddressSpec]) {
        let key = interface_key(name);
        let prefix = addresses_prefix(name);
        for state in self.marked_addresses(link) {
            let known = |value: &Value| value.address().is_some_and(|address| address.spec == Some(state.address));
            let wanted = self.view.wanted(&key).and_then(Value::interface);
            let is_wanted = wanted.is_some_and(|wanted| wanted.addresses.iter().any(|address| address.spec == Some(state.address)));
            let mut applied = self.view.applied_under(prefix.as_str());
            if !is_wanted && !found.contains(&state.address) && !applied.any(|(key, value)| known(value) || self.view.in_flight(key)) {
                self.orphan_address(link, &state);
            }
        }
    }

    /// Addresses of a link that somebody else added and no value asks for. What the kernel gave it by itself is nobody's.
    pub(super) fn foreign_addresses(&mut self, link: &LinkState, name: &str) {
        let (key, prefix) = (interface_key(name), addresses_prefix(name));
        let asked_for = |state: &AddressState| {
            let wanted = self.view.wanted(&key).and_then(Value::interface);
            let mut applied = self
                .view
                .applied_under(prefix.as_str())
                .filter_map(|(_, value)| value.address()?.spec);
            wanted.is_some_and(|wanted| wanted.addresses.iter().any(|address| address.spec == Some(state.address)))
                || applied.any(|spec| spec == state.address)
        };
        let foreign = |state: &&AddressState| {
            let others = state.link == link.index && state.protocol != PROTOCOL && !is_kernels(state);
            others && !asked_for(state)
        };
        let foreign: Vec<AddressState> = self.snapshot.addresses.iter().filter(foreign).cloned().collect();
        for state in foreign {
            let what = format!(
                "foreign-address/{}/{}/{}",
                link.name, state.address.address, state.address.prefix_len
            );
            let removal = KernelOp::DeleteAddress {
                netns: self.netns,
                link: link.name.clone(),
                guard: self.guard(link),
                address: state.address,
                shared: false,
            };
            self.orphan(&what, vec![removal], None);
        }
    }
}

/// Whether the kernel made an address by itself: `lo`, router advertisements and link-local ones (IFAPROT_KERNEL_* in linux/if_addr.h;
/// before Linux 5.18 by the address alone).
fn is_kernels(state: &AddressState) -> bool {
    let link_local = matches!(state.address.address, IpAddr::V6(address) if address.is_unicast_link_local());
    (1..=3).contains(&state.protocol) || link_local
}
