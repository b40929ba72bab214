//! Explanations of why a value is not as desired, both as data and as a human-readable sentence.
//!
//! This module contains the types, the wording of the sentences, and an index from keys to the explanations that mention them.
//! `explain` builds explanations from the graph.

use std::{collections::BTreeSet, time::Duration};

use rustc_hash::FxHashMap;

use super::{
    descriptor::{Key, Label},
    nodes::NodeId,
};

/// Reason why a value is not as desired. [`super::Status::message`] contains the same information as text.
#[derive(Clone, PartialEq, Debug)]
pub struct Explanation<K> {
    /// Derived value that has the problem, such as an address of an interface. `None` if the base value itself has the problem.
    pub derived: Option<K>,
    /// Unsatisfied dependencies.
    pub unmet: Vec<Unmet<K>>,
    /// Number of consecutive failed attempts.
    pub attempts: u32,
    /// Last failed attempt. `None` if no attempt has failed since the value last changed or last matched the desired value.
    pub last_error: Option<LastError>,
}

impl<K> Default for Explanation<K> {
    fn default() -> Self {
        Explanation {
            derived: None,
            unmet: Vec::new(),
            attempts: 0,
            last_error: None,
        }
    }
}

/// Unsatisfied dependency.
#[derive(Clone, PartialEq, Debug)]
pub struct Unmet<K> {
    /// Label of the dependency.
    pub label: Label,
    /// Key that would satisfy the dependency. `None` if any of several keys can satisfy it.
    pub expected: Option<K>,
    /// Display name of the expected value.
    pub name: String,
    /// Time from which the dependency has been reported as unmet (since the Unix epoch).
    pub since: Duration,
    /// State of the expected value as a clause, such as "interface veth1 does not exist".
    pub state: String,
    /// Suggestions, nearest first, at most [`SUGGESTIONS_MAX`].
    pub suggestions: Vec<Suggestion<K>>,
}

/// Existing value that resembles the expected value of a dependency or is related to it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Suggestion<K> {
    /// Key of the suggested value.
    pub key: K,
    /// Clause about the value, such as "interface veth1 exists but is DOWN".
    pub text: String,
}

/// Failure reported by the kernel.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KernelError {
    /// Error number, see errno(3).
    pub errno: i32,
    /// Kernel error text: the extended acknowledgement if there is one, otherwise the errno(3) description.
    pub text: String,
}

/// Failed operation on a value.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LastError {
    /// Time of the failure (since the Unix epoch).
    pub at: Duration,
    /// Human-readable message that describes the failure and the object, and says what to do.
    pub message: String,
    /// Kernel error; `None` if the kernel was not involved.
    pub kernel: Option<KernelError>,
}

/// Repair of a value that other programs changed or removed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Repair {
    /// Time at which the value returned to its desired state (since the Unix epoch).
    pub at: Duration,
    /// Names of the values that were lost or changed, at most [`DAMAGE_MAX`]. The list can contain the value itself and values
    /// derived from it.
    pub lost: Vec<String>,
}

/// Maximum number of suggestions per dependency.
pub const SUGGESTIONS_MAX: usize = 3;
/// Maximum number of lost values listed per repair.
pub const DAMAGE_MAX: usize = 8;

/// Describes the unmet dependencies in one sentence. Dependencies with the same cause share one clause.
pub(super) fn waiting_for<K>(unmet: &[Unmet<K>]) -> String {
    let mut causes: Vec<(&str, Vec<&str>, Vec<&str>)> = Vec::new();
    for one in unmet {
        let at = causes.iter().position(|(state, ..)| *state == one.state).unwrap_or_else(|| {
            causes.push((&one.state, Vec::new(), Vec::new()));
            causes.len() - 1
        });
        causes[at].1.push(&one.label);
        for suggestion in &one.suggestions {
            if suggestion.text != one.state && !causes[at].2.contains(&suggestion.text.as_str()) {
                causes[at].2.push(&suggestion.text);
            }
        }
    }
    let clauses: Vec<String> = causes
        .iter()
        .map(|(state, labels, suggestions)| match suggestions.is_empty() {
            true => format!("{}: {state}", enumerate(labels)),
            false => format!("{}: {state} ({})", enumerate(labels), suggestions.join("; ")),
        })
        .collect();
    format!("waiting for {}", clauses.join("; and for "))
}

fn enumerate(words: &[&str]) -> String {
    match words {
        [before @ .., last] if !before.is_empty() => format!("{} and {last}", before.join(", ")),
        _ => words.concat(),
    }
}

/// Index of the keys that explanations mention in addition to the unmet dependencies.
///
/// When one of these keys changes, the explanations that mention it are updated.
#[derive(Clone)]
pub(super) struct Mentions<K> {
    by_key: FxHashMap<K, BTreeSet<NodeId>>,
    of: FxHashMap<NodeId, Vec<K>>,
}

impl<K: Key> Mentions<K> {
    pub fn new() -> Self {
        Mentions {
            by_key: FxHashMap::default(),
            of: FxHashMap::default(),
        }
    }

    /// Replaces the keys that the explanation of `id` mentions.
    pub fn set(&mut self, id: NodeId, keys: Vec<K>) {
        for key in self.of.remove(&id).unwrap_or_default() {
            if let Some(ids) = self.by_key.get_mut(key.text()) {
                ids.remove(&id);
                if ids.is_empty() {
                    self.by_key.remove(key.text());
                }
            }
        }
        for key in &keys {
            self.by_key.entry(key.clone()).or_default().insert(id);
        }
        if !keys.is_empty() {
            self.of.insert(id, keys);
        }
    }

    /// Returns whether no explanation mentions any key.
    pub fn is_empty(&self) -> bool {
        self.of.is_empty()
    }

    /// Returns the nodes whose explanations mention `key`.
    pub fn by(&self, key: &K) -> impl Iterator<Item = NodeId> + '_ {
        self.by_key.get(key.text()).into_iter().flatten().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unmet(label: &'static str, state: &str, suggestions: &[&str]) -> Unmet<String> {
        let suggestions = suggestions.iter().map(|text| Suggestion {
            key: (*text).to_owned(),
            text: (*text).to_owned(),
        });
        Unmet {
            label: label.into(),
            expected: None,
            name: String::new(),
            since: Duration::ZERO,
            state: state.to_owned(),
            suggestions: suggestions.collect(),
        }
    }

    #[test]
    fn dependencies_with_the_same_cause_share_a_clause() {
        let all = [
            unmet("up", "x does not exist", &["y has a similar name"]),
            unmet("reachable", "z is down", &["z is down"]),
            unmet("addressed", "x does not exist", &["y has a similar name"]),
            unmet("there", "x does not exist", &[]),
        ];
        assert_eq!(
            waiting_for(&all),
            "waiting for up, addressed and there: x does not exist (y has a similar name); and for reachable: z is down"
        );
    }
}
