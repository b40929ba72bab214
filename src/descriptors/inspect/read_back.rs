//! Interfaces as their links show them.
//!
//! Owns the way from a link back to a value. Must never decide whose a link is: that is known before. Start reading at
//! [`Inspection::interface`].

use std::collections::HashSet;

use models::key::{AddressSource, Key, TypedKey};

use super::{
    super::{
        address::{addresses_prefix, in_same_subnet, is_shared, kernel_detection},
        address_facts::{FACTS_MAX, may_be_fact, observed_fact},
        alias::Mark,
        detection,
        observed::ObservedInterface,
        value::{Address, Detection, Interface, Original, Value, interface_key},
    },
    Inspection,
};
use crate::descriptors::netns_of;
use link_kinds::{LifeCycle, Link};
use netns_kernel::{AddressSpec, AddressState, PROTOCOL, Progress, are_routes_read, routes_of_address};

impl<'s> Inspection<'_, 's> {
    /// An address that its interface no longer has, because its removal failed, is there all the same.
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

    /// The interface as the link shows it. What the kernel cannot tell is as in `basis`.
    pub(super) fn interface(&self, basis: &Interface, wanted: &Interface, link: &ObservedInterface<'s>) -> Interface {
        let mut found = basis.without_addresses();
        if !basis.is_existing() {
            let state = link.state;
            found.host_name = state.name.clone();
            found.enabled = state.up;
            if found.effective_mtu().is_some_and(|mtu| mtu != state.mtu) {
                found.mtu = state.mtu;
            }
            if found.mac.is_some() && state.mac.is_some() {
                found.mac = state.mac;
            }
            found.link = self.link_of_value(basis, link);
            found.vrf = self.vrf_of(link, basis.vrf.as_deref());
            found.port_of = self.port_of(link, basis.port_of.as_ref());
            found.enslaved = state.master.is_some() && found.vrf.is_none() && found.port_of.is_none();
            let mark = self.mark_on(link);
            (found.marked, found.known_index) = (mark.is_some(), mark.is_none().then_some(state.index));
            (found.set, found.adopted) = mark.map_or((basis.set, basis.adopted), |mark| (mark.set, mark.adopted));
        }
        let is_there = |spec: AddressSpec| self.has_address(link.state.index, spec);
        // An address that the agent only expects counts under the condition of its fact: the link is up.
        let here = |address: &&Address| address.spec.is_some_and(is_there) && (address.expected.is_none() || link.state.up);
        let mut addresses: Vec<Address> = basis.addresses.iter().filter(here).cloned().collect();
        let known: HashSet<AddressSpec> = addresses.iter().filter_map(|address| address.spec).collect();
        let is_new = |address: &&Address| address.spec.is_none_or(|spec| !known.contains(&spec));
        addresses.extend(wanted.addresses.iter().filter(here).filter(is_new).cloned());
        for address in addresses.iter_mut().filter(|address| address.leads) {
            address.leads = !self.is_misplaced(link.state.index, address, wanted);
        }
        let unrouted = self.unrouted_addresses(link, &wanted.name);
        let is_unrouted = |address: &&mut Address| address.spec.is_some_and(|spec| unrouted.contains(&spec));
        addresses.iter_mut().filter(is_unrouted).for_each(|address| address.routed = false);
        found.addresses = addresses;
        found
    }

    /// The interface that an earlier value brought about, now that what is asked for cannot be used: what the kernel shows is all that
    /// is known of it, and it stays.
    pub(super) fn as_it_is(&self, name: &str, link: &ObservedInterface<'s>) -> Interface {
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
        Interface {
            name: name.to_owned(),
            link: link.link(),
            namespace: self.name.clone(),
            host_name: link.state.name.clone(),
            enabled: link.state.up,
            addresses: self.marked_addresses(link).map(address).collect(),
            mac: None,
            mtu: link.state.mtu,
            link_only: false,
            vrf: vrf.clone(),
            port_of: None,
            set: mark.map_or(0, |mark| mark.set),
            marked: true,
            known_index: None,
            enslaved: false,
            adopt: false,
            drift_policy: None,
            adopted: mark.is_some_and(|mark| mark.adopted),
            original: Original::default(),
        }
    }

    /// How far the kernel has come with looking for somebody else with an address.
    pub(super) fn detection(&mut self, link: &ObservedInterface<'s>, address: &Address) {
        let state = address.spec.and_then(|spec| self.observed.address(link.state.index, spec));
        let (Some((key, value)), Some(state)) = (detection::of(address), state) else {
            return;
        };
        match state.progress(kernel_detection(address)) {
            Progress::Over => self.note(key, value),
            progress => {
                self.findings.tentative |= progress == Progress::Tentative;
                // Of one that is not applied a failed detection is news, too: it is asked once more, and says so.
                match self.view.applied(&key) {
                    Some(_) if self.view.in_flight(&key) => {}
                    Some(_) => self.findings.lost.push(key),
                    None if progress == Progress::Failed && self.view.is_unavailable(&key) => self.findings.probes.push(key),
                    None => {}
                }
            }
        }
    }

    /// Whether the kernel has another address of the interface as the primary one of a subnet. Where somebody else has an address in
    /// that subnet, the order is left as it is: changing it could remove that address.
    fn is_misplaced(&self, link: u32, address: &Address, wanted: &Interface) -> bool {
        let Some(spec) = address.spec else { return false };
        let subnet = self
            .observed
            .addresses(link)
            .iter()
            .filter(|state| in_same_subnet(state.address, spec));
        let is_secondary = |state: &AddressState| state.address == spec && state.is_secondary();
        let is_of_interface = |state: &AddressState| {
            let mut asked_for = wanted.addresses.iter();
            state.protocol == PROTOCOL && asked_for.any(|address| address.spec == Some(state.address))
        };
        let (mut secondary, mut of_interface) = (false, true);
        for state in subnet {
            secondary |= is_secondary(state);
            of_interface &= is_of_interface(state);
        }
        secondary && of_interface
    }

    /// The desired addresses of an interface that are on its link without the routes that the kernel had made for them. The agent does
    /// not judge addresses that somebody else made: an interface may be shared.
    fn unrouted_addresses(&self, link: &ObservedInterface<'s>, name: &str) -> HashSet<AddressSpec> {
        let wanted = self.view.wanted(&interface_key(name)).and_then(Value::interface);
        let Some(wanted) = wanted else { return HashSet::new() };
        let table = self.observed.table_of(link);
        let is_own = |state: &AddressState| are_routes_read(state) && (state.protocol == PROTOCOL || !is_shared(wanted));
        // Outside of its VRF it has them in another table.
        let is_in_place = |address: &&Address| address.vrf.is_none() || self.vrf_of(link, address.vrf.as_deref()) == address.vrf;
        let is_unrouted = |address: &&Address| {
            let state = address.spec.and_then(|spec| self.observed.address(link.state.index, spec));
            let state = state.filter(|state| address.expected.is_none() && is_own(state));
            let routes = state.map(|state| routes_of_address(link.state, state, table));
            routes.is_some_and(|routes| !routes.iter().all(|route| self.observed.has_address_route(route)))
        };
        let mut unrouted: HashSet<AddressSpec> = wanted
            .addresses
            .iter()
            .filter(is_in_place)
            .filter(is_unrouted)
            .filter_map(|address| address.spec)
            .collect();
        // A secondary address has no connected route of its own: gateways are reached by that of the primary one.
        let rests_on_unrouted = |spec: &AddressSpec| {
            let state = self.observed.address(link.state.index, *spec);
            let is_secondary = state.is_some_and(|state| state.is_secondary() && is_own(state));
            is_secondary && unrouted.iter().any(|primary| in_same_subnet(*primary, *spec))
        };
        let secondaries: Vec<AddressSpec> = wanted
            .addresses
            .iter()
            .filter_map(|address| address.spec)
            .filter(rests_on_unrouted)
            .collect();
        unrouted.extend(secondaries);
        unrouted
    }

    /// Reports the addresses on a link that are none of its interface's values.
    pub(super) fn observe_addresses(&mut self, link: &ObservedInterface<'s>, found: &Interface) {
        let is_shared = found.is_existing() || self.residents(link.state.index).len() > 1;
        let states = self.observed.addresses(link.state.index).iter().copied();
        let mut of_others: Vec<&AddressState> = states.filter(|state| may_be_fact(state, is_shared)).collect();
        if !link.state.up || of_others.is_empty() {
            return;
        }
        let wanted = self.view.wanted(&interface_key(&found.name)).and_then(Value::interface);
        let wanted = wanted.into_iter().flat_map(|wanted| &wanted.addresses);
        let mut own: HashSet<AddressSpec> = found.addresses.iter().chain(wanted).filter_map(|address| address.spec).collect();
        // Those that it is about to lose are its own, too.
        let applied = self.view.applied_under(addresses_prefix(&found.name).as_str());
        own.extend(applied.filter_map(|(_, value)| value.address()?.spec));
        of_others.retain(|state| !own.contains(&state.address));
        let facts = of_others
            .into_iter()
            .filter_map(|state| observed_fact(&found.name, state, is_shared));
        self.findings.observed.extend(facts.take(FACTS_MAX));
    }

    pub(super) fn has_address(&self, link: u32, spec: AddressSpec) -> bool {
        self.observed.address(link, spec).is_some()
    }

    /// The mark on the link of a value; `None` if somebody took it away, and the link is known by its index.
    fn mark_on(&self, link: &ObservedInterface<'s>) -> Option<Mark<'s>> {
        link.mark.filter(|_| !self.unmarked.contains(&link.state.index))
    }

    /// Kind and settings of a link as the kernel shows them. The names that it refers to stand in the mark, if it has one.
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

    /// The interface that is the VRF device which a link is in: `expected` if it is one of several on that device. A device that was
    /// left by an earlier run is none, although it has the mark of an interface that is desired in another namespace.
    pub(super) fn vrf_of(&self, link: &ObservedInterface<'s>, expected: Option<&str>) -> Option<String> {
        self.name_among(self.residents(self.vrf_device_of(link)?.state.index), expected)
    }

    /// The expected one of several interfaces on one link, else the first that is in this namespace.
    pub(super) fn name_among(&self, residents: &[String], expected: Option<&str>) -> Option<String> {
        let names: Vec<&String> = residents.iter().filter(|name| self.may_be_here(name)).collect();
        let named = names.iter().find(|name| Some(name.as_str()) == expected);
        named.or(names.first()).map(|name| (*name).clone())
    }

    /// Returns whether an interface is in this namespace as far as is known.
    fn may_be_here(&self, name: &str) -> bool {
        let known = self.view.known(&interface_key(name));
        let Some(interface) = known.applied.or(known.wanted).and_then(Value::interface) else {
            return true;
        };
        match netns_of(self.view, &interface.namespace) {
            Some(netns) => netns == self.netns,
            None => known.applied.is_some() || self.view.is_undecided(&interface.namespace.key()),
        }
    }

    /// The managed VRF device that a link is in.
    pub(super) fn vrf_device_of(&self, link: &ObservedInterface<'s>) -> Option<ObservedInterface<'s>> {
        let device = self.observed.master_of(link).filter(|device| device.state.vrf_table().is_some());
        device.filter(|device| self.managed.contains_key(&device.state.index))
    }
}
