//! Random configurations, and random changes to them.
//!
//! No two values of a configuration contradict each other, so every configuration can be applied completely. All choices depend
//! only on the seed. See [`generate`].

use testbed::random::Random;

use super::config::{Arp, Config, Interface, Reference, Route};

/// Size of a configuration.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// Number of named namespaces.
    pub namespaces: usize,
    /// Number of veth pairs, at most 200, with two interface values each.
    pub pairs: usize,
    /// Number of routes.
    pub routes: usize,
    /// Number of ARP entries.
    pub arps: usize,
}

/// Returns a configuration of this size in namespaces `<prefix>0`, `<prefix>1`, ….
pub fn generate(random: &mut Random, size: Size, prefix: &str) -> Config {
    let mut config = Config::default();
    for pair in 0..size.pairs {
        // Use two different namespaces, so that a ping has to cross the pair.
        let first = random.below(size.namespaces);
        let second = (first + 1 + random.below(size.namespaces - 1)) % size.namespaces;
        for (side, netns) in [("a", first), ("b", second)] {
            let (own, other) = if side == "a" { (1, 2) } else { (2, 1) };
            let peer = format!("{prefix}-{pair}{}", if side == "a" { "b" } else { "a" });
            let interface = Interface::veth(
                &format!("{prefix}-{pair}{side}"),
                &peer,
                Reference::Named(format!("{prefix}{netns}")),
            )
            .host_name(&format!("eth{pair}{side}"))
            .address(&format!("10.{pair}.0.{own}/24"))
            .mac(&format!("02:{other:02x}:00:00:{pair:02x}:{own:02x}"));
            // Every third pair also has IPv6 addresses.
            config.interfaces.push(if pair % 3 == 0 {
                interface.address(&format!("fd00:{:x}::{own}/64", pair + 1))
            } else {
                interface
            });
        }
    }
    for number in 0..size.routes {
        let pair = number % size.pairs;
        let (side, gateway) = if (number / size.pairs).is_multiple_of(2) {
            ("a", 2)
        } else {
            ("b", 1)
        };
        let interface = format!("{prefix}-{pair}{side}");
        config.routes.push(match number % 5 {
            4 => Route::new(&interface, &format!("172.{number}.0.0/16"), ""),
            3 if pair.is_multiple_of(3) => Route::new(
                &interface,
                &format!("fd01:{number:x}::/32"),
                &format!("fd00:{:x}::{gateway}", pair + 1),
            ),
            _ => Route::new(&interface, &format!("192.{number}.0.0/16"), &format!("10.{pair}.0.{gateway}")),
        });
    }
    for number in 0..size.arps {
        let pair = number % size.pairs;
        let side = if (number / size.pairs).is_multiple_of(2) { "b" } else { "a" };
        let address = format!("10.{pair}.0.{}", 100 + number % 100);
        config.arps.push(Arp::new(
            &format!("{prefix}-{pair}{side}"),
            &address,
            &format!("02:aa:00:00:{:02x}:{:02x}", number / 256, number % 256),
        ));
    }
    config
}

/// Changes some values in place: the MTU or second address of an interface, the metric of a route, or the MAC of an ARP entry.
pub fn change(random: &mut Random, config: &mut Config, changes: usize) {
    for _ in 0..changes {
        match random.below(4) {
            0 => {
                let interface = random.below(config.interfaces.len());
                config.interfaces[interface].mtu = 1280 + 4 * random.below(50) as u32;
            }
            1 => {
                // Add or remove a second address. The first one stays, because gateways depend on it.
                let number = random.below(config.interfaces.len());
                let interface = &mut config.interfaces[number];
                let extra = format!("10.200.{number}.1/24");
                match interface.addresses.iter().position(|address| *address == extra) {
                    Some(position) => drop(interface.addresses.remove(position)),
                    None => interface.addresses.push(extra),
                }
            }
            2 if !config.routes.is_empty() => {
                let route = random.below(config.routes.len());
                config.routes[route].metric = 1 + random.below(100) as u32;
            }
            _ if !config.arps.is_empty() => {
                let arp = random.below(config.arps.len());
                config.arps[arp].mac = format!("02:bb:00:00:00:{:02x}", random.below(256));
            }
            _ => {}
        }
    }
}
