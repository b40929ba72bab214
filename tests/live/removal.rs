//! Live tests of deletion. If values are deleted, exactly the objects that the agent created for them must be removed.

use testbed::random::Random;

use crate::{
    on_both_stores, on_one_store,
    support::{
        bench::Bench,
        config::Config,
        foreign::{fingerprints, found_namespaces},
        random_config::{Size, generate},
    },
};

/// Returns a configuration with four namespaces, two of which exist already.
fn mixed(random: &mut Random) -> Config {
    generate(
        random,
        Size {
            namespaces: 4,
            pairs: 8,
            routes: 12,
            arps: 12,
        },
        "mixed",
    )
}

/// When values are deleted one by one in random orders, the agent's objects and namespaces are removed, and foreign ones stay
/// unchanged.
async fn deleting_in_any_order_leaves_exactly_what_was_found(mut bench: Bench) {
    let mut random = Random::from_environment(8);
    let found = found_namespaces("mixed", &bench.label).await;
    let before = fingerprints(&found);
    let config = mixed(&mut random);
    bench.start_agent().await;
    for round in 0..20 {
        bench.until_configured(&bench.put_together(&config).await).await;
        let mut keys: Vec<String> = config.entries().into_keys().collect();
        random.shuffle(&mut keys);
        for key in &keys {
            bench.delete(key).await;
        }
        bench.until_nothing_is_published().await;
        bench.until_namespaces_are(&found).await;
        assert_eq!(
            before,
            fingerprints(&found),
            "round {round}: a foreign namespace changed; deleted in the order {keys:#?}"
        );
    }
    bench.stop_agent().await;
}
on_both_stores!(deleting_in_any_order_leaves_exactly_what_was_found, 240);

/// When all values are deleted in one transaction, the agent's objects and namespaces are removed, and foreign ones stay
/// unchanged.
async fn deleting_everything_at_once_leaves_exactly_what_was_found(mut bench: Bench) {
    let mut random = Random::from_environment(81);
    let found = found_namespaces("mixed", &bench.label).await;
    let before = fingerprints(&found);
    let config = mixed(&mut random);
    bench.start_agent().await;
    for _ in 0..5 {
        bench.until_configured(&bench.put_together(&config).await).await;
        bench.delete_all().await;
        bench.until_nothing_is_published().await;
        bench.until_namespaces_are(&found).await;
        assert_eq!(before, fingerprints(&found), "foreign namespaces must not change");
    }
    bench.stop_agent().await;
}
on_both_stores!(deleting_everything_at_once_leaves_exactly_what_was_found);

/// If values are deleted while no agent is running, the next agent removes their objects when it starts, although no value refers
/// to their namespaces any more.
async fn values_deleted_while_no_agent_ran_are_removed_at_startup(mut bench: Bench) {
    let mut random = Random::from_environment(82);
    let found = found_namespaces("mixed", &bench.label).await;
    let before = fingerprints(&found);
    let config = mixed(&mut random);
    bench.start_agent().await;
    bench.until_configured(&bench.put_together(&config).await).await;
    bench.stop_agent().await;
    bench.delete_all().await;
    bench.start_agent().await;
    bench.until_nothing_is_published().await;
    bench.until_namespaces_are(&found).await;
    bench
        .until_true("the foreign namespaces are unchanged", || before == fingerprints(&found))
        .await;
    bench.stop_agent().await;
}
on_one_store!(values_deleted_while_no_agent_ran_are_removed_at_startup, Etcd, 120);
