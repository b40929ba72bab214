//! Leftovers: objects with the agent's mark that no value wants, found when a namespace is read.
//!
//! Owns their removal. Must never name an object without the mark. Start reading at [`OrphanDescriptor`].

use models::key::Key;

use super::{NAMESPACE_AVAILABLE, Network, value::Value};
use crate::scheduler::{Claim, DeleteCause, Dependency, Descriptor, Refusal, View};
use netns_kernel::{KernelOp, NetnsId};

/// Descriptor of `linux/orphan/<namespace inode>/<what>`. Orphans are only ever found, never wanted.
#[derive(Clone)]
pub struct OrphanDescriptor;

/// What the keys of all leftovers in a namespace begin with.
pub fn orphans_prefix(netns: NetnsId) -> String {
    orphan_key(netns, "").to_string()
}

/// Key of a leftover.
pub fn orphan_key(netns: NetnsId, what: &str) -> Key {
    Key::new(&format!("linux/orphan/{}/{what}", netns.0))
}

impl Descriptor<Network> for OrphanDescriptor {
    fn name(&self) -> &'static str {
        "linux-orphan"
    }

    fn equivalent(&self, _: &Key, _: &Value, _: &Value) -> bool {
        true
    }

    /// The namespace stays open until the leftover is gone, and so stays the interface that bears it.
    fn dependencies(&self, _: &Key, value: &Value) -> Vec<Dependency> {
        let Some(orphan) = value.orphan() else { return Vec::new() };
        let namespace = Dependency::key(NAMESPACE_AVAILABLE, orphan.namespace.key());
        let bearer = orphan.bearer.clone().map(|key| Dependency::key("interface-of-leftover", key));
        std::iter::once(namespace).chain(bearer).collect()
    }

    fn claims(&self, _: &Key, value: &Value, _: &View<'_, Network>) -> Vec<Claim> {
        let claim = value.orphan().and_then(|orphan| orphan.claim.clone());
        claim
            .map(|name| Claim {
                name,
                reason: super::interface::HOST_NAME_CONFLICT,
            })
            .into_iter()
            .collect()
    }

    fn create(&self, _: &Key, _: &Value, _: &View<'_, Network>) -> Result<Vec<KernelOp>, Refusal> {
        Ok(Vec::new())
    }

    fn delete(&self, _: &Key, applied: &Value, _: DeleteCause, _: &View<'_, Network>) -> Vec<KernelOp> {
        applied.orphan().map(|orphan| orphan.removal.clone()).unwrap_or_default()
    }
}
