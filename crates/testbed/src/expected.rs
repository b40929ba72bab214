//! What a configuration must lead to, computed naively: from the contract alone, in one pass, without any history.
//!
//! Owns the one oracle of the simulator, the endurance run and the tests on a real kernel: which links, addresses, neighbours and routes
//! must be where, and which state must be told of each value. Must never call the agent's code or read its tables, so that an error
//! there is not repeated here. Start reading at [`Expected::of`].

mod objects;
mod rules;
mod subnet;

use std::collections::{BTreeMap, BTreeSet};

use crate::values::{Interface, Reference, Value};

pub use self::{
    objects::{Identity, Link, RouteEntry, Space, identity},
    subnet::{network, parse},
};

/// State of a value, as far as the contract says it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// CONFIGURED.
    Configured,
    /// PENDING.
    Pending,
    /// INVALID.
    Invalid,
    /// RETRYING or FAILED: the kernel has no such kind of link.
    Refused,
    /// Anything but CONFIGURED: something foreign is in the way.
    Blocked,
    /// CONFIGURED or PENDING: it is on an interface of which an earlier version may still apply.
    Either,
}

impl Verdict {
    /// Whether it is right to publish the state of this name.
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

/// A foreign link of the agent's own namespace that EXISTING values use, and that is up.
#[derive(Clone, Default, Debug)]
pub struct Nic {
    /// Addresses that others added.
    pub foreign: Vec<String>,
    /// Addresses that the agent added.
    pub marked: Vec<String>,
    /// Those of them for which duplicate address detection is not over: on a TAP without a carrier it never is.
    pub tentative: Vec<String>,
    /// Its routing table, if it is a VRF device.
    pub table: Option<u32>,
}

/// What the world is like where the configuration does not decide. `N` tells namespaces apart.
#[derive(Debug)]
pub struct Surroundings<N> {
    /// The namespace that each reference leads to; one that is missing leads nowhere.
    pub places: BTreeMap<Reference, N>,
    /// Names of interfaces whose host names are taken by others.
    pub blocked: BTreeSet<String>,
    /// The foreign links by name.
    pub nics: BTreeMap<String, Nic>,
    /// What the agent says of each value. It counts only where the history decides which of several values applies.
    pub told: BTreeMap<String, &'static str>,
    /// Kinds of links that the kernel does not have, as the kernel names them.
    pub lacks: BTreeSet<&'static str>,
}

impl<N> Surroundings<N> {
    /// A world in which nothing is in the way, and with these namespaces.
    pub fn quiet(places: BTreeMap<Reference, N>) -> Self {
        Self {
            places,
            blocked: BTreeSet::new(),
            nics: BTreeMap::new(),
            told: BTreeMap::new(),
            lacks: BTreeSet::new(),
        }
    }
}

/// What is expected of a configuration.
pub struct Expected<'a, N> {
    values: &'a [Value],
    interfaces: BTreeMap<&'a str, &'a Interface>,
    surroundings: &'a Surroundings<N>,
    /// EXISTING interfaces that contradict another one on their link and are said to be INVALID. An earlier version may apply.
    refused: BTreeSet<&'a str>,
    /// VLANs whose id another one has on their parent, and that are said to be INVALID. They have no link.
    taken: BTreeSet<&'a str>,
}

impl<'a, N: Clone + Ord> Expected<'a, N> {
    /// What is expected of these values in these surroundings.
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
        let is_invalid = |interface: &&Interface| surroundings.told.get(&interface.key()) == Some(&"INVALID");
        let losers = expected.conflicts().into_iter().map(|(one, _)| one).filter(is_invalid);
        let (refused, taken): (Vec<&Interface>, Vec<&Interface>) = losers.partition(|interface| interface.is_existing());
        expected.refused = refused.into_iter().map(|interface| interface.name.as_str()).collect();
        expected.taken = taken.into_iter().map(|interface| interface.name.as_str()).collect();
        expected
    }

    /// What must be told of each value, by key.
    pub fn verdicts(&self) -> BTreeMap<String, Verdict> {
        self.values.iter().map(|value| (value.key(), self.verdict(value))).collect()
    }

    /// What of the agent's must be in each namespace. One that holds nothing of the agent's is missing.
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

    /// Links on which the history has decided which interface applies: an agent that is started again may decide otherwise.
    pub fn contested(&self) -> BTreeSet<String> {
        let losers = self.conflicts().into_iter().map(|(one, _)| one);
        let existing = losers.filter(|interface| interface.is_existing());
        existing.map(|interface| interface.host().to_owned()).collect()
    }

    /// Of the interfaces that cannot all apply as many do as can at once.
    ///
    /// # Errors
    /// What is told of them says otherwise.
    pub fn check_conflicts(&self) -> Result<(), String> {
        let conflicts = self.conflicts();
        let loses = |name: &str| self.refused.contains(name) || self.taken.contains(name);
        let applies = |interface: &Interface| !loses(&interface.name);
        if let Some((one, other)) = conflicts.iter().find(|(one, other)| applies(one) && applies(other)) {
            return Err(format!("{} and {} contradict each other, and both apply", one.name, other.name));
        }
        let has_reason = |name: &&&str| conflicts.iter().any(|(one, other)| one.name == ***name && applies(other));
        match self.refused.iter().chain(&self.taken).find(|name| !has_reason(name)) {
            Some(name) => Err(format!("{name} is INVALID, but contradicts nothing that applies")),
            None => Ok(()),
        }
    }

    /// Whether a link has an interface of which an earlier version may apply.
    pub fn has_refused(&self, host: &str) -> bool {
        self.existing_on(host)
            .any(|interface| self.refused.contains(interface.name.as_str()))
    }
}

#[cfg(test)]
mod tests;
