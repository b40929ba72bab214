//! What the demo asks for: two ends of a veth pair, a route and an ARP entry.
//!
//! Owns keys and values, in the order in which they are put: each needs something that comes after it. Must never know how they
//! come about. Start reading at [`WANTED`].
//!
//! ```text
//!   named namespace "web"                         namespace of the process 1000
//!   eth0 10.10.0.1/24  ───────── veth ─────────  eth0 10.10.0.2/24, 10.20.0.1/16
//!   10.20.0.0/16 via 10.10.0.2
//! ```

use std::net::Ipv4Addr;

/// Microservice label of the agent.
pub const LABEL: &str = "demo";
/// What all keys below begin with.
pub const CONFIG: &str = "/vnf-agent/demo/config/linux";
/// What the keys of their statuses begin with.
pub const STATUS: &str = "/vnf-agent/demo/config-status/linux";
/// Health of the agent.
pub const HEALTH: &str = "/vnf-agent/demo/check/status/v1/agent";
/// State of the interface that is destroyed by hand.
pub const LINK_STATE: &str = "/vnf-agent/demo/status/linux/interfaces/v2/interface/web-eth0";
/// Status of the namespace that the agent makes.
pub const NAMESPACE_STATUS: &str = "/vnf-agent/demo/status/linux/namespace/NSID/web";

/// Name of the namespace that the agent makes.
pub const NAMESPACE: &str = "web";
/// Its file.
pub const NAMESPACE_FILE: &str = "/run/netns/web";
/// Kernel name of the link that is destroyed by hand.
pub const LINK: &str = "eth0";
/// PID of the process whose namespace has the other end.
pub const WORKLOAD_PID: u32 = 1000;
/// Reached from `web` through the route only.
pub const FAR_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 20, 0, 1);

/// One thing to put.
pub struct Wanted {
    /// What it is, for the title.
    pub title: &'static str,
    /// Key after [`CONFIG`] and [`STATUS`].
    pub key: &'static str,
    /// Protobuf JSON.
    pub value: &'static str,
}

/// All that is asked for.
pub const WANTED: [Wanted; 4] = [
    Wanted {
        title: "a route",
        key: "/l3/v2/route/10.20.0.0/16/web-eth0",
        value: r#"{"outgoing_interface":"web-eth0","dst_network":"10.20.0.0/16","gw_addr":"10.10.0.2"}"#,
    },
    Wanted {
        title: "an ARP entry",
        key: "/l3/v2/arp/web-eth0/10.10.0.2",
        value: r#"{"interface":"web-eth0","ip_address":"10.10.0.2","hw_address":"02:00:00:00:00:02"}"#,
    },
    Wanted {
        title: "one end of a veth pair, in a named namespace",
        key: "/interfaces/v2/interface/web-eth0",
        value: r#"{"name":"web-eth0","type":"VETH","enabled":true,"veth":{"peer_if_name":"db-eth0"},"host_if_name":"eth0","ip_addresses":["10.10.0.1/24"],"namespace":{"type":"NSID","reference":"web"}}"#,
    },
    Wanted {
        title: "its other end, in the namespace of a process",
        key: "/interfaces/v2/interface/db-eth0",
        value: r#"{"name":"db-eth0","type":"VETH","enabled":true,"veth":{"peer_if_name":"web-eth0"},"host_if_name":"eth0","ip_addresses":["10.10.0.2/24","10.20.0.1/16"],"phys_address":"02:00:00:00:00:02","namespace":{"type":"PID","reference":"1000"}}"#,
    },
];
