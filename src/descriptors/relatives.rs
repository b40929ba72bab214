//! What exists and is nearly what a value waits for.
//!
//! Owns the choice of relatives in explanations: the interface that is there and down, the name with a typing error. Must never
//! walk over all values: an explanation may be asked for a hundred thousand times. Start reading at [`of`].

use models::key::{Key, TypedKey, prefix};

use super::{
    Network, names, netns_of,
    value::{Value, interface_key},
};
use crate::scheduler::{Dependency, On, Relative, View};

/// How many neighbours in key order are compared with a missing name, on either side.
const NEIGHBOURS: usize = 4;
/// Names that differ in more places are not called similar; fewer if they are short.
const EDITS_MAX: usize = 2;

/// The relatives of what an unmet dependency expects, the nearest first.
pub fn of(unmet: &Dependency, view: &View<'_, Network>) -> Vec<Relative> {
    let On::Key(key) = &unmet.on else { return Vec::new() };
    match TypedKey::parse(key.as_str()) {
        Ok(TypedKey::InterfaceState { name, up }) => wrong_state(&name, up, view)
            .map(|relative| vec![relative])
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

/// The interface exists and is up where it should be down, or the other way round; or its namespace exists and it does not.
fn wrong_state(name: &str, up: bool, view: &View<'_, Network>) -> Option<Relative> {
    let key = interface_key(name);
    let Some(applied) = view.applied(&key) else {
        let wanted = view.wanted(&key)?.interface()?;
        netns_of(view, &wanted.namespace)?;
        let key = wanted.namespace.key();
        let text = format!("{} exists, interface {} is not in it yet", names::name(&key), wanted.host_name);
        return Some(Relative { key, text });
    };
    let word = |up| if up { "UP" } else { "DOWN" };
    let text = match applied.interface()?.enabled == up {
        true => format!("interface {name} exists and is about to be {}", word(up)),
        false => format!("interface {name} exists but is {}", word(!up)),
    };
    Some(Relative { key, text })
}

fn similar_interfaces(name: &str, view: &View<'_, Network>) -> Vec<Relative> {
    match view.wanted(&interface_key(name)).or(view.applied(&interface_key(name))) {
        Some(_) => Vec::new(),
        None => similar(name, prefix::INTERFACE, view),
    }
}

/// What has nearly the same name under the same prefix, among the neighbours in key order. One that appears later is told with the
/// next change of the waiting value or of what it names.
fn similar(name: &str, prefix: &str, view: &View<'_, Network>) -> Vec<Relative> {
    let near = view.near(prefix, &format!("{prefix}{name}"), NEIGHBOURS);
    let mut found: Vec<(usize, Relative)> = near
        .filter_map(|key| {
            let other = key.as_str().strip_prefix(prefix)?;
            let edits = edits(name, other).filter(|edits| *edits > 0)?;
            let relative = Relative {
                key: key.clone(),
                text: format!("{} has a similar name", names::name(key)),
            };
            Some((edits, relative))
        })
        .collect();
    found.sort_by(|(a, one), (b, other)| (a, &one.key).cmp(&(b, &other.key)));
    found.into_iter().map(|(_, relative)| relative).collect()
}

/// The addresses that an interface of the host has, while another one is expected.
fn addresses_of_host_interface(host_name: &str, view: &View<'_, Network>) -> Vec<Relative> {
    let present = view.applied_under(&TypedKey::any_host_address_of(host_name));
    let relative = |(key, _): (&Key, &Value)| Relative {
        key: key.clone(),
        text: format!("{} exists", names::name(key)),
    };
    present.take(NEIGHBOURS).map(relative).collect()
}

/// In how many places (a letter more, less, another, or two exchanged) two names differ; `None` if in too many to be the same name
/// with a typing error. Upper and lower case, `-` and `_` count as one place in all. What differs in digits only is a sibling.
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
    fn a_typing_error_is_similar_and_another_name_is_not() {
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
