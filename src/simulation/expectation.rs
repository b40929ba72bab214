//! Compares the simulated machine with the expected result of a configuration.
//!
//! The test oracle (`testbed::expected`) computes the expected result. Additional checks cover the existence of namespaces and
//! the routes that the kernel adds for addresses. None of this calls the agent's code.

mod machine;
mod nics;

use std::collections::{BTreeMap, BTreeSet};

use netns_kernel::{NetnsId, PROTOCOL, Snapshot};
use testbed::{
    expected::{Expected, Space, Surroundings, Verdict},
    values::Value,
};

use super::{
    configuration::{CREATED_NAME, CREATED_PLACE, Configuration, FOREIGN_NAME, FOREIGN_PLACE, Item, reference},
    kernel::{Kernel, OWN},
};

pub use self::machine::{SQUATTER, is_made_by_agent, stands_for};
use self::{
    machine::{is_of_any, spaces, unusable},
    nics::nics,
};

/// Describes the machine for the test oracle, on the assumption that no foreign object blocks a value. `places` contains the
/// current namespace of each namespace reference, indexed by the number that stands for the reference.
pub fn surroundings(kernel: &Kernel, places: &[Option<NetnsId>]) -> Surroundings<NetnsId> {
    let found = places
        .iter()
        .enumerate()
        .filter_map(|(place, netns)| Some((reference(place), (*netns)?)));
    Surroundings {
        nics: nics(kernel),
        ..Surroundings::quiet(found.collect())
    }
}

fn values(configuration: &Configuration) -> Vec<Value> {
    configuration.values().map(Item::value).collect()
}

/// Checks that a namespace created by the agent exists if and only if a value refers to it.
fn check_namespaces(kernel: &Kernel, configuration: &Configuration, surroundings: &Surroundings<NetnsId>) -> Result<(), String> {
    let named = [(FOREIGN_PLACE, FOREIGN_NAME), (CREATED_PLACE, CREATED_NAME)];
    let netns = |place: usize| surroundings.places.get(&reference(place));
    let is_wanted = |place: usize| {
        let is_there = |item: &Item| matches!(item, Item::Interface(interface) if interface.place == place);
        configuration.values().any(is_there)
    };
    let mut missing = named.iter().filter(|(place, _)| netns(*place).is_none() && is_wanted(*place));
    if let Some((place, _)) = missing.find(|(_, name)| !kernel.dangling.contains(*name)) {
        return Err(format!("place {place} is desired, but the agent has not created its namespace"));
    }
    let unusable = unusable(configuration);
    let stays = |snapshot: &Snapshot| snapshot.links.iter().any(|link| is_of_any(link, &unusable));
    let made = kernel
        .spaces
        .iter()
        .filter(|(_, snapshot)| is_made_by_agent(snapshot) && !stays(snapshot));
    let is_named = |made: &NetnsId| named.iter().any(|(place, _)| netns(*place) == Some(made) && is_wanted(*place));
    let mut unwanted = made.filter(|(netns, _)| !is_named(netns));
    match unwanted.next() {
        Some((netns, _)) => Err(format!("the agent has created {netns}, which is no longer desired")),
        None => Ok(()),
    }
}

/// Checks that the routes that the kernel adds for the agent's addresses exist. If someone else deletes such a route, the agent
/// must restore it.
fn check_address_routes(kernel: &Kernel, expected: &BTreeMap<NetnsId, Space>) -> Result<(), String> {
    for (netns, space) in &kernel.spaces {
        let Some(expected) = expected.get(netns) else { continue };
        for state in space.addresses.iter().filter(|state| state.protocol == PROTOCOL) {
            let name = space
                .links
                .iter()
                .find(|link| link.index == state.link)
                .map(|link| link.name.clone());
            let key = (name.unwrap_or_default(), state.address.address, state.address.prefix_len);
            let missing = kernel.missing_routes(*netns, state);
            if !missing.is_empty() && expected.addresses.contains(&key) {
                return Err(format!("{key:?} in {netns} lacks its routes {missing:?}"));
            }
        }
    }
    Ok(())
}

/// Returns the names of the links on which EXISTING interfaces conflict. The agent applies only one of these interfaces. The
/// choice depends on the order of changes, so it can be different after a restart.
pub fn contested(configuration: &Configuration, surroundings: &Surroundings<NetnsId>) -> BTreeSet<String> {
    Expected::of(&values(configuration), surroundings).contested()
}

/// Compares a machine with the expected final result, and returns the expected state of each value.
///
/// # Errors
/// Fails with a description of the first difference.
pub fn judge(
    kernel: &Kernel,
    configuration: &Configuration,
    surroundings: &Surroundings<NetnsId>,
) -> Result<BTreeMap<String, Verdict>, String> {
    let values = values(configuration);
    let rules = Expected::of(&values, surroundings);
    check_namespaces(kernel, configuration, surroundings)?;
    rules.check_conflicts()?;
    let expected = rules.spaces();
    let mut found = spaces(kernel, &expected, configuration);
    // Addresses of an earlier version can remain on an interface that is now INVALID.
    if let Some(space) = found.get_mut(&OWN) {
        let is_expected = |address: &_| expected.get(&OWN).is_some_and(|space| space.addresses.contains(address));
        space
            .addresses
            .retain(|address| is_expected(address) || !rules.has_refused(&address.0));
        if *space == Space::default() {
            found.remove(&OWN);
        }
    }
    check_address_routes(kernel, &expected)?;
    let all: BTreeSet<&NetnsId> = expected.keys().chain(found.keys()).collect();
    for netns in all {
        let (desired, found) = (expected.get(netns), found.get(netns));
        if desired != found {
            return Err(format!("{netns} should be {desired:#?}\nbut is {found:#?}"));
        }
    }
    Ok(rules.verdicts())
}
