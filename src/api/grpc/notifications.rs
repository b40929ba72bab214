//! Numbered notifications about links. A ring buffer keeps the latest notifications for clients that subscribe later.

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

/// Number of notifications kept, as in ligato vpp-agent.
const KEPT: usize = 10_000;
/// Maximum number of notifications that a client receives at once.
const HANDED: usize = 64;
const LINKS: &str = "status/linux/interfaces/v2/interface/";

/// Handle to the ring buffer of notifications.
#[derive(Clone)]
pub(super) struct Notifications {
    ring: Arc<Mutex<Ring>>,
    /// Index of the next notification, starting at 1.
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
    /// Starts a task that records changes of link states until the server stops.
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

    /// Waits for notifications with this or a later index, and returns up to [`HANDED`] of them.
    ///
    /// Returns `None` if the server stops.
    pub async fn from(&mut self, index: u32) -> Option<Vec<NotifyResponse>> {
        self.next.wait_for(|next| *next > index.max(1)).await.ok()?;
        let ring = lock(&self.ring);
        let start = index.max(ring.first);
        let skipped = usize::try_from(start - ring.first).ok()?;
        let reported = ring.kept.iter().skip(skipped).take(HANDED).zip(start..);
        let reported = reported.map(|(notification, index)| NotifyResponse {
            next_idx: index.wrapping_add(1),
            notification: Some(notification.clone()),
        });
        Some(reported.collect())
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

/// Returns whether a notification contains all fields of a filter. This is true if merging the filter into the notification
/// changes nothing.
pub(super) fn matches(notification: &Notification, filter: &Notification) -> bool {
    use prost::Message;
    let mut merged = notification.clone();
    let bytes = filter.encode_to_vec();
    // Decoding cannot fail, because the message has just been encoded.
    merged.merge(bytes.as_slice()).is_ok() && merged == *notification
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filter_matches_if_all_its_fields_match() {
        let state = |name: &str, mtu| InterfaceState {
            name: name.to_owned(),
            mtu,
            ..InterfaceState::default()
        };
        let reported = notification_of(state("veth1", 1500));
        assert!(matches(&reported, &notification_of(state("veth1", 0))));
        assert!(matches(&reported, &Notification { notification: None }));
        assert!(!matches(&reported, &notification_of(state("veth2", 0))));
        assert!(!matches(&reported, &notification_of(state("veth1", 1400))));
        // Field 1 with length 0: an empty notification of a VPP data plane.
        let vpp = <Notification as prost::Message>::decode(&[0x0a, 0][..]).expect("a filter of ligato vpp-agent");
        assert!(!matches(&reported, &vpp));
    }
}
