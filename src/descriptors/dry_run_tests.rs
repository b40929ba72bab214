//! Tests of dry runs with the real descriptors: namespaces that are not open yet, VETH pairs and addresses.

use models::{Model, key::Key};

use super::{
    Network,
    convert::value_of,
    value::{Namespace, NamespaceName, Value, interface_key},
};
use crate::scheduler::{Change, Scheduler, Transaction, ValueState};
use netns_kernel::NetnsId;

/// Returns a scheduler in which only the agent's own namespace is open.
fn scheduler() -> Scheduler<Network> {
    let mut scheduler = Scheduler::new(Network::new("test"));
    let own = Value::AppliedNamespace(Namespace::own(NetnsId(1)));
    scheduler.fact(&NamespaceName::Own.key(), Some(own));
    scheduler.complete_facts();
    scheduler
}

fn end(name: &str, peer: &str) -> Change<Value> {
    let json = format!(
        r#"{{"name":"{name}","type":"VETH","enabled":true,"namespace":{{"type":"NSID","reference":"planned"}},
            "ip_addresses":["10.9.0.1/24"],"veth":{{"peer_if_name":"{peer}"}}}}"#
    );
    let key = interface_key(name);
    let model = Model::decode(key.as_str(), json.as_bytes()).expect("valid JSON of a model");
    model.validate().expect("a valid model");
    let (revision, value) = (1, Some(value_of(&model)));
    Change { key, revision, value }
}

#[test]
fn dry_run_plans_into_a_namespace_that_is_not_open_yet() {
    let scheduler = scheduler();
    let changes = vec![end("p1", "p2"), end("p2", "p1")];
    let planned = scheduler.simulate(Transaction::of(changes)).expect("an acceptable transaction");
    for key in [interface_key("p1"), interface_key("p2"), Key::new("linux/namespace/NSID/planned")] {
        let last = planned
            .iter()
            .map(|planned| &planned.operation)
            .rfind(|operation| operation.key == key);
        assert_eq!(
            last.map(|operation| operation.after.state),
            Some(ValueState::Configured),
            "{key}: {planned:?}"
        );
    }
    assert!(planned.iter().any(|planned| planned.operation.key.as_str().contains("/address/")));
    assert!(scheduler.view().desired(&interface_key("p1")).is_none());
}
