//! Desired values of the demo: two ends of a veth pair, a route and an ARP entry.
//!
//! The demo deliberately puts the values in the wrong order. Each value depends on a value that is put later, and the last value
//! depends on a process that starts after all puts.
//!
//! ```text
//!   named namespace "web"                         namespace of the process 1000
//!   eth0 10.10.0.1/24  ───────── veth ─────────  eth0 10.10.0.2/24, 10.20.0.1/16
//!   10.20.0.0/16 via 10.10.0.2
//! ```

use std::net::Ipv4Addr;

/// Microservice label of the demo's agent.
pub const LABEL: &str = "demo";
/// Key prefix of the desired values.
pub const CONFIG: &str = "/vnf-agent/demo/config/linux";
/// Key prefix of the published statuses.
pub const STATUS: &str = "/vnf-agent/demo/config-status/linux";
/// Key under which the agent publishes its health.
pub const HEALTH: &str = "/vnf-agent/demo/check/status/v1/agent";
/// Key under which the agent publishes the state of the link that the demo deletes.
pub const LINK_STATE: &str = "/vnf-agent/demo/status/linux/interfaces/v2/interface/web-eth0";
/// Key under which the agent publishes the status of the namespace `web`.
pub const NAMESPACE_STATUS: &str = "/vnf-agent/demo/status/linux/namespace/NSID/web";

/// Name of the namespace that the agent creates.
pub const NAMESPACE: &str = "web";
/// File of the namespace `web`.
pub const NAMESPACE_FILE: &str = "/run/netns/web";
/// Kernel name of the link that the demo deletes.
pub const LINK: &str = "eth0";
/// PID of the process whose namespace contains the second end of the veth pair.
pub const WORKLOAD_PID: u32 = 1000;
/// Address that is reachable from `web` only through the route.
pub const FAR_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 20, 0, 1);

/// Desired value of the demo.
pub struct DesiredValue {
    /// Description of the value, for the output.
    pub title: &'static str,
    /// Key without the prefix [`CONFIG`] or [`STATUS`].
    pub key: &'static str,
    /// Value in protobuf JSON.
    pub value: &'static str,
}

/// All desired values, in the order in which the demo puts them.
pub const DESIRED: [DesiredValue; 4] = [
    DesiredValue {
        title: "a route",
        key: "/l3/v2/route/10.20.0.0/16/web-eth0",
        value: r#"{"outgoing_interface":"web-eth0","dst_network":"10.20.0.0/16","gw_addr":"10.10.0.2"}"#,
    },
    DesiredValue {
        title: "an ARP entry",
        key: "/l3/v2/arp/web-eth0/10.10.0.2",
        value: r#"{"interface":"web-eth0","ip_address":"10.10.0.2","hw_address":"02:00:00:00:00:02"}"#,
    },
    DesiredValue {
        title: "one end of a veth pair, in a named namespace",
        key: "/interfaces/v2/interface/web-eth0",
        value: r#"{"name":"web-eth0","type":"VETH","enabled":true,"veth":{"peer_if_name":"db-eth0"},"host_if_name":"eth0","ip_addresses":["10.10.0.1/24"],"namespace":{"type":"NSID","reference":"web"}}"#,
    },
    DesiredValue {
        title: "the other end of the veth pair, in the namespace of a process",
        key: "/interfaces/v2/interface/db-eth0",
        value: r#"{"name":"db-eth0","type":"VETH","enabled":true,"veth":{"peer_if_name":"web-eth0"},"host_if_name":"eth0","ip_addresses":["10.10.0.2/24","10.20.0.1/16"],"phys_address":"02:00:00:00:00:02","namespace":{"type":"PID","reference":"1000"}}"#,
    },
];
