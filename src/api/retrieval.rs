//! Reads the managed values back from the kernel.
//!
//! Retrieval reads the open namespaces through [`KernelReader`], and converts the objects that belong to applied values to
//! protobuf messages. Foreign links are ignored.

use std::{collections::BTreeMap, future::Future, pin::Pin};

use models::{
    address::MacAddress,
    key::Key,
    proto::ligato::linux::{
        interfaces::Interface as InterfaceMessage,
        l3::{ArpEntry, Route as RouteMessage},
    },
};

use super::{Api, threads::run_in_background};
use crate::descriptors::{
    Network,
    alias::Marks,
    message::{observed_interface, observed_route},
    observed::observe,
    value::{Applied, AppliedInterface, Arp, Interface, NamespaceName, Route, Value, interface_key},
};
use crate::scheduler::history::extract::{Extract, Scope};
use netns_kernel::{AddressSpec, LinkDetails, NeighbourState, NetnsId, RouteState, Snapshot};

/// Contents of a network namespace, as read from the kernel.
#[derive(Clone, Debug, Default)]
pub struct Contents {
    /// Objects in the namespace, in the form that the agent uses internally.
    pub snapshot: Snapshot,
    /// Links, with additional details for users, such as counters.
    pub links: Vec<LinkDetails>,
}

/// Contents of each namespace, or the reason why it cannot be read.
pub type Readings = Vec<(NetnsId, Result<Contents, String>)>;

/// Reader of open namespaces.
pub trait KernelReader: Send + Sync {
    /// Reads the contents of these namespaces.
    fn read(&self, namespaces: Vec<NetnsId>) -> Pin<Box<dyn Future<Output = Readings> + Send + '_>>;
}

/// Interface managed by the agent, as read from the kernel.
pub struct RetrievedInterface {
    /// Key of the value.
    pub key: Key,
    /// Protobuf message with the settings read from the kernel.
    pub message: InterfaceMessage,
    /// Link in the kernel.
    pub link: LinkDetails,
    /// Logical name of the VRF device that the link belongs to. Empty if there is none.
    pub vrf: String,
}

/// ARP entry managed by the agent, as read from the kernel.
pub struct RetrievedArp {
    /// Key of the value.
    pub key: Key,
    /// Protobuf message with the settings read from the kernel.
    pub message: ArpEntry,
    /// Neighbour entry in the kernel.
    pub state: NeighbourState,
}

/// Route managed by the agent, as read from the kernel.
pub struct RetrievedRoute {
    /// Key of the value.
    pub key: Key,
    /// Protobuf message with the settings read from the kernel.
    pub message: RouteMessage,
    /// Route in the kernel.
    pub state: RouteState,
}

/// Reason why the managed values cannot be read from the kernel.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RetrievalError {
    /// The engine has stopped.
    #[error("the agent is stopping; try again when it is running")]
    Stopping,
    /// A namespace cannot be read. The text contains its name and the kernel's error.
    #[error("{0}")]
    Unreadable(String),
}

/// All managed values that exist in the kernel.
pub struct Retrieval {
    /// Interfaces, sorted by key.
    pub interfaces: Vec<RetrievedInterface>,
    /// ARP entries, sorted by key.
    pub arps: Vec<RetrievedArp>,
    /// Routes, sorted by key.
    pub routes: Vec<RetrievedRoute>,
}

impl Retrieval {
    /// Reads all namespaces that the agent has opened.
    ///
    /// # Errors
    /// Fails if the agent is stopping or a namespace cannot be read.
    pub async fn of(api: &Api) -> Result<Self, RetrievalError> {
        let extract = api.extract(Scope::Values).await.ok_or(RetrievalError::Stopping)?;
        let mut namespaces: Vec<NetnsId> = extract
            .values()
            .iter()
            .filter_map(|value| Some(value.applied.as_ref()?.open_namespace()?.netns))
            .collect();
        namespaces.sort_unstable();
        namespaces.dedup();
        let mut contents = BTreeMap::new();
        for (netns, read) in api.kernel.read(namespaces).await {
            contents.insert(netns, read.map_err(RetrievalError::Unreadable)?);
        }
        let marks = Marks::new(&api.label);
        let looked = run_in_background(move || {
            let look = Look {
                marks: &marks,
                extract: &extract,
                contents: &contents,
            };
            look.all()
        });
        looked.await.map_err(|error| RetrievalError::Unreadable(error.to_string()))
    }
}

/// Copy of the scheduler's state, and the contents of the namespaces as read from the kernel.
struct Look<'a> {
    marks: &'a Marks,
    extract: &'a Extract<Network>,
    contents: &'a BTreeMap<NetnsId, Contents>,
}

impl<'a> Look<'a> {
    fn all(&self) -> Retrieval {
        let mut all = Retrieval {
            interfaces: Vec::new(),
            arps: Vec::new(),
            routes: Vec::new(),
        };
        for sighting in self.extract.values() {
            let key = &sighting.key;
            match sighting.applied.as_ref() {
                Some(Value::AppliedInterface(applied)) => all.interfaces.extend(self.interface(key, applied)),
                Some(Value::AppliedArp(applied)) => all.arps.extend(self.arp(key, applied.value())),
                Some(Value::AppliedRoute(applied)) => all.routes.extend(self.route(key, applied)),
                _ => {}
            }
        }
        all
    }

    fn contents_of(&self, name: &NamespaceName) -> Option<&'a Contents> {
        let open = self.extract.value(&name.key())?.applied.as_ref()?.open_namespace()?;
        self.contents.get(&open.netns)
    }

    /// Returns the link of a managed interface, and the contents of the namespace that the link is in.
    fn link(&self, interface: &Interface) -> Option<(&'a Contents, &'a LinkDetails)> {
        let contents = self.contents_of(&interface.namespace)?;
        let link = contents.links.iter().find(|link| link.state.name == interface.host_name)?;
        Some((contents, link))
    }

    fn link_of(&self, logical_name: &str) -> Option<(&'a Contents, &'a LinkDetails)> {
        let interface = self.extract.value(&interface_key(logical_name))?.applied.as_ref()?.interface()?;
        self.link(interface)
    }

    fn interface(&self, key: &Key, applied: &AppliedInterface) -> Option<RetrievedInterface> {
        let (contents, link) = self.link(&applied.interface)?;
        let vrf = self.vrf_of(&applied.interface, link);
        let observed = observe(&link.state, self.marks);
        let message = observed_interface(applied, &observed, addresses(contents, link.state.index), &vrf);
        Some(RetrievedInterface {
            key: key.clone(),
            message,
            link: link.clone(),
            vrf,
        })
    }

    /// Returns the logical name of the VRF device that a link belongs to, or an empty string.
    fn vrf_of(&self, interface: &Interface, link: &LinkDetails) -> String {
        let Some(master) = link.state.master else { return String::new() };
        let interfaces = self.extract.values().iter().filter_map(|value| value.applied.as_ref()?.interface());
        let mut devices = interfaces.filter(|other| other.link.routing_table().is_some() && other.namespace == interface.namespace);
        let device = devices.find(|device| self.link(device).is_some_and(|(_, link)| link.state.index == master));
        device.map(|device| device.name.clone()).unwrap_or_default()
    }

    fn arp(&self, key: &Key, arp: &Arp) -> Option<RetrievedArp> {
        let (contents, link) = self.link_of(&arp.interface)?;
        let neighbours = contents.snapshot.neighbours.iter();
        let state = neighbours
            .filter(|state| state.link == link.state.index)
            .find(|state| Some(state.address) == arp.address)?;
        let message = ArpEntry {
            interface: arp.interface.clone(),
            ip_address: state.address.to_string(),
            hw_address: MacAddress(state.mac).to_string(),
            ..ArpEntry::default()
        };
        Some(RetrievedArp {
            key: key.clone(),
            message,
            state: state.clone(),
        })
    }

    fn route(&self, key: &Key, applied: &Applied<Route>) -> Option<RetrievedRoute> {
        let route = applied.value();
        let (contents, link) = self.link_of(&route.interface)?;
        let destination = route.destination?;
        let is_it = |state: &&RouteState| {
            let spec = &state.route;
            (state.link, spec.destination, spec.prefix_len) == (link.state.index, destination.address, destination.prefix_len)
                && spec.gateway == route.gateway
                && (route.metric == 0 || spec.metric == route.metric)
        };
        let state = contents.snapshot.routes.iter().find(is_it)?;
        Some(RetrievedRoute {
            key: key.clone(),
            message: observed_route(applied, state),
            state: state.clone(),
        })
    }
}

/// Returns the addresses of a link, except IPv6 link-local addresses, which the kernel adds by itself (RFC 4862 §5.3).
fn addresses(contents: &Contents, index: u32) -> Vec<String> {
    let own = contents.snapshot.addresses.iter().filter(|state| state.link == index);
    let requested = own.filter(|state| !is_link_local(&state.address));
    requested
        .map(|state| format!("{}/{}", state.address.address, state.address.prefix_len))
        .collect()
}

fn is_link_local(address: &AddressSpec) -> bool {
    matches!(address.address, std::net::IpAddr::V6(address) if address.is_unicast_link_local())
}
