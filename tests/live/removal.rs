//! Deleting desired values takes away what the agent made, and nothing else.

use std::path::PathBuf;

use crate::{
    on_both_stores, on_one_store,
    support::{
        bench::Bench,
        command::{ip, ip_in},
        config::Config,
        netns_state::fingerprint,
        random::Random,
        random_config::{Size, generate},
        settle,
    },
};

/// Makes `<prefix>0` and `<prefix>1` by hand, with links, addresses, routes and neighbours of somebody else that look much like the
/// agent's own, and a namespace that no value mentions. `label` is the agent's.
pub async fn found_namespaces(prefix: &str, label: &str) -> Vec<String> {
    let names = vec![format!("{prefix}0"), format!("{prefix}1"), format!("{prefix}-stranger")];
    for name in &names {
        ip(&format!("netns add {name}"));
    }
    ip(&format!(
        "link add foreign0 netns {} type veth peer name foreign1 netns {}",
        names[0], names[1]
    ));
    ip(&format!("link add eth0a netns {0} type veth peer name eth0b netns {0}", names[2]));
    for (number, name) in names.iter().take(2).enumerate() {
        let path = PathBuf::from(format!("/run/netns/{name}"));
        for line in [
            format!("link set foreign{number} addrgenmode none"),
            format!("link set foreign{number} up alias {}", foreign_alias(label, number)),
            format!("address add 10.250.0.{}/24 dev foreign{number}", number + 1),
            "route add 10.251.0.0/16 via 10.250.0.9".to_owned(),
            format!("neighbour add 10.250.0.9 dev foreign{number} lladdr 02:ff:00:00:00:09 nud permanent"),
        ] {
            ip_in(&path, &line);
        }
    }
    settle::until_quiet(&paths(&names)).await;
    names
}

/// Aliases of other agents: one with another label, one with a label that begins like the agent's.
fn foreign_alias(label: &str, number: usize) -> String {
    if number == 0 {
        "/vnf-agent/somebody-else/left/right".to_owned()
    } else {
        format!("/vnf-agent/{label}-2/left/right")
    }
}

/// What [`found_namespaces`] put into its namespace of this number, as lines of a namespace's state.
pub fn foreign_lines(label: &str, number: usize) -> Vec<String> {
    vec![
        format!("link foreign{number} kind veth up mtu 1500 alias {}", foreign_alias(label, number)),
        format!("address foreign{number} 10.250.0.{}/24", number + 1),
        format!("route 10.251.0.0/16 via 10.250.0.9 dev foreign{number} metric 0 scope global table main protocol boot"),
        format!("neighbour 10.250.0.9 dev foreign{number} mac 02:ff:00:00:00:09"),
    ]
}

/// Files of these named namespaces.
fn paths(names: &[String]) -> Vec<PathBuf> {
    names.iter().map(|name| PathBuf::from(format!("/run/netns/{name}"))).collect()
}

/// What stands in these namespaces.
pub fn fingerprints(names: &[String]) -> Vec<String> {
    paths(names).iter().map(|path| fingerprint(path)).collect()
}

/// A configuration of which two namespaces are found and two have to be made.
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

/// Deleted one by one in random orders: everything of the agent's is gone, namespaces it made too; what was found stays as it was.
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
            "round {round}: what was found changed; deleted in the order {keys:#?}"
        );
    }
    bench.stop_agent().await;
}
on_both_stores!(deleting_in_any_order_leaves_exactly_what_was_found, 240);

/// Everything deleted in one transaction is gone as well.
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
        assert_eq!(before, fingerprints(&found), "what was found changed");
    }
    bench.stop_agent().await;
}
on_both_stores!(deleting_everything_at_once_leaves_exactly_what_was_found);

/// What was deleted while no agent ran is gone after its start, though no value mentions its namespaces any more.
async fn what_was_deleted_while_no_agent_ran_is_gone_after_its_start(mut bench: Bench) {
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
        .until_true("what was found is as it was", || before == fingerprints(&found))
        .await;
    bench.stop_agent().await;
}
on_one_store!(what_was_deleted_while_no_agent_ran_is_gone_after_its_start, Etcd, 120);
