//! Desired values for tests, with their keys and JSON.
//!
//! The values follow the specification and do not use any crate under test, so they cannot repeat its errors.

use std::path::PathBuf;

use serde_json::{Value as Json, json};

/// Reference to a value's namespace.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Reference {
    /// The agent's own namespace (field `namespace` is not set).
    Own,
    /// Name of a namespace, as in `ip netns` (type NSID).
    Named(String),
    /// PID of a process in the namespace.
    Pid(i32),
    /// Path of a namespace file (type FD).
    File(String),
    /// Label of a container (type MICROSERVICE).
    Microservice(String),
}

impl Reference {
    /// Creates a reference to a namespace by its name (NSID).
    pub fn named(name: &str) -> Self {
        Self::Named(name.to_owned())
    }

    /// Returns the name in a reference of type NSID, and `None` for other types.
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::Named(name) => Some(name),
            _ => None,
        }
    }

    /// Returns the path of the namespace file to which the reference resolves.
    ///
    /// # Panics
    /// Panics for a microservice, because the namespace path of its container is not known in advance.
    pub fn path(&self) -> PathBuf {
        match self {
            Self::Own => PathBuf::from("/proc/self/ns/net"),
            Self::Named(name) => PathBuf::from(format!("/run/netns/{name}")),
            Self::Pid(pid) => PathBuf::from(format!("/proc/{pid}/ns/net")),
            Self::File(path) => PathBuf::from(path),
            Self::Microservice(label) => panic!("the namespace path of the microservice {label} is not known; ask Docker for it"),
        }
    }

    /// Returns the JSON of an interface's field `namespace`; `None` if the field is not set.
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

/// Type of an interface, with the settings of the type.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Kind {
    /// One end of a veth pair, with the logical name of the other end.
    Veth(String),
    /// The loopback interface `lo` of the namespace.
    Loopback,
    /// A foreign link that the agent configures but does not create (type EXISTING).
    Existing,
    /// A TAP interface that VPP creates, with the name of the interface in VPP.
    Tap(String),
    /// A dummy interface, which has no settings of its own.
    Dummy,
    /// A VRF device, with the number of its routing table.
    Vrf(u32),
    /// A bridge, with its spanning tree, ageing and VLAN filtering settings.
    Bridge {
        /// `true` to run the spanning tree protocol.
        stp: bool,
        /// Ageing time in seconds; 0 means the default of the kernel.
        ageing: u32,
        /// `true` to filter VLANs on the bridge's ports.
        filtering: bool,
    },
    /// A VLAN interface on a parent interface.
    Vlan {
        /// Logical name of the parent interface.
        parent: String,
        /// VLAN id.
        id: u16,
        /// `true` for loose binding: the VLAN can be up while its parent is down.
        loose: bool,
    },
}

/// VLAN of a bridge or of a bridge port.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct PortVlan {
    /// VLAN id.
    pub vid: u16,
    /// `true` if received frames without a tag belong to this VLAN.
    pub pvid: bool,
    /// `true` if frames of this VLAN are sent without a tag.
    pub untagged: bool,
}

/// Membership of an interface in a bridge.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Port {
    /// Logical name of the bridge.
    pub bridge: String,
    /// `true` if the bridge must not forward frames between this port and other isolated ports.
    pub isolated: bool,
}

/// Desired interface.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Interface {
    /// Logical name of the interface.
    pub name: String,
    /// Interface type, with its settings.
    pub kind: Kind,
    /// Network namespace of the interface.
    pub netns: Reference,
    /// Name of the link in the kernel.
    pub host_name: String,
    /// `true` if the link must be administratively up.
    pub enabled: bool,
    /// Addresses with a prefix length, in canonical form.
    pub addresses: Vec<String>,
    /// `true` if other programs add the addresses and the agent only waits for them.
    pub link_only: bool,
    /// `true` if the kernel performs duplicate address detection. Tests of other features disable it to avoid waiting.
    pub detects_duplicates: bool,
    /// MTU in bytes; 0 means the default of the link kind.
    pub mtu: u32,
    /// MAC address in lower case. If empty, the kernel chooses an address.
    pub mac: String,
    /// Logical name of the interface's VRF device; empty if there is none.
    pub vrf: String,
    /// Membership in a bridge, if the interface is a bridge port.
    pub port: Option<Port>,
    /// VLANs of the bridge port, or of the bridge itself.
    pub vlans: Vec<PortVlan>,
}

impl Interface {
    /// Creates an interface that is up. Its kernel name equals its logical name.
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

    /// Creates one end of a veth pair.
    pub fn veth(name: &str, peer: &str, netns: Reference) -> Self {
        Self::new(name, Kind::Veth(peer.to_owned()), netns)
    }

    /// Sets the kernel name of the link.
    pub fn host_name(mut self, name: &str) -> Self {
        self.host_name = name.to_owned();
        self
    }

    /// Adds an address with its prefix length.
    pub fn address(mut self, address: &str) -> Self {
        self.addresses.push(address.to_owned());
        self
    }

    /// Sets the MAC address.
    pub fn mac(mut self, mac: &str) -> Self {
        self.mac = mac.to_owned();
        self
    }

    /// Sets the MTU.
    pub fn mtu(mut self, mtu: u32) -> Self {
        self.mtu = mtu;
        self
    }

    /// Sets the logical name of the VRF device.
    pub fn vrf(mut self, vrf: &str) -> Self {
        self.vrf = vrf.to_owned();
        self
    }

    /// Makes the interface a port of this bridge.
    pub fn port_of(mut self, bridge: &str) -> Self {
        self.port = Some(Port {
            bridge: bridge.to_owned(),
            isolated: false,
        });
        self
    }

    /// Returns the key of the value, without the prefix `config/`.
    pub fn key(&self) -> String {
        interface_key(&self.name)
    }

    /// Returns the value in the JSON format of the store.
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

/// Desired route.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Route {
    /// Logical name of the outgoing interface.
    pub interface: String,
    /// Destination network, in canonical form.
    pub destination: String,
    /// IP address of the gateway; empty if there is none.
    pub gateway: String,
    /// Name of the scope in the model, such as `LINK`.
    pub scope: &'static str,
    /// Metric; 0 means the default of the kernel.
    pub metric: u32,
    /// `true` to adopt an equal foreign route if the kernel already has one.
    pub adopt: bool,
}

impl Route {
    /// Creates a route through a gateway, or a route of scope LINK if the gateway is empty.
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

    /// Returns the key of the value, without the prefix `config/`.
    pub fn key(&self) -> String {
        route_key(&self.destination, &self.interface)
    }

    /// Returns the value in the JSON format of the store.
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

/// Desired static neighbour (ARP entry).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Arp {
    /// Logical name of the neighbour's interface.
    pub interface: String,
    /// IP address of the neighbour, in canonical form.
    pub address: String,
    /// MAC address in lower case.
    pub mac: String,
    /// `true` to adopt a foreign entry if the kernel already has one for this address.
    pub adopt: bool,
}

impl Arp {
    /// Creates a desired neighbour that does not adopt a foreign entry.
    pub fn new(interface: &str, address: &str, mac: &str) -> Self {
        Self {
            interface: interface.to_owned(),
            address: address.to_owned(),
            mac: mac.to_owned(),
            adopt: false,
        }
    }

    /// Returns the key of the value, without the prefix `config/`.
    pub fn key(&self) -> String {
        arp_key(&self.interface, &self.address)
    }

    /// Returns the value in the JSON format of the store.
    pub fn json(&self) -> Json {
        let mut value = json!({"interface": self.interface, "ip_address": self.address, "hw_address": self.mac});
        if self.adopt {
            value["adopt"] = json!(true);
        }
        value
    }
}

/// Desired value of any kind.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Value {
    /// A desired interface of any type.
    Interface(Interface),
    /// A desired static neighbour (ARP entry).
    Arp(Arp),
    /// A desired route.
    Route(Route),
    /// A value that the agent must reject as INVALID, with its key.
    Unusable(String),
}

impl Value {
    /// Returns the key of the value, without the prefix `config/`.
    pub fn key(&self) -> String {
        match self {
            Value::Interface(interface) => interface.key(),
            Value::Arp(arp) => arp.key(),
            Value::Route(route) => route.key(),
            Value::Unusable(key) => key.clone(),
        }
    }

    /// Returns the value in the JSON format of the store.
    pub fn json(&self) -> Json {
        match self {
            Value::Interface(interface) => interface.json(),
            Value::Arp(arp) => arp.json(),
            Value::Route(route) => route.json(),
            Value::Unusable(_) => json!({"type": "DUMMY", "mtu": "many"}),
        }
    }
}

/// Returns the key of an interface, without the prefix `config/`.
pub fn interface_key(name: &str) -> String {
    format!("linux/interfaces/v2/interface/{name}")
}

/// Returns the key of a neighbour, without the prefix `config/`.
pub fn arp_key(interface: &str, address: &str) -> String {
    format!("linux/l3/v2/arp/{interface}/{address}")
}

/// Returns the key of a route, without the prefix `config/`.
pub fn route_key(destination: &str, interface: &str) -> String {
    format!("linux/l3/v2/route/{destination}/{interface}")
}
