//! Expected statuses and kernel state for the desired values, once the agent and the kernel have nothing left to do.
//!
//! Resolves the namespace references of the values, and computes the expected state with the model in `testbed::expected`, which
//! shares no code with the agent. Compares this state with the published statuses and the kernel. See [`Expectation::of`].

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use testbed::{
    expected::{Expected, Surroundings, Verdict},
    values,
};

use super::{
    places::{Places, inode},
    values::{Catalogue, Value},
};
use crate::support::{
    command,
    config::{Config, Reference},
    foreign,
    netns_state::NetnsState,
    status::Publication,
};

/// Expected contents of one namespace.
#[derive(Clone, Debug)]
struct Contents {
    path: PathBuf,
    names: String,
    state: NetnsState,
    /// Lines of the namespace's state that may be present or absent.
    optional: BTreeSet<String>,
}

/// Expected statuses, namespaces and contents.
pub struct Expectation {
    verdicts: BTreeMap<String, (Verdict, i64)>,
    contents: BTreeMap<u64, Contents>,
    /// Expected names in `/run/netns`, including those of foreign namespaces.
    names: BTreeSet<String>,
    /// Inodes of foreign named namespaces, which must not change.
    foreign: BTreeMap<String, u64>,
}

/// The namespace that a reference denotes: its inode, or the reference itself if the agent has not created the namespace yet.
type Place = Result<u64, Reference>;

/// Returns all desired values: those in the catalogue, and those of the veth pair that no fault affects.
fn wanted(catalogue: &Catalogue, steady: &Config, meaning: impl Fn(&str, &Value) -> values::Value) -> Vec<values::Value> {
    let drawn = catalogue.wanted.iter().map(|(key, wanted)| meaning(key, &wanted.value));
    steady.values().into_iter().chain(drawn).collect()
}

/// Returns the namespace to which each reference currently refers, and the link kinds that the kernel lacks.
fn surroundings(values: &[values::Value], places: &Places, kernel_has_dummies: bool) -> Surroundings<Place> {
    let references = values.iter().filter_map(|value| match value {
        values::Value::Interface(interface) => Some(&interface.netns),
        _ => None,
    });
    let found = references.filter_map(|reference| Some((reference.clone(), places.path_of(reference)?)));
    let found = found.map(|(reference, path)| (reference.clone(), inode(&path).ok_or(reference)));
    let mut surroundings = Surroundings::quiet(found.collect());
    if !kernel_has_dummies {
        surroundings.lacks.insert("dummy");
    }
    surroundings
}

impl Expectation {
    /// Computes the expected state for an agent with this label.
    ///
    /// `steady` contains the veth pair that no fault affects, with its revision. `foreign_processes` names foreign namespaces
    /// that must exist.
    pub fn of(
        catalogue: &Catalogue,
        places: &Places,
        steady: &(Config, i64),
        foreign_processes: &[String],
        label: &str,
        kernel_has_dummies: bool,
    ) -> Self {
        let (steady, steady_revision) = steady;
        let values = wanted(catalogue, steady, |key, value| value.meaning(key));
        let surroundings = surroundings(&values, places, kernel_has_dummies);
        let expected = Expected::of(&values, &surroundings);
        let revision = |key: &String| catalogue.wanted.get(key).map_or(*steady_revision, |wanted| wanted.revision);
        let verdicts = expected.verdicts().into_iter().map(|(key, verdict)| {
            let revision = revision(&key);
            (key, (verdict, revision))
        });
        let names = surroundings.places.keys().filter_map(Reference::name);
        let mut names: BTreeSet<String> = names.map(str::to_owned).collect();
        names.extend(places.foreign.keys().cloned());
        names.extend(foreign_processes.iter().cloned());
        let mut expectation = Self {
            verdicts: verdicts.collect(),
            contents: BTreeMap::new(),
            names,
            foreign: places.foreign.clone(),
        };
        expectation.look_everywhere(places, foreign_processes, &surroundings);
        // If a value has become invalid, the agent keeps the objects of the last valid version. The agent may never have seen
        // that version, so these objects are optional.
        let earlier = wanted(catalogue, steady, |key, value| match value {
            Value::Garbage(_, Some(before)) => before.meaning(key),
            value => value.meaning(key),
        });
        let earlier = Expected::of(&earlier, &surroundings).spaces();
        for (spaces, is_certain) in [(expected.spaces(), true), (earlier, false)] {
            let found = spaces.into_iter().filter_map(|(place, space)| Some((place.ok()?, space)));
            for (inode, space) in found {
                let lines = NetnsState::of(&space, label).lines;
                let contents = expectation
                    .contents
                    .get_mut(&inode)
                    .expect("every namespace of a value has an entry");
                let list = if is_certain {
                    &mut contents.state.lines
                } else {
                    &mut contents.optional
                };
                list.extend(lines);
            }
        }
        expectation
    }

    /// Adds an empty entry for every known namespace, so that a namespace without desired objects is expected to be empty.
    fn look_everywhere(&mut self, places: &Places, foreign_processes: &[String], surroundings: &Surroundings<Place>) {
        let mut look_at = |inode: u64, path: PathBuf, name: &str| {
            let contents = self.contents.entry(inode).or_insert_with(|| Contents {
                names: path.display().to_string(),
                path,
                state: NetnsState::default(),
                optional: BTreeSet::new(),
            });
            contents.names.push_str(name);
        };
        let named = command::named_namespaces()
            .into_iter()
            .filter(|name| !foreign_processes.contains(name));
        let named = named.map(|name| Reference::Named(name).path());
        for path in named.chain(places.all.iter().filter_map(|place| place.path())) {
            if let Some(inode) = inode(&path) {
                look_at(inode, path, "");
            }
        }
        for (reference, place) in &surroundings.places {
            // Skip a desired namespace that does not exist, because `wrong_names` reports it.
            if let (Ok(inode), Some(path)) = (place, places.path_of(reference)) {
                look_at(*inode, path, &format!(" {reference:?}"));
            }
        }
    }

    /// Returns the inodes of all known namespaces.
    pub fn namespaces(&self) -> impl Iterator<Item = u64> + '_ {
        self.contents.keys().copied()
    }

    /// Returns the number of values, and how many of them must be CONFIGURED.
    pub fn counts(&self) -> (usize, usize) {
        let configured = self.verdicts.values().filter(|(verdict, _)| *verdict == Verdict::Configured);
        (self.verdicts.len(), configured.count())
    }

    /// Returns the wrong statuses, by key.
    pub fn wrong_statuses(&self, published: &Publication) -> BTreeMap<String, String> {
        let mut wrong = BTreeMap::new();
        for (key, (verdict, revision)) in &self.verdicts {
            let Some(status) = published.of(key) else {
                wrong.insert(key.clone(), format!("must be {verdict:?}, but has no status"));
                continue;
            };
            if !verdict.admits(&status.state) || status.mod_revision != *revision {
                wrong.insert(
                    key.clone(),
                    format!(
                        "must be {verdict:?} and respond to revision {revision}, but is: {}",
                        published.keys[&format!("config-status/{key}")].text
                    ),
                );
            }
        }
        for key in published.keys.keys().filter_map(|key| key.strip_prefix("config-status/")) {
            if !self.verdicts.contains_key(key) {
                wrong.insert(key.to_owned(), "has a status, but no desired value".to_owned());
            }
        }
        wrong
    }

    /// Returns missing and unexpected names in `/run/netns`, and foreign names that now refer to another namespace.
    pub fn wrong_names(&self) -> Vec<String> {
        let found: BTreeSet<String> = command::named_namespaces().into_iter().collect();
        let missing = self
            .names
            .difference(&found)
            .map(|name| format!("named namespace {name} is missing"));
        let extra = found
            .difference(&self.names)
            .map(|name| format!("named namespace {name} is unexpected"));
        let other = self
            .foreign
            .iter()
            .filter(|(name, was)| inode(std::path::Path::new(&format!("/run/netns/{name}"))) != Some(**was));
        missing
            .chain(extra)
            .chain(other.map(|(name, was)| format!("named namespace {name} is not the foreign one ({was})")))
            .collect()
    }

    /// Compares these namespaces with their expected contents, and returns the differences by inode. Uses two threads.
    pub fn wrong_contents(&self, inodes: &[u64]) -> BTreeMap<u64, String> {
        let compare = |inode: &u64| {
            let contents = &self.contents[inode];
            let difference = match NetnsState::read(&contents.path) {
                Ok(mut found) => {
                    found
                        .lines
                        .retain(|line| contents.state.lines.contains(line) || !contents.optional.contains(line));
                    contents.state.difference(&found, &contents.names)
                }
                Err(error) => format!("{}: {error}\n", contents.names),
            };
            (!difference.is_empty()).then_some((*inode, difference))
        };
        let half = inodes.len().div_ceil(2).max(1);
        std::thread::scope(|scope| {
            let parts = inodes
                .chunks(half)
                .map(|part| scope.spawn(move || part.iter().filter_map(compare).collect::<Vec<_>>()));
            let parts: Vec<_> = parts.collect();
            parts
                .into_iter()
                .flat_map(|part| part.join().expect("join a comparing thread"))
                .collect()
        })
    }
}

/// Returns the contents of the foreign namespaces, so that they can be compared before and after the faults.
pub fn foreign_processes_unchanged(names: &[String]) -> Vec<String> {
    foreign::fingerprints(names)
}
