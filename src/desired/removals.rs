//! Removals that are held because the store lost its content without anybody deleting it.
//!
//! Values that the store no longer has move to the source [`HELD`]: they stay desired, and are kept over a restart. They leave it when
//! they are put again, or when somebody accepts the removals.

use std::sync::PoisonError;

use models::key::Key;
use tokio::sync::watch;
use tracing::{error, info};

use super::{ClientRequest, Desired, Item, RequestError, decoded, undo::client_item};
use crate::sources::{
    clients::ClientItem,
    etcd::RawItem,
    merge::{HELD, Merge},
};

/// Key after `config/`; putting anything under it accepts the removals.
pub const ACCEPT_KEY: &[u8] = b"removals/accept";

/// Removals that are held.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Held {
    /// Why: what shows that the store lost its content. `None`: nothing is held.
    pub evidence: Option<String>,
    /// Revision of the store at which that was noticed.
    pub revision: i64,
    /// Keys of the values that the store lost.
    pub values: Vec<Key>,
    /// Objects in the kernel that no desired value names.
    pub orphans: Vec<String>,
}

/// Number of removals that were accepted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Accepted {
    /// Values of which the store had lost the keys.
    pub values: usize,
    /// Objects in the kernel that no desired value names.
    pub orphans: usize,
}

impl Held {
    /// Number of removals.
    pub fn count(&self) -> usize {
        self.values.len() + self.orphans.len()
    }

    /// What is held, why, and what to do about it; `None` if nothing is held.
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
            "removal of {what} held, because the store may have lost its content: {evidence}; restore the store or put the keys again, or \
             run `netns-agent removals accept` to delete them"
        ))
    }
}

impl Desired {
    /// Removals that are held, now and at each change.
    pub fn held(&self) -> watch::Receiver<Held> {
        self.held.subscribe()
    }

    /// Removals are held from now on for this reason, noticed at a revision of the store; `None`: no longer.
    pub fn hold(&self, evidence: Option<String>, revision: i64) {
        self.held.send_if_modified(|held| {
            let changed = held.evidence != evidence || held.revision != revision;
            (held.evidence, held.revision) = (evidence, revision);
            changed
        });
    }

    /// These orphans stay in the kernel.
    pub fn hold_orphans(&self, orphans: Vec<String>) {
        self.held
            .send_if_modified(|held| std::mem::replace(&mut held.orphans, orphans.clone()) != orphans);
    }

    /// As [`Desired::stored`], but what the store no longer has stays desired.
    pub async fn stored_without_removals(&self, revision: i64, items: Vec<RawItem>) {
        let decoded = decoded(self.without_foreign(items));
        // Nobody else changes what the store had, so it is the same afterwards.
        let lost = self.merge.lock().unwrap_or_else(PoisonError::into_inner).lost(&decoded);
        let kept = lost.iter().map(|(key, item)| (key.clone(), client_item(key, item)));
        if let Err(error) = self.keep_held(false, kept.filter(|(_, item)| item.is_some()).collect()).await {
            error!("the values that the store lost stay, but would not survive a restart: {error}");
        }
        self.hand_over(revision, |merge| merge.stored_without_removals(decoded));
        self.note_held();
    }

    /// Gives up what is held.
    ///
    /// # Errors
    /// It could not be recorded, so everything stays.
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

    /// Tells what is held now. What has left it is still on disk until [`Desired::forget_put_again`].
    pub(super) fn note_held(&self) {
        let merged = self.merge.lock().unwrap_or_else(PoisonError::into_inner);
        let values = held_keys(&merged);
        drop(merged);
        self.held
            .send_if_modified(|held| std::mem::replace(&mut held.values, values.clone()) != values);
    }

    /// Removes from the disk what is no longer held.
    pub async fn forget_put_again(&self) {
        let held = {
            let merged = self.merge.lock().unwrap_or_else(PoisonError::into_inner);
            let held = merged.held_by(HELD).map(|(key, item)| (key.clone(), client_item(key, item)));
            held.filter(|(_, item)| item.is_some()).collect::<Vec<_>>()
        };
        if let Err(error) = self.keep_held(true, held).await {
            error!("values that were put again would be held again after a restart: {error}");
        }
    }
}

fn held_keys(merged: &Merge<Item>) -> Vec<Key> {
    merged.held_by(HELD).map(|(key, _)| key.clone()).collect()
}
