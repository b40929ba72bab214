//! Tables that describe the Linux link kinds supported by the agent.
//!
//! Each kind is described by a [`KindSpec`]: names, ranges, defaults, kernel attributes, references to other interfaces, and how
//! each setting is changed. Rules that do not fit into a table are methods of [`LinkKind`]. A [`Link`] is a kind together with
//! its settings. The crate does no I/O. It describes links with numbers and bytes.
//!
//! To add a kind, add one file to `kinds/` and one line to [`KINDS`]. No other code names a kind. Validation, creation,
//! modification, read-back, adoption, the detection of orphans, the APIs and the doctor all loop over these tables.

mod bridging;
mod check;
mod kinds;
mod link;
mod settings;
mod spec;

pub use bridging::{Port, PortSpec, VlanRange};
pub use check::{Given, Invalid};
pub use kinds::KINDS;
pub use link::Link;
pub use settings::{Attr, Difference, Observed, Settings, Table, changes};
pub use spec::{
    At, Attribute, Change, Feature, KindSpec, LifeCycle, LinkKind, Module, Mtu, MtuDefault, Reference, Role, Scale, Unique, Unset, Wire,
};

/// Returns the kind with this `Interface.Type` name, such as `VETH`.
pub fn by_type(name: &str) -> Option<&'static dyn LinkKind> {
    KINDS.iter().copied().find(|kind| kind.spec().type_name == name)
}

/// Returns the kind with this IFLA_INFO_KIND, such as `veth`. Searches only the kinds of links that the agent creates or takes
/// over.
pub fn by_info_kind(info_kind: &str) -> Option<&'static dyn LinkKind> {
    let has_it = |kind: &&dyn LinkKind| !info_kind.is_empty() && kind.spec().info_kind == info_kind;
    KINDS.iter().copied().find(has_it)
}

/// Returns the kind of an observed link. A link without IFLA_INFO_KIND is recognised by its name.
pub fn of_link(info_kind: &str, name: &str) -> Option<&'static dyn LinkKind> {
    let builtin = |kind: &&dyn LinkKind| matches!(kind.spec().life_cycle, LifeCycle::Builtin(always) if always == name);
    match info_kind {
        "" => KINDS.iter().copied().find(builtin),
        _ => by_info_kind(info_kind),
    }
}

/// Returns the kind for links that other programs manage. The agent only refers to these links.
pub fn referred() -> &'static dyn LinkKind {
    kinds::REFERRED
}

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadMe;
