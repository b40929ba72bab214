//! Unusual values that validation must accept.

use models::{
    Model,
    proto::ligato::linux::{
        interfaces::{Interface, interface::Type},
        l3::{Route, route::Scope},
    },
};

/// Keys (without `config/`) and values.
const VALUES: &[(&str, &str)] = &[
    (
        "linux/interfaces/v2/interface/a/b",
        r#"{"name":"a/b","type":"DUMMY","host_if_name":"exactly-15-byte"}"#,
    ),
    (
        "linux/interfaces/v2/interface/my if",
        r#"{"name":"my if","type":"LOOPBACK","mtu":65536,"enabled":true}"#,
    ),
    (
        "linux/interfaces/v2/interface/eth0",
        r#"{"name":"eth0","type":"EXISTING","link_only":true,"ip_addresses":["10.0.0.1/8"]}"#,
    ),
    (
        "linux/interfaces/v2/interface/v",
        r#"{"name":"v","type":"VRF_DEVICE","mtu":65575,"vrf_dev":{"routing_table":256}}"#,
    ),
    (
        "linux/interfaces/v2/interface/d",
        r#"{"name":"d","type":"DUMMY","mtu":68,"phys_address":"02-AA-bb-00-00-01","ip_addresses":["10.0.0.1/8","10.0.0.1/16","alloc:n","10.0.0.1"]}"#,
    ),
    (
        "linux/interfaces/v2/interface/t",
        r#"{"name":"t","type":"TAP_TO_VPP","namespace":{"type":4,"reference":"web"},"tap":{"vpp_tap_if_name":"tap1"}}"#,
    ),
    (
        "linux/interfaces/v2/interface/p",
        r#"{"name":"p","type":"VETH","mtu":65535,"namespace":{"type":"PID","reference":"1"},"veth":{"peer_if_name":"q"}}"#,
    ),
    (
        "linux/interfaces/v2/interface/f",
        r#"{"name":"f","type":"DUMMY","namespace":{"type":"FD","reference":"/proc/1/ns/net"},"vrf_master_interface":"v"}"#,
    ),
    (
        "linux/interfaces/v2/interface/g",
        r#"{"name":"g","type":"VETH","hostIfName":"eth0","veth":{"peerIfName":"h"},"adopt":true}"#,
    ),
    (
        "linux/interfaces/v2/interface/d",
        r#"{"name":"d","type":"DUMMY","driftPolicy":"REPORT"}"#,
    ),
    (
        "linux/l3/v2/route/10.2.0.0/16/a",
        r#"{"outgoing_interface":"a","dst_network":"10.2.0.0/16","drift_policy":"REPAIR"}"#,
    ),
    (
        "linux/l3/v2/arp/a/10.0.0.3",
        r#"{"interface":"a","ipAddress":"10.0.0.3","hwAddress":"02:00:00:00:00:01","adopt":true}"#,
    ),
    (
        "linux/l3/v2/route/10.1.0.0/16/a",
        r#"{"outgoingInterface":"a","dstNetwork":"10.1.0.0/16","adopt":true}"#,
    ),
    (
        "linux/l3/v2/arp/a/10.0.0.2/24",
        r#"{"interface":"a","ip_address":"10.0.0.2/24","hw_address":"03:bf:00:00:00:01"}"#,
    ),
    (
        "linux/l3/v2/arp/a/alloc:n/b/GW",
        r#"{"interface":"a","ip_address":"alloc:n/b/GW","hw_address":"02:00:00:00:00:01"}"#,
    ),
    (
        "linux/l3/v2/route/<invalid>/0/a",
        r#"{"outgoing_interface":"a","dst_network":"10.0.0.1"}"#,
    ),
    (
        "linux/l3/v2/route/0.0.0.0/0/a",
        r#"{"outgoing_interface":"a","dst_network":"0.0.0.0/0","gw_addr":"alloc:n/GW"}"#,
    ),
    (
        "linux/l3/v2/route/alloc:n/b/GW/a",
        r#"{"outgoing_interface":"a","scope":"LINK","dst_network":"alloc:n/b/GW"}"#,
    ),
    (
        "linux/l3/v2/route/2001:db8::/32/a",
        r#"{"outgoing_interface":"a","dst_network":"2001:DB8::1/32","gw_addr":"fe80::1"}"#,
    ),
    (
        "linux/iptables/v2/rulechain/c",
        r#"{"name":"c","table":"NAT","chain_name":"EXACTLY-28-BYTES-LONG-NAME-X"}"#,
    ),
    (
        "linux/iptables/v2/rulechain/m",
        r#"{"name":"m","protocol":1,"table":"MANGLE","chain_type":"PREROUTING"}"#,
    ),
    (
        "netalloc/v1/ip/network/n/interface/a/b",
        r#"{"network_name":"n","interface_name":"a/b","address":"2001:db8::1"}"#,
    ),
];

#[test]
fn unusual_values_are_valid() {
    for (key, value) in VALUES {
        let key = format!("config/{key}");
        let model = Model::decode(&key, value.as_bytes()).unwrap_or_else(|error| panic!("{key}: {error}"));
        assert_eq!(model.validate(), Ok(()), "{value}");
    }
}

#[test]
fn scope_of_a_route_defaults_by_its_gateway() {
    let route = |gw_addr: &str, scope: Scope| Route {
        gw_addr: gw_addr.into(),
        scope: scope.into(),
        ..Route::default()
    };
    assert_eq!(route("10.0.0.1", Scope::Undefined).effective_scope(), Scope::Global);
    assert_eq!(route("alloc:n/GW", Scope::Undefined).effective_scope(), Scope::Global);
    assert_eq!(route("", Scope::Undefined).effective_scope(), Scope::Link);
    assert_eq!(route("0.0.0.0", Scope::Undefined).effective_scope(), Scope::Link);
    assert_eq!(route("10.0.0.1", Scope::Site).effective_scope(), Scope::Site);
}

#[test]
fn kernel_name_depends_on_the_type() {
    let named = |kind: Type, host_if_name: &str| {
        let interface = Interface {
            name: "logical".into(),
            r#type: kind.into(),
            host_if_name: host_if_name.into(),
            ..Interface::default()
        };
        interface.host_name().to_owned()
    };
    assert_eq!(named(Type::Dummy, "eth0"), "eth0");
    assert_eq!(named(Type::Dummy, ""), "logical");
    assert_eq!(named(Type::Loopback, "eth0"), "lo");
}
