//! Property tests with arbitrary input: decoding never panics, and parsing a printed key or value returns the same key or value.

use models::{
    Model,
    key::{AddressSource, TypedKey, join},
    proto::ligato::linux::{
        interfaces::{Interface, VethLink, interface},
        l3::Route,
        namespace::NetNamespace,
    },
};
use proptest::{prelude::*, test_runner::RngSeed};

/// Generates a logical name that validation accepts.
fn name() -> impl Strategy<Value = String> {
    proptest::string::string_regex("[a-zA-Z0-9_.:-]{1,8}(/[a-z0-9_-]{1,8}){0,2}")
        .expect("the pattern must be valid")
        .prop_filter("reserved", |name| models::validation::check_interface_name("name", name).is_ok())
}

/// Generates any text, but prefers characters with a special meaning in keys and JSON.
fn any_text() -> impl Strategy<Value = String> {
    proptest::string::string_regex("(\\PC|[\\x00-\\x20/\"\\\\{}<>:.]){0,12}").expect("the pattern must be valid")
}

fn any_key() -> impl Strategy<Value = String> {
    let words = prop::sample::select(vec![
        "linux",
        "interface",
        "config",
        "l3",
        "v2",
        "arp",
        "route",
        "address",
        "vrf",
        "state",
        "host-name",
        "vrf-host-name",
        "static",
        "UP",
        "alloc:n",
        "GW",
        "10.0.0.0",
        "8",
        "<invalid>",
        "0",
        "dest-address",
        "link-local-route",
        "netalloc",
        "neigh-gw",
        "network",
        "namespace",
        "OWN",
        "tap",
        "microservice",
        "interfaces",
        "v1",
        "ip",
        "",
        "..",
        "iptables",
        "rulechain",
    ]);
    prop_oneof![
        any_text(),
        prop::collection::vec(words, 0..9).prop_map(|words| words.join("/")),
        (
            prop::sample::select(models::registry::MODELS.iter().map(|model| model.key_prefix).collect::<Vec<_>>()),
            any_text()
        )
            .prop_map(|(prefix, rest)| format!("{prefix}{rest}")),
    ]
}

prop_compose! {
    fn any_interface()(
        name in any_text(), kind in -1..9i32, reference in prop::option::of((0..6i32, any_text())), host_if_name in any_text(),
        (enabled, link_only) in any::<(bool, bool)>(), ip_addresses in prop::collection::vec(any_text(), 0..3), mtu in any::<u32>(),
        peer in prop::option::of((any_text(), 0..4i32)),
    ) -> Interface {
        Interface {
            name, r#type: kind, host_if_name, enabled, link_only, ip_addresses, mtu,
            namespace: reference.map(|(kind, reference)| NetNamespace { r#type: kind, reference }),
            link: peer.map(|(peer_if_name, rx)| {
                interface::Link::Veth(VethLink { peer_if_name, rx_checksum_offloading: rx, ..VethLink::default() })
            }),
            ..Interface::default()
        }
    }
}

proptest! {
    // A fixed seed makes failures reproducible.
    #![proptest_config(ProptestConfig {
        cases: 512, rng_seed: RngSeed::Fixed(20_231_009), failure_persistence: None, ..ProptestConfig::default()
    })]

    #[test]
    fn key_of_valid_names_survives_printing_and_parsing(a in name(), b in name(), address in any::<std::net::IpAddr>(), length in 0..=32u8, up: bool) {
        let mapped = matches!(address, std::net::IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some());
        prop_assume!(!mapped);
        let network = format!("{address}/{length}");
        let keys = [
            TypedKey::Interface { name: a.clone() },
            TypedKey::Arp { interface: a.clone(), ip_address: address.to_string() },
            TypedKey::Arp { interface: a.clone(), ip_address: network.clone() },
            Model::from(Route { outgoing_interface: a.clone(), dst_network: network.clone(), ..Route::default() }).typed_key(),
            TypedKey::RuleChain { name: a.clone() },
            TypedKey::IpAllocation { network: "net1".to_owned(), interface: b.clone() },
            TypedKey::InterfaceState { name: a.clone(), up },
            TypedKey::interface_address(&a, &network, AddressSource::Static),
            TypedKey::interface_address(&a, &format!("alloc:net1/{b}"), AddressSource::Static),
            TypedKey::InterfaceVrf { interface: a.clone(), vrf: b.clone() },
            TypedKey::LinkLocalRoute { outgoing_interface: a.clone(), destination: network },
            TypedKey::NeighborGateway { network: "net1".to_owned(), interface: b },
        ];
        for key in keys {
            prop_assert_eq!(TypedKey::parse(key.to_key().as_str()), Ok(key));
        }
    }

    #[test]
    fn parsed_key_is_printed_as_the_same_text(text in any_key()) {
        if let Ok(key) = TypedKey::parse(&text) {
            let written = key.to_string();
            prop_assert!(written == text || matches!(key, TypedKey::InterfaceAddress { .. }), "{text:?} was printed as {written:?}");
            prop_assert_eq!(TypedKey::parse(&written), Ok(key));
        }
    }

    #[test]
    fn interface_survives_json_and_binary(message in any_interface()) {
        let model = Model::from(message);
        let _ = model.validate();
        prop_assert_eq!(Model::decode_message(model.kind(), model.to_json().as_bytes()), Ok(model.clone()));
        let bytes = model.to_protobuf();
        prop_assume!(!bytes.is_empty());
        prop_assert_eq!(Model::decode_message(model.kind(), &bytes), Ok(model));
    }

    #[test]
    fn decoding_arbitrary_bytes_does_not_panic(key in any_key(), value in prop::collection::vec(any::<u8>(), 0..64)) {
        match Model::decode(&key, &value) {
            Ok(model) => prop_assert_eq!(model.key().to_string(), key),
            Err(error) => prop_assert!(!error.message.is_empty()),
        }
    }

    #[test]
    fn decoding_damaged_values_does_not_panic(message in any_interface(), json: bool, at in any::<prop::sample::Index>(), byte: u8, cut: bool) {
        let model = Model::from(message);
        let mut bytes = if json { model.to_json().into_bytes() } else { model.to_protobuf() };
        if !bytes.is_empty() {
            let at = at.index(bytes.len());
            bytes[at] = byte;
            if cut {
                bytes.truncate(at);
            }
        }
        if let Ok(model) = Model::decode_message(model.kind(), &bytes) {
            let _ = model.validate();
            let _ = model.key();
        }
    }

    #[test]
    fn joined_path_is_clean(prefix in any_text(), name in any_text()) {
        let joined = join(&prefix, &name);
        prop_assert_eq!(join(&joined, ""), joined);
    }
}
