//! Invalid values. Each case contains an invalid value, the expected state and explanation, and the correction.
//!
//! No case may become CONFIGURED before it is corrected.

use serde_json::{Value, json};

use super::{FAR, NEAR};
use crate::support::config::{Interface, Reference};

/// The way to correct an invalid value.
pub enum Correction {
    /// Put a valid value under the same key.
    Put(Box<Interface>),
    /// Delete the key. Either no value is valid under this key, or a valid value would need other values.
    Delete,
}

/// An invalid value, the status that it must get, and its correction.
pub struct Case {
    /// Name of the fault, for messages.
    pub name: String,
    /// Key after `config/`.
    pub key: String,
    /// The invalid value.
    pub value: Vec<u8>,
    /// State that the value must get.
    pub state: &'static str,
    /// Text that the explanation must contain, in lower case.
    pub says: &'static str,
    /// The way to correct the value.
    pub correction: Correction,
    /// Peer of the veth end that the corrected value describes. The value of the peer is valid.
    pub peer: Option<Interface>,
}

/// Returns all invalid values, each with its own key.
pub fn all() -> Vec<Case> {
    let mut cases = Vec::new();
    undecodable(&mut cases);
    wrong_members(&mut cases);
    names(&mut cases);
    addresses(&mut cases);
    links(&mut cases);
    namespaces(&mut cases);
    keys(&mut cases);
    routes(&mut cases);
    neighbours(&mut cases);
    cases
}

/// Returns the valid interface on which case `number` is based, and its peer.
fn good(number: usize) -> (Interface, Interface) {
    let (name, peer) = (format!("case{number}"), format!("case{number}-peer"));
    let interface = Interface::veth(&name, &peer, Reference::named(NEAR)).host_name(&format!("n{number}"));
    (
        interface,
        Interface::veth(&peer, &name, Reference::named(FAR)).host_name(&format!("f{number}")),
    )
}

/// Adds a case with invalid text or binary data under the key of an interface.
fn raw(cases: &mut Vec<Case>, name: &str, value: impl Fn(&Interface) -> Vec<u8>) {
    let (interface, peer) = good(cases.len());
    let value = value(&interface);
    let case = Case {
        name: name.to_owned(),
        key: interface.key(),
        value,
        state: "INVALID",
        says: "",
        correction: Correction::Put(Box::new(interface)),
        peer: Some(peer),
    };
    cases.push(case);
}

/// Adds a case with the value of an interface in which some members are replaced (`null` removes a member).
fn with(cases: &mut Vec<Case>, name: &str, says: &'static str, members: Value) {
    raw(cases, name, |interface| {
        let mut value = interface.json();
        for (member, replacement) in members.as_object().into_iter().flatten() {
            value[member] = replacement.clone();
        }
        value.to_string().into_bytes()
    });
    if let Some(case) = cases.last_mut() {
        case.says = says;
    }
}

/// Adds a case with a value under a key for which no value is valid.
fn under(cases: &mut Vec<Case>, name: &str, key: &str, says: &'static str, value: Value) {
    let value = value.to_string().into_bytes();
    cases.push(Case {
        name: name.to_owned(),
        key: key.to_owned(),
        value,
        state: "INVALID",
        says,
        correction: Correction::Delete,
        peer: None,
    });
}

fn undecodable(cases: &mut Vec<Case>) {
    raw(cases, "text that is no JSON", |_| b"veth1 please".to_vec());
    raw(cases, "an empty value", |_| Vec::new());
    raw(cases, "JSON that ends in the middle", |interface| {
        interface.json().to_string().as_bytes()[..20].to_vec()
    });
    raw(cases, "JSON followed by more", |interface| {
        format!("{} {{}}", interface.json()).into_bytes()
    });
    raw(cases, "a JSON array", |_| b"[]".to_vec());
    raw(cases, "a JSON string", |_| b"\"VETH\"".to_vec());
    raw(cases, "a JSON number", |_| b"7".to_vec());
    raw(cases, "JSON null", |_| b"null".to_vec());
    raw(cases, "protobuf that ends in the middle", |_| vec![0x0a, 0x20, b'c', b'a']);
    raw(cases, "protobuf with an impossible wire type", |_| vec![0x0f, 0x01]);
    raw(cases, "bytes that are neither", |_| vec![0xff; 64]);
    raw(cases, "text that is no UTF-8", |_| b"{\"name\":\"\xc3\x28\"}".to_vec());
    raw(cases, "JSON nested too deep", |_| {
        [b"[".repeat(100_000), b"]".repeat(100_000)].concat()
    });
    raw(cases, "a member given twice", |interface| {
        format!(
            r#"{{"name":"{0}","name":"{0}","type":"VETH","veth":{{"peer_if_name":"{0}-peer"}}}}"#,
            interface.name
        )
        .into_bytes()
    });
}

fn wrong_members(cases: &mut Vec<Case>) {
    with(cases, "an unknown member", "hostname", json!({"hostname": "eth0"}));
    with(cases, "an unknown member inside a link", "peer", json!({"veth": {"peer": "x"}}));
    with(cases, "an unknown type by name", "type", json!({"type": "VETTH"}));
    with(cases, "an unknown type by number", "type", json!({"type": 99}));
    with(cases, "no type", "type", json!({"type": null}));
    with(cases, "text for a boolean", "enabled", json!({"enabled": "yes"}));
    with(cases, "text for a number", "mtu", json!({"mtu": "large"}));
    with(cases, "a negative number", "mtu", json!({"mtu": -1}));
    with(cases, "a number beyond 32 bits", "mtu", json!({"mtu": 4_294_967_296_u64}));
    with(cases, "a fraction", "mtu", json!({"mtu": 1500.5}));
    with(cases, "an MTU above the range", "mtu", json!({"mtu": 70_000}));
    with(cases, "an MTU below what IP needs", "mtu", json!({"mtu": 67}));
    with(cases, "text for a list", "ip_addresses", json!({"ip_addresses": "10.0.0.1/24"}));
    with(
        cases,
        "a number inside a list of texts",
        "ip_addresses",
        json!({"ip_addresses": [1]}),
    );
    with(cases, "text for a message", "namespace", json!({"namespace": "ns1"}));
    with(cases, "two members of one oneof", "", json!({"tap": {"vpp_tap_if_name": "t"}}));
}

fn names(cases: &mut Vec<Case>) {
    with(cases, "a name that is not the key's", "name", json!({"name": "somebody"}));
    with(cases, "no name", "name", json!({"name": null}));
    with(
        cases,
        "a host name of 16 bytes",
        "host_if_name",
        json!({"host_if_name": "abcdefghijklmnop"}),
    );
    with(cases, "a host name with a slash", "host_if_name", json!({"host_if_name": "a/b"}));
    with(cases, "a host name with a space", "host_if_name", json!({"host_if_name": "a b"}));
    with(cases, "a host name with a colon", "host_if_name", json!({"host_if_name": "a:b"}));
    with(cases, "a host name of one dot", "host_if_name", json!({"host_if_name": "."}));
    with(cases, "a host name of two dots", "host_if_name", json!({"host_if_name": ".."}));
    with(
        cases,
        "the host name of another interface in the namespace",
        "same0",
        json!({"host_if_name": "same0"}),
    );
    let long = "n".repeat(300);
    let key = format!("linux/interfaces/v2/interface/{long}");
    let value = json!({"name": long, "type": "VETH", "host_if_name": "long0", "veth": {"peer_if_name": "nobody"}});
    under(cases, "a name too long for an alias", &key, "name", value);
}

fn addresses(cases: &mut Vec<Case>) {
    for address in [
        "10.0.0.1/33",
        "10.0.0.1/-1",
        "10.0.0.1/",
        "10.0.0/24",
        "300.1.1.1/24",
        "10.0.0.1/24/24",
        "fd00::1/129",
        "fd00:::1/64",
        "banana",
        "",
    ] {
        with(
            cases,
            &format!("the address {address:?}"),
            "ip_addresses",
            json!({"ip_addresses": [address]}),
        );
    }
    for mac in [
        "02:00:00:00:00",
        "02:00:00:00:00:zz",
        "02:00:00:00:00:00:00",
        "banana",
        "01:00:5e:00:00:01",
        "00:00:00:00:00:00",
    ] {
        with(cases, &format!("the MAC {mac:?}"), "phys_address", json!({"phys_address": mac}));
    }
}

fn links(cases: &mut Vec<Case>) {
    with(cases, "a VETH without a link", "peer", json!({"veth": null}));
    with(cases, "a VETH without a peer", "peer", json!({"veth": {}}));
    let own_name = format!("case{}", cases.len());
    with(
        cases,
        "a VETH that is its own peer",
        "peer",
        json!({"veth": {"peer_if_name": own_name}}),
    );
    with(cases, "a LOOPBACK with a veth link", "", json!({"type": "LOOPBACK"}));
    with(cases, "a DUMMY with a veth link", "", json!({"type": "DUMMY"}));
    with(cases, "an EXISTING in a namespace", "", json!({"type": "EXISTING"}));
    with(
        cases,
        "a TAP_TO_VPP without a VPP interface",
        "",
        json!({"type": "TAP_TO_VPP", "veth": null, "tap": {}}),
    );
    let vrf = json!({"type": "VRF_DEVICE", "veth": null, "vrf_dev": {"routing_table": 10}, "phys_address": "02:00:00:00:00:01"});
    with(cases, "a VRF_DEVICE with a MAC", "phys_address", vrf);
}

fn namespaces(cases: &mut Vec<Case>) {
    let long = "n".repeat(300);
    for name in ["..", ".", "a/b", "/", "", long.as_str()] {
        let shown: String = name.chars().take(8).collect();
        with(
            cases,
            &format!("the namespace name {shown:?}"),
            "namespace",
            json!({"namespace": {"type": "NSID", "reference": name}}),
        );
    }
    with(
        cases,
        "a namespace without a type",
        "namespace",
        json!({"namespace": {"reference": "x"}}),
    );
    for pid in ["0", "-1", "abc", "", "99999999999", "1.5"] {
        with(
            cases,
            &format!("the PID {pid:?}"),
            "namespace",
            json!({"namespace": {"type": "PID", "reference": pid}}),
        );
    }
    for (name, path) in [
        ("a file that is no namespace", "/run/live/not-a-namespace"),
        ("a directory", "/run/live"),
        ("a device", "/dev/null"),
        ("a namespace of another kind", "/proc/1/ns/uts"),
        ("a relative path", "netns/x"),
    ] {
        with(
            cases,
            &format!("as namespace file {name}"),
            "",
            json!({"namespace": {"type": "FD", "reference": path}}),
        );
    }
    // The value is valid but waits for its file, because the file may be created later.
    with(
        cases,
        "as namespace file one that is missing",
        "",
        json!({"namespace": {"type": "FD", "reference": "/run/live/missing"}}),
    );
    if let Some(case) = cases.last_mut() {
        case.state = "PENDING";
    }
}

fn keys(cases: &mut Vec<Case>) {
    for key in [
        "linux/unknown/v1/thing/x",
        "linux/interfaces/v9/interface/x",
        "nonsense",
        "linux/l3/v2/arp/only-one-part",
    ] {
        under(cases, &format!("the key {key}"), key, "", json!({"name": "x"}));
    }
    under(
        cases,
        "an interface key without a name",
        "linux/interfaces/v2/interface/",
        "",
        json!({"type": "VETH"}),
    );
}

fn routes(cases: &mut Vec<Case>) {
    let route = |number: u32| format!("linux/l3/v2/route/10.{number}.0.0/16/good-near");
    let value = |number: u32, member: &str, replacement: Value| {
        let mut value = json!({
            "outgoing_interface": "good-near", "scope": "GLOBAL", "dst_network": format!("10.{number}.0.0/16"), "gw_addr": "10.31.0.2"
        });
        value[member] = replacement;
        value
    };
    under(
        cases,
        "a gateway that is no address",
        &route(90),
        "gw_addr",
        value(90, "gw_addr", json!("10.31.0.300")),
    );
    under(
        cases,
        "a gateway with a prefix length",
        &route(91),
        "gw_addr",
        value(91, "gw_addr", json!("10.31.0.2/24")),
    );
    under(
        cases,
        "a gateway of the other family",
        &route(92),
        "gw_addr",
        value(92, "gw_addr", json!("fd00::1")),
    );
    under(
        cases,
        "a route of scope LINK with a gateway",
        &route(93),
        "scope",
        value(93, "scope", json!("LINK")),
    );
    under(cases, "an unknown scope", &route(94), "scope", value(94, "scope", json!("GALAXY")));
    under(
        cases,
        "a route under the key of another",
        &route(95),
        "",
        value(96, "metric", json!(1)),
    );
    under(
        cases,
        "a metric that is text",
        &route(97),
        "metric",
        value(97, "metric", json!("cheap")),
    );
}

fn neighbours(cases: &mut Vec<Case>) {
    let arp = |last: u32| format!("linux/l3/v2/arp/good-near/10.31.0.{last}");
    let entry = |last: u32, mac: &str| json!({"interface": "good-near", "ip_address": format!("10.31.0.{last}"), "hw_address": mac});
    under(cases, "an ARP entry without a MAC", &arp(50), "hw_address", entry(50, ""));
    under(
        cases,
        "an ARP entry with a MAC that is none",
        &arp(51),
        "hw_address",
        entry(51, "02:00"),
    );
    under(
        cases,
        "an ARP entry under the key of another",
        &arp(52),
        "",
        entry(53, "02:00:00:00:00:53"),
    );
    let value = json!({"interface": "good-near", "ip_address": "10.31.0.x", "hw_address": "02:00:00:00:00:54"});
    under(
        cases,
        "an ARP entry with an address that is none",
        "linux/l3/v2/arp/good-near/10.31.0.x",
        "ip_address",
        value,
    );
}
