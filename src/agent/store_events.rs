//! The events of the store, with content only from the moment on that the agent may follow it.
//!
//! Start reading at [`StoreEvents::recv`].

use std::pin::Pin;

use tokio::sync::mpsc;

use crate::sources::etcd::SourceEvent;

/// See the [module documentation](self).
pub struct StoreEvents {
    events: mpsc::Receiver<SourceEvent>,
    /// The event that comes next, while it waits.
    next: Option<SourceEvent>,
    /// Ends when the agent may follow the store; not awaited before there is content.
    allowed: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl StoreEvents {
    /// The first event with content waits until `allowed` ends, and all that follow wait behind it.
    pub fn new(events: mpsc::Receiver<SourceEvent>, allowed: impl Future<Output = ()> + Send + 'static) -> Self {
        StoreEvents {
            events,
            next: None,
            allowed: Some(Box::pin(allowed)),
        }
    }

    /// Returns the next event, or nothing when the source has ended. Cancel-safe.
    pub async fn recv(&mut self) -> Option<SourceEvent> {
        if self.next.is_none() {
            self.next = Some(self.events.recv().await?);
        }
        if matches!(self.next, Some(SourceEvent::Snapshot { .. } | SourceEvent::Changes { .. }))
            && let Some(allowed) = &mut self.allowed
        {
            allowed.await;
            self.allowed = None;
        }
        self.next.take()
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn content_waits_until_the_agent_may_follow_the_store_and_is_not_lost_meanwhile() {
        let (sender, events) = mpsc::channel(4);
        let (allow, allowed) = oneshot::channel::<()>();
        let mut received = StoreEvents::new(events, allowed.map(drop));
        let message = "gone".to_owned();
        let content = |revision| SourceEvent::Changes {
            revision,
            items: Vec::new(),
        };
        for event in [SourceEvent::Disconnected { message }, content(1), content(2)] {
            sender.send(event).await.expect("they are received");
        }
        assert!(
            matches!(received.recv().await, Some(SourceEvent::Disconnected { .. })),
            "it is no content"
        );
        for _ in 0..2 {
            assert!(received.recv().now_or_never().is_none());
        }
        allow.send(()).expect("the receiver waits");
        for expected in [1, 2] {
            let event = received.recv().await;
            assert!(matches!(event, Some(SourceEvent::Changes { revision, .. }) if revision == expected));
        }
        drop(sender);
        assert!(received.recv().await.is_none());
    }
}
