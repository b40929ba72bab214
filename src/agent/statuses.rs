//! What is published, told inside the agent too.
//!
//! Owns the feed of all published messages. Must never hold up whoever publishes. Start reading at [`Told`].

use std::sync::Arc;

use models::key::Key;

use crate::{
    engine::watch::Feed,
    publish::{Published, Publisher},
};

use super::host::StatusStore;

/// The newest message under each published key.
pub type Statuses = Feed<Arc<Published>>;

/// Publishes to the store, and tells whoever watches inside the agent.
pub struct Told {
    publisher: Publisher,
    statuses: Statuses,
}

impl Told {
    /// Publishes through `publisher` and tells `statuses`.
    pub fn new(publisher: Publisher, statuses: Statuses) -> Self {
        Told { publisher, statuses }
    }
}

impl StatusStore for Told {
    fn set(&self, key: String, message: Published) {
        self.publisher.set(key.clone(), message.json());
        self.statuses.tell([(Key::from(key), Some(Arc::new(message)))]);
    }

    fn remove(&self, key: &str) {
        self.publisher.remove(key);
        self.statuses.tell([(Key::from(key), None)]);
    }

    fn retain_only_current(&self) {
        self.publisher.retain_only_current();
    }
}
