//! Creates foreign namespaces before the agent starts, with objects that resemble the agent's objects. Also checks whether these
//! namespaces have changed. See [`found_namespaces`].

use std::path::PathBuf;

use super::{
    command::{ip, ip_in},
    netns_state::fingerprint,
    settle,
};

/// Creates the namespaces `<prefix>0` and `<prefix>1` with foreign links, addresses, routes and neighbours that resemble the
/// agent's, and a third namespace to which no value refers. `label` is the agent's label. Returns the names of the namespaces.
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

/// Returns the alias of a link that belongs to another agent. If `number` is 0, the label of that agent is unrelated to `label`.
/// Otherwise, it begins with `label`.
fn foreign_alias(label: &str, number: usize) -> String {
    if number == 0 {
        "/vnf-agent/somebody-else/left/right".to_owned()
    } else {
        format!("/vnf-agent/{label}-2/left/right")
    }
}

/// Returns the state lines for the objects that [`found_namespaces`] put into the namespace with this number.
pub fn foreign_lines(label: &str, number: usize) -> Vec<String> {
    vec![
        format!("link foreign{number} kind veth up alias {}", foreign_alias(label, number)),
        format!("mtu foreign{number} 1500"),
        format!("address foreign{number} 10.250.0.{}/24", number + 1),
        format!("route 10.251.0.0/16 via 10.250.0.9 dev foreign{number} metric 0 scope global table main protocol boot"),
        format!("neighbour 10.250.0.9 dev foreign{number} mac 02:ff:00:00:00:09"),
    ]
}

/// Returns the files of these named namespaces.
fn paths(names: &[String]) -> Vec<PathBuf> {
    names.iter().map(|name| PathBuf::from(format!("/run/netns/{name}"))).collect()
}

/// Returns the fingerprints of these namespaces.
pub fn fingerprints(names: &[String]) -> Vec<String> {
    paths(names).iter().map(|path| fingerprint(path)).collect()
}
