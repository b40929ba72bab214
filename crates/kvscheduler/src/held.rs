//! What failed or waits, and what it depends on: for the simulator's rule about when it must be tried again.
//!
//! Owns that view of the graph. Must never be used to decide anything. Start reading at [`Scheduler::held`].

use std::time::Duration;

use super::{blocked::Blocked, descriptor::Domain, edge::Target, scheduler::Scheduler, status::Verb};

/// A value that is left alone for the moment.
#[derive(Clone, PartialEq, Debug)]
pub struct Held<K> {
    /// Its key.
    pub key: K,
    /// After a failure, the earliest time at which a change of a dependency may lead to an attempt, and the time of the next attempt.
    /// `None` for a value that only waits.
    pub attempts: Option<(Duration, Duration)>,
    /// Each dependency, and what of it is there.
    pub dependencies: Vec<(String, Presence)>,
}

/// What is there of something that a value depends on.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Presence {
    /// No usable value is desired.
    Nothing,
    /// A usable value is desired.
    Wanted,
    /// It is applied.
    Available,
}

impl<D: Domain> Scheduler<D> {
    /// All values that failed and are to be tried again later, or that wait for something of which the effect said that it is not there.
    /// `None` while changes of dependencies have not been passed on yet.
    pub fn held(&self) -> Option<Vec<Held<D::Key>>> {
        if self.queue.is_stirred() || self.has_overrun() {
            return None;
        }
        let held = self.graph.all().filter_map(|id| {
            let node = &self.graph[id];
            if node.is_terminating() || node.last_operation == Verb::Delete {
                // A deletion, also of what a failed creation left, does not go sooner because something that it depended on is back.
                return None;
            }
            let attempts = match node.blocked.as_deref()? {
                Blocked::BackOff { earliest, until, .. } => Some((*earliest, *until)),
                Blocked::Unavailable(_) => None,
                Blocked::Contended { .. } | Blocked::Drifted(_) | Blocked::Unusable(_) | Blocked::Conflict(_) => return None,
            };
            let dependencies = node.edges.iter().map(|edge| match &edge.on {
                Target::Key(target) => {
                    let target = &self.graph[*target];
                    let presence = match target.wanted() {
                        _ if target.available() => Presence::Available,
                        Some(_) => Presence::Wanted,
                        None => Presence::Nothing,
                    };
                    (target.key.to_string(), presence)
                }
                Target::AnyOf(any) => {
                    let met = self.graph.edge_satisfied(id, edge);
                    (any.describe.to_string(), if met { Presence::Available } else { Presence::Nothing })
                }
            });
            Some(Held {
                key: node.key.clone(),
                attempts,
                dependencies: dependencies.collect(),
            })
        });
        Some(held.collect())
    }
}
