//! What is in a network namespace, read by `ip -json`: a witness that shares no code with the agent.
//!
//! Owns reading and comparing; must never change anything. Start reading at [`NetnsState`].

use std::{collections::BTreeSet, path::Path};

use serde_json::Value;

use super::command;

/// The state of a namespace as lines of text, so that a difference reads like one.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct NetnsState {
    /// `link …`, `mac …`, `address …`, `route …`, `neighbour …`.
    pub lines: BTreeSet<String>,
}

impl NetnsState {
    /// Reads a namespace. Left out is what the kernel makes by itself: `lo` and its own addresses, link-local addresses, routes of
    /// protocol `kernel`, and neighbours that are not permanent.
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

    /// Lines that stand on one side only, each with its side; MACs count only where one is expected.
    pub fn difference(&self, found: &Self, name: &str) -> String {
        let missing = self.lines.difference(&found.lines).map(|line| format!("{name}: missing: {line}\n"));
        let expects_mac = |line: &str| {
            self.lines
                .iter()
                .any(|expected| expected.split(' ').take(2).eq(line.split(' ').take(2)))
        };
        let extra = found.lines.difference(&self.lines);
        let extra = extra
            .filter(|line| !line.starts_with("mac ") || expects_mac(line))
            .map(|line| format!("{name}: not asked for: {line}\n"));
        missing.chain(extra).collect()
    }
}

/// Everything about a namespace's links, addresses, routes and neighbours, to prove that nothing at all changed.
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
        lines.insert(format!("link {name} kind {kind} {admin} mtu {} alias {alias}", link["mtu"]));
        lines.insert(format!("mac {name} {}", text(link, "address")));
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
