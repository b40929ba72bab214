//! Small simulated kernel: namespaces, links, addresses, routes and neighbours in memory, changed by [`KernelOp`]s.
//!
//! Simulates side effects of Linux. For example, deleting one end of a veth deletes the other end, a link that is taken down
//! loses its routes, and the links of an ended namespace are deleted with a delay. The simulated kernel does not depend on the
//! agent's values and descriptors.

mod attributes;
mod bridging;
mod layer3;
mod links;
mod namespaces;

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::configuration::is_nic;
use netns_kernel::{
    AddressRoute, AddressSpec, Failure, FailureKind, Guard, KernelOp, LinkState, NamespaceRef, NetnsId, PROTOCOL, Reply, Snapshot,
    provisional_group,
};

/// The agent's own namespace.
pub const OWN: NetnsId = NetnsId(1);

/// The error number EEXIST (errno(3)).
pub const EEXIST: i32 = 17;
/// The error number ENODEV (errno(3)).
pub const ENODEV: i32 = 19;
/// The error number EINVAL (errno(3)).
pub const EINVAL: i32 = 22;
/// The error number ENETDOWN (errno(3)).
pub const ENETDOWN: i32 = 100;
/// The error number ENETUNREACH (errno(3)).
pub const ENETUNREACH: i32 = 101;

/// A simulated process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Process {
    /// Network namespace of the process.
    pub netns: NetnsId,
    /// Start time, which distinguishes processes with the same PID.
    pub start_time: u64,
}

/// Address that is undergoing duplicate address detection: namespace, link index, address.
pub type Asked = (NetnsId, u32, AddressSpec);

/// Subscription to the changes in a namespace.
#[derive(Clone, Copy, Debug)]
struct Subscription {
    armed: bool,
    pending: bool,
}

/// A simulated kernel. Everything in it survives the end of the agent, except for namespaces that only the agent keeps open.
#[derive(Clone, Debug)]
pub struct Kernel {
    /// Contents of each namespace, including foreign routes and neighbours.
    pub spaces: BTreeMap<NetnsId, Snapshot>,
    /// Named namespaces (`ip netns`).
    pub names: BTreeMap<String, NetnsId>,
    /// Names of dangling symbolic links in the directory of named namespaces.
    pub dangling: BTreeSet<String>,
    /// Processes by PID.
    pub processes: BTreeMap<i32, Process>,
    /// Namespace references that the agent has bound to a process, each with the start time of the process. The bindings survive
    /// a restart of the agent.
    pub bindings: BTreeMap<NamespaceRef, u64>,
    /// Namespaces whose changes the monitor is about to report.
    pub reported: Vec<NetnsId>,
    /// Operations that change the network, including those that failed.
    pub log: Vec<KernelOp>,
    /// Number of times that the agent has read an open namespace.
    pub readings: usize,
    /// Number of changing operations that the agent can still perform before it is killed, or `None` if there is no limit.
    pub fuel: Option<usize>,
    /// Failures to inject. Each entry contains the number of changing operations that precede the failing operation, and the
    /// errno.
    pub failing: Vec<(usize, i32)>,
    /// Namespaces that the agent must not change, because they belong to foreign processes with a reused PID.
    pub foreign_processes: BTreeSet<NetnsId>,
    /// Descriptions of violated rules.
    pub violations: Vec<String>,
    /// Counter that increases with every change that may affect namespace references.
    pub references: u64,
    /// True if an operation also changed an object other than its target. Examples are another address of the same subnet,
    /// another reference with the same name, and a link name that later operations of the batch still use.
    pub side_effects: bool,
    /// True to simulate a bug in the agent that makes it ignore `bindings`.
    pub forgetful: bool,
    /// Maximum number of watched namespaces.
    pub watched_max: usize,
    /// True while the agent has turned off change notifications.
    pub deaf: bool,
    /// Addresses that are undergoing duplicate address detection.
    pub asking: Vec<Asked>,
    /// Routes that the kernel added for addresses and that have since been deleted.
    missing: HashSet<(NetnsId, AddressRoute)>,
    foreign: BTreeSet<(NetnsId, u32)>,
    peers: BTreeMap<(NetnsId, u32), (NetnsId, u32)>,
    /// Parent of each link that has one. Both links are identified by namespace and index.
    parents: BTreeMap<(NetnsId, u32), (NetnsId, u32)>,
    pins: BTreeMap<NetnsId, usize>,
    subscriptions: BTreeMap<NetnsId, Subscription>,
    /// Ended namespaces whose links are about to be deleted.
    dying: Vec<NetnsId>,
    next_netns: u64,
    next_index: u32,
    next_start_time: u64,
}

/// Error for an operation that was not performed, because the agent was killed first.
#[derive(Debug)]
pub struct Killed;

fn failure(kind: FailureKind, errno: i32, message: String) -> Failure {
    let errno = Some(errno);
    Failure {
        kind,
        errno,
        kernel_text: String::new(),
        message,
    }
}

fn refused(errno: i32, message: impl Into<String>) -> Failure {
    let kind = if errno == EEXIST { FailureKind::Exists } else { FailureKind::Other };
    failure(kind, errno, message.into())
}

/// Returns the error for an operation that a foreign object blocks.
fn foreign(message: String) -> Failure {
    failure(FailureKind::Foreign, EEXIST, message)
}

fn guarded(guard: &Guard, link: &LinkState) -> Result<(), Failure> {
    match guard {
        Guard::Owned { alias_prefix } | Guard::OwnCreation { alias_prefix }
            if !link.alias.starts_with(alias_prefix) && link.group != provisional_group(alias_prefix) =>
        {
            Err(foreign(format!("link {} is not the agent's", link.name)))
        }
        Guard::Known { index } if link.index != *index => Err(foreign(format!("link {} is another one", link.name))),
        Guard::NotOthers {
            alias_prefix,
            agents_prefix,
        } if !link.alias.starts_with(alias_prefix) && link.alias.starts_with(agents_prefix) => {
            Err(foreign(format!("link {} is another agent's", link.name)))
        }
        _ => Ok(()),
    }
}

/// Returns true if an operation changes the network. `Kernel::creates` covers the creation of namespaces.
fn changes_something(op: &KernelOp) -> bool {
    match op {
        KernelOp::OpenNamespace { .. }
        | KernelOp::VerifyNamespace { .. }
        | KernelOp::DumpNamespace { .. }
        | KernelOp::ReadLinks { .. }
        | KernelOp::ConfirmAddress { .. }
        | KernelOp::ForgetProcess { .. } => false,
        KernelOp::CloseNamespace { remove_if_marked, .. } => remove_if_marked.is_some(),
        _ => true,
    }
}

impl Kernel {
    /// Creates a kernel with only the agent's own namespace.
    pub fn new() -> Self {
        let mut kernel = Kernel {
            spaces: BTreeMap::new(),
            names: BTreeMap::new(),
            dangling: BTreeSet::new(),
            processes: BTreeMap::new(),
            bindings: BTreeMap::new(),
            reported: Vec::new(),
            log: Vec::new(),
            fuel: None,
            failing: Vec::new(),
            foreign_processes: BTreeSet::new(),
            violations: Vec::new(),
            readings: 0,
            references: 1,
            side_effects: false,
            forgetful: false,
            watched_max: usize::MAX,
            deaf: false,
            asking: Vec::new(),
            missing: HashSet::new(),
            foreign: BTreeSet::new(),
            peers: BTreeMap::new(),
            parents: BTreeMap::new(),
            pins: BTreeMap::new(),
            subscriptions: BTreeMap::new(),
            dying: Vec::new(),
            next_netns: OWN.0,
            next_index: 1,
            next_start_time: 1,
        };
        kernel.new_space("");
        kernel
    }

    /// Performs one operation.
    ///
    /// # Errors
    /// Fails if the agent is killed before the operation.
    pub fn op(&mut self, op: &KernelOp) -> Result<Result<Reply, Failure>, Killed> {
        if changes_something(op) || self.creates(op) {
            match &mut self.fuel {
                Some(0) => return Err(Killed),
                Some(fuel) => *fuel -= 1,
                None => {}
            }
            self.log.push(op.clone());
            for failing in &mut self.failing {
                failing.0 = failing.0.wrapping_sub(1);
            }
            if let Some(position) = self.failing.iter().position(|(left, _)| *left == usize::MAX) {
                let (_, errno) = self.failing.swap_remove(position);
                return Ok(Err(refused(errno, format!("error {errno} injected by the simulation"))));
            }
            self.check(op);
        }
        Ok(self.carry_out(op))
    }

    fn creates(&self, op: &KernelOp) -> bool {
        matches!(op, KernelOp::OpenNamespace { reference: NamespaceRef::Named(name), mark: Some(_) } if !self.is_taken(name))
    }

    /// Records a violation if the operation would affect a foreign link, or the namespace of a foreign process.
    fn check(&mut self, op: &KernelOp) {
        if let Some(netns) = op.works_in().into_iter().find(|netns| self.foreign_processes.contains(netns)) {
            self.violations
                .push(format!("{op:?} is in {netns}, which belongs to a foreign process"));
        }
        let target = match op {
            KernelOp::SetLink { netns, name, guard, .. } | KernelOp::DeleteLink { netns, name, guard } => {
                Some((*netns, name.as_str(), guard))
            }
            other => other.on_link(),
        };
        if let Some((netns, name, guard)) = target
            && let Some(link) = self.link(netns, name)
            && self.foreign.contains(&(netns, link.index))
            && !(op.on_link().is_some() && is_nic(name))
            && guarded(guard, link).is_ok()
        {
            self.violations.push(format!("{op:?} is for a foreign link"));
        }
    }

    fn carry_out(&mut self, op: &KernelOp) -> Result<Reply, Failure> {
        if let Some(netns) = op.works_in().into_iter().find(|netns| !self.pinned(*netns)) {
            return match op {
                KernelOp::DeleteLink { .. }
                | KernelOp::DeleteAddress { .. }
                | KernelOp::DeleteNeighbour { .. }
                | KernelOp::DeleteRoute { .. } => Ok(Reply::Done),
                KernelOp::SetLink { changes, .. } if changes.only_releases() => Ok(Reply::Done),
                _ => Err(refused(EINVAL, format!("{netns} is not open"))),
            };
        }
        match op {
            KernelOp::OpenNamespace { reference, mark } => return self.open(reference, mark.as_deref()),
            KernelOp::VerifyNamespace { reference, netns } => {
                return Ok(match self.find(reference) {
                    Ok((found, _)) if found == *netns => Reply::Same,
                    Ok((found, _)) => Reply::Changed(format!("{reference:?} leads to {found}")),
                    Err(failure) => Reply::Changed(failure.message),
                });
            }
            KernelOp::DumpNamespace { netns } => {
                self.readings += 1;
                return Ok(Reply::Contents(Box::new(self.read(*netns))));
            }
            // Only the agent's APIs, which are not simulated, use this operation.
            KernelOp::ReadLinks { .. } => return Ok(Reply::Links(Vec::new())),
            KernelOp::CloseNamespace {
                reference,
                netns,
                remove_if_marked,
                forget,
            } => self.close(reference, *netns, remove_if_marked.as_deref(), *forget),
            KernelOp::ForgetProcess { reference } => drop(self.bindings.remove(reference)),
            KernelOp::CreateLink(create) => self.create_link(create)?,
            // The simulation has no sysctls.
            KernelOp::EnsureSysctl { netns, .. } => drop(self.require(*netns, "lo")?),
            KernelOp::SetLink {
                netns,
                name,
                guard,
                changes,
            } => self.set_link(*netns, name, guard, changes)?,
            KernelOp::DeleteLink { netns, name, guard } => self.delete_link(*netns, name, guard)?,
            other => return self.perform_layer3(other),
        }
        Ok(Reply::Done)
    }

    fn perform_layer3(&mut self, op: &KernelOp) -> Result<Reply, Failure> {
        if let Some((netns, link, guard)) = op.on_link()
            && let Some(found) = self.link(netns, link)
        {
            guarded(guard, found)?;
        }
        match op {
            KernelOp::AddAddress {
                netns,
                link,
                address,
                detection,
                shared,
                ..
            } => {
                self.add_agents_address(*netns, link, *address, *detection, *shared)?;
            }
            KernelOp::MakePrimary {
                netns,
                link,
                address,
                others,
                ..
            } => self.make_primary(*netns, link, *address, others)?,
            KernelOp::ConfirmAddress { netns, link, address, .. } => self.confirm_address(*netns, link, *address)?,
            KernelOp::DeleteAddress {
                netns,
                link,
                address,
                shared,
                ..
            } => {
                if !*shared || self.address_protocol(*netns, link, *address) == Some(PROTOCOL) {
                    self.delete_address(*netns, link, *address);
                }
            }
            KernelOp::SetNeighbour {
                netns,
                link,
                address,
                mac,
                adopt,
                ..
            } => {
                let reply = self.adopt_neighbour(*netns, link, *address, *adopt)?;
                self.set_neighbour(*netns, link, *address, *mac, PROTOCOL)?;
                return Ok(reply);
            }
            KernelOp::DeleteNeighbour { netns, link, address, .. } => self.delete_neighbour(*netns, link, *address),
            KernelOp::AddRoute {
                netns,
                link,
                route,
                replace,
                adopt,
                ..
            } => {
                let reply = self.adopt_route(*netns, route, *adopt)?;
                self.add_route(*netns, link, route, *replace || reply == Reply::Adopted, PROTOCOL)?;
                return Ok(reply);
            }
            KernelOp::DeleteRoute { netns, link, route, .. } => self.delete_route(*netns, link, route),
            KernelOp::SetBridgeVlan { .. } => self.set_bridge_vlan(op)?,
            _ => unreachable!("{op:?} is not about addresses, neighbours or routes"),
        }
        Ok(Reply::Done)
    }

    /// Returns a snapshot of a namespace as the agent would read it.
    pub fn read(&self, netns: NetnsId) -> Snapshot {
        let mut snapshot = self.spaces.get(&netns).cloned().unwrap_or_default();
        snapshot.routes.retain(|route| route.protocol == PROTOCOL);
        snapshot.neighbours.retain(|entry| entry.protocol == PROTOCOL);
        for link in &mut snapshot.links {
            let linked = [&self.peers, &self.parents]
                .into_iter()
                .find_map(|linked| linked.get(&(netns, link.index)));
            link.linked = linked.map(|(_, index)| *index);
            // The ids are arbitrary, but each namespace must have a different one.
            link.linked_netnsid = linked.filter(|(there, _)| *there != netns).map(|(there, _)| there.0 as i32);
            if link.alias.is_empty() {
                (link.rx_checksum, link.tx_checksum) = (None, None);
            }
        }
        snapshot.address_routes = self.read_address_routes(netns);
        snapshot
    }

    /// Returns true if the agent has opened the namespace.
    fn pinned(&self, netns: NetnsId) -> bool {
        netns == OWN || self.pins.contains_key(&netns)
    }

    /// Returns a link by name.
    pub fn link(&self, netns: NetnsId, name: &str) -> Option<&LinkState> {
        self.spaces.get(&netns)?.links.iter().find(|link| link.name == name)
    }

    /// Returns a link by name, or ENODEV if it does not exist.
    fn require(&self, netns: NetnsId, name: &str) -> Result<LinkState, Failure> {
        let found = self.link(netns, name).cloned();
        found.ok_or_else(|| refused(ENODEV, format!("no link {name} in {netns}")))
    }

    /// Returns the contents of a namespace, which must exist, and records that the namespace changes.
    fn space(&mut self, netns: NetnsId) -> &mut Snapshot {
        self.changed(netns);
        self.spaces.get_mut(&netns).expect("the namespace exists")
    }

    /// Returns a link, which must exist, and records that its namespace changes.
    pub fn link_mut(&mut self, netns: NetnsId, index: u32) -> &mut LinkState {
        let links = &mut self.space(netns).links;
        links.iter_mut().find(|link| link.index == index).expect("the link exists")
    }
}
