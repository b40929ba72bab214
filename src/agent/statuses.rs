//! What is published, told inside the agent too.
//!
//! Owns the feed of all published messages. Must never hold up whoever publishes. Start reading at [`Told`].

use std::sync::Arc;

use models::{
    key::{Key, STATUS_PREFIX},
    proto::ligato::kvscheduler::ValueStatus,
};

use crate::{
    engine::watch::Feed,
    publish::{Published, Publisher},
    telemetry::metrics::Metrics,
};

use super::host::StatusStore;

/// The newest message under each published key.
pub type Statuses = Feed<Arc<Published>>;

/// Publishes to the store, and tells whoever watches inside the agent.
pub struct Told {
    publisher: Publisher,
    statuses: Statuses,
    metrics: Arc<Metrics>,
}

impl Told {
    /// Publishes through `publisher`, tells `statuses`, and counts in `metrics`.
    pub fn new(publisher: Publisher, statuses: Statuses, metrics: Arc<Metrics>) -> Self {
        Told {
            publisher,
            statuses,
            metrics,
        }
    }

    fn tell(&self, key: &str, message: Option<Arc<Published>>) {
        let key = Key::new(key);
        if key.starts_with(STATUS_PREFIX) {
            let before = self.statuses.get(&key);
            self.metrics.told(value_status(before.as_deref()), value_status(message.as_deref()));
        }
        self.statuses.tell([(key, message)]);
    }
}

fn value_status(message: Option<&Published>) -> Option<&ValueStatus> {
    match message? {
        Published::Value(status) => Some(status),
        _ => None,
    }
}

impl StatusStore for Told {
    fn set(&self, key: String, message: Published) {
        let message = Arc::new(message);
        self.publisher.set(&key, message.clone());
        self.tell(&key, Some(message));
    }

    fn remove(&self, key: &str) {
        self.publisher.remove(key);
        self.tell(key, None);
    }

    fn retain_only_current(&self) {
        self.publisher.retain_only_current();
    }

    fn settled(&self) {
        self.metrics.settled();
    }
}
