//! The kinds of links: for each a table of its settings, and what no table can say in a few functions.
//!
//! Owns everything that is particular to a kind of link: names, ranges, defaults, the attributes of the kernel, what it refers to, how
//! each setting changes. Must never name a kind outside of `kinds/`, nor look at a system: links are described by numbers and bytes.
//! Start reading at [`KindSpec`], then `kinds/vlan.rs`, and [`Link`], which is a kind with its settings.
//!
//! A new kind is one file below `kinds/` and one line in [`KINDS`]. Validation, creation, change, reading back, adoption, orphans, the
//! APIs and the doctor are loops over these tables.

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

/// The kind with this name of its `Interface.Type`, such as `VETH`.
pub fn by_type(name: &str) -> Option<&'static dyn LinkKind> {
    KINDS.iter().copied().find(|kind| kind.spec().type_name == name)
}

/// The kind whose links the agent creates or takes over and the kernel reports with this IFLA_INFO_KIND, such as `veth`.
pub fn by_info_kind(info_kind: &str) -> Option<&'static dyn LinkKind> {
    let has_it = |kind: &&dyn LinkKind| !info_kind.is_empty() && kind.spec().info_kind == info_kind;
    KINDS.iter().copied().find(has_it)
}

/// The kind of a link that the kernel describes so: by IFLA_INFO_KIND, else by name.
pub fn of_link(info_kind: &str, name: &str) -> Option<&'static dyn LinkKind> {
    let builtin = |kind: &&dyn LinkKind| matches!(kind.spec().life_cycle, LifeCycle::Builtin(always) if always == name);
    match info_kind {
        "" => KINDS.iter().copied().find(builtin),
        _ => by_info_kind(info_kind),
    }
}

/// The kind of links that the agent only refers to.
pub fn referred() -> &'static dyn LinkKind {
    kinds::REFERRED
}

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadMe;
