//! TAP_TO_VPP: the Linux side of a TAP that was created by VPP or another packet processor.
//!
//! The agent never creates or deletes this link. It finds the link by its original name and takes it over. When the link is no
//! longer desired, the agent restores the original name.

use crate::{KindSpec, LifeCycle, LinkKind, Reference, Role};

static TAP_TO_VPP: KindSpec = KindSpec {
    life_cycle: LifeCycle::TakenOver,
    references: &[Reference {
        field: "vpp_tap_if_name",
        role: Role::Original,
        missing: "TapReferenceMissing",
        missing_text: "TAP_TO_VPP interface defined without reference to VPP TAP",
        itself: None,
    }],
    adoptable: false,
    ..KindSpec::created("TAP_TO_VPP", "tap", "tun")
};

/// The Linux side of a TAP that was created by a packet processor.
pub(super) struct TapToVpp;

impl LinkKind for TapToVpp {
    fn spec(&self) -> &'static KindSpec {
        &TAP_TO_VPP
    }
}
