//! VLAN: a VLAN subinterface of another interface (net/8021q, IEEE 802.1Q and 802.1ad).

use crate::{At, Attribute, KindSpec, LinkKind, Module, Mtu, MtuDefault, Reference, Role, Scale, Unique, Unset, Wire};

// Attribute numbers are the IFLA_VLAN_* constants in linux/if_link.h. Flags are the VLAN_FLAG_* constants in linux/if_vlan.h.

static ID: Attribute = Attribute::new("id", "VLAN id", At::Info(1, Wire::U16))
    .range(1, 4_094)
    .unset(Unset::Required)
    .immutable();

/// The field values 0 and 1 stand for ETH_P_8021Q (0x8100) and ETH_P_8021AD (0x88a8).
static PROTOCOL: Attribute = Attribute::new("protocol", "VLAN protocol", At::Info(5, Wire::Be16))
    .scale(Scale::Table(&[(0, 0x8100), (1, 0x88a8)]))
    .unset(Unset::KernelDefault(0x8100))
    .immutable();

static LOOSE_BINDING: Attribute = Attribute::switch("loose_binding", "loose binding", At::Info(2, Wire::Flag(4)));

static REORDER_HEADERS: Attribute =
    Attribute::switch("reorder_headers", "header reordering", At::Info(2, Wire::Flag(1))).unset(Unset::LeftAlone(1));

static VLAN: KindSpec = KindSpec {
    attributes: &[&ID, &PROTOCOL, &LOOSE_BINDING, &REORDER_HEADERS],
    references: &[Reference {
        field: "parent_if_name",
        role: Role::Parent {
            up_unless: Some(&LOOSE_BINDING),
        },
        missing: "ParentMissing",
        missing_text: "VLAN interface defined without a parent; set parent_if_name",
        itself: Some((
            "ParentIsSelf",
            "is its own parent; name the interface that carries the tagged frames",
        )),
    }],
    unique: Some(Unique {
        reason: "VlanTaken",
        title: "VLAN id",
        of: &[&ID, &PROTOCOL],
    }),
    // By default, the kernel uses the parent's MTU, which is also the maximum.
    mtu: Mtu {
        default: MtuDefault::LeftAlone,
        ..Mtu::ETHERNET
    },
    module: Module {
        name: "8021q",
        option: "VLAN_8021Q",
        needed: false,
    },
    ..KindSpec::created("VLAN", "vlan", "vlan")
};

/// A VLAN subinterface of another interface.
pub(super) struct Vlan;

impl LinkKind for Vlan {
    fn spec(&self) -> &'static KindSpec {
        &VLAN
    }
}
