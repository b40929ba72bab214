//! Live tests of store outages: the store crashes, is cut off, or changes while the agent cannot see it. The agent must not lose
//! any change or make unnecessary writes.

use std::path::PathBuf;

use testbed::random::Random;

use crate::{
    on_both_stores, on_one_store,
    support::{
        bench::{Bench, Revisions},
        config::{Config, Reference},
        etcd::CuttingProxy,
        monitor::Monitor,
        ping,
        random_config::{Size, generate},
        settle,
    },
};

/// Applies a random configuration, waits until the kernel has nothing left to do, and opens a monitor in each namespace.
async fn applied(bench: &mut Bench, seed: u64, prefix: &str) -> (Config, Revisions, Vec<Monitor>) {
    let mut random = Random::from_environment(seed);
    let config = generate(
        &mut random,
        Size {
            namespaces: 4,
            pairs: 8,
            routes: 12,
            arps: 12,
        },
        prefix,
    );
    bench.start_agent().await;
    let revisions = bench.put_together(&config).await;
    bench.until_configured(&revisions).await;
    let paths: Vec<PathBuf> = config.namespaces().iter().map(Reference::path).collect();
    settle::until_quiet(&paths).await;
    let monitors = paths.iter().map(|path| Monitor::open(path)).collect();
    (config, revisions, monitors)
}

/// Panics if the kernel reported any change.
fn assert_silent(monitors: &mut [Monitor], during: &str) {
    for monitor in monitors {
        monitor.assert_silent(during);
    }
}

/// When etcd crashes and comes back three times, nothing is written, no packet is lost, and a value that is put afterwards is
/// applied.
async fn etcd_crash_changes_nothing(mut bench: Bench) {
    let (mut config, mut revisions, mut monitors) = applied(&mut bench, 9, "gone").await;
    let stream = ping::Stream::start(&config.interfaces[0].netns.path(), "10.0.0.2", "outage");
    for round in 1..=3 {
        bench.store.etcd().kill();
        bench.store.etcd().restart().await;
        // Put a value after the crash. Once the agent has applied it, the agent is connected again. Nothing else may change.
        let changed = config.arps.last_mut().expect("the configuration has ARP entries");
        changed.mac = format!("02:cc:00:00:00:{round:02x}");
        let (key, value) = (changed.key(), changed.json().to_string());
        revisions.insert(key.clone(), bench.put(&key, value).await);
        bench.until_configured(&revisions).await;
        let seen: Vec<String> = monitors.iter_mut().flat_map(Monitor::changes).collect();
        assert_eq!(
            seen.len(),
            1,
            "crash {round} of etcd: one ARP entry was to change, but:\n{}",
            seen.join("\n")
        );
    }
    println!("{} echo requests answered", stream.finish_without_loss().await);
    bench.check(&config);
    bench.stop_agent().await;
}
on_one_store!(etcd_crash_changes_nothing, Etcd, 180);

/// If the connection breaks repeatedly while values change, each change is applied once, and nothing else is touched.
async fn a_broken_connection_loses_no_change(mut bench: Bench) {
    let address = bench.store.endpoint().parse().expect("the address of the store");
    let proxy = CuttingProxy::start(address).await;
    bench.endpoint = proxy.url();
    let (mut config, mut revisions, mut monitors) = applied(&mut bench, 95, "torn").await;
    for round in 1..=5 {
        proxy.close();
        // Put the value while the agent is cut off. The agent must notice the change after it has reconnected.
        let changed = config.arps.last_mut().expect("the configuration has ARP entries");
        changed.mac = format!("02:ce:00:00:00:{round:02x}");
        let (key, value) = (changed.key(), changed.json().to_string());
        revisions.insert(key.clone(), bench.put(&key, value).await);
        proxy.open();
        bench.until_configured(&revisions).await;
        let seen: Vec<String> = monitors.iter_mut().flat_map(Monitor::changes).collect();
        assert_eq!(
            seen.len(),
            1,
            "break {round}: one ARP entry was to change, but:\n{}",
            seen.join("\n")
        );
    }
    assert!(proxy.accepted() > 1, "the agent must have reconnected through the proxy");
    bench.check(&config);
    bench.stop_agent().await;
}
on_one_store!(a_broken_connection_loses_no_change, Etcd, 180);

/// etcd crashes, values change, and the history is compacted while the agent is frozen. The agent must still get every change
/// afterwards.
async fn changes_compacted_during_an_outage_are_not_lost(mut bench: Bench) {
    let (mut config, mut revisions, mut monitors) = applied(&mut bench, 91, "cut").await;
    bench.agent().freeze();
    // The crash ends the agent's watch, so the agent must start a new watch, from a revision that the compaction below removes.
    bench.store.etcd().kill();
    bench.store.etcd().restart().await;
    let gone = config.arps.pop().expect("an ARP entry");
    bench.delete(&gone.key()).await;
    revisions.remove(&gone.key());
    let changed = config.arps.last_mut().expect("another ARP entry");
    changed.mac = "02:cd:00:00:00:01".to_owned();
    let (key, value) = (changed.key(), changed.json().to_string());
    // Change the value twice, so that the first change is compacted.
    bench.put(&key, value.replace("02:cd:00:00:00:01", "02:cd:00:00:00:02")).await;
    revisions.insert(key.clone(), bench.put(&key, value).await);
    bench.store.compact().await;
    bench.agent().thaw();
    bench.until_configured(&revisions).await;
    let key = gone.key();
    bench
        .until("the status of the deleted value is deleted", |publication| {
            publication.of(&key).is_none()
        })
        .await;
    bench.check(&config);
    let seen: Vec<String> = monitors.iter_mut().flat_map(Monitor::changes).collect();
    assert_eq!(
        seen.len(),
        2,
        "one ARP entry was deleted and one changed, but:\n{}",
        seen.join("\n")
    );
    bench.stop_agent().await;
}
on_one_store!(changes_compacted_during_an_outage_are_not_lost, Etcd, 120);

/// If an agent is frozen until its lease has expired, it publishes everything again when it resumes, and writes nothing to the
/// kernel.
async fn a_lost_lease_is_replaced_without_a_write(mut bench: Bench) {
    let (config, revisions, mut monitors) = applied(&mut bench, 92, "lease").await;
    bench.agent().freeze();
    bench.until_nothing_is_published().await;
    bench.agent().thaw();
    bench.until_configured(&revisions).await;
    assert_silent(&mut monitors, "while the lease was lost");
    bench.check(&config);
    bench.stop_agent().await;
}
on_one_store!(a_lost_lease_is_replaced_without_a_write, Etcd, 120);

/// The status of a dead agent is deleted when its lease expires.
async fn status_of_a_dead_agent_is_deleted(mut bench: Bench) {
    let (config, _, mut monitors) = applied(&mut bench, 93, "dead").await;
    bench.kill_agent().await;
    bench.until_nothing_is_published().await;
    bench
        .until("nothing at all is published", |publication| publication.keys.is_empty())
        .await;
    assert_silent(&mut monitors, "after the agent was killed");
    bench.check(&config);
}
on_one_store!(status_of_a_dead_agent_is_deleted, Etcd, 120);

/// Compacting the store while the agent is watching it has no effect on the agent.
async fn a_compaction_under_a_running_agent_changes_nothing(mut bench: Bench) {
    let (config, mut revisions, mut monitors) = applied(&mut bench, 94, "tidy").await;
    bench.store.compact().await;
    let again = config.arps[0].clone();
    revisions.insert(again.key(), bench.put(&again.key(), again.json().to_string()).await);
    bench.until_configured(&revisions).await;
    assert_silent(&mut monitors, "while the store was compacted");
    bench.stop_agent().await;
}
on_both_stores!(a_compaction_under_a_running_agent_changes_nothing);
