//! Static neighbour entries (ARP for IPv4, neighbour discovery for IPv6).
//!
//! Never changes or deletes entries that the kernel learned.

use std::{net::IpAddr, sync::Arc};

use models::{
    address::MacAddress,
    key::{Key, TypedKey},
};

use super::{
    Effect, Network,
    address::{addresses_prefix, allocation_key},
    address_facts::observed_prefix,
    alias::Marks,
    applied_interface, guard_of,
    kind::{Kind, of_two_types},
    off_link, on_link,
    value::{Applied, Arp, Desired, Interface, Value},
};
use crate::scheduler::{Claim, Comparison, DeleteCause, Dependency, Difference, Refusal, View};
use netns_kernel::{KernelOp, NetnsId};

/// Descriptor of `config/linux/l3/v2/arp/<interface>/<address>`.
#[derive(Clone)]
pub struct ArpKind {
    pub(super) marks: Marks,
}

/// Returns the effect of an operation on a neighbour.
fn operation(arp: &Arp, view: &View<'_, Network>, make: impl FnOnce(NetnsId, &Interface, IpAddr) -> KernelOp) -> Effect {
    let Some(address) = arp.address else {
        return Effect::Impossible(format!("no address was allocated for {}", arp.text));
    };
    on_link(view, &arp.interface, |interface, netns| {
        Effect::one(make(netns, interface, address))
    })
}

impl ArpKind {
    fn set(&self, desired: &Desired<Arp>, view: &View<'_, Network>) -> Effect {
        operation(&desired.value, view, |netns, interface, address| KernelOp::SetNeighbour {
            netns,
            link: interface.host_name.clone(),
            guard: guard_of(&self.marks, interface),
            address,
            mac: desired.value.mac,
            adopt: desired.terms.adopt,
        })
    }
}

/// Returns the key of the derived value that exists while an interface is enabled.
pub fn up_key(interface: &str) -> Key {
    TypedKey::InterfaceState {
        name: interface.to_owned(),
        up: true,
    }
    .to_key()
}

impl Kind for ArpKind {
    of_two_types!(Arp(Arc<Desired<Arp>>), AppliedArp(Applied<Arp>), arp(Arp));

    const NAME: &'static str = "linux-arp";

    fn compare(&self, applied: &Applied<Arp>, desired: &Arc<Desired<Arp>>) -> Comparison {
        let (applied, desired) = (applied.value(), &desired.value);
        let mac = |arp: &Arp| MacAddress(arp.mac);
        [
            (applied.address != desired.address).then(|| Difference::again("the IP address differs")),
            (applied.mac != desired.mac)
                .then(|| Difference::in_place(format!("the MAC address is {} instead of {}", mac(applied), mac(desired)))),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    fn as_applied(&self, former: Option<&Applied<Arp>>, desired: &Arc<Desired<Arp>>) -> Applied<Arp> {
        Applied::of(desired, former)
    }

    fn dependencies(&self, arp: &Arp) -> Vec<Dependency> {
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

    /// Claims the address on the link, because the kernel has only one neighbour per address and link, and several EXISTING
    /// interfaces may share a link.
    fn claims(&self, arp: &Arp, view: &View<'_, Network>) -> Vec<Claim> {
        let on = applied_interface(view, &arp.interface).zip(arp.address);
        let name = on.map(|((interface, netns), address)| format!("neighbour {address} on link {} in {netns}", interface.host_name));
        name.map(|name| Claim {
            name,
            reason: "NeighbourConflict",
        })
        .into_iter()
        .collect()
    }

    fn create(&self, desired: &Arc<Desired<Arp>>, view: &View<'_, Network>) -> Result<Effect, Refusal> {
        Ok(self.set(desired, view))
    }

    fn update(&self, _: &Applied<Arp>, desired: &Arc<Desired<Arp>>, view: &View<'_, Network>) -> Result<Effect, Refusal> {
        Ok(self.set(desired, view))
    }

    fn delete(&self, applied: &Applied<Arp>, _: DeleteCause, view: &View<'_, Network>) -> Effect {
        let applied = applied.value();
        off_link(view, &applied.interface, |_, _| {
            operation(applied, view, |netns, interface, address| KernelOp::DeleteNeighbour {
                netns,
                link: interface.host_name.clone(),
                guard: guard_of(&self.marks, interface),
                address,
            })
        })
    }
}
