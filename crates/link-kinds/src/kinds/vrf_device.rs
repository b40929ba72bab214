//! VRF_DEVICE: a device for virtual routing and forwarding (drivers/net/vrf.c, Documentation/networking/vrf.rst).

use crate::{At, Attribute, Given, Invalid, KindSpec, LinkKind, Module, Mtu, MtuDefault, Unset, Wire};

/// Routing tables that the kernel reserves: default, main and local (rtnetlink(7)).
const RESERVED_TABLES: std::ops::RangeInclusive<u32> = 253..=255;

/// Attribute number IFLA_VRF_TABLE of linux/if_link.h.
static TABLE: Attribute = Attribute::new("routing_table", "routing table", At::Info(1, Wire::U32))
    .unset(Unset::Required)
    .immutable();

static VRF_DEVICE: KindSpec = KindSpec {
    title: "VRF device",
    attributes: &[&TABLE],
    // The limits are `IPV6_MIN_MTU` and `IP6_MAX_MTU` of the kernel.
    mtu: Mtu {
        min: 1_280,
        max: 65_575,
        default: MtuDefault::LeftAlone,
    },
    mac: false,
    can_be_in_vrf: false,
    can_be_port: false,
    // Lets sockets that are not bound to a VRF accept connections from all VRFs.
    sysctls: &[("net.ipv4.tcp_l3mdev_accept", "1")],
    routing_table: Some(&TABLE),
    takes_loopback_address: true,
    detects_duplicates: false,
    module: Module {
        name: "vrf",
        option: "NET_VRF",
        needed: false,
    },
    ..KindSpec::created("VRF_DEVICE", "vrf_dev", "vrf")
};

/// A device for virtual routing and forwarding.
pub(super) struct VrfDevice;

impl LinkKind for VrfDevice {
    fn spec(&self) -> &'static KindSpec {
        &VRF_DEVICE
    }

    fn check(&self, given: &Given<'_>) -> Result<(), Invalid> {
        let table = given.link.map(|_| given.number("routing_table").unwrap_or_default());
        match table {
            Some(table) if table == 0 || RESERVED_TABLES.contains(&table) => {
                let message = format!("a VRF cannot use routing table {table}; expected a number greater than 0, except 253, 254 and 255");
                Err(Invalid::new("RoutingTableInvalid", &["routing_table"], message))
            }
            _ => Ok(()),
        }
    }
}
