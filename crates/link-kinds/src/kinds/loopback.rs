//! LOOPBACK: the link `lo` of a namespace. It exists for the lifetime of the namespace and cannot be deleted.

use crate::{KindSpec, LifeCycle, LinkKind, Mtu, MtuDefault};

static LOOPBACK: KindSpec = KindSpec {
    life_cycle: LifeCycle::Builtin("lo"),
    mtu: Mtu {
        min: 68,
        max: 65_536,
        default: MtuDefault::Is(65_536),
    },
    takes_loopback_address: true,
    detects_duplicates: false,
    can_be_port: false,
    adoptable: false,
    ..KindSpec::created("LOOPBACK", "", "")
};

/// The link `lo` of a namespace.
pub(super) struct Loopback;

impl LinkKind for Loopback {
    fn spec(&self) -> &'static KindSpec {
        &LOOPBACK
    }
}
