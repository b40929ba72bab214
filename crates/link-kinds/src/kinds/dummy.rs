//! DUMMY: a link that drops all packets sent through it.

use crate::{KindSpec, LinkKind, Module};

static DUMMY: KindSpec = KindSpec {
    // A dummy link has no neighbours that could have the same address (IFF_NOARP).
    detects_duplicates: false,
    module: Module {
        name: "dummy",
        option: "DUMMY",
        needed: false,
    },
    ..KindSpec::created("DUMMY", "", "dummy")
};

/// A link that drops all packets sent through it.
pub(super) struct Dummy;

impl LinkKind for Dummy {
    fn spec(&self) -> &'static KindSpec {
        &DUMMY
    }
}
