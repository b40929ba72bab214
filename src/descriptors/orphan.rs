//! Orphans: objects with the agent's ownership mark that belong to no desired value. The agent finds orphans when it reads a
//! namespace, and deletes them.
//!
//! An object without the ownership mark is never an orphan, except for foreign addresses in strict mode.
//!
//! While removals are on hold, an orphan that must stay is stored as a fact. The fact has the same claims as the orphan, so no
//! interface can be created with the orphan's host name or VLAN id.

use std::sync::Arc;

use models::key::Key;

use super::{
    Effect, NAMESPACE_AVAILABLE, Network,
    kind::{Kind, of_one_type},
    value::{Orphan, Value},
};
use crate::scheduler::{Claim, Comparison, DeleteCause, Dependency, Refusal, View};
use netns_kernel::NetnsId;

/// Descriptor of `linux/orphan/<namespace inode>/<what>`. Orphans are observed, and never desired.
#[derive(Clone)]
pub struct OrphanKind;

/// Key prefix of orphans that the agent deletes.
pub const ORPHANS: &str = "linux/orphan/";
/// Key prefix of orphans that are kept because removals are on hold.
pub const HELD_ORPHANS: &str = "linux/held-orphan/";

/// Returns the key prefix of all orphans in a namespace.
pub fn orphans_prefix(netns: NetnsId) -> String {
    orphan_key(netns, "").to_string()
}

/// Returns the key of an orphan.
pub fn orphan_key(netns: NetnsId, what: &str) -> Key {
    Key::new(&format!("{ORPHANS}{}/{what}", netns.0))
}

/// Returns the key of the fact that an orphan is kept because removals are on hold.
pub fn held_orphan_key(orphan: &Key) -> Key {
    Key::from(orphan.as_str().replacen(ORPHANS, HELD_ORPHANS, 1))
}

impl Kind for OrphanKind {
    of_one_type!(Orphan, Arc<Orphan>);

    const NAME: &'static str = "linux-orphan";

    /// Orphans never differ, because an orphan has no desired value that it could be compared with.
    fn compare(&self, _: &Arc<Orphan>, _: &Arc<Orphan>) -> Comparison {
        Comparison::same()
    }

    /// Keeps the orphan's namespace open, and its interface applied, until the orphan is deleted.
    fn dependencies(&self, orphan: &Arc<Orphan>) -> Vec<Dependency> {
        let namespace = Dependency::key(NAMESPACE_AVAILABLE, orphan.namespace.key());
        let provider = orphan.provider.clone().map(|key| Dependency::key("interface-of-orphan", key));
        std::iter::once(namespace).chain(provider).collect()
    }

    fn claims(&self, orphan: &Arc<Orphan>, _: &View<'_, Network>) -> Vec<Claim> {
        orphan.claims.clone()
    }

    fn create(&self, _: &Arc<Orphan>, _: &View<'_, Network>) -> Result<Effect, Refusal> {
        Ok(Effect::Impossible("orphans are observed, never created".to_owned()))
    }

    fn delete(&self, applied: &Arc<Orphan>, _: DeleteCause, _: &View<'_, Network>) -> Effect {
        Effect::Do(applied.removal.clone())
    }
}
