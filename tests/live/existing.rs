//! EXISTING interfaces: links that somebody else made in the agent's own namespace.

use std::path::Path;

use serde_json::{Value, json};

use crate::{
    on_both_stores,
    support::{
        bench::{Bench, Revisions},
        command::ip,
        config::{Arp, Interface, Kind, Reference, Route},
        monitor::Monitor,
        settle,
    },
};

/// The agent's own namespace.
const OWN: &str = "/proc/self/ns/net";

/// Makes a pair of links that are up, and waits until the kernel has finished with them.
async fn make_pair(name: &str, peer: &str) {
    ip(&format!("link add {name} type veth peer name {peer}"));
    for link in [name, peer] {
        ip(&format!("link set {link} up"));
    }
    settle::until_quiet(&[OWN.into()]).await;
}

/// An EXISTING interface for a link of another name.
fn existing(name: &str, host_name: &str) -> Interface {
    Interface::new(name, Kind::Existing, Reference::Own).host_name(host_name)
}

/// The value with one more member.
fn with(mut value: Value, member: &str, content: Value) -> String {
    value[member] = content;
    value.to_string()
}

/// Restarts the agent three times, twice without warning: nothing may be written.
async fn assert_restarts_write_nothing(bench: &mut Bench, revisions: &Revisions) {
    settle::until_quiet(&[OWN.into()]).await;
    let mut monitor = Monitor::open(Path::new(OWN));
    for crash in [true, false, true] {
        match crash {
            true => bench.kill_agent().await,
            false => bench.stop_agent().await,
        }
        let before = bench.start_agent().await;
        bench.until_configured_since(revisions, before).await;
        monitor.assert_silent("restart with EXISTING interfaces");
    }
}

/// An address that is only expected meets the dependencies of routes and ARP entries from the first inspection on.
async fn a_restart_leaves_routes_and_arp_entries_of_a_link_only_interface_alone(mut bench: Bench) {
    make_pair("nic0", "nic1").await;
    ip("address add 10.5.5.1/24 dev nic0");
    ip("address add fd55::1/64 dev nic0 nodad");
    bench.start_agent().await;
    let nic = existing("nic", "nic0").address("10.5.5.1/24").address("fd55::1/64");
    let routes = [
        Route::new("nic", "10.6.0.0/16", "10.5.5.9"),
        Route::new("nic", "fd66::/32", "fd55::9"),
    ];
    let arp = Arp::new("nic", "10.5.5.7", "02:00:00:00:55:07");
    let mut revisions = Revisions::new();
    let value = with(nic.json(), "link_only", json!(true));
    revisions.insert(nic.key(), bench.put(&nic.key(), value).await);
    for route in &routes {
        revisions.insert(route.key(), bench.put(&route.key(), route.json().to_string()).await);
    }
    revisions.insert(arp.key(), bench.put(&arp.key(), arp.json().to_string()).await);
    bench.until_configured(&revisions).await;
    assert_restarts_write_nothing(&mut bench, &revisions).await;

    // What is expected and missing is still waited for.
    ip("address del 10.5.5.1/24 dev nic0");
    bench.until_waiting_for(&routes[0].key(), &["gw-reachable"]).await;
    ip("address add 10.5.5.1/24 dev nic0");
    bench.until_state(&routes[0].key(), "CONFIGURED").await;
    bench.stop_agent().await;
}
on_both_stores!(a_restart_leaves_routes_and_arp_entries_of_a_link_only_interface_alone);
