//! Random configurations for histories: twenty interfaces in four namespaces, with neighbours and routes on them.
//!
//! Owns how proptest chooses: it gives numbers, of which the simulator makes values. Must never say what a value looks like; that
//! is `configuration`. Start reading at [`item`].

use proptest::prelude::*;

use crate::simulation::{
    configuration::{CREATED_PLACE, Configuration, FOREIGN_NAME, FOREIGN_PLACE, Inventory, Item, OWN_PLACE, PID, PROCESS_PLACE},
    kernel::Kernel,
    random::Random,
    tampering::Tampering,
};

/// Without Docker and a watcher of names: what is always there, or made by the agent.
const PLACES: [usize; 4] = [OWN_PLACE, FOREIGN_PLACE, CREATED_PLACE, PROCESS_PLACE];

/// Many interfaces, so that much is under way at once.
const INVENTORY: Inventory = Inventory {
    names: &[
        "w0a", "w0b", "w1a", "w1b", "w2a", "w2b", "w3a", "w3b", "w4a", "w4b", "d0", "d1", "d2", "d3", "v0", "v1", "v2", "l0", "l1", "l2",
        "b0", "n0", "n1",
    ],
    carriers: &[0, 1, 4, 10, 12, 21],
    // One loopback in one place, so that none contradicts another.
    settled: &[(17, FOREIGN_PLACE), (18, CREATED_PLACE), (19, PROCESS_PLACE)],
    without_vrf: &[],
};

/// Values in all.
pub const SLOTS: usize = INVENTORY.slots();

/// More numbers than any value is drawn with.
const NUMBERS: usize = 24;

/// The machine before the agent comes.
pub fn machine() -> Kernel {
    let mut kernel = Kernel::new();
    kernel.add_named(FOREIGN_NAME);
    kernel.start_process(PID);
    kernel
}

/// Key of a slot's value.
pub fn key(slot: usize) -> String {
    INVENTORY.key(slot)
}

/// A value for a slot.
pub fn item(slot: usize) -> impl Strategy<Value = Item> {
    prop::array::uniform::<_, NUMBERS>(any::<u32>())
        .prop_map(move |numbers| INVENTORY.item(slot, &PLACES, &mut Random::given(numbers.into())))
}

/// A configuration in which about three of four slots are used.
pub fn configuration() -> impl Strategy<Value = Configuration> {
    let slots: Vec<_> = (0..SLOTS).map(|slot| prop::option::weighted(0.75, item(slot))).collect();
    slots.prop_map(|items| items.into_iter().flatten().map(|item| (item.key(), item)).collect())
}

/// Something that others do; the number chooses to what.
pub fn tampering() -> impl Strategy<Value = (Tampering, usize)> {
    (prop::sample::select(&Tampering::ALL[..]), 0..1000usize)
}
