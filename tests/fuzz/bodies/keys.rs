//! Fuzz target that parses any text as a key, as the names in a key, as a label, as an address and as a path. See [`run`].

use models::{
    address::{AllocReference, IpPrefix, MacAddress, canonical_text, contains, parse_ip_or_cidr},
    key::{AddressSource, RouteDestination, TypedKey, agent_prefix, check_label, config_key_of_status, join, status_key},
    model::key_of_item,
    registry::{MODELS, model_of_key},
    validation::{check_host_name, check_interface_name},
};
use netns_agent::sources::etcd::RawKey;

/// Uses the bytes as a key of the store and, if they are UTF-8, also as a label, as an address, as names and as paths.
///
/// # Panics
/// Panics if an invariant is violated.
pub fn run(bytes: &[u8]) {
    let raw = RawKey::from(bytes);
    assert_eq!(raw.as_bytes(), bytes);
    let shown = raw.to_string();
    let Ok(text) = raw.as_str() else {
        assert!(shown.is_ascii(), "what is no text is escaped");
        return;
    };
    assert_eq!(shown, text);
    a_key(text);
    a_label(text);
    an_address(text);
    let (first, second) = text.split_once('|').unwrap_or((text, "b"));
    names(first, second);
    paths(first, second);
}

/// Checks that a parsed key is written back as the same text, unless it is the key of an interface address.
fn a_key(text: &str) {
    match TypedKey::parse(text) {
        Ok(key) => {
            let written = key.to_key();
            assert!(
                written.as_str() == text || matches!(key, TypedKey::InterfaceAddress { .. }),
                "{text:?} is written {written:?}"
            );
            assert_eq!(TypedKey::parse(&written), Ok(key), "{text:?}");
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    if let Some(status) = status_key(text) {
        assert_eq!(config_key_of_status(&status).as_deref(), Some(text));
    }
    if let Some(model) = model_of_key(text) {
        assert!(text.starts_with(model.key_prefix) && status_key(text).is_some());
    }
}

/// Checks that a valid label is exactly one segment of the agent's prefix. Otherwise, the prefix of one agent could be the
/// beginning of another agent's prefix.
fn a_label(text: &str) {
    if check_label(text).is_ok() {
        let prefix = agent_prefix(text);
        assert_eq!(prefix.split('/').collect::<Vec<_>>(), ["", "vnf-agent", text, ""]);
        assert_eq!(
            format!("/{}/", join(&prefix, "")),
            prefix,
            "a client that joins paths comes to the same"
        );
    }
}

fn an_address(text: &str) {
    if let Ok(prefix) = parse_ip_or_cidr(text) {
        assert_eq!(prefix.to_string().parse(), Ok(IpPrefix { had_mask: true, ..prefix }));
        assert!(prefix.contains(prefix.address) && contains(prefix.network(), prefix.prefix_len, prefix.address));
        let canonical = canonical_text(text).expect("it was read");
        assert_eq!(canonical_text(&canonical).as_ref(), Ok(&canonical));
    }
    if let Ok(mac) = text.parse::<MacAddress>() {
        assert_eq!(mac.to_string().parse(), Ok(mac));
    }
    if let Ok(reference) = text.parse::<AllocReference>() {
        assert_eq!(reference.to_string().parse(), Ok(reference), "{text:?}");
    }
    let _ = check_host_name("host_if_name", text);
}

/// Checks that a key built from valid names is parsed back to the same names.
fn names(first: &str, second: &str) {
    if check_interface_name("name", first).is_err() {
        return;
    }
    let name = first.to_owned();
    let interface = TypedKey::Interface { name: name.clone() };
    let up = TypedKey::InterfaceState {
        name: name.clone(),
        up: true,
    };
    let mut keys = vec![interface.clone(), up];
    if parse_ip_or_cidr(second).is_ok() {
        keys.push(TypedKey::interface_address(first, second, AddressSource::Static));
        let destination = RouteDestination::of(second);
        keys.push(TypedKey::Arp {
            interface: name.clone(),
            ip_address: second.to_owned(),
        });
        keys.push(TypedKey::Route {
            destination,
            outgoing_interface: name.clone(),
        });
    }
    if check_interface_name("vrf", second).is_ok() {
        keys.push(TypedKey::InterfaceVrf {
            interface: name,
            vrf: second.to_owned(),
        });
    }
    for key in keys {
        assert_eq!(TypedKey::parse(&key.to_key()), Ok(key));
    }
    let item = key_of_item(MODELS[0].name, first).expect("the model exists");
    assert_eq!(TypedKey::parse(&item), Ok(interface));
}

/// Checks that a joined path has no empty segment and no trailing slash.
fn paths(first: &str, second: &str) {
    let joined = join(first, second);
    assert_eq!(join(&joined, ""), joined);
    assert!(!joined.contains("//") && !joined.ends_with('/'), "{joined:?}");
}
