//! Text form of desired values, such as `interface d0: dummy, in own, host xd0, up`.

use std::{
    fmt::{self, Display},
    str::FromStr,
};

use testbed::values::PortVlan;

use super::{halves, intern, number};
use crate::simulation::configuration::{
    Arp, CONTAINER_PLACE, CREATED_PLACE, FILE_PLACE, FOREIGN_PLACE, Interface, Item, Kind, OWN_PLACE, PROCESS_PLACE, Route, arp_key,
    interface_key, route_key,
};

const PLACES: [(usize, &str); 6] = [
    (OWN_PLACE, "own"),
    (FOREIGN_PLACE, "red"),
    (CREATED_PLACE, "blue"),
    (PROCESS_PLACE, "process"),
    (CONTAINER_PLACE, "container"),
    (FILE_PLACE, "file"),
];

/// Prints the short form of a key: `interface d0`, `arp 10.0.0.9 on d0`, `route 10.1.0.0/16 on d0`.
pub(super) fn show_key(key: &str) -> String {
    if let Some(name) = key.strip_prefix(&interface_key("")) {
        return format!("interface {name}");
    }
    if let Some((interface, address)) = key.strip_prefix("linux/l3/v2/arp/").and_then(|rest| rest.split_once('/')) {
        return format!("arp {address} on {interface}");
    }
    match key.strip_prefix("linux/l3/v2/route/").and_then(|rest| rest.rsplit_once('/')) {
        Some((destination, interface)) => format!("route {destination} on {interface}"),
        None => key.to_owned(),
    }
}

/// Parses the short form that [`show_key`] prints.
pub(super) fn parse_key(text: &str) -> Result<String, String> {
    let (kind, rest) = halves(text, " ")?;
    match kind {
        "interface" => Ok(interface_key(rest)),
        "arp" => halves(rest, " on ").map(|(address, interface)| arp_key(interface, address)),
        "route" => halves(rest, " on ").map(|(destination, interface)| route_key(destination, interface)),
        _ => Err(format!("{text:?} is not a key")),
    }
}

impl Display for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", show_key(&self.key()))?;
        match self {
            Item::Unusable(_) => write!(f, "unusable"),
            Item::Interface(interface) => show_interface(interface, f),
            Item::Arp(arp) => write!(f, "mac {}{}", arp.mac, if arp.adopt { ", adopt" } else { "" }),
            Item::Route(route) => {
                if let Some(gateway) = &route.gateway {
                    write!(f, "via {gateway}, ")?;
                }
                write!(f, "scope {}, metric {}", route.scope, route.metric)?;
                if route.adopt { write!(f, ", adopt") } else { Ok(()) }
            }
        }
    }
}

fn show_interface(interface: &Interface, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match interface.kind {
        Kind::Veth(peer) => write!(f, "veth to {peer}")?,
        Kind::Dummy => write!(f, "dummy")?,
        Kind::Vrf(table) => write!(f, "vrf device of table {table}")?,
        Kind::Loopback => write!(f, "loopback")?,
        Kind::Bridge { stp, ageing, filtering } => {
            let (filtering, stp) = (if filtering { "filtering " } else { "" }, if stp { " with stp" } else { "" });
            write!(f, "{filtering}bridge{stp} ageing {ageing}")?;
        }
        Kind::Vlan { parent, id, loose } => write!(f, "{}vlan {id} on {parent}", if loose { "loose " } else { "" })?,
        Kind::Existing { link_only: false } => write!(f, "existing")?,
        Kind::Existing { link_only: true } => write!(f, "existing link-only")?,
    }
    let place = PLACES.iter().find(|(place, _)| *place == interface.place);
    write!(f, ", in {}", place.map_or("nowhere", |(_, name)| name))?;
    write!(f, ", host {}, {}", interface.host, if interface.enabled { "up" } else { "down" })?;
    if interface.mtu != 0 {
        write!(f, ", mtu {}", interface.mtu)?;
    }
    if let Some(mac) = interface.mac {
        write!(f, ", mac {mac}")?;
    }
    if let Some(vrf) = interface.vrf {
        write!(f, ", vrf {vrf}")?;
    }
    if let Some((bridge, isolated)) = interface.bridge {
        write!(f, ", {} {bridge}", if isolated { "isolated" } else { "port" })?;
    }
    for vlan in &interface.vlans {
        let (pvid, untagged) = (if vlan.pvid { " pvid" } else { "" }, if vlan.untagged { " untagged" } else { "" });
        write!(f, ", vlan {}{pvid}{untagged}", vlan.vid)?;
    }
    interface.addresses.iter().try_for_each(|address| write!(f, ", {address}"))
}

impl FromStr for Item {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (head, rest) = halves(text, ": ")?;
        let key = parse_key(head)?;
        if rest == "unusable" {
            return Ok(Item::Unusable(key));
        }
        let parts: Vec<&str> = rest.split(',').map(str::trim).collect();
        let (kind, of) = halves(head, " ")?;
        match kind {
            "interface" => parse_interface(of, &parts).map(Item::Interface),
            "arp" => {
                let (address, interface) = halves(of, " on ")?;
                let mac = parts[0].strip_prefix("mac ").ok_or_else(|| format!("no mac in {text:?}"))?;
                Ok(Item::Arp(Arp {
                    interface: intern(interface),
                    address: address.to_owned(),
                    mac: number(mac)?,
                    adopt: parts.contains(&"adopt"),
                }))
            }
            _ => parse_route(of, &parts).map(Item::Route),
        }
    }
}

fn parse_interface(name: &str, parts: &[&str]) -> Result<Interface, String> {
    let mut interface = Interface::plain(intern(name), parse_kind(parts.first().unwrap_or(&""))?, OWN_PLACE);
    for part in &parts[1..] {
        match (*part, part.split_once(' ')) {
            ("up" | "down", _) => interface.enabled = *part == "up",
            (_, Some(("in", place))) => {
                let found = PLACES.iter().find(|(_, name)| *name == place);
                interface.place = found.ok_or_else(|| format!("{place:?} is not a place"))?.0;
            }
            (_, Some(("host", host))) => interface.host = host.to_owned(),
            (_, Some(("mtu", mtu))) => interface.mtu = number(mtu)?,
            (_, Some(("mac", mac))) => interface.mac = Some(number(mac)?),
            (_, Some(("vrf", vrf))) => interface.vrf = Some(intern(vrf)),
            (_, Some((word @ ("port" | "isolated"), bridge))) => interface.bridge = Some((intern(bridge), word == "isolated")),
            (_, Some(("vlan", vlan))) => {
                let words: Vec<&str> = vlan.split(' ').collect();
                interface.vlans.push(PortVlan {
                    vid: number(words[0])?,
                    pvid: words.contains(&"pvid"),
                    untagged: words.contains(&"untagged"),
                });
            }
            (_, None) => interface.addresses.push((*part).to_owned()),
            _ => return Err(format!("unknown property {part:?} of an interface")),
        }
    }
    Ok(interface)
}

fn parse_kind(text: &str) -> Result<Kind, String> {
    match (text, text.rsplit_once(' ')) {
        ("dummy", _) => Ok(Kind::Dummy),
        ("loopback", _) => Ok(Kind::Loopback),
        ("existing", _) => Ok(Kind::Existing { link_only: false }),
        ("existing link-only", _) => Ok(Kind::Existing { link_only: true }),
        (_, Some(("veth to", peer))) => Ok(Kind::Veth(intern(peer))),
        (_, Some(("vrf device of table", table))) => number(table).map(Kind::Vrf),
        (_, Some((bridge, ageing))) if ["bridge ageing", "bridge with stp ageing"].contains(&bridge.trim_start_matches("filtering ")) => {
            Ok(Kind::Bridge {
                stp: bridge.contains("stp"),
                ageing: number(ageing)?,
                filtering: bridge.starts_with("filtering "),
            })
        }
        (vlan, Some(_)) if vlan.contains("vlan ") => {
            let (id, parent) = halves(vlan.trim_start_matches("loose ").trim_start_matches("vlan "), " on ")?;
            Ok(Kind::Vlan {
                parent: intern(parent),
                id: number(id)?,
                loose: vlan.starts_with("loose "),
            })
        }
        _ => Err(format!("{text:?} is not a kind of interface")),
    }
}

fn parse_route(head: &str, parts: &[&str]) -> Result<Route, String> {
    let (destination, interface) = halves(head, " on ")?;
    let mut route = Route {
        interface: intern(interface),
        destination: destination.to_owned(),
        gateway: None,
        scope: "GLOBAL",
        metric: 0,
        adopt: false,
    };
    for part in parts {
        if *part == "adopt" {
            route.adopt = true;
            continue;
        }
        match part.split_once(' ') {
            Some(("via", gateway)) => route.gateway = Some(gateway.to_owned()),
            Some(("scope", scope)) => route.scope = intern(scope),
            Some(("metric", metric)) => route.metric = number(metric)?,
            _ => return Err(format!("unknown property {part:?} of a route")),
        }
    }
    Ok(route)
}
