//! Why a value is not as it should be, as data, and the one sentence that says the same to a person.
//!
//! Owns the types of an explanation, its wording, and the record of who is mentioned in whose. Must never look into the graph:
//! `explain` does. Start reading at [`Explanation`].

use std::{collections::BTreeSet, time::Duration};

use rustc_hash::FxHashMap;

use super::{
    descriptor::{Key, Label},
    nodes::NodeId,
};

/// Why a value is not as wanted. [`super::Status::message`] is the same for a person.
#[derive(Clone, PartialEq, Debug)]
pub struct Explanation<K> {
    /// The derived value that is to blame, such as an address of an interface; `None`: the base value itself.
    pub derived: Option<K>,
    /// Dependencies that are not satisfied.
    pub unmet: Vec<Unmet<K>>,
    /// Failed attempts in a row.
    pub attempts: u32,
    /// What came of the last attempt that failed, since the value was last as wanted or was changed.
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

/// A dependency that is not satisfied.
#[derive(Clone, PartialEq, Debug)]
pub struct Unmet<K> {
    /// Its label.
    pub label: Label,
    /// The key that would satisfy it; `None` if any of several would.
    pub expected: Option<K>,
    /// What is expected, as a person calls it.
    pub name: String,
    /// Since when it has been unmet without a break (since the Unix epoch), as far as it was told.
    pub since: Duration,
    /// What is the matter with it, as a sentence.
    pub state: String,
    /// The nearest that exists, at most [`RELATIVES_MAX`].
    pub relatives: Vec<Relative<K>>,
}

/// Something that exists and is nearly what is expected, or has to do with it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Relative<K> {
    /// Its key.
    pub key: K,
    /// A sentence about it: "interface veth1 exists but is DOWN".
    pub text: String,
}

/// A failure as the kernel told it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KernelError {
    /// errno(3).
    pub errno: i32,
    /// The kernel's words: those of the extended acknowledgement, otherwise those of errno(3).
    pub text: String,
}

/// A failed attempt.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LastError {
    /// When it failed (since the Unix epoch).
    pub at: Duration,
    /// What failed, on what, and what to do.
    pub message: String,
    /// `None` if the kernel was not asked.
    pub kernel: Option<KernelError>,
}

/// Damage from outside that was repaired.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Repair {
    /// When the value was whole again (since the Unix epoch).
    pub at: Duration,
    /// Names of what had been lost or changed, of the value and of what is derived from it; at most [`DAMAGE_MAX`].
    pub lost: Vec<String>,
}

/// Most relatives that are named for one dependency.
pub const RELATIVES_MAX: usize = 3;
/// Most lost values that are named for one repair.
pub const DAMAGE_MAX: usize = 8;

/// The unmet dependencies in one sentence. Those with the same cause are told together.
pub(super) fn waiting_for<K>(unmet: &[Unmet<K>]) -> String {
    let mut causes: Vec<(&str, Vec<&str>, Vec<&str>)> = Vec::new();
    for one in unmet {
        let at = causes.iter().position(|(state, ..)| *state == one.state).unwrap_or_else(|| {
            causes.push((&one.state, Vec::new(), Vec::new()));
            causes.len() - 1
        });
        causes[at].1.push(&one.label);
        for relative in &one.relatives {
            if relative.text != one.state && !causes[at].2.contains(&relative.text.as_str()) {
                causes[at].2.push(&relative.text);
            }
        }
    }
    let clauses: Vec<String> = causes
        .iter()
        .map(|(state, labels, relatives)| match relatives.is_empty() {
            true => format!("{}: {state}", enumerate(labels)),
            false => format!("{}: {state} ({})", enumerate(labels), relatives.join("; ")),
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

/// Who explains itself by whom without depending on it, so that it is told anew when that changes.
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

    /// The explanation of `id` names exactly these.
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

    /// Whether no explanation names anything.
    pub fn is_empty(&self) -> bool {
        self.of.is_empty()
    }

    /// Those in whose explanation `key` is named.
    pub fn by(&self, key: &K) -> impl Iterator<Item = NodeId> + '_ {
        self.by_key.get(key.text()).into_iter().flatten().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unmet(label: &'static str, state: &str, relatives: &[&str]) -> Unmet<String> {
        let relatives = relatives.iter().map(|text| Relative {
            key: (*text).to_owned(),
            text: (*text).to_owned(),
        });
        Unmet {
            label: label.into(),
            expected: None,
            name: String::new(),
            since: Duration::ZERO,
            state: state.to_owned(),
            relatives: relatives.collect(),
        }
    }

    #[test]
    fn dependencies_with_one_cause_are_told_together() {
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
