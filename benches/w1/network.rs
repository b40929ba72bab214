//! Workload W1: its namespaces, pairs, addresses, routes and ARP entries.
//!
//! The same size always gives the same state, so the agent and every baseline create the same objects. See
//! [`Network::of_size`].
//!
//! Size 1 has 100 namespaces and 1,000 veth pairs. The ends of each pair are in two different random namespaces. Each end has
//! an address, each left end a route via a gateway, and each right end an ARP entry.

use std::{collections::BTreeMap, net::Ipv4Addr};

use testbed::random::Random;

use crate::support::config::{Arp, Config, Interface, Reference, Route};

/// Microservice label of the measured agent.
pub const LABEL: &str = "w1";
/// Number of namespaces at size 1.
const NAMESPACES: usize = 100;
/// Number of pairs at size 1.
const PAIRS: usize = 1_000;
/// First network of the pairs (/29 each), followed by the first network behind the gateways (/24 each).
const PAIR_NETWORKS: u32 = 10 << 24;
const ROUTE_NETWORKS: u32 = 20 << 24;

/// One end of a pair.
#[derive(Clone, Debug)]
pub struct End {
    /// Index of its namespace, starting at 0.
    pub netns: usize,
    /// Logical name and kernel name.
    pub name: String,
    /// Its address, in a /29.
    pub address: Ipv4Addr,
    /// Alias with the agent's ownership mark.
    pub alias: String,
}

/// A pair with its route and ARP entry.
#[derive(Clone, Debug)]
pub struct Pair {
    /// The end with the route, followed by the end with the ARP entry.
    pub ends: [End; 2],
    /// Network of the route, a /24; its gateway is the address of the other end.
    pub route: Ipv4Addr,
    /// Address and MAC of the ARP entry.
    pub neighbour: (Ipv4Addr, [u8; 6]),
}

/// Prefix length of the network between the two ends of a pair.
pub const PAIR_PREFIX: u8 = 29;
/// Prefix length of a network behind a gateway.
pub const ROUTE_PREFIX: u8 = 24;

/// Workload W1 at a certain size.
#[derive(Clone, Debug)]
pub struct Network {
    /// Names of the namespaces.
    pub namespaces: Vec<String>,
    /// The pairs.
    pub pairs: Vec<Pair>,
}

impl Network {
    /// Returns W1 scaled by `size`.
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

    /// Returns the state as desired values.
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

    /// Returns the state as full keys and values (see [`full_entries`]).
    pub fn entries(&self) -> BTreeMap<String, String> {
        full_entries(&self.config())
    }
}

/// Returns the full keys and values of the measured agent, in the order of the keys.
pub fn full_entries(config: &Config) -> BTreeMap<String, String> {
    let full = |(rest, value)| (format!("/vnf-agent/{LABEL}/config/{rest}"), value);
    config.entries().into_iter().map(full).collect()
}

/// Returns a veth pair without addresses, with one end in each of two namespaces.
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
            // Not the address of the other end, which must stay reachable.
            neighbour: (Ipv4Addr::from(network + 3), [2, 0, 0, a, b, c]),
        }
    }
}

/// Formats a MAC address as `ip` prints it.
pub fn show_mac(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}
