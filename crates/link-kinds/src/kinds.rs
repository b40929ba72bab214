//! All kinds. Each has a file of its own with everything that is particular to it.
//!
//! Owns the list. Must never hold a fact of one kind. Start reading at [`KINDS`], then in `kinds/vrf_device.rs`.

use super::LinkKind;

mod bridge;
mod dummy;
mod existing;
mod loopback;
mod tap_to_vpp;
mod veth;
mod vlan;
mod vrf_device;

/// All kinds, one a line.
pub static KINDS: &[&dyn LinkKind] = &[
    &veth::Veth,
    &tap_to_vpp::TapToVpp,
    &loopback::Loopback,
    &existing::Existing,
    &vrf_device::VrfDevice,
    &dummy::Dummy,
    &bridge::Bridge,
    &vlan::Vlan,
];

/// The kind of links that the agent only refers to.
pub(super) static REFERRED: &dyn LinkKind = &existing::Existing;
