//! Proptest strategies for configurations: about twenty interfaces in four namespaces, with neighbours and routes on them.
//!
//! Proptest generates numbers; `configuration` turns them into values.

use proptest::prelude::*;

use crate::simulation::{
    configuration::{CREATED_PLACE, Configuration, FOREIGN_NAME, FOREIGN_PLACE, Inventory, Item, OWN_PLACE, PID, PROCESS_PLACE},
    kernel::Kernel,
    random::Random,
    tampering::Tampering,
};

/// Numbers that stand for the namespaces of the generated interfaces. These tests have neither Docker nor a watcher for names, so
/// each of these namespaces must exist from the beginning or be created by the agent.
const PLACES: [usize; 4] = [OWN_PLACE, FOREIGN_PLACE, CREATED_PLACE, PROCESS_PLACE];

/// Values that a configuration can contain. They include many interfaces, so that many operations are in flight at once.
const INVENTORY: Inventory = Inventory {
    names: &[
        "w0a", "w0b", "w1a", "w1b", "w2a", "w2b", "w3a", "w3b", "w4a", "w4b", "d0", "d1", "d2", "d3", "v0", "v1", "v2", "l0", "l1", "l2",
        "b0", "n0", "n1",
    ],
    carriers: &[0, 1, 4, 10, 12, 21],
    // Each `lo` interface is in a different namespace, so that no two of them conflict.
    settled: &[(17, FOREIGN_PLACE), (18, CREATED_PLACE), (19, PROCESS_PLACE)],
    without_vrf: &[],
};

/// Number of values that a configuration can contain.
pub const SLOTS: usize = INVENTORY.slots();

/// Count of random numbers that are generated for each value. No value needs more.
const NUMBERS: usize = 24;

/// Returns the machine before the agent starts.
pub fn machine() -> Kernel {
    let mut kernel = Kernel::new();
    kernel.add_named(FOREIGN_NAME);
    kernel.start_process(PID);
    kernel
}

/// Returns the key of the value with the number `slot`.
pub fn key(slot: usize) -> String {
    INVENTORY.key(slot)
}

/// Generates versions of the value with the number `slot`.
pub fn item(slot: usize) -> impl Strategy<Value = Item> {
    prop::array::uniform::<_, NUMBERS>(any::<u32>())
        .prop_map(move |numbers| INVENTORY.item(slot, &PLACES, &mut Random::given(numbers.into())))
}

/// Generates a configuration that contains about three quarters of all possible values.
pub fn configuration() -> impl Strategy<Value = Configuration> {
    let slots: Vec<_> = (0..SLOTS).map(|slot| prop::option::weighted(0.75, item(slot))).collect();
    slots.prop_map(|items| items.into_iter().flatten().map(|item| (item.key(), item)).collect())
}

/// Generates a kind of tampering, and the number that selects the object to tamper with.
pub fn tampering() -> impl Strategy<Value = (Tampering, usize)> {
    (prop::sample::select(&Tampering::ALL[..]), 0..1000usize)
}
