//! Tests of VLAN interfaces, and of bridges with VLAN filtering, in the virtual machine.
//!
//! See [`vlans_of_a_bridge_are_kept_apart`].

use std::{collections::BTreeMap, path::Path};

use serde_json::{Value, json};

use crate::{
    on_one_store,
    support::{
        bench::Bench,
        command::{ip_in, run},
        monitor::Monitor,
        settle,
    },
};

const SWITCH: &str = "/run/netns/vl-sw";
const HOST1: &str = "/run/netns/vl-h1";

fn key(name: &str) -> String {
    format!("linux/interfaces/v2/interface/{name}")
}

fn namespace(name: &str) -> Value {
    json!({ "type": "NSID", "reference": name })
}

async fn put_all(bench: &Bench, values: &[Value]) -> BTreeMap<String, i64> {
    let mut revisions = BTreeMap::new();
    for value in values {
        let key = key(value["name"].as_str().expect("a name"));
        let revision = bench.put(&key, value.to_string()).await;
        revisions.insert(key, revision);
    }
    revisions
}

fn link(netns: &str, name: &str) -> Value {
    let text = ip_in(Path::new(netns), &format!("-d -j link show dev {name}"));
    let links: Value = serde_json::from_str(&text).expect("JSON");
    links[0].clone()
}

/// Returns the VLANs of a port as `bridge` shows them, such as `10 PVID Egress Untagged`.
fn vlans(port: &str) -> Vec<String> {
    let text = run(
        "nsenter",
        &[&format!("--net={SWITCH}"), "bridge", "-j", "vlan", "show", "dev", port],
    );
    let shown: Value = serde_json::from_str(&text).expect("JSON");
    let list = shown[0]["vlans"].as_array().cloned().unwrap_or_default();
    let words = |vlan: &Value| {
        let flags: Vec<String> = vlan["flags"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|flag| flag.as_str().map(str::to_owned))
            .collect();
        format!("{} {}", vlan["vlan"], flags.join(" ")).trim().to_owned()
    };
    list.iter().map(words).collect()
}

/// Returns the expected VLANs of the trunk port, which is connected to host 4.
fn trunk() -> Vec<String> {
    std::iter::once(10).chain(30..=39).map(|vid| vid.to_string()).collect()
}

fn reaches(netns: &str, address: &str) -> bool {
    let arguments = [&format!("--net={netns}"), "ping", "-n", "-c", "1", "-W", "3", address];
    let output = std::process::Command::new("nsenter")
        .args(arguments)
        .output()
        .expect("start nsenter");
    output.status.success()
}

/// Returns a bridge with VLAN filtering, and veth pairs that connect four hosts to it.
///
/// Hosts 1 and 2 are connected to untagged ports of VLAN 10, and host 3 to an untagged port of VLAN 20. Host 4 is connected to a
/// trunk port that carries VLANs 10 and 30 to 39, and has an interface for VLAN 10.
fn switch() -> Vec<Value> {
    let mut values = vec![json!({
        "name": "switch", "type": "BRIDGE", "namespace": namespace("vl-sw"), "host_if_name": "br0", "enabled": true,
        "bridge": { "vlan_filtering": true }
    })];
    let access = |vid: u32| json!([{ "vid": vid, "pvid": true, "untagged": true }]);
    for (host, vlans) in [
        (1, access(10)),
        (2, access(10)),
        (3, access(20)),
        (4, json!([{ "vid": 10 }, { "vid": 30, "vid_end": 39 }])),
    ] {
        let addresses = if host == 4 {
            json!([])
        } else {
            json!([format!("10.91.0.{host}/24")])
        };
        values.push(json!({
            "name": format!("port{host}"), "type": "VETH", "namespace": namespace("vl-sw"), "host_if_name": format!("p{host}"),
            "enabled": true, "master_interface": "switch", "veth": { "peer_if_name": format!("host{host}") },
            "bridge_port": { "vlans": vlans }
        }));
        values.push(json!({
            "name": format!("host{host}"), "type": "VETH", "namespace": namespace(&format!("vl-h{host}")), "host_if_name": "eth0",
            "enabled": true, "ip_addresses": addresses, "veth": { "peer_if_name": format!("port{host}") }
        }));
    }
    values.push(json!({
        "name": "trunk10", "type": "VLAN", "namespace": namespace("vl-h4"), "host_if_name": "eth0.10", "enabled": true,
        "ip_addresses": ["10.91.0.4/24"], "vlan": { "parent_if_name": "host4", "id": 10 }
    }));
    values
}

/// Tagged and untagged ports of one VLAN reach each other, but not the ports of other VLANs. A restart changes nothing.
///
/// The agent repairs VLANs that are added or deleted by hand.
async fn vlans_of_a_bridge_are_kept_apart(mut bench: Bench) {
    bench.start_agent().await;
    let values = switch();
    let mut revisions = put_all(&bench, &values).await;
    bench.until_configured(&revisions).await;
    assert_eq!(vlans("p1"), ["10 PVID Egress Untagged"]);
    assert_eq!(vlans("p4"), trunk());
    assert!(reaches(HOST1, "10.91.0.2"), "untagged ports of VLAN 10 must be connected");
    assert!(reaches(HOST1, "10.91.0.4"), "ports of VLAN 10 must be connected");
    assert!(!reaches(HOST1, "10.91.0.3"), "VLANs must be separate");
    let index = link(SWITCH, "p1")["ifindex"].clone();
    bench.stop_agent().await;
    let before = bench.start_agent().await;
    bench.until_configured_since(&revisions, before).await;
    // Bridges regularly send notifications about their ports, so the test cannot assert silence.
    assert_eq!((vlans("p1"), vlans("p4")), (vec!["10 PVID Egress Untagged".to_owned()], trunk()));
    assert_eq!(link(SWITCH, "p1")["ifindex"], index);
    let bridge = |arguments: &str| {
        let mut all = vec![format!("--net={SWITCH}"), "bridge".to_owned()];
        all.extend(arguments.split(' ').map(str::to_owned));
        let all: Vec<&str> = all.iter().map(String::as_str).collect();
        run("nsenter", &all)
    };
    // Change the bridge as well, because the kernel sends no notification when a VLAN is added or deleted.
    for damage in [
        "vlan del dev p1 vid 10",
        "vlan add dev p1 vid 20 pvid untagged",
        "vlan add dev p4 vid 35 untagged",
    ] {
        bridge(damage);
        ip_in(Path::new(SWITCH), "link set br0 mtu 1400");
        bench
            .until_true(damage, || vlans("p1") == ["10 PVID Egress Untagged"] && vlans("p4") == trunk())
            .await;
    }
    let mut changed = values[1].clone();
    changed["bridge_port"]["vlans"] = json!([{ "vid": 20, "pvid": true, "untagged": true }, { "vid": 10 }]);
    revisions.extend(put_all(&bench, std::slice::from_ref(&changed)).await);
    bench.until_configured(&revisions).await;
    assert_eq!(vlans("p1"), ["10", "20 PVID Egress Untagged"]);
    assert!(!reaches(HOST1, "10.91.0.2") && reaches(HOST1, "10.91.0.3"));
    // Change the value while the agent is down. The agent must also remove VLANs that the value no longer contains.
    bench.kill_agent().await;
    changed["bridge_port"]["vlans"] = json!([{ "vid": 10, "pvid": true, "untagged": true }]);
    revisions.extend(put_all(&bench, std::slice::from_ref(&changed)).await);
    let before = bench.start_agent().await;
    bench.until_configured_since(&revisions, before).await;
    bench
        .until_true("VLAN 20 is removed", || vlans("p1") == ["10 PVID Egress Untagged"])
        .await;
    bench.delete_all().await;
    bench.until_nothing_is_published().await;
    bench.until_namespaces_are(&[]).await;
    bench.stop_agent().await;
}
on_one_store!(vlans_of_a_bridge_are_kept_apart, Etcd, 600, #[ignore = "needs Debian's stock kernel: run through tests/vm/run"]);

/// Returns a veth pair and a VLAN on each of its ends. One of the VLANs is in a different namespace from its parent.
fn tagged(id: u32) -> Vec<Value> {
    vec![
        json!({ "name": "low", "type": "VETH", "namespace": namespace("vl-sw"), "host_if_name": "eth0", "enabled": true,
            "veth": { "peer_if_name": "far" } }),
        json!({ "name": "far", "type": "VETH", "namespace": namespace("vl-h2"), "host_if_name": "eth0", "enabled": true,
            "veth": { "peer_if_name": "low" } }),
        json!({ "name": "up", "type": "VLAN", "namespace": namespace("vl-h1"), "host_if_name": "eth0", "enabled": true,
            "ip_addresses": ["10.92.0.1/24"], "vlan": { "parent_if_name": "low", "id": id } }),
        json!({ "name": "far-up", "type": "VLAN", "namespace": namespace("vl-h2"), "host_if_name": "v0", "enabled": true,
            "ip_addresses": ["10.92.0.2/24"], "vlan": { "parent_if_name": "far", "id": id } }),
    ]
}

/// A VLAN whose parent is in another namespace can be put before its parent. The VLAN is changed in place or created again, and a
/// second VLAN with the same parent and id is rejected.
///
/// If the parent is deleted by hand, both links are restored. If the value of the parent is deleted, the VLAN becomes PENDING. A
/// restart writes nothing.
async fn a_vlan_follows_its_parent(mut bench: Bench) {
    bench.start_agent().await;
    let mut values = tagged(10);
    values.reverse();
    let mut revisions = put_all(&bench, &values).await;
    bench.until_configured(&revisions).await;
    values.reverse();
    assert!(reaches(HOST1, "10.92.0.2"));
    let id = |name: &str| link(HOST1, name)["linkinfo"]["info_data"]["id"].clone();
    assert_eq!(id("eth0"), 10);
    settle::until_quiet(&[HOST1.into()]).await;
    let mut monitor = Monitor::open(Path::new(HOST1));
    bench.stop_agent().await;
    let before = bench.start_agent().await;
    bench.until_configured_since(&revisions, before).await;
    monitor.assert_silent("restart with a VLAN");
    // The kernel silently ignores a change of the id, so the link must be created again.
    let index = link(HOST1, "eth0")["ifindex"].clone();
    revisions.extend(put_all(&bench, &tagged(11)[2..]).await);
    bench.until_configured(&revisions).await;
    assert_eq!(id("eth0"), 11);
    assert_ne!(link(HOST1, "eth0")["ifindex"], index, "the link must be created again");
    assert!(reaches(HOST1, "10.92.0.2"));
    // VLAN flags change in place.
    let index = link(HOST1, "eth0")["ifindex"].clone();
    let mut loose = tagged(11)[2].clone();
    loose["vlan"]["loose_binding"] = json!(true);
    loose["vlan"]["reorder_headers"] = json!(false);
    revisions.extend(put_all(&bench, std::slice::from_ref(&loose)).await);
    bench.until_configured(&revisions).await;
    let data = link(HOST1, "eth0")["linkinfo"]["info_data"]["flags"].clone();
    assert_eq!((data, &link(HOST1, "eth0")["ifindex"]), (json!(["LOOSE_BINDING"]), &index));
    revisions.extend(put_all(&bench, &tagged(11)[2..3]).await);
    bench.until_configured(&revisions).await;
    assert_eq!(link(HOST1, "eth0")["linkinfo"]["info_data"]["flags"], json!(["REORDER_HDR"]));
    // A second VLAN with the same id on this parent is invalid.
    let twice = json!({ "name": "twice", "type": "VLAN", "namespace": namespace("vl-sw"), "host_if_name": "v1", "enabled": true,
        "vlan": { "parent_if_name": "low", "id": 11 } });
    put_all(&bench, std::slice::from_ref(&twice)).await;
    let status = bench.until_state(&key("twice"), "INVALID").await;
    assert!(status.reason == "VlanTaken" && format!("{status:?}").contains("up"), "{status:?}");
    bench.delete(&key("twice")).await;
    // If the parent is deleted by hand, both the parent and the VLAN are restored.
    ip_in(Path::new(SWITCH), "link del eth0");
    bench.until_true("the VLAN works again", || reaches(HOST1, "10.92.0.2")).await;
    // If the value of the parent is deleted, the VLAN becomes PENDING.
    bench.delete(&key("low")).await;
    bench.until_waiting_for(&key("up"), &["parent-exists", "parent-is-up"]).await;
    revisions.extend(put_all(&bench, &tagged(11)[..1]).await);
    bench.until_configured(&revisions).await;
    assert!(reaches(HOST1, "10.92.0.2"));
    // If a parent is set down, its VLAN goes down too. If the parent is set up again, its VLAN comes up too.
    let mut down = tagged(11)[0].clone();
    down["enabled"] = json!(false);
    put_all(&bench, std::slice::from_ref(&down)).await;
    bench
        .until_true("the parent is down", || {
            !link(SWITCH, "eth0")["flags"].to_string().contains("\"UP\"")
        })
        .await;
    revisions.extend(put_all(&bench, &tagged(11)[..1]).await);
    bench.until_configured(&revisions).await;
    bench.until_true("the VLAN works again", || reaches(HOST1, "10.92.0.2")).await;
    bench.delete_all().await;
    bench.until_nothing_is_published().await;
    bench.until_namespaces_are(&[]).await;
    bench.stop_agent().await;
}
on_one_store!(a_vlan_follows_its_parent, Embedded, 600, #[ignore = "needs Debian's stock kernel: run through tests/vm/run"]);
