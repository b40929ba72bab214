//! VLANs of bridges and bridge ports. Each VLAN range is a separate value.
//!
//! All VLANs of a managed bridge or port are read back as values. The scheduler deletes the values that are not desired.

use std::sync::Arc;

use link_kinds::VlanRange;
use models::key::{Key, TypedKey};

use super::{
    Effect, Network,
    address::derived_part,
    alias::Marks,
    guard_of,
    kind::{Kind, of_one_type},
    off_link, on_link,
    value::{BridgeVlan, Value},
};
use crate::scheduler::{Comparison, DeleteCause, Difference, Refusal, View};
use netns_kernel::KernelOp;

/// Descriptor of `linux/interface/<if>//vlan/<vid>[-<last vid>]`.
#[derive(Clone)]
pub struct BridgeVlanKind {
    pub(super) marks: Marks,
}

/// Returns whether a key names a VLAN range of a bridge or port.
pub fn is_bridge_vlan(key: &Key) -> bool {
    derived_part(key).is_some_and(|part| part.contains("//vlan/"))
}

/// Returns the key of a VLAN range of an interface.
pub fn bridge_vlan_key(interface: &str, range: &VlanRange) -> Key {
    TypedKey::InterfaceVlan {
        interface: interface.to_owned(),
        vlans: range.id(),
    }
    .to_key()
}

/// Returns VLAN ranges as values of an interface. `itself` is true if the interface is the bridge itself, not a port.
pub fn values(interface: &str, ranges: &[VlanRange], itself: bool) -> Vec<(Key, Value)> {
    let value = |range: &VlanRange| {
        let vlan = BridgeVlan {
            interface: interface.to_owned(),
            range: *range,
            itself,
        };
        (bridge_vlan_key(interface, range), Value::BridgeVlan(vlan.into()))
    };
    ranges.iter().map(value).collect()
}

impl BridgeVlanKind {
    fn set(&self, vlan: &BridgeVlan, view: &View<'_, Network>, present: bool) -> Effect {
        let VlanRange {
            first,
            last,
            pvid,
            untagged,
        } = vlan.range;
        on_link(view, &vlan.interface, |interface, netns| {
            Effect::one(KernelOp::SetBridgeVlan {
                netns,
                link: interface.host_name.clone(),
                guard: guard_of(&self.marks, interface),
                vlan: netns_kernel::BridgeVlan {
                    link: 0,
                    first,
                    last,
                    pvid,
                    untagged,
                },
                itself: vlan.itself,
                present,
            })
        })
    }
}

impl Kind for BridgeVlanKind {
    of_one_type!(BridgeVlan, Arc<BridgeVlan>);

    const NAME: &'static str = "linux-interface-vlan";

    fn compare(&self, applied: &Arc<BridgeVlan>, desired: &Arc<BridgeVlan>) -> Comparison {
        if applied == desired {
            return Comparison::same();
        }
        let VlanRange { pvid, untagged, .. } = desired.range;
        let pvid = if pvid { "the PVID and " } else { "" };
        let untagged = if untagged { "untagged" } else { "tagged" };
        Difference::again(format!("VLAN {} is not {pvid}{untagged}", desired.range.id())).into()
    }

    fn create(&self, desired: &Arc<BridgeVlan>, view: &View<'_, Network>) -> Result<Effect, Refusal> {
        Ok(self.set(desired, view, true))
    }

    fn delete(&self, applied: &Arc<BridgeVlan>, _: DeleteCause, view: &View<'_, Network>) -> Effect {
        off_link(view, &applied.interface, |_, _| self.set(applied, view, false))
    }
}
