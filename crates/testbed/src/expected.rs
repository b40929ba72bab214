//! Test oracle: computes the expected links, addresses, neighbours and routes for a configuration, and the expected state of each value.
//!
//! The oracle derives the result only from the specification, in one pass, without considering earlier configurations. The simulator, the
//! endurance run and the tests on a real kernel use this oracle. It never calls the agent's code and never reads its tables, so it cannot
//! repeat the agent's errors.

mod objects;
mod rules;
mod subnet;

use std::collections::{BTreeMap, BTreeSet};

use crate::values::{Interface, Reference, Value};

pub use self::{
    objects::{Identity, Link, RouteEntry, Space, identity},
    subnet::{network, parse},
};

/// Expected state of a value, as far as the specification determines it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// The state must be CONFIGURED.
    Configured,
    /// The state must be PENDING.
    Pending,
    /// The state must be INVALID.
    Invalid,
    /// The state must be RETRYING or FAILED, because the kernel does not support the link kind.
    Refused,
    /// The state must not be CONFIGURED, because a foreign object is in the way.
    Blocked,
    /// The state must be CONFIGURED or PENDING, because an earlier version of the value's interface may still be applied.
    Either,
}

impl Verdict {
    /// Returns true if this verdict allows the agent to report `state`.
    pub fn admits(self, state: &str) -> bool {
        match self {
            Verdict::Configured => state == "CONFIGURED",
            Verdict::Pending => state == "PENDING",
            Verdict::Invalid => state == "INVALID",
            Verdict::Refused => ["RETRYING", "FAILED"].contains(&state),
            Verdict::Blocked => state != "CONFIGURED",
            Verdict::Either => ["CONFIGURED", "PENDING"].contains(&state),
        }
    }
}

/// Foreign link in the agent's own namespace. It is up, and EXISTING interfaces can use it.
#[derive(Clone, Default, Debug)]
pub struct Nic {
    /// Addresses on the link that other programs added.
    pub foreign: Vec<String>,
    /// Addresses on the link that the agent added.
    pub marked: Vec<String>,
    /// Addresses for which duplicate address detection is in progress. It never completes on a TAP without a carrier.
    pub tentative: Vec<String>,
    /// Routing table, if the link is a VRF device.
    pub table: Option<u32>,
}

/// State of the machine that the configuration does not determine. `N` identifies a namespace.
#[derive(Debug)]
pub struct Surroundings<N> {
    /// Namespace to which each reference resolves. The namespaces of all other references do not exist.
    pub places: BTreeMap<Reference, N>,
    /// Logical names of interfaces that cannot be created, because a foreign link has their kernel name.
    pub blocked: BTreeSet<String>,
    /// Foreign links by kernel name.
    pub nics: BTreeMap<String, Nic>,
    /// State that the agent has published for each key. Used only if the expected result depends on the order of earlier changes.
    pub reported: BTreeMap<String, &'static str>,
    /// Link kinds (kernel names) that the kernel does not support.
    pub lacks: BTreeSet<&'static str>,
}

impl<N> Surroundings<N> {
    /// Creates surroundings that have these namespaces and no foreign objects.
    pub fn quiet(places: BTreeMap<Reference, N>) -> Self {
        Self {
            places,
            blocked: BTreeSet::new(),
            nics: BTreeMap::new(),
            reported: BTreeMap::new(),
            lacks: BTreeSet::new(),
        }
    }
}

/// Expected objects and states for a configuration.
pub struct Expected<'a, N> {
    values: &'a [Value],
    interfaces: BTreeMap<&'a str, &'a Interface>,
    surroundings: &'a Surroundings<N>,
    /// EXISTING interfaces that the agent has reported as INVALID because of a conflict with another interface on the same link.
    /// An earlier version of a rejected interface may still be applied.
    refused: BTreeSet<&'a str>,
    /// VLANs that the agent has reported as INVALID because another VLAN on the same parent has the same id. An invalid VLAN has
    /// no link.
    taken: BTreeSet<&'a str>,
}

impl<'a, N: Clone + Ord> Expected<'a, N> {
    /// Prepares the expected result of the desired `values` on a machine with these `surroundings`.
    pub fn of(values: &'a [Value], surroundings: &'a Surroundings<N>) -> Self {
        let interfaces = values.iter().filter_map(|value| match value {
            Value::Interface(interface) => Some((interface.name.as_str(), interface)),
            _ => None,
        });
        let mut expected = Expected {
            values,
            interfaces: interfaces.collect(),
            surroundings,
            refused: BTreeSet::new(),
            taken: BTreeSet::new(),
        };
        let is_invalid = |interface: &&Interface| surroundings.reported.get(&interface.key()) == Some(&"INVALID");
        let losers = expected.conflicts().into_iter().map(|(one, _)| one).filter(is_invalid);
        let (refused, taken): (Vec<&Interface>, Vec<&Interface>) = losers.partition(|interface| interface.is_existing());
        expected.refused = refused.into_iter().map(|interface| interface.name.as_str()).collect();
        expected.taken = taken.into_iter().map(|interface| interface.name.as_str()).collect();
        expected
    }

    /// Returns the expected state of each value, by key.
    pub fn verdicts(&self) -> BTreeMap<String, Verdict> {
        self.values.iter().map(|value| (value.key(), self.verdict(value))).collect()
    }

    /// Returns the expected objects of the agent in each namespace. Omits namespaces without expected objects.
    pub fn spaces(&self) -> BTreeMap<N, Space> {
        let mut spaces = BTreeMap::<N, Space>::new();
        for value in self.values {
            let interface = match value {
                Value::Interface(interface) => self.alive(&interface.name),
                Value::Arp(arp) => self.usable_arp(arp),
                Value::Route(route) => self.usable_route(route),
                Value::Unusable(_) => None,
            };
            let place = interface.and_then(|interface| Some((interface, self.netns(interface)?)));
            let Some((interface, netns)) = place else { continue };
            let space = spaces.entry(netns.clone()).or_default();
            match value {
                Value::Interface(_) => self.expect_interface(interface, space),
                Value::Arp(arp) => {
                    let neighbour = (interface.host().to_owned(), parse(&arp.address).0, arp.mac.clone());
                    space.neighbours.insert(neighbour);
                }
                Value::Route(route) => {
                    space.routes.insert(self.route(route, interface));
                }
                Value::Unusable(_) => {}
            }
        }
        spaces.retain(|_, space| *space != Space::default());
        spaces
    }

    /// Returns the kernel names of links on which EXISTING interfaces conflict.
    ///
    /// The order of changes determines which of the interfaces is applied. The choice can change when the agent is restarted.
    pub fn contested(&self) -> BTreeSet<String> {
        let losers = self.conflicts().into_iter().map(|(one, _)| one);
        let existing = losers.filter(|interface| interface.is_existing());
        existing.map(|interface| interface.host().to_owned()).collect()
    }

    /// Checks that exactly one of the interfaces in each conflict is applied.
    ///
    /// # Errors
    /// Fails if the published states show that both interfaces in a conflict are applied, or that neither interface is applied.
    pub fn check_conflicts(&self) -> Result<(), String> {
        let conflicts = self.conflicts();
        let loses = |name: &str| self.refused.contains(name) || self.taken.contains(name);
        let applies = |interface: &Interface| !loses(&interface.name);
        if let Some((one, other)) = conflicts.iter().find(|(one, other)| applies(one) && applies(other)) {
            return Err(format!("{} and {} conflict, but both are applied", one.name, other.name));
        }
        let has_reason = |name: &&&str| conflicts.iter().any(|(one, other)| one.name == ***name && applies(other));
        match self.refused.iter().chain(&self.taken).find(|name| !has_reason(name)) {
            Some(name) => Err(format!("{name} is INVALID, but does not conflict with any applied interface")),
            None => Ok(()),
        }
    }

    /// Returns true if an earlier version of an EXISTING interface may still be applied to the link `host`.
    pub fn has_refused(&self, host: &str) -> bool {
        self.existing_on(host)
            .any(|interface| self.refused.contains(interface.name.as_str()))
    }
}

#[cfg(test)]
mod tests;
