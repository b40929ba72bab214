//! Publishes messages to the store and to watchers inside the agent, such as the APIs. Publishing never blocks the caller.

use std::{collections::BTreeMap, sync::Arc};

use futures::future::{BoxFuture, FutureExt};
use models::{
    key::{Key, STATUS_PREFIX, status_key},
    proto::ligato::kvscheduler::{ValueState as State, ValueStatus},
};

use crate::scheduler::{KeyError, ValueState, Verb};
use crate::{
    desired::{TENTATIVE, Verdicts},
    engine::watch::{Selector, Updates},
    publish::{Published, Publisher},
    telemetry::metrics::Metrics,
};

use super::host::StatusStore;

/// Newest message of each published key.
pub type Statuses = Updates<Arc<Published>>;

/// Status store that publishes messages to the store and to watchers inside the agent, and counts them.
pub struct Told {
    publisher: Publisher,
    statuses: Statuses,
    metrics: Arc<Metrics>,
}

impl Told {
    /// Creates a status store that writes to `publisher`, notifies watchers of `statuses`, and counts statuses in `metrics`.
    pub fn new(publisher: Publisher, statuses: Statuses, metrics: Arc<Metrics>) -> Self {
        Told {
            publisher,
            statuses,
            metrics,
        }
    }

    fn publish(&self, key: &str, message: Option<Arc<Published>>) {
        let key = Key::new(key);
        if key.starts_with(STATUS_PREFIX) {
            let before = self.statuses.get(&key);
            self.metrics
                .reported(value_status(before.as_deref()), value_status(message.as_deref()));
        }
        self.statuses.publish([(key, message)]);
    }
}

fn value_status(message: Option<&Published>) -> Option<&ValueStatus> {
    match message? {
        Published::Value(status) => Some(status),
        _ => None,
    }
}

impl Verdicts for Statuses {
    fn of(&self, keys: Vec<Key>) -> BoxFuture<'static, Vec<(Key, Option<KeyError>)>> {
        let mut undecided: BTreeMap<Key, Key> = keys.into_iter().filter_map(|key| Some((status_key(key.as_str())?, key))).collect();
        let mut watcher = self.watch(Selector::Keys(undecided.keys().cloned().collect()));
        let verdicts = async move {
            let mut verdicts = Vec::new();
            while !undecided.is_empty() {
                let Some(batch) = watcher.next().await else { break };
                for (published, message) in batch.items {
                    let status = message.as_deref().and_then(|message| value_status(Some(message)));
                    if status.is_some_and(is_tentative) {
                        continue;
                    }
                    if let Some(key) = undecided.remove(&published) {
                        let error = status.and_then(|status| failure(&key, status));
                        verdicts.push((key, error));
                    }
                }
            }
            verdicts
        };
        verdicts.boxed()
    }
}

fn is_tentative(status: &ValueStatus) -> bool {
    status.state() == State::Pending && status.reason == TENTATIVE
}

fn failure(key: &Key, status: &ValueStatus) -> Option<KeyError> {
    let state = match status.state() {
        State::Failed => ValueState::Failed,
        State::Retrying => ValueState::Retrying,
        _ => return None,
    };
    Some(KeyError {
        key: key.clone(),
        operation: Verb::Create,
        state,
        error: status.message.clone(),
        in_revert: false,
    })
}

impl StatusStore for Told {
    fn set(&self, key: String, message: Published) {
        let message = Arc::new(message);
        self.publisher.set(&key, message.clone());
        self.publish(&key, Some(message));
    }

    fn remove(&self, key: &str) {
        self.publisher.remove(key);
        self.publish(key, None);
    }

    fn retain_only_current(&self) {
        self.publisher.retain_only_current();
    }

    fn settled(&self) {
        self.metrics.settled();
    }
}
