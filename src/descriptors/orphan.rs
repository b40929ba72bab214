//! Leftovers: objects with the agent's mark that no value wants, found when a namespace is read.
//!
//! Owns their removal. Must never name an object without the mark. Start reading at [`OrphanKind`].

use std::sync::Arc;

use models::key::Key;

use super::{
    Effect, NAMESPACE_AVAILABLE, Network,
    kind::{Kind, of_one_type},
    value::{Orphan, Value},
};
use crate::scheduler::{Claim, Comparison, DeleteCause, Dependency, Refusal, View};
use netns_kernel::NetnsId;

/// `linux/orphan/<namespace inode>/<what>`. Orphans are only ever found, never wanted.
#[derive(Clone)]
pub struct OrphanKind;

/// What the keys of all leftovers in a namespace begin with.
pub fn orphans_prefix(netns: NetnsId) -> String {
    orphan_key(netns, "").to_string()
}

/// Key of a leftover.
pub fn orphan_key(netns: NetnsId, what: &str) -> Key {
    Key::new(&format!("linux/orphan/{}/{what}", netns.0))
}

impl Kind for OrphanKind {
    of_one_type!(Orphan, Arc<Orphan>);

    const NAME: &'static str = "linux-orphan";

    /// None is ever desired.
    fn compare(&self, _: &Arc<Orphan>, _: &Arc<Orphan>) -> Comparison {
        Comparison::same()
    }

    /// The namespace stays open until the leftover is gone, and so stays the interface that bears it.
    fn dependencies(&self, orphan: &Arc<Orphan>) -> Vec<Dependency> {
        let namespace = Dependency::key(NAMESPACE_AVAILABLE, orphan.namespace.key());
        let bearer = orphan.bearer.clone().map(|key| Dependency::key("interface-of-leftover", key));
        std::iter::once(namespace).chain(bearer).collect()
    }

    fn claims(&self, orphan: &Arc<Orphan>, _: &View<'_, Network>) -> Vec<Claim> {
        let claim = orphan.claim.clone().map(|name| Claim {
            name,
            reason: super::interface::HOST_NAME_CONFLICT,
        });
        claim.into_iter().collect()
    }

    fn create(&self, _: &Arc<Orphan>, _: &View<'_, Network>) -> Result<Effect, Refusal> {
        Ok(Effect::Impossible("leftovers are found, never created".to_owned()))
    }

    fn delete(&self, applied: &Arc<Orphan>, _: DeleteCause, _: &View<'_, Network>) -> Effect {
        Effect::Do(applied.removal.clone())
    }
}
