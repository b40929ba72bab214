//! Invalid values. Each row contains a value, the expected error reason, and the fields that the error must name.

#![allow(clippy::too_many_lines, reason = "tables are long by repetition, not by branching")]

use models::Model;

const INTERFACE: &str = "config/linux/interfaces/v2/interface/";
const ARP: &str = "config/linux/l3/v2/arp/";
const ROUTE: &str = "config/linux/l3/v2/route/";
const CHAIN: &str = "config/linux/iptables/v2/rulechain/";
const ALLOCATION: &str = "config/netalloc/v1/ip/network/";

/// Checks that each value is rejected. Each row contains the instance name (the key without `prefix`), the value, the expected reason and the
/// expected fields.
fn check(prefix: &str, rows: &[(&str, &str, &str, &[&str])]) {
    for (name, value, reason, fields) in rows {
        let model = Model::decode(&format!("{prefix}{name}"), value.as_bytes()).unwrap_or_else(|error| panic!("{value}: {error}"));
        let Err(error) = model.validate() else {
            panic!("{value} was accepted")
        };
        assert_eq!(
            (error.reason, error.fields.as_slice()),
            (*reason, fields_of(fields).as_slice()),
            "{value}: {error}"
        );
    }
}

fn fields_of(fields: &[&str]) -> Vec<String> {
    fields.iter().map(|&field| field.to_owned()).collect()
}

#[test]
fn interfaces_invalid_for_their_type_are_rejected() {
    check(
        INTERFACE,
        &[
            ("a", r#"{"name":"a"}"#, "TypeMissing", &["type"]),
            ("a", r#"{"name":"a","type":77}"#, "UnknownEnumValue", &["type"]),
            (
                "a",
                r#"{"name":"a","type":"EXISTING","veth":{"peer_if_name":"b"}}"#,
                "LinkMismatch",
                &["link"],
            ),
            (
                "a",
                r#"{"name":"a","type":"EXISTING","namespace":{"type":"NSID","reference":"n"}}"#,
                "NamespaceNotSupported",
                &["namespace"],
            ),
            (
                "a",
                r#"{"name":"a","type":"EXISTING","link_only":true,"ip_addresses":["10.0.0.1/8","alloc:n"]}"#,
                "AllocReferenceNotSupported",
                &["type", "link_only", "ip_addresses[1]"],
            ),
            (
                "a",
                r#"{"name":"a","type":"LOOPBACK","tap":{"vpp_tap_if_name":"t"}}"#,
                "LinkMismatch",
                &["link"],
            ),
            (
                "a",
                r#"{"name":"a","type":"VRF_DEVICE","phys_address":"02:00:00:00:00:01","vrf_dev":{"routing_table":1}}"#,
                "MacAddressNotSupported",
                &["type", "phys_address"],
            ),
            (
                "a",
                r#"{"name":"a","type":"VRF_DEVICE","vrf_master_interface":"v","vrf_dev":{"routing_table":1}}"#,
                "VrfInsideVrf",
                &["type", "vrf_master_interface"],
            ),
            (
                "a",
                r#"{"name":"a","type":"DUMMY","drift_policy":7}"#,
                "UnknownEnumValue",
                &["drift_policy"],
            ),
            (
                "a",
                r#"{"name":"a","type":"LOOPBACK","adopt":true}"#,
                "AdoptNotSupported",
                &["type", "adopt"],
            ),
            (
                "a",
                r#"{"name":"a","type":"EXISTING","adopt":true}"#,
                "AdoptNotSupported",
                &["type", "adopt"],
            ),
            (
                "a",
                r#"{"name":"a","type":"TAP_TO_VPP","tap":{"vppTapIfName":"t"},"adopt":true}"#,
                "AdoptNotSupported",
                &["type", "adopt"],
            ),
            ("a", r#"{"name":"a","type":"VRF_DEVICE"}"#, "LinkMissing", &["link"]),
            (
                "a",
                r#"{"name":"a","type":"VRF_DEVICE","vrf_dev":{}}"#,
                "RoutingTableInvalid",
                &["routing_table"],
            ),
            (
                "a",
                r#"{"name":"a","type":"VRF_DEVICE","vrf_dev":{"routing_table":254}}"#,
                "RoutingTableInvalid",
                &["routing_table"],
            ),
            (
                "a",
                r#"{"name":"a","type":"DUMMY","vrf_dev":{"routing_table":1}}"#,
                "LinkMismatch",
                &["link"],
            ),
            ("a", r#"{"name":"a","type":"VETH"}"#, "LinkMissing", &["link"]),
            (
                "a",
                r#"{"name":"a","type":"VETH","tap":{"vpp_tap_if_name":"t"}}"#,
                "LinkMismatch",
                &["link"],
            ),
            ("a", r#"{"name":"a","type":"VETH","veth":{}}"#, "PeerMissing", &["peer_if_name"]),
            (
                "a",
                r#"{"name":"a","type":"VETH","veth":{"peer_if_name":"a"}}"#,
                "PeerIsSelf",
                &["peer_if_name"],
            ),
            (
                "a",
                r#"{"name":"a","type":"VETH","veth":{"peer_if_name":"b/vrf"}}"#,
                "NameReserved",
                &["peer_if_name"],
            ),
            (
                "a",
                r#"{"name":"a","type":"VETH","veth":{"peer_if_name":"b","tx_checksum_offloading":3}}"#,
                "UnknownEnumValue",
                &["tx_checksum_offloading"],
            ),
            ("a", r#"{"name":"a","type":"TAP_TO_VPP"}"#, "LinkMissing", &["link"]),
            (
                "a",
                r#"{"name":"a","type":"TAP_TO_VPP","tap":{}}"#,
                "TapReferenceMissing",
                &["vpp_tap_if_name"],
            ),
        ],
    );
}

#[test]
fn invalid_bridges_ports_and_vlans_are_rejected() {
    check(
        INTERFACE,
        &[
            ("a", r#"{"name":"a","type":"BRIDGE","vlan":{"id":1}}"#, "LinkMismatch", &["link"]),
            (
                "a",
                r#"{"name":"a","type":"BRIDGE","master_interface":"b"}"#,
                "PortNotSupported",
                &["type", "master_interface"],
            ),
            (
                "a",
                r#"{"name":"a","type":"BRIDGE","bridge":{"forward_delay_ms":1}}"#,
                "SettingOutOfRange",
                &["forward_delay_ms"],
            ),
            (
                "a",
                r#"{"name":"a","type":"BRIDGE","bridge":{"vlan_protocol":7}}"#,
                "UnknownEnumValue",
                &["vlan_protocol"],
            ),
            (
                "a",
                r#"{"name":"a","type":"BRIDGE","bridge":{"group_fwd_mask":1}}"#,
                "SettingOutOfRange",
                &["group_fwd_mask"],
            ),
            (
                "a",
                r#"{"name":"a","type":"BRIDGE","bridge":{"self_vlans":[{"vid":4095}]}}"#,
                "SettingOutOfRange",
                &["self_vlans[0].vid"],
            ),
            (
                "a",
                r#"{"name":"a","type":"DUMMY","master_interface":"a"}"#,
                "MasterIsSelf",
                &["master_interface"],
            ),
            (
                "a",
                r#"{"name":"a","type":"DUMMY","master_interface":"b","vrf_master_interface":"c"}"#,
                "TwoMasters",
                &["vrf_master_interface", "master_interface"],
            ),
            (
                "a",
                r#"{"name":"a","type":"DUMMY","bridge_port":{"hairpin":true}}"#,
                "MasterMissing",
                &["bridge_port", "master_interface"],
            ),
            (
                "a",
                r#"{"name":"a","type":"DUMMY","master_interface":"b","bridge_port":{"priority":64}}"#,
                "SettingOutOfRange",
                &["priority"],
            ),
            (
                "a",
                r#"{"name":"a","type":"DUMMY","master_interface":"b","bridge_port":{"vlans":[{"vid":5,"vid_end":9},{"vid":7}]}}"#,
                "VlanOverlap",
                &["vlans[1]"],
            ),
            (
                "a",
                r#"{"name":"a","type":"DUMMY","master_interface":"b","bridge_port":{"vlans":[{"vid":5,"pvid":true},{"vid":7,"pvid":true}]}}"#,
                "VlanPvidTwice",
                &["vlans[1].pvid"],
            ),
            (
                "a",
                r#"{"name":"a","type":"DUMMY","master_interface":"b","bridge_port":{"vlans":[{"vid":5,"vid_end":6,"pvid":true}]}}"#,
                "VlanPvidRange",
                &["vlans[0].pvid"],
            ),
            (
                "a",
                r#"{"name":"a","type":"DUMMY","master_interface":"b","bridge_port":{"vlans":[{"vid":9,"vid_end":5}]}}"#,
                "SettingOutOfRange",
                &["vlans[0].vid_end"],
            ),
            ("a", r#"{"name":"a","type":"VLAN"}"#, "LinkMissing", &["link"]),
            (
                "a",
                r#"{"name":"a","type":"VLAN","vlan":{"id":10}}"#,
                "ParentMissing",
                &["parent_if_name"],
            ),
            (
                "a",
                r#"{"name":"a","type":"VLAN","vlan":{"id":10,"parent_if_name":"a"}}"#,
                "ParentIsSelf",
                &["parent_if_name"],
            ),
            (
                "a",
                r#"{"name":"a","type":"VLAN","vlan":{"parent_if_name":"b"}}"#,
                "SettingMissing",
                &["id"],
            ),
            (
                "a",
                r#"{"name":"a","type":"VLAN","vlan":{"id":4095,"parent_if_name":"b"}}"#,
                "SettingOutOfRange",
                &["id"],
            ),
        ],
    );
}

#[test]
fn interfaces_with_invalid_names_or_namespaces_are_rejected() {
    let long = "x".repeat(101);
    let (peer, name) = ("p".repeat(100), "n".repeat(80));
    let host = "\"type\":\"DUMMY\",\"host_if_name\"";
    let row = |name: &str, rest: &str| format!(r#"{{"name":"{name}",{rest}}}"#);
    let namespace = |text: &str| row("a", &format!(r#""type":"DUMMY","namespace":{text}"#));
    let veth = format!(r#""type":"VETH","host_if_name":"h","veth":{{"peer_if_name":"{peer}"}}"#);
    let rows: Vec<(&str, String, &str, &[&str])> = vec![
        (&long, row(&long, r#""type":"DUMMY","host_if_name":"h""#), "NameTooLong", &["name"]),
        (&name, row(&name, &veth), "AliasTooLong", &["name", "peer_if_name"]),
        ("vrf", row("vrf", r#""type":"DUMMY""#), "NameReserved", &["name"]),
        ("a/address/b", row("a/address/b", r#""type":"DUMMY""#), "NameReserved", &["name"]),
        ("state/a", row("state/a", r#""type":"DUMMY""#), "NameReserved", &["name"]),
        ("host-name", row("host-name", r#""type":"DUMMY""#), "NameReserved", &["name"]),
        (
            "a/dest-address",
            row("a/dest-address", r#""type":"DUMMY""#),
            "NameReserved",
            &["name"],
        ),
        ("a/alloc:b", row("a/alloc:b", r#""type":"DUMMY""#), "NameReserved", &["name"]),
        ("<invalid>", row("<invalid>", r#""type":"DUMMY""#), "NameReserved", &["name"]),
        ("a/b", row("a//b", r#""type":"DUMMY","host_if_name":"h""#), "NameInvalid", &["name"]),
        ("b", row("a/../b", r#""type":"DUMMY","host_if_name":"h""#), "NameInvalid", &["name"]),
        ("a", row("./a", r#""type":"DUMMY","host_if_name":"h""#), "NameInvalid", &["name"]),
        (
            "a\u{1}",
            row("a\\u0001", r#""type":"DUMMY","host_if_name":"h""#),
            "NameInvalid",
            &["name"],
        ),
        ("a/b", row("a/b", r#""type":"DUMMY""#), "HostNameInvalid", &["name"]),
        (
            "sixteen-bytes-xx",
            row("sixteen-bytes-xx", r#""type":"DUMMY""#),
            "HostNameInvalid",
            &["name"],
        ),
        (
            "a",
            row("a", &format!(r#"{host}:"sixteen-bytes-xx""#)),
            "HostNameInvalid",
            &["host_if_name"],
        ),
        ("a", row("a", &format!(r#"{host}:"a b""#)), "HostNameInvalid", &["host_if_name"]),
        ("a", row("a", &format!(r#"{host}:"all""#)), "HostNameInvalid", &["host_if_name"]),
        ("default", row("default", r#""type":"DUMMY""#), "HostNameInvalid", &["name"]),
        ("a", row("a", &format!(r#"{host}:"..""#)), "HostNameInvalid", &["host_if_name"]),
        ("a", row("a", &format!(r#"{host}:"a:b""#)), "HostNameInvalid", &["host_if_name"]),
        ("a", row("a", &format!(r#"{host}:"a%d""#)), "HostNameInvalid", &["host_if_name"]),
        ("a", row("a", &format!(r#"{host}:"à""#)), "HostNameInvalid", &["host_if_name"]),
        ("a", row("a", &format!(r#"{host}:"lo""#)), "HostNameReserved", &["host_if_name"]),
        (
            "a",
            row("a", r#""type":"DUMMY","vrf_master_interface":"a""#),
            "VrfMasterIsSelf",
            &["vrf_master_interface"],
        ),
        ("a", namespace("{}"), "NamespaceUndefined", &["namespace"]),
        ("a", namespace(r#"{"reference":"n"}"#), "NamespaceUndefined", &["namespace"]),
        ("a", namespace(r#"{"type":"NSID"}"#), "NamespaceUndefined", &["namespace"]),
        (
            "a",
            namespace(r#"{"type":9,"reference":"n"}"#),
            "UnknownEnumValue",
            &["namespace.type"],
        ),
        (
            "a",
            namespace(r#"{"type":"NSID","reference":"a/b"}"#),
            "NamespaceReferenceInvalid",
            &["namespace.reference"],
        ),
        (
            "a",
            namespace(r#"{"type":"NSID","reference":".."}"#),
            "NamespaceReferenceInvalid",
            &["namespace.reference"],
        ),
        (
            "a",
            namespace(r#"{"type":"PID","reference":"0"}"#),
            "NamespaceReferenceInvalid",
            &["namespace.reference"],
        ),
        (
            "a",
            namespace(r#"{"type":"PID","reference":"-1"}"#),
            "NamespaceReferenceInvalid",
            &["namespace.reference"],
        ),
        (
            "a",
            namespace(r#"{"type":"PID","reference":"2147483648"}"#),
            "NamespaceReferenceInvalid",
            &["namespace.reference"],
        ),
        (
            "a",
            namespace(r#"{"type":"FD","reference":"run/netns/a"}"#),
            "NamespaceReferenceInvalid",
            &["namespace.reference"],
        ),
        (
            "a",
            namespace(r#"{"type":"FD","reference":"/a\u0000b"}"#),
            "NamespaceReferenceInvalid",
            &["namespace.reference"],
        ),
    ];
    let rows: Vec<_> = rows
        .iter()
        .map(|(name, value, reason, fields)| (*name, value.as_str(), *reason, *fields))
        .collect();
    check(INTERFACE, &rows);
}

#[test]
fn interfaces_with_invalid_addresses_or_mtus_are_rejected() {
    let dummy = |rest: &str| format!(r#"{{"name":"a","type":"DUMMY",{rest}}}"#);
    let rows: Vec<(String, &str, &[&str])> = vec![
        (dummy(r#""phys_address":"nonsense""#), "MacAddressInvalid", &["phys_address"]),
        (
            dummy(r#""phys_address":"00:00:00:00:00:00""#),
            "MacAddressNotUnicast",
            &["phys_address"],
        ),
        (
            dummy(r#""phys_address":"01-00-5e-00-00-01""#),
            "MacAddressNotUnicast",
            &["phys_address"],
        ),
        (dummy(r#""mtu":67"#), "MtuOutOfRange", &["mtu"]),
        (dummy(r#""mtu":65536"#), "MtuOutOfRange", &["mtu"]),
        (
            dummy(r#""mtu":1000,"ip_addresses":["2001:db8::1/64"]"#),
            "MtuTooSmallForIpv6",
            &["mtu", "ip_addresses[0]"],
        ),
        (
            dummy(r#""ip_addresses":["10.0.0.1/8","nonsense"]"#),
            "IpAddressInvalid",
            &["ip_addresses[1]"],
        ),
        (dummy(r#""ip_addresses":[""]"#), "IpAddressInvalid", &["ip_addresses[0]"]),
        (
            dummy(r#""ip_addresses":["10.0.0.1/33"]"#),
            "PrefixLengthInvalid",
            &["ip_addresses[0]"],
        ),
        (
            dummy(r#""ip_addresses":["::ffff:10.0.0.1/128"]"#),
            "Ipv4MappedAddress",
            &["ip_addresses[0]"],
        ),
        (
            dummy(r#""ip_addresses":["0.0.0.0/0"]"#),
            "IpAddressNotUnicast",
            &["ip_addresses[0]"],
        ),
        (
            dummy(r#""ip_addresses":["ff02::1/64"]"#),
            "IpAddressNotUnicast",
            &["ip_addresses[0]"],
        ),
        (
            dummy(r#""ip_addresses":["10.0.0.1/8","::1/128"]"#),
            "IpAddressIsLoopback",
            &["ip_addresses[1]"],
        ),
        (
            dummy(r#""ip_addresses":["10.0.0.1/8","10.0.0.2/8","10.0.0.1/8"]"#),
            "DuplicateAddress",
            &["ip_addresses[2]"],
        ),
        (
            dummy(r#""ip_addresses":["10.0.0.1","10.0.0.1/32"]"#),
            "DuplicateAddress",
            &["ip_addresses[1]"],
        ),
        (
            dummy(r#""ip_addresses":["2001:DB8::1/64","2001:db8:0::1/128"]"#),
            "DuplicateAddress",
            &["ip_addresses[1]"],
        ),
        (
            dummy(r#""ip_addresses":["alloc:n","alloc:n/a"]"#),
            "DuplicateAddress",
            &["ip_addresses[1]"],
        ),
        (
            dummy(r#""ip_addresses":["alloc:n/b"]"#),
            "AllocReferenceInvalid",
            &["ip_addresses[0]"],
        ),
        (
            dummy(r#""ip_addresses":["alloc:n/GW"]"#),
            "AllocReferenceInvalid",
            &["ip_addresses[0]"],
        ),
        (dummy(r#""ip_addresses":["alloc:"]"#), "AllocReferenceInvalid", &["ip_addresses[0]"]),
        (
            dummy(r#""ip_addresses":["alloc:.."]"#),
            "AllocReferenceInvalid",
            &["ip_addresses[0]"],
        ),
    ];
    let rows: Vec<_> = rows
        .iter()
        .map(|(value, reason, fields)| ("a", value.as_str(), *reason, *fields))
        .collect();
    check(INTERFACE, &rows);
}

#[test]
fn invalid_neighbors_routes_and_allocations_are_rejected() {
    check(
        ARP,
        &[
            (
                "10.0.0.1",
                r#"{"ip_address":"10.0.0.1","hw_address":"02:00:00:00:00:01"}"#,
                "InterfaceMissing",
                &["interface"],
            ),
            (
                "a/10.0.0.1",
                r#"{"interface":"a","ip_address":"10.0.0.1"}"#,
                "MacAddressMissing",
                &["hw_address"],
            ),
            (
                "a/10.0.0.1",
                r#"{"interface":"a","ip_address":"10.0.0.1","hw_address":"x"}"#,
                "MacAddressInvalid",
                &["hw_address"],
            ),
            (
                "a/x",
                r#"{"interface":"a","ip_address":"x","hw_address":"02:00:00:00:00:01"}"#,
                "IpAddressInvalid",
                &["ip_address"],
            ),
            (
                "a/alloc:n",
                r#"{"interface":"a","ip_address":"alloc:n","hw_address":"02:00:00:00:00:01"}"#,
                "AllocReferenceInvalid",
                &["ip_address"],
            ),
        ],
    );
    let row = |dst: &str, rest: &str| format!(r#"{{"outgoing_interface":"a","dst_network":"{dst}"{rest}}}"#);
    let rows: Vec<(&str, String, &str, &[&str])> = vec![
        (
            "10.0.0.0/8",
            r#"{"dst_network":"10.0.0.0/8"}"#.to_owned(),
            "InterfaceMissing",
            &["outgoing_interface"],
        ),
        ("10.0.0.0/8/a", row("10.0.0.0/8", r#","scope":9"#), "UnknownEnumValue", &["scope"]),
        (
            "10.0.0.0/8/a",
            row("10.0.0.0/8", r#","scope":"LINK","gw_addr":"10.0.0.1""#),
            "GatewayNotSupported",
            &["scope", "gw_addr"],
        ),
        ("<invalid>/0/a", row("nonsense", ""), "IpAddressInvalid", &["dst_network"]),
        ("<invalid>/0/a", row("", ""), "IpAddressInvalid", &["dst_network"]),
        ("alloc:n/a", row("alloc:n", ""), "AllocReferenceInvalid", &["dst_network"]),
        ("alloc:n/x/y/a", row("alloc:n/x//y", ""), "AllocReferenceInvalid", &["dst_network"]),
        (
            "10.0.0.0/8/a",
            row("10.0.0.0/8", r#","gw_addr":"x""#),
            "IpAddressInvalid",
            &["gw_addr"],
        ),
        (
            "10.0.0.0/8/a",
            row("10.0.0.0/8", r#","gw_addr":"10.0.0.1/8""#),
            "IpAddressInvalid",
            &["gw_addr"],
        ),
        (
            "10.0.0.0/8/a",
            row("10.0.0.0/8", r#","gw_addr":"2001:db8::1""#),
            "FamilyMismatch",
            &["dst_network", "gw_addr"],
        ),
        (
            "10.0.0.0/8/a",
            row("10.0.0.0/8", r#","gw_addr":"224.0.0.1""#),
            "IpAddressNotUnicast",
            &["gw_addr"],
        ),
        (
            "10.0.0.0/8/a",
            row("10.0.0.0/8", r#","gw_addr":"alloc:n""#),
            "AllocReferenceInvalid",
            &["gw_addr"],
        ),
        (
            "10.0.0.0/8/a",
            row("10.0.0.0/8", r#","gw_addr":"alloc:n/b/GW""#),
            "AllocReferenceInvalid",
            &["gw_addr"],
        ),
    ];
    let rows: Vec<_> = rows
        .iter()
        .map(|(name, value, reason, fields)| (*name, value.as_str(), *reason, *fields))
        .collect();
    check(ROUTE, &rows);
    let row = |rest: &str| format!(r#"{{"network_name":"n","interface_name":"a"{rest}}}"#);
    let rows: Vec<(&str, String, &str, &[&str])> = vec![
        ("n/interface/a", row(""), "IpAddressInvalid", &["address"]),
        (
            "n/interface/a",
            row(r#","address":"10.0.0.1/24","gw":"x""#),
            "IpAddressInvalid",
            &["gw"],
        ),
        (
            "n/interface/a",
            row(r#","address":"10.0.0.1/24","gw":"2001:db8::1""#),
            "FamilyMismatch",
            &["address", "gw"],
        ),
        (
            "interface/a",
            r#"{"interface_name":"a","address":"10.0.0.1"}"#.to_owned(),
            "NameMissing",
            &["network_name"],
        ),
        (
            "a/b/interface/a",
            row(r#","address":"10.0.0.1""#).replace("\"n\"", "\"a/b\""),
            "NameInvalid",
            &["network_name"],
        ),
        (
            "n/interface",
            r#"{"network_name":"n","address":"10.0.0.1"}"#.to_owned(),
            "NameMissing",
            &["interface_name"],
        ),
    ];
    let rows: Vec<_> = rows
        .iter()
        .map(|(name, value, reason, fields)| (*name, value.as_str(), *reason, *fields))
        .collect();
    check(ALLOCATION, &rows);
}

#[test]
fn invalid_rule_chains_are_rejected() {
    let row = |rest: &str| format!(r#"{{"name":"c",{rest}}}"#);
    let rows: Vec<(String, &str, &[&str])> = vec![
        (row(r#""table":"NAT""#), "ChainNameMissing", &["chain_name"]),
        (row(r#""chain_name":"INPUT""#), "ChainNameInvalid", &["chain_name"]),
        (row(r#""chain_name":"-x""#), "ChainNameInvalid", &["chain_name"]),
        (row(r#""chain_name":"a b""#), "ChainNameInvalid", &["chain_name"]),
        (
            row(&format!(r#""chain_name":"{}""#, "x".repeat(29))),
            "ChainNameInvalid",
            &["chain_name"],
        ),
        (row(r#""chain_type":"PREROUTING""#), "ChainNotInTable", &["chain_type"]),
        (
            row(r#""table":"SECURITY","chain_type":"POSTROUTING""#),
            "ChainNotInTable",
            &["chain_type"],
        ),
        (row(r#""table":"NAT","chain_type":"INPUT""#), "ChainNotInTable", &["chain_type"]),
        (row(r#""table":"RAW","chain_type":"FORWARD""#), "ChainNotInTable", &["chain_type"]),
        (
            row(r#""table":"NAT","chain_type":"OUTPUT","default_policy":"DROP""#),
            "PolicyNotSupported",
            &["default_policy"],
        ),
        (
            row(r#""chain_name":"x","default_policy":"DROP""#),
            "PolicyNotSupported",
            &["default_policy"],
        ),
        (
            row(r#""chain_type":"INPUT","default_policy":"RETURN""#),
            "PolicyRefusedByKernel",
            &["default_policy"],
        ),
        (row(r#""chain_type":"INPUT","protocol":2"#), "UnknownEnumValue", &["protocol"]),
        (row(r#""chain_type":"INPUT","table":5"#), "UnknownEnumValue", &["table"]),
        (row(r#""chain_type":6"#), "UnknownEnumValue", &["chain_type"]),
        (
            row(r#""chain_type":"INPUT","default_policy":5"#),
            "UnknownEnumValue",
            &["default_policy"],
        ),
        (row(r#""chain_type":"INPUT","rules":["-j DROP"," "]"#), "RuleEmpty", &["rules[1]"]),
        (
            row(r#""chain_type":"INPUT","rules":["-j DROP\n-F INPUT"]"#),
            "RuleInvalid",
            &["rules[0]"],
        ),
        (
            row(r#""chain_type":"INPUT","interfaces":["a","b//c"]"#),
            "NameInvalid",
            &["interfaces[1]"],
        ),
        (
            row(r#""chain_type":"INPUT","namespace":{"type":"NSID"}"#),
            "NamespaceUndefined",
            &["namespace"],
        ),
    ];
    let rows: Vec<_> = rows
        .iter()
        .map(|(value, reason, fields)| ("c", value.as_str(), *reason, *fields))
        .collect();
    check(CHAIN, &rows);
}

#[test]
fn missing_name_error_has_the_text_of_vpp_agent() {
    let interface = models::proto::ligato::linux::interfaces::Interface::default();
    let error = Model::from(interface).validate().expect_err("a missing name must be rejected");
    assert_eq!(
        (error.reason, error.message.as_str()),
        ("NameMissing", "Linux interface defined without logical name")
    );
}
