//! Test that a restart without changes reads each namespace only once.

use super::existing_tests::{Desired, World};
use crate::simulation::kernel::Kernel;

/// Number of namespaces, large enough that creating them is a bulk change.
const NAMESPACES: usize = 120;

#[test]
fn restart_reads_each_namespace_once() {
    let interface = |number: usize| {
        let key = format!("linux/interfaces/v2/interface/d{number}");
        let value = format!(
            r#"{{"name":"d{number}","type":"DUMMY","enabled":true,"ip_addresses":["10.0.0.1/24"],
                "namespace":{{"type":"NSID","reference":"n{number}"}}}}"#
        );
        (key, value)
    };
    let desired: Desired = (0..NAMESPACES).map(interface).collect();
    let mut kernel = Kernel::new();
    kernel.watched_max = 2 * NAMESPACES;
    let world = World::start(kernel, &desired);
    let before = world.machine.get().kernel.readings;
    assert!(before >= NAMESPACES, "read at the end of the bulk change that created them");

    let world = world.restart(&desired);
    desired.keys().for_each(|key| world.assert_configured(key));
    // `readings` does not count the read that is part of opening a namespace, so it must not have increased.
    assert_eq!(world.machine.get().kernel.readings, before);
    assert_eq!(world.log(), []);
}
