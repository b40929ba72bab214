//! Live tests of the order of puts. Each value waits for its dependencies and names them, and the result does not depend on the
//! order.

use testbed::random::Random;

use crate::{
    on_both_stores,
    support::{
        bench::{Bench, Revisions},
        config::{Arp, Config, Interface, Reference, Route},
        ping,
        random_config::{Size, generate},
        store::StoreKind,
    },
};

/// Values that are put in reverse order report exactly the dependencies that they wait for. The result is the same as for any
/// other order.
async fn in_reverse_order_each_value_waits_with_the_right_label(mut bench: Bench) {
    bench.start_agent().await;
    let (near, far) = (Reference::named("order-near"), Reference::named("order-far"));
    let left = Interface::veth("left", "right", near.clone())
        .host_name("eth0")
        .address("10.21.0.1/24");
    let right = Interface::veth("right", "left", far).host_name("eth0").address("10.21.0.2/24");
    let route = Route::new("left", "10.22.0.0/16", "10.21.0.2");
    let arp = Arp::new("left", "10.21.0.9", "02:00:00:00:21:09");
    let mut revisions = Revisions::new();
    revisions.insert(route.key(), bench.put(&route.key(), route.json().to_string()).await);
    bench
        .until_waiting_for(
            &route.key(),
            &["outgoing-interface-is-up", "gw-reachable", "outgoing-interface-has-ip-address"],
        )
        .await;
    revisions.insert(arp.key(), bench.put(&arp.key(), arp.json().to_string()).await);
    bench
        .until_waiting_for(&arp.key(), &["interface-is-up", "interface-has-ip-address"])
        .await;

    // Put the interface before its peer. Then, one step at a time, add the peer, set the interface up, and correct its addresses.
    let mut bare = left.clone();
    (bare.enabled, bare.addresses) = (false, Vec::new());
    bench.put(&bare.key(), bare.json().to_string()).await;
    bench.until_waiting_for(&bare.key(), &["veth-peer-exists"]).await;
    revisions.insert(right.key(), bench.put(&right.key(), right.json().to_string()).await);
    bench.until_state(&bare.key(), "CONFIGURED").await;
    bench
        .until_waiting_for(
            &route.key(),
            &["outgoing-interface-is-up", "gw-reachable", "outgoing-interface-has-ip-address"],
        )
        .await;
    bare.enabled = true;
    bench.put(&bare.key(), bare.json().to_string()).await;
    bench
        .until_waiting_for(&route.key(), &["gw-reachable", "outgoing-interface-has-ip-address"])
        .await;
    bench.until_waiting_for(&arp.key(), &["interface-has-ip-address"]).await;
    let elsewhere = bare.clone().address("10.99.0.1/24");
    bench.put(&elsewhere.key(), elsewhere.json().to_string()).await;
    bench.until_waiting_for(&route.key(), &["gw-reachable"]).await;
    bench.until_state(&arp.key(), "CONFIGURED").await;
    revisions.insert(left.key(), bench.put(&left.key(), left.json().to_string()).await);

    bench.until_configured(&revisions).await;
    bench.check(&Config {
        interfaces: vec![left, right],
        routes: vec![route],
        arps: vec![arp],
    });
    ping::reaches(&near.path(), "10.21.0.2");
    bench.stop_agent().await;
}
on_both_stores!(in_reverse_order_each_value_waits_with_the_right_label);

/// Returns the number of random orders to try with this store. `LIVE_ORDERS` overrides the default.
fn orders(kind: StoreKind) -> usize {
    let default = match kind {
        StoreKind::Etcd => 200,
        StoreKind::Embedded => 60,
    };
    std::env::var("LIVE_ORDERS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(default)
}

/// Puts a configuration of 30 values in random orders and deletes it in other random orders. The state must always be the
/// same.
async fn every_order_of_the_same_values_leads_to_the_same_state(mut bench: Bench) {
    let mut random = Random::from_environment(3);
    let config = generate(
        &mut random,
        Size {
            namespaces: 4,
            pairs: 6,
            routes: 9,
            arps: 9,
        },
        "any",
    );
    let entries: Vec<(String, String)> = config.entries().into_iter().collect();
    assert_eq!(entries.len(), 30);
    bench.start_agent().await;
    for order in 0..orders(bench.store.kind()) {
        let mut puts = entries.clone();
        random.shuffle(&mut puts);
        let mut revisions = Revisions::new();
        for (key, value) in &puts {
            revisions.insert(key.clone(), bench.put(key, value.clone()).await);
        }
        bench.until_configured(&revisions).await;
        if let Err(difference) = config.check(&bench.label) {
            let keys: Vec<&String> = puts.iter().map(|(key, _)| key).collect();
            panic!(
                "order {order} has another result:\n{difference}\nthe order was {keys:#?}\n{}",
                bench.report()
            );
        }
        random.shuffle(&mut puts);
        for (key, _) in &puts {
            bench.delete(key).await;
        }
        bench.until_nothing_is_published().await;
        bench.until_namespaces_are(&[]).await;
    }
    bench.stop_agent().await;
}
on_both_stores!(every_order_of_the_same_values_leads_to_the_same_state, 420);
