//! Live tests of restarts. A restarted agent must recognize the existing state, and write nothing if this state equals the
//! desired one.

use std::path::PathBuf;

use testbed::random::Random;

use crate::{
    on_both_stores,
    support::{
        bench::Bench,
        config::{Config, Interface, Reference, Route},
        monitor::Monitor,
        ping,
        random_config::{Size, generate},
        settle,
    },
};

/// The agent restarts while it manages a veth pair between its own namespace and a named one. It reads some namespaces earlier
/// than others, and must not delete objects before it has read all of them.
async fn a_restart_leaves_a_pair_out_of_the_own_namespace_alone(mut bench: Bench) {
    let config = Config {
        interfaces: vec![
            Interface::veth("home", "away", Reference::Own)
                .host_name("home0")
                .address("10.61.0.1/24"),
            Interface::veth("away", "home", Reference::named("calm-away"))
                .host_name("eth0")
                .address("10.61.0.2/24"),
            // The first end sorts before its peer, and the namespace of the peer is opened last.
            Interface::veth("a-first", "z-last", Reference::Own).host_name("first0"),
            Interface::veth("z-last", "a-first", Reference::named("calm-zzz")).host_name("eth0"),
        ],
        routes: vec![Route::new("home", "10.62.0.0/16", "10.61.0.2")],
        ..Config::default()
    };
    bench.start_agent().await;
    let revisions = bench.put_together(&config).await;
    bench.until_configured(&revisions).await;
    let mut paths: Vec<PathBuf> = ["calm-away", "calm-zzz"].map(|name| Reference::named(name).path()).to_vec();
    paths.push(PathBuf::from("/proc/self/ns/net"));
    settle::until_quiet(&paths).await;
    let mut monitors: Vec<Monitor> = paths.iter().map(|path| Monitor::open(path)).collect();
    for _ in 0..3 {
        bench.kill_agent().await;
        let before = bench.start_agent().await;
        bench.until_configured_since(&revisions, before).await;
        for monitor in &mut monitors {
            monitor.assert_silent("restart with ends in the own namespace");
        }
    }
    bench.check(&config);
    bench.stop_agent().await;
}
on_both_stores!(a_restart_leaves_a_pair_out_of_the_own_namespace_alone);

/// An address with any prefix length or scope is recognized after a restart, even if the namespace has no other address of its
/// family.
async fn a_restart_leaves_addresses_of_every_form_alone(mut bench: Bench) {
    let forms = [
        "10.1.0.1/24",
        "10.2.0.1/32",
        "10.3.0.0/31",
        "10.4.0.1/0",
        "127.0.0.5/8",
        "169.254.0.1/16",
        "240.0.0.1/8",
        "fd00:1::1/64",
        "fd00:2::1/128",
        "fe80::99/64",
        "fe80::98/128",
        "fe80::97/10",
    ];
    let mut config = Config::default();
    let mut paths = Vec::new();
    for (index, form) in forms.into_iter().enumerate() {
        let (place, near, far) = (
            Reference::named(&format!("form{index}")),
            format!("near{index}"),
            format!("far{index}"),
        );
        paths.push(place.path());
        config.interfaces.push(Interface::veth(&near, &far, place.clone()).address(form));
        config.interfaces.push(Interface::veth(&far, &near, Reference::named("forms")));
    }
    bench.start_agent().await;
    let revisions = bench.put_together(&config).await;
    bench.until_configured(&revisions).await;
    settle::until_quiet(&paths).await;
    let mut monitors: Vec<Monitor> = paths.iter().map(|path| Monitor::open(path)).collect();
    bench.kill_agent().await;
    let before = bench.start_agent().await;
    bench.until_configured_since(&revisions, before).await;
    for (monitor, form) in monitors.iter_mut().zip(forms) {
        monitor.assert_silent(form);
    }
    for key in revisions.keys() {
        let repair = bench.published().of(key).map(|status| status.last_repair.clone());
        assert_eq!(repair, Some(serde_json::Value::Null), "{key}");
    }
    bench.stop_agent().await;
}
on_both_stores!(a_restart_leaves_addresses_of_every_form_alone);

/// The agent is stopped or killed, and starts again. It must write nothing in any namespace, lose no packet, and publish every
/// status again.
async fn a_restart_on_a_converged_system_writes_nothing_and_loses_no_packet(mut bench: Bench) {
    let mut random = Random::from_environment(7);
    let config = generate(
        &mut random,
        Size {
            namespaces: 5,
            pairs: 12,
            routes: 24,
            arps: 24,
        },
        "calm",
    );
    bench.start_agent().await;
    let revisions = bench.put_together(&config).await;
    bench.until_configured(&revisions).await;
    let mut paths: Vec<PathBuf> = config.namespaces().iter().map(Reference::path).collect();
    settle::until_quiet(&paths).await;
    paths.push(PathBuf::from("/proc/self/ns/net"));
    let mut monitors: Vec<Monitor> = paths.iter().map(|path| Monitor::open(path)).collect();
    let stream = ping::Stream::start(&config.interfaces[0].netns.path(), "10.0.0.2", "restart");
    for crash in [false, true, false] {
        if crash {
            bench.kill_agent().await;
        } else {
            bench.stop_agent().await;
        }
        let began = std::time::Instant::now();
        let before = bench.start_agent().await;
        bench.until_configured_since(&revisions, before).await;
        println!(
            "restart on {} converged values: in sync after {:?}",
            revisions.len(),
            began.elapsed()
        );
        for monitor in &mut monitors {
            monitor.assert_silent(if crash { "restart after SIGKILL" } else { "restart after SIGTERM" });
        }
    }
    let answers = stream.finish_without_loss().await;
    println!("{answers} echo requests, none lost");
    bench.check(&config);
    bench.stop_agent().await;
}
on_both_stores!(a_restart_on_a_converged_system_writes_nothing_and_loses_no_packet);

/// If the same values are put again, their statuses get the new revision, and the agent writes nothing to the kernel.
async fn the_same_values_put_again_are_answered_without_a_write(mut bench: Bench) {
    let mut random = Random::from_environment(71);
    let config = generate(
        &mut random,
        Size {
            namespaces: 3,
            pairs: 4,
            routes: 6,
            arps: 6,
        },
        "same",
    );
    bench.start_agent().await;
    bench.until_configured(&bench.put_together(&config).await).await;
    let paths: Vec<PathBuf> = config.namespaces().iter().map(Reference::path).collect();
    settle::until_quiet(&paths).await;
    let mut monitors: Vec<Monitor> = paths.iter().map(|path| Monitor::open(path)).collect();
    let again = bench.put_each(&config).await;
    bench.until_configured(&again).await;
    for monitor in &mut monitors {
        monitor.assert_silent("equal values put again");
    }
    bench.stop_agent().await;
}
on_both_stores!(the_same_values_put_again_are_answered_without_a_write);
