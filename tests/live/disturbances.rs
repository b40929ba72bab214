//! Table of disturbances: changes that people, programs in containers and other network managers make to a managed network.
//!
//! Contains the desired values, the disturbances, and the minimum number of writes that each repair needs. The table does not
//! depend on the implementation of the agent. The rows are in [`TABLE`].

use serde_json::{Value, json};

use crate::support::{
    config::{Arp, Config, Interface, Kind, Reference, Route},
    process::Holder,
};

/// Namespace in which an action is performed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// The agent's own namespace.
    Own,
    /// Namespace that the agent created, with one end of the pair, `lo` and a TAP.
    A,
    /// Foreign namespace with the other end of the pair.
    B,
    /// Namespace that the agent created and that a disturbance deletes.
    Made,
    /// Foreign namespace that a disturbance deletes and adds again.
    Found,
    /// Namespace of a process that the test has started.
    Process,
    /// Foreign namespace that contains no managed objects.
    Elsewhere,
}

/// An action that disturbs the network.
#[derive(Clone, Copy, Debug)]
pub enum Act {
    /// Lines that a single `ip -batch` process runs in a namespace, so that little time passes between them.
    Ip(Place, &'static [&'static str]),
    /// A program with its arguments, run in a namespace.
    Run(Place, &'static str),
}

/// A disturbance of the network, and the cost of its repair.
#[derive(Clone, Copy, Debug)]
pub struct Disturbance {
    /// Name of the disturbance, for messages.
    pub name: &'static str,
    /// Actions that cause the disturbance.
    pub acts: &'static [Act],
    /// Minimum number of writes for the repair. Netlink requests, offload switches and sysctls are counted.
    pub least: u64,
    /// Maximum number of writes allowed for the repair, and the reason why it exceeds the minimum.
    pub allowed: (u64, &'static str),
    /// Actions that undo changes to settings and objects that no value describes. The agent must not repair these changes.
    pub after: &'static [Act],
}

/// Returns the name of the namespace, or `None` if it has no name.
pub fn name_of(place: Place) -> Option<&'static str> {
    Some(match place {
        Place::A => "drift-a",
        Place::B => "drift-b",
        Place::Made => "drift-made",
        Place::Found => "drift-found",
        Place::Elsewhere => "drift-elsewhere",
        Place::Own | Place::Process => return None,
    })
}

/// Returns the desired values by key (after `config/`).
pub fn values(process: &Holder) -> Vec<(String, Value)> {
    let named = |place| Reference::named(name_of(place).unwrap_or_default());
    let pair = |left: (&str, Reference, &str, &str), right: (&str, Reference, &str, &str)| {
        let end = |(name, netns, host_name, mac): &(&str, Reference, &str, &str), peer: &str| {
            Interface::veth(name, peer, netns.clone()).host_name(host_name).mac(mac)
        };
        [end(&left, right.0), end(&right, left.0)]
    };
    let [left, right] = pair(
        ("left", named(Place::A), "eth0", "02:00:00:00:10:01"),
        ("right", named(Place::B), "eth0", "02:00:00:00:10:02"),
    );
    let [near, made] = pair(
        ("near", named(Place::A), "eth1", "02:00:00:00:20:01"),
        ("made", named(Place::Made), "eth0", "02:00:00:00:20:02"),
    );
    let [outer, found] = pair(
        ("outer", named(Place::B), "eth1", "02:00:00:00:30:01"),
        ("found", named(Place::Found), "eth0", "02:00:00:00:30:02"),
    );
    let [home, inside] = pair(
        ("home", Reference::Own, "home0", "02:00:00:00:40:01"),
        ("inside", Reference::Pid(process.pid()), "eth0", "02:00:00:00:40:02"),
    );
    let config = Config {
        interfaces: vec![
            right.address("10.11.0.2/24").address("fd11::2/64"),
            near.address("10.12.0.1/24"),
            made.address("10.12.0.2/24").address("fd12::2/64"),
            outer.address("10.13.0.1/24"),
            found.address("10.13.0.2/24"),
            home.address("10.14.0.1/24"),
            inside.address("10.14.0.2/24").address("fd14::2/64"),
            Interface::new("loop", Kind::Loopback, named(Place::A))
                .address("10.15.0.1/32")
                .address("fd15::1/128"),
            Interface::new("tap", Kind::Tap("tap7".to_owned()), named(Place::A))
                .host_name("app0")
                .address("10.16.0.1/24"),
            Interface::new("uplink", Kind::Existing, Reference::Own)
                .host_name("ext0")
                .address("10.17.0.1/24"),
        ],
        routes: vec![
            Route::new("left", "10.20.0.0/16", "10.11.0.2"),
            Route::new("left", "10.21.0.0/16", ""),
            Route::new("left", "10.22.0.0/16", "10.21.0.9"),
            Route {
                metric: 50,
                ..Route::new("left", "10.23.0.0/16", "10.11.0.2")
            },
            Route::new("left", "fd20::/64", "fd11::2"),
            Route::new("left", "fd21::/64", ""),
            Route::new("made", "10.26.0.0/16", "10.12.0.1"),
            Route::new("inside", "0.0.0.0/0", "10.14.0.1"),
        ],
        arps: vec![
            Arp::new("left", "10.11.0.2", "02:00:00:00:10:02"),
            Arp::new("left", "10.11.0.50", "02:00:00:00:10:50"),
            Arp::new("left", "fd11::2", "02:00:00:00:10:02"),
            Arp::new("inside", "10.14.0.1", "02:00:00:00:40:01"),
        ],
    };
    with_details(&config, left)
}

/// Returns all values of `config`, and three values with members that [`Config`] cannot express: the left end and two routes.
fn with_details(config: &Config, left: Interface) -> Vec<(String, Value)> {
    let parse = |text: String| serde_json::from_str(&text).unwrap_or_else(|error| panic!("{text}: {error}"));
    let mut values: Vec<(String, Value)> = config.entries().into_iter().map(|(key, text)| (key, parse(text))).collect();
    let left = left.mtu(1450).address("10.11.0.1/24").address("fd11::1/64");
    let mut without_offloading = left.json();
    without_offloading["veth"]["rx_checksum_offloading"] = json!("CHKSM_OFFLOAD_DISABLED");
    without_offloading["veth"]["tx_checksum_offloading"] = json!("CHKSM_OFFLOAD_DISABLED");
    values.push((left.key(), without_offloading));
    for (destination, scope) in [("10.24.0.0/16", "HOST"), ("10.25.0.0/16", "SITE")] {
        let route = Route::new("left", destination, "");
        let mut value = route.json();
        value["scope"] = json!(scope);
        values.push((route.key(), value));
    }
    values
}

const fn row(name: &'static str, least: u64, acts: &'static [Act]) -> Disturbance {
    Disturbance {
        name,
        acts,
        least,
        allowed: (least, ""),
        after: &[],
    }
}

/// Returns a disturbance whose repair may take more than the minimum number of writes.
const fn dear(name: &'static str, least: u64, allowed: (u64, &'static str), acts: &'static [Act]) -> Disturbance {
    Disturbance {
        allowed,
        ..row(name, least, acts)
    }
}

/// Returns a disturbance that the agent must leave alone, because it changes nothing that a value describes.
///
/// It also includes one change that the agent must repair. The repair shows that the agent has read the namespace.
const fn nobodys(name: &'static str, acts: &'static [Act], after: &'static [Act]) -> Disturbance {
    Disturbance {
        after,
        ..row(name, 1, acts)
    }
}

/// Reason for additional writes: one end of the old pair blocks the creation of the new pair. The agent finds this out only by
/// trying, and first removes the addresses of the end.
const OTHER_END: &str = "the other end blocks the new pair and is removed address by address";
/// Reason for additional writes: the agent deletes the objects in the old namespace one by one, because a process may keep that
/// namespace alive.
const OLD_NAMESPACE: &str = "the old namespace is emptied first";

use Act::{Ip, Run};
use Place::{A, B, Own, Process};

/// All disturbances.
#[rustfmt::skip]
pub const TABLE: &[Disturbance] = &[
    // Disturbances of links.
    row("veth end deleted", 20, &[Ip(A, &["link del eth0"])]),
    row("veth end deleted at its other end", 20, &[Ip(B, &["link del eth0"])]),
    row("veth end of a process deleted from within", 8, &[Ip(Process, &["link del eth0"])]),
    row("link renamed while up", 1, &[Ip(A, &["link set eth0 name stolen0"])]),
    dear("link renamed while down", 12, (13, "the name is set before the rest"), &[Ip(A, &["link set eth0 down", "link set eth0 name stolen0"])]),
    dear("link moved to a foreign namespace", 21, (24, OTHER_END), &[Ip(A, &["link set eth0 netns drift-elsewhere"])]),
    dear("link moved to a managed namespace", 21, (25, OTHER_END), &[Ip(A, &["link set eth0 netns drift-made name stray0"])]),
    row("link set down", 12, &[Ip(A, &["link set eth0 down"])]),
    row("link set down at its other end", 2, &[Ip(B, &["link set eth0 down"])]),
    row("link set down and up", 11, &[Ip(A, &["link set eth0 down", "link set eth0 up"])]),
    row("MTU changed", 1, &[Ip(A, &["link set eth0 mtu 1300"])]),
    row("MTU changed where the value gives none", 1, &[Ip(B, &["link set eth0 mtu 1300"])]),
    row("MAC changed", 4, &[Ip(A, &["link set eth0 address 02:00:00:00:66:66"])]),
    row("alias changed", 1, &[Ip(A, &["link set eth0 alias mine-now"])]),
    row("alias removed", 1, &[Run(A, "ip link set eth0 alias ")]),
    nobodys("put into a bridge", &[Ip(A, &["link add br0 type bridge", "link set eth0 master br0"])], &[Ip(A, &["link del br0"])]),
    row("receive checksum offloading switched on", 1, &[Run(A, "ethtool -K eth0 rx on")]),
    row("transmit checksum offloading switched on", 1, &[Run(A, "ethtool -K eth0 tx on")]),
    row("transmit checksum offloading switched off", 1, &[Run(B, "ethtool -K eth0 tx off")]),
    row("MTU, MAC and alias at once", 4, &[Ip(A, &["link set eth0 mtu 1300 address 02:00:00:00:66:66 alias x"])]),
    row("everything about a link at once", 15, &[Ip(A, &["link set eth0 down", "link set eth0 name stolen0 mtu 1300 address 02:00:00:00:66:66", "address flush dev stolen0"])]),
    // Disturbances of addresses.
    row("IPv4 address removed", 9, &[Ip(A, &["address del 10.11.0.1/24 dev eth0"])]),
    row("IPv6 address removed", 1, &[Ip(A, &["address del fd11::1/64 dev eth0"])]),
    row("all addresses removed", 10, &[Ip(A, &["address flush dev eth0"])]),
    Disturbance { after: &[Ip(A, &["address del 10.11.0.1/16 dev eth0"])],
        ..row("IPv4 address with another prefix length", 9, &[Ip(A, &["address del 10.11.0.1/24 dev eth0", "address add 10.11.0.1/16 dev eth0"])]) },
    Disturbance { after: &[Ip(A, &["address del 10.11.0.1/24 dev eth1"])],
        ..row("IPv4 address moved to another link", 9, &[Ip(A, &["address del 10.11.0.1/24 dev eth0", "address add 10.11.0.1/24 dev eth1"])]) },
    row("IPv6 disabled on the link", 6, &[Run(A, "sysctl -qw net.ipv6.conf.eth0.disable_ipv6=1")]),
    row("IPv6 disabled on the link and enabled", 4, &[Run(A, "sysctl -qw net.ipv6.conf.eth0.disable_ipv6=1 net.ipv6.conf.eth0.disable_ipv6=0")]),
    row("IPv4 address removed by a process", 3, &[Ip(Process, &["address del 10.14.0.2/24 dev eth0"])]),
    row("address of lo removed", 1, &[Ip(A, &["address del 10.15.0.1/32 dev lo"])]),
    row("IPv6 address of lo removed", 1, &[Ip(A, &["address del fd15::1/128 dev lo"])]),
    row("lo set down", 2, &[Ip(A, &["link set lo down"])]),
    row("alias of lo removed", 1, &[Run(A, "ip link set lo alias ")]),
    row("address of an existing interface removed", 1, &[Ip(Own, &["address del 10.17.0.1/24 dev ext0"])]),
    // Disturbances of routes.
    row("route by gateway removed", 1, &[Ip(A, &["route del 10.20.0.0/16"])]),
    row("route by gateway replaced by a foreign one", 2, &[Ip(A, &["route replace 10.20.0.0/16 via 10.11.0.99"])]),
    row("route by gateway replaced by a blackhole", 2, &[Ip(A, &["route replace blackhole 10.20.0.0/16"])]),
    row("route by gateway changed in place", 2, &[Ip(A, &["route change 10.20.0.0/16 via 10.11.0.99 proto 158"])]),
    row("route on link removed that another route's gateway needs", 1, &[Ip(A, &["route del 10.21.0.0/16"])]),
    row("route through that gateway removed", 1, &[Ip(A, &["route del 10.22.0.0/16"])]),
    row("route with a metric removed", 1, &[Ip(A, &["route del 10.23.0.0/16"])]),
    row("route of scope host removed", 1, &[Ip(A, &["route del 10.24.0.0/16"])]),
    row("route of scope site removed", 1, &[Ip(A, &["route del 10.25.0.0/16"])]),
    row("IPv6 route by gateway removed", 1, &[Ip(A, &["route del fd20::/64"])]),
    row("IPv6 route by gateway replaced", 2, &[Ip(A, &["route replace fd20::/64 via fd11::99 dev eth0"])]),
    row("IPv6 route on link removed", 1, &[Ip(A, &["route del fd21::/64 dev eth0"])]),
    row("default route of a process removed", 1, &[Ip(Process, &["route del default"])]),
    row("all routes of the agent removed", 8, &[Run(A, "ip route flush proto 158"), Run(A, "ip -6 route flush proto 158")]),
    // Disturbances of neighbours.
    row("neighbour removed", 1, &[Ip(A, &["neighbour del 10.11.0.2 dev eth0"])]),
    row("neighbour with another MAC", 2, &[Ip(A, &["neighbour replace 10.11.0.2 lladdr 02:00:00:00:66:66 dev eth0 nud permanent"])]),
    row("neighbour no longer permanent", 2, &[Ip(A, &["neighbour replace 10.11.0.2 lladdr 02:00:00:00:10:02 dev eth0 nud stale"])]),
    row("neighbour replaced by a foreign one", 2, &[Ip(A, &["neighbour del 10.11.0.50 dev eth0", "neighbour add 10.11.0.50 lladdr 02:00:00:00:66:66 dev eth0 nud permanent"])]),
    row("IPv6 neighbour removed", 1, &[Ip(A, &["neighbour del fd11::2 dev eth0"])]),
    row("IPv6 neighbour with another MAC", 2, &[Ip(A, &["neighbour replace fd11::2 lladdr 02:00:00:00:66:66 dev eth0 nud permanent"])]),
    row("all neighbours removed", 3, &[Ip(A, &["neighbour flush dev eth0 nud permanent"])]),
    // Disturbances of a TAP.
    row("TAP set down", 1, &[Ip(A, &["link set app0 down"])]),
    row("TAP renamed", 1, &[Ip(A, &["link set app0 name app9"])]),
    row("TAP deleted and made again", 4, &[Ip(A, &["tuntap del mode tap name app0"]), Ip(Own, &["tuntap add mode tap name tap7"])]),
    // Disturbances of namespaces.
    dear("namespace of the agent deleted", 8, (14, OLD_NAMESPACE), &[Ip(Own, &["netns del drift-made"])]),
    dear("foreign namespace deleted and added again", 5, (9, OLD_NAMESPACE), &[Ip(Own, &["netns del drift-found", "netns add drift-found"])]),
    // Disturbances in the agent's own namespace.
    row("link in the own namespace deleted", 8, &[Ip(Own, &["link del home0"])]),
    row("link in the own namespace set down", 1, &[Ip(Own, &["link set home0 down"])]),
    // Changes to settings and objects that no value describes.
    nobodys("group, queue length and promiscuity", &[Ip(A, &["link set eth0 group 7 txqueuelen 500 promisc on mtu 1300"])],
        &[Ip(A, &["link set eth0 group 0 txqueuelen 1000 promisc off"])]),
    nobodys("foreign address", &[Ip(A, &["address add 10.66.0.1/24 dev eth0", "link set eth0 mtu 1300"])],
        &[Ip(A, &["address del 10.66.0.1/24 dev eth0"])]),
    nobodys("foreign route", &[Ip(A, &["route add 10.66.0.0/16 via 10.11.0.2", "link set eth0 mtu 1300"])],
        &[Ip(A, &["route del 10.66.0.0/16"])]),
    nobodys("foreign route beside the agent's, with another metric", &[Ip(A, &["route add 10.20.0.0/16 via 10.11.0.3 metric 9", "link set eth0 mtu 1300"])],
        &[Ip(A, &["route del 10.20.0.0/16 metric 9"])]),
    nobodys("foreign neighbour", &[Ip(A, &["neighbour add 10.11.0.66 lladdr 02:00:00:00:66:66 dev eth0 nud permanent", "link set eth0 mtu 1300"])],
        &[Ip(A, &["neighbour del 10.11.0.66 dev eth0"])]),
];
