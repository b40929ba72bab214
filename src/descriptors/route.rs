//! Routes, IPv4 and IPv6, in the main table or that of the VRF which the output interface is in.
//!
//! Owns their reachability rules and operations. Must never touch a route without the agent's protocol number. Start reading at
//! [`RouteDescriptor`].

use std::{net::IpAddr, sync::Arc};

use models::{
    address,
    key::{Key, TypedKey},
};

use super::{
    Network,
    address::{addresses_prefix, allocation_key},
    alias::Marks,
    applied_interface,
    arp::up_key,
    guard_of,
    observed::{observed_address, observed_prefix},
    sharing::{others_on_link, vrf_table},
    value::{Interface, Route, Value, interface_key},
};
use crate::scheduler::{Claim, DeleteCause, Dependency, Descriptor, Refusal, View};
use netns_kernel::{AddressSpec, Guard, KernelOp, NetnsId, RouteSpec};

/// RT_TABLE_MAIN, linux/rtnetlink.h.
pub const TABLE_MAIN: u32 = 254;
/// RT_SCOPE_LINK, linux/rtnetlink.h.
pub const SCOPE_LINK: u8 = 253;
/// Metric that the kernel gives IPv6 routes without one (IP6_RT_PRIO_USER, linux/ipv6_route.h).
const IPV6_DEFAULT_METRIC: u32 = 1024;

/// Descriptor of `config/linux/l3/v2/route/<network>/<length>/<interface>`.
#[derive(Clone)]
pub struct RouteDescriptor {
    pub(super) marks: Marks,
}

/// Routing table in which routes through an interface are: that of the VRF it is in, whichever it is to be in next.
///
/// What is asked of the interface may run ahead of its membership, which is a value of its own; the kernel goes by the membership.
pub fn table_in_force(interface: &Interface, view: &View<'_, Network>) -> u32 {
    let mut memberships = view.applied_under(&TypedKey::any_vrf_of(&interface.name));
    let vrf = memberships.find_map(|(_, value)| value.membership());
    vrf.map_or(TABLE_MAIN, |membership| table_of_vrf(&membership.master, view))
}

/// Routing table of a VRF, by its logical name.
fn table_of_vrf(vrf: &str, view: &View<'_, Network>) -> u32 {
    let key = interface_key(vrf);
    // While a namespace is being read back, the device may not have been taken over yet.
    let vrf = view.applied(&key).or(view.wanted(&key)).and_then(Value::interface);
    vrf.and_then(|vrf| vrf_table(view, vrf)).unwrap_or(TABLE_MAIN)
}

/// The metric as the kernel stores it.
pub fn effective_metric(destination: IpAddr, metric: u32) -> u32 {
    if destination.is_ipv6() && metric == 0 {
        IPV6_DEFAULT_METRIC
    } else {
        metric
    }
}

/// Returns the routes and ARP entries on the link of an interface that are applied or being created, with their destinations and addresses.
pub(super) fn layer3_on_link<'a>(interface: &Interface, view: &View<'a, Network>) -> Vec<(&'a Key, IpAddr)> {
    let on_link = others_on_link(view, interface).into_iter().chain([interface]);
    let dependents = on_link.flat_map(|interface| view.dependents(&up_key(&interface.name)));
    let present = dependents.filter_map(|key| match view.applied(key).or(view.coming(key))? {
        Value::Route(route) => Some((key, route.destination?.address)),
        Value::Arp(arp) => Some((key, arp.address?)),
        _ => None,
    });
    present.collect()
}

/// `::` and `0.0.0.0` mean no gateway.
fn specified(gateway: Option<IpAddr>) -> Option<IpAddr> {
    gateway.filter(|gateway| !gateway.is_unspecified())
}

fn spec(route: &Route, destination: AddressSpec, interface: &Interface, view: &View<'_, Network>) -> RouteSpec {
    RouteSpec {
        destination: address::network_of(destination.address, destination.prefix_len),
        prefix_len: destination.prefix_len,
        gateway: specified(route.gateway),
        table: table_in_force(interface, view),
        scope: route.scope,
        metric: route.metric,
    }
}

fn operation(
    marks: &Marks,
    value: &Value,
    view: &View<'_, Network>,
    make: impl Fn(NetnsId, String, Guard, RouteSpec) -> KernelOp,
) -> Vec<KernelOp> {
    let Some(route) = value.route() else { return Vec::new() };
    let (Some(destination), Some((interface, netns))) = (route.destination, applied_interface(view, &route.interface)) else {
        return Vec::new();
    };
    let guard = guard_of(marks, interface);
    vec![make(
        netns,
        interface.host_name.clone(),
        guard,
        spec(route, destination, interface, view),
    )]
}

/// IPv6 link-local gateways are reachable on every link that is up: the kernel gives each one a link-local address.
fn is_link_local(gateway: IpAddr) -> bool {
    matches!(gateway, IpAddr::V6(gateway) if gateway.is_unicast_link_local())
}

/// Whether the address or link-local destination in a key makes `gateway` reachable.
fn reaches(key: &Key, gateway: IpAddr) -> bool {
    let covers = |text: &str| {
        let network = address::parse_ip_or_cidr(text);
        network.is_ok_and(|network| address::contains(network.address, network.prefix_len, gateway))
    };
    if let Some((_, observed)) = observed_address(key) {
        return covers(observed);
    }
    match TypedKey::parse(key.as_str()) {
        Ok(TypedKey::InterfaceAddress { address, .. }) => covers(&address),
        Ok(TypedKey::LinkLocalRoute { destination, .. }) => covers(&destination),
        _ => false,
    }
}

impl Descriptor<Network> for RouteDescriptor {
    fn name(&self) -> &'static str {
        "linux-route"
    }

    fn equivalent(&self, _: &Key, applied: &Value, wanted: &Value) -> bool {
        let (Some(applied), Some(wanted)) = (applied.route(), wanted.route()) else {
            return false;
        };
        let form = |route: &Route| {
            let destination = route
                .destination
                .map(|to| (address::network_of(to.address, to.prefix_len), to.prefix_len));
            let metric = destination.map(|(to, _)| effective_metric(to, route.metric));
            let scope = destination.filter(|(to, _)| to.is_ipv4()).map(|_| route.scope);
            (
                destination,
                metric,
                scope,
                specified(route.gateway),
                route.gateway_reference.clone(),
            )
        };
        form(applied) == form(wanted)
    }

    fn difference(&self, found: &Value, wanted: &Value) -> String {
        let (Some(found), Some(wanted)) = (found.route(), wanted.route()) else {
            return "it was changed".to_owned();
        };
        let via = |route: &Route| specified(route.gateway).map_or("without a gateway".to_owned(), |gateway| format!("via {gateway}"));
        match via(found) == via(wanted) {
            true => format!("its scope is {} instead of {}", found.scope, wanted.scope),
            false => format!("it goes {} instead of {}", via(found), via(wanted)),
        }
    }

    fn settled(&self, applied: &Value, wanted: &Value) -> Value {
        wanted.with_adopted(applied.is_adopted())
    }

    fn needs_recreate(&self, _: &Key, applied: &Value, wanted: &Value) -> bool {
        let form = |value: &Value| value.route().and_then(|route| Some((route.destination?, route.metric)));
        form(applied) != form(wanted)
    }

    fn dependencies(&self, _: &Key, value: &Value) -> Vec<Dependency> {
        let Some(route) = value.route() else { return Vec::new() };
        let interface = &route.interface;
        let mut dependencies = vec![Dependency::key("outgoing-interface-is-up", up_key(interface)).outlived()];
        if route.destination.is_none() {
            let label = format!("dst_network-{}", route.destination_text);
            dependencies.push(Dependency::key(label, allocation_key(&route.destination_text, interface)));
        }
        if let Some(reference) = &route.gateway_reference {
            dependencies.push(Dependency::key(
                format!("gw_addr-{reference}"),
                allocation_key(reference, interface),
            ));
        }
        let gateway = specified(route.gateway);
        if gateway.is_some_and(is_link_local) {
            dependencies.push(Dependency::key("gw-reachable", up_key(interface)).outlived());
            return dependencies;
        }
        if let Some(gateway) = gateway {
            let prefixes = vec![addresses_prefix(interface), Key::from(TypedKey::any_link_local_route_of(interface))];
            let describe = format!("address or link-local route of interface {interface} that covers {gateway}");
            let predicate = Arc::new(move |key: &Key| reaches(key, gateway));
            dependencies.push(Dependency::any_of("gw-reachable", prefixes, describe, Some(predicate)).outlived());
        }
        let describe = format!("IP address of interface {interface}");
        dependencies.push(
            Dependency::any_of(
                "outgoing-interface-has-ip-address",
                vec![addresses_prefix(interface), observed_prefix(interface)],
                describe,
                None,
            )
            .outlived(),
        );
        dependencies
    }

    fn derived(&self, _: &Key, value: &Value) -> Vec<(Key, Value)> {
        match value.route() {
            Some(route) if route.scope == SCOPE_LINK => {
                let key = TypedKey::LinkLocalRoute {
                    outgoing_interface: route.interface.clone(),
                    destination: route.destination_text.clone(),
                };
                vec![(key.to_key(), Value::Present)]
            }
            _ => Vec::new(),
        }
    }

    /// The kernel knows one route per destination, metric and table of a namespace.
    fn claims(&self, _: &Key, value: &Value, view: &View<'_, Network>) -> Vec<Claim> {
        let Some(route) = value.route() else { return Vec::new() };
        let (Some(to), Some((interface, netns))) = (route.destination, applied_interface(view, &route.interface)) else {
            return Vec::new();
        };
        let network = address::network_of(to.address, to.prefix_len);
        let (metric, table) = (effective_metric(network, route.metric), table_in_force(interface, view));
        let name = format!(
            "route to {network}/{} with metric {metric} in table {table} of {netns}",
            to.prefix_len
        );
        vec![Claim {
            name,
            reason: "RouteConflict",
        }]
    }

    fn create(&self, _: &Key, value: &Value, view: &View<'_, Network>) -> Result<Vec<KernelOp>, Refusal> {
        Ok(operation(&self.marks, value, view, |netns, link, guard, route| {
            KernelOp::AddRoute {
                netns,
                link,
                guard,
                route,
                replace: false,
                adopt: value.route().is_some_and(|route| route.adopt),
            }
        }))
    }

    fn recover(&self, key: &Key, value: &Value, view: &View<'_, Network>) -> Vec<KernelOp> {
        self.delete(key, value, DeleteCause::Again, view)
    }

    fn update(&self, _: &Key, _: &Value, wanted: &Value, view: &View<'_, Network>) -> Result<Vec<KernelOp>, Refusal> {
        Ok(operation(&self.marks, wanted, view, |netns, link, guard, route| {
            KernelOp::AddRoute {
                netns,
                link,
                guard,
                route,
                replace: true,
                adopt: wanted.route().is_some_and(|route| route.adopt),
            }
        }))
    }

    fn delete(&self, _: &Key, applied: &Value, _: DeleteCause, view: &View<'_, Network>) -> Vec<KernelOp> {
        operation(&self.marks, applied, view, |netns, link, guard, route| KernelOp::DeleteRoute {
            netns,
            link,
            guard,
            route,
        })
    }
}
