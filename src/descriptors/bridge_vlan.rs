//! VLANs of a bridge or of one of its ports, each range a value of its own.
//!
//! Owns giving and taking them. Must never touch a VLAN that no model names. Start reading at [`BridgeVlanDescriptor`].

use link_kinds::VlanRange;
use models::key::{Key, TypedKey};

use super::{
    Network,
    address::derived_part,
    alias::Marks,
    applied_interface, guard_of,
    value::{BridgeVlan, Value},
};
use crate::scheduler::{DeleteCause, Dependency, Descriptor, Refusal, View};
use netns_kernel::KernelOp;

/// Descriptor of `linux/interface/<if>//vlan/<vid>[-<last vid>]`.
#[derive(Clone)]
pub struct BridgeVlanDescriptor {
    pub(super) marks: Marks,
}

/// Whether a key names a VLAN of a bridge or a port.
pub fn is_bridge_vlan(key: &Key) -> bool {
    derived_part(key).is_some_and(|part| part.contains("//vlan/"))
}

/// Key of a range of VLANs of an interface.
pub fn bridge_vlan_key(interface: &str, range: &VlanRange) -> Key {
    TypedKey::InterfaceVlan {
        interface: interface.to_owned(),
        vlans: range.id(),
    }
    .to_key()
}

/// The VLANs of an interface as values. `itself`: it is a bridge.
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

fn operation(marks: &Marks, value: &Value, view: &View<'_, Network>, present: bool) -> Vec<KernelOp> {
    let Some(vlan) = value.bridge_vlan() else { return Vec::new() };
    let Some((interface, netns)) = applied_interface(view, &vlan.interface) else {
        return Vec::new();
    };
    let VlanRange {
        first,
        last,
        pvid,
        untagged,
    } = vlan.range;
    vec![KernelOp::SetBridgeVlan {
        netns,
        link: interface.host_name.clone(),
        guard: guard_of(marks, interface),
        vlan: netns_kernel::BridgeVlan {
            link: 0,
            first,
            last,
            pvid,
            untagged,
        },
        itself: vlan.itself,
        present,
    }]
}

impl Descriptor<Network> for BridgeVlanDescriptor {
    fn name(&self) -> &'static str {
        "linux-interface-vlan"
    }

    fn equivalent(&self, _: &Key, applied: &Value, wanted: &Value) -> bool {
        applied == wanted
    }

    fn difference(&self, _: &Value, wanted: &Value) -> String {
        let range = wanted.bridge_vlan().map(|vlan| vlan.range);
        range.map_or_else(
            || "it was changed".to_owned(),
            |range| {
                format!(
                    "VLAN {} is not {}{}",
                    range.id(),
                    if range.pvid { "the PVID and " } else { "" },
                    if range.untagged { "untagged" } else { "tagged" }
                )
            },
        )
    }

    fn dependencies(&self, _: &Key, _: &Value) -> Vec<Dependency> {
        Vec::new()
    }

    fn create(&self, _: &Key, value: &Value, view: &View<'_, Network>) -> Result<Vec<KernelOp>, Refusal> {
        Ok(operation(&self.marks, value, view, true))
    }

    /// The kernel replaces the flags of a VLAN that is there.
    fn update(&self, _: &Key, _: &Value, wanted: &Value, view: &View<'_, Network>) -> Result<Vec<KernelOp>, Refusal> {
        Ok(operation(&self.marks, wanted, view, true))
    }

    fn delete(&self, _: &Key, applied: &Value, _: DeleteCause, view: &View<'_, Network>) -> Vec<KernelOp> {
        operation(&self.marks, applied, view, false)
    }
}
