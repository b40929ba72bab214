//! Static neighbour entries (ARP for IPv4, neighbour discovery for IPv6).
//!
//! Owns setting and removing. Must never touch entries that the kernel learned. Start reading at [`ArpDescriptor`].

use models::{
    address::MacAddress,
    key::{Key, TypedKey},
};

use super::{
    Network,
    address::{addresses_prefix, allocation_key},
    alias::Marks,
    applied_interface, guard_of,
    observed::observed_prefix,
    value::Value,
};
use crate::scheduler::{Claim, DeleteCause, Dependency, Descriptor, Refusal, View};
use netns_kernel::KernelOp;

/// Descriptor of `config/linux/l3/v2/arp/<interface>/<address>`.
#[derive(Clone)]
pub struct ArpDescriptor {
    pub(super) marks: Marks,
}

impl ArpDescriptor {
    fn set(&self, value: &Value, view: &View<'_, Network>) -> Vec<KernelOp> {
        let Some(arp) = value.arp() else { return Vec::new() };
        let (Some(address), Some((interface, netns))) = (arp.address, applied_interface(view, &arp.interface)) else {
            return Vec::new();
        };
        vec![KernelOp::SetNeighbour {
            netns,
            link: interface.host_name.clone(),
            guard: guard_of(&self.marks, interface),
            address,
            mac: arp.mac,
            adopt: arp.adopt,
        }]
    }
}

/// Key of the property that an interface is up.
pub fn up_key(interface: &str) -> Key {
    TypedKey::InterfaceState {
        name: interface.to_owned(),
        up: true,
    }
    .to_key()
}

impl Descriptor<Network> for ArpDescriptor {
    fn name(&self) -> &'static str {
        "linux-arp"
    }

    fn equivalent(&self, _: &Key, applied: &Value, wanted: &Value) -> bool {
        match (applied.arp(), wanted.arp()) {
            (Some(applied), Some(wanted)) => (applied.address, applied.mac) == (wanted.address, wanted.mac),
            _ => false,
        }
    }

    fn difference(&self, found: &Value, wanted: &Value) -> String {
        let mac = |value: &Value| value.arp().map(|arp| MacAddress(arp.mac).to_string()).unwrap_or_default();
        format!("its MAC address is {} instead of {}", mac(found), mac(wanted))
    }

    fn settled(&self, applied: &Value, wanted: &Value) -> Value {
        wanted.with_adopted(applied.is_adopted())
    }

    fn needs_recreate(&self, _: &Key, applied: &Value, wanted: &Value) -> bool {
        applied.arp().map(|arp| arp.address) != wanted.arp().map(|arp| arp.address)
    }

    fn dependencies(&self, _: &Key, value: &Value) -> Vec<Dependency> {
        let Some(arp) = value.arp() else { return Vec::new() };
        let describe = format!("IP address of interface {}", arp.interface);
        let addresses = vec![addresses_prefix(&arp.interface), observed_prefix(&arp.interface)];
        let mut dependencies = vec![
            Dependency::key("interface-is-up", up_key(&arp.interface)).outlived(),
            Dependency::any_of("interface-has-ip-address", addresses, describe, None).outlived(),
        ];
        if arp.address.is_none() {
            dependencies.push(Dependency::key(arp.text.to_string(), allocation_key(&arp.text, &arp.interface)));
        }
        dependencies
    }

    /// The kernel knows one neighbour per address and link, and several interfaces may be EXISTING on one link.
    fn claims(&self, _: &Key, value: &Value, view: &View<'_, Network>) -> Vec<Claim> {
        let Some(arp) = value.arp() else { return Vec::new() };
        let on = applied_interface(view, &arp.interface).zip(arp.address);
        let name = on.map(|((interface, netns), address)| format!("neighbour {address} on link {} in {netns}", interface.host_name));
        name.map(|name| Claim {
            name,
            reason: "NeighbourConflict",
        })
        .into_iter()
        .collect()
    }

    fn create(&self, _: &Key, value: &Value, view: &View<'_, Network>) -> Result<Vec<KernelOp>, Refusal> {
        Ok(self.set(value, view))
    }

    fn update(&self, _: &Key, _: &Value, wanted: &Value, view: &View<'_, Network>) -> Result<Vec<KernelOp>, Refusal> {
        Ok(self.set(wanted, view))
    }

    fn delete(&self, _: &Key, applied: &Value, _: DeleteCause, view: &View<'_, Network>) -> Vec<KernelOp> {
        let Some(arp) = applied.arp() else { return Vec::new() };
        let (Some(address), Some((interface, netns))) = (arp.address, applied_interface(view, &arp.interface)) else {
            return Vec::new();
        };
        vec![KernelOp::DeleteNeighbour {
            netns,
            link: interface.host_name.clone(),
            guard: guard_of(&self.marks, interface),
            address,
        }]
    }
}
