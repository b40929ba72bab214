//! From what the kernel shows of a namespace back to values.
//!
//! Owns the comparison of a [`Snapshot`] with what the scheduler believes: what is there and can be taken over, what differs,
//! what is gone, and what carries the agent's mark although nobody wants it. Must never call anything its own that lacks the
//! mark. Start reading at [`inspect`].

use std::collections::{BTreeMap, BTreeSet, HashMap};

use models::{
    address,
    key::{AddressSource, Key, RouteDestination, TypedKey},
};

use super::{
    Network,
    address::addresses_prefix,
    alias::{Marks, RELEASED},
    arp::up_key,
    interface::host_name_claim,
    netns_of,
    orphan::orphan_key,
    owned,
    route::{effective_metric, table_of},
    value::{Address, Interface, InterfaceKind, NamespaceName, Orphan, Value, VrfMembership, interface_key},
    vrf::membership_key,
};
use crate::{
    kernel::{
        ADOPTED_MARK, AddressSpec, AddressState, KernelOp, LinkChanges, LinkState, NeighbourState, NetnsId, PROTOCOL, RouteState, Snapshot,
    },
    scheduler::View,
};

/// What a look at a namespace brought.
#[derive(Default, Debug)]
pub struct Findings {
    /// Values that are there and not, or not so, believed to be.
    pub found: Vec<(Key, Value)>,
    /// Values that are believed to be there and are not.
    pub lost: Vec<Key>,
    /// Wanted interfaces of which an interrupted creation left something: the next attempt clears it away.
    pub unfinished: Vec<Key>,
    /// Something here may belong to a namespace that is not open yet: to be looked at again when more namespaces are.
    pub undecided: bool,
    /// The managed links, by logical name.
    pub links: Vec<(String, LinkState)>,
}

/// A namespace being looked at.
struct Inspection<'a> {
    view: &'a View<'a, Network>,
    marks: &'a Marks,
    name: &'a NamespaceName,
    netns: NetnsId,
    snapshot: &'a Snapshot,
    findings: Findings,
    /// Logical name by interface index.
    managed: HashMap<u32, String>,
    seen: BTreeSet<Key>,
}

/// What the keys of namespaces begin with.
const NAMESPACES: &str = "linux/namespace/";

/// Compares what a namespace contains with what is wanted and applied in it.
pub fn inspect(view: &View<'_, Network>, marks: &Marks, name: &NamespaceName, netns: NetnsId, snapshot: &Snapshot) -> Findings {
    let (findings, managed, seen) = (Findings::default(), HashMap::new(), BTreeSet::new());
    let mut inspection = Inspection {
        view,
        marks,
        name,
        netns,
        snapshot,
        findings,
        managed,
        seen,
    };
    inspection.name_links();
    for link in &snapshot.links {
        inspection.link(link);
    }
    inspection.neighbours();
    inspection.routes();
    inspection.absent();
    inspection.findings
}

impl<'a> Inspection<'a> {
    /// The interface that a link is, by its alias, or for EXISTING by its kernel name.
    fn logical_name(&self, link: &LinkState) -> Option<String> {
        let known = |name: &&str| {
            let key = interface_key(name);
            self.view
                .wanted(&key)
                .or(self.view.applied(&key))
                .is_some_and(|value| value.interface().is_some())
                || self.view.rejected(&key)
        };
        if self.marks.subject(&link.alias).is_some() {
            return self.marks.candidates(&link.alias).find(known).map(str::to_owned);
        }
        if *self.name != NamespaceName::Own {
            return None;
        }
        let existing = self
            .view
            .dependents(&NamespaceName::Own.key())
            .filter_map(|key| self.view.wanted(key).or(self.view.applied(key))?.interface());
        existing
            .filter(|interface| interface.kind == InterfaceKind::Existing && interface.host_name == link.name)
            .map(|interface| interface.name.clone())
            .next()
    }

    fn name_links(&mut self) {
        for link in &self.snapshot.links {
            if let Some(name) = self.logical_name(link) {
                self.managed.insert(link.index, name);
            }
        }
    }

    fn link(&mut self, link: &LinkState) {
        let Some(name) = self.managed.get(&link.index).cloned() else {
            let leftover = self.marks.subject(&link.alias).is_some_and(|subject| !subject.is_empty());
            if leftover {
                self.orphan_link(link);
            } else if link.group == self.marks.provisional_group() {
                self.provisional(link);
            }
            return;
        };
        let key = interface_key(&name);
        let wanted = self.view.wanted(&key).and_then(Value::interface);
        let applied = self.view.applied(&key).and_then(Value::interface);
        let applied_here = applied.filter(|applied| netns_of(self.view, &applied.namespace) == Some(self.netns));
        if self.view.in_flight(&key) {
            self.seen.insert(key);
            return;
        }
        let rejected;
        let basis = match (wanted, applied_here) {
            (_, Some(applied)) => applied,
            // One that is not up is not there, as its dependency sees it.
            (Some(wanted), None) if wanted.kind == InterfaceKind::Existing && !link.up => return,
            (Some(wanted), None) => match netns_of(self.view, &wanted.namespace) {
                Some(netns) if netns == self.netns => wanted,
                // Its namespace is not open yet: it may turn out to be this one.
                None if self.view.is_undecided(&wanted.namespace.key()) => {
                    self.findings.undecided = true;
                    return;
                }
                _ => return self.orphan_link(link),
            },
            (None, None) if self.view.rejected(&key) => {
                rejected = self.as_it_is(&name, link);
                &rejected
            }
            (None, None) => return self.orphan_link(link),
        };
        let found = self.interface(basis, wanted.unwrap_or(basis), link);
        self.findings.links.push((name, link.clone()));
        self.seen.insert(key.clone());
        let differs = applied_here.is_none_or(|applied| {
            *applied
                != Interface {
                    addresses: applied.addresses.clone(),
                    ..found.clone()
                }
        });
        let addresses = found.addresses.clone();
        let known: Vec<_> = addresses.iter().filter_map(|address| address.spec).collect();
        let membership = found.vrf.clone();
        let name = found.name.clone();
        if differs {
            self.findings.found.push((key, Value::Interface(found.into())));
        }
        if let Some(vrf) = membership {
            let member = VrfMembership {
                interface: name.clone(),
                vrf: vrf.clone(),
                existing: None,
            };
            self.note(membership_key(&name, &vrf), Value::VrfMembership(member.into()));
        }
        for address in addresses {
            self.note(address.key.clone(), Value::Address(address.into()));
        }
        self.see_applied_addresses(link, &name);
        self.orphan_addresses(link, &name, &known);
    }

    /// A value that is there: told only if that is news.
    fn note(&mut self, key: Key, value: Value) {
        if !self.view.in_flight(&key) && self.view.applied(&key).is_none() {
            self.findings.found.push((key.clone(), value));
        }
        self.seen.insert(key);
    }

    /// An address that its interface no longer has, because its removal failed, is there all the same.
    fn see_applied_addresses(&mut self, link: &LinkState, name: &str) {
        let applied = self.view.applied_under(addresses_prefix(name).as_str());
        let there = applied.filter(|(_, value)| {
            let spec = value.address().and_then(|address| address.spec);
            spec.is_some_and(|spec| self.has_address(link.index, spec))
        });
        let there: Vec<Key> = there.map(|(key, _)| key.clone()).collect();
        self.seen.extend(there);
    }

    /// The interface as the link shows it. What the kernel cannot tell is as in `basis`.
    fn interface(&self, basis: &Interface, wanted: &Interface, link: &LinkState) -> Interface {
        let mut found = basis.clone();
        if basis.kind != InterfaceKind::Existing {
            found.host_name = link.name.clone();
            found.enabled = link.up;
            if found.effective_mtu().is_some_and(|mtu| mtu != link.mtu) {
                found.mtu = link.mtu;
            }
            if found.mac.is_some() && link.mac.is_some() {
                found.mac = link.mac;
            }
            found.kind = self.kind(basis, link);
            found.vrf = self.vrf_of(link);
            found.adopted = is_adopted(link);
        }
        let here = |address: &&Address| address.expected.is_none() && address.spec.is_some_and(|spec| self.has_address(link.index, spec));
        let mut addresses: Vec<Address> = basis.addresses.iter().filter(here).cloned().collect();
        for address in wanted.addresses.iter().filter(here) {
            if addresses.iter().all(|known| known.spec != address.spec) {
                addresses.push(address.clone());
            }
        }
        found.addresses = addresses;
        found
    }

    /// The interface that an earlier value brought about, now that what is asked for cannot be used: what the kernel shows is all that
    /// is known of it, and it stays.
    fn as_it_is(&self, name: &str, link: &LinkState) -> Interface {
        let kind = match link.kind.as_str() {
            "tun" => InterfaceKind::TapToVpp {
                tap: link.alias.rsplit('/').next().unwrap_or_default().to_owned(),
            },
            _ if link.name == "lo" => InterfaceKind::Loopback,
            _ => InterfaceKind::Dummy,
        };
        let marked = |state: &&AddressState| state.link == link.index && state.protocol == PROTOCOL;
        let address = |state: &AddressState| {
            let text = format!("{}/{}", state.address.address, state.address.prefix_len);
            Address {
                interface: name.to_owned(),
                key: TypedKey::interface_address(name, &text, AddressSource::Static).to_key(),
                spec: Some(state.address),
                text,
                vrf: self.vrf_of(link),
                expected: None,
            }
        };
        Interface {
            name: name.to_owned(),
            kind,
            namespace: self.name.clone(),
            host_name: link.name.clone(),
            enabled: link.up,
            addresses: self.snapshot.addresses.iter().filter(marked).map(address).collect(),
            mac: None,
            mtu: link.mtu,
            link_only: false,
            vrf: self.vrf_of(link),
            marked: true,
            adopt: false,
            adopted: is_adopted(link),
        }
    }

    fn has_address(&self, link: u32, spec: AddressSpec) -> bool {
        self.snapshot
            .addresses
            .iter()
            .any(|state| state.link == link && state.address == spec)
    }

    fn kind(&self, basis: &Interface, link: &LinkState) -> InterfaceKind {
        match (link.kind.as_str(), &basis.kind) {
            ("veth", kind) => {
                let rest = self
                    .marks
                    .subject(&link.alias)
                    .and_then(|subject| subject.strip_prefix(&basis.name))
                    .unwrap_or_default();
                let peer = rest.trim_start_matches('/').to_owned();
                let (rx_checksum, tx_checksum) = match kind {
                    InterfaceKind::Veth {
                        rx_checksum, tx_checksum, ..
                    } => (*rx_checksum, *tx_checksum),
                    _ => (true, true),
                };
                let rx_checksum = link.rx_checksum.unwrap_or(rx_checksum);
                InterfaceKind::Veth {
                    peer,
                    rx_checksum,
                    tx_checksum: link.tx_checksum.unwrap_or(tx_checksum),
                }
            }
            ("dummy", _) => InterfaceKind::Dummy,
            ("vrf", InterfaceKind::Vrf { table }) => InterfaceKind::Vrf {
                table: link.vrf_table.unwrap_or(*table),
            },
            ("vrf", _) => InterfaceKind::Vrf {
                table: link.vrf_table.unwrap_or_default(),
            },
            (_, kind) => kind.clone(),
        }
    }

    fn vrf_of(&self, link: &LinkState) -> Option<String> {
        let master = link.master?;
        let device = self
            .snapshot
            .links
            .iter()
            .find(|other| other.index == master && other.kind == "vrf")?;
        self.managed.get(&device.index).cloned()
    }

    /// Whether what carries the agent's protocol number on a link can only be this agent's: the number is the same for all agents,
    /// but a link with this agent's alias, or one that it manages, is its own.
    fn is_ours(&self, index: u32) -> bool {
        let marked = |link: &LinkState| self.marks.subject(&link.alias).is_some_and(|subject| !subject.is_empty());
        self.managed.contains_key(&index) || self.snapshot.links.iter().any(|link| link.index == index && marked(link))
    }

    /// Whether an unusable value stands under the key of a neighbour: the entry of its usable predecessor stays.
    fn is_rejected_neighbour(&self, state: &NeighbourState) -> bool {
        self.managed.get(&state.link).is_some_and(|interface| {
            let (interface, ip_address) = (interface.clone(), state.address.to_string());
            self.view.rejected(&TypedKey::Arp { interface, ip_address }.to_key())
        })
    }

    /// As [`Self::is_rejected_neighbour`], for a route.
    fn is_rejected_route(&self, state: &RouteState) -> bool {
        self.managed.get(&state.link).is_some_and(|interface| {
            let destination = RouteDestination::Network {
                address: state.route.destination,
                prefix_len: state.route.prefix_len,
            };
            let outgoing_interface = interface.clone();
            let key = TypedKey::Route {
                destination,
                outgoing_interface,
            };
            self.view.rejected(&key.to_key())
        })
    }

    fn link_name(&self, index: u32) -> Option<String> {
        self.snapshot
            .links
            .iter()
            .find(|link| link.index == index)
            .map(|link| link.name.clone())
    }

    fn orphan(&mut self, what: &str, removal: Vec<KernelOp>, claim: Option<String>) {
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

    fn orphan_link(&mut self, link: &LinkState) {
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

    /// Whether a name stands for the namespace that is looked into.
    fn is_here(&self, name: &NamespaceName) -> bool {
        name == self.name || netns_of(self.view, name) == Some(self.netns)
    }

    /// A link of an interrupted creation: left to the interface that wants this name here, else a leftover.
    fn provisional(&mut self, link: &LinkState) {
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

    fn marked_addresses(&self, link: &LinkState) -> Vec<AddressState> {
        let on_link = |state: &&AddressState| state.link == link.index && state.protocol == PROTOCOL;
        self.snapshot.addresses.iter().filter(on_link).cloned().collect()
    }

    fn address_removal(&self, link: &LinkState, state: &AddressState) -> KernelOp {
        KernelOp::DeleteAddress {
            netns: self.netns,
            link: link.name.clone(),
            address: state.address,
            shared: true,
        }
    }

    fn orphan_address(&mut self, link: &LinkState, state: &AddressState) {
        let removal = self.address_removal(link, state);
        let what = format!("address/{}/{}/{}", link.name, state.address.address, state.address.prefix_len);
        self.orphan(&what, vec![removal], None);
    }

    /// Marked addresses of a link that are none of those `found` on it, nor wanted, nor being changed.
    fn orphan_addresses(&mut self, link: &LinkState, name: &str, found: &[AddressSpec]) {
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

    /// The wanted or applied values of an interface below a key prefix that depend on it being up.
    fn dependents_of<'s>(&'s self, interface: &str, prefix: &'static str) -> Vec<(Key, &'a Value)> {
        let keys = self
            .view
            .dependents(&up_key(interface))
            .filter(|key| key.as_str().starts_with(prefix));
        keys.filter_map(|key| Some((key.clone(), self.view.wanted(key).or(self.view.applied(key))?)))
            .collect()
    }

    fn neighbours(&mut self) {
        for state in self.snapshot.neighbours.iter().filter(|state| state.protocol == PROTOCOL) {
            let Some(link) = self.link_name(state.link) else { continue };
            let owner = self.managed.get(&state.link).and_then(|name| {
                let candidates = self.dependents_of(name, "config/linux/l3/v2/arp/");
                candidates
                    .into_iter()
                    .find(|(_, value)| value.arp().is_some_and(|arp| arp.address == Some(state.address)))
            });
            match owner {
                Some((key, value)) => {
                    let Some(arp) = value.arp() else { continue };
                    let found = super::value::Arp {
                        mac: state.mac,
                        ..arp.clone()
                    };
                    let differs = self.view.applied(&key).and_then(Value::arp) != Some(&found);
                    if differs && !self.view.in_flight(&key) {
                        self.findings.found.push((key.clone(), Value::Arp(found.into())));
                    }
                    self.seen.insert(key);
                }
                None if !self.is_ours(state.link) || self.is_rejected_neighbour(state) => {}
                None => {
                    let removal = KernelOp::DeleteNeighbour {
                        netns: self.netns,
                        link: link.clone(),
                        address: state.address,
                    };
                    self.orphan(&format!("neighbour/{link}/{}", state.address), vec![removal], None);
                }
            }
        }
    }

    fn routes(&mut self) {
        for state in &self.snapshot.routes {
            let Some(link) = self.link_name(state.link) else { continue };
            let route = &state.route;
            let owner = self.managed.get(&state.link).and_then(|name| {
                let interface = interface_key(name);
                let interface = self
                    .view
                    .applied(&interface)
                    .or(self.view.wanted(&interface))
                    .and_then(Value::interface)?;
                let candidates = self.dependents_of(name, "config/linux/l3/v2/route/");
                candidates.into_iter().find(|(_, value)| {
                    let destination = value.route().and_then(|wanted| Some((wanted.destination?, wanted.metric)));
                    destination.is_some_and(|(to, metric)| {
                        let network = address::network_of(to.address, to.prefix_len);
                        let same_metric = effective_metric(network, metric) == effective_metric(network, route.metric);
                        (network, to.prefix_len) == (route.destination, route.prefix_len)
                            && same_metric
                            && table_of(interface, self.view) == route.table
                    })
                })
            });
            match owner {
                Some((key, value)) => {
                    let Some(wanted) = value.route() else { continue };
                    let scope = if route.destination.is_ipv4() { route.scope } else { wanted.scope };
                    let gateway = if route.gateway.is_none() && wanted.gateway.is_some_and(|gateway| gateway.is_unspecified()) {
                        wanted.gateway
                    } else {
                        route.gateway
                    };
                    let found = super::value::Route {
                        gateway,
                        scope,
                        ..wanted.clone()
                    };
                    let differs = self.view.applied(&key).and_then(Value::route) != Some(&found);
                    if differs && !self.view.in_flight(&key) {
                        self.findings.found.push((key.clone(), Value::Route(found.into())));
                    }
                    self.seen.insert(key);
                }
                None if !self.is_ours(state.link) || self.is_rejected_route(state) => {}
                None => {
                    let what = format!(
                        "route/{}/{}/{}/{}/{link}",
                        route.table, route.destination, route.prefix_len, route.metric
                    );
                    let removal = KernelOp::DeleteRoute {
                        netns: self.netns,
                        link,
                        route: route.clone(),
                    };
                    self.orphan(&what, vec![removal], None);
                }
            }
        }
    }

    /// What is believed to be in this namespace and was not seen.
    fn absent(&mut self) {
        let interfaces: Vec<(Key, &Interface)> = self
            .view
            .dependents(&self.name.key())
            .filter_map(|key| Some((key.clone(), self.view.applied(key)?.interface()?)))
            .filter(|(key, interface)| interface.namespace == *self.name && !self.view.in_flight(key))
            .collect();
        let mut lost = Vec::new();
        for (key, interface) in interfaces {
            let gone = interface.kind != InterfaceKind::Existing && !self.seen.contains(&key);
            if gone {
                lost.push(key);
                if let InterfaceKind::Veth { peer, .. } = &interface.kind {
                    // The kernel removes both ends of a pair together, whichever namespace the other one is in.
                    lost.push(interface_key(peer));
                }
            }
            let children = self.view.applied_under(addresses_prefix(&interface.name).as_str());
            let set_by_agent = |value: &Value| {
                value
                    .address()
                    .is_some_and(|address| address.expected.is_none() && address.spec.is_some())
            };
            lost.extend(
                children
                    .filter(|(key, value)| set_by_agent(value) && !self.seen.contains(*key))
                    .map(|(key, _)| key.clone()),
            );
            if let Some(vrf) = interface.vrf.as_ref().filter(|_| interface.kind != InterfaceKind::Existing) {
                let key = membership_key(&interface.name, vrf);
                if !self.seen.contains(&key) {
                    lost.push(key);
                }
            }
            for prefix in ["config/linux/l3/v2/arp/", "config/linux/l3/v2/route/"] {
                let values = self.dependents_of(&interface.name, prefix).into_iter().map(|(key, _)| key);
                lost.extend(values.filter(|key| self.view.applied(key).is_some() && !self.seen.contains(key)));
            }
        }
        lost.retain(|key| !self.view.in_flight(key));
        self.findings.lost = lost;
    }
}

/// The facts about the agent's own namespace that values can wait for: links that are up, their addresses and VRFs, and TAPs.
pub fn host_facts(snapshot: &Snapshot, marks: &Marks) -> BTreeMap<Key, Value> {
    let mut facts = BTreeMap::new();
    let mut tell = |key: TypedKey| facts.insert(key.to_key(), Value::Present);
    for link in &snapshot.links {
        let host_name = link.name.clone();
        // One that carries the mark of an agent, this or another, has been taken over already.
        if link.kind == "tun" && !marks.is_any_agents(&link.alias) {
            tell(TypedKey::Tap {
                host_name: host_name.clone(),
            });
        }
        if !link.up {
            continue;
        }
        tell(TypedKey::HostInterface {
            host_name: host_name.clone(),
        });
        for state in snapshot.addresses.iter().filter(|state| state.link == link.index) {
            let address = format!("{}/{}", state.address.address, state.address.prefix_len);
            tell(TypedKey::HostInterfaceAddress {
                host_name: host_name.clone(),
                address,
            });
        }
        let master = link
            .master
            .and_then(|master| snapshot.links.iter().find(|other| other.index == master && other.kind == "vrf"));
        if let Some(vrf) = master {
            tell(TypedKey::HostInterfaceVrf {
                host_name,
                vrf_host_name: vrf.name.clone(),
            });
        }
    }
    facts
}

/// Whether the alias says that the link was somebody else's before.
fn is_adopted(link: &LinkState) -> bool {
    link.alias.ends_with(ADOPTED_MARK)
}

/// What opening the `lo` of a namespace tells: whether the agent created it.
pub fn is_created_by_agent(snapshot: &Snapshot, marks: &Marks) -> bool {
    snapshot
        .links
        .iter()
        .any(|link| link.name == "lo" && marks.is_created_namespace(&link.alias))
}

/// Whether a namespace contains anything with the agent's mark, so that the start-up sweep must look at it.
pub fn has_marks(snapshot: &Snapshot, marks: &Marks) -> bool {
    let linked = |link: &LinkState| marks.subject(&link.alias).is_some() || link.group == marks.provisional_group();
    snapshot.links.iter().any(linked)
}
