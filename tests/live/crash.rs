//! Live test of crashes: the agent is killed at random moments. After each start, it must converge, leave nothing behind and
//! touch nothing foreign.

use std::{path::PathBuf, time::Duration};

use testbed::random::Random;

use crate::{
    on_both_stores,
    support::{
        bench::{Bench, Revisions},
        config::Config,
        foreign::{fingerprints, foreign_lines, found_namespaces},
        random_config::{Size, change, generate},
        store::Change,
    },
};

/// Returns the number of times to kill the agent (`LIVE_KILLS`, 50 by default).
fn kills() -> usize {
    std::env::var("LIVE_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(50)
}

/// Returns the writes that turn the configuration `old` into `new`, one per key, in random order.
fn writes(bench: &Bench, random: &mut Random, old: &Config, new: &Config) -> Vec<(String, Change)> {
    let (before, after) = (old.entries(), new.entries());
    let gone = before
        .keys()
        .filter(|key| !after.contains_key(*key))
        .map(|key| (key.clone(), Change::Delete(bench.key(key))));
    let put = after.iter().filter(|(key, value)| before.get(*key) != Some(*value));
    let put = put.map(|(key, value)| (key.clone(), Change::Put(bench.key(key), value.clone().into_bytes())));
    let mut writes: Vec<(String, Change)> = gone.chain(put).collect();
    random.shuffle(&mut writes);
    writes
}

/// Changes some values of `full`, and returns the result. With a probability of one half, the returned configuration lacks some
/// of the veth pairs.
fn next(random: &mut Random, full: &mut Config) -> Config {
    change(random, full, 12);
    let mut config = full.clone();
    if random.below(2) == 0 {
        // Drop some of the veth pairs, and the routes and ARP entries on them.
        let dropped = 1 + random.below(6);
        config.interfaces.drain(..2 * dropped);
        let names: Vec<String> = config.interfaces.iter().map(|interface| interface.name.clone()).collect();
        config.routes.retain(|route| names.contains(&route.interface));
        config.arps.retain(|arp| names.contains(&arp.interface));
    }
    config
}

/// Writes the changes one by one and returns when all are acknowledged.
async fn write_all(bench: &Bench, writes: &[(String, Change)], revisions: &mut Revisions) {
    for (key, write) in writes {
        let revision = bench.store.transact(vec![write.clone()]).await;
        match write {
            Change::Put(..) => revisions.insert(key.clone(), revision),
            Change::Delete(_) => revisions.remove(key),
        };
    }
}

/// Changes values, kills the agent before all of them are written, starts it again, and checks that everything matches the latest
/// values. Repeats this 50 times by default.
async fn agent_killed_at_random_moments_converges(mut bench: Bench) {
    let mut random = Random::from_environment(6);
    let found = found_namespaces("crash", &bench.label).await;
    let before = fingerprints(&found);
    let mut full = generate(
        &mut random,
        Size {
            namespaces: 8,
            pairs: 20,
            routes: 30,
            arps: 30,
        },
        "crash",
    );
    assert_eq!(full.entries().len(), 100);
    let (mut current, mut revisions) = (Config::default(), Revisions::new());
    bench.start_agent().await;
    for kill in 0..kills() {
        let target = next(&mut random, &mut full);
        let all = writes(&bench, &mut random, &current, &target);
        // The agent is running while the early changes are written. While the late changes are written, it is starting again.
        let (early, late) = all.split_at(random.below(all.len() + 1));
        write_all(&bench, early, &mut revisions).await;
        // Sleep for a random time, because the moment of the kill is the fault that is tested.
        tokio::time::sleep(Duration::from_micros(random.below(40_000) as u64)).await;
        bench.kill_agent().await;
        let started_at = bench.launch_agent().await;
        write_all(&bench, late, &mut revisions).await;
        let wanted = revisions.clone();
        bench
            .until_none("CONFIGURED by the agent started last", |publication| {
                let late = wanted.iter().filter(|(key, revision)| {
                    !(publication.is_configured_since(key, started_at) && publication.is_configured_at(key, **revision))
                });
                late.map(|(key, revision)| format!("kill {kill}: {key} (revision {revision}): {:?}", publication.of(key)))
                    .collect()
            })
            .await;
        current = target;
        check_everything(&bench, &current, &found, &format!("after kill {kill}")).await;
    }
    bench.delete_all().await;
    bench.until_nothing_is_published().await;
    bench.until_namespaces_are(&found).await;
    bench
        .until_true("the foreign namespaces are unchanged", || before == fingerprints(&found))
        .await;
    bench.stop_agent().await;
}
on_both_stores!(agent_killed_at_random_moments_converges, 420);

/// Checks that exactly the desired and the foreign namespaces exist, and that each contains exactly its desired and foreign
/// objects.
async fn check_everything(bench: &Bench, config: &Config, found: &[String], when: &str) {
    let expected = config.expected(&bench.label);
    let mut names: Vec<String> = config
        .namespaces()
        .iter()
        .map(|reference| reference.path())
        .map(|path: PathBuf| file_name(&path))
        .collect();
    names.extend(found.iter().cloned());
    names.sort();
    names.dedup();
    bench.until_namespaces_are(&names).await;
    for (reference, state) in expected {
        let name = file_name(&reference.path());
        // Objects that are no longer desired may still be disappearing, because the kernel acknowledges a deletion before the
        // peer is gone.
        let mut report = String::new();
        let converged = bench.becomes(|| {
            let mut state = state.clone();
            if let Some(number) = found.iter().position(|found| *found == name) {
                state.lines.extend(foreign_lines(&bench.label, number));
            }
            report = match crate::support::netns_state::NetnsState::read(&reference.path()) {
                Ok(seen) => state.difference(&seen, &name),
                Err(error) => error,
            };
            report.is_empty()
        });
        assert!(converged.await, "{when}:\n{report}\n{}", bench.report());
    }
}

fn file_name(path: &std::path::Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
