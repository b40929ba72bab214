//! A dry run with the real descriptors: namespaces that are not open yet, pairs, addresses.
//!
//! Owns what a plan must contain. Must never perform anything. Start reading at
//! [`a_dry_run_plans_into_a_namespace_that_is_not_open_yet`].

use serde_json::json;

use super::{
    configuration::interface_key,
    simulated::Kernel,
    world::{Desired, World, change},
};
use crate::scheduler::{Transaction, ValueState};

#[test]
fn a_dry_run_plans_into_a_namespace_that_is_not_open_yet() {
    let mut world = World::start(Kernel::new(), &Desired::new());
    world.rest();
    let end = |name: &str, peer: &str| {
        json!({ "name": name, "type": "VETH", "enabled": true, "namespace": { "type": "NSID", "reference": "planned" },
            "ip_addresses": ["10.9.0.1/24"], "veth": { "peer_if_name": peer } })
    };
    let key = interface_key;
    let changes = vec![
        change(&key("p1"), Some(&end("p1", "p2"))),
        change(&key("p2"), Some(&end("p2", "p1"))),
    ];
    let before = world.performed.len();
    let planned = world.scheduler.simulate(Transaction::of(changes)).expect("acceptable");
    for text in [key("p1"), key("p2"), "linux/namespace/NSID/planned".to_owned()] {
        let last = planned.iter().rfind(|operation| operation.key.as_str() == text);
        assert_eq!(
            last.map(|operation| operation.after.state),
            Some(ValueState::Configured),
            "{text}: {planned:?}"
        );
    }
    assert!(planned.iter().any(|operation| operation.key.as_str().contains("/address/")));
    assert_eq!(world.performed.len(), before);
    assert!(world.scheduler.view().wanted(&key("p1").into()).is_none());
}
