//! EXISTING: a link in the agent's own namespace that another program manages.
//!
//! The agent refers to the link but never creates, changes or deletes it.

use crate::{Given, Invalid, KindSpec, LifeCycle, LinkKind, Mtu, MtuDefault};

static EXISTING: KindSpec = KindSpec {
    life_cycle: LifeCycle::Referred,
    mtu: Mtu {
        default: MtuDefault::LeftAlone,
        ..Mtu::ETHERNET
    },
    takes_loopback_address: true,
    adoptable: false,
    ..KindSpec::created("EXISTING", "", "")
};

/// A link in the agent's own namespace that another program manages.
pub(super) struct Existing;

impl LinkKind for Existing {
    fn spec(&self) -> &'static KindSpec {
        &EXISTING
    }

    fn check(&self, given: &Given<'_>) -> Result<(), Invalid> {
        if given.has_link {
            return Err(Invalid::link_mismatch(EXISTING.type_name));
        }
        if given.has_namespace {
            let message = "EXISTING interface defined with namespace";
            return Err(Invalid::new("NamespaceNotSupported", &["namespace"], message));
        }
        match given.alloc_reference.filter(|_| given.link_only) {
            None => Ok(()),
            Some(index) => Err(Invalid::new(
                "AllocReferenceNotSupported",
                &["type", "link_only", &format!("ip_addresses[{index}]")],
                "it is not supported to reference EXISTING-IP via netalloc",
            )),
        }
    }
}
