//! Live tests of BRIDGE interfaces: traffic through a bridge, repair of a deleted bridge, and ports that are added, changed and
//! moved.
//!
//! Tests of VLAN filtering are in `tests/vm/links.rs`, because not every kernel supports it.

use std::{collections::BTreeMap, path::Path};

use serde_json::{Value, json};

use crate::{
    on_both_stores, on_one_store,
    support::{
        bench::Bench,
        command::{ip, ip_in, run},
        monitor::Monitor,
    },
};

/// Puts interfaces in this order, and returns the revision of each put by key.
async fn put_all(bench: &Bench, values: &[Value]) -> BTreeMap<String, i64> {
    let mut revisions = BTreeMap::new();
    for value in values {
        let key = key(value["name"].as_str().expect("a name"));
        let revision = bench.put(&key, value.to_string()).await;
        revisions.insert(key, revision);
    }
    revisions
}

fn key(name: &str) -> String {
    format!("linux/interfaces/v2/interface/{name}")
}

fn namespace(name: &str) -> Value {
    json!({ "type": "NSID", "reference": name })
}

/// Returns a bridge with an address in namespace `br-sw`, and two ports whose peers are in separate namespaces.
fn switch() -> Vec<Value> {
    let mut values = vec![json!({
        "name": "switch", "type": "BRIDGE", "namespace": namespace("br-sw"), "host_if_name": "br0", "enabled": true,
        "ip_addresses": ["10.90.0.254/24"], "bridge": { "ageing_time_s": 60 }
    })];
    for host in ["1", "2"] {
        values.push(json!({
            "name": format!("port{host}"), "type": "VETH", "namespace": namespace("br-sw"), "host_if_name": format!("p{host}"),
            "enabled": true, "master_interface": "switch", "veth": { "peer_if_name": format!("host{host}") },
            "bridge_port": { "hairpin": host == "1" }
        }));
        values.push(json!({
            "name": format!("host{host}"), "type": "VETH", "namespace": namespace(&format!("br-h{host}")), "host_if_name": "eth0",
            "enabled": true, "ip_addresses": [format!("10.90.0.{host}/24")], "veth": { "peer_if_name": format!("port{host}") }
        }));
    }
    values
}

fn link(netns: &str, name: &str) -> Value {
    let text = ip_in(Path::new(netns), &format!("-d -j link show dev {name}"));
    let links: Value = serde_json::from_str(&text).expect("JSON");
    links[0].clone()
}

fn ping(netns: &str, address: &str) {
    run(
        "nsenter",
        &[&format!("--net={netns}"), "ping", "-n", "-c", "1", "-W", "10", address],
    );
}

const SWITCH: &str = "/run/netns/br-sw";
const HOST1: &str = "/run/netns/br-h1";

/// Two namespaces and the bridge itself reach each other, whatever the order of the puts.
///
/// A restart writes nothing. Bridge and port settings change in place. A setting that the value no longer contains returns to the
/// kernel's default.
async fn namespaces_reach_one_another_through_a_bridge(mut bench: Bench) {
    bench.start_agent().await;
    let mut values = switch();
    values.reverse();
    let mut revisions = put_all(&bench, &values).await;
    bench.until_configured(&revisions).await;
    ping(HOST1, "10.90.0.2");
    ping(HOST1, "10.90.0.254");
    let index = link(SWITCH, "br0")["ifindex"].clone();
    assert_eq!(link(SWITCH, "br0")["linkinfo"]["info_data"]["ageing_time"], 6_000);
    assert_eq!(link(SWITCH, "p1")["linkinfo"]["info_slave_data"]["hairpin"], true);
    crate::support::settle::until_quiet(&[SWITCH.into(), HOST1.into()]).await;
    let mut monitor = Monitor::open(Path::new(SWITCH));
    bench.stop_agent().await;
    let before = bench.start_agent().await;
    bench.until_configured_since(&revisions, before).await;
    monitor.assert_silent("restart with a BRIDGE");
    let mut changed = switch();
    changed[0]["bridge"] = json!({ "stp": true, "priority": 4_096 });
    changed[1]["bridge_port"] = json!({ "isolated": true, "path_cost": 7 });
    revisions.extend(put_all(&bench, &changed[..2]).await);
    bench.until_configured(&revisions).await;
    let data = link(SWITCH, "br0")["linkinfo"]["info_data"].clone();
    assert_eq!(
        (&data["ageing_time"], &data["stp_state"], &data["priority"]),
        (&json!(30_000), &json!(1), &json!(4_096))
    );
    let port = link(SWITCH, "p1")["linkinfo"]["info_slave_data"].clone();
    assert_eq!(
        (&port["hairpin"], &port["isolated"], &port["cost"]),
        (&json!(false), &json!(true), &json!(7))
    );
    assert_eq!(link(SWITCH, "br0")["ifindex"], index, "the bridge must change in place");
    bench.delete_all().await;
    bench.until_nothing_is_published().await;
    bench.until_namespaces_are(&[]).await;
    bench.stop_agent().await;
}
on_both_stores!(namespaces_reach_one_another_through_a_bridge);

/// The agent repairs a deleted bridge, a port that was removed from the bridge, and changed settings.
async fn a_bridge_and_its_ports_are_repaired(mut bench: Bench) {
    bench.start_agent().await;
    let values = switch();
    let revisions = put_all(&bench, &values).await;
    bench.until_configured(&revisions).await;
    let is_port = |name: &str| link(SWITCH, name)["master"] == "br0";
    for damage in [
        "link del br0",
        "link set p1 nomaster",
        "link set p1 type bridge_slave hairpin off",
        "link set br0 type bridge ageing_time 500",
    ] {
        ip_in(Path::new(SWITCH), damage);
        bench
            .until_true(damage, || {
                let there = ip_in(Path::new(SWITCH), "-o link show").contains(" br0:");
                there
                    && is_port("p1")
                    && is_port("p2")
                    && link(SWITCH, "p1")["linkinfo"]["info_slave_data"]["hairpin"] == true
                    && link(SWITCH, "br0")["linkinfo"]["info_data"]["ageing_time"] == 6_000
            })
            .await;
        ping(HOST1, "10.90.0.2");
    }
    bench.delete_all().await;
    bench.until_nothing_is_published().await;
    bench.until_namespaces_are(&[]).await;
    bench.stop_agent().await;
}
on_one_store!(a_bridge_and_its_ports_are_repaired, Embedded, 300);

/// A port moves between bridges when its value changes.
///
/// If the master cannot have ports or is in another namespace, the port is INVALID with a reason.
async fn a_port_moves_between_bridges(mut bench: Bench) {
    bench.start_agent().await;
    let mut values = switch();
    values.push(json!({ "name": "other", "type": "BRIDGE", "namespace": namespace("br-sw"), "host_if_name": "br1", "enabled": true }));
    values.push(json!({ "name": "away", "type": "BRIDGE", "namespace": namespace("br-h1"), "host_if_name": "br2" }));
    let mut revisions = put_all(&bench, &values).await;
    bench.until_configured(&revisions).await;
    for (master, kernel) in [("other", "br1"), ("switch", "br0")] {
        values[1]["master_interface"] = json!(master);
        revisions.extend(put_all(&bench, &values[1..2]).await);
        bench.until_configured(&revisions).await;
        assert_eq!(link(SWITCH, "p1")["master"], kernel);
    }
    for (master, reason) in [("away", "MasterInOtherNamespace"), ("port2", "NotAMaster")] {
        values[1]["master_interface"] = json!(master);
        put_all(&bench, &values[1..2]).await;
        let part = bench.until_state(&key("port1"), "INVALID").await;
        assert_eq!(part.reason, reason, "{part:?}");
        values[1]["master_interface"] = json!("switch");
        let again = put_all(&bench, &values[1..2]).await;
        bench.until_configured(&again).await;
    }
    bench.delete_all().await;
    bench.until_nothing_is_published().await;
    bench.until_namespaces_are(&[]).await;
    bench.stop_agent().await;
}
on_one_store!(a_port_moves_between_bridges, Embedded, 300);

/// The kernel allows 1,023 ports per bridge, and all of them are configured. One more port fails with the kernel's error and does
/// not affect the others.
async fn a_bridge_takes_as_many_ports_as_the_kernel(mut bench: Bench) {
    const PORTS: usize = 1_023;
    bench.start_agent().await;
    let mut values =
        vec![json!({ "name": "wide", "type": "BRIDGE", "namespace": namespace("br-sw"), "host_if_name": "br0", "enabled": true })];
    for port in 0..PORTS {
        values.push(json!({
            "name": format!("a{port}"), "type": "VETH", "namespace": namespace("br-sw"), "master_interface": "wide",
            "veth": { "peer_if_name": format!("b{port}") }
        }));
        values.push(json!({
            "name": format!("b{port}"), "type": "VETH", "namespace": namespace("br-h1"), "veth": { "peer_if_name": format!("a{port}") }
        }));
    }
    let revisions = put_all(&bench, &values).await;
    bench.until_configured(&revisions).await;
    let ports = ip_in(Path::new(SWITCH), "-o link show master br0");
    assert_eq!(ports.lines().count(), PORTS);
    let more = [
        json!({ "name": "a-more", "type": "VETH", "namespace": namespace("br-sw"), "master_interface": "wide", "veth": { "peer_if_name": "b-more" } }),
        json!({ "name": "b-more", "type": "VETH", "namespace": namespace("br-h1"), "veth": { "peer_if_name": "a-more" } }),
    ];
    put_all(&bench, &more).await;
    let status = bench.until_state(&key("a-more"), "RETRYING").await;
    assert!(format!("{status:?}").contains("Exchange full"), "{status:?}");
    bench.delete(&key("a-more")).await;
    bench.delete(&key("b-more")).await;
    bench.until_configured(&revisions).await;
    bench.delete_all().await;
    bench.until_nothing_is_published().await;
    bench.until_namespaces_are(&[]).await;
    bench.stop_agent().await;
}
on_one_store!(a_bridge_takes_as_many_ports_as_the_kernel, Embedded, 300);

/// A foreign bridge is adopted only if its value has `adopt`. The agent then changes the bridge to match the value.
async fn a_foreign_bridge_is_adopted(mut bench: Bench) {
    bench.start_agent().await;
    ip("netns add br-sw");
    ip_in(Path::new(SWITCH), "link add br0 type bridge stp_state 1");
    let mut bridge = json!({ "name": "switch", "type": "BRIDGE", "namespace": namespace("br-sw"), "host_if_name": "br0", "enabled": true });
    put_all(&bench, std::slice::from_ref(&bridge)).await;
    bench.until_state(&key("switch"), "RETRYING").await;
    bridge["adopt"] = json!(true);
    let index = link(SWITCH, "br0")["ifindex"].clone();
    let revisions = put_all(&bench, std::slice::from_ref(&bridge)).await;
    bench.until_configured(&revisions).await;
    let adopted = link(SWITCH, "br0");
    assert_eq!(adopted["linkinfo"]["info_data"]["stp_state"], 0);
    assert_eq!(adopted["ifindex"], index, "the bridge must not be created again");
    bench.delete_all().await;
    bench.until_nothing_is_published().await;
    ip("netns del br-sw");
    bench.stop_agent().await;
}
on_one_store!(a_foreign_bridge_is_adopted, Embedded, 300);
