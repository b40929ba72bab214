//! Live test of invalid input. Each invalid value is explained under its own status key, does not affect other values, and can be
//! corrected.

mod cases;

use std::path::Path;

use crate::{
    on_both_stores,
    support::{
        bench::{Bench, Revisions},
        config::{Config, Interface, Reference},
        monitor::Monitor,
        ping, settle,
    },
};
use cases::{Case, Correction};

/// Namespace in which the invalid values would be configured if they were valid.
pub const NEAR: &str = "bad-near";
/// Namespace of the peers of the invalid values.
pub const FAR: &str = "bad-far";

/// Returns a valid veth pair. None of the invalid values is in its namespaces.
fn bystanders() -> Config {
    let near = Interface::veth("good-near", "good-far", Reference::named("good-near"))
        .host_name("eth0")
        .address("10.31.0.1/24");
    let far = Interface::veth("good-far", "good-near", Reference::named("good-far"))
        .host_name("eth0")
        .address("10.31.0.2/24");
    Config {
        interfaces: vec![near, far],
        ..Config::default()
    }
}

/// Returns a valid veth pair in the namespaces of the invalid values. One invalid value requests a kernel name that a link of
/// this pair already has.
fn occupant() -> Config {
    let near = Interface::veth("occupant", "occupant-peer", Reference::named(NEAR)).host_name("same0");
    let far = Interface::veth("occupant-peer", "occupant", Reference::named(FAR)).host_name("same1");
    Config {
        interfaces: vec![near, far],
        ..Config::default()
    }
}

/// Waits until the status of each invalid value has the expected state and explanation.
async fn until_judged(bench: &Bench, cases: &[Case], revisions: &Revisions) {
    bench
        .until_none("in the expected state", |publication| {
            let wrong = cases.iter().filter(|case| {
                !publication.of(&case.key).is_some_and(|status| {
                    let said = status.explanation();
                    status.state == case.state
                        && status.mod_revision == revisions[&case.key]
                        && !said.trim().is_empty()
                        && said.contains(case.says)
                })
            });
            wrong
                .map(|case| {
                    format!(
                        "{} (must be {} and say {:?}): {:?}",
                        case.name,
                        case.state,
                        case.says,
                        publication.of(&case.key)
                    )
                })
                .collect()
        })
        .await;
}

/// Puts more than sixty kinds of invalid input at once, next to valid values.
async fn invalid_values_are_explained_isolated_and_correctable(mut bench: Bench) {
    std::fs::write("/run/live/not-a-namespace", "text").expect("write a file that is no namespace");
    bench.start_agent().await;
    let good = bystanders();
    let mut expected = bench.put_each(&good).await;
    expected.extend(bench.put_each(&occupant()).await);
    bench.until_configured(&expected).await;
    let (near, far) = (Path::new("/run/netns/good-near"), Path::new("/run/netns/good-far"));
    settle::until_quiet(&[near.to_owned(), far.to_owned()]).await;
    let mut monitors = [Monitor::open(near), Monitor::open(far)];
    let stream = ping::Stream::start(near, "10.31.0.2", "bystander");

    let cases = cases::all();
    assert!(cases.len() >= 60, "{} cases", cases.len());
    let (mut bad, mut peers) = (Revisions::new(), Revisions::new());
    for case in &cases {
        bad.insert(case.key.clone(), bench.put(&case.key, case.value.clone()).await);
        if let Some(peer) = &case.peer {
            peers.insert(peer.key(), bench.put(&peer.key(), peer.json().to_string()).await);
        }
    }
    until_judged(&bench, &cases, &bad).await;
    assert!(bench.agent().runs(), "the agent ended: {}", bench.report());
    for monitor in &mut monitors {
        monitor.assert_silent("while invalid values were put elsewhere");
    }
    println!(
        "{} invalid values explained; {} echo requests answered in the meantime",
        cases.len(),
        stream.finish_without_loss().await
    );
    bench.until_configured(&expected).await;

    let mut corrected = occupant();
    for case in &cases {
        match &case.correction {
            Correction::Put(interface) => {
                expected.insert(case.key.clone(), bench.put(&case.key, interface.json().to_string()).await);
                corrected.interfaces.push((**interface).clone());
                corrected.interfaces.extend(case.peer.clone());
            }
            Correction::Delete => {
                bench.delete(&case.key).await;
            }
        }
    }
    expected.extend(peers);
    bench.until_configured(&expected).await;
    let deleted: Vec<&Case> = cases.iter().filter(|case| matches!(case.correction, Correction::Delete)).collect();
    bench
        .until_none("unpublished after their deletion", |publication| {
            let left = deleted.iter().filter(|case| publication.of(&case.key).is_some());
            left.map(|case| format!("{}: {:?}", case.name, publication.of(&case.key))).collect()
        })
        .await;
    bench.check(&good);
    bench.check(&corrected);
    bench.stop_agent().await;
}
on_both_stores!(invalid_values_are_explained_isolated_and_correctable);
