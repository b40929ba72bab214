//! Workload W1: its namespaces, veth pairs, addresses, routes and ARP entries.
//!
//! The same size always results in the same objects, so the agent and every baseline create the same state. See
//! [`Network::of_size`].
//!
//! Size 1 has 100 namespaces and 1,000 veth pairs. The ends of each pair are in two different random namespaces. Each end has an
//! address, each left end has a route via a gateway, and each right end has an ARP entry.

use std::{collections::BTreeMap, net::Ipv4Addr};

use testbed::random::Random;

use crate::support::config::{Arp, Config, Interface, Reference, Route};

/// Microservice label of the measured agent.
pub const LABEL: &str = "w1";
/// Number of namespaces at size 1.
const NAMESPACES: usize = 100;
/// Number of pairs at size 1.
const PAIRS: usize = 1_000;
/// Network of the first pair, as a number. Each pair has its own /29 network.
const PAIR_NETWORKS: u32 = 10 << 24;
/// Destination of the first route, as a number. Each route has its own /24 network behind a gateway.
const ROUTE_NETWORKS: u32 = 20 << 24;

/// One end of a veth pair.
#[derive(Clone, Debug)]
pub struct End {
    /// Index of the namespace in [`Network::namespaces`].
    pub netns: usize,
    /// Name of the interface, both in its value and in the kernel.
    pub name: String,
    /// Address of the interface, with prefix length [`PAIR_PREFIX`].
    pub address: Ipv4Addr,
    /// Alias with the agent's ownership mark.
    pub alias: String,
}

/// A veth pair with a route at its left end and an ARP entry at its right end.
#[derive(Clone, Debug)]
pub struct Pair {
    /// The left end and the right end.
    pub ends: [End; 2],
    /// Destination of the left end's route, with prefix length [`ROUTE_PREFIX`]. The gateway is the address of the right end.
    pub route: Ipv4Addr,
    /// IP address and MAC address of the right end's ARP entry.
    pub neighbour: (Ipv4Addr, [u8; 6]),
}

/// Prefix length of the network between the two ends of a pair.
pub const PAIR_PREFIX: u8 = 29;
/// Prefix length of a network behind a gateway.
pub const ROUTE_PREFIX: u8 = 24;

/// Workload W1 at one size.
#[derive(Clone, Debug)]
pub struct Network {
    /// Names of the network namespaces.
    pub namespaces: Vec<String>,
    /// Veth pairs between the namespaces.
    pub pairs: Vec<Pair>,
}

impl Network {
    /// Returns W1 with `size` times as many namespaces and pairs as at size 1.
    pub fn of_size(size: usize) -> Self {
        let mut random = Random::new(1);
        let namespaces: Vec<String> = (0..NAMESPACES * size).map(|number| format!("w1-{number}")).collect();
        let pair = |number: usize| {
            let left = random.below(namespaces.len());
            let right = (left + 1 + random.below(namespaces.len() - 1)) % namespaces.len();
            Pair::new(u32::try_from(number).expect("some thousand pairs"), [left, right])
        };
        let pairs = (0..PAIRS * size).map(pair).collect();
        Self { namespaces, pairs }
    }

    /// Returns the workload as desired values.
    pub fn config(&self) -> Config {
        let mut config = Config::default();
        for pair in &self.pairs {
            let [left, right] = &pair.ends;
            for (end, other) in [(left, right), (right, left)] {
                let interface = Interface::veth(&end.name, &other.name, Reference::named(&self.namespaces[end.netns]));
                config.interfaces.push(interface.address(&format!("{}/{PAIR_PREFIX}", end.address)));
            }
            let destination = format!("{}/{ROUTE_PREFIX}", pair.route);
            config.routes.push(Route::new(&left.name, &destination, &right.address.to_string()));
            let (address, mac) = pair.neighbour;
            config.arps.push(Arp::new(&right.name, &address.to_string(), &show_mac(mac)));
        }
        config
    }

    /// Returns the workload as etcd keys and values (see [`full_entries`]).
    pub fn entries(&self) -> BTreeMap<String, String> {
        full_entries(&self.config())
    }
}

/// Converts desired values to etcd keys and values. The keys have the prefix of the measured agent.
pub fn full_entries(config: &Config) -> BTreeMap<String, String> {
    let full = |(rest, value)| (format!("/vnf-agent/{LABEL}/config/{rest}"), value);
    config.entries().into_iter().map(full).collect()
}

/// Returns the etcd keys and values of a veth pair without addresses, with one end in each of two namespaces.
pub fn plain_pair(number: usize, namespaces: &[Reference; 2]) -> BTreeMap<String, String> {
    let names = [format!("l{number}"), format!("r{number}")];
    let end = |side: usize| Interface::veth(&names[side], &names[1 - side], namespaces[side].clone());
    full_entries(&Config {
        interfaces: vec![end(0), end(1)],
        ..Config::default()
    })
}

impl Pair {
    fn new(number: u32, netns: [usize; 2]) -> Self {
        let network = PAIR_NETWORKS + 8 * number;
        let names = [format!("l{number}"), format!("r{number}")];
        let end = |side: usize| End {
            netns: netns[side],
            name: names[side].clone(),
            address: Ipv4Addr::from(network + 1 + side as u32),
            alias: format!("/vnf-agent/{LABEL}/{}/{}", names[side], names[1 - side]),
        };
        let [_, a, b, c] = number.to_be_bytes();
        Self {
            ends: [end(0), end(1)],
            route: Ipv4Addr::from(ROUTE_NETWORKS + 256 * number),
            // Do not use the address of the other end of the pair, because an ARP entry with this made-up MAC address would make the other end
            // unreachable.
            neighbour: (Ipv4Addr::from(network + 3), [2, 0, 0, a, b, c]),
        }
    }
}

/// Formats a MAC address as `ip` prints it.
pub fn show_mac(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}
