//! Parsed keys and their text form. The module `parse` contains the parser.

use std::{fmt, net::IpAddr, str::FromStr};

use super::{
    Key, join,
    prefix::{ARP, INTERFACE, IP_ALLOCATION, ROUTE, RULE_CHAIN},
};
use crate::{
    address::{ALLOC_PREFIX, is_alloc_reference, network_of, parse_ip_or_cidr},
    proto::ligato::{
        linux::namespace::{NetNamespace, net_namespace::ReferenceType},
        netalloc::IpAddressSource,
    },
};

/// Placeholder for a missing or invalid name, address or network in a key.
pub const INVALID: &str = "<invalid>";

pub(super) const LINUX_INTERFACE: &str = "linux/interface/";
pub(super) const HOST_NAME: &str = "linux/interface/host-name/";
pub(super) const STATE: &str = "linux/interface/state/";
pub(super) const MICROSERVICE: &str = "linux/microservice/";
pub(super) const LINK_LOCAL_ROUTE: &str = "linux/link-local-route/";
pub(super) const NEIGHBOR_GATEWAY: &str = "netalloc/neigh-gw/";
pub(super) const NAMESPACE: &str = "linux/namespace/";
pub(super) const TAP: &str = "linux/tap/";

/// Key of a desired value, a derived value or a fact.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum TypedKey {
    /// Desired value: an interface.
    Interface {
        /// Logical name of the interface.
        name: String,
    },
    /// Desired value: a permanent neighbour entry.
    Arp {
        /// Logical name of the interface.
        interface: String,
        /// Address or allocation reference, exactly as in the value (not normalized).
        ip_address: String,
    },
    /// Desired value: a route.
    Route {
        /// Destination network or reference.
        destination: RouteDestination,
        /// Logical name of the interface.
        outgoing_interface: String,
    },
    /// Desired value: an iptables chain with its rules.
    RuleChain {
        /// Logical name of the rule chain.
        name: String,
    },
    /// Desired value: an allocated address.
    IpAllocation {
        /// Name of the network that the address belongs to.
        network: String,
        /// Logical name of the interface.
        interface: String,
    },
    /// Fact: a link in the agent's own namespace exists and is up.
    HostInterface {
        /// Kernel name of the link.
        host_name: String,
    },
    /// Fact: a link in the agent's own namespace has an address.
    HostInterfaceAddress {
        /// Kernel name of the link.
        host_name: String,
        /// Address with a prefix length.
        address: String,
    },
    /// Fact: a link in the agent's own namespace belongs to a VRF.
    HostInterfaceVrf {
        /// Kernel name of the link.
        host_name: String,
        /// Kernel name of the VRF device.
        vrf_host_name: String,
    },
    /// Derived value: the administrative state of an interface.
    InterfaceState {
        /// Logical name of the interface.
        name: String,
        /// `true` for up, `false` for down.
        up: bool,
    },
    /// Derived value: one address of an interface.
    InterfaceAddress {
        /// Logical name of the interface.
        interface: String,
        /// Source of the address, such as the configuration or an allocation.
        source: AddressSource,
        /// Address or allocation reference, exactly as in the value (not normalized).
        address: String,
    },
    /// Derived value: the membership of an interface in a VRF.
    InterfaceVrf {
        /// Logical name of the interface.
        interface: String,
        /// Logical name of the VRF device.
        vrf: String,
    },
    /// Derived value: the membership of an interface in a bridge. The key has an empty path element after the interface name, because no interface
    /// name can contain an empty element.
    InterfaceMaster {
        /// Logical name of the interface.
        interface: String,
        /// Logical name of the bridge.
        master: String,
    },
    /// Derived value: a range of VLANs of a bridge or a bridge port.
    InterfaceVlan {
        /// Logical name of the interface.
        interface: String,
        /// VLAN ids: `<vid>`, or `<first vid>-<last vid>`.
        vlans: String,
    },
    /// Fact: a microservice is running.
    Microservice {
        /// Microservice label.
        label: String,
    },
    /// Derived value: the destination of a route with scope LINK, which is reachable without a gateway.
    LinkLocalRoute {
        /// Logical name of the interface.
        outgoing_interface: String,
        /// Destination, exactly as in the route value.
        destination: String,
    },
    /// Derived value: an address allocation with a gateway in the same network as the address.
    NeighborGateway {
        /// Name of the network that the address belongs to.
        network: String,
        /// Logical name of the interface.
        interface: String,
    },
    /// Fact: a network namespace is available.
    Namespace {
        /// Type of the reference to the namespace.
        reference_type: NamespaceType,
        /// Name, PID, path or label; empty for the agent's own namespace.
        reference: String,
    },
    /// Fact: a TAP device exists in the agent's own namespace.
    Tap {
        /// Kernel name of the TAP device.
        host_name: String,
    },
}

/// Destination in a route key.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum RouteDestination {
    /// A network.
    Network {
        /// Network address, with all host bits cleared.
        address: IpAddr,
        /// Prefix length in bits.
        prefix_len: u8,
    },
    /// Reference to an allocated address, including the prefix `alloc:`.
    Allocation(String),
    /// Neither a network with a prefix length nor a reference. The key contains `<invalid>/0`, because clients compute the same key.
    Invalid,
}

impl RouteDestination {
    /// Returns the destination in a route key, given the field `dst_network` of the route.
    pub fn of(dst_network: &str) -> Self {
        if is_alloc_reference(dst_network) {
            return Self::Allocation(dst_network.to_owned());
        }
        match parse_ip_or_cidr(dst_network) {
            Ok(prefix) if prefix.had_mask => Self::Network {
                address: prefix.network(),
                prefix_len: prefix.prefix_len,
            },
            _ => Self::Invalid,
        }
    }
}

impl fmt::Display for RouteDestination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Network { address, prefix_len } => write!(f, "{}/{prefix_len}", network_of(*address, *prefix_len)),
            Self::Allocation(reference) => f.write_str(reference),
            Self::Invalid => write!(f, "{INVALID}/0"),
        }
    }
}

/// Source of an interface address. Keys contain the lower-case name of the [`IpAddressSource`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum AddressSource {
    /// Unknown source.
    Undefined,
    /// Given in the configuration.
    Static,
    /// Leased by a DHCP server.
    FromDhcp,
    /// Taken from an allocation to which the configuration refers.
    AllocRef,
    /// Added to the link by a user or a program other than the agent.
    Existing,
}

impl AddressSource {
    /// Returns the source as it is written in keys.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Undefined => "undefined_source",
            Self::Static => "static",
            Self::FromDhcp => "from_dhcp",
            Self::AllocRef => "alloc_ref",
            Self::Existing => "existing",
        }
    }

    /// Parses a source from a key, in upper or lower case.
    pub(super) fn parse(text: &str) -> Option<Self> {
        [Self::Undefined, Self::Static, Self::FromDhcp, Self::AllocRef, Self::Existing]
            .into_iter()
            .find(|source| source.as_str().eq_ignore_ascii_case(text))
    }
}

impl From<IpAddressSource> for AddressSource {
    fn from(source: IpAddressSource) -> Self {
        match source {
            IpAddressSource::UndefinedSource => Self::Undefined,
            IpAddressSource::Static => Self::Static,
            IpAddressSource::FromDhcp => Self::FromDhcp,
            IpAddressSource::AllocRef => Self::AllocRef,
            IpAddressSource::Existing => Self::Existing,
        }
    }
}

/// Type of a network namespace reference.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum NamespaceType {
    /// Name of the namespace, as listed by `ip netns`.
    Nsid,
    /// PID of a process in the namespace.
    Pid,
    /// Path to a namespace file.
    Fd,
    /// Microservice label of a container in the namespace.
    Microservice,
    /// The agent's own namespace.
    Own,
}

impl NamespaceType {
    /// Returns the type as it is written in keys.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Nsid => "NSID",
            Self::Pid => "PID",
            Self::Fd => "FD",
            Self::Microservice => "MICROSERVICE",
            Self::Own => "OWN",
        }
    }
}

impl FromStr for NamespaceType {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let all = [Self::Nsid, Self::Pid, Self::Fd, Self::Microservice, Self::Own];
        all.into_iter().find(|kind| kind.as_str() == text).ok_or(())
    }
}

impl fmt::Display for NamespaceType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Error returned for text that is not a valid key.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum KeyError {
    /// The text does not match any kind of key.
    #[error("`{0}` is not a key of this agent")]
    Unknown(String),
    /// The text has the prefix of one kind of key, but not the expected form.
    #[error("`{key}` is not a valid key: expected {expected}")]
    Malformed {
        /// Text that was parsed.
        key: String,
        /// Expected form of the key.
        expected: &'static str,
    },
    /// The key of an interface address lacks the interface or the address, or its source is missing or unknown.
    #[error("`{key}` is not a valid key: expected linux/interface/<interface>/address/<source>/<address>")]
    InvalidAddressKey {
        /// Text that was parsed.
        key: String,
        /// Logical name of the interface, or `<invalid>` if it is missing.
        interface: String,
        /// Source of the address; `None` if it is missing or unknown.
        source_name: Option<AddressSource>,
        /// Address; empty if the address or the source is missing.
        address: String,
    },
    /// The key of a VRF membership lacks the interface or the VRF.
    #[error("`{key}` is not a valid key: expected linux/interface/<interface>/vrf/<vrf>")]
    InvalidVrfKey {
        /// Text that was parsed.
        key: String,
        /// Logical name of the interface, or `<invalid>` if it is missing.
        interface: String,
        /// Logical name of the VRF device, or `<invalid>` if it is missing.
        vrf: String,
    },
    /// The text is not the canonical form of a key, so it is not the key of any value.
    #[error("`{key}` is not the canonical form of the key; write `{canonical}`")]
    NotCanonical {
        /// Text that was parsed.
        key: String,
        /// Canonical form of the key.
        canonical: String,
    },
}

fn or_invalid(text: &str) -> &str {
    if text.is_empty() { INVALID } else { text }
}

impl TypedKey {
    /// Parses a key.
    ///
    /// Parsing the result of [`TypedKey::to_key`] returns the same key, if all names follow the rules of [`crate::validation`].
    ///
    /// # Errors
    /// Fails if the text is not a key, is malformed or is not canonical. Prefixes, such as the result of [`TypedKey::any_address_of`], are not keys.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        super::parse::parse(text)
    }

    /// Returns the key of the interface to which the derived value with the key `text` belongs.
    ///
    /// `text` can be the key of an interface state, address, membership or VLAN. It can also be a key prefix that [`TypedKey::any_address_of`]
    /// returns. Returns `None` for all other keys.
    pub fn provider(text: &str) -> Option<Self> {
        let name = match Self::parse(text) {
            Ok(Self::InterfaceState { name, .. }) => name,
            Ok(
                Self::InterfaceAddress { interface, .. }
                | Self::InterfaceVrf { interface, .. }
                | Self::InterfaceMaster { interface, .. }
                | Self::InterfaceVlan { interface, .. },
            ) => interface,
            Ok(_) => return None,
            Err(_) => {
                let name = text.strip_prefix(LINUX_INTERFACE)?.strip_suffix("/address/")?;
                let is_managed = !text.starts_with(STATE) && !text.starts_with(HOST_NAME);
                is_managed.then(|| name.to_owned())?
            }
        };
        Some(Self::Interface { name })
    }

    /// Converts the key to text.
    pub fn to_key(&self) -> Key {
        Key::from(self.to_string())
    }

    /// Returns the key of an interface address. For an allocation reference, the source in the key is always `alloc_ref`.
    pub fn interface_address(interface: &str, address: &str, source: AddressSource) -> Self {
        let source = if is_alloc_reference(address) {
            AddressSource::AllocRef
        } else {
            source
        };
        Self::InterfaceAddress {
            interface: or_invalid(interface).to_owned(),
            source,
            address: address.to_owned(),
        }
    }

    /// Returns the key of a value's namespace. A `namespace` of `None` means the agent's own namespace. Returns `None` if the reference has no type.
    pub fn namespace_of(namespace: Option<&NetNamespace>) -> Option<Self> {
        let Some(namespace) = namespace else {
            return Some(Self::Namespace {
                reference_type: NamespaceType::Own,
                reference: String::new(),
            });
        };
        let reference_type = match namespace.r#type() {
            ReferenceType::Undefined => return None,
            ReferenceType::Nsid => NamespaceType::Nsid,
            ReferenceType::Pid => NamespaceType::Pid,
            ReferenceType::Fd => NamespaceType::Fd,
            ReferenceType::Microservice => NamespaceType::Microservice,
        };
        Some(Self::Namespace {
            reference_type,
            reference: namespace.reference.clone(),
        })
    }

    /// Returns the key prefix of all addresses of an interface.
    pub fn any_address_of(interface: &str) -> String {
        format!("{LINUX_INTERFACE}{}/address/", or_invalid(interface))
    }

    /// Returns the key prefix of all routes with scope LINK through an interface.
    pub fn any_link_local_route_of(outgoing_interface: &str) -> String {
        format!("{LINK_LOCAL_ROUTE}{outgoing_interface}/")
    }

    /// Returns the key prefix of all addresses of a link in the agent's own namespace.
    pub fn any_host_address_of(host_name: &str) -> String {
        format!("{HOST_NAME}{}/address/", or_invalid(host_name))
    }

    /// Returns the key prefix of the VRF memberships of a link in the agent's own namespace.
    pub fn any_host_vrf_of(host_name: &str) -> String {
        format!("{HOST_NAME}{}/vrf-host-name/", or_invalid(host_name))
    }

    /// Returns the key prefix of all VLANs of an interface.
    pub fn any_vlan_of(interface: &str) -> String {
        format!("{LINUX_INTERFACE}{interface}//vlan/")
    }

    /// Returns the key prefix of all VRF memberships of an interface.
    pub fn any_vrf_of(interface: &str) -> String {
        format!("{LINUX_INTERFACE}{}/vrf/", or_invalid(interface))
    }
}

impl fmt::Display for TypedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Interface { name } => f.write_str(&join(INTERFACE, name)),
            Self::Arp { interface, ip_address } => f.write_str(&join(ARP, &format!("{interface}/{ip_address}"))),
            Self::Route {
                destination,
                outgoing_interface,
            } => f.write_str(&join(ROUTE, &format!("{destination}/{outgoing_interface}"))),
            Self::RuleChain { name } => f.write_str(&join(RULE_CHAIN, name)),
            Self::IpAllocation { network, interface } => {
                f.write_str(&join(IP_ALLOCATION, &format!("network/{network}/interface/{interface}")))
            }
            Self::HostInterface { host_name } => write!(f, "{HOST_NAME}{host_name}"),
            Self::HostInterfaceAddress { host_name, address } => write!(f, "{HOST_NAME}{}/address/{address}", or_invalid(host_name)),
            Self::HostInterfaceVrf { host_name, vrf_host_name } => {
                write!(f, "{HOST_NAME}{}/vrf-host-name/{vrf_host_name}", or_invalid(host_name))
            }
            Self::InterfaceState { name, up } => write!(f, "{STATE}{name}/{}", if *up { "UP" } else { "DOWN" }),
            Self::InterfaceAddress {
                interface,
                source,
                address,
            } => {
                let source = if address.starts_with(ALLOC_PREFIX) {
                    AddressSource::AllocRef
                } else {
                    *source
                };
                write!(
                    f,
                    "{LINUX_INTERFACE}{}/address/{}/{address}",
                    or_invalid(interface),
                    source.as_str()
                )
            }
            Self::InterfaceVrf { interface, vrf } => {
                write!(f, "{LINUX_INTERFACE}{}/vrf/{}", or_invalid(interface), or_invalid(vrf))
            }
            Self::InterfaceMaster { interface, master } => write!(f, "{LINUX_INTERFACE}{interface}//master/{master}"),
            Self::InterfaceVlan { interface, vlans } => write!(f, "{LINUX_INTERFACE}{interface}//vlan/{vlans}"),
            Self::Microservice { label } => write!(f, "{MICROSERVICE}{label}"),
            Self::LinkLocalRoute {
                outgoing_interface,
                destination,
            } => {
                write!(f, "{LINK_LOCAL_ROUTE}{outgoing_interface}/dest-address/{destination}")
            }
            Self::NeighborGateway { network, interface } => write!(f, "{NEIGHBOR_GATEWAY}network/{network}/interface/{interface}"),
            Self::Namespace { reference_type, reference } => write!(f, "{NAMESPACE}{reference_type}/{reference}"),
            Self::Tap { host_name } => write!(f, "{TAP}{host_name}"),
        }
    }
}
