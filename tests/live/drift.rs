//! Live tests of drift: the agent notices and repairs manual changes in a managed namespace.

use std::path::{Path, PathBuf};

use crate::{
    on_both_stores,
    support::{
        bench::Bench,
        command::{ip, ip_in},
        config::{Config, Reference},
        ping,
        status::Publication,
    },
    veth::two_namespaces,
};

/// Applies [`two_namespaces`]. Returns the configuration and the path of the left namespace.
async fn applied(bench: &mut Bench) -> (Config, PathBuf) {
    bench.start_agent().await;
    let config = two_namespaces();
    bench.until_configured(&bench.put_together(&config).await).await;
    (config, Reference::named("pair-left").path())
}

/// Waits until the kernel matches the configuration again, prints how long that took, and tests connectivity with a ping.
async fn until_repaired(bench: &Bench, config: &Config, what: &str) {
    let began = std::time::Instant::now();
    let repaired = bench.becomes(|| config.check(&bench.label).is_ok()).await;
    assert!(
        repaired,
        "{what} was not repaired: {:?}\n{}",
        config.check(&bench.label),
        bench.report()
    );
    println!("{what}: repaired after at most {:?}", began.elapsed());
    ping::reaches(Path::new("/run/netns/pair-left"), "10.12.0.1");
}

/// The agent does not report contention if several kinds of damage occur within seconds, although some of them also make the
/// kernel remove routes and neighbours.
async fn side_effects_of_damage_are_not_contention(mut bench: Bench) {
    let (config, left) = applied(&mut bench).await;
    for damage in [
        "address flush dev eth0",
        "link set eth0 down",
        "neighbour del 10.11.0.2 dev eth0",
        "address flush dev eth0",
        "link set eth0 down",
        "route del 10.12.0.0/16",
    ] {
        ip_in(&left, damage);
        until_repaired(&bench, &config, damage).await;
        let contended = |publication: &Publication| {
            let reasons = config
                .entries()
                .into_keys()
                .map(|key| publication.of(&key).map(|status| status.reason.clone()));
            reasons.flatten().any(|reason| reason == "Contended")
        };
        assert!(!contended(&bench.published()), "{damage}: {}", bench.report());
    }
    bench.stop_agent().await;
}
on_both_stores!(side_effects_of_damage_are_not_contention);

/// The agent repairs each kind of damage, one after the other.
async fn damage_done_by_hand_is_repaired(mut bench: Bench) {
    let (config, left) = applied(&mut bench).await;
    for damage in [
        "link del eth0",
        "link set eth0 down",
        "link set eth0 mtu 1400",
        "address del 10.11.0.1/24 dev eth0",
        "address flush dev eth0",
        "route del 10.12.0.0/16",
        "neighbour del 10.11.0.2 dev eth0",
        "link set eth0 address 02:00:00:00:11:99",
    ] {
        ip_in(&left, damage);
        until_repaired(&bench, &config, damage).await;
        // Put the values again, so that the next damage is not considered contention.
        bench.until_configured(&bench.put_together(&config).await).await;
    }
    ip_in(&left, "link set eth0 down");
    ip_in(&left, "link set eth0 name stolen0");
    until_repaired(&bench, &config, "link renamed").await;
    bench.stop_agent().await;
}
on_both_stores!(damage_done_by_hand_is_repaired);

/// The namespace of each end is deleted by hand. The agent must create it again, with everything in it.
async fn a_deleted_namespace_of_the_agent_is_made_again(mut bench: Bench) {
    let (config, _) = applied(&mut bench).await;
    for name in ["pair-left", "pair-right"] {
        ip(&format!("netns del {name}"));
        until_repaired(&bench, &config, &format!("netns del {name}")).await;
    }
    bench.stop_agent().await;
}
on_both_stores!(a_deleted_namespace_of_the_agent_is_made_again);

/// Foreign objects on the agent's links are left alone.
async fn foreign_objects_beside_the_agents_stay(mut bench: Bench) {
    let (config, left) = applied(&mut bench).await;
    ip_in(&left, "address add 10.60.0.1/24 dev eth0");
    ip_in(&left, "route add 10.61.0.0/16 via 10.11.0.2");
    ip_in(&left, "neighbour add 10.11.0.77 dev eth0 lladdr 02:00:00:00:11:77 nud permanent");
    bench.until_configured(&bench.put_each(&config).await).await;
    bench.stop_agent().await;
    let before = bench.start_agent().await;
    bench
        .until("the agent answers again", |publication| {
            publication.is_configured_since("linux/interfaces/v2/interface/left", before)
        })
        .await;
    let text = ip_in(&left, "address") + &ip_in(&left, "route") + &ip_in(&left, "neighbour");
    for foreign in ["10.60.0.1/24", "10.61.0.0/16", "10.11.0.77"] {
        assert!(text.contains(foreign), "{foreign} is gone:\n{text}");
    }
    bench.stop_agent().await;
}
on_both_stores!(foreign_objects_beside_the_agents_stay);
