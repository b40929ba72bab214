//! Reads the state of a network namespace and compares it with the expected state. Uses `ip -json`, which shares no code with
//! the agent. See [`NetnsState`].

use std::{collections::BTreeSet, net::IpAddr, path::Path};

use serde_json::Value;
use testbed::expected::{Link, RouteEntry, Space, network};

use super::command;

/// Settings of links, named as in the output of `ip`. A setting is compared only if the expected state contains it.
const SETTINGS: [&str; 6] = ["ageing_time", "flags", "id", "stp_state", "table", "vlan_filtering"];

/// State of a namespace as lines of text, to make differences readable.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct NetnsState {
    /// Lines that begin with `link`, `master`, `address`, `secondary`, `route`, `neighbour`, `mac`, `mtu` or `setting`. A line
    /// that begins with `mac`, `mtu` or `setting` is compared only if the expected state contains a line for the same property.
    pub lines: BTreeSet<String>,
}

impl NetnsState {
    /// Reads the state of a namespace. Omits the objects that the kernel creates by itself: the link `lo` with 127.0.0.1 and ::1,
    /// link-local addresses, routes of protocol `kernel`, and neighbours that are not permanent.
    pub fn read(netns: &Path) -> Result<Self, String> {
        let answers = command::ip_batch_json(netns, "address show\nroute show table all\nneighbour show nud permanent\n")?;
        let mut lines = BTreeSet::new();
        for object in answers.iter().filter_map(Value::as_array).flatten() {
            if object.get("addr_info").is_some() {
                read_link(object, &mut lines);
            } else if object.get("lladdr").is_some() {
                lines.insert(format!(
                    "neighbour {} dev {} mac {}",
                    text(object, "dst"),
                    text(object, "dev"),
                    text(object, "lladdr")
                ));
            } else if object.get("protocol").is_some() {
                read_route(object, &mut lines);
            }
        }
        Ok(Self { lines })
    }

    /// Returns the expected state of a namespace according to this model, for an agent with this label.
    pub fn of(space: &Space, label: &str) -> Self {
        let mut lines = BTreeSet::new();
        for (name, link) in space.links.iter().filter(|(name, _)| *name != "lo") {
            expect_link(name, link, label, &mut lines);
        }
        for (name, address, length) in &space.addresses {
            lines.insert(format!("address {name} {address}/{length}"));
            let is_beside = |(other, primary, subnet): &(String, IpAddr, u8)| {
                let same = other == name && subnet == length && network((*primary, *length)) == network((*address, *length));
                same && primary != address && space.primary.contains(&(other.clone(), *primary))
            };
            if space.addresses.iter().any(is_beside) {
                lines.insert(format!("secondary {name} {address}"));
            }
        }
        lines.extend(
            space
                .neighbours
                .iter()
                .map(|(name, address, mac)| format!("neighbour {address} dev {name} mac {mac}")),
        );
        lines.extend(space.routes.iter().map(expected_route));
        Self { lines }
    }

    /// Reports the expected lines that are missing in `found`, and the lines of `found` that are not expected.
    pub fn difference(&self, found: &Self, name: &str) -> String {
        let missing = self.lines.difference(&found.lines).map(|line| format!("{name}: missing: {line}\n"));
        // The last word of a line is the value of the property. The words before it identify the property.
        let counts = |line: &str| {
            let is_optional = ["mac ", "mtu ", "setting "].iter().any(|start| line.starts_with(start));
            let meant = |line: &str| line.rsplit_once(' ').map(|(meant, _)| meant.to_owned());
            !is_optional || self.lines.iter().any(|expected| meant(expected) == meant(line))
        };
        let extra = found.lines.difference(&self.lines);
        let extra = extra
            .filter(|line| counts(line))
            .map(|line| format!("{name}: unexpected: {line}\n"));
        missing.chain(extra).collect()
    }
}

fn expect_link(name: &str, link: &Link, label: &str, lines: &mut BTreeSet<String>) {
    let admin = if link.up { "up" } else { "down" };
    lines.insert(format!(
        "link {name} kind {} {admin} alias /vnf-agent/{label}/{}",
        link.kind, link.mark
    ));
    lines.extend(link.mtu.map(|mtu| format!("mtu {name} {mtu}")));
    lines.extend(link.mac.iter().map(|mac| format!("mac {name} {mac}")));
    lines.extend(link.master.iter().map(|master| format!("master {name} {master}")));
    lines.extend(
        link.settings
            .iter()
            .map(|(setting, value)| format!("setting {name} {setting} {value}")),
    );
    lines.extend(link.isolated.map(|isolated| format!("setting {name} isolated {isolated}")));
}

fn expected_route(route: &RouteEntry) -> String {
    let RouteEntry { link, metric, .. } = route;
    let whole = if route.destination.contains(':') { "/128" } else { "/32" };
    let destination = match route.destination.trim_end_matches(whole) {
        "0.0.0.0/0" | "::/0" => "default",
        destination => destination,
    };
    let via = route.gateway.map_or("-".to_owned(), |gateway| gateway.to_string());
    let scope = match route.scope {
        253 => "link",
        254 => "host",
        _ => "global",
    };
    let table = if route.table == 254 {
        "main".to_owned()
    } else {
        route.table.to_string()
    };
    format!("route {destination} via {via} dev {link} metric {metric} scope {scope} table {table} protocol 158")
}

/// Returns all links, addresses, routes and permanent neighbours of a namespace as text, to prove that nothing changed.
pub fn fingerprint(netns: &Path) -> String {
    let answers = command::ip_batch_json(netns, "address show\nroute show table all\nneighbour show nud permanent\n");
    answers
        .map(|answers| format!("{answers:#?}"))
        .unwrap_or_else(|error| panic!("{error}"))
}

fn text<'a>(object: &'a Value, member: &str) -> &'a str {
    object[member].as_str().unwrap_or("-")
}

fn read_link(link: &Value, lines: &mut BTreeSet<String>) {
    let name = text(link, "ifname");
    if name != "lo" {
        let up = link["flags"].as_array().is_some_and(|flags| flags.iter().any(|flag| flag == "UP"));
        let (kind, admin, alias) = (
            text(&link["linkinfo"], "info_kind"),
            if up { "up" } else { "down" },
            text(link, "ifalias"),
        );
        lines.insert(format!("link {name} kind {kind} {admin} alias {alias}"));
        lines.insert(format!("mtu {name} {}", link["mtu"]));
        lines.insert(format!("mac {name} {}", text(link, "address")));
        read_settings(name, &link["linkinfo"], lines);
        if !["default", "-"].contains(&text(link, "group")) {
            lines.insert(format!("group {name} {}", text(link, "group")));
        }
        if link.get("master").is_some() {
            lines.insert(format!("master {name} {}", text(link, "master")));
        }
    }
    for address in link["addr_info"].as_array().into_iter().flatten() {
        let local = text(address, "local");
        let made_by_the_kernel = local == "::1" || (name == "lo" && local == "127.0.0.1") || text(address, "scope") == "link";
        if !made_by_the_kernel {
            lines.insert(format!("address {name} {local}/{}", address["prefixlen"]));
        }
        if address["secondary"] == true {
            lines.insert(format!("secondary {name} {local}"));
        }
    }
}

fn read_settings(name: &str, info: &Value, lines: &mut BTreeSet<String>) {
    for setting in SETTINGS {
        let value = match &info["info_data"][setting] {
            Value::Number(number) => number.as_u64(),
            // The flags of a VLAN, numbered as VLAN_FLAG_* in linux/if_vlan.h.
            Value::Array(flags) => Some(flags.iter().map(|flag| vlan_flag(flag.as_str().unwrap_or_default())).sum()),
            _ => None,
        };
        lines.extend(value.map(|value| format!("setting {name} {setting} {value}")));
    }
    if let Some(isolated) = info["info_slave_data"]["isolated"].as_bool() {
        lines.insert(format!("setting {name} isolated {isolated}"));
    }
}

fn vlan_flag(name: &str) -> u64 {
    match name {
        "REORDER_HDR" => 1,
        "GVRP" => 2,
        "LOOSE_BINDING" => 4,
        "MVRP" => 8,
        other => panic!("unknown VLAN flag {other}"),
    }
}

fn read_route(route: &Value, lines: &mut BTreeSet<String>) {
    let protocol = text(route, "protocol");
    if protocol == "kernel" {
        return;
    }
    let table = match &route["table"] {
        Value::String(name) => name.clone(),
        Value::Null => "main".to_owned(),
        number => number.to_string(),
    };
    lines.insert(format!(
        "route {} via {} dev {} metric {} scope {} table {table} protocol {protocol}",
        text(route, "dst"),
        text(route, "gateway"),
        text(route, "dev"),
        route["metric"].as_u64().unwrap_or(0),
        text(route, "scope"),
    ));
}
