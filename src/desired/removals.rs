//! Removals that are on hold because the store may have lost its contents.
//!
//! Values can disappear from the store although no client deleted them. If there is evidence of this, the values move to the
//! source [`HELD`] and stay desired, even after a restart. A value leaves this source when it is put again, or when a client
//! accepts the removals.

use std::{collections::BTreeMap, sync::PoisonError, time::Duration};

use models::key::Key;
use tokio::sync::watch;
use tracing::{error, info};

use super::{ClientRequest, Desired, Item, RequestError, decoded, undo::client_item};
use crate::sources::{
    clients::{ClientItem, Labels, SourceItems},
    etcd::RawItem,
    merge::HELD,
};

/// Key below `config/`. Putting any value under this key accepts the removals on hold.
pub const ACCEPT_KEY: &[u8] = b"removals/accept";
/// Label that contains the time at which the removal of a saved value was put on hold, in seconds since 1970-01-01T00:00:00Z.
const SINCE: &str = "held-since";

/// Removals that are on hold.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Held {
    /// Evidence that the store has lost its contents; `None` if there is no such evidence, so removals are not on hold.
    pub evidence: Option<String>,
    /// Store revision at which the loss was noticed.
    pub revision: i64,
    /// Keys of the values that the store lost, each with the time at which its removal was put on hold.
    pub values: BTreeMap<Key, Duration>,
    /// Orphans in the kernel that are kept because removals are on hold.
    pub orphans: Vec<String>,
}

/// Counts of the removals that a client has accepted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Accepted {
    /// Number of accepted removals of values that the store had lost.
    pub values: usize,
    /// Number of accepted removals of orphans in the kernel.
    pub orphans: usize,
}

impl Held {
    /// Returns the number of removals on hold.
    pub fn count(&self) -> usize {
        self.values.len() + self.orphans.len()
    }

    /// Returns a message that says what is on hold, why, and what to do; `None` if nothing is on hold.
    pub fn message(&self) -> Option<String> {
        let evidence = self.evidence.as_ref().filter(|_| self.count() > 0)?;
        let counted = |count: usize, one: &str, many: &str| match count {
            0 => None,
            1 => Some(format!("1 {one}")),
            _ => Some(format!("{count} {many}")),
        };
        let parts = [
            counted(self.values.len(), "value", "values"),
            counted(self.orphans.len(), "orphan in the kernel", "orphans in the kernel"),
        ];
        let what = parts.into_iter().flatten().collect::<Vec<_>>().join(" and ");
        Some(format!(
            "removal of {what} is on hold because the store may have lost its contents: {evidence}; restore the store or put the keys \
             again, or run `netns-agent removals accept` to let the removal proceed"
        ))
    }
}

impl Desired {
    /// Returns a receiver for the removals that are on hold.
    pub fn held(&self) -> watch::Receiver<Held> {
        self.held.subscribe()
    }

    /// Records the evidence that the store has lost its contents, and the revision at which the loss was noticed. If `evidence`
    /// is `None`, ends the hold.
    pub fn hold(&self, evidence: Option<String>, revision: i64) {
        self.held.send_if_modified(|held| {
            let changed = held.evidence != evidence || held.revision != revision;
            (held.evidence, held.revision) = (evidence, revision);
            changed
        });
    }

    /// Sets the orphans that are kept because removals are on hold.
    pub fn hold_orphans(&self, orphans: Vec<String>) {
        self.held
            .send_if_modified(|held| std::mem::replace(&mut held.orphans, orphans.clone()) != orphans);
    }

    /// Like [`Desired::stored`], but values that are missing from the store remain desired. Their removals are put on hold,
    /// starting at `now`.
    pub async fn stored_without_removals(&self, now: Duration, revision: i64, items: Vec<RawItem>) {
        let decoded = decoded(self.without_foreign(items));
        // Only this task changes the store's values, so they cannot change between this line and the merge below.
        let lost = self.merge.lock().unwrap_or_else(PoisonError::into_inner).lost(&decoded);
        // Times are saved to disk in whole seconds. Rounding the time here ensures that it is the same before and after a restart.
        let since = Duration::from_secs(now.as_secs());
        let kept = lost.iter().filter_map(|(key, item)| dated(key, item, since));
        if let Err(error) = self.keep_held(false, kept.collect()).await {
            error!("cannot save the values that the store lost; they would not survive a restart: {error}");
        }
        self.hand_over(revision, |merge| merge.stored_without_removals(decoded));
        self.note_held(|held| held.extend(lost.into_iter().map(|(key, _)| (key, since))));
    }

    /// Accepts the removals that are on hold, so the values and orphans are deleted.
    ///
    /// # Errors
    /// Fails if the acceptance cannot be saved to disk. In this case, nothing is deleted.
    pub async fn accept_removals(&self) -> Result<Accepted, RequestError> {
        self.keep_held(true, Vec::new()).await?;
        let held = self.held.borrow().clone();
        self.hand_over(held.revision, |merge| merge.replace(HELD, []));
        let accepted = Accepted {
            values: held.values.len(),
            orphans: held.orphans.len(),
        };
        info!(values = accepted.values, orphans = accepted.orphans, "held removals accepted");
        self.held.send_replace(Held::default());
        Ok(accepted)
    }

    async fn keep_held(&self, replace: bool, changes: Vec<(Key, Option<ClientItem>)>) -> Result<(), RequestError> {
        let clients = self.clients.lock().await;
        let request = ClientRequest {
            replace,
            ..ClientRequest::of(HELD.to_owned(), changes)
        };
        self.keep(&clients, &request).await
    }

    /// Ends the hold on values that were put again. [`Desired::forget_put_again`] deletes their saved copies.
    pub(super) fn note_put_again(&self) {
        self.note_held(|_| {});
    }

    /// Calls `add` to update the map of values on hold, then drops the values that are no longer on hold.
    fn note_held(&self, add: impl FnOnce(&mut BTreeMap<Key, Duration>)) {
        let merged = self.merge.lock().unwrap_or_else(PoisonError::into_inner);
        self.held.send_if_modified(|held| {
            let before = held.values.clone();
            add(&mut held.values);
            held.values.retain(|key, _| merged.holds(HELD, key));
            held.values != before
        });
    }

    /// Deletes the saved copies of values that are no longer on hold.
    pub async fn forget_put_again(&self) {
        let held = {
            let merged = self.merge.lock().unwrap_or_else(PoisonError::into_inner);
            let dates = &self.held.borrow().values;
            let since = |key: &Key| dates.get(key).copied().unwrap_or_default();
            let held = merged.held_by(HELD).filter_map(|(key, item)| dated(key, item, since(key)));
            held.collect::<Vec<_>>()
        };
        if let Err(error) = self.keep_held(true, held).await {
            error!(
                "cannot save which removals are still on hold; after a restart, values that were put again would be on hold again: {error}"
            );
        }
    }
}

/// Converts a value on hold to the form in which it is saved to disk. A label of the saved value contains the time at which the hold started.
/// Returns `None` if the value cannot be decoded.
fn dated(key: &Key, item: &Item, since: Duration) -> Option<(Key, Option<ClientItem>)> {
    let mut kept = client_item(key, item)?;
    kept.labels = Labels::from([(SINCE.to_owned(), since.as_secs().to_string())]);
    Some((key.clone(), Some(kept)))
}

/// Removes the labels from all saved values, and returns the times that their `SINCE` labels contained, by key.
pub(super) fn take_dates(kept: &mut SourceItems) -> BTreeMap<Key, Duration> {
    let date = |(key, item): (&Key, &mut ClientItem)| {
        let seconds = std::mem::take(&mut item.labels).remove(SINCE).and_then(|text| text.parse().ok());
        (key.clone(), Duration::from_secs(seconds.unwrap_or_default()))
    };
    kept.iter_mut().map(date).collect()
}
