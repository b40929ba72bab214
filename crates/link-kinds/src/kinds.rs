//! The list of all kinds. Each kind has its own file for everything that is specific to it. A good example is
//! `kinds/vrf_device.rs`.

use super::LinkKind;

mod bridge;
mod dummy;
mod existing;
mod loopback;
mod tap_to_vpp;
mod veth;
mod vlan;
mod vrf_device;

/// All kinds, one per line.
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

/// Kind of the links that other programs manage and that the agent only refers to.
pub(super) static REFERRED: &dyn LinkKind = &existing::Existing;
