//! Desired values as the tests write them, and what they must lead to in the kernel.
//!
//! Owns the test's own idea of the models, written from the contract and not with the agent's code, so that an error there is not
//! repeated here. Must never use the crates under test. Start reading at [`Config`].

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use serde_json::{Value, json};

use super::netns_state::NetnsState;

/// How a value names its namespace.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Reference {
    /// The agent's own namespace (member `namespace` is not set).
    Own,
    /// NSID.
    Named(String),
    /// PID.
    Pid(i32),
    /// FD: a file.
    File(String),
    /// MICROSERVICE: the label of a container.
    Microservice(String),
}

impl Reference {
    /// NSID of this name.
    pub fn named(name: &str) -> Self {
        Self::Named(name.to_owned())
    }

    /// The namespace file; a container has none that is known in advance.
    pub fn path(&self) -> PathBuf {
        match self {
            Self::Own => PathBuf::from("/proc/self/ns/net"),
            Self::Named(name) => PathBuf::from(format!("/run/netns/{name}")),
            Self::Pid(pid) => PathBuf::from(format!("/proc/{pid}/ns/net")),
            Self::File(path) => PathBuf::from(path),
            Self::Microservice(label) => panic!("ask Docker for the namespace of {label}"),
        }
    }

    /// Member `namespace` of an interface.
    pub fn json(&self) -> Option<Value> {
        let (kind, reference) = match self {
            Self::Own => return None,
            Self::Named(name) => ("NSID", name.clone()),
            Self::Pid(pid) => ("PID", pid.to_string()),
            Self::File(path) => ("FD", path.clone()),
            Self::Microservice(label) => ("MICROSERVICE", label.clone()),
        };
        Some(json!({"type": kind, "reference": reference}))
    }
}

/// Kind of an interface, with what only this kind has.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Kind {
    /// One end of a pair; logical name of the other end.
    Veth(String),
    /// `lo` of the namespace.
    Loopback,
    /// An interface that somebody else made.
    Existing,
    /// A TAP; name of the VPP interface.
    Tap(String),
    /// A dummy.
    Dummy,
    /// A VRF device with this routing table.
    Vrf(u32),
}

/// A desired interface.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Interface {
    /// Logical name.
    pub name: String,
    /// Kind.
    pub kind: Kind,
    /// Where.
    pub netns: Reference,
    /// Kernel name.
    pub host_name: String,
    /// Admin state.
    pub enabled: bool,
    /// `address/prefix length`, in canonical text.
    pub addresses: Vec<String>,
    /// MTU in bytes; 0 leaves the default.
    pub mtu: u32,
    /// MAC, lower case; empty leaves the kernel's choice.
    pub mac: String,
    /// Logical name of the VRF device.
    pub vrf: String,
}

impl Interface {
    /// An interface of this kind that is up, with its kernel name equal to its logical one.
    pub fn new(name: &str, kind: Kind, netns: Reference) -> Self {
        let (name, host_name) = (name.to_owned(), name.to_owned());
        Self {
            name,
            kind,
            netns,
            host_name,
            enabled: true,
            addresses: Vec::new(),
            mtu: 0,
            mac: String::new(),
            vrf: String::new(),
        }
    }

    /// One end of a veth pair.
    pub fn veth(name: &str, peer: &str, netns: Reference) -> Self {
        Self::new(name, Kind::Veth(peer.to_owned()), netns)
    }

    /// With this kernel name.
    pub fn host_name(mut self, name: &str) -> Self {
        self.host_name = name.to_owned();
        self
    }

    /// With one more address.
    pub fn address(mut self, address: &str) -> Self {
        self.addresses.push(address.to_owned());
        self
    }

    /// With this MAC.
    pub fn mac(mut self, mac: &str) -> Self {
        self.mac = mac.to_owned();
        self
    }

    /// With this MTU.
    pub fn mtu(mut self, mtu: u32) -> Self {
        self.mtu = mtu;
        self
    }

    /// Inside this VRF.
    pub fn vrf(mut self, vrf: &str) -> Self {
        self.vrf = vrf.to_owned();
        self
    }

    /// Key after `config/`.
    pub fn key(&self) -> String {
        interface_key(&self.name)
    }

    /// The value.
    pub fn json(&self) -> Value {
        let mut value = json!({"name": self.name, "enabled": self.enabled, "host_if_name": self.host_name});
        let (kind, link) = match &self.kind {
            Kind::Veth(peer) => ("VETH", Some(("veth", json!({"peer_if_name": peer})))),
            Kind::Tap(vpp) => ("TAP_TO_VPP", Some(("tap", json!({"vpp_tap_if_name": vpp})))),
            Kind::Vrf(table) => ("VRF_DEVICE", Some(("vrf_dev", json!({"routing_table": table})))),
            Kind::Loopback => ("LOOPBACK", None),
            Kind::Existing => ("EXISTING", None),
            Kind::Dummy => ("DUMMY", None),
        };
        value["type"] = json!(kind);
        if let Some((member, link)) = link {
            value[member] = link;
        }
        if let Some(netns) = self.netns.json() {
            value["namespace"] = netns;
        }
        if self.addresses.iter().any(|address| address.contains(':')) {
            // Scenarios that are not about duplicates need not wait for the kernel to look for some.
            value["duplicate_address_detection"] = json!("SKIP");
        }
        if !self.addresses.is_empty() {
            value["ip_addresses"] = json!(self.addresses);
        }
        if self.mtu != 0 {
            value["mtu"] = json!(self.mtu);
        }
        if !self.mac.is_empty() {
            value["phys_address"] = json!(self.mac);
        }
        if !self.vrf.is_empty() {
            value["vrf_master_interface"] = json!(self.vrf);
        }
        value
    }

    /// The alias by which the kernel remembers whose link this is.
    fn alias(&self, label: &str) -> String {
        match &self.kind {
            Kind::Veth(peer) => format!("/vnf-agent/{label}/{}/{peer}", self.name),
            _ => format!("/vnf-agent/{label}/{}", self.name),
        }
    }

    /// Adds what this interface must lead to; `vrf_host_name` is the kernel name of its VRF device, if any.
    fn expect(&self, label: &str, vrf_host_name: &str, state: &mut NetnsState) {
        let kind = match self.kind {
            Kind::Veth(_) => "veth",
            Kind::Dummy => "dummy",
            Kind::Vrf(_) => "vrf",
            Kind::Loopback | Kind::Existing | Kind::Tap(_) => return self.expect_addresses(state),
        };
        let mtu = match (self.mtu, &self.kind) {
            (0, Kind::Vrf(_)) => 65575,
            (0, _) => 1500,
            (mtu, _) => mtu,
        };
        let admin = if self.enabled { "up" } else { "down" };
        state.lines.insert(format!(
            "link {} kind {kind} {admin} mtu {mtu} alias {}",
            self.host_name,
            self.alias(label)
        ));
        if !self.mac.is_empty() {
            state.lines.insert(format!("mac {} {}", self.host_name, self.mac));
        }
        if !vrf_host_name.is_empty() {
            state.lines.insert(format!("master {} {vrf_host_name}", self.host_name));
        }
        self.expect_addresses(state);
    }

    fn expect_addresses(&self, state: &mut NetnsState) {
        let host_name = if self.kind == Kind::Loopback { "lo" } else { &self.host_name };
        state
            .lines
            .extend(self.addresses.iter().map(|address| format!("address {host_name} {address}")));
    }
}

/// A desired route.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Route {
    /// Logical name of the outgoing interface.
    pub interface: String,
    /// Destination network, canonical.
    pub destination: String,
    /// Gateway; empty for a route of scope LINK.
    pub gateway: String,
    /// Metric; 0 is the default.
    pub metric: u32,
}

impl Route {
    /// A route by gateway, or without one, of scope LINK.
    pub fn new(interface: &str, destination: &str, gateway: &str) -> Self {
        Self {
            interface: interface.to_owned(),
            destination: destination.to_owned(),
            gateway: gateway.to_owned(),
            metric: 0,
        }
    }

    /// Key after `config/`.
    pub fn key(&self) -> String {
        format!("linux/l3/v2/route/{}/{}", self.destination, self.interface)
    }

    /// The value.
    pub fn json(&self) -> Value {
        let scope = if self.gateway.is_empty() { "LINK" } else { "GLOBAL" };
        let mut value = json!({"outgoing_interface": self.interface, "scope": scope, "dst_network": self.destination});
        if !self.gateway.is_empty() {
            value["gw_addr"] = json!(self.gateway);
        }
        if self.metric != 0 {
            value["metric"] = json!(self.metric);
        }
        value
    }

    fn expect(&self, host_name: &str, table: &str, state: &mut NetnsState) {
        let ipv6 = self.destination.contains(':');
        let metric = if ipv6 && self.metric == 0 { 1024 } else { self.metric };
        let scope = if self.gateway.is_empty() && !ipv6 { "link" } else { "global" };
        let via = if self.gateway.is_empty() { "-" } else { &self.gateway };
        let destination = self.destination.trim_end_matches(if ipv6 { "/128" } else { "/32" });
        state.lines.insert(format!(
            "route {destination} via {via} dev {host_name} metric {metric} scope {scope} table {table} protocol 158"
        ));
    }
}

/// A desired ARP entry.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Arp {
    /// Logical name of the interface.
    pub interface: String,
    /// IP address, canonical.
    pub address: String,
    /// MAC, lower case.
    pub mac: String,
}

impl Arp {
    /// An entry.
    pub fn new(interface: &str, address: &str, mac: &str) -> Self {
        Self {
            interface: interface.to_owned(),
            address: address.to_owned(),
            mac: mac.to_owned(),
        }
    }

    /// Key after `config/`.
    pub fn key(&self) -> String {
        format!("linux/l3/v2/arp/{}/{}", self.interface, self.address)
    }

    /// The value.
    pub fn json(&self) -> Value {
        json!({"interface": self.interface, "ip_address": self.address, "hw_address": self.mac})
    }
}

/// Key after `config/` of an interface.
pub fn interface_key(name: &str) -> String {
    format!("linux/interfaces/v2/interface/{name}")
}

/// A set of desired values.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Config {
    /// Interfaces.
    pub interfaces: Vec<Interface>,
    /// Routes.
    pub routes: Vec<Route>,
    /// ARP entries.
    pub arps: Vec<Arp>,
}

impl Config {
    /// A pair with its two ends in two namespaces, a route and an ARP entry. MAC addresses are given, so that nothing is left to chance.
    pub fn between_two_namespaces() -> Self {
        Config {
            interfaces: vec![
                Interface::veth("left", "right", Reference::named("red"))
                    .host_name("eth0")
                    .address("10.11.0.1/24")
                    .mac("02:00:00:00:11:01"),
                Interface::veth("right", "left", Reference::named("blue"))
                    .host_name("eth0")
                    .address("10.11.0.2/24")
                    .mac("02:00:00:00:11:02"),
            ],
            routes: vec![Route::new("left", "10.12.0.0/16", "10.11.0.2")],
            arps: vec![Arp::new("left", "10.11.0.9", "02:00:00:00:11:09")],
        }
    }

    /// The values by their keys after `config/`.
    pub fn entries(&self) -> BTreeMap<String, String> {
        let interfaces = self.interfaces.iter().map(|value| (value.key(), value.json().to_string()));
        let routes = self.routes.iter().map(|value| (value.key(), value.json().to_string()));
        let arps = self.arps.iter().map(|value| (value.key(), value.json().to_string()));
        interfaces.chain(routes).chain(arps).collect()
    }

    /// The namespaces that are referenced.
    pub fn namespaces(&self) -> BTreeSet<Reference> {
        self.interfaces.iter().map(|interface| interface.netns.clone()).collect()
    }

    /// What must be in each referenced namespace once everything is CONFIGURED.
    pub fn expected(&self, label: &str) -> BTreeMap<Reference, NetnsState> {
        let mut states: BTreeMap<Reference, NetnsState> = BTreeMap::new();
        for interface in &self.interfaces {
            let vrf = if interface.vrf.is_empty() {
                ""
            } else {
                &self.interface(&interface.vrf).host_name
            };
            interface.expect(label, vrf, states.entry(interface.netns.clone()).or_default());
        }
        for route in &self.routes {
            let interface = self.interface(&route.interface);
            let table = self.table_of(interface);
            route.expect(&interface.host_name, &table, states.entry(interface.netns.clone()).or_default());
        }
        for arp in &self.arps {
            let interface = self.interface(&arp.interface);
            let state = states.entry(interface.netns.clone()).or_default();
            state
                .lines
                .insert(format!("neighbour {} dev {} mac {}", arp.address, interface.host_name, arp.mac));
        }
        states
    }

    /// The interface of this logical name.
    pub fn interface(&self, name: &str) -> &Interface {
        self.interfaces
            .iter()
            .find(|interface| interface.name == name)
            .unwrap_or_else(|| panic!("the test refers to no interface {name}"))
    }

    /// Name or number of the routing table of an interface, as iproute2 prints it.
    fn table_of(&self, interface: &Interface) -> String {
        match self
            .interfaces
            .iter()
            .find(|candidate| candidate.name == interface.vrf)
            .map(|vrf| &vrf.kind)
        {
            Some(Kind::Vrf(table)) => table.to_string(),
            _ => "main".to_owned(),
        }
    }

    /// Compares the kernel with what is expected; returns a report when they differ.
    pub fn check(&self, label: &str) -> Result<(), String> {
        let mut report = String::new();
        for (reference, expected) in self.expected(label) {
            match NetnsState::read(&reference.path()) {
                Ok(found) => report.push_str(&expected.difference(&found, &format!("{reference:?}"))),
                Err(error) => report.push_str(&format!("{reference:?}: {error}\n")),
            }
        }
        if report.is_empty() { Ok(()) } else { Err(report) }
    }
}
