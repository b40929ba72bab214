//! The simplest story: two veth ends in two namespaces, put with etcdctl.

use std::path::Path;

use crate::{
    on_both_stores,
    support::{
        bench::Bench,
        config::{Arp, Config, Interface, Kind, Reference, Route},
        monitor::Monitor,
        ping,
        status::ValueStatus,
    },
};

/// Two ends in two namespaces, a route behind each, and an ARP entry.
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

/// Two veth ends put with etcdctl reach each other, their status answers the put, and the agent's own namespace sees no link.
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
