//! Values that failed or are waiting, and their dependencies.
//!
//! Only the simulator uses this module, to check when these values are retried. No decision depends on it.

use std::time::Duration;

use super::{blocked::Blocked, descriptor::Domain, edge::Target, scheduler::Scheduler, status::Verb};

/// Value that has failed and will be retried, or that waits for something that does not exist.
#[derive(Clone, PartialEq, Debug)]
pub struct Held<K> {
    /// Key of the value.
    pub key: K,
    /// Retry times of a failed value. The first is the earliest time of a retry triggered by a changed dependency, and the second
    /// is the time of the next scheduled retry.
    ///
    /// `None` if the value has not failed but waits for something that does not exist.
    pub attempts: Option<(Duration, Duration)>,
    /// Name and presence of each dependency target.
    pub dependencies: Vec<(String, Presence)>,
}

/// Presence of a dependency target.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Presence {
    /// No usable value is desired.
    Nothing,
    /// A usable value is desired.
    DesiredValue,
    /// The target is available.
    Available,
}

impl<D: Domain> Scheduler<D> {
    /// Returns all values that failed and will be retried, or that wait for something that does not exist yet.
    ///
    /// Returns `None` if some dependents have not been notified of changes yet, or if the last step was cut short.
    pub fn held(&self) -> Option<Vec<Held<D::Key>>> {
        if self.queue.has_notified() || self.has_overrun() {
            return None;
        }
        let held = self.graph.all().filter_map(|id| {
            let node = &self.graph[id];
            if node.is_terminating() || node.last_operation == Verb::Delete {
                // A newly available dependency does not cause an earlier retry of a deletion or of the removal of a partly
                // created object.
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
                    let presence = match target.desired() {
                        _ if target.available() => Presence::Available,
                        Some(_) => Presence::DesiredValue,
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
