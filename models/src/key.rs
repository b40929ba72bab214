//! Value keys in the store and in the scheduler's graph.
//!
//! [`TypedKey::parse`] is the only parser of keys. The `Display` implementation of [`TypedKey`] is the only printer. No other code splits or
//! concatenates keys.

mod parse;
mod typed;

use std::{borrow::Borrow, fmt, ops::Deref, sync::Arc};

pub use typed::{AddressSource, INVALID, KeyError, NamespaceType, RouteDestination, TypedKey};

/// Key prefixes of the models. In the store, each prefix follows the agent prefix.
pub mod prefix {
    /// Prefix of interface keys.
    pub const INTERFACE: &str = "config/linux/interfaces/v2/interface/";
    /// Prefix of neighbour entry keys.
    pub const ARP: &str = "config/linux/l3/v2/arp/";
    /// Prefix of route keys.
    pub const ROUTE: &str = "config/linux/l3/v2/route/";
    /// Prefix of rule chain keys.
    pub const RULE_CHAIN: &str = "config/linux/iptables/v2/rulechain/";
    /// Prefix of address allocation keys.
    pub const IP_ALLOCATION: &str = "config/netalloc/v1/ip/";
}

/// Prefix of the keys of all agents.
pub const ALL_AGENTS_PREFIX: &str = "/vnf-agent/";
/// Key prefix of all desired values, after the agent prefix.
pub const CONFIG_PREFIX: &str = "config/";
/// Key prefix of all value statuses, after the agent prefix.
pub const STATUS_PREFIX: &str = "config-status/";
/// Maximum length of a microservice label in bytes.
pub const LABEL_MAX_BYTES: usize = 63;

/// Key without the agent prefix. Clones share the text.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(Arc<str>);

impl Key {
    /// Creates a key from any text without checking it. To check a key, use [`TypedKey::parse`].
    pub fn new(text: &str) -> Self {
        Self(Arc::from(text))
    }

    /// Returns the text of the key.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl AsRef<str> for Key {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for Key {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl Deref for Key {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Key {
    fn from(text: &str) -> Self {
        Self::new(text)
    }
}

impl From<String> for Key {
    fn from(text: String) -> Self {
        Self(Arc::from(text))
    }
}

impl From<&TypedKey> for Key {
    fn from(key: &TypedKey) -> Self {
        key.to_key()
    }
}

/// Returns the key prefix of one agent: `/vnf-agent/<label>/`.
///
/// The agent marks its own links with an alias that begins with the same text.
pub fn agent_prefix(label: &str) -> String {
    format!("{ALL_AGENTS_PREFIX}{label}/")
}

/// Returns the key of a value's status, `config-status/<rest>`, or `None` if `key` is not below `config/`.
pub fn status_key(key: &str) -> Option<Key> {
    key.strip_prefix(CONFIG_PREFIX)
        .map(|rest| Key::from(format!("{STATUS_PREFIX}{rest}")))
}

/// Returns the key of the value to which a status key belongs. This is the inverse of [`status_key`].
pub fn config_key_of_status(key: &str) -> Option<Key> {
    key.strip_prefix(STATUS_PREFIX)
        .map(|rest| Key::from(format!("{CONFIG_PREFIX}{rest}")))
}

/// Error returned for an invalid microservice label.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the microservice label `{label}` {problem}; use 1 to {LABEL_MAX_BYTES} bytes without slashes, whitespace or control characters")]
pub struct LabelError {
    /// Invalid label, with control characters escaped.
    pub label: String,
    /// Description of the violated rule. It follows the label in the error message.
    pub problem: &'static str,
}

/// Checks a microservice label. The label must have 1 to 63 bytes, contain no slashes, whitespace or control characters, and be neither `.` nor `..`.
///
/// Slashes are forbidden. Otherwise, the link aliases of the agents `a` and `a/b` would both begin with `/vnf-agent/a/`, and the agent `a` would
/// mistake the links of `a/b` for its own.
///
/// # Errors
/// Returns an error for the first rule that the label violates.
pub fn check_label(label: &str) -> Result<(), LabelError> {
    let problem = if label.is_empty() {
        "is empty"
    } else if label.len() > LABEL_MAX_BYTES {
        "is too long"
    } else if label.contains('/') {
        "contains a slash"
    } else if label.chars().any(|c| c.is_whitespace() || c.is_control()) {
        "contains whitespace or a control character"
    } else if label == "." || label == ".." {
        "is a relative path"
    } else {
        return Ok(());
    };
    Err(LabelError {
        label: label.escape_debug().to_string(),
        problem,
    })
}

/// Joins a key prefix and an instance name like path elements. Removes repeated and trailing slashes, and resolves `.` and `..`.
///
/// The agent must compute keys in the same way as clients.
pub fn join(prefix: &str, instance: &str) -> String {
    // Fast path: keys are computed often, and nearly all of them need no clean-up.
    if prefix.strip_suffix('/').is_some_and(is_clean) && is_clean(instance) {
        return [prefix, instance].concat();
    }
    let mut elements: Vec<&str> = Vec::new();
    for element in prefix.split('/').chain(instance.split('/')) {
        match element {
            "" | "." => {}
            ".." => {
                if elements.last().is_none_or(|last| *last == "..") {
                    elements.push("..");
                } else {
                    elements.pop();
                }
            }
            other => elements.push(other),
        }
    }
    elements.join("/")
}

/// Returns `true` if [`join`] would leave the path unchanged.
fn is_clean(path: &str) -> bool {
    path.split('/').all(|element| !matches!(element, "" | "." | ".."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_key_replaces_only_the_class_of_a_config_key() {
        let key = status_key("config/linux/interfaces/v2/interface/config/x");
        assert_eq!(key.as_deref(), Some("config-status/linux/interfaces/v2/interface/config/x"));
        assert_eq!(
            config_key_of_status(&key.expect("the assertion above has checked the key")).as_deref(),
            Some("config/linux/interfaces/v2/interface/config/x")
        );
        assert_eq!(status_key("check/status/v1/agent"), None);
    }

    #[test]
    fn label_with_slash_or_white_space_is_rejected() {
        for label in ["vpp1", "a", "node-1.example", "é"] {
            assert_eq!(check_label(label), Ok(()), "{label}");
        }
        let long = "x".repeat(64);
        for label in ["", "a/b", "a b", "a\tb", "a\0", ".", "..", long.as_str()] {
            assert!(check_label(label).is_err(), "{label:?}");
        }
    }

    #[test]
    fn join_cleans_the_path() {
        assert_eq!(join("config/a/v2/b/", "x"), "config/a/v2/b/x");
        assert_eq!(join("config/a/v2/b/", "x//y/./z/"), "config/a/v2/b/x/y/z");
        assert_eq!(join("config/a/v2/b/", "../c/x"), "config/a/v2/c/x");
        assert_eq!(join("config/", "../../../x"), "../../x");
        assert_eq!(join("config/a/v2/b/", ""), "config/a/v2/b");
    }

    #[test]
    fn keys_can_be_looked_up_by_text() {
        let map = std::collections::BTreeMap::from([(Key::new("a/b"), 1)]);
        assert_eq!(map.get("a/b"), Some(&1));
        assert_eq!(agent_prefix("vpp1"), "/vnf-agent/vpp1/");
    }
}
