//! Live tests of routes and neighbours: connected routes of addresses, reachable gateways, and values that the kernel would not
//! keep.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::{
    on_both_stores,
    support::{
        agent::LOG,
        bench::Bench,
        command::{ip, ip_in},
        config::{Interface, Reference},
        monitor::Monitor,
    },
};

const GATEWAY_ROUTE: &str = "linux/l3/v2/route/10.72.0.0/16/left";

fn netns() -> PathBuf {
    Reference::named("layer3-left").path()
}

fn left() -> Interface {
    Interface::veth("left", "right", Reference::named("layer3-left")).host_name("eth0")
}

/// Applies a veth pair whose left end has these addresses.
async fn pair(bench: &mut Bench, addresses: &[&str]) {
    bench.start_agent().await;
    let right = Interface::veth("right", "left", Reference::named("layer3-right")).host_name("eth0");
    let left = addresses.iter().fold(left(), |left, address| left.address(address));
    for end in [&left, &right] {
        bench.put(&end.key(), end.json().to_string()).await;
    }
    for end in [&left, &right] {
        bench.until_state(&end.key(), "CONFIGURED").await;
    }
}

async fn put_route(bench: &Bench, key: &str, value: Value) {
    bench.put(key, value.to_string()).await;
}

fn route(destination: &str, gateway: &str) -> Value {
    json!({"outgoing_interface": "left", "scope": "GLOBAL", "dst_network": destination, "gw_addr": gateway})
}

/// Returns the routes of one family, as `ip` shows them.
fn shown(family: &str) -> String {
    ip_in(&netns(), &format!("{family} route show table all"))
}

/// Returns true if the connected and local routes of the agent's addresses and the route through the gateway exist.
fn is_whole() -> bool {
    let (ipv4, ipv6) = (shown("-4"), shown("-6"));
    let local = "local 10.71.0.1 dev eth0 table local proto kernel";
    let all = [
        ipv4.contains("src 10.71.0.1"),
        ipv4.contains("10.71.0.0/24 dev eth0 proto kernel scope link"),
        ipv4.contains(local),
        ipv4.contains("10.72.0.0/16 via 10.71.0.2 dev eth0"),
        ipv6.contains("fd00:71::/64 dev eth0 proto kernel"),
    ];
    all.iter().all(|found| *found)
}

/// `ip route flush` removes the connected and local routes of an address, but not the address. The agent restores these routes.
async fn deleted_routes_of_an_address_are_restored(mut bench: Bench) {
    const ADDRESSES: [&str; 3] = ["10.71.0.1/24", "10.71.0.3/24", "fd00:71::1/64"];
    pair(&mut bench, &ADDRESSES).await;
    put_route(&bench, GATEWAY_ROUTE, route("10.72.0.0/16", "10.71.0.2")).await;
    bench.until_state(GATEWAY_ROUTE, "CONFIGURED").await;
    assert!(is_whole(), "{}{}", shown("-4"), shown("-6"));
    let link = ip_in(&netns(), "-o link show eth0");
    let mut changes = Monitor::open(&netns());
    for damage in [
        "route flush dev eth0",
        "-6 route flush dev eth0 proto kernel",
        "route del 10.71.0.0/24 dev eth0",
        "route del local 10.71.0.1 dev eth0 table local",
    ] {
        ip_in(&netns(), damage);
        assert_ne!(changes.changes(), Vec::<String>::new(), "{damage} has no effect");
        bench.until_true(&format!("the damage by `{damage}` is repaired"), is_whole).await;
        bench.until_state(GATEWAY_ROUTE, "CONFIGURED").await;
        // Put the value again, so that the next damage is not considered contention.
        let left = ADDRESSES.iter().fold(left(), |left, address| left.address(address));
        bench.put(&left.key(), left.json().to_string()).await;
    }
    let log = std::fs::read_to_string(LOG).expect("read the log of the agent");
    assert!(!log.contains("ENETUNREACH"), "the route must not be added too early:\n{log}");
    assert_eq!(ip_in(&netns(), "-o link show eth0"), link, "the link must not be created again");

    bench.stop_agent().await;
    ip_in(&netns(), "route flush dev eth0");
    ip_in(&netns(), "-6 route flush dev eth0 proto kernel");
    bench.start_agent().await;
    bench.until_true("the damage from before the start is repaired", is_whole).await;
    bench.stop_agent().await;
}
on_both_stores!(deleted_routes_of_an_address_are_restored);

/// A gateway is reachable if its address is link-local, or in the subnet of any address of the link, even a foreign one.
async fn a_gateway_is_reachable_through_any_address_of_the_link(mut bench: Bench) {
    pair(&mut bench, &["fd00:72::1/64"]).await;
    let default = "linux/l3/v2/route/::/0/left";
    put_route(&bench, default, route("::/0", "fe80::99")).await;
    bench.until_state(default, "CONFIGURED").await;
    assert!(shown("-6").contains("default via fe80::99 dev eth0"), "{}", shown("-6"));

    put_route(&bench, GATEWAY_ROUTE, route("10.72.0.0/16", "10.71.0.2")).await;
    bench.until_waiting_for(GATEWAY_ROUTE, &["gw-reachable"]).await;
    ip_in(&netns(), "address add 10.71.0.9/24 dev eth0");
    bench.until_state(GATEWAY_ROUTE, "CONFIGURED").await;
    assert!(shown("-4").contains("10.72.0.0/16 via 10.71.0.2 dev eth0"), "{}", shown("-4"));
    ip_in(&netns(), "address del 10.71.0.9/24 dev eth0");
    bench.until_waiting_for(GATEWAY_ROUTE, &["gw-reachable"]).await;
    bench.stop_agent().await;
}
on_both_stores!(a_gateway_is_reachable_through_any_address_of_the_link);

/// A foreign address on the link is enough for a route. If the link has no address, the status of the route reports that.
async fn an_interface_has_an_address_if_its_link_has_one(mut bench: Bench) {
    pair(&mut bench, &[]).await;
    put_route(&bench, GATEWAY_ROUTE, route("10.72.0.0/16", "10.71.0.2")).await;
    let waiting = ["gw-reachable", "outgoing-interface-has-ip-address"];
    bench.until_waiting_for(GATEWAY_ROUTE, &waiting).await;
    ip_in(&netns(), "address add 10.71.0.9/24 dev eth0");
    bench.until_state(GATEWAY_ROUTE, "CONFIGURED").await;

    let mut changes = Monitor::open(&netns());
    bench.kill_agent().await;
    let before = bench.start_agent().await;
    bench
        .until("the route is configured by the new agent", |publication| {
            publication.is_configured_since(GATEWAY_ROUTE, before)
        })
        .await;
    changes.assert_silent("a restart");
    bench.stop_agent().await;
}
on_both_stores!(an_interface_has_an_address_if_its_link_has_one);

/// The connected route belongs to the kernel. A value for the same route fails, even with `adopt`, and its status explains why.
async fn the_kernels_own_route_is_not_adopted(mut bench: Bench) {
    pair(&mut bench, &["10.71.0.1/24"]).await;
    let key = "linux/l3/v2/route/10.71.0.0/24/left";
    for adopt in [false, true] {
        let value = json!({"outgoing_interface": "left", "scope": "LINK", "dst_network": "10.71.0.0/24", "adopt": adopt});
        let revision = bench.put(key, value.to_string()).await;
        let refused = bench
            .until("the value fails", |publication| {
                let status = publication.of(key);
                status.is_some_and(|status| status.mod_revision == revision && status.state == "RETRYING")
            })
            .await;
        let message = &refused.of(key).expect("a status").message;
        assert!(
            message.contains("the kernel itself added this route for an address of that link"),
            "{message}"
        );
        assert!(!message.contains("adopt"), "{message}");
    }
    bench.delete(key).await;
    bench
        .until("the value is no longer published", |publication| publication.of(key).is_none())
        .await;
    assert!(shown("-4").contains("10.71.0.0/24 dev eth0 proto kernel"), "{}", shown("-4"));
    bench.stop_agent().await;
}
on_both_stores!(the_kernels_own_route_is_not_adopted);

/// ARP entries on links that resolve no neighbours are rejected before anything is written.
async fn a_neighbour_that_the_kernel_would_not_keep_is_refused(mut bench: Bench) {
    bench.start_agent().await;
    ip("tuntap add tun9 mode tun");
    ip("link set tun9 up");
    ip("address add 10.75.0.1/24 dev tun9");
    let lo = json!({"name": "lo", "type": "LOOPBACK", "enabled": true, "ip_addresses": ["10.76.0.1/32"]});
    let tun = json!({"name": "tun", "type": "EXISTING", "host_if_name": "tun9", "link_only": true, "enabled": true,
        "ip_addresses": ["10.75.0.1/24"]});
    for value in [&lo, &tun] {
        let name = value["name"].as_str().expect("a name");
        let key = format!("linux/interfaces/v2/interface/{name}");
        bench.put(&key, value.to_string()).await;
        bench.until_state(&key, "CONFIGURED").await;
    }
    let own = PathBuf::from("/proc/self/ns/net");
    let mut changes = Monitor::open(&own);
    for (interface, address, reason) in [
        ("lo", "10.255.0.9", "a single entry, 0.0.0.0"),
        ("tun", "10.75.0.9", "no MAC address"),
    ] {
        let key = format!("linux/l3/v2/arp/{interface}/{address}");
        let arp = json!({"interface": interface, "ip_address": address, "hw_address": "02:00:00:00:00:09"});
        bench.put(&key, arp.to_string()).await;
        let status = bench.until_state(&key, "INVALID").await;
        assert_eq!(status.reason, "NotSupportedByLink", "{status:?}");
        assert!(status.message.contains(reason), "{status:?}");
    }
    changes.assert_silent("the rejection of two ARP entries");
    bench.stop_agent().await;
}
on_both_stores!(a_neighbour_that_the_kernel_would_not_keep_is_refused);
