//! In-memory tests of adoption and suggestions: the operations for values with `adopt`, the record of an adoption, and the
//! suggestions for unmet dependencies.

use models::{Model, key::Key};

use super::{
    Network,
    convert::value_of,
    value::{Namespace, NamespaceName, Value, interface_key},
};
use crate::scheduler::{Change, Domain, FaultKind, Operation, Outcome, Scheduler, Status, ValueState};
use netns_kernel::{ADOPTED_MARK, KernelOp, NetnsId};

const LEFT: &str = r#"{"name":"left","type":"VETH","veth":{"peer_if_name":"right"},"ip_addresses":["10.1.0.1/24"],"adopt":true}"#;
const RIGHT: &str = r#"{"name":"right","type":"VETH","veth":{"peer_if_name":"left"},"enabled":true,"adopt":true}"#;

/// Scheduler in which only the agent's own namespace is open.
struct World {
    scheduler: Scheduler<Network>,
    statuses: std::collections::BTreeMap<Key, Status>,
}

impl World {
    fn new() -> Self {
        let mut scheduler = Scheduler::new(Network::new("test"));
        let own = Value::AppliedNamespace(Namespace::own(NetnsId(1)));
        scheduler.fact(&NamespaceName::Own.key(), Some(own));
        scheduler.complete_facts();
        World {
            scheduler,
            statuses: std::collections::BTreeMap::new(),
        }
    }

    fn put(&mut self, key: &str, json: &str) {
        let model = Model::decode(key, json.as_bytes()).expect("valid JSON of a model");
        let change = Change {
            key: Key::new(key),
            revision: 1,
            value: Some(value_of(&model)),
        };
        self.scheduler.transaction(vec![change], false);
    }

    fn interface(&mut self, json: &str) {
        let name = json.split('"').nth(3).expect("a name").to_owned();
        self.put(interface_key(&name).as_str(), json);
    }

    fn step(&mut self) -> Vec<Operation<KernelOp>> {
        let operations = self.scheduler.step(std::time::Duration::from_secs(1_000));
        for change in self.scheduler.take_status_changes() {
            match change.status {
                Some(status) => self.statuses.insert(change.key, status),
                None => self.statuses.remove(&change.key),
            };
        }
        operations
    }

    /// Performs operations until none are left. All operations succeed. `adopt` returns whether the operation on a key adopts a
    /// foreign object.
    fn run(&mut self, adopt: impl Fn(&Key) -> bool) -> Vec<KernelOp> {
        let mut performed = Vec::new();
        loop {
            let operations = self.step();
            if operations.is_empty() {
                return performed;
            }
            for operation in operations {
                performed.extend(operation.steps);
                let value = self.scheduler.view().coming(&operation.key).map(Value::with_adopted);
                let outcome = value.filter(|_| adopt(&operation.key)).map_or(Outcome::Done, Outcome::Became);
                self.scheduler.outcome(operation.id, outcome);
            }
        }
    }

    fn is_adopted(&self, key: &Key) -> bool {
        self.scheduler.view().applied(key).is_some_and(Value::is_adopted)
    }

    fn suggestions(&self, key: &str) -> Vec<String> {
        let explanation = self.statuses[&Key::new(key)].explanation.as_deref().expect("an explanation");
        let texts = explanation.unmet.iter().flat_map(|unmet| &unmet.suggestions);
        let mut texts: Vec<String> = texts.map(|suggestion| suggestion.text.clone()).collect();
        texts.dedup();
        texts
    }
}

#[test]
fn adopting_pair_marks_both_ends_and_sets_every_property() {
    let mut world = World::new();
    world.interface(LEFT);
    world.interface(RIGHT);
    let ops = world.run(|_| false);
    let KernelOp::CreateLink(create) = &ops[0] else { panic!("{ops:?}") };
    let marks: Vec<String> = create.ends().map(|end| end.adopt.clone().expect("an ownership mark")).collect();
    assert_eq!(
        marks,
        ["left/right", "right/left"].map(|names| format!("/vnf-agent/test/{names}{ADOPTED_MARK}"))
    );
    let KernelOp::SetLink { changes, .. } = &ops[1] else {
        panic!("{ops:?}")
    };
    assert_eq!(
        (changes.up, changes.mtu, changes.rx_checksum, changes.tx_checksum),
        (Some(false), Some(1500), Some(true), Some(true))
    );
}

#[test]
fn nothing_is_adopted_without_adopt() {
    let mut world = World::new();
    world.interface(&LEFT.replace("\"adopt\"", "\"enabled\""));
    world.interface(&RIGHT.replace(",\"adopt\":true", ""));
    world.put(
        "config/linux/l3/v2/route/10.2.0.0/16/left",
        r#"{"outgoing_interface":"left","dst_network":"10.2.0.0/16"}"#,
    );
    let (mut ends, mut routes) = (0, 0);
    for op in world.run(|_| false) {
        match op {
            KernelOp::CreateLink(create) => {
                ends += create.ends().count();
                assert!(create.ends().all(|end| end.adopt.is_none()));
            }
            KernelOp::AddRoute { adopt, replace, .. } => {
                routes += 1;
                assert!(!adopt && !replace);
            }
            _ => {}
        }
    }
    assert_eq!((ends, routes), (2, 1));
}

#[test]
fn adoption_is_remembered_over_changes_and_forgotten_after_re_creation() {
    let mut world = World::new();
    world.interface(LEFT);
    world.interface(RIGHT);
    let left = interface_key("left");
    world.run(|key| *key == left);
    assert!(world.is_adopted(&left) && !world.is_adopted(&interface_key("right")));
    world.interface(&LEFT.replace("{\"name\":\"left\"", "{\"name\":\"left\",\"mtu\":1400"));
    world.run(|_| false);
    assert!(world.is_adopted(&left), "an in-place change must keep the adopted link");
    assert_eq!(world.statuses[&left].last_repair, None);
    world.scheduler.lost(&[left.clone(), interface_key("right")]);
    world.run(|_| false);
    assert!(!world.is_adopted(&left), "a lost link must be created by the agent");
    let lost = world.statuses[&left].last_repair.clone().map(|repair| repair.lost);
    assert_eq!(lost, Some(vec!["interface left".to_owned()]));
}

#[test]
fn failed_creation_over_a_foreign_object_leaves_nothing_to_clear_away() {
    let mut world = World::new();
    world.interface(LEFT);
    world.interface(RIGHT);
    let operation = world.step().remove(0);
    let fault = crate::scheduler::Fault {
        kind: FaultKind::Foreign,
        reason: "ForeignObject",
        message: "another object exists".to_owned(),
        kernel: None,
    };
    world.scheduler.outcome(operation.id, Outcome::Failed(fault));
    assert!(world.step().is_empty());
    assert_eq!(world.statuses[&operation.key].state, ValueState::Retrying);
    world.scheduler.transaction(Vec::new(), true);
    assert!(world.step().is_empty(), "nothing must be deleted");
    assert!(world.statuses.is_empty());
}

#[test]
fn closest_existing_values_are_suggested() {
    let mut world = World::new();
    world.interface(LEFT);
    world.interface(RIGHT);
    world.interface(r#"{"name":"uplink-web","type":"VETH","veth":{"peer_if_name":"rigth"}}"#);
    for (interface, destination) in [("left", "10.2.0.0"), ("right", "10.3.0.0"), ("uplink-wbe", "10.4.0.0")] {
        let key = format!("config/linux/l3/v2/route/{destination}/16/{interface}");
        let json = format!(r#"{{"outgoing_interface":"{interface}","dst_network":"{destination}/16","gw_addr":"10.9.0.1"}}"#);
        world.put(&key, &json);
    }
    world.run(|_| false);
    assert_eq!(
        world.suggestions("config/linux/l3/v2/route/10.2.0.0/16/left"),
        ["interface left exists but is DOWN", "address 10.1.0.1/24 of interface left exists"]
    );
    assert_eq!(
        world.suggestions("config/linux/l3/v2/route/10.4.0.0/16/uplink-wbe"),
        ["interface uplink-web has a similar name"]
    );
    assert_eq!(
        world.suggestions(interface_key("uplink-web").as_str()),
        ["interface right has a similar name"]
    );
    world.put(
        "config/linux/l3/v2/route/10.5.0.0/16/uplink-web",
        r#"{"outgoing_interface":"uplink-web","dst_network":"10.5.0.0/16"}"#,
    );
    world.run(|_| false);
    assert_eq!(
        world.suggestions("config/linux/l3/v2/route/10.5.0.0/16/uplink-web"),
        ["the agent's own namespace exists, but interface uplink-web is not in it yet"]
    );
    // Status messages must not contain internal keys.
    let network = Network::new("test");
    assert!(
        world
            .statuses
            .values()
            .all(|status| !status.message.contains("config/") && !status.message.contains("linux/"))
    );
    assert_eq!(network.name(&interface_key("left")), "interface left");
}
