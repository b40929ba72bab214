//! A small simulated kernel: namespaces, links, addresses, routes and neighbours in memory, changed by [`KernelOp`]s alone.
//!
//! Owns what Linux does by itself: the other end of a veth goes with the first, a link that goes down loses its routes. Must
//! never know a value or a descriptor, only operations and snapshots. Start reading at [`Kernel::perform`].

mod layer3;
mod links;

use std::collections::{BTreeMap, BTreeSet};

use crate::kernel::{
    Failure, FailureKind, Guard, KernelOp, LinkState, NamespaceRef, NetnsId, Outcome, PROTOCOL, Reply, Snapshot, Task, provisional_group,
};

/// The agent's own namespace.
pub const OWN: NetnsId = NetnsId(1);

/// Errors of errno(3) that the tests meet.
pub const EEXIST: i32 = 17;
pub const ENODEV: i32 = 19;
pub const EINVAL: i32 = 22;
pub const ENETDOWN: i32 = 100;
pub const ENETUNREACH: i32 = 101;

/// A machine. It survives the agent: what a killed agent leaves is what is in here, but for the namespaces that it kept open.
#[derive(Clone, Debug)]
pub struct Kernel {
    /// Everything in each namespace, foreign routes and neighbours included.
    pub spaces: BTreeMap<NetnsId, Snapshot>,
    /// Names of `ip netns`.
    pub names: BTreeMap<String, NetnsId>,
    /// Namespaces of processes.
    pub processes: BTreeMap<i32, NetnsId>,
    /// Namespaces in which something changed since this was last emptied: what the monitor would tell.
    pub touched: BTreeSet<NetnsId>,
    /// Operations that changed something, or tried to.
    pub log: Vec<KernelOp>,
    /// After this many changing operations the agent is killed; `None`: never.
    pub fuel: Option<usize>,
    peers: BTreeMap<(NetnsId, u32), (NetnsId, u32)>,
    pins: BTreeMap<NetnsId, usize>,
    next_netns: u64,
    next_index: u32,
}

/// The agent was killed before this operation.
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

/// Somebody else's object is in the way.
fn foreign(message: String) -> Failure {
    failure(FailureKind::Foreign, EEXIST, message)
}

fn guarded(guard: &Guard, link: &LinkState) -> Result<(), Failure> {
    match guard {
        Guard::Owned { alias_prefix } if !link.alias.starts_with(alias_prefix) && link.group != provisional_group(alias_prefix) => {
            Err(foreign(format!("link {} is not the agent's", link.name)))
        }
        Guard::NotOthers {
            alias_prefix,
            agents_prefix,
        } if !link.alias.starts_with(alias_prefix) && link.alias.starts_with(agents_prefix) => {
            Err(foreign(format!("link {} is another agent's", link.name)))
        }
        _ => Ok(()),
    }
}

/// Whether an operation changes the network; opening a namespace does when it creates it, which [`Kernel::perform`] logs itself.
fn changes_something(op: &KernelOp) -> bool {
    match op {
        KernelOp::OpenNamespace { .. }
        | KernelOp::VerifyNamespace { .. }
        | KernelOp::DumpNamespace { .. }
        | KernelOp::ConfirmAddress { .. }
        | KernelOp::ForgetProcess { .. } => false,
        KernelOp::CloseNamespace { remove_if_marked, .. } => remove_if_marked.is_some(),
        _ => true,
    }
}

/// The link that an operation on addresses, neighbours or routes is about, and what must hold of it.
fn on_link(op: &KernelOp) -> Option<(NetnsId, &str, &Guard)> {
    match op {
        KernelOp::AddAddress { netns, link, guard, .. }
        | KernelOp::ConfirmAddress { netns, link, guard, .. }
        | KernelOp::DeleteAddress { netns, link, guard, .. }
        | KernelOp::SetNeighbour { netns, link, guard, .. }
        | KernelOp::DeleteNeighbour { netns, link, guard, .. }
        | KernelOp::AddRoute { netns, link, guard, .. }
        | KernelOp::DeleteRoute { netns, link, guard, .. } => Some((*netns, link, guard)),
        _ => None,
    }
}

/// The namespaces that must be open for an operation.
fn works_in(op: &KernelOp) -> Vec<NetnsId> {
    match op {
        KernelOp::CreateVeth { ends } => ends.iter().map(|end| end.netns).collect(),
        KernelOp::CreateLink { link, .. } => vec![link.netns],
        KernelOp::SetLink { netns, changes, .. } => changes.move_to.into_iter().chain([*netns]).collect(),
        KernelOp::DeleteLink { netns, .. }
        | KernelOp::AddAddress { netns, .. }
        | KernelOp::ConfirmAddress { netns, .. }
        | KernelOp::DeleteAddress { netns, .. }
        | KernelOp::SetNeighbour { netns, .. }
        | KernelOp::DeleteNeighbour { netns, .. }
        | KernelOp::AddRoute { netns, .. }
        | KernelOp::DeleteRoute { netns, .. } => vec![*netns],
        _ => Vec::new(),
    }
}

impl Kernel {
    /// A machine with nothing but the agent's own namespace.
    pub fn new() -> Self {
        let mut kernel = Kernel {
            spaces: BTreeMap::new(),
            names: BTreeMap::new(),
            processes: BTreeMap::new(),
            touched: BTreeSet::new(),
            log: Vec::new(),
            fuel: None,
            peers: BTreeMap::new(),
            pins: BTreeMap::new(),
            next_netns: OWN.0,
            next_index: 1,
        };
        kernel.new_space("");
        kernel
    }

    /// A namespace that somebody else made with `ip netns add`.
    pub fn add_named(&mut self, name: &str) -> NetnsId {
        let netns = self.new_space("");
        self.names.insert(name.to_owned(), netns);
        netns
    }

    /// A process with a namespace of its own.
    pub fn add_process(&mut self, pid: i32) -> NetnsId {
        let netns = self.new_space("");
        self.processes.insert(pid, netns);
        netns
    }

    /// The agent was killed or stopped: its open files are gone, the network is not.
    pub fn agent_gone(&mut self) {
        self.fuel = None;
        self.touched.clear();
        for netns in std::mem::take(&mut self.pins).into_keys() {
            self.collect(netns);
        }
    }

    fn new_space(&mut self, alias: &str) -> NetnsId {
        let netns = NetnsId(self.next_netns);
        self.next_netns += 1;
        let lo = LinkState {
            index: 1,
            name: "lo".to_owned(),
            alias: alias.to_owned(),
            up: true,
            mtu: 65536,
            ..LinkState::default()
        };
        let links = vec![lo];
        self.spaces.insert(
            netns,
            Snapshot {
                links,
                ..Snapshot::default()
            },
        );
        netns
    }

    /// A namespace that nothing refers to any more ends, with all links in it and their other ends elsewhere.
    fn collect(&mut self, netns: NetnsId) {
        let kept =
            netns == OWN || self.pins.contains_key(&netns) || self.names.values().chain(self.processes.values()).any(|kept| *kept == netns);
        if kept {
            return;
        }
        let links: Vec<u32> = self
            .spaces
            .get(&netns)
            .map_or(Vec::new(), |space| space.links.iter().map(|link| link.index).collect());
        for index in links.into_iter().filter(|index| *index != 1) {
            self.remove_link(netns, index);
        }
        self.spaces.remove(&netns);
    }

    /// Performs a task: its operations in order, until one fails.
    pub fn perform(&mut self, task: &Task) -> Result<Outcome, Killed> {
        let mut answer = Ok(Reply::Done);
        for op in &task.ops {
            let changes = changes_something(op);
            if changes {
                match &mut self.fuel {
                    Some(0) => return Err(Killed),
                    Some(fuel) => *fuel -= 1,
                    None => {}
                }
                self.log.push(op.clone());
            }
            match self.op(op) {
                Ok(Reply::Done) => {}
                Ok(reply) => answer = Ok(reply),
                Err(failure) => {
                    answer = Err(failure);
                    break;
                }
            }
        }
        let (id, result) = (task.id, answer);
        Ok(Outcome { id, result })
    }

    fn op(&mut self, op: &KernelOp) -> Result<Reply, Failure> {
        if let Some(netns) = works_in(op).into_iter().find(|netns| !self.pinned(*netns)) {
            return match op {
                KernelOp::DeleteLink { .. }
                | KernelOp::DeleteAddress { .. }
                | KernelOp::DeleteNeighbour { .. }
                | KernelOp::DeleteRoute { .. } => Ok(Reply::Done),
                _ => Err(refused(EINVAL, format!("{netns} is not open"))),
            };
        }
        match op {
            KernelOp::OpenNamespace { reference, mark } => return self.open(op, reference, mark),
            KernelOp::VerifyNamespace { reference, netns } => {
                return Ok(match self.find(reference) {
                    Some(found) if found == *netns => Reply::Same,
                    _ => Reply::Changed(format!("{reference:?} leads elsewhere")),
                });
            }
            KernelOp::DumpNamespace { netns } => return Ok(Reply::Contents(Box::new(self.read(*netns)))),
            KernelOp::CloseNamespace {
                reference,
                netns,
                remove_if_marked,
                ..
            } => self.close(reference, *netns, remove_if_marked.as_deref()),
            KernelOp::ForgetProcess { .. } => {}
            KernelOp::CreateVeth { ends } => self.create_veth(ends)?,
            KernelOp::CreateLink { link, kind } => self.create_link(link, kind)?,
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
        if let Some((netns, link, guard)) = on_link(op)
            && let Some(found) = self.link(netns, link)
        {
            guarded(guard, found)?;
        }
        match op {
            KernelOp::AddAddress {
                netns,
                link,
                address,
                shared,
                ..
            } => {
                if !*shared || self.address_protocol(*netns, link, *address).is_none() {
                    self.add_address(*netns, link, *address, PROTOCOL)?;
                }
            }
            KernelOp::ConfirmAddress { netns, link, address, .. } => {
                if self.address_protocol(*netns, link, *address).is_none() {
                    return Err(refused(ENODEV, format!("no address {address:?} on {link} in {netns}")));
                }
            }
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
            _ => unreachable!("{op:?} is not about addresses, neighbours or routes"),
        }
        Ok(Reply::Done)
    }

    fn find(&self, reference: &NamespaceRef) -> Option<NetnsId> {
        match reference {
            NamespaceRef::Own => Some(OWN),
            NamespaceRef::Named(name) => self.names.get(name).copied(),
            NamespaceRef::Process(pid) | NamespaceRef::Container { pid, .. } => self.processes.get(pid).copied(),
            NamespaceRef::File(path) => self.names.get(path.to_str()?.strip_prefix("/run/netns/")?).copied(),
        }
    }

    fn open(&mut self, op: &KernelOp, reference: &NamespaceRef, mark: &str) -> Result<Reply, Failure> {
        let found = self.find(reference);
        let netns = match (found, reference) {
            (Some(netns), _) => netns,
            (None, NamespaceRef::Named(name)) => {
                self.log.push(op.clone());
                let netns = self.new_space(mark);
                self.names.insert(name.clone(), netns);
                netns
            }
            (None, _) => {
                return Err(Failure {
                    kind: FailureKind::Unavailable,
                    errno: None,
                    kernel_text: String::new(),
                    message: format!("{reference:?} does not exist"),
                });
            }
        };
        *self.pins.entry(netns).or_default() += 1;
        Ok(Reply::Opened {
            netns,
            created: found.is_none(),
            contents: Box::new(self.read(netns)),
        })
    }

    fn close(&mut self, reference: &NamespaceRef, netns: NetnsId, remove_if_marked: Option<&str>) {
        if let (NamespaceRef::Named(name), Some(prefix)) = (reference, remove_if_marked) {
            let lo = self.spaces.get(&netns).and_then(|space| space.links.first());
            if lo.is_some_and(|lo| lo.alias.starts_with(prefix)) && self.names.get(name) == Some(&netns) {
                self.names.remove(name);
            }
        }
        if let Some(pins) = self.pins.get_mut(&netns) {
            *pins -= 1;
            if *pins == 0 {
                self.pins.remove(&netns);
                self.collect(netns);
            }
        }
    }

    /// What a dump of the namespace shows to the agent.
    pub fn read(&self, netns: NetnsId) -> Snapshot {
        let mut snapshot = self.spaces.get(&netns).cloned().unwrap_or_default();
        snapshot.routes.retain(|route| route.protocol == PROTOCOL);
        snapshot.neighbours.retain(|entry| entry.protocol == PROTOCOL);
        for link in &mut snapshot.links {
            link.peer_index = self.peers.get(&(netns, link.index)).map(|(_, index)| *index);
            if link.kind != "veth" || link.alias.is_empty() {
                (link.rx_checksum, link.tx_checksum) = (None, None);
            }
        }
        snapshot
    }

    /// Whether the agent may work in the namespace.
    fn pinned(&self, netns: NetnsId) -> bool {
        netns == OWN || self.pins.contains_key(&netns)
    }

    /// A link by name.
    pub fn link(&self, netns: NetnsId, name: &str) -> Option<&LinkState> {
        self.spaces.get(&netns)?.links.iter().find(|link| link.name == name)
    }

    /// A link that must exist.
    fn require(&self, netns: NetnsId, name: &str) -> Result<LinkState, Failure> {
        let found = self.link(netns, name).cloned();
        found.ok_or_else(|| refused(ENODEV, format!("no link {name} in {netns}")))
    }

    /// A link to change. Whoever asks for it has made sure that it exists.
    fn space(&mut self, netns: NetnsId) -> &mut Snapshot {
        self.touched.insert(netns);
        self.spaces.get_mut(&netns).expect("the namespace exists")
    }

    pub fn link_mut(&mut self, netns: NetnsId, index: u32) -> &mut LinkState {
        let links = &mut self.space(netns).links;
        links.iter_mut().find(|link| link.index == index).expect("the link exists")
    }
}
