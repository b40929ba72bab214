//! Adds and replaces routes.
//!
//! An existing route is read before it is replaced. A foreign route is replaced only if the desired value allows it. A route that
//! the kernel created is never replaced. The dump of a table is reused for 50 ms within a batch, so a batch with many routes
//! reads the table only a few times.

use std::{
    collections::HashMap,
    net::IpAddr,
    time::{Duration, Instant},
};

use super::{
    failure,
    netlink::Refusal,
    operation::{Failure, NetnsId, PROTOCOL, Reply, RouteSpec, RouteState},
    route,
    worker::{On, Worker, is_eexist},
};

/// Time for which the dump of a table is reused within a batch.
const BELIEVED: Duration = Duration::from_millis(50);

/// Key of a route within a table: destination, prefix length and metric. The kernel treats two routes with the same key as equal.
type Identity = (IpAddr, u8, u32);

/// Existing routes of all protocols, for one address family in one table.
pub(super) struct KnownRoutes {
    netns: NetnsId,
    table: u32,
    ipv4: bool,
    read: Instant,
    routes: HashMap<Identity, Vec<RouteState>>,
}

impl KnownRoutes {
    fn is_about(&self, netns: NetnsId, spec: &RouteSpec) -> bool {
        let same = (self.netns, self.table, self.ipv4) == (netns, spec.table, spec.destination.is_ipv4());
        same && self.read.elapsed() < BELIEVED
    }
}

fn identity(spec: &RouteSpec) -> Identity {
    (spec.destination, spec.prefix_len, route::effective_metric(spec))
}

impl Worker {
    /// Adds a route. Reads existing routes only if the kernel reports that an equal route exists.
    pub(super) fn add_route(&mut self, on: On<'_>, spec: &RouteSpec, replace: bool, adopt: bool) -> Result<Reply, Failure> {
        let (netns, link, _) = on;
        let action = || format!("add route {} on link \"{link}\"", route::show(spec));
        if let Some(reason) = route::unsupported(spec) {
            return Err(failure::other(format!("cannot {}: {reason}", action())));
        }
        let added = self.on_enabled_link(on, spec.destination, action, |index| route::add(index, spec, false));
        if !is_eexist(&added) {
            return added.map(|()| Reply::Done);
        }
        let there = self.equal_routes(netns, spec)?;
        if let Some(of_kernel) = there.iter().find(|state| state.is_of_kernel()) {
            return Err(self.route_of_kernel(on, spec, of_kernel, &action()));
        }
        let foreign = there.iter().find(|state| state.protocol != PROTOCOL);
        match foreign {
            Some(foreign) if !adopt => Err(failure::foreign(format!(
                "cannot {} in {}: a route to the same destination with the same metric exists already ({}); delete it, choose another \
                 metric, or set `adopt` to take it over",
                action(),
                self.place(netns),
                route::describe(foreign)
            ))),
            None if !replace => added.map(|()| Reply::Done),
            _ => {
                let reply = if foreign.is_some() { Reply::Adopted } else { Reply::Done };
                self.on_link(on, action, |index| route::add(index, spec, true)).map(|()| reply)
            }
        }
    }

    /// Returns the error for a conflict with a route that the kernel created.
    ///
    /// The agent neither replaces nor adopts a kernel route, because the route belongs to an address.
    fn route_of_kernel(&mut self, on: On<'_>, spec: &RouteSpec, found: &RouteState, action: &str) -> Failure {
        let (netns, link, _) = on;
        let here = self.find(netns, link).ok().flatten().is_some_and(|here| here.index == found.link);
        let place = self.place(netns);
        let message = match here && spec.gateway == found.route.gateway {
            true => "the kernel itself added this route for an address of that link, and deletes the route with the address; delete the \
                     value, which is not needed, or set another metric to add a second route"
                .to_owned(),
            false => format!(
                "the kernel has already added a route to the same destination with the same metric, for an address of \
                 {}; choose another metric, or change that address",
                if here { "that link" } else { "another link" }
            ),
        };
        failure::foreign(format!("cannot {action} in {place}: {message}"))
    }

    /// Returns the existing routes that the kernel treats as equal to this one.
    fn equal_routes(&mut self, netns: NetnsId, spec: &RouteSpec) -> Result<Vec<RouteState>, Failure> {
        let known = self.known_routes.as_ref().filter(|known| known.is_about(netns, spec));
        if let Some(equal) = known.and_then(|known| known.routes.get(&identity(spec))) {
            return Ok(equal.clone());
        }
        let read = self.read_table(netns, spec);
        let place = self.place(netns);
        let known = read.map_err(|refusal| failure::refused(&format!("read the routes to {}", route::show(spec)), &place, &refusal))?;
        let equal = known.routes.get(&identity(spec)).cloned().unwrap_or_default();
        self.known_routes = Some(known);
        Ok(equal)
    }

    fn read_table(&mut self, netns: NetnsId, spec: &RouteSpec) -> Result<KnownRoutes, Refusal> {
        let (ipv4, read) = (spec.destination.is_ipv4(), Instant::now());
        let mut routes: HashMap<Identity, Vec<RouteState>> = HashMap::new();
        if let Ok(pinned) = self.namespaces.get_mut(netns) {
            for state in route::dump_table(&mut pinned.route, spec.table, ipv4)? {
                routes.entry(identity(&state.route)).or_default().push(state);
            }
        }
        Ok(KnownRoutes {
            netns,
            table: spec.table,
            ipv4,
            read,
            routes,
        })
    }
}
