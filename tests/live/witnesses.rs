//! Tests of the test harness. If the harness did not detect changes or differences, every live test would pass.

use std::path::Path;

use testbed::random::Random;

use crate::{
    on_one_store,
    support::{
        bench::Bench,
        command::{ip, ip_in},
        config::{Config, Interface, Kind},
        foreign::{foreign_lines, found_namespaces},
        monitor::Monitor,
        netns_state::{NetnsState, fingerprint},
        ping,
        process::Holder,
        random_config::{Size, generate},
    },
    veth::two_namespaces,
};

/// Creates the objects of [`two_namespaces`] with `ip`, as the agent would.
fn make_by_hand(label: &str) {
    for line in [
        "netns add pair-left",
        "netns add pair-right",
        "link add eth0 netns pair-left address 02:00:00:00:11:01 type veth peer name eth0 netns pair-right address 02:00:00:00:11:02",
    ] {
        ip(line);
    }
    for (netns, own, other, peer) in [("pair-left", 1, 2, "left/right"), ("pair-right", 2, 1, "right/left")] {
        let path = format!("/run/netns/{netns}");
        for line in [
            format!("link set eth0 up alias /vnf-agent/{label}/{peer}"),
            "link set lo up".to_owned(),
            format!("address add 10.11.0.{own}/24 dev eth0"),
            format!("neighbour add 10.11.0.{other} dev eth0 lladdr 02:00:00:00:11:0{other} nud permanent"),
        ] {
            ip_in(Path::new(&path), &line);
        }
    }
    ip_in(Path::new("/run/netns/pair-right"), "address add 10.12.0.1/32 dev lo");
    ip_in(
        Path::new("/run/netns/pair-left"),
        "route add 10.12.0.0/16 via 10.11.0.2 dev eth0 proto 158",
    );
}

/// The comparison accepts the correct state, and reports missing and unexpected objects.
async fn comparison_reports_missing_and_unexpected_objects(bench: Bench) {
    make_by_hand(&bench.label);
    let config = two_namespaces();
    config.check(&bench.label).expect("the state made by hand must be as expected");
    let left = Path::new("/run/netns/pair-left");
    let before = fingerprint(left);
    ip_in(left, "route del 10.12.0.0/16");
    ip_in(left, "address add 10.99.0.1/24 dev eth0");
    let report = config
        .check(&bench.label)
        .expect_err("a missing route and a foreign address must be differences");
    assert!(report.contains("missing: route 10.12.0.0/16"), "{report}");
    assert!(report.contains("unexpected: address eth0 10.99.0.1/24"), "{report}");
    assert_ne!(before, fingerprint(left));
}
on_one_store!(comparison_reports_missing_and_unexpected_objects, Embedded, 60);

/// Applies a configuration of veth pairs with `ip`, as the agent would.
fn apply_by_hand(config: &Config, label: &str) {
    for reference in config.namespaces() {
        ip(&format!(
            "netns add {}",
            reference.path().display().to_string().trim_start_matches("/run/netns/")
        ));
    }
    for pair in config.interfaces.chunks(2) {
        let end = |end: &Interface| format!("{} netns {} address {}", end.host_name, end.netns.path().display(), end.mac);
        ip(&format!("link add {} type veth peer name {}", end(&pair[0]), end(&pair[1])));
    }
    for interface in &config.interfaces {
        let Kind::Veth(peer) = &interface.kind else {
            panic!("only veth pairs are created by hand")
        };
        let (netns, host_name) = (interface.netns.path(), &interface.host_name);
        ip_in(
            &netns,
            &format!("link set {host_name} up alias /vnf-agent/{label}/{}/{peer}", interface.name),
        );
        for address in &interface.addresses {
            ip_in(&netns, &format!("address add {address} dev {host_name}"));
        }
    }
    for route in &config.routes {
        let interface = config.interface(&route.interface);
        let via = if route.gateway.is_empty() {
            "scope link".to_owned()
        } else {
            format!("via {}", route.gateway)
        };
        ip_in(
            &interface.netns.path(),
            &format!("route add {} {via} dev {} proto 158", route.destination, interface.host_name),
        );
    }
    for arp in &config.arps {
        let interface = config.interface(&arp.interface);
        let entry = format!(
            "neighbour add {} dev {} lladdr {} nud permanent",
            arp.address, interface.host_name, arp.mac
        );
        ip_in(&interface.netns.path(), &entry);
    }
}

/// A random configuration contains no contradiction. Once it is applied, the kernel matches the model of this configuration.
async fn the_model_of_a_random_configuration_is_what_the_kernel_shows(bench: Bench) {
    for (seed, size) in [(3, [4, 6, 9, 9]), (6, [8, 20, 30, 30]), (7, [5, 12, 24, 24])] {
        let [namespaces, pairs, routes, arps] = size;
        let mut random = Random::new(seed);
        let prefix = format!("model{seed}-");
        let config = generate(
            &mut random,
            Size {
                namespaces,
                pairs,
                routes,
                arps,
            },
            &prefix,
        );
        assert_eq!(config.entries().len(), 2 * pairs + routes + arps, "two values share a key");
        apply_by_hand(&config, &bench.label);
        config
            .check(&bench.label)
            .unwrap_or_else(|difference| panic!("seed {seed}:\n{difference}"));
    }
}
on_one_store!(the_model_of_a_random_configuration_is_what_the_kernel_shows, Embedded, 60);

/// The foreign namespaces contain exactly the objects that other tests expect in them.
async fn found_namespaces_contain_exactly_the_expected_objects(bench: Bench) {
    for (number, name) in found_namespaces("found", &bench.label).await.iter().take(2).enumerate() {
        let expected = NetnsState {
            lines: foreign_lines(&bench.label, number).into_iter().collect(),
        };
        let found = NetnsState::read(Path::new(&format!("/run/netns/{name}"))).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(expected.difference(&found, name), "");
    }
}
on_one_store!(found_namespaces_contain_exactly_the_expected_objects, Embedded, 60);

/// A monitor reports each change in its namespace. It reports neither pings nor changes in other namespaces.
async fn a_monitor_sees_changes_of_its_namespace_only(bench: Bench) {
    make_by_hand(&bench.label);
    let (left, right) = (Path::new("/run/netns/pair-left"), Path::new("/run/netns/pair-right"));
    crate::support::settle::until_quiet(&[left.to_owned(), right.to_owned()]).await;
    let (mut in_left, mut in_right) = (Monitor::open(left), Monitor::open(right));
    let stream = ping::Stream::start(left, "10.11.0.2", "witness");
    ping::reaches(left, "10.12.0.1");
    in_left.assert_silent("while a ping ran");
    ip_in(left, "address add 10.99.0.1/24 dev eth0");
    let changes = in_left.changes();
    assert!(changes.iter().any(|change| change.starts_with("NewAddress")), "{changes:?}");
    in_right.assert_silent("while the other namespace changed");
    assert!(stream.finish_without_loss().await > 0);
}
on_one_store!(a_monitor_sees_changes_of_its_namespace_only, Embedded, 60);

/// A holder process runs in its own namespace and has the requested PID.
async fn a_holder_has_its_own_namespace_and_the_wanted_pid(_bench: Bench) {
    let mut first = Holder::start(Some(20_000));
    assert_eq!(first.pid(), 20_000);
    let own = std::fs::read_link("/proc/self/ns/net").expect("read the own namespace");
    let namespace = std::fs::read_link(first.netns()).expect("read the holder's namespace");
    assert_ne!(own, namespace);
    first.end();
    let second = Holder::start(Some(20_000));
    assert_eq!(second.pid(), 20_000, "the PID is taken by another process");
}
on_one_store!(a_holder_has_its_own_namespace_and_the_wanted_pid, Embedded, 60);

/// The watch of the test harness reports the statuses that were stored before it started. It also reports later changes and
/// deletions, even after a crash of etcd.
async fn the_watch_follows_the_store_through_its_crash(mut bench: Bench) {
    let key = format!("/vnf-agent/{}/config-status/linux/x", bench.label);
    bench
        .store
        .put(
            &key,
            r#"{"key":"config/linux/x","state":"PENDING","details":["b","a"],"mod_revision":"12"}"#,
        )
        .await;
    let status = bench.until_waiting_for("linux/x", &["a", "b"]).await;
    assert_eq!(status.mod_revision, 12);
    bench.store.etcd().kill();
    bench.store.etcd().restart().await;
    bench
        .store
        .put(&key, r#"{"key":"config/linux/x","state":"CONFIGURED","mod_revision":13}"#)
        .await;
    bench
        .until("the status after the crash arrives", |publication| {
            publication.is_configured_at("linux/x", 13)
        })
        .await;
    bench.store.delete(&key).await;
    bench.until_nothing_is_published().await;
}
on_one_store!(the_watch_follows_the_store_through_its_crash, Etcd, 60);
