//! Reads back interfaces from their links: properties, addresses, and the routes of the addresses.
//!
//! The entry point is [`Inspection::believe`], which is called after [`Inspection`] has determined the owner of the link.

use std::{collections::HashSet, sync::Arc};

use models::key::{AddressSource, Key, TypedKey};

use super::{
    super::{
        address::{addresses_prefix, in_same_subnet, is_shared, kernel_detection},
        address_facts::{FACTS_MAX, may_be_fact, observed_fact},
        alias::Mark,
        detection,
        observed::ObservedInterface,
        value::{Address, Addresses, AppliedInterface, Circumstances, Detection, Interface, KnownBy, Value, interface_key},
    },
    Inspection,
};
use crate::descriptors::netns_of;
use link_kinds::{LifeCycle, Link};
use netns_kernel::{AddressSpec, AddressState, PROTOCOL, Progress, are_routes_read, routes_of_address};

impl<'s> Inspection<'_, 's> {
    /// Records applied addresses that still exist on the link, although the observed interface does not include them.
    ///
    /// This happens if the deletion of an address has failed.
    pub(super) fn see_applied_addresses(&mut self, link: &ObservedInterface<'s>, name: &str) {
        let applied = self.view.applied_under(addresses_prefix(name).as_str());
        let unseen: Vec<_> = applied.filter(|(key, _)| !self.seen.contains(*key)).collect();
        if unseen.is_empty() {
            return;
        }
        let there = unseen.into_iter().filter(|(_, value)| {
            let spec = value.address().and_then(|address| address.spec);
            spec.is_some_and(|spec| self.has_address(link.state.index, spec))
        });
        let there: Vec<Key> = there.map(|(key, _)| key.clone()).collect();
        self.seen.extend(there);
    }

    /// Returns the interface as observed on its link.
    ///
    /// The returned interface has the addresses from `basis` and `desired` that exist on the link. Properties that the kernel
    /// does not report are copied from `basis`.
    pub(super) fn believe(&self, basis: AppliedInterface, desired: &Addresses, link: &ObservedInterface<'s>) -> AppliedInterface {
        let mut found = basis;
        if !found.interface.is_existing() {
            let believed = &*found.interface;
            let shown = self.shown(believed, link);
            let is_unasked = link.state.master.is_some() && shown.vrf.is_none() && shown.port_of.is_none();
            // Copy the interface only if it has changed, because usually it has not.
            if shown != *believed {
                found.interface = shown.into();
            }
            found.circumstances.enslaved = is_unasked;
            found.circumstances.known_by = KnownBy::Index(link.state.index);
            if let Some(mark) = self.mark_on(link) {
                (found.circumstances.set, found.circumstances.adopted) = (mark.set, mark.adopted);
                found.circumstances.known_by = KnownBy::Mark;
            }
        }
        found.addresses = self.addresses_shown(&found.interface.name, &found.addresses, desired, link);
        found
    }

    /// Returns the properties of an interface as observed on its link.
    fn shown(&self, believed: &Interface, link: &ObservedInterface<'s>) -> Interface {
        let state = link.state;
        let mtu = match believed.effective_mtu() {
            Some(mtu) if mtu != state.mtu => state.mtu,
            _ => believed.mtu,
        };
        Interface {
            name: believed.name.clone(),
            link: self.link_of_value(believed, link),
            namespace: believed.namespace.clone(),
            host_name: state.name.clone(),
            enabled: state.up,
            mac: believed.mac.map(|mac| state.mac.unwrap_or(mac)),
            mtu,
            link_only: believed.link_only,
            vrf: self.vrf_of(link, believed.vrf.as_deref()),
            port_of: self.port_of(link, believed.port_of.as_ref()),
        }
    }

    /// Returns the addresses of an interface that exist on its link. The candidates are the applied (`believed`) and the desired
    /// addresses.
    fn addresses_shown(&self, interface: &str, believed: &Addresses, desired: &Addresses, link: &ObservedInterface<'s>) -> Addresses {
        let is_there = |spec: AddressSpec| self.has_address(link.state.index, spec);
        // Include an address that others must add only while the link is up, because the fact that this address exists is
        // reported only while the link is up.
        let here = |address: &&Arc<Address>| address.spec.is_some_and(is_there) && (address.expected.is_none() || link.state.up);
        let mut shown: Vec<Arc<Address>> = believed.iter().filter(here).cloned().collect();
        if !Arc::ptr_eq(believed, desired) {
            let known: HashSet<AddressSpec> = shown.iter().filter_map(|address| address.spec).collect();
            let is_new = |address: &&Arc<Address>| address.spec.is_none_or(|spec| !known.contains(&spec));
            shown.extend(desired.iter().filter(here).filter(is_new).cloned());
        }
        for address in shown.iter_mut().filter(|address| address.leads) {
            if self.is_misplaced(link.state.index, address, desired) {
                Arc::make_mut(address).leads = false;
            }
        }
        let unrouted = self.unrouted_addresses(link, interface);
        let is_unrouted = |address: &&mut Arc<Address>| address.spec.is_some_and(|spec| unrouted.contains(&spec));
        shown
            .iter_mut()
            .filter(is_unrouted)
            .for_each(|address| Arc::make_mut(address).routed = false);
        shown.into()
    }

    /// Returns the applied state of an interface whose desired value is now invalid.
    ///
    /// The link was created for an earlier, valid value and is kept. The earlier value is unknown, so all properties are read from
    /// the kernel.
    pub(super) fn as_it_is(&self, name: &str, link: &ObservedInterface<'s>) -> AppliedInterface {
        let mark = link.mark;
        let vrf = self.vrf_of(link, None);
        let address = |state: &AddressState| {
            let text = format!("{}/{}", state.address.address, state.address.prefix_len);
            Address {
                interface: name.to_owned(),
                key: TypedKey::interface_address(name, &text, AddressSource::Static).to_key(),
                spec: Some(state.address),
                text,
                vrf: vrf.clone(),
                expected: None,
                detection: Detection::Wait,
                awaited: false,
                position: 0,
                leads: false,
                routed: true,
            }
        };
        let interface = Interface {
            name: name.to_owned(),
            link: link.link(),
            namespace: self.name.clone(),
            host_name: link.state.name.clone(),
            enabled: link.state.up,
            mac: None,
            mtu: link.state.mtu,
            link_only: false,
            vrf: vrf.clone(),
            port_of: None,
        };
        AppliedInterface {
            interface: interface.into(),
            addresses: self.marked_addresses(link).map(address).map(Arc::new).collect(),
            circumstances: Circumstances {
                known_by: KnownBy::Mark,
                set: mark.map_or(0, |mark| mark.set),
                adopted: mark.is_some_and(|mark| mark.adopted),
                enslaved: false,
            },
            desired: None,
        }
    }

    /// Records the progress of duplicate address detection for an address.
    pub(super) fn detection(&mut self, link: &ObservedInterface<'s>, address: &Address) {
        let state = address.spec.and_then(|spec| self.observed.address(link.state.index, spec));
        let (Some((key, value)), Some(state)) = (detection::of(address), state) else {
            return;
        };
        match state.progress(kernel_detection(address)) {
            Progress::Over => self.note(key, value),
            progress => {
                self.findings.tentative |= progress == Progress::Tentative;
                // Retry a value that is still waiting for a failed detection, so that the failure is published.
                match self.view.applied(&key) {
                    Some(_) if self.view.in_flight(&key) => {}
                    Some(_) => self.findings.lost.push(key),
                    None if progress == Progress::Failed && self.view.is_unavailable(&key) => self.findings.probes.push(key),
                    None => {}
                }
            }
        }
    }

    /// Returns whether `address` is secondary in the kernel and all addresses of its subnet belong to the interface.
    ///
    /// Returns false if the subnet contains a foreign address, because making `address` the primary one could delete the foreign
    /// address.
    fn is_misplaced(&self, link: u32, address: &Address, desired: &[Arc<Address>]) -> bool {
        let Some(spec) = address.spec else { return false };
        let subnet = self
            .observed
            .addresses(link)
            .iter()
            .filter(|state| in_same_subnet(state.address, spec));
        let is_secondary = |state: &AddressState| state.address == spec && state.is_secondary();
        let is_of_interface =
            |state: &AddressState| state.protocol == PROTOCOL && desired.iter().any(|address| address.spec == Some(state.address));
        let (mut secondary, mut of_interface) = (false, true);
        for state in subnet {
            secondary |= is_secondary(state);
            of_interface &= is_of_interface(state);
        }
        secondary && of_interface
    }

    /// Returns the desired addresses that exist on the link but lack the routes that the kernel creates for each address.
    ///
    /// Addresses that others added to a shared link are not checked.
    fn unrouted_addresses(&self, link: &ObservedInterface<'s>, name: &str) -> HashSet<AddressSpec> {
        let desired = self.view.desired(&interface_key(name));
        let Some(interface) = desired.and_then(Value::interface) else {
            return HashSet::new();
        };
        let addresses = desired.map_or(&[][..], Value::addresses);
        let table = self.observed.table_of(link);
        let is_own = |state: &AddressState| are_routes_read(state) && (state.protocol == PROTOCOL || !is_shared(interface));
        // Skip an address while the link is not in the VRF of the address, because its routes are then in another table.
        let is_in_place = |address: &&Arc<Address>| address.vrf.is_none() || self.vrf_of(link, address.vrf.as_deref()) == address.vrf;
        let is_unrouted = |address: &&Arc<Address>| {
            let state = address.spec.and_then(|spec| self.observed.address(link.state.index, spec));
            let state = state.filter(|state| address.expected.is_none() && is_own(state));
            let routes = state.map(|state| routes_of_address(link.state, state, table));
            routes.is_some_and(|routes| !routes.iter().all(|route| self.observed.has_address_route(route)))
        };
        let mut unrouted: HashSet<AddressSpec> = addresses
            .iter()
            .filter(is_in_place)
            .filter(is_unrouted)
            .filter_map(|address| address.spec)
            .collect();
        // A secondary address has no subnet route of its own. Gateways in its subnet are reached through the route of the primary
        // address.
        let rests_on_unrouted = |spec: &AddressSpec| {
            let state = self.observed.address(link.state.index, *spec);
            let is_secondary = state.is_some_and(|state| state.is_secondary() && is_own(state));
            is_secondary && unrouted.iter().any(|primary| in_same_subnet(*primary, *spec))
        };
        let secondaries: Vec<AddressSpec> = addresses
            .iter()
            .filter_map(|address| address.spec)
            .filter(rests_on_unrouted)
            .collect();
        unrouted.extend(secondaries);
        unrouted
    }

    /// Reports facts about the addresses on a link that do not belong to the interface `found`.
    pub(super) fn observe_addresses(&mut self, link: &ObservedInterface<'s>, found: &AppliedInterface) {
        let name = &found.interface.name;
        let is_shared = found.interface.is_existing() || self.residents(link.state.index).len() > 1;
        let states = self.observed.addresses(link.state.index).iter().copied();
        let mut of_others: Vec<&AddressState> = states.filter(|state| may_be_fact(state, is_shared)).collect();
        if !link.state.up || of_others.is_empty() {
            return;
        }
        let desired = self.view.desired(&interface_key(name)).into_iter().flat_map(Value::addresses);
        let mut own: HashSet<AddressSpec> = found.addresses.iter().chain(desired).filter_map(|address| address.spec).collect();
        // Applied addresses are not reported either, because an address that is about to be deleted still belongs to the interface.
        let applied = self.view.applied_under(addresses_prefix(name).as_str());
        own.extend(applied.filter_map(|(_, value)| value.address()?.spec));
        of_others.retain(|state| !own.contains(&state.address));
        let facts = of_others.into_iter().filter_map(|state| observed_fact(name, state, is_shared));
        self.findings.observed.extend(facts.take(FACTS_MAX));
    }

    pub(super) fn has_address(&self, link: u32, spec: AddressSpec) -> bool {
        self.observed.address(link, spec).is_some()
    }

    /// Returns the ownership mark on the link of a value. Returns `None` if the mark was removed and the agent recognises the link
    /// only by its index.
    fn mark_on(&self, link: &ObservedInterface<'s>) -> Option<Mark<'s>> {
        link.mark.filter(|_| !self.unmarked.contains(&link.state.index))
    }

    /// Returns the kind and settings of a link as observed in the kernel.
    ///
    /// The names of a peer or parent are taken from the ownership mark of the link, if it has one.
    fn link_of_value(&self, basis: &Interface, link: &ObservedInterface<'s>) -> Link {
        let Some(kind) = link.kind.filter(|kind| kind.spec().life_cycle == LifeCycle::Created) else {
            return basis.link.clone();
        };
        let mut shown = match basis.link.is_of(kind) {
            true => basis.link.clone(),
            false => Link::bare(kind),
        };
        if let Some(mark) = self.mark_on(link) {
            shown = shown.with_mark_words(mark.words_after(&basis.name));
        }
        link.correct(&mut shown.settings);
        shown
    }

    /// Returns the logical name of the VRF device that a link is in.
    ///
    /// If several interfaces share the device, `expected` is preferred. A device that an earlier run left behind is ignored, even
    /// if it has the mark of an interface that is desired in another namespace.
    pub(super) fn vrf_of(&self, link: &ObservedInterface<'s>, expected: Option<&str>) -> Option<String> {
        self.name_among(self.residents(self.vrf_device_of(link)?.state.index), expected)
    }

    /// Returns `expected` if this interface is on the link, and the first interface on the link otherwise. Considers only
    /// interfaces that may be in this namespace.
    pub(super) fn name_among(&self, residents: &[String], expected: Option<&str>) -> Option<String> {
        let names: Vec<&String> = residents.iter().filter(|name| self.may_be_here(name)).collect();
        let named = names.iter().find(|name| Some(name.as_str()) == expected);
        named.or(names.first()).map(|name| (*name).clone())
    }

    /// Returns whether an interface is in this namespace, or may be in it because its namespace is not known yet.
    fn may_be_here(&self, name: &str) -> bool {
        let known = self.view.known(&interface_key(name));
        let Some(interface) = known.applied.or(known.desired).and_then(Value::interface) else {
            return true;
        };
        match netns_of(self.view, &interface.namespace) {
            Some(netns) => netns == self.netns,
            None => known.applied.is_some() || self.view.is_undecided(&interface.namespace.key()),
        }
    }

    /// Returns the VRF device that a link is in, if the device is managed.
    pub(super) fn vrf_device_of(&self, link: &ObservedInterface<'s>) -> Option<ObservedInterface<'s>> {
        let device = self.observed.master_of(link).filter(|device| device.state.vrf_table().is_some());
        device.filter(|device| self.managed.contains_key(&device.state.index))
    }
}
