//! Explanations of why a value is not as desired, as data and as one sentence for people.
//!
//! Has the types, their wording, and the index of which explanation mentions which key. `explain` makes explanations from the
//! graph.

use std::{collections::BTreeSet, time::Duration};

use rustc_hash::FxHashMap;

use super::{
    descriptor::{Key, Label},
    nodes::NodeId,
};

/// Reason why a value is not as desired. [`super::Status::message`] says the same in words.
#[derive(Clone, PartialEq, Debug)]
pub struct Explanation<K> {
    /// Derived value with the problem, such as an address of an interface; `None`: the base value itself.
    pub derived: Option<K>,
    /// Unsatisfied dependencies.
    pub unmet: Vec<Unmet<K>>,
    /// Number of failed attempts in a row.
    pub attempts: u32,
    /// Last failed attempt since the value was last as desired or was changed.
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
    /// Key that would satisfy it; `None` if any of several would.
    pub expected: Option<K>,
    /// Display name of the expected value.
    pub name: String,
    /// Time since which it has been unmet without a break (since the Unix epoch), as far as was reported.
    pub since: Duration,
    /// State of the expected value, as a sentence.
    pub state: String,
    /// Suggestions, the nearest first, at most [`SUGGESTIONS_MAX`].
    pub suggestions: Vec<Suggestion<K>>,
}

/// Suggestion: an existing value that resembles the expected one or is related to it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Suggestion<K> {
    /// Key of the value.
    pub key: K,
    /// Sentence about it: "interface veth1 exists but is DOWN".
    pub text: String,
}

/// Failure as reported by the kernel.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KernelError {
    /// errno(3).
    pub errno: i32,
    /// Error text of the kernel: the extended acknowledgement if there is one, otherwise the text of errno(3).
    pub text: String,
}

/// Failed attempt.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LastError {
    /// Time of the failure (since the Unix epoch).
    pub at: Duration,
    /// Failure, the object, and what to do.
    pub message: String,
    /// Error of the kernel; `None` if the kernel was not involved.
    pub kernel: Option<KernelError>,
}

/// Repair of damage done by others.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Repair {
    /// Time when the value was as desired again (since the Unix epoch).
    pub at: Duration,
    /// Names of the lost or changed values: the value itself or values derived from it; at most [`DAMAGE_MAX`].
    pub lost: Vec<String>,
}

/// Maximum number of suggestions per dependency.
pub const SUGGESTIONS_MAX: usize = 3;
/// Maximum number of lost values listed per repair.
pub const DAMAGE_MAX: usize = 8;

/// Describes the unmet dependencies in one sentence. Dependencies with the same cause share a clause.
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

/// Index of the explanations that mention a key without depending on it.
///
/// They are made again when that key changes.
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

    /// Records that the explanation of `id` names exactly these keys.
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

    /// Returns whether no explanation names anything.
    pub fn is_empty(&self) -> bool {
        self.of.is_empty()
    }

    /// Returns the nodes whose explanation names `key`.
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
