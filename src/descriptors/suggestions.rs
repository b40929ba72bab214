//! Suggests values that are similar to the missing value of an unmet dependency. Examples are an interface that exists but is DOWN,
//! and a value whose name is spelled slightly differently.
//!
//! Looks up only a few keys and never iterates over all values, because explanations may be requested for a hundred thousand
//! values.

use models::key::{Key, TypedKey, prefix};

use super::{
    Network, names, netns_of,
    value::{Value, interface_key},
};
use crate::scheduler::{Dependency, On, Suggestion, View};

/// Maximum number of existing keys before a missing name (in key order) that are compared with the name. The limit for the keys
/// after the name is equal.
const NEIGHBOURS: usize = 4;
/// Maximum edit distance of similar names. The limit is lower for short names.
const EDITS_MAX: usize = 2;

/// Returns suggestions for an unmet dependency, closest first.
pub fn of(unmet: &Dependency, view: &View<'_, Network>) -> Vec<Suggestion> {
    let On::Key(key) = &unmet.on else { return Vec::new() };
    match TypedKey::parse(key.as_str()) {
        Ok(TypedKey::InterfaceState { name, up }) => wrong_state(&name, up, view)
            .map(|suggestion| vec![suggestion])
            .unwrap_or_else(|| similar_interfaces(&name, view)),
        Ok(TypedKey::Interface { name }) => similar_interfaces(&name, view),
        Ok(TypedKey::InterfaceVrf { interface, .. }) => similar_interfaces(&interface, view),
        Ok(TypedKey::HostInterface { host_name }) => similar(&host_name, "linux/interface/host-name/", view),
        Ok(TypedKey::Tap { host_name }) => similar(&host_name, "linux/tap/", view),
        Ok(TypedKey::Microservice { label }) => similar(&label, "linux/microservice/", view),
        Ok(TypedKey::HostInterfaceAddress { host_name, .. }) => addresses_of_host_interface(&host_name, view),
        _ => Vec::new(),
    }
}

/// Returns a suggestion for an interface that is in the wrong state, or that is missing although its namespace exists.
fn wrong_state(name: &str, up: bool, view: &View<'_, Network>) -> Option<Suggestion> {
    let key = interface_key(name);
    let Some(applied) = view.applied(&key) else {
        let desired = view.desired(&key)?.interface()?;
        netns_of(view, &desired.namespace)?;
        let key = desired.namespace.key();
        let text = format!("{} exists, but interface {} is not in it yet", names::name(&key), desired.host_name);
        return Some(Suggestion { key, text });
    };
    let word = |up| if up { "UP" } else { "DOWN" };
    let text = match applied.interface()?.enabled == up {
        true => format!("interface {name} exists and will be {}", word(up)),
        false => format!("interface {name} exists but is {}", word(!up)),
    };
    Some(Suggestion { key, text })
}

fn similar_interfaces(name: &str, view: &View<'_, Network>) -> Vec<Suggestion> {
    match view.desired(&interface_key(name)).or(view.applied(&interface_key(name))) {
        Some(_) => Vec::new(),
        None => similar(name, prefix::INTERFACE, view),
    }
}

/// Returns suggestions for values with similar names under the same prefix, among the nearest keys in key order.
///
/// If a similar value is added later, it is suggested only after the waiting value or one of the suggested values has changed.
fn similar(name: &str, prefix: &str, view: &View<'_, Network>) -> Vec<Suggestion> {
    let near = view.near(prefix, &format!("{prefix}{name}"), NEIGHBOURS);
    let mut found: Vec<(usize, Suggestion)> = near
        .filter_map(|key| {
            let other = key.as_str().strip_prefix(prefix)?;
            let edits = edits(name, other).filter(|edits| *edits > 0)?;
            let suggestion = Suggestion {
                key: key.clone(),
                text: format!("{} has a similar name", names::name(key)),
            };
            Some((edits, suggestion))
        })
        .collect();
    found.sort_by(|(a, one), (b, other)| (a, &one.key).cmp(&(b, &other.key)));
    found.into_iter().map(|(_, suggestion)| suggestion).collect()
}

/// Returns suggestions for an address that is missing from a link in the agent's own namespace. The suggestions are the addresses
/// that the link has.
fn addresses_of_host_interface(host_name: &str, view: &View<'_, Network>) -> Vec<Suggestion> {
    let present = view.applied_under(&TypedKey::any_host_address_of(host_name));
    let suggestion = |(key, _): (&Key, &Value)| Suggestion {
        key: key.clone(),
        text: format!("{} exists", names::name(key)),
    };
    present.take(NEIGHBOURS).map(suggestion).collect()
}

/// Returns the edit distance between two names, or `None` if the distance is too large for a typo.
///
/// An edit inserts, removes or replaces a letter, or swaps two adjacent letters. Names that differ only in case or in `-` and `_`
/// have a distance of 1. If two names differ only in digits, the function assumes different interfaces, not a typo.
fn edits(a: &str, b: &str) -> Option<usize> {
    let plain = |text: &str| text.to_lowercase().replace('_', "-");
    if plain(a) == plain(b) {
        return Some(usize::from(a != b));
    }
    let without_digits = |text: &str| text.replace(|letter: char| letter.is_ascii_digit(), "");
    if without_digits(a) == without_digits(b) {
        return None;
    }
    let (a_length, b_length) = (a.chars().count(), b.chars().count());
    if a_length.abs_diff(b_length) > EDITS_MAX {
        return None;
    }
    let most = (a_length.min(b_length) / 5).clamp(1, EDITS_MAX);
    Some(strsim::osa_distance(a, b)).filter(|edits| *edits <= most)
}

#[cfg(test)]
mod tests {
    use super::edits;

    #[test]
    fn names_with_a_typing_error_are_similar_and_other_names_are_not() {
        for (a, b, expected) in [
            ("web-eth0", "web-eth0", Some(0)),
            ("web-eth0", "web_ETH0", Some(1)),
            ("web-eth0", "wbe-eth0", Some(1)),
            ("web-eth0", "web-et0", Some(1)),
            ("uplink-left", "uplnk-letf", Some(2)),
            ("web-eth0", "web-eth1", None),
            ("web-eth0", "web-eth10", None),
            ("web-eth0", "db-eth0", None),
            ("web-eth0", "web-tap7", None),
            ("web-eth0", "web-eth0-peer", None),
            ("red", "blue", None),
        ] {
            assert_eq!(edits(a, b), expected, "{a} {b}");
        }
    }
}
