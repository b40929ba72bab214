//! IPv4 and IPv6 routes, in the main table or in the table of the output interface's VRF.
//!
//! Never changes or deletes a route without the agent's protocol number, unless the value adopts it.

use std::{net::IpAddr, sync::Arc};

use models::{
    address,
    key::{Key, TypedKey},
};

use super::{
    Effect, Network,
    address::{addresses_prefix, allocation_key},
    address_facts::{observed_address, observed_prefix},
    alias::Marks,
    applied_interface,
    arp::up_key,
    guard_of,
    kind::{Kind, of_two_types},
    off_link, on_link,
    sharing::{others_on_link, vrf_table},
    value::{Applied, Desired, Interface, Route, Value, interface_key},
};
use crate::scheduler::{Claim, Comparison, DeleteCause, Dependency, Difference, Refusal, View};
use netns_kernel::{AddressSpec, KernelOp, NetnsId, RouteSpec};

/// Number of the main routing table (RT_TABLE_MAIN in linux/rtnetlink.h).
pub const TABLE_MAIN: u32 = 254;
/// Scope of a route to a directly attached network (RT_SCOPE_LINK in linux/rtnetlink.h).
pub const SCOPE_LINK: u8 = 253;
/// Metric of IPv6 routes that are added without a metric (IP6_RT_PRIO_USER, linux/ipv6_route.h).
const IPV6_DEFAULT_METRIC: u32 = 1024;

/// Descriptor of `config/linux/l3/v2/route/<network>/<length>/<interface>`.
#[derive(Clone)]
pub struct RouteKind {
    pub(super) marks: Marks,
}

/// Returns the routing table that the kernel uses for routes through an interface. This is the table of the interface's current
/// VRF, even if another VRF is desired.
///
/// The kernel selects the table by VRF membership. The membership is a separate value, so a desired change of it may not have
/// been applied yet.
pub fn table_in_force(interface: &Interface, view: &View<'_, Network>) -> u32 {
    let mut memberships = view.applied_under(&TypedKey::any_vrf_of(&interface.name));
    let vrf = memberships.find_map(|(_, value)| value.membership());
    vrf.map_or(TABLE_MAIN, |membership| table_of_vrf(&membership.master, view))
}

/// Returns the routing table of the VRF with logical name `vrf`.
fn table_of_vrf(vrf: &str, view: &View<'_, Network>) -> u32 {
    let key = interface_key(vrf);
    // If the VRF device is not applied, use its desired version, because the agent may not have read back its namespace yet.
    let vrf = view.applied(&key).or(view.desired(&key)).and_then(Value::interface);
    vrf.and_then(|vrf| vrf_table(view, vrf)).unwrap_or(TABLE_MAIN)
}

/// Returns the metric that the kernel stores for a route with this destination and desired metric.
pub fn effective_metric(destination: IpAddr, metric: u32) -> u32 {
    if destination.is_ipv6() && metric == 0 {
        IPV6_DEFAULT_METRIC
    } else {
        metric
    }
}

/// Returns the keys of the routes and ARP entries that are applied, or about to be applied, on the link of an interface. Each key
/// is returned with the destination of the route or the IP address of the ARP entry.
pub(super) fn layer3_on_link<'a>(interface: &Interface, view: &View<'a, Network>) -> Vec<(&'a Key, IpAddr)> {
    let on_link = others_on_link(view, interface).into_iter().chain([interface]);
    let dependents = on_link.flat_map(|interface| view.dependents(&up_key(&interface.name)));
    let present = dependents.filter_map(|key| {
        let value = view.applied(key).or(view.coming(key))?;
        let address = match value.route() {
            Some(route) => route.destination?.address,
            None => value.arp()?.address?,
        };
        Some((key, address))
    });
    present.collect()
}

/// Returns the gateway, or `None` for `::` and `0.0.0.0`, which mean that the route has no gateway.
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

/// Returns the effect of an operation on a route.
fn operation(route: &Route, view: &View<'_, Network>, make: impl FnOnce(NetnsId, &Interface, RouteSpec) -> KernelOp) -> Effect {
    let Some(destination) = route.destination else {
        return Effect::Impossible(format!("no address was allocated for {}", route.destination_text));
    };
    on_link(view, &route.interface, |interface, netns| {
        Effect::one(make(netns, interface, spec(route, destination, interface, view)))
    })
}

impl RouteKind {
    fn set(&self, desired: &Desired<Route>, replace: bool, view: &View<'_, Network>) -> Effect {
        operation(&desired.value, view, |netns, interface, route| KernelOp::AddRoute {
            netns,
            link: interface.host_name.clone(),
            guard: guard_of(&self.marks, interface),
            route,
            replace,
            adopt: desired.terms.adopt,
        })
    }
}

/// Returns whether a gateway is an IPv6 link-local address. A link-local gateway is reachable through every link that is up,
/// because the kernel assigns a link-local address to each link.
fn is_link_local(gateway: IpAddr) -> bool {
    matches!(gateway, IpAddr::V6(gateway) if gateway.is_unicast_link_local())
}

/// Returns whether `gateway` is reachable through the address or link-scope route with this key.
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

impl Kind for RouteKind {
    of_two_types!(Route(Arc<Desired<Route>>), AppliedRoute(Applied<Route>), route(Route));

    const NAME: &'static str = "linux-route";

    fn compare(&self, applied: &Applied<Route>, desired: &Arc<Desired<Route>>) -> Comparison {
        let (from, to) = (applied.value(), &desired.value);
        let destination = |route: &Route| {
            let to = route.destination?;
            Some((address::network_of(to.address, to.prefix_len), to.prefix_len))
        };
        let metric = |route: &Route| Some(effective_metric(route.destination?.address, route.metric));
        let scope = |route: &Route| route.destination.filter(|to| to.address.is_ipv4()).map(|_| route.scope);
        let via = |route: &Route| specified(route.gateway).map_or("without a gateway".to_owned(), |gateway| format!("via {gateway}"));
        let shown = |metric: Option<u32>| metric.unwrap_or_default();
        [
            (destination(from) != destination(to)).then(|| Difference::again("the destination differs")),
            (metric(from) != metric(to)).then(|| {
                let (from, to) = (shown(metric(from)), shown(metric(to)));
                Difference::again(format!("the metric is {from} instead of {to}"))
            }),
            (specified(from.gateway) != specified(to.gateway))
                .then(|| Difference::in_place(format!("the route goes {} instead of {}", via(from), via(to)))),
            (from.gateway_reference != to.gateway_reference).then(|| Difference::in_place("the gateway refers to another IP allocation")),
            (scope(from) != scope(to)).then(|| Difference::in_place(format!("the scope is {} instead of {}", from.scope, to.scope))),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    fn as_applied(&self, former: Option<&Applied<Route>>, desired: &Arc<Desired<Route>>) -> Applied<Route> {
        Applied::of(desired, former)
    }

    fn dependencies(&self, route: &Route) -> Vec<Dependency> {
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
            let describe = format!("address or link-scope route of interface {interface} that covers {gateway}");
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

    fn derived(&self, route: &Route) -> Vec<(Key, Value)> {
        if route.scope != SCOPE_LINK {
            return Vec::new();
        }
        let key = TypedKey::LinkLocalRoute {
            outgoing_interface: route.interface.clone(),
            destination: route.destination_text.clone(),
        };
        vec![(key.to_key(), Value::Present)]
    }

    /// Claims the route, because the kernel has only one route per namespace, table, destination and metric.
    fn claims(&self, route: &Route, view: &View<'_, Network>) -> Vec<Claim> {
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

    fn create(&self, desired: &Arc<Desired<Route>>, view: &View<'_, Network>) -> Result<Effect, Refusal> {
        Ok(self.set(desired, false, view))
    }

    fn recover(&self, attempted: &Applied<Route>, view: &View<'_, Network>) -> Effect {
        self.delete(attempted, DeleteCause::Again, view)
    }

    fn update(&self, _: &Applied<Route>, desired: &Arc<Desired<Route>>, view: &View<'_, Network>) -> Result<Effect, Refusal> {
        Ok(self.set(desired, true, view))
    }

    fn delete(&self, applied: &Applied<Route>, _: DeleteCause, view: &View<'_, Network>) -> Effect {
        let applied = applied.value();
        off_link(view, &applied.interface, |_, _| {
            operation(applied, view, |netns, interface, route| KernelOp::DeleteRoute {
                netns,
                link: interface.host_name.clone(),
                guard: guard_of(&self.marks, interface),
                route,
            })
        })
    }
}
