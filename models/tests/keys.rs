//! Parses and prints keys. Some tables come from the tests of ligato vpp-agent.

#![allow(clippy::too_many_lines, reason = "tables are long by repetition, not by branching")]

use models::{
    key::{AddressSource, Key, KeyError, NamespaceType, RouteDestination, TypedKey},
    proto::ligato::linux::namespace::{NetNamespace, net_namespace::ReferenceType},
};

fn parse(text: &str) -> Result<TypedKey, KeyError> {
    TypedKey::parse(text)
}

/// Expected result for a key: interface, address, source, and `true` if the key is invalid. `None` if the key is not an address key.
type AddressRow = Option<(&'static str, &'static str, Option<AddressSource>, bool)>;

#[test]
fn address_keys_are_parsed_like_in_vpp_agent() {
    let (fixed, dhcp, alloc) = (
        Some(AddressSource::Static),
        Some(AddressSource::FromDhcp),
        Some(AddressSource::AllocRef),
    );
    let table: &[(&str, AddressRow)] = &[
        (
            "linux/interface/memif0/address/static/192.168.1.12/24",
            Some(("memif0", "192.168.1.12/24", fixed, false)),
        ),
        (
            "linux/interface/memif0/address/from_dhcp/192.168.1.12/24",
            Some(("memif0", "192.168.1.12/24", dhcp, false)),
        ),
        (
            "linux/interface/memif0/address/alloc_ref/alloc:net1",
            Some(("memif0", "alloc:net1", alloc, false)),
        ),
        (
            "linux/interface/tap1/address/alloc_ref/alloc:net1/IPV6_ADDR",
            Some(("tap1", "alloc:net1/IPV6_ADDR", alloc, false)),
        ),
        (
            "linux/interface/tap1/address/static/alloc:net1",
            Some(("tap1", "alloc:net1", alloc, false)),
        ),
        (
            "linux/interface/tap1/address/static/2001:db8:85a3::8a2e:370:7334/48",
            Some(("tap1", "2001:db8:85a3::8a2e:370:7334/48", fixed, false)),
        ),
        (
            "linux/interface/<invalid>/address/static/10.10.10.10/30",
            Some(("<invalid>", "10.10.10.10/30", fixed, false)),
        ),
        (
            "linux/interface/GigabitEthernet0/8/0/address/static/192.168.5.5/16",
            Some(("GigabitEthernet0/8/0", "192.168.5.5/16", fixed, false)),
        ),
        (
            "linux/interface//address/static/192.168.5.5/16",
            Some(("<invalid>", "192.168.5.5/16", fixed, true)),
        ),
        ("linux/interface/tap3/address/static/", Some(("tap3", "", fixed, true))),
        ("linux/interface/Gbe0/1/2/address/static/", Some(("Gbe0/1/2", "", fixed, true))),
        ("linux/config/v2/interface/GigabitEthernet0/8/0", None),
        ("linux/interface/veth0/vrf/blue", None),
        (
            "linux/interface/memif0/address/<invalid>/192.168.1.12/24",
            Some(("memif0", "", None, true)),
        ),
        ("linux/interface/memif0/address//192.168.1.12/24", Some(("memif0", "", None, true))),
        ("linux/interface/memif0/address/192.168.1.12/24", Some(("memif0", "", None, true))),
        // The interface name ends at the last path element `address`, and no address follows that element.
        (
            "linux/interface/memif0/address/static/x/address",
            Some(("memif0/address/static/x", "", None, true)),
        ),
        ("linux/interface/memif0/address", Some(("memif0", "", None, true))),
    ];
    for (key, expected) in table {
        let actual = match parse(key) {
            Ok(TypedKey::InterfaceAddress {
                interface,
                source,
                address,
            }) => Some((interface, address, Some(source), false)),
            Err(KeyError::InvalidAddressKey {
                interface,
                source_name,
                address,
                ..
            }) => Some((interface, address, source_name, true)),
            _ => None,
        };
        let expected = expected.map(|(interface, address, source, invalid)| (interface.to_owned(), address.to_owned(), source, invalid));
        assert_eq!(actual, expected, "{key}");
    }
}

#[test]
fn vrf_keys_are_parsed_like_in_vpp_agent() {
    let table = [
        ("linux/interface/veth0/vrf/blue", Some(("veth0", "blue", false))),
        ("linux/interface//vrf/blue", Some(("<invalid>", "blue", true))),
        ("linux/interface/veth0/vrf", Some(("veth0", "<invalid>", true))),
        ("linux/interface/tap1/address/static/2001:db8:85a3::8a2e:370:7334/48", None),
        ("linux/interface/tap1/address/static/192.168.1.1/32/vrf/blue", None),
    ];
    for (key, expected) in table {
        let actual = match parse(key) {
            Ok(TypedKey::InterfaceVrf { interface, vrf }) => Some((interface, vrf, false)),
            Err(KeyError::InvalidVrfKey { interface, vrf, .. }) => Some((interface, vrf, true)),
            _ => None,
        };
        assert_eq!(
            actual,
            expected.map(|(interface, vrf, invalid)| (interface.to_owned(), vrf.to_owned(), invalid)),
            "{key}"
        );
    }
}

#[test]
fn address_keys_are_printed_like_in_vpp_agent() {
    for (interface, address, source, key) in [
        (
            "memif1",
            "10.10.10.10/32",
            AddressSource::Undefined,
            "linux/interface/memif1/address/undefined_source/10.10.10.10/32",
        ),
        (
            "tap0",
            "invalid-addr",
            AddressSource::Static,
            "linux/interface/tap0/address/static/invalid-addr",
        ),
        ("tap1", "", AddressSource::Static, "linux/interface/tap1/address/static/"),
        (
            "memif0",
            "alloc:net1",
            AddressSource::Static,
            "linux/interface/memif0/address/alloc_ref/alloc:net1",
        ),
        (
            "",
            "10.10.10.10/32",
            AddressSource::Static,
            "linux/interface/<invalid>/address/static/10.10.10.10/32",
        ),
    ] {
        assert_eq!(TypedKey::interface_address(interface, address, source).to_string(), key);
    }
}

#[test]
fn route_key_has_the_network_without_host_bits() {
    for (dst_network, outgoing_interface, key) in [
        ("192.168.1.0/24", "memif1", "config/linux/l3/v2/route/192.168.1.0/24/memif1"),
        ("10.0.0.7/8", "veth1", "config/linux/l3/v2/route/10.0.0.0/8/veth1"),
        ("alloc:net1/memif2", "memif1", "config/linux/l3/v2/route/alloc:net1/memif2/memif1"),
        ("2001:DB8::1/32", "v", "config/linux/l3/v2/route/2001:db8::/32/v"),
        ("10.0.0.1", "v", "config/linux/l3/v2/route/<invalid>/0/v"),
        ("0.0.0.0/0", "a/b", "config/linux/l3/v2/route/0.0.0.0/0/a/b"),
    ] {
        let typed = TypedKey::Route {
            destination: RouteDestination::of(dst_network),
            outgoing_interface: outgoing_interface.to_owned(),
        };
        assert_eq!(typed.to_string(), key);
        assert_eq!(parse(key), Ok(typed));
    }
}

#[test]
fn every_kind_of_key_is_printed_and_parsed() {
    let text = str::to_owned;
    let fact = |reference_type, reference: &str| TypedKey::Namespace {
        reference_type,
        reference: text(reference),
    };
    let table = [
        (
            TypedKey::Interface { name: text("a/b") },
            "config/linux/interfaces/v2/interface/a/b",
        ),
        (
            TypedKey::Arp {
                interface: text("veth1"),
                ip_address: text("10.0.0.2"),
            },
            "config/linux/l3/v2/arp/veth1/10.0.0.2",
        ),
        (
            TypedKey::Arp {
                interface: text("a/b"),
                ip_address: text("2001:DB8::1/64"),
            },
            "config/linux/l3/v2/arp/a/b/2001:DB8::1/64",
        ),
        (
            TypedKey::Arp {
                interface: text("a/b"),
                ip_address: text("alloc:n/c/GW"),
            },
            "config/linux/l3/v2/arp/a/b/alloc:n/c/GW",
        ),
        (TypedKey::RuleChain { name: text("in1") }, "config/linux/iptables/v2/rulechain/in1"),
        (
            TypedKey::IpAllocation {
                network: text("net1"),
                interface: text("veth1"),
            },
            "config/netalloc/v1/ip/network/net1/interface/veth1",
        ),
        (
            TypedKey::HostInterface { host_name: text("eth0") },
            "linux/interface/host-name/eth0",
        ),
        (
            TypedKey::HostInterfaceAddress {
                host_name: text("eth0"),
                address: text("10.0.0.1/24"),
            },
            "linux/interface/host-name/eth0/address/10.0.0.1/24",
        ),
        (
            TypedKey::HostInterfaceVrf {
                host_name: text("eth0"),
                vrf_host_name: text("blue"),
            },
            "linux/interface/host-name/eth0/vrf-host-name/blue",
        ),
        (
            TypedKey::InterfaceState {
                name: text("veth1"),
                up: true,
            },
            "linux/interface/state/veth1/UP",
        ),
        (
            TypedKey::InterfaceState {
                name: text("a/b"),
                up: false,
            },
            "linux/interface/state/a/b/DOWN",
        ),
        (TypedKey::Microservice { label: text("web") }, "linux/microservice/web"),
        (
            TypedKey::LinkLocalRoute {
                outgoing_interface: text("memif0"),
                destination: text("192.168.1.12/24"),
            },
            "linux/link-local-route/memif0/dest-address/192.168.1.12/24",
        ),
        (
            TypedKey::NeighborGateway {
                network: text("net1"),
                interface: text("veth1"),
            },
            "netalloc/neigh-gw/network/net1/interface/veth1",
        ),
        (fact(NamespaceType::Nsid, "ns1"), "linux/namespace/NSID/ns1"),
        (fact(NamespaceType::Fd, "/run/netns/ns1"), "linux/namespace/FD//run/netns/ns1"),
        (fact(NamespaceType::Own, ""), "linux/namespace/OWN/"),
        (TypedKey::Tap { host_name: text("tap0") }, "linux/tap/tap0"),
    ];
    for (typed, key) in table {
        assert_eq!(typed.to_key(), Key::new(key));
        assert_eq!(parse(key), Ok(typed));
    }
}

#[test]
fn any_of_prefixes_match_their_keys() {
    let address = TypedKey::interface_address("a", "10.0.0.1/8", AddressSource::Static).to_string();
    assert!(address.starts_with(&TypedKey::any_address_of("a")));
    let route = TypedKey::LinkLocalRoute {
        outgoing_interface: "a".into(),
        destination: "10.0.0.0/8".into(),
    }
    .to_string();
    assert!(route.starts_with(&TypedKey::any_link_local_route_of("a")));
    let vrf = TypedKey::HostInterfaceVrf {
        host_name: "a".into(),
        vrf_host_name: "b".into(),
    }
    .to_string();
    assert!(vrf.starts_with(&TypedKey::any_host_vrf_of("a")));
    assert_eq!(TypedKey::any_host_vrf_of(""), "linux/interface/host-name/<invalid>/vrf-host-name/");
    let host_address = TypedKey::HostInterfaceAddress {
        host_name: "a".into(),
        address: "10.0.0.1/8".into(),
    }
    .to_string();
    assert!(host_address.starts_with(&TypedKey::any_host_address_of("a")));
}

#[test]
fn prefixes_and_fragments_are_not_keys() {
    for text in [
        "",
        "/",
        "config/",
        "config/linux/interfaces/v2/interface/",
        "config/linux/interfaces/v2/interface",
        "config/linux/l3/v2/arp/veth1",
        "config/linux/l3/v2/arp//10.0.0.1",
        "config/linux/l3/v2/arp/veth1/nonsense",
        "config/linux/l3/v2/route/10.0.0.0/8",
        "config/linux/l3/v2/route/10.0.0.0/8/",
        "config/linux/l3/v2/route/10.0.0.0/33/veth1",
        "config/linux/l3/v2/route/alloc:net1",
        "config/netalloc/v1/ip/network//interface/veth1",
        "config/netalloc/v1/ip/network/net1/interface/",
        "linux/interface/",
        "linux/interface/state/UP",
        "linux/interface/state/veth1/up",
        "linux/interface/state/address/static/10.0.0.1/8",
        "linux/interface/host-name/",
        "linux/interface/host-name/eth0/",
        "linux/interface/host-name/eth0/address/",
        "linux/interface/host-name/eth0/vrf-host-name/",
        "linux/interface/host-name/eth0/mtu/1500",
        "linux/link-local-route/a/dest-address/b/dest-address/c",
        "linux/link-local-route/a/",
        "linux/namespace/NSID/",
        "linux/namespace/OWN/x",
        "linux/namespace/nsid/x",
        "linux/tap/",
        "linux/microservice/",
        "netalloc/neigh-gw/network/net1",
    ] {
        assert!(parse(text).is_err(), "{text:?} was parsed as {:?}", parse(text));
    }
}

#[test]
fn non_canonical_key_error_has_the_canonical_key() {
    for (text, canonical) in [
        (
            "config/linux/l3/v2/route/10.0.0.7/8/veth1",
            "config/linux/l3/v2/route/10.0.0.0/8/veth1",
        ),
        (
            "config/linux/l3/v2/route/2001:DB8::/32/veth1",
            "config/linux/l3/v2/route/2001:db8::/32/veth1",
        ),
        (
            "config/linux/interfaces/v2/interface/a//b",
            "config/linux/interfaces/v2/interface/a/b",
        ),
        ("config/linux/interfaces/v2/interface/../x", "config/linux/interfaces/v2/x"),
    ] {
        assert_eq!(
            parse(text),
            Err(KeyError::NotCanonical {
                key: text.to_owned(),
                canonical: canonical.to_owned()
            })
        );
    }
}

#[test]
fn namespace_references_have_keys() {
    let key = |reference_type: ReferenceType, reference: &str| {
        let namespace = NetNamespace {
            r#type: reference_type.into(),
            reference: reference.to_owned(),
        };
        TypedKey::namespace_of(Some(&namespace)).map(|key| key.to_string())
    };
    assert_eq!(key(ReferenceType::Nsid, "ns1").as_deref(), Some("linux/namespace/NSID/ns1"));
    assert_eq!(key(ReferenceType::Pid, "1").as_deref(), Some("linux/namespace/PID/1"));
    assert_eq!(key(ReferenceType::Fd, "/run/x").as_deref(), Some("linux/namespace/FD//run/x"));
    assert_eq!(
        key(ReferenceType::Microservice, "web").as_deref(),
        Some("linux/namespace/MICROSERVICE/web")
    );
    assert_eq!(key(ReferenceType::Undefined, "x"), None);
    assert_eq!(
        TypedKey::namespace_of(None).map(|key| key.to_string()).as_deref(),
        Some("linux/namespace/OWN/")
    );
}
