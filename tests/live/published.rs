//! Live tests of the keys that the agent publishes in addition to value statuses: interface states, namespaces and its own
//! health.

use crate::{
    on_both_stores,
    support::{bench::Bench, command::ip_in, config::Reference, status::Publication},
    veth::two_namespaces,
};

/// Returns a published key as JSON.
fn json(publication: &Publication, key: &str) -> serde_json::Value {
    publication
        .keys
        .get(key)
        .map(|entry| serde_json::from_str(&entry.text).unwrap_or_default())
        .unwrap_or_default()
}

/// The published state of an interface matches the kernel, follows changes in the kernel, and is deleted with the interface.
async fn the_state_of_an_interface_is_published_and_follows_the_kernel(mut bench: Bench) {
    bench.start_agent().await;
    let config = two_namespaces();
    bench.until_configured(&bench.put_together(&config).await).await;
    let key = "status/linux/interfaces/v2/interface/left";
    let left = Reference::named("pair-left").path();
    let index: i64 = ip_in(&left, "-o link show eth0")
        .split(':')
        .next()
        .and_then(|text| text.parse().ok())
        .expect("ip prints an index");
    let published = bench
        .until("the state of the interface is published", |publication| {
            json(publication, key)["if_index"] == index
        })
        .await;
    let state = json(&published, key);
    assert_eq!(state["internal_name"], "eth0", "{state}");
    assert_eq!(state["phys_address"], "02:00:00:00:11:01", "{state}");
    assert_eq!(state["mtu"], 1500, "{state}");
    assert_eq!(state["admin_status"], "UP", "{state}");
    bench
        .until("oper_status becomes UP", |publication| {
            json(publication, key)["oper_status"] == "UP"
        })
        .await;
    bench.delete_all().await;
    bench
        .until("the state is deleted with the interface", |publication| {
            !publication.keys.contains_key(key)
        })
        .await;
    bench.stop_agent().await;
}
on_both_stores!(the_state_of_an_interface_is_published_and_follows_the_kernel);

/// For each namespace to which values refer, the agent publishes a key that contains its inode.
async fn each_referenced_namespace_is_published(mut bench: Bench) {
    use std::os::unix::fs::MetadataExt;
    bench.start_agent().await;
    let config = two_namespaces();
    bench.until_configured(&bench.put_together(&config).await).await;
    let key = "status/linux/namespace/NSID/pair-left";
    let inode = std::fs::metadata("/run/netns/pair-left")
        .expect("stat the namespace file")
        .ino()
        .to_string();
    let published = bench.until("the namespace is published with its inode", |publication| {
        publication.keys.get(key).is_some_and(|entry| entry.text.contains(&inode))
    });
    println!("{}", json(&*published.await, key));
    bench.delete_all().await;
    bench
        .until("the namespace is no longer published", |publication| {
            !publication.keys.contains_key(key)
        })
        .await;
    bench.stop_agent().await;
}
on_both_stores!(each_referenced_namespace_is_published);
