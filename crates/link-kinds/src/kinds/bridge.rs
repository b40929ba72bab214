//! BRIDGE: an Ethernet switch (net/bridge, IEEE 802.1D and 802.1Q) and its port settings.
//!
//! A bridge does not list its ports. Each port names its bridge instead.

use crate::{At, Attribute, Given, Invalid, KindSpec, LinkKind, Module, Mtu, MtuDefault, PortSpec, Scale, Unset, Wire};

// Attribute numbers are the IFLA_BR_* constants in linux/if_link.h. The kernel stores times in units of 10 ms and rounds them to
// its timer tick.

static VLAN_FILTERING: Attribute = Attribute::switch("vlan_filtering", "VLAN filtering", At::Info(7, Wire::U8));
/// The field values 0 and 1 stand for ETH_P_8021Q (0x8100) and ETH_P_8021AD (0x88a8).
static VLAN_PROTOCOL: Attribute = Attribute::new("vlan_protocol", "VLAN protocol", At::Info(8, Wire::Be16))
    .scale(Scale::Table(&[(0, 0x8100), (1, 0x88a8)]))
    .unset(Unset::KernelDefault(0x8100))
    .only_with(&VLAN_FILTERING);
static VLAN_DEFAULT_PVID: Attribute = Attribute::new("vlan_default_pvid", "default PVID", At::Info(39, Wire::U16))
    .range(0, 4_094)
    .unset(Unset::AgentDefault(0))
    .only_with(&VLAN_FILTERING);
static STP: Attribute = Attribute::switch("stp", "spanning tree protocol", At::Info(5, Wire::U32));
static PRIORITY: Attribute = Attribute::new("priority", "bridge priority", At::Info(6, Wire::U16))
    .range(1, 65_535)
    .unset(Unset::LeftAlone(32_768));
static FORWARD_DELAY: Attribute = Attribute::new("forward_delay_ms", "forward delay in ms", At::Info(1, Wire::U32))
    .scale(Scale::Over(10))
    .range(2_000, 30_000)
    .rounded(1)
    .unset(Unset::LeftAlone(1_500));
static HELLO_TIME: Attribute = Attribute::new("hello_time_ms", "hello time in ms", At::Info(2, Wire::U32))
    .scale(Scale::Over(10))
    .range(1_000, 10_000)
    .rounded(1)
    .unset(Unset::LeftAlone(200));
static MAX_AGE: Attribute = Attribute::new("max_age_ms", "maximum age in ms", At::Info(3, Wire::U32))
    .scale(Scale::Over(10))
    .range(6_000, 40_000)
    .rounded(1)
    .unset(Unset::LeftAlone(2_000));
static AGEING_TIME: Attribute = Attribute::new("ageing_time_s", "ageing time in s", At::Info(4, Wire::U32))
    .scale(Scale::Times(100))
    .range(1, 1_000_000)
    .rounded(1)
    .unset(Unset::LeftAlone(30_000));
static MCAST_SNOOPING: Attribute =
    Attribute::switch("mcast_snooping", "multicast snooping", At::Info(23, Wire::U8)).unset(Unset::LeftAlone(1));
static MCAST_QUERIER: Attribute = Attribute::switch("mcast_querier", "multicast querier", At::Info(25, Wire::U8));
static GROUP_FWD_MASK: Attribute = Attribute::new("group_fwd_mask", "group forwarding mask", At::Info(9, Wire::U16)).range(0, 65_535);

// Attribute numbers are the IFLA_BRPORT_* constants in linux/if_link.h.

static ISOLATED: Attribute = Attribute::switch("isolated", "isolation", At::Info(33, Wire::U8));
static HAIRPIN: Attribute = Attribute::switch("hairpin", "hairpin mode", At::Info(4, Wire::U8));
static LEARNING: Attribute = Attribute::switch("learning", "learning", At::Info(8, Wire::U8)).unset(Unset::LeftAlone(1));
static UNICAST_FLOOD: Attribute = Attribute::switch("unicast_flood", "unicast flooding", At::Info(9, Wire::U8)).unset(Unset::LeftAlone(1));
/// If the path cost is not set, the kernel derives it from the link speed. For a veth (10 Gbit/s), the cost is 2.
static PATH_COST: Attribute = Attribute::new("path_cost", "path cost", At::Info(3, Wire::U32))
    .range(1, 65_535)
    .unset(Unset::LeftAlone(2));
static PORT_PRIORITY: Attribute = Attribute::new("priority", "port priority", At::Info(2, Wire::U16))
    .range(0, 63)
    .unset(Unset::LeftAlone(32));
static BPDU_GUARD: Attribute = Attribute::switch("bpdu_guard", "BPDU guard", At::Info(5, Wire::U8));
static ROOT_BLOCK: Attribute = Attribute::switch("root_block", "root block", At::Info(6, Wire::U8));
static NEIGH_SUPPRESS: Attribute = Attribute::switch("neigh_suppress", "neighbour suppression", At::Info(32, Wire::U8));

static PORTS: PortSpec = PortSpec {
    member: "bridge_port",
    attributes: &[
        &ISOLATED,
        &HAIRPIN,
        &LEARNING,
        &UNICAST_FLOOD,
        &PATH_COST,
        &PORT_PRIORITY,
        &BPDU_GUARD,
        &ROOT_BLOCK,
        &NEIGH_SUPPRESS,
    ],
    default_vlan: Some(&VLAN_DEFAULT_PVID),
    vlans: Some("vlans"),
};

static BRIDGE: KindSpec = KindSpec {
    attributes: &[
        &VLAN_FILTERING,
        &VLAN_PROTOCOL,
        &VLAN_DEFAULT_PVID,
        &STP,
        &PRIORITY,
        &FORWARD_DELAY,
        &HELLO_TIME,
        &MAX_AGE,
        &AGEING_TIME,
        &MCAST_SNOOPING,
        &MCAST_QUERIER,
        &GROUP_FWD_MASK,
    ],
    ports: Some(&PORTS),
    own_vlans: Some("self_vlans"),
    // By default, the kernel uses the smallest MTU of the bridge's ports.
    mtu: Mtu {
        default: MtuDefault::LeftAlone,
        ..Mtu::ETHERNET
    },
    can_be_port: false,
    module: Module {
        name: "bridge",
        option: "BRIDGE",
        needed: false,
    },
    ..KindSpec::created("BRIDGE", "bridge", "bridge")
};

/// An Ethernet switch.
pub(super) struct Bridge;

impl LinkKind for Bridge {
    fn spec(&self) -> &'static KindSpec {
        &BRIDGE
    }

    fn check(&self, given: &Given<'_>) -> Result<(), Invalid> {
        // Bits 0 to 2 stand for STP, pause and link aggregation frames, which a bridge must not forward
        // (`BR_GROUPFWD_RESTRICTED`).
        let mask = given.number("group_fwd_mask").unwrap_or_default();
        match mask & 0x7 {
            0 => Ok(()),
            _ => {
                let message =
                    format!("the group forwarding mask {mask} has one of the bits 0 to 2 set, which the kernel rejects; clear these bits");
                Err(Invalid::new("SettingOutOfRange", &["group_fwd_mask"], message))
            }
        }
    }
}
