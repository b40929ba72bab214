//! Desired values as tests write them: what they ask for, their keys, and their JSON.
//!
//! Owns the tests' own idea of the models, written from the contract and not with the agent's code, so that an error there is not
//! repeated here. Must never use a crate under test. Start reading at [`Value`].

use std::path::PathBuf;

use serde_json::{Value as Json, json};

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

    /// The name, if that is how it is named.
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::Named(name) => Some(name),
            _ => None,
        }
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
    pub fn json(&self) -> Option<Json> {
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
    /// A bridge.
    Bridge {
        /// Spanning tree protocol.
        stp: bool,
        /// Ageing time in seconds; 0 leaves the default.
        ageing: u32,
        /// It keeps VLANs apart.
        filtering: bool,
    },
    /// A VLAN.
    Vlan {
        /// Logical name of the interface below.
        parent: String,
        /// Id.
        id: u16,
        /// It can be up while its parent is down.
        loose: bool,
    },
}

/// A VLAN of a bridge or of one of its ports.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct PortVlan {
    /// Id.
    pub vid: u16,
    /// Frames without a tag belong to it.
    pub pvid: bool,
    /// Its frames leave without a tag.
    pub untagged: bool,
}

/// How an interface is a port of a bridge.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Port {
    /// Logical name of the bridge.
    pub bridge: String,
    /// It does not reach other isolated ports.
    pub isolated: bool,
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
    /// Others are to add the addresses.
    pub link_only: bool,
    /// Whether the kernel looks for duplicates of IPv6 addresses. Scenarios that are not about them need not wait for that.
    pub detects_duplicates: bool,
    /// MTU in bytes; 0 leaves the default.
    pub mtu: u32,
    /// MAC, lower case; empty leaves the kernel's choice.
    pub mac: String,
    /// Logical name of the VRF device; empty: none.
    pub vrf: String,
    /// The bridge that it is a port of.
    pub port: Option<Port>,
    /// The VLANs of the port, or of the bridge itself.
    pub vlans: Vec<PortVlan>,
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
            link_only: false,
            detects_duplicates: false,
            mtu: 0,
            mac: String::new(),
            vrf: String::new(),
            port: None,
            vlans: Vec::new(),
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

    /// As a port of this bridge.
    pub fn port_of(mut self, bridge: &str) -> Self {
        self.port = Some(Port {
            bridge: bridge.to_owned(),
            isolated: false,
        });
        self
    }

    /// Key after `config/`.
    pub fn key(&self) -> String {
        interface_key(&self.name)
    }

    /// The value.
    pub fn json(&self) -> Json {
        let mut value = json!({"name": self.name, "enabled": self.enabled, "host_if_name": self.host_name});
        let (kind, link) = match &self.kind {
            Kind::Veth(peer) => ("VETH", Some(("veth", json!({"peer_if_name": peer})))),
            Kind::Tap(vpp) => ("TAP_TO_VPP", Some(("tap", json!({"vpp_tap_if_name": vpp})))),
            Kind::Vrf(table) => ("VRF_DEVICE", Some(("vrf_dev", json!({"routing_table": table})))),
            Kind::Bridge { stp, ageing, filtering } => {
                let link = json!({"stp": stp, "ageing_time_s": ageing, "vlan_filtering": filtering, "self_vlans": self.vlans_json()});
                ("BRIDGE", Some(("bridge", link)))
            }
            Kind::Vlan { parent, id, loose } => {
                let link = json!({"parent_if_name": parent, "id": id, "loose_binding": loose});
                ("VLAN", Some(("vlan", link)))
            }
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
        if !self.addresses.is_empty() {
            value["ip_addresses"] = json!(self.addresses);
        }
        if !self.detects_duplicates && self.addresses.iter().any(|address| address.contains(':')) {
            value["duplicate_address_detection"] = json!("SKIP");
        }
        if self.link_only {
            value["link_only"] = json!(true);
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
        if let Some(port) = &self.port {
            value["master_interface"] = json!(port.bridge);
            value["bridge_port"] = json!({"isolated": port.isolated, "vlans": self.vlans_json()});
        }
        value
    }

    fn vlans_json(&self) -> Vec<Json> {
        let json = |vlan: &PortVlan| json!({"vid": vlan.vid, "pvid": vlan.pvid, "untagged": vlan.untagged});
        self.vlans.iter().map(json).collect()
    }
}

/// A desired route.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Route {
    /// Logical name of the outgoing interface.
    pub interface: String,
    /// Destination network, canonical.
    pub destination: String,
    /// Gateway; empty for none.
    pub gateway: String,
    /// Scope, as the model names it.
    pub scope: &'static str,
    /// Metric; 0 is the default.
    pub metric: u32,
    /// A foreign route in its place is taken over.
    pub adopt: bool,
}

impl Route {
    /// A route by gateway, or without one, of scope LINK.
    pub fn new(interface: &str, destination: &str, gateway: &str) -> Self {
        Self {
            interface: interface.to_owned(),
            destination: destination.to_owned(),
            gateway: gateway.to_owned(),
            scope: if gateway.is_empty() { "LINK" } else { "GLOBAL" },
            metric: 0,
            adopt: false,
        }
    }

    /// Key after `config/`.
    pub fn key(&self) -> String {
        route_key(&self.destination, &self.interface)
    }

    /// The value.
    pub fn json(&self) -> Json {
        let mut value = json!({"outgoing_interface": self.interface, "scope": self.scope, "dst_network": self.destination});
        if !self.gateway.is_empty() {
            value["gw_addr"] = json!(self.gateway);
        }
        if self.metric != 0 {
            value["metric"] = json!(self.metric);
        }
        if self.adopt {
            value["adopt"] = json!(true);
        }
        value
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
    /// A foreign entry in its place is taken over.
    pub adopt: bool,
}

impl Arp {
    /// An entry.
    pub fn new(interface: &str, address: &str, mac: &str) -> Self {
        Self {
            interface: interface.to_owned(),
            address: address.to_owned(),
            mac: mac.to_owned(),
            adopt: false,
        }
    }

    /// Key after `config/`.
    pub fn key(&self) -> String {
        arp_key(&self.interface, &self.address)
    }

    /// The value.
    pub fn json(&self) -> Json {
        let mut value = json!({"interface": self.interface, "ip_address": self.address, "hw_address": self.mac});
        if self.adopt {
            value["adopt"] = json!(true);
        }
        value
    }
}

/// What a key holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Value {
    /// An interface.
    Interface(Interface),
    /// A neighbour.
    Arp(Arp),
    /// A route.
    Route(Route),
    /// Something that cannot be used, under this key.
    Unusable(String),
}

impl Value {
    /// Key after `config/`.
    pub fn key(&self) -> String {
        match self {
            Value::Interface(interface) => interface.key(),
            Value::Arp(arp) => arp.key(),
            Value::Route(route) => route.key(),
            Value::Unusable(key) => key.clone(),
        }
    }

    /// The value as it is put.
    pub fn json(&self) -> Json {
        match self {
            Value::Interface(interface) => interface.json(),
            Value::Arp(arp) => arp.json(),
            Value::Route(route) => route.json(),
            Value::Unusable(_) => json!({"type": "DUMMY", "mtu": "many"}),
        }
    }
}

/// Key after `config/` of an interface.
pub fn interface_key(name: &str) -> String {
    format!("linux/interfaces/v2/interface/{name}")
}

/// Key after `config/` of a neighbour.
pub fn arp_key(interface: &str, address: &str) -> String {
    format!("linux/l3/v2/arp/{interface}/{address}")
}

/// Key after `config/` of a route.
pub fn route_key(destination: &str, interface: &str) -> String {
    format!("linux/l3/v2/route/{destination}/{interface}")
}
