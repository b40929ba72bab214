//! What the wanted values must have led to, when everything is at rest.
//!
//! Owns the run's own idea of the rules; must never use the agent's code. Start reading at [`Expectation::of`].

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    path::PathBuf,
};

use super::{
    places::{Places, inode},
    values::{Catalogue, Value},
};
use crate::support::{
    command,
    config::{Config, Interface, Kind, Reference, Route},
    foreign,
    netns_state::NetnsState,
    status::Publication,
};

/// What is to be said of a value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Verdict {
    Configured,
    Pending,
    Invalid,
    /// The kernel has no such kind of link.
    Refused,
}

/// What must be in one namespace.
#[derive(Clone, Debug)]
struct Contents {
    path: PathBuf,
    names: String,
    state: NetnsState,
    /// Lines that may be there or not.
    optional: BTreeSet<String>,
}

/// What everything must be like.
pub struct Expectation {
    verdicts: BTreeMap<String, (Verdict, i64)>,
    contents: BTreeMap<u64, Contents>,
    /// Names that must be below `/run/netns`, those of other agents' look-alikes included.
    names: BTreeSet<String>,
    /// Namespaces somebody else named: they must be the same still.
    foreign: BTreeMap<String, u64>,
}

/// What is wanted, with the places as they are.
struct Rules<'a> {
    interfaces: BTreeMap<&'a str, &'a Interface>,
    places: &'a Places,
    kernel_has_dummies: bool,
}

impl<'a> Rules<'a> {
    fn possible(&self, name: &str) -> Option<&'a Interface> {
        let interface = *self.interfaces.get(name)?;
        let has_kind = self.kernel_has_dummies || interface.kind != Kind::Dummy;
        (has_kind && self.places.leads_somewhere(&interface.netns)).then_some(interface)
    }

    fn alive(&self, name: &str) -> Option<&'a Interface> {
        let interface = self.possible(name)?;
        match &interface.kind {
            Kind::Veth(peer) => self.possible(peer).map(|_| interface),
            _ => Some(interface),
        }
    }

    /// An interface that routes and ARP entries can be on.
    fn usable(&self, name: &str) -> Option<&'a Interface> {
        self.alive(name)
            .filter(|interface| interface.enabled && !interface.addresses.is_empty())
    }

    fn has_route(&self, route: &Route) -> bool {
        let reaches =
            |interface: &Interface| route.gateway.is_empty() || interface.addresses.iter().any(|address| covers(address, &route.gateway));
        self.usable(&route.interface).is_some_and(reaches)
    }

    fn verdict(&self, value: &Value) -> Verdict {
        let is_there = match value {
            Value::Garbage(..) => return Verdict::Invalid,
            Value::Interface(interface) if interface.kind == Kind::Dummy && !self.kernel_has_dummies => {
                return if self.places.leads_somewhere(&interface.netns) {
                    Verdict::Refused
                } else {
                    Verdict::Pending
                };
            }
            Value::Interface(interface) => self.alive(&interface.name).is_some(),
            Value::Route(route) => self.has_route(route),
            Value::Arp(arp) => self.usable(&arp.interface).is_some(),
        };
        if is_there { Verdict::Configured } else { Verdict::Pending }
    }
}

/// Whether an address with its prefix length has the gateway in its network.
fn covers(address: &str, gateway: &str) -> bool {
    let (own, length) = address.split_once('/').expect("every address has a prefix length");
    let length: u32 = length.parse().expect("a prefix length");
    match (own.parse().expect("an address"), gateway.parse().expect("a gateway")) {
        (IpAddr::V4(own), IpAddr::V4(gateway)) => (own.to_bits() ^ gateway.to_bits()).checked_shr(32 - length).unwrap_or(0) == 0,
        (IpAddr::V6(own), IpAddr::V6(gateway)) => (own.to_bits() ^ gateway.to_bits()).checked_shr(128 - length).unwrap_or(0) == 0,
        _ => false,
    }
}

impl Expectation {
    /// What is expected of an agent with this label. `steady` are values beside the catalogue that are all
    /// CONFIGURED, and their revision; `strangers` names that must be there.
    pub fn of(
        catalogue: &Catalogue,
        places: &Places,
        steady: &(Config, i64),
        strangers: &[String],
        label: &str,
        kernel_has_dummies: bool,
    ) -> Self {
        let values = catalogue.wanted.values().map(|wanted| &wanted.value);
        let interfaces = values.filter_map(|value| match value {
            Value::Interface(interface) => Some((interface.name.as_str(), interface)),
            _ => None,
        });
        let rules = Rules {
            interfaces: interfaces.collect(),
            places,
            kernel_has_dummies,
        };
        let mut verdicts = BTreeMap::new();
        let (steady, steady_revision) = steady;
        let (mut config, mut earlier) = (steady.clone(), Config::default());
        verdicts.extend(
            steady
                .entries()
                .into_keys()
                .map(|key| (key, (Verdict::Configured, *steady_revision))),
        );
        for (key, wanted) in &catalogue.wanted {
            let verdict = rules.verdict(&wanted.value);
            verdicts.insert(key.clone(), (verdict, wanted.revision));
            match &wanted.value {
                value if verdict == Verdict::Configured => add(&mut config, value),
                Value::Garbage(_, Some(before)) if rules.verdict(before) == Verdict::Configured => add(&mut earlier, before),
                _ => {}
            }
        }
        earlier.interfaces.clone_from(&config.interfaces);
        let names = rules.interfaces.values().filter_map(|interface| name_of(&interface.netns));
        let mut names: BTreeSet<String> = names.chain(steady.namespaces().iter().filter_map(name_of)).collect();
        names.extend(places.foreign.keys().cloned());
        names.extend(strangers.iter().cloned());
        let mut expectation = Self {
            verdicts,
            contents: BTreeMap::new(),
            names,
            foreign: places.foreign.clone(),
        };
        expectation.expect_contents(places, label, &config, &earlier, strangers);
        expectation
    }

    /// Every namespace that can be found must hold what is wanted there, most of them nothing.
    fn expect_contents(&mut self, places: &Places, label: &str, config: &Config, earlier: &Config, strangers: &[String]) {
        let path_of = |reference: &Reference| match name_of(reference) {
            Some(_) => Some(reference.path()),
            None => places
                .all
                .iter()
                .find(|place| place.reference() == *reference)
                .and_then(|place| place.path()),
        };
        let named = command::named_namespaces().into_iter().filter(|name| !strangers.contains(name));
        let mut found: Vec<PathBuf> = named.map(|name| PathBuf::from(format!("/run/netns/{name}"))).collect();
        found.extend(places.all.iter().filter_map(|place| place.path()));
        for path in found {
            self.contents_of(&path, String::new());
        }
        for (reference, state) in config.expected(label) {
            if let Some(contents) = path_of(&reference).and_then(|path| self.contents_of(&path, format!(" {reference:?}"))) {
                contents.state.lines.extend(state.lines);
            }
        }
        let leaves = |line: &String| line.starts_with("route ") || line.starts_with("neighbour ");
        for (reference, state) in earlier.expected(label) {
            if let Some(contents) = path_of(&reference).and_then(|path| self.contents_of(&path, String::new())) {
                contents.optional.extend(state.lines.into_iter().filter(leaves));
            }
        }
    }

    fn contents_of(&mut self, path: &std::path::Path, name: String) -> Option<&mut Contents> {
        // One that is wanted but not there is reported as a missing name.
        let contents = self.contents.entry(inode(path)?).or_insert_with(|| Contents {
            path: path.to_owned(),
            names: path.display().to_string(),
            state: NetnsState::default(),
            optional: BTreeSet::new(),
        });
        contents.names.push_str(&name);
        Some(contents)
    }

    /// Inodes of all namespaces that there are to know of.
    pub fn namespaces(&self) -> impl Iterator<Item = u64> + '_ {
        self.contents.keys().copied()
    }

    /// How many values there are, and how many of them are to be CONFIGURED.
    pub fn counts(&self) -> (usize, usize) {
        let configured = self.verdicts.values().filter(|(verdict, _)| *verdict == Verdict::Configured);
        (self.verdicts.len(), configured.count())
    }

    /// Statuses that are not as they must be, by key.
    pub fn wrong_statuses(&self, published: &Publication) -> BTreeMap<String, String> {
        let mut wrong = BTreeMap::new();
        for (key, (verdict, revision)) in &self.verdicts {
            let Some(status) = published.of(key) else {
                wrong.insert(key.clone(), format!("must be {verdict:?}, but has no status"));
                continue;
            };
            let states: &[&str] = match verdict {
                Verdict::Configured => &["CONFIGURED"],
                Verdict::Pending => &["PENDING"],
                Verdict::Invalid => &["INVALID"],
                Verdict::Refused => &["RETRYING", "FAILED"],
            };
            if !states.contains(&status.state.as_str()) || status.mod_revision != *revision {
                wrong.insert(
                    key.clone(),
                    format!(
                        "must be {verdict:?} and answer revision {revision}, but: {}",
                        published.keys[&format!("config-status/{key}")].text
                    ),
                );
            }
        }
        for key in published.keys.keys().filter_map(|key| key.strip_prefix("config-status/")) {
            if !self.verdicts.contains_key(key) {
                wrong.insert(key.to_owned(), "has a status, but nobody wants it".to_owned());
            }
        }
        wrong
    }

    /// Names below `/run/netns` that are missing or too many, and foreign ones that are not what they were.
    pub fn wrong_names(&self) -> Vec<String> {
        let found: BTreeSet<String> = command::named_namespaces().into_iter().collect();
        let missing = self
            .names
            .difference(&found)
            .map(|name| format!("named namespace {name} is missing"));
        let extra = found
            .difference(&self.names)
            .map(|name| format!("named namespace {name} is left over"));
        let other = self
            .foreign
            .iter()
            .filter(|(name, was)| inode(std::path::Path::new(&format!("/run/netns/{name}"))) != Some(**was));
        missing
            .chain(extra)
            .chain(other.map(|(name, was)| format!("named namespace {name} is not the one ({was}) that somebody else made")))
            .collect()
    }

    /// Differences in these namespaces, read by several processes at once. The differences of each are reported together.
    pub fn wrong_contents(&self, inodes: &[u64]) -> BTreeMap<u64, String> {
        let compare = |inode: &u64| {
            let contents = &self.contents[inode];
            let difference = match NetnsState::read(&contents.path) {
                Ok(mut found) => {
                    found
                        .lines
                        .retain(|line| contents.state.lines.contains(line) || !contents.optional.contains(line));
                    contents.state.difference(&found, &contents.names)
                }
                Err(error) => format!("{}: {error}\n", contents.names),
            };
            (!difference.is_empty()).then_some((*inode, difference))
        };
        let half = inodes.len().div_ceil(2).max(1);
        std::thread::scope(|scope| {
            let parts = inodes
                .chunks(half)
                .map(|part| scope.spawn(move || part.iter().filter_map(compare).collect::<Vec<_>>()));
            let parts: Vec<_> = parts.collect();
            parts
                .into_iter()
                .flat_map(|part| part.join().expect("a thread that compares"))
                .collect()
        })
    }
}

fn name_of(reference: &Reference) -> Option<String> {
    match reference {
        Reference::Named(name) => Some(name.clone()),
        _ => None,
    }
}

fn add(config: &mut Config, value: &Value) {
    match value {
        Value::Interface(interface) => config.interfaces.push(interface.clone()),
        Value::Route(route) => config.routes.push(route.clone()),
        Value::Arp(arp) => config.arps.push(arp.clone()),
        Value::Garbage(..) => {}
    }
}

/// What is in the namespaces of strangers, to be compared later.
pub fn strangers_as_they_are(names: &[String]) -> Vec<String> {
    foreign::fingerprints(names)
}
