//! The harness itself: a witness that sees nothing would let every scenario pass.

use std::path::Path;

use crate::{
    on_one_store,
    support::{
        bench::Bench,
        command::{ip, ip_in},
        monitor::Monitor,
        netns_state::fingerprint,
        ping,
        process::Holder,
    },
    veth::two_namespaces,
};

/// Makes by hand what the agent is to make from [`two_namespaces`].
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

/// The comparison accepts the right state, and names what is missing and what nobody asked for.
async fn the_comparison_tells_right_from_wrong(bench: Bench) {
    make_by_hand(&bench.label);
    let config = two_namespaces();
    config.check(&bench.label).expect("the state made by hand is the expected one");
    let left = Path::new("/run/netns/pair-left");
    let before = fingerprint(left);
    ip_in(left, "route del 10.12.0.0/16");
    ip_in(left, "address add 10.99.0.1/24 dev eth0");
    let report = config
        .check(&bench.label)
        .expect_err("a missing route and a strange address are differences");
    assert!(report.contains("missing: route 10.12.0.0/16"), "{report}");
    assert!(report.contains("not asked for: address eth0 10.99.0.1/24"), "{report}");
    assert_ne!(before, fingerprint(left));
}
on_one_store!(the_comparison_tells_right_from_wrong, Embedded, 60);

/// A monitor sees each change in its namespace, none in another one, and not what a ping does.
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

/// A holder has a namespace of its own and the PID that was asked for.
async fn a_holder_has_its_own_namespace_and_the_wanted_pid(_bench: Bench) {
    let mut first = Holder::start(Some(20_000));
    assert_eq!(first.pid(), 20_000);
    let own = std::fs::read_link("/proc/self/ns/net").expect("the own namespace");
    let namespace = std::fs::read_link(first.netns()).expect("the holder's namespace");
    assert_ne!(own, namespace);
    first.end();
    let second = Holder::start(Some(20_000));
    assert_eq!(second.pid(), 20_000, "the PID is taken by another process");
}
on_one_store!(a_holder_has_its_own_namespace_and_the_wanted_pid, Embedded, 60);

/// The watch sees a status that stands in the store before it, after it, after a deletion, and after a crash of etcd.
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
    bench.store.kill_etcd().await;
    bench.store.start_etcd().await;
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
