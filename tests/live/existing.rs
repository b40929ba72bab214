//! Live tests of EXISTING interfaces: foreign links in the agent's own namespace.

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

/// Creates a veth pair, sets both links up, and waits until the kernel has finished changing them.
async fn make_pair(name: &str, peer: &str) {
    ip(&format!("link add {name} type veth peer name {peer}"));
    for link in [name, peer] {
        ip(&format!("link set {link} up"));
    }
    settle::until_quiet(&[OWN.into()]).await;
}

/// Returns an EXISTING interface `name` for the link `host_name` in the agent's own namespace.
fn existing(name: &str, host_name: &str) -> Interface {
    Interface::new(name, Kind::Existing, Reference::Own).host_name(host_name)
}

/// Returns the value with an additional member, as JSON text.
fn with(mut value: Value, member: &str, content: Value) -> String {
    value[member] = content;
    value.to_string()
}

/// Restarts the agent three times, twice by killing it, and asserts that nothing is written.
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

/// With `link_only`, the agent does not add the addresses in the value, but expects them on the link. Once it has read the
/// namespace, these addresses satisfy the dependencies of routes and ARP entries.
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

    // Routes still become PENDING if an expected address is missing.
    ip("address del 10.5.5.1/24 dev nic0");
    bench.until_waiting_for(&routes[0].key(), &["gw-reachable"]).await;
    ip("address add 10.5.5.1/24 dev nic0");
    bench.until_state(&routes[0].key(), "CONFIGURED").await;
    bench.stop_agent().await;
}
on_both_stores!(a_restart_leaves_routes_and_arp_entries_of_a_link_only_interface_alone);

/// Returns the addresses of a link, except the kernel's link-local ones.
fn addresses_of(link: &str) -> Vec<String> {
    let lines = ip(&format!("-o address show dev {link}"));
    let words = lines
        .lines()
        .map(|line| line.split_whitespace().nth(3).unwrap_or_default().to_owned());
    let mut addresses: Vec<String> = words.filter(|address| !address.starts_with("fe80:")).collect();
    addresses.sort();
    addresses
}

/// Two EXISTING interfaces refer to the same link. A third one refers to the link of a VETH in the agent's own namespace.
async fn values_on_one_link_share_it(mut bench: Bench) {
    make_pair("nic0", "nic1").await;
    bench.start_agent().await;
    let interfaces = [
        existing("front", "nic0").address("10.21.0.1/24").address("10.21.9.1/24"),
        existing("back", "nic0").address("10.22.0.1/24").address("10.21.9.1/24"),
        existing("beside", "pair0").address("10.23.0.1/24"),
        Interface::veth("pair", "pair-peer", Reference::Own)
            .host_name("pair0")
            .address("10.24.0.1/24"),
        Interface::veth("pair-peer", "pair", Reference::named("shared-far")).host_name("pair1"),
    ];
    let routes = [
        Route::new("front", "10.31.0.0/16", "10.21.0.9"),
        Route::new("back", "10.32.0.0/16", "10.22.0.9"),
        Route::new("beside", "10.33.0.0/16", "10.23.0.9"),
        Route::new("pair", "10.34.0.0/16", "10.24.0.9"),
    ];
    let arps = [
        Arp::new("front", "10.21.0.7", "02:00:00:00:21:07"),
        Arp::new("back", "10.22.0.7", "02:00:00:00:22:07"),
    ];
    let mut revisions = Revisions::new();
    let entries = interfaces.iter().map(|value| (value.key(), value.json()));
    let entries = entries.chain(routes.iter().map(|value| (value.key(), value.json())));
    for (key, value) in entries.chain(arps.iter().map(|value| (value.key(), value.json()))) {
        let revision = bench.put(&key, value.to_string()).await;
        revisions.insert(key, revision);
    }
    bench.until_configured(&revisions).await;
    let all = ["10.21.0.1/24", "10.21.9.1/24", "10.22.0.1/24"];
    assert_eq!(addresses_of("nic0"), all);
    assert_eq!(addresses_of("pair0"), ["10.23.0.1/24", "10.24.0.1/24"]);
    assert_restarts_write_nothing(&mut bench, &revisions).await;

    // When an address is deleted by hand, the agent reads the whole namespace, but repairs only this address.
    settle::until_quiet(&[OWN.into()]).await;
    let mut monitor = Monitor::open(Path::new(OWN));
    ip("address del 10.22.0.1/24 dev nic0");
    bench.until_true("the address is restored", || addresses_of("nic0") == all).await;
    bench.until_state(&routes[1].key(), "CONFIGURED").await;
    let about_others = |change: &String| ["10.21.", "10.23.", "10.24."].iter().any(|network| change.contains(network));
    settle::until_quiet(&[OWN.into()]).await;
    let changes: Vec<String> = monitor.changes().into_iter().filter(about_others).collect();
    assert!(changes.is_empty(), "{changes:#?}");

    // An address that is part of two values stays until both values are deleted.
    bench.delete(&interfaces[1].key()).await;
    bench
        .until_true("only the addresses of the other value are left", || {
            addresses_of("nic0") == ["10.21.0.1/24", "10.21.9.1/24"]
        })
        .await;
    bench.delete(&interfaces[0].key()).await;
    bench.until_true("no address is left", || addresses_of("nic0").is_empty()).await;
    assert_eq!(addresses_of("pair0"), ["10.23.0.1/24", "10.24.0.1/24"]);
    bench.delete_all().await;
    bench.until_nothing_is_published().await;
    bench.stop_agent().await;
}
on_both_stores!(values_on_one_link_share_it);

/// With `--foreign-addresses strict`, a resync removes foreign addresses from EXISTING interfaces. It keeps the kernel's
/// link-local addresses, and all addresses of interfaces with `link_only`.
async fn strict_removes_foreign_addresses_from_existing_interfaces(mut bench: Bench) {
    make_pair("nic0", "nic1").await;
    make_pair("seen0", "seen1").await;
    bench.agent_arguments = ["--foreign-addresses", "strict"].map(str::to_owned).to_vec();
    bench.start_agent().await;
    let nic = existing("nic", "nic0").address("10.25.0.1/24");
    let seen = existing("seen", "seen0").address("10.26.0.1/24");
    let lo = existing("loop", "lo").address("10.27.0.1/32");
    ip("address add 10.26.0.1/24 dev seen0");
    let mut revisions = Revisions::new();
    revisions.insert(nic.key(), bench.put(&nic.key(), nic.json().to_string()).await);
    revisions.insert(lo.key(), bench.put(&lo.key(), lo.json().to_string()).await);
    let value = with(seen.json(), "link_only", json!(true));
    revisions.insert(seen.key(), bench.put(&seen.key(), value).await);
    bench.until_configured(&revisions).await;
    for line in [
        "address add 10.25.7.7/24 dev nic0",
        "address add fd25::7/64 dev nic0 nodad",
        "address add 10.26.7.7/24 dev seen0",
        "address add 10.27.7.7/32 dev lo",
    ] {
        ip(line);
    }
    let link_local = ip("-6 -o address show dev nic0 scope link");
    assert!(link_local.contains("fe80:"), "no link-local address: {link_local}");
    bench.stop_agent().await;
    let before = bench.start_agent().await;
    bench.until_configured_since(&revisions, before).await;
    bench
        .until_true("the foreign addresses are removed", || {
            addresses_of("nic0") == ["10.25.0.1/24"] && addresses_of("lo") == ["10.27.0.1/32", "127.0.0.1/8", "::1/128"]
        })
        .await;
    assert_eq!(addresses_of("seen0"), ["10.26.0.1/24", "10.26.7.7/24"]);
    assert_eq!(ip("-6 -o address show dev nic0 scope link"), link_local);
    bench.stop_agent().await;
}
on_both_stores!(strict_removes_foreign_addresses_from_existing_interfaces);

/// If two values for one link contradict each other, the agent reports a conflict and writes nothing for the second value until
/// they agree.
async fn contradicting_values_on_one_link_are_a_conflict(mut bench: Bench) {
    make_pair("nic0", "nic1").await;
    bench.start_agent().await;
    let front = existing("front", "nic0").mtu(1400).address("10.28.0.1/24");
    let back = |mtu| existing("back", "nic0").mtu(mtu).address("10.29.0.1/24");
    let mut revisions = Revisions::new();
    revisions.insert(front.key(), bench.put(&front.key(), front.json().to_string()).await);
    bench.until_configured(&revisions).await;
    settle::until_quiet(&[OWN.into()]).await;
    let mut monitor = Monitor::open(Path::new(OWN));
    bench.put(&back(9000).key(), back(9000).json().to_string()).await;
    let message = "interface back asks for MTU 9000 on link nic0, but interface front has MTU 1400; change one of the two";
    assert_eq!(bench.until_state(&back(0).key(), "INVALID").await.error, message);
    assert_restarts_write_nothing(&mut bench, &revisions).await;
    assert_eq!(bench.until_state(&back(0).key(), "INVALID").await.error, message);
    monitor.assert_silent("a conflict");

    revisions.insert(back(0).key(), bench.put(&back(1400).key(), back(1400).json().to_string()).await);
    bench.until_configured(&revisions).await;
    assert_eq!(addresses_of("nic0"), ["10.28.0.1/24", "10.29.0.1/24"]);
    bench.put(&back(0).key(), back(9000).json().to_string()).await;
    bench.until_state(&back(0).key(), "INVALID").await;
    bench.delete(&front.key()).await;
    bench.until_state(&back(0).key(), "CONFIGURED").await;
    bench
        .until_true("only the address of the other value is left", || {
            addresses_of("nic0") == ["10.29.0.1/24"]
        })
        .await;
    bench.stop_agent().await;
}
on_both_stores!(contradicting_values_on_one_link_are_a_conflict);
