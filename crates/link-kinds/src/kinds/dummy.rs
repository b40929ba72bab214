//! DUMMY: a link that drops what is sent through it.
//!
//! Owns its table. Must never need more than that. Start reading at [`DUMMY`].

use crate::{KindSpec, LinkKind, Module};

static DUMMY: KindSpec = KindSpec {
    // It has no neighbours that could answer (IFF_NOARP).
    detects_duplicates: false,
    module: Module {
        name: "dummy",
        option: "DUMMY",
        needed: false,
    },
    ..KindSpec::created("DUMMY", "", "dummy")
};

/// A link that drops what is sent through it.
pub(super) struct Dummy;

impl LinkKind for Dummy {
    fn spec(&self) -> &'static KindSpec {
        &DUMMY
    }
}
