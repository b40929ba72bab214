//! Live tests of a store that has lost its contents. The network stays as it is, the agent is not ready, and objects are deleted
//! only after a user has accepted the removal.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use crate::{
    on_both_stores, on_one_store,
    support::{
        agent::program,
        bench::Bench,
        command,
        config::{Config, Interface, Reference, Route},
        monitor::Monitor,
        settle,
        status::Publication,
    },
};

fn config() -> Config {
    Config {
        interfaces: vec![
            Interface::veth("left", "right", Reference::named("loss-left")).address("10.71.0.1/24"),
            Interface::veth("right", "left", Reference::named("loss-right")).address("10.71.0.2/24"),
            Interface::veth("home", "away", Reference::Own)
                .host_name("home0")
                .address("10.72.0.1/24"),
            Interface::veth("away", "home", Reference::named("loss-right"))
                .host_name("away0")
                .address("10.72.0.2/24"),
        ],
        routes: vec![Route::new("left", "10.73.0.0/16", "10.71.0.2")],
        ..Config::default()
    }
}

/// Starts an agent, applies the configuration, and opens monitors in all its namespaces.
async fn applied(bench: &mut Bench) -> Vec<Monitor> {
    bench.start_agent().await;
    let revisions = bench.put_together(&config()).await;
    bench.until_configured(&revisions).await;
    let mut paths: Vec<PathBuf> = ["loss-left", "loss-right"].map(|name| Reference::named(name).path()).to_vec();
    paths.push(PathBuf::from("/proc/self/ns/net"));
    settle::until_quiet(&paths).await;
    paths.iter().map(|path| Monitor::open(path)).collect()
}

/// Runs `netns-agent` with these arguments. Returns the exit code, and standard output followed by standard error.
fn cli(arguments: &[&str]) -> (i32, String) {
    let output = command::output(&program(), arguments);
    let text = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    (output.status.code().unwrap_or(-1), text.concat())
}

/// Returns the number of values and the number of orphans whose removal is on hold.
fn held() -> Option<(usize, usize)> {
    let (code, text) = cli(&["removals", "list", "-o", "json"]);
    let json: serde_json::Value = serde_json::from_str(&text).ok().filter(|_| code == 0)?;
    let count = |member: &str| json[member].as_array().map_or(0, Vec::len);
    Some((count("values"), count("orphans")))
}

async fn until_held(bench: &Bench, what: (usize, usize)) {
    let held = bench.becomes(|| held() == Some(what)).await;
    assert!(
        held,
        "expected {what:?} held values and orphans, but got:\n{}",
        cli(&["removals", "list"]).1
    );
}

/// Returns the time at which each removal was put on hold, by the key of the value. Reads the times from the published statuses.
fn held_since(published: &Publication) -> BTreeMap<String, String> {
    let statuses = published.keys.values().filter_map(|published| published.status.as_ref());
    let held = statuses.filter(|status| !status.removal_held_since.is_empty());
    held.map(|status| (status.key.clone(), status.removal_held_since.clone())).collect()
}

/// Waits until the statuses of exactly these values report that the removal is on hold. Returns the time at which each removal
/// was put on hold.
async fn until_reported_held(bench: &Bench, keys: &[String]) -> BTreeMap<String, String> {
    let wanted: BTreeSet<String> = keys.iter().map(|key| format!("config/{key}")).collect();
    let says = |published: &Publication| held_since(published).into_keys().eq(wanted.iter().cloned());
    held_since(&*bench.until("the statuses report the held removals", says).await)
}

fn assert_silent(monitors: &mut [Monitor], during: &str) {
    for monitor in monitors {
        monitor.assert_silent(during);
    }
}

/// Waits until `netns-agent status` fails. Its output must say that removals are on hold, state the reason, and tell the user
/// what to do.
async fn until_not_ready(bench: &Bench, evidence: &str) {
    let says_all = || {
        let (code, text) = cli(&["status"]);
        let parts = [
            "is on hold because the store may have lost its contents",
            evidence,
            "netns-agent removals accept",
        ];
        code != 0 && parts.iter().all(|part| text.contains(part))
    };
    let says = bench.becomes(says_all).await;
    assert!(says, "no {evidence:?} in:\n{}", cli(&["status"]).1);
}

async fn until_ready(bench: &Bench) {
    bench.until_true("the agent is ready", || cli(&["status"]).0 == 0).await;
}

/// etcd is wiped while the agent is running. Nothing is deleted, and damage is still repaired. If a key is put again, its removal
/// is no longer on hold.
async fn an_etcd_wiped_under_the_agent_deletes_nothing(mut bench: Bench) {
    let mut monitors = applied(&mut bench).await;
    bench.store.etcd().kill();
    bench.store.etcd().wipe();
    bench.store.etcd().restart().await;
    until_held(&bench, (5, 0)).await;
    until_not_ready(&bench, "the revision is").await;
    let config = config();
    let route = config.routes[0].key();
    let keys: Vec<String> = config
        .interfaces
        .iter()
        .map(|interface| interface.key())
        .chain([route.clone()])
        .collect();
    let since = until_reported_held(&bench, &keys).await;
    for command in [["describe", route.as_str()], ["get", route.as_str()]] {
        let (_, text) = cli(&command);
        assert!(text.to_lowercase().contains("removal held"), "{text}");
    }
    assert_silent(&mut monitors, "the store was wiped");
    command::ip("-n loss-left route del 10.73.0.0/16");
    bench
        .until_true("the route is repaired", || {
            command::ip("-n loss-left route").contains("10.73.0.0/16")
        })
        .await;
    for interface in &config.interfaces[..2] {
        bench.put(&interface.key(), interface.json().to_string()).await;
    }
    until_held(&bench, (3, 0)).await;
    let still_held = until_reported_held(&bench, &keys[2..]).await;
    assert!(
        still_held.iter().all(|(key, time)| since.get(key) == Some(time)),
        "{still_held:?}, {since:?}"
    );
    bench.check(&config);
    // After a crash of the agent, the other removals are still on hold. The values that were put again are not affected.
    bench.kill_agent().await;
    bench.until_nothing_is_published().await;
    bench.launch_agent_now();
    until_held(&bench, (3, 0)).await;
    assert_eq!(
        until_reported_held(&bench, &keys[2..]).await,
        still_held,
        "the crash must not change the times"
    );
    bench.check(&config);
    let (code, text) = cli(&["removals", "accept"]);
    assert_eq!((code, text.as_str()), (0, "accepted: the agent deletes 3 values and 0 orphans\n"));
    bench
        .until_true("the other pair is deleted", || !command::ip("-br link").contains("home0"))
        .await;
    until_ready(&bench).await;
    until_reported_held(&bench, &[]).await;
    bench.check(&Config {
        interfaces: config.interfaces[..2].to_vec(),
        ..Config::default()
    });
    bench.stop_agent().await;
}
on_one_store!(an_etcd_wiped_under_the_agent_deletes_nothing, Etcd, 120);

/// If the store is empty when the agent starts, the links of the agent stay until a key in the store accepts the removal.
async fn an_agent_started_against_an_emptied_etcd_deletes_nothing(mut bench: Bench) {
    let mut monitors = applied(&mut bench).await;
    bench.kill_agent().await;
    bench.store.etcd().kill();
    bench.store.etcd().wipe();
    bench.store.etcd().restart().await;
    bench.launch_agent_now();
    until_held(&bench, (0, 5)).await;
    until_not_ready(&bench, "before the agent stopped").await;
    // The removals stay on hold after another restart, although the agent now recognizes the store.
    bench.kill_agent().await;
    bench.launch_agent_now();
    until_held(&bench, (0, 5)).await;
    until_not_ready(&bench, "before the agent stopped").await;
    assert_silent(&mut monitors, "the agent was started against an emptied store");
    bench.check(&config());
    bench.put("removals/accept", "").await;
    bench.until_namespaces_are(&[]).await;
    bench
        .until_true("the pair is deleted", || !command::ip("-br link").contains("home0"))
        .await;
    until_ready(&bench).await;
    bench.stop_agent().await;
}
on_one_store!(an_agent_started_against_an_emptied_etcd_deletes_nothing, Etcd, 120);

/// With `--on-store-loss=apply`, the agent deletes the objects of all values that the store has lost.
async fn store_loss_is_applied_with_on_store_loss_apply(mut bench: Bench) {
    bench.agent_arguments.push("--on-store-loss=apply".to_owned());
    applied(&mut bench).await;
    bench.store.etcd().kill();
    bench.store.etcd().wipe();
    bench.store.etcd().restart().await;
    bench.until_namespaces_are(&[]).await;
    bench.stop_agent().await;
}
on_one_store!(store_loss_is_applied_with_on_store_loss_apply, Etcd, 120);

/// If all keys are deleted while the agent is down, the agent deletes the objects, because the history of the store shows that
/// the keys were deleted and not lost.
async fn deletions_made_while_the_agent_was_down_are_followed(mut bench: Bench) {
    applied(&mut bench).await;
    bench.kill_agent().await;
    bench.delete_all().await;
    bench.start_agent().await;
    bench.until_namespaces_are(&[]).await;
    assert_eq!(held(), Some((0, 0)));
    let log = std::fs::read_to_string(crate::support::agent::LOG).expect("read the log of the agent");
    assert!(log.contains("deleting orphan"), "deletions at start must be logged");
    bench.stop_agent().await;
}
on_one_store!(deletions_made_while_the_agent_was_down_are_followed, Etcd, 120);

/// If the file of the embedded store is missing, the agent deletes nothing. It treats the new, empty store as a replacement of
/// the old one.
async fn a_missing_store_file_deletes_nothing(mut bench: Bench) {
    let mut monitors = applied(&mut bench).await;
    bench.kill_agent().await;
    std::fs::remove_file("/run/live/data/store.redb").expect("remove the file of the store");
    bench.launch_agent_now();
    until_held(&bench, (0, 5)).await;
    until_not_ready(&bench, "the cluster ID was").await;
    assert_silent(&mut monitors, "the file of the store was missing");
    let (code, text) = cli(&["removals", "accept"]);
    assert_eq!((code, text.as_str()), (0, "accepted: the agent deletes 0 values and 5 orphans\n"));
    bench.until_namespaces_are(&[]).await;
    until_ready(&bench).await;
    bench.stop_agent().await;
}
on_one_store!(a_missing_store_file_deletes_nothing, Embedded, 120);

/// If the data directory is lost, the agent cannot recognize its store. It deletes no objects of an earlier run.
async fn a_lost_data_directory_deletes_nothing(mut bench: Bench) {
    let mut monitors = applied(&mut bench).await;
    bench.kill_agent().await;
    if bench.store.kind() == crate::support::store::StoreKind::Etcd {
        bench.delete_all().await;
    }
    std::fs::remove_dir_all("/run/live/data").expect("remove the data directory");
    bench.launch_agent_now();
    until_held(&bench, (0, 5)).await;
    until_not_ready(&bench, "/run/live/data/store.json does not exist").await;
    assert_silent(&mut monitors, "the data directory was lost");
    assert_eq!(cli(&["removals", "accept"]).0, 0);
    bench.until_namespaces_are(&[]).await;
    until_ready(&bench).await;
    bench.stop_agent().await;
}
on_both_stores!(a_lost_data_directory_deletes_nothing);
