//! Tests in a virtual machine with Debian's stock kernel, for link kinds that other kernels may lack.
//!
//! They cover DUMMY, VRF_DEVICE, VLAN and VLAN filtering of bridges. The tests are marked as ignored, because the machines of
//! most developers and CI systems lack the kernel modules. One test that is not ignored boots the virtual machine
//! (`tests/vm/run`) and runs the ignored tests there, so `cargo test --test vm` is sufficient on any host kernel. See
//! [`the_scenarios_pass_on_a_stock_kernel`].

mod links;
#[path = "../support/mod.rs"]
mod support;

use std::{path::Path, process::Command};

use support::{
    bench::Bench,
    command::{ip, ip_in, run},
    config::{Arp, Config, Interface, Kind, Reference, Route},
    monitor::Monitor,
    netns_state::NetnsState,
    settle,
};

/// Time limit of each wait, in seconds. It is long because the emulated machine is about ten times slower than its host.
const TIME_LIMIT_SECONDS: &str = "120";

/// Boots the virtual machine and runs the ignored tests of this binary there.
#[test]
fn the_scenarios_pass_on_a_stock_kernel() {
    let runner = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vm/run");
    let binary = std::env::current_exe().expect("get the path of the test binary");
    let output = Command::new(&runner)
        .arg(binary)
        .args(["--ignored", "--test-threads=1"])
        .env("LIVE_PATIENCE_SECONDS", TIME_LIMIT_SECONDS)
        .output()
        .unwrap_or_else(|error| panic!("cannot start {}: {error}", runner.display()));
    let text = String::from_utf8_lossy(&output.stdout);
    println!("{text}");
    assert!(
        output.status.success(),
        "in the virtual machine ({}): {}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    let scenarios = text
        .lines()
        .filter(|line| line.starts_with("test ") && line.ends_with("... ok"))
        .count();
    assert_eq!(scenarios, 6, "all ignored tests must have run");
}

/// A DUMMY is created with its name, MAC, MTU and address, and deleted with its value. A restart in between writes nothing.
async fn a_dummy_is_made_and_deleted(mut bench: Bench) {
    bench.start_agent().await;
    let dummy = Interface::new("holder", Kind::Dummy, Reference::named("vm-dummy"))
        .host_name("dum0")
        .address("10.81.0.1/32");
    let config = Config {
        interfaces: vec![dummy.mac("02:00:00:00:81:01").mtu(1400)],
        ..Config::default()
    };
    let revisions = bench.put_each(&config).await;
    bench.until_configured(&revisions).await;
    bench.check(&config);
    let path = Reference::named("vm-dummy").path();
    let mut monitor = Monitor::open(&path);
    bench.stop_agent().await;
    let before = bench.start_agent().await;
    bench.until_configured_since(&revisions, before).await;
    monitor.assert_silent("restart with a DUMMY");
    bench.delete_all().await;
    bench.until_nothing_is_published().await;
    bench.until_namespaces_are(&[]).await;
    bench.stop_agent().await;
}
on_one_store!(a_dummy_is_made_and_deleted, Embedded, 400, #[ignore = "needs Debian's stock kernel: run through tests/vm/run"]);

/// Returns a configuration with a VRF, two veth pairs (one of them with an end in the VRF), routes and an ARP entry.
fn vrf_config() -> Config {
    let (near, far) = (Reference::named("vm-near"), Reference::named("vm-far"));
    Config {
        interfaces: vec![
            Interface::new("blue", Kind::Vrf(10), near.clone()).host_name("vrf-blue"),
            Interface::veth("inside", "inside-peer", near.clone())
                .host_name("in0")
                .address("10.82.0.1/24")
                .address("fd82::1/64")
                .vrf("blue"),
            Interface::veth("inside-peer", "inside", far.clone())
                .host_name("in1")
                .address("10.82.0.2/24")
                .address("fd82::2/64"),
            Interface::veth("outside", "outside-peer", near)
                .host_name("out0")
                .address("10.83.0.1/24"),
            Interface::veth("outside-peer", "outside", far)
                .host_name("out1")
                .address("10.83.0.2/24"),
        ],
        routes: vec![
            Route::new("inside", "10.84.0.0/16", "10.82.0.2"),
            Route::new("inside", "fd84::/32", "fd82::2"),
            Route::new("outside", "10.85.0.0/16", "10.83.0.2"),
        ],
        arps: vec![Arp::new("inside", "10.82.0.9", "02:00:00:00:82:09")],
    }
}

/// The routes of a veth in a VRF are in the table of this VRF, and a ping from the VRF reaches the peer of the veth.
///
/// A restart writes nothing. When the veth leaves the VRF, its routes move to the main table.
async fn a_vrf_holds_its_slaves_and_their_routes(mut bench: Bench) {
    bench.start_agent().await;
    let mut config = vrf_config();
    // Put the values one by one, in reverse order of their dependencies: routes and ARP entries, then interfaces, and the VRF
    // device last.
    let mut entries: Vec<(String, String)> = config.entries().into_iter().collect();
    entries.sort_by_key(|(key, _)| (key.ends_with("/blue"), key.contains("/interface/")));
    let mut revisions = std::collections::BTreeMap::new();
    for (key, value) in entries {
        let revision = bench.put(&key, value).await;
        revisions.insert(key, revision);
    }
    bench.until_configured(&revisions).await;
    bench.check(&config);
    let near = Reference::named("vm-near").path();
    let netns = format!("--net={}", near.display());
    run(
        "nsenter",
        &[&netns, "ping", "-n", "-c", "1", "-W", "10", "-I", "vrf-blue", "10.82.0.2"],
    );
    let paths = [near.clone(), Reference::named("vm-far").path()];
    settle::until_quiet(&paths).await;
    let mut monitors: Vec<Monitor> = paths.iter().map(|path| Monitor::open(path)).collect();
    bench.stop_agent().await;
    let before = bench.start_agent().await;
    bench.until_configured_since(&revisions, before).await;
    for monitor in &mut monitors {
        monitor.assert_silent("restart with a VRF");
    }
    config.interfaces[1].vrf = String::new();
    let (key, value) = (config.interfaces[1].key(), config.interfaces[1].json().to_string());
    revisions.insert(key.clone(), bench.put(&key, value).await);
    bench.until_configured(&revisions).await;
    bench.check(&config);
    bench.delete_all().await;
    bench.until_nothing_is_published().await;
    bench.until_namespaces_are(&[]).await;
    bench.stop_agent().await;
}
on_one_store!(a_vrf_holds_its_slaves_and_their_routes, Embedded, 400, #[ignore = "needs Debian's stock kernel: run through tests/vm/run"]);

/// A deleted VRF device is restored, together with its slave and the routes in its table.
async fn a_deleted_vrf_device_comes_back_with_its_slaves(mut bench: Bench) {
    ip("netns add vm-near");
    bench.start_agent().await;
    let config = vrf_config();
    bench.until_configured(&bench.put_together(&config).await).await;
    let near = Reference::named("vm-near").path();
    ip_in(&near, "link del vrf-blue");
    bench
        .until_true("the VRF is complete again", || config.check(&bench.label).is_ok())
        .await;
    bench.delete_all().await;
    bench.until_nothing_is_published().await;
    let left = NetnsState::read(&near).unwrap_or_else(|error| panic!("{error}"));
    assert!(left.lines.is_empty(), "left behind in a foreign namespace: {left:?}");
    bench.stop_agent().await;
}
on_one_store!(a_deleted_vrf_device_comes_back_with_its_slaves, Embedded, 400, #[ignore = "needs Debian's stock kernel: run through tests/vm/run"]);

/// Routes of interfaces in a foreign VRF use the table of this VRF. This is tested with a DUMMY and an EXISTING interface.
///
/// A restart writes nothing. The routes move when the VRF is created again with another table.
async fn a_vrf_made_by_hand_gives_its_table_to_its_members(mut bench: Bench) {
    for line in [
        "link add tenant0 type vrf table 30",
        "link set tenant0 up",
        "link add nic0 type dummy",
        "link set nic0 master tenant0 up",
    ] {
        ip(line);
    }
    bench.start_agent().await;
    let config = Config {
        interfaces: vec![
            Interface::new("tenant", Kind::Existing, Reference::Own).host_name("tenant0"),
            Interface::new("made", Kind::Dummy, Reference::Own)
                .host_name("made0")
                .address("10.86.0.1/24")
                .vrf("tenant"),
            Interface::new("nic", Kind::Existing, Reference::Own)
                .host_name("nic0")
                .address("10.87.0.1/24")
                .vrf("tenant"),
        ],
        routes: vec![
            Route::new("made", "10.88.0.0/16", "10.86.0.9"),
            Route::new("nic", "10.89.0.0/16", "10.87.0.9"),
        ],
        arps: vec![Arp::new("made", "10.86.0.7", "02:00:00:00:86:07")],
    };
    let revisions = bench.put_each(&config).await;
    bench.until_configured(&revisions).await;
    let own = Path::new("/proc/self/ns/net");
    let in_table = |table: u32| {
        let routes = ip(&format!("route show table {table}"));
        ["10.88.0.0/16 via 10.86.0.9 dev made0", "10.89.0.0/16 via 10.87.0.9 dev nic0"].map(|route| routes.contains(route))
    };
    assert_eq!((in_table(30), in_table(254)), ([true, true], [false, false]));
    let mut monitor = Monitor::open(own);
    for _ in 0..2 {
        bench.kill_agent().await;
        let before = bench.start_agent().await;
        bench.until_configured_since(&revisions, before).await;
        monitor.assert_silent("restart with a VRF made by hand");
    }
    for line in [
        "link del tenant0",
        "link add tenant0 type vrf table 40",
        "link set tenant0 up",
        "link set nic0 master tenant0",
    ] {
        ip(line);
    }
    bench
        .until_true("the routes are in the table of the new VRF", || in_table(40) == [true, true])
        .await;
    assert_eq!((in_table(30), in_table(254)), ([false, false], [false, false]));
    for route in &config.routes {
        bench.until_state(&route.key(), "CONFIGURED").await;
    }
    bench.delete_all().await;
    bench.until_nothing_is_published().await;
    assert!(ip("link show tenant0").contains("tenant0"), "the foreign VRF was deleted");
    bench.stop_agent().await;
}
on_one_store!(a_vrf_made_by_hand_gives_its_table_to_its_members, Embedded, 400, #[ignore = "needs Debian's stock kernel: run through tests/vm/run"]);
