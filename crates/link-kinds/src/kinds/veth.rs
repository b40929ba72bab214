//! VETH: one end of a virtual Ethernet pair (drivers/net/veth.c). The other end is a separate interface.

use crate::{At, Attribute, Feature, KindSpec, LinkKind, Module, Reference, Role, Scale, Unset};

/// Attribute number VETH_INFO_PEER of linux/veth.h.
const PEER: u16 = 1;

/// Maps the field values "default" (0) and "enabled" (1) to on, and "disabled" (2) to off.
const OFFLOADING: Scale = Scale::Table(&[(0, 1), (1, 1), (2, 0)]);

static RX_CHECKSUM: Attribute = Attribute::new(
    "rx_checksum_offloading",
    "receive checksum offloading",
    At::Feature(Feature::RxChecksum),
)
.scale(OFFLOADING)
.unset(Unset::KernelDefault(1));

static TX_CHECKSUM: Attribute = Attribute::new(
    "tx_checksum_offloading",
    "transmit checksum offloading",
    At::Feature(Feature::TxChecksum),
)
.scale(OFFLOADING)
.unset(Unset::KernelDefault(1));

static VETH: KindSpec = KindSpec {
    attributes: &[&RX_CHECKSUM, &TX_CHECKSUM],
    references: &[Reference {
        field: "peer_if_name",
        role: Role::Peer { attribute: PEER },
        missing: "PeerMissing",
        missing_text: "VETH interface defined without peer reference",
        itself: Some(("PeerIsSelf", "is its own peer; name the other end of the pair")),
    }],
    module: Module {
        name: "veth",
        option: "VETH",
        needed: true,
    },
    ..KindSpec::created("VETH", "veth", "veth")
};

/// One end of a virtual Ethernet pair.
pub(super) struct Veth;

impl LinkKind for Veth {
    fn spec(&self) -> &'static KindSpec {
        &VETH
    }
}
