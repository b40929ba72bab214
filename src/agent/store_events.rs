//! The events of the store, with content only from the moment on that the agent may follow it.
//!
//! Start reading at [`StoreEvents::recv`].

use std::pin::Pin;

use tokio::sync::watch;

use crate::sources::etcd::{Source, SourceEvent, note::Note};

/// See the [module documentation](self).
pub struct StoreEvents {
    source: Source,
    /// Ends when the agent may follow the store; not awaited before there is content.
    allowed: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl StoreEvents {
    /// The first event with content waits until `allowed` ends, and all that follow wait behind it.
    pub fn new(source: Source, allowed: impl Future<Output = ()> + Send + 'static) -> Self {
        StoreEvents {
            source,
            allowed: Some(Box::pin(allowed)),
        }
    }

    /// Returns the next event, or nothing if the source has failed. Cancel-safe.
    pub async fn recv(&mut self) -> Option<SourceEvent> {
        if let Some(allowed) = &mut self.allowed
            && self.source.filled().await?
        {
            allowed.await;
            self.allowed = None;
        }
        self.source.recv().await
    }

    /// What a later process needs to recognize the store. It is never older than the last event that was returned.
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
    async fn content_waits_until_the_agent_may_follow_the_store_and_is_not_lost_meanwhile() {
        let (source, mailbox) = Source::scripted();
        let (allow, allowed) = oneshot::channel::<()>();
        let mut received = StoreEvents::new(source, allowed.map(drop));
        let message = "gone".to_owned();
        let content = |revision: i64| {
            let key = RawKey::from(revision.to_string().as_bytes());
            let (mod_revision, value) = (revision, None);
            let items = vec![RawChange { key, mod_revision, value }];
            SourceEvent::Changes { revision, items }
        };
        mailbox.post(vec![SourceEvent::Disconnected { message }]);
        assert!(
            matches!(received.recv().await, Some(SourceEvent::Disconnected { .. })),
            "it is no content"
        );
        for revision in [1, 2] {
            mailbox.post(vec![content(revision)]);
            assert!(received.recv().now_or_never().is_none());
        }
        allow.send(()).expect("the receiver waits");
        let Some(SourceEvent::Changes { revision: 2, items }) = received.recv().await else {
            panic!("what waited follows")
        };
        assert_eq!(items.iter().map(|item| item.mod_revision).collect::<Vec<_>>(), [1, 2]);
    }
}
