//! What is in the kernel, as values: the live view of what the agent manages.
//!
//! Owns the way from what a namespace contains to the messages of the managed values in it. Only what the agent has applied is looked
//! for; other people's links are their business. Must never read a namespace itself: [`KernelReader`] does. Start reading at
//! [`Retrieval::of`].

use std::{collections::BTreeMap, future::Future, pin::Pin};

use models::{
    address::MacAddress,
    key::Key,
    proto::ligato::linux::{
        interfaces::Interface as InterfaceMessage,
        l3::{ArpEntry, Route as RouteMessage},
    },
};

use super::{Api, threads::give_way};
use crate::descriptors::{
    Network,
    alias::Marks,
    message::{observed_interface, observed_route},
    observed::observe,
    value::{Applied, AppliedInterface, Arp, Interface, NamespaceName, Route, Value, interface_key},
};
use crate::scheduler::history::extract::{Extract, Scope};
use netns_kernel::{AddressSpec, LinkDetails, NeighbourState, NetnsId, RouteState, Snapshot};

/// Everything in a namespace.
#[derive(Clone, Debug, Default)]
pub struct Contents {
    /// What matters to the agent.
    pub snapshot: Snapshot,
    /// Its links, with what matters to people only.
    pub links: Vec<LinkDetails>,
}

/// What was read of each namespace, or why it could not be.
pub type Readings = Vec<(NetnsId, Result<Contents, String>)>;

/// Reads namespaces that are open.
pub trait KernelReader: Send + Sync {
    /// Reads them.
    fn read(&self, namespaces: Vec<NetnsId>) -> Pin<Box<dyn Future<Output = Readings> + Send + '_>>;
}

/// A managed interface as it is in the kernel.
pub struct RetrievedInterface {
    /// Key of its value.
    pub key: Key,
    /// Its message.
    pub message: InterfaceMessage,
    /// Its link.
    pub link: LinkDetails,
    /// Logical name of its VRF device; empty if it has none.
    pub vrf: String,
}

/// A managed neighbour as it is in the kernel.
pub struct RetrievedArp {
    /// Key of its value.
    pub key: Key,
    /// Its message.
    pub message: ArpEntry,
    /// The entry.
    pub state: NeighbourState,
}

/// A managed route as it is in the kernel.
pub struct RetrievedRoute {
    /// Key of its value.
    pub key: Key,
    /// Its message.
    pub message: RouteMessage,
    /// The route.
    pub state: RouteState,
}

/// Why nothing was retrieved.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RetrievalError {
    /// The engine has ended.
    #[error("the agent is stopping; ask again when it runs")]
    Stopping,
    /// A namespace cannot be read; the text names it, in the kernel's own words.
    #[error("{0}")]
    Unreadable(String),
}

/// All managed values that are in the kernel.
pub struct Retrieval {
    /// By key.
    pub interfaces: Vec<RetrievedInterface>,
    /// By key.
    pub arps: Vec<RetrievedArp>,
    /// By key.
    pub routes: Vec<RetrievedRoute>,
}

impl Retrieval {
    /// Reads all namespaces that the agent has opened.
    ///
    /// # Errors
    /// The agent is stopping, or a namespace cannot be read.
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
        let looked = give_way(move || {
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

/// What is known, and what was read.
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

    /// The link of a managed interface and what is around it.
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

    /// Logical name of the VRF device that a link is in.
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

/// All addresses of a link but those that the kernel makes of the MAC address by itself (fe80::/64, RFC 4862 §5.3).
fn addresses(contents: &Contents, index: u32) -> Vec<String> {
    let own = contents.snapshot.addresses.iter().filter(|state| state.link == index);
    let asked = own.filter(|state| !is_link_local(&state.address));
    asked
        .map(|state| format!("{}/{}", state.address.address, state.address.prefix_len))
        .collect()
}

fn is_link_local(address: &AddressSpec) -> bool {
    matches!(address.address, std::net::IpAddr::V6(address) if address.is_unicast_link_local())
}
