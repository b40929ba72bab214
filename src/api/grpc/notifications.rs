//! Notifications of links, numbered, the last ones kept: for clients that come late.
//!
//! Owns the ring. Must never wait for a client. Start reading at [`Notifications::from`].

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use models::proto::ligato::{
    configurator::{Notification, NotifyResponse, notification},
    linux::{
        self,
        interfaces::{InterfaceNotification, InterfaceState, interface_notification::NotifType, interface_state},
    },
};
use tokio::sync::watch;

use crate::{api::Api, engine::watch::Selector, publish::Published};

/// As many as the contract keeps.
const KEPT: usize = 10_000;
/// Notifications that a client is handed at a time.
const HANDED: usize = 64;
const LINKS: &str = "status/linux/interfaces/v2/interface/";

/// A handle to the ring.
#[derive(Clone)]
pub(super) struct Notifications {
    ring: Arc<Mutex<Ring>>,
    /// Index of the next notification; the first one is 1.
    next: watch::Receiver<u32>,
}

struct Ring {
    first: u32,
    kept: VecDeque<Notification>,
}

impl Ring {
    fn next(&self) -> u32 {
        self.first.wrapping_add(u32::try_from(self.kept.len()).unwrap_or(u32::MAX))
    }
}

impl Notifications {
    /// Keeps what is told of links from now on, until the server stops.
    pub fn start(api: &Api, mut stopped: watch::Receiver<bool>) -> Self {
        let ring = Arc::new(Mutex::new(Ring {
            first: 1,
            kept: VecDeque::new(),
        }));
        let (sender, next) = watch::channel(1);
        let mut watcher = api.statuses.watch(Selector::Prefixes(vec![LINKS.to_owned()]));
        let keeper = ring.clone();
        tokio::spawn(async move {
            loop {
                let news = tokio::select! {
                    news = watcher.next() => news,
                    _ = stopped.wait_for(|stop| *stop) => return,
                };
                let Some(news) = news else { return };
                let mut ring = lock(&keeper);
                for (key, published) in news.items {
                    let state = match published.as_deref() {
                        Some(Published::Link(state)) => state.clone(),
                        Some(_) => continue,
                        None => deleted(key.as_str().strip_prefix(LINKS).unwrap_or_default()),
                    };
                    ring.kept.push_back(notification_of(state));
                    if ring.kept.len() > KEPT {
                        ring.kept.pop_front();
                        ring.first = ring.first.wrapping_add(1);
                    }
                }
                sender.send_replace(ring.next());
            }
        });
        Notifications { ring, next }
    }

    /// Notifications from an index on, as soon as there are any; what is no longer kept is left out. `None` when the server stops.
    pub async fn from(&mut self, index: u32) -> Option<Vec<NotifyResponse>> {
        self.next.wait_for(|next| *next > index.max(1)).await.ok()?;
        let ring = lock(&self.ring);
        let start = index.max(ring.first);
        let skipped = usize::try_from(start - ring.first).ok()?;
        let told = ring.kept.iter().skip(skipped).take(HANDED).zip(start..);
        let told = told.map(|(notification, index)| NotifyResponse {
            next_idx: index.wrapping_add(1),
            notification: Some(notification.clone()),
        });
        Some(told.collect())
    }
}

fn lock(ring: &Mutex<Ring>) -> MutexGuard<'_, Ring> {
    ring.lock().unwrap_or_else(PoisonError::into_inner)
}

fn deleted(name: &str) -> InterfaceState {
    InterfaceState {
        name: name.to_owned(),
        admin_status: interface_state::Status::Deleted.into(),
        oper_status: interface_state::Status::Deleted.into(),
        ..InterfaceState::default()
    }
}

fn notification_of(state: InterfaceState) -> Notification {
    Notification {
        notification: Some(notification::Notification::LinuxNotification(linux::Notification {
            interface: Some(InterfaceNotification {
                r#type: NotifType::Updown.into(),
                state: Some(state),
            }),
        })),
    }
}

/// Whether a notification has all that a filter says: merging the filter into it would change nothing.
pub(super) fn matches(notification: &Notification, filter: &Notification) -> bool {
    use prost::Message;
    let mut merged = notification.clone();
    let bytes = filter.encode_to_vec();
    // Its own bytes can always be read.
    merged.merge(bytes.as_slice()).is_ok() && merged == *notification
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_matches_what_has_all_that_it_says() {
        let state = |name: &str, mtu| InterfaceState {
            name: name.to_owned(),
            mtu,
            ..InterfaceState::default()
        };
        let told = notification_of(state("veth1", 1500));
        assert!(matches(&told, &notification_of(state("veth1", 0))));
        assert!(matches(&told, &Notification { notification: None }));
        assert!(!matches(&told, &notification_of(state("veth2", 0))));
        assert!(!matches(&told, &notification_of(state("veth1", 1400))));
        // Tag and length of an empty member 1: the notification of a VPP dataplane.
        let vpp = <Notification as prost::Message>::decode(&[0x0a, 0][..]).expect("a filter of the reference");
        assert!(!matches(&told, &vpp));
    }
}
