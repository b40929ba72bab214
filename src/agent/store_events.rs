//! Passes on the events of the store. Events with contents are delayed until the agent may apply values from the store.

use std::pin::Pin;

use tokio::sync::watch;

use crate::sources::etcd::{Source, SourceEvent, note::Note};

/// Stream of store events. Events with contents are delayed until the agent may apply them.
pub struct StoreEvents {
    source: Source,
    /// Future that completes when the agent may apply values from the store; `None` afterwards. It is first polled when there are contents to
    /// deliver.
    allowed: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl StoreEvents {
    /// Creates the event stream. The first event with contents, and all later events, wait until `allowed` completes.
    pub fn new(source: Source, allowed: impl Future<Output = ()> + Send + 'static) -> Self {
        StoreEvents {
            source,
            allowed: Some(Box::pin(allowed)),
        }
    }

    /// Returns the next event; `None` if the source has failed. Cancel-safe.
    pub async fn recv(&mut self) -> Option<SourceEvent> {
        if let Some(allowed) = &mut self.allowed
            && self.source.filled().await?
        {
            allowed.await;
            self.allowed = None;
        }
        self.source.recv().await
    }

    /// Returns a receiver for the note by which a later process can recognize the store. The note is at least as recent as the
    /// event that was returned last.
    pub fn noted(&self) -> watch::Receiver<Option<Note>> {
        self.source.noted()
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use tokio::sync::oneshot;

    use super::*;
    use crate::sources::etcd::{RawChange, RawKey};

    #[tokio::test]
    async fn content_is_delayed_until_store_may_be_followed() {
        let (source, buffer) = Source::scripted();
        let (allow, allowed) = oneshot::channel::<()>();
        let mut received = StoreEvents::new(source, allowed.map(drop));
        let message = "gone".to_owned();
        let content = |revision: i64| {
            let key = RawKey::from(revision.to_string().as_bytes());
            let (mod_revision, value) = (revision, None);
            let items = vec![RawChange { key, mod_revision, value }];
            SourceEvent::Changes { revision, items }
        };
        buffer.post(vec![SourceEvent::Disconnected { message }]);
        assert!(
            matches!(received.recv().await, Some(SourceEvent::Disconnected { .. })),
            "a disconnection has no contents"
        );
        for revision in [1, 2] {
            buffer.post(vec![content(revision)]);
            assert!(received.recv().now_or_never().is_none());
        }
        allow.send(()).expect("the receiver waits");
        let Some(SourceEvent::Changes { revision: 2, items }) = received.recv().await else {
            panic!("expected the delayed contents")
        };
        assert_eq!(items.iter().map(|item| item.mod_revision).collect::<Vec<_>>(), [1, 2]);
    }
}
