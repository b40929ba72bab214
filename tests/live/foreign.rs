//! Live tests of foreign objects that have the name, destination or address of a value. The agent reports them, and adopts them
//! only if the value has `adopt`.

use serde_json::{Value, json};

use crate::{
    on_both_stores,
    support::{
        bench::Bench,
        command::{ip, ip_in},
        config::{Arp, Interface, Kind, Reference, Route},
    },
};

/// Returns the value with `adopt` set to true, as JSON text.
fn adopting(mut value: Value) -> String {
    value["adopt"] = json!(true);
    value.to_string()
}

/// A foreign veth pair is reported and left alone. It is adopted when its values have `adopt`, and deleted with these values.
async fn foreign_link_is_adopted_only_with_adopt(mut bench: Bench) {
    bench.start_agent().await;
    for netns in ["foreign-a", "foreign-b"] {
        ip(&format!("netns add {netns}"));
    }
    ip("link add eth0 mtu 1400 netns foreign-a type veth peer name eth0 netns foreign-b");
    let (a, b) = (Reference::named("foreign-a"), Reference::named("foreign-b"));
    ip_in(&a.path(), "link set eth0 alias somebody-else");
    ip_in(&b.path(), "link set eth0 mtu 1300 up");
    let before = ip_in(&a.path(), "-o link show eth0");
    let left = Interface::veth("left", "right", a.clone())
        .host_name("eth0")
        .address("10.41.0.1/24");
    let right = Interface::veth("right", "left", b.clone())
        .host_name("eth0")
        .address("10.41.0.2/24");
    for end in [&left, &right] {
        bench.put(&end.key(), end.json().to_string()).await;
    }
    let status = bench.until_state(&left.key(), "RETRYING").await;
    assert_eq!(status.reason, "ForeignObject", "{status:?}");
    for words in ["kind veth", "somebody-else", "foreign-a", "adopt"] {
        assert!(status.message.contains(words), "{words} in {status:?}");
    }
    assert_eq!(ip_in(&a.path(), "-o link show eth0"), before, "the foreign link must be unchanged");

    bench.put(&right.key(), adopting(right.json())).await;
    bench.put(&left.key(), adopting(left.json())).await;
    for end in [&left, &right] {
        let status = bench.until_state(&end.key(), "CONFIGURED").await;
        assert!(status.adopted, "{status:?}");
    }
    let after = ip_in(&a.path(), "-o link show eth0");
    assert_eq!(after.split(':').next(), before.split(':').next(), "link replaced:\n{before}{after}");
    assert!(after.contains("mtu 1500") && after.contains("left/right//adopted"), "{after}");

    let other = ip_in(&b.path(), "-o link show eth0");
    assert!(other.contains("mtu 1500") && other.contains("right/left//adopted"), "{other}");

    // A restarted agent recognizes the adopted link, and deletes it like its own links.
    bench.kill_agent().await;
    let restarted = bench.start_agent().await;
    let key = left.key();
    let published = bench
        .until("the new agent recognizes the link", |publication| {
            publication.is_configured_since(&key, restarted)
        })
        .await;
    assert_eq!(
        published.of(&key).map(|status| (status.adopted, status.last_operation.as_str())),
        Some((true, ""))
    );
    bench.delete_all().await;
    bench.until_nothing_is_published().await;
    for netns in [&a, &b] {
        assert!(!ip_in(&netns.path(), "-o link").contains("eth0"));
    }
    bench.stop_agent().await;
}
on_both_stores!(foreign_link_is_adopted_only_with_adopt);

/// A foreign link already has the name of a value's link. When the value is deleted, its status disappears and the foreign link
/// stays.
async fn deleting_a_value_keeps_the_foreign_link_with_its_name(mut bench: Bench) {
    bench.start_agent().await;
    ip("netns add taken");
    let netns = Reference::named("taken");
    ip_in(&netns.path(), "link add eth0 type veth peer name eth1");
    let left = Interface::veth("left", "right", netns.clone()).host_name("eth0");
    let right = Interface::veth("right", "left", netns.clone()).host_name("free");
    for end in [&left, &right] {
        bench.put(&end.key(), end.json().to_string()).await;
    }
    bench.until_state(&left.key(), "RETRYING").await;
    bench.delete_all().await;
    bench.until_nothing_is_published().await;
    assert!(ip_in(&netns.path(), "-o link").contains("eth0"));
    bench.stop_agent().await;
}
on_both_stores!(deleting_a_value_keeps_the_foreign_link_with_its_name);

/// Foreign routes and permanent neighbours are reported, and adopted only with `adopt`.
async fn foreign_routes_and_neighbours_are_adopted_only_with_adopt(mut bench: Bench) {
    bench.start_agent().await;
    let netns = Reference::named("foreign-l3");
    let [left, right] = [("left", "right", "10.42.0.1/24"), ("right", "left", "10.42.0.2/24")]
        .map(|(name, peer, address)| Interface::veth(name, peer, netns.clone()).address(address));
    for end in [&left, &right] {
        bench.put(&end.key(), end.json().to_string()).await;
    }
    bench.until_state(&left.key(), "CONFIGURED").await;
    ip_in(&netns.path(), "route add 10.43.0.0/16 via 10.42.0.9 dev left proto static");
    ip_in(
        &netns.path(),
        "neighbour add 10.42.0.7 dev left lladdr 02:00:00:00:42:99 nud permanent",
    );
    let route = Route::new("left", "10.43.0.0/16", "10.42.0.2");
    let arp = Arp::new("left", "10.42.0.7", "02:00:00:00:42:07");
    bench.put(&route.key(), route.json().to_string()).await;
    bench.put(&arp.key(), arp.json().to_string()).await;
    for (key, words) in [
        (route.key(), "protocol 4 (static: added by an administrator)"),
        (arp.key(), "02:00:00:00:42:99"),
    ] {
        let status = bench.until_state(&key, "RETRYING").await;
        assert_eq!(status.reason, "ForeignObject", "{status:?}");
        assert!(status.message.contains(words), "{words} in {status:?}");
    }
    assert!(ip_in(&netns.path(), "route").contains("10.43.0.0/16 via 10.42.0.9"));
    assert!(ip_in(&netns.path(), "neighbour").contains("02:00:00:00:42:99"));

    bench.put(&route.key(), adopting(route.json())).await;
    bench.put(&arp.key(), adopting(arp.json())).await;
    for key in [route.key(), arp.key()] {
        let status = bench.until_state(&key, "CONFIGURED").await;
        assert!(status.adopted, "{status:?}");
    }
    assert!(ip_in(&netns.path(), "route").contains("10.43.0.0/16 via 10.42.0.2"));
    assert!(ip_in(&netns.path(), "neighbour").contains("02:00:00:00:42:07"));
    for key in [route.key(), arp.key()] {
        bench.delete(&key).await;
    }
    let gone = |publication: &crate::support::status::Publication| publication.of(&route.key()).or(publication.of(&arp.key())).is_none();
    bench.until("both statuses are deleted", gone).await;
    assert!(!ip_in(&netns.path(), "route").contains("10.43.0.0/16"));
    assert!(!ip_in(&netns.path(), "neighbour").contains("10.42.0.7"));
    bench.stop_agent().await;
}
on_both_stores!(foreign_routes_and_neighbours_are_adopted_only_with_adopt);

/// A value with `adopt` is INVALID if the agent does not create objects of its type.
async fn adopt_is_invalid_for_objects_the_agent_does_not_create(mut bench: Bench) {
    bench.start_agent().await;
    let loopback = Interface::new("behind", Kind::Loopback, Reference::named("adopt-lo"));
    bench.put(&loopback.key(), adopting(loopback.json())).await;
    let status = bench.until_state(&loopback.key(), "INVALID").await;
    assert_eq!(
        (status.reason.as_str(), status.details),
        ("AdoptNotSupported", vec!["type".to_owned(), "adopt".to_owned()])
    );
    bench.stop_agent().await;
}
on_both_stores!(adopt_is_invalid_for_objects_the_agent_does_not_create);

/// A LOOPBACK fails while `lo` has the ownership mark of another agent. The mark stays unchanged.
async fn loopback_of_another_agent_is_left_alone(mut bench: Bench) {
    bench.start_agent().await;
    ip("netns add shared");
    let shared = Reference::named("shared");
    ip_in(&shared.path(), "link set lo alias /vnf-agent/other/its-lo//netns up");
    let value = Interface::new("lo0", Kind::Loopback, shared.clone()).address("10.43.0.1/32");
    bench.put(&value.key(), value.json().to_string()).await;
    let status = bench.until_state(&value.key(), "RETRYING").await;
    assert_eq!(status.reason, "ForeignObject", "{status:?}");
    assert!(status.message.contains("/vnf-agent/other/"), "{status:?}");
    let link = ip_in(&shared.path(), "-o link show lo");
    assert!(link.contains("/vnf-agent/other/its-lo//netns"), "{link}");
    // Remove the ownership mark, as the other agent does when it releases `lo`.
    ip_in(&shared.path(), "link set lo alias unconfigured");
    bench.until_state(&value.key(), "CONFIGURED").await;
    bench.delete_all().await;
    bench.until_nothing_is_published().await;
    bench.stop_agent().await;
}
on_both_stores!(loopback_of_another_agent_is_left_alone);
