//! Tests of EXISTING interfaces on the simulated kernel: the agent must not mistake its own changes for foreign ones.

mod conflict;

use std::{collections::BTreeMap, time::Duration};

use models::proto::ligato::kvscheduler::{ValueState, ValueStatus};
use prost::Message;

use crate::{
    agent::effects::Signal,
    engine::{Clock, Effects, Event},
    simulation::{
        agent::{Agent, Manner, Progress},
        following::{Disk, desired_event},
        kernel::{Kernel, OWN},
        machine::SharedMachine,
    },
    sources::etcd::{RawChange, RawItem, RawKey, SnapshotReason, SourceEvent},
};
use netns_kernel::{AddressSpec, KernelOp, NetnsId};

/// Maximum number of steps after which the simulated agent must be idle.
const STEPS_MAX: usize = 400;
const MANNER: Manner = Manner {
    docker: false,
    reports_early: false,
    one_by_one: false,
};

/// Desired values by key.
pub(super) type Desired = BTreeMap<String, String>;

/// An agent on a simulated machine.
pub(super) struct World {
    pub(super) machine: SharedMachine,
    agent: Agent,
    now: Duration,
}

impl World {
    pub(super) fn start(kernel: Kernel, desired: &Desired) -> Self {
        Self::start_with(kernel, desired, Disk::of_known_store(1))
    }

    fn start_with(kernel: Kernel, desired: &Desired, mut disk: Disk) -> Self {
        let (machine, now) = (SharedMachine::new(kernel), Duration::from_secs(1_000));
        let agent = Agent::start(&machine, Clock::with_clock(move || now), MANNER, &mut disk, None);
        let mut world = World { machine, agent, now };
        world.list(desired);
        world
    }

    /// Delivers a complete listing of the store to the agent.
    pub(super) fn list(&mut self, desired: &Desired) {
        let items = desired.iter().map(|(key, value)| RawItem {
            key: RawKey::from(key.as_bytes()),
            value: value.clone().into_bytes(),
            mod_revision: 1,
        });
        self.agent.events.extend(desired_event(SourceEvent::Snapshot {
            revision: 1,
            reason: SnapshotReason::Initial,
            items: items.collect(),
        }));
        self.rest();
    }

    pub(super) fn restart(self, desired: &Desired) -> Self {
        self.restart_with(desired, Disk::of_known_store(1))
    }

    /// Restarts the agent without the file in which it recorded the state of the store. The agent then puts orphans on hold.
    pub(super) fn restart_holding(self, desired: &Desired) -> Self {
        self.restart_with(desired, Disk::default())
    }

    fn restart_with(self, desired: &Desired, disk: Disk) -> Self {
        let mut kernel = {
            let mut machine = self.machine.get();
            machine.agent_gone();
            machine.kernel.clone()
        };
        kernel.reap();
        kernel.log.clear();
        World::start_with(kernel, desired, disk)
    }

    fn change(&mut self, items: &[(&str, Option<&str>)]) {
        let items = items.iter().map(|(key, value)| RawChange {
            key: RawKey::from(key.as_bytes()),
            mod_revision: 1,
            value: value.map(|value| value.as_bytes().to_vec()),
        });
        let items = items.collect();
        self.agent.events.extend(desired_event(SourceEvent::Changes { revision: 1, items }));
    }

    pub(super) fn put(&mut self, key: &str, value: &str) {
        self.change(&[(key, Some(value))]);
    }

    fn delete(&mut self, key: &str) {
        self.change(&[(key, None)]);
    }

    pub(super) fn assert_configured(&self, key: &str) {
        assert_eq!(self.state(key), (ValueState::Configured, String::new()), "{key}");
    }

    /// Notifies the agent of a change in a namespace, so that it reads the namespace again.
    pub(super) fn refresh(&mut self, netns: NetnsId) {
        self.agent.events.push_back(Event::Signal(Signal::Namespace(netns)));
    }

    /// Runs the agent until there is nothing to do or to read. Does not wait for retries.
    pub(super) fn rest(&mut self) {
        for _ in 0..STEPS_MAX {
            let changed = std::mem::take(&mut self.machine.get().kernel.reported);
            let signals = changed.into_iter().map(|netns| Event::Signal(Signal::Namespace(netns)));
            self.agent.events.extend(signals);
            if self.agent.wake(self.now) {
                while !matches!(
                    self.agent.perform(&self.machine, &mut Vec::new()).expect("the agent is not killed"),
                    Progress::Finished
                ) {}
            } else if let Some(due) = self.agent.core.effects().refresh_deadline() {
                self.now = self.now.max(due);
            } else {
                return;
            }
        }
        panic!("the agent does not become idle: {:#?}", self.log());
    }

    /// Returns the kernel operations that have changed something since the last call.
    pub(super) fn log(&self) -> Vec<KernelOp> {
        std::mem::take(&mut self.machine.get().kernel.log)
    }

    pub(super) fn state(&self, key: &str) -> (ValueState, String) {
        let outbox = self.agent.outbox.get();
        let published = outbox.shadow.get(&format!("config-status/{key}"));
        let status = ValueStatus::decode(&**published.unwrap_or_else(|| panic!("no status of {key}"))).expect("a valid status");
        (status.state(), status.error)
    }

    fn addresses(&self, link: &str) -> Vec<String> {
        let kernel = &self.machine.get().kernel;
        let index = kernel.link(OWN, link).expect("the link exists").index;
        let on_link = kernel.spaces[&OWN].addresses.iter().filter(|state| state.link == index);
        let mut addresses: Vec<String> = on_link.map(|state| state.address.address.to_string()).collect();
        addresses.sort();
        addresses
    }

    /// Returns the destination and table of each route.
    fn tables(&self) -> Vec<(String, u32)> {
        let routes = &self.machine.get().kernel.spaces[&OWN].routes;
        routes
            .iter()
            .map(|state| (state.route.destination.to_string(), state.route.table))
            .collect()
    }
}

pub(super) fn interface(name: &str, rest: &str) -> (String, String) {
    let key = format!("linux/interfaces/v2/interface/{name}");
    (key, format!(r#"{{"name":"{name}","enabled":true,{rest}}}"#))
}

pub(super) fn route(interface: &str, network: &str, gateway: &str) -> (String, String) {
    let key = format!("linux/l3/v2/route/{network}/{interface}");
    let value = format!(r#"{{"outgoing_interface":"{interface}","scope":"GLOBAL","dst_network":"{network}","gw_addr":"{gateway}"}}"#);
    (key, value)
}

fn arp(interface: &str, address: &str) -> (String, String) {
    let key = format!("linux/l3/v2/arp/{interface}/{address}");
    let value = format!(r#"{{"interface":"{interface}","ip_address":"{address}","hw_address":"02:00:00:00:00:09"}}"#);
    (key, value)
}

fn spec(text: &str) -> AddressSpec {
    AddressSpec {
        address: text.parse().expect("a valid address"),
        prefix_len: 24,
    }
}

/// Returns a machine with a NIC that has an address, a VRF device with table 30, and a NIC in that VRF. The agent created none of
/// these links.
pub(super) fn machine() -> Kernel {
    let mut kernel = Kernel::new();
    let vrf = kernel.add_foreign_link(OWN, "vrf0", "vrf");
    kernel.set_vrf_table(OWN, vrf, 30);
    for (name, address, master) in [("nic0", "10.5.5.1", None), ("nic1", "10.6.6.1", Some(vrf))] {
        let index = kernel.add_foreign_link(OWN, name, "dummy");
        kernel.link_mut(OWN, index).master = master;
        kernel.add_address(OWN, name, spec(address), 0).expect("the link exists");
    }
    kernel
}

/// Name of a test configuration, and its keys with their values.
type Form = (&'static str, Vec<(String, String)>);

/// Returns configurations that use EXISTING interfaces in every supported way, and contain values that depend on these
/// interfaces.
fn forms() -> Vec<Form> {
    [on_links(), in_vrfs()].concat()
}

fn on_links() -> Vec<Form> {
    vec![
        (
            "link_only",
            vec![
                interface(
                    "nic",
                    r#""type":"EXISTING","host_if_name":"nic0","link_only":true,"ip_addresses":["10.5.5.1/24"]"#,
                ),
                route("nic", "10.7.0.0/16", "10.5.5.9"),
                arp("nic", "10.5.5.7"),
            ],
        ),
        (
            "two on one link",
            vec![
                interface(
                    "a",
                    r#""type":"EXISTING","host_if_name":"nic0","ip_addresses":["10.1.0.1/24","10.3.0.1/24"]"#,
                ),
                interface(
                    "b",
                    r#""type":"EXISTING","host_if_name":"nic0","ip_addresses":["10.2.0.1/24","10.3.0.1/24"]"#,
                ),
                interface(
                    "c",
                    r#""type":"EXISTING","host_if_name":"nic0","link_only":true,"ip_addresses":["10.2.0.1/24"]"#,
                ),
                route("a", "10.7.0.0/16", "10.1.0.9"),
                route("b", "10.8.0.0/16", "10.2.0.9"),
                route("c", "10.9.0.0/16", "10.2.0.9"),
                arp("a", "10.1.0.7"),
                arp("b", "10.2.0.7"),
            ],
        ),
        (
            "beside a VETH",
            vec![
                interface(
                    "left",
                    r#""type":"VETH","veth":{"peer_if_name":"right"},"ip_addresses":["10.1.0.1/24"]"#,
                ),
                interface("right", r#""type":"VETH","veth":{"peer_if_name":"left"}"#),
                interface(
                    "beside",
                    r#""type":"EXISTING","host_if_name":"left","ip_addresses":["10.2.0.1/24"]"#,
                ),
                interface("above", r#""type":"EXISTING","host_if_name":"left","ip_addresses":["10.3.0.1/24"]"#),
                route("left", "10.7.0.0/16", "10.1.0.9"),
                route("beside", "10.8.0.0/16", "10.2.0.9"),
                arp("above", "10.3.0.7"),
            ],
        ),
    ]
}

fn in_vrfs() -> Vec<Form> {
    let tenant = || interface("tenant", r#""type":"EXISTING","host_if_name":"vrf0""#);
    vec![
        (
            "foreign VRF with a member of the agent",
            vec![
                tenant(),
                interface(
                    "in",
                    r#""type":"DUMMY","vrf_master_interface":"tenant","ip_addresses":["10.1.0.1/24"]"#,
                ),
                route("in", "10.7.0.0/16", "10.1.0.9"),
                arp("in", "10.1.0.7"),
            ],
        ),
        (
            "foreign VRF with a foreign member",
            vec![
                tenant(),
                interface(
                    "nic",
                    r#""type":"EXISTING","host_if_name":"nic1","vrf_master_interface":"tenant","ip_addresses":["10.1.0.1/24"]"#,
                ),
                route("nic", "10.7.0.0/16", "10.1.0.9"),
            ],
        ),
        (
            "foreign VRF under two names",
            vec![
                tenant(),
                interface("other", r#""type":"EXISTING","host_if_name":"vrf0""#),
                interface(
                    "in",
                    r#""type":"DUMMY","vrf_master_interface":"tenant","ip_addresses":["10.1.0.1/24"]"#,
                ),
                interface(
                    "out",
                    r#""type":"DUMMY","vrf_master_interface":"other","ip_addresses":["10.2.0.1/24"]"#,
                ),
                route("in", "10.7.0.0/16", "10.1.0.9"),
                route("out", "10.8.0.0/16", "10.2.0.9"),
            ],
        ),
    ]
}

/// The agent does not mistake its own changes for foreign ones, regardless of the values and their order.
#[test]
fn reading_own_changes_leads_to_no_operation() {
    for (form, values) in forms() {
        for reversed in [false, true] {
            let mut world = World::start(machine(), &Desired::new());
            let mut order: Vec<_> = values.iter().collect();
            if reversed {
                order.reverse();
            }
            for (key, value) in order {
                world.put(key, value);
                world.rest();
            }
            for (key, _) in &values {
                assert_eq!(world.state(key), (ValueState::Configured, String::new()), "{form}: {key}");
            }
            world.log();
            world.refresh(OWN);
            world.rest();
            assert_eq!(world.log(), [], "{form}, read again");
            let desired: Desired = values.iter().cloned().collect();
            for _ in 0..2 {
                world = world.restart(&desired);
                assert_eq!(world.log(), [], "{form}, restarted");
                for (key, _) in &values {
                    assert_eq!(world.state(key), (ValueState::Configured, String::new()), "{form}: {key}");
                }
            }
        }
    }
}

/// The agent reads the routing table of a foreign VRF device from the kernel, and moves routes when the table changes.
#[test]
fn routes_move_when_vrf_is_recreated_with_another_table() {
    for form in [3, 4] {
        let (_, values) = forms().swap_remove(form);
        let mut world = World::start(machine(), &values.iter().cloned().collect());
        assert_eq!(world.tables(), [("10.7.0.0".to_owned(), 30)]);
        let member = {
            let kernel = &mut world.machine.get().kernel;
            let old = kernel.link(OWN, "vrf0").expect("the VRF exists").index;
            kernel.remove_link(OWN, old);
            let new = kernel.add_foreign_link(OWN, "vrf0", "vrf");
            kernel.set_vrf_table(OWN, new, 40);
            // The kernel flushes the routes of a link that leaves a VRF.
            kernel.spaces.get_mut(&OWN).expect("the object exists").routes.clear();
            let member = kernel.link(OWN, "nic1").expect("the NIC exists").index;
            kernel.link_mut(OWN, member).master = Some(new);
            (member, new)
        };
        world.rest();
        assert_eq!(world.tables(), [("10.7.0.0".to_owned(), 40)], "{values:?} {member:?}");
        for (key, _) in &values {
            assert_eq!(world.state(key), (ValueState::Configured, String::new()), "{key}");
        }
        world.log();
        world.refresh(OWN);
        world.rest();
        assert_eq!(world.log(), []);
    }
}

/// An interface fails while its VRF master is not a VRF device, and joins the VRF once the master is a VRF device.
#[test]
fn vrf_member_is_refused_until_master_is_a_vrf_device() {
    let (_, values) = forms().swap_remove(3);
    let mut kernel = machine();
    let index = kernel.link(OWN, "vrf0").expect("the object exists").index;
    kernel.link_mut(OWN, index).kind = "bridge".to_owned();
    let mut world = World::start(kernel, &values.iter().cloned().collect());
    assert_eq!(world.tables(), []);
    let (state, error) = world.state(&values[1].0);
    assert!(
        state != ValueState::Configured && error.contains("not a VRF device"),
        "{state:?} {error}"
    );
    world.machine.get().kernel.link_mut(OWN, index).kind = "vrf".to_owned();
    world.rest();
    assert_eq!(world.tables(), [("10.7.0.0".to_owned(), 30)]);
    assert_eq!(world.state(&values[1].0), (ValueState::Configured, String::new()));
}

/// An address shared by two values on one link is deleted only when the last of these values is deleted.
#[test]
fn shared_address_is_kept_until_last_value_is_deleted() {
    let (_, values) = forms().swap_remove(1);
    let mut world = World::start(machine(), &values.iter().cloned().collect());
    world.delete(&values[0].0);
    world.rest();
    assert_eq!(world.addresses("nic0"), ["10.2.0.1", "10.3.0.1", "10.5.5.1"]);
    world.delete(&values[1].0);
    world.rest();
    assert_eq!(world.addresses("nic0"), ["10.5.5.1"]);
}

/// After an EXISTING interface moves to another link, its addresses are deleted from the old link, even if the namespace is read
/// in between. A foreign address on the old link is kept, even if the interface has the same address on the new link.
#[test]
fn moved_existing_interface_leaves_no_address_on_old_link() {
    let on = |link: &str, addresses: &str| {
        let rest = format!(r#""type":"EXISTING","host_if_name":"{link}","ip_addresses":[{addresses}]"#);
        interface("nic", &rest)
    };
    let (key, before) = on("nic0", r#""10.1.0.1/24","10.2.0.1/24""#);
    let mut world = World::start(machine(), &BTreeMap::from([(key.clone(), before)]));
    assert_eq!(world.addresses("nic0"), ["10.1.0.1", "10.2.0.1", "10.5.5.1"]);
    // One of the deletions fails with ENOMEM (12), so the namespace is read before the interface has left the old link.
    world.machine.get().kernel.failing = vec![(0, 12)];
    let (_, after) = on("nic1", r#""10.3.0.1/24","10.5.5.1/24""#);
    world.put(&key, &after);
    world.rest();
    assert!(world.machine.get().kernel.failing.is_empty(), "no operation failed");
    assert_eq!(world.addresses("nic0").len(), 2, "the other deletion succeeded");
    world.refresh(OWN);
    world.rest();
    world.now += Duration::from_secs(5);
    world.rest();
    assert_eq!(world.addresses("nic0"), ["10.5.5.1"]);
    assert_eq!(world.addresses("nic1"), ["10.3.0.1", "10.5.5.1", "10.6.6.1"]);
    assert_eq!(world.state(&key), (ValueState::Configured, String::new()));
}

/// An EXISTING interface needs no operation, so there is no kernel event. The agent must read the namespace even without an
/// event.
#[test]
fn foreign_addresses_of_existing_link_satisfy_dependencies_at_once() {
    let mut world = World::start(machine(), &Desired::new());
    let (nic, nic_value) = interface("nic", r#""type":"EXISTING","host_if_name":"nic0""#);
    let (neighbour, neighbour_value) = arp("nic", "10.5.5.9");
    let (through, route_value) = route("nic", "172.16.5.0/24", "10.5.5.254");
    world.put(&nic, &nic_value);
    world.put(&neighbour, &neighbour_value);
    world.put(&through, &route_value);
    world.rest();
    [&nic, &neighbour, &through]
        .into_iter()
        .for_each(|key| world.assert_configured(key));

    // The interface moves to another link and back.
    let (_, moved) = interface("nic", r#""type":"EXISTING","host_if_name":"nic1""#);
    world.put(&nic, &moved);
    world.rest();
    assert_eq!(world.state(&through).0, ValueState::Pending);
    world.put(&nic, &nic_value);
    world.rest();
    [&nic, &neighbour, &through]
        .into_iter()
        .for_each(|key| world.assert_configured(key));
}
