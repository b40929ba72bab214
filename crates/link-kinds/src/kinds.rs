//! The list of all link kinds. Each kind is defined in a file of its own. A good example is `kinds/vrf_device.rs`.

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

/// Kind of link that other programs manage. The agent only refers to links of this kind.
pub(super) static REFERRED: &dyn LinkKind = &existing::Existing;
