//! TAP_TO_VPP: the Linux side of a TAP that a packet processor has made.
//!
//! Owns its table. Must never let it be created or deleted: it is taken over under its original name, and given back under that name.
//! Start reading at [`TAP_TO_VPP`].

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

/// The Linux side of a TAP that a packet processor has made.
pub(super) struct TapToVpp;

impl LinkKind for TapToVpp {
    fn spec(&self) -> &'static KindSpec {
        &TAP_TO_VPP
    }
}
