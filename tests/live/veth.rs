//! Live tests of the simplest configuration: two veth ends in two namespaces, put with etcdctl.

use std::path::Path;

use crate::{
    on_both_stores, on_one_store,
    support::{
        bench::Bench,
        command,
        config::{Arp, Config, Interface, Kind, Reference, Route},
        monitor::Monitor,
        ping,
        status::ValueStatus,
    },
};

/// Returns a veth pair in two namespaces, a LOOPBACK in the namespace of its right end, a route to the LOOPBACK, and ARP entries.
pub fn two_namespaces() -> Config {
    Config {
        interfaces: vec![
            Interface::veth("left", "right", Reference::named("pair-left"))
                .host_name("eth0")
                .address("10.11.0.1/24")
                .mac("02:00:00:00:11:01"),
            Interface::veth("right", "left", Reference::named("pair-right"))
                .host_name("eth0")
                .address("10.11.0.2/24")
                .mac("02:00:00:00:11:02"),
            Interface::new("behind", Kind::Loopback, Reference::named("pair-right"))
                .host_name("lo")
                .address("10.12.0.1/32"),
        ],
        routes: vec![Route::new("left", "10.12.0.0/16", "10.11.0.2")],
        arps: vec![
            Arp::new("left", "10.11.0.2", "02:00:00:00:11:02"),
            Arp::new("right", "10.11.0.1", "02:00:00:00:11:01"),
        ],
    }
}

/// Two veth ends that are put with etcdctl reach each other, their statuses have the revisions of the puts, and no link is
/// visible in the agent's own namespace.
async fn two_veth_ends_put_with_etcdctl_reach_each_other(mut bench: Bench) {
    bench.start_agent().await;
    let mut own = Monitor::open(Path::new("/proc/self/ns/net"));
    let config = two_namespaces();
    for (key, value) in config.entries() {
        bench.store.etcdctl(&["put", &bench.key(&key), &value]);
    }
    for key in config.entries().into_keys() {
        let answered = bench.until_state(&key, "CONFIGURED").await;
        let stored = bench.store.etcdctl(&["get", &bench.key(&key), "-w", "json"]);
        let stored: serde_json::Value = serde_json::from_str(&stored).expect("etcdctl prints JSON");
        assert_eq!(
            Some(answered.mod_revision),
            stored["kvs"][0]["mod_revision"].as_i64(),
            "mod_revision of {key}"
        );
        assert_eq!(answered.key, format!("config/{key}"));
    }
    bench.check(&config);
    ping::reaches(&Reference::named("pair-left").path(), "10.11.0.2");
    ping::reaches(&Reference::named("pair-right").path(), "10.11.0.1");
    ping::reaches(&Reference::named("pair-left").path(), "10.12.0.1");
    own.assert_silent("while a pair was configured elsewhere");
    let left: &ValueStatus = &bench.until_state("linux/interfaces/v2/interface/left", "CONFIGURED").await;
    assert_eq!(left.last_operation, "CREATE");
    bench.stop_agent().await;
    ping::reaches(&Reference::named("pair-left").path(), "10.12.0.1");
}
on_both_stores!(two_veth_ends_put_with_etcdctl_reach_each_other);

/// If one end of a veth pair has failed, it is created as soon as the other end is corrected, although its next retry is seconds
/// away.
async fn a_failed_end_is_created_at_once_when_the_other_is_corrected(mut bench: Bench) {
    command::ip("netns add pair-d");
    command::ip("-n pair-d link add eth0 type veth peer name foreign");
    bench.start_agent().await;
    let c = Interface::veth("c", "d", Reference::named("pair-c")).address("10.13.0.1/24");
    let taken = Interface::veth("d", "c", Reference::named("pair-d")).host_name("eth0");
    let corrected = taken.clone().host_name("eth1").address("10.13.0.2/24");
    let mut invalid = corrected.json();
    invalid["ip_addresses"] = serde_json::json!(["10.13.0.300/24"]);

    let revision = bench.put(&c.key(), c.json().to_string()).await;
    bench.put(&taken.key(), taken.json().to_string()).await;
    // The delay doubles with each failure, so the next attempt is now 16 s away.
    let failed = bench.until("interface c has failed five times", |publication| {
        publication.of(&c.key()).is_some_and(|status| status.attempts == 5)
    });
    let next_retry = failed
        .await
        .of(&c.key())
        .map(|status| status.next_retry.clone())
        .unwrap_or_default();
    bench.put(&taken.key(), invalid.to_string()).await;
    bench.until_state(&taken.key(), "INVALID").await;
    bench.until_waiting_for(&c.key(), &["veth-peer-exists"]).await;

    let corrected_at = bench.put(&corrected.key(), corrected.json().to_string()).await;
    let revisions = [(c.key(), revision), (corrected.key(), corrected_at)].into();
    let configured = bench.until_configured(&revisions).await;
    let since = configured.of(&c.key()).map(|status| status.since.clone()).unwrap_or_default();
    assert!(
        !since.is_empty() && since < next_retry,
        "CONFIGURED at {since}; the scheduled retry is at {next_retry}"
    );
    ping::reaches(&Reference::named("pair-c").path(), "10.13.0.2");
    bench.stop_agent().await;
}
on_one_store!(a_failed_end_is_created_at_once_when_the_other_is_corrected, Embedded, 120);
