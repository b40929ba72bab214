//! Sets of desired values, and a comparison of the kernel's state with the state that these values require.
//!
//! The values and the model of their effects come from the crate `testbed`, which is independent of the crates under test.

use std::collections::{BTreeMap, BTreeSet};

use testbed::expected::{Expected, Nic, Surroundings, Verdict};
pub use testbed::values::{Arp, Interface, Kind, Port, Reference, Route, Value, interface_key};

use super::netns_state::NetnsState;

/// A set of desired values.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Config {
    /// Interfaces.
    pub interfaces: Vec<Interface>,
    /// Routes.
    pub routes: Vec<Route>,
    /// ARP entries.
    pub arps: Vec<Arp>,
}

impl Config {
    /// Returns a veth pair that connects two namespaces, and also a route and an ARP entry.
    ///
    /// Sets all MAC addresses, so that the kernel assigns no random ones.
    pub fn between_two_namespaces() -> Self {
        Config {
            interfaces: vec![
                Interface::veth("left", "right", Reference::named("red"))
                    .host_name("eth0")
                    .address("10.11.0.1/24")
                    .mac("02:00:00:00:11:01"),
                Interface::veth("right", "left", Reference::named("blue"))
                    .host_name("eth0")
                    .address("10.11.0.2/24")
                    .mac("02:00:00:00:11:02"),
            ],
            routes: vec![Route::new("left", "10.12.0.0/16", "10.11.0.2")],
            arps: vec![Arp::new("left", "10.11.0.9", "02:00:00:00:11:09")],
        }
    }

    /// Returns all interfaces, routes and ARP entries.
    pub fn values(&self) -> Vec<Value> {
        let interfaces = self.interfaces.iter().cloned().map(Value::Interface);
        let routes = self.routes.iter().cloned().map(Value::Route);
        let arps = self.arps.iter().cloned().map(Value::Arp);
        interfaces.chain(routes).chain(arps).collect()
    }

    /// Returns the values by their keys (after `config/`).
    pub fn entries(&self) -> BTreeMap<String, String> {
        self.values().iter().map(|value| (value.key(), value.json().to_string())).collect()
    }

    /// Returns all namespaces to which interfaces refer.
    pub fn namespaces(&self) -> BTreeSet<Reference> {
        self.interfaces.iter().map(|interface| interface.netns.clone()).collect()
    }

    /// Returns the expected state of each referenced namespace once everything is CONFIGURED. Assumes that the only foreign
    /// objects are the links to which EXISTING and TAP_TO_VPP interfaces refer.
    pub fn expected(&self, label: &str) -> BTreeMap<Reference, NetnsState> {
        let values = self.values();
        let places = self.namespaces().into_iter().map(|reference| (reference.clone(), reference));
        let mut surroundings = Surroundings::quiet(places.collect());
        let used = self.interfaces.iter().filter(|interface| !interface.has_own_link());
        surroundings.nics = used.map(|interface| (interface.host().to_owned(), Nic::default())).collect();
        let mut states: BTreeMap<Reference, NetnsState> = surroundings
            .places
            .keys()
            .map(|reference| (reference.clone(), NetnsState::default()))
            .collect();
        let expected = Expected::of(&values, &surroundings);
        for (key, verdict) in expected.verdicts() {
            assert_eq!(verdict, Verdict::Configured, "{key} must be CONFIGURED with these values alone");
        }
        let spaces = expected.spaces();
        states.extend(
            spaces
                .iter()
                .map(|(reference, space)| (reference.clone(), NetnsState::of(space, label))),
        );
        states
    }

    /// Returns the interface with this logical name.
    pub fn interface(&self, name: &str) -> &Interface {
        self.interfaces
            .iter()
            .find(|interface| interface.name == name)
            .unwrap_or_else(|| panic!("the test refers to no interface {name}"))
    }

    /// Compares the kernel with the expected state. The error is a report of the differences.
    pub fn check(&self, label: &str) -> Result<(), String> {
        let mut report = String::new();
        for (reference, expected) in self.expected(label) {
            match NetnsState::read(&reference.path()) {
                Ok(found) => report.push_str(&expected.difference(&found, &format!("{reference:?}"))),
                Err(error) => report.push_str(&format!("{reference:?}: {error}\n")),
            }
        }
        if report.is_empty() { Ok(()) } else { Err(report) }
    }
}
