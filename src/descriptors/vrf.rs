//! Membership of an interface in a VRF.
//!
//! Owns enslaving and releasing. Must never create the VRF device: that is an interface. Start reading at [`VrfDescriptor`].
//! Setting a master flushes the IPv6 addresses of a link (`addrconf_notify`), so addresses depend on the membership.

use models::key::{Key, TypedKey};

use super::{
    Network,
    address::derived_part,
    alias::Marks,
    applied_interface, owned,
    route::layer3_on_link,
    sharing::vrf_table,
    value::{Interface, Value, VrfMembership, interface_key},
};
use kvscheduler::{DeleteCause, Dependency, Descriptor, Refusal, Taken, Verb, View};
use netns_kernel::{KernelOp, LinkChanges};

/// Descriptor of `linux/interface/<if>/vrf/<vrf>`.
#[derive(Clone)]
pub struct VrfDescriptor {
    pub(super) marks: Marks,
}

/// Whether a key names a membership.
pub fn is_membership(key: &Key) -> bool {
    derived_part(key).is_some_and(|part| part.contains("/vrf/"))
}

/// Key of a membership.
pub fn membership_key(interface: &str, vrf: &str) -> Key {
    TypedKey::InterfaceVrf {
        interface: interface.to_owned(),
        vrf: vrf.to_owned(),
    }
    .to_key()
}

/// The membership that an interface asks for.
pub fn membership(interface: &Interface) -> Option<(Key, VrfMembership)> {
    let vrf = interface.vrf.clone()?;
    let key = membership_key(&interface.name, &vrf);
    let member = VrfMembership {
        interface: interface.name.clone(),
        vrf,
        existing: (interface.is_existing()).then(|| interface.host_name.clone()),
    };
    Some((key, member))
}

impl VrfDescriptor {
    fn set_master(&self, member: &VrfMembership, master: Option<String>, view: &View<'_, Network>) -> Vec<KernelOp> {
        let Some((interface, netns)) = applied_interface(view, &member.interface) else {
            return Vec::new();
        };
        let changes = Box::new(LinkChanges {
            master: Some(master),
            ..LinkChanges::default()
        });
        vec![KernelOp::SetLink {
            netns,
            name: interface.host_name.clone(),
            guard: owned(&self.marks),
            changes,
        }]
    }
}

impl Descriptor<Network> for VrfDescriptor {
    fn name(&self) -> &'static str {
        "linux-interface-vrf"
    }

    fn equivalent(&self, _: &Key, _: &Value, _: &Value) -> bool {
        true
    }

    fn dependencies(&self, _: &Key, value: &Value) -> Vec<Dependency> {
        let Some(member) = value.vrf_membership() else { return Vec::new() };
        let mut dependencies = vec![Dependency::key("vrf-device-is-created", interface_key(&member.vrf))];
        if let Some(host_name) = &member.existing {
            let prefix = Key::from(TypedKey::any_host_vrf_of(host_name));
            let describe = format!("VRF that {host_name} belongs to (its owner has to put it into one)");
            dependencies.push(Dependency::any_of("inserted-into-vrf-externally", vec![prefix], describe, None));
        }
        dependencies
    }

    fn create(&self, _: &Key, value: &Value, view: &View<'_, Network>) -> Result<Vec<KernelOp>, Refusal> {
        let Some(member) = value.vrf_membership() else {
            return Ok(Vec::new());
        };
        let (Some((vrf, vrf_netns)), Some((_, netns))) = (applied_interface(view, &member.vrf), applied_interface(view, &member.interface))
        else {
            return Ok(Vec::new());
        };
        if vrf_netns != netns {
            let message = format!(
                "interface {} is in {netns} but its VRF {} is in {vrf_netns}: a VRF takes only links of its own namespace; move one of the two",
                member.interface, member.vrf
            );
            return Err(Refusal {
                reason: "VrfInOtherNamespace",
                message,
            });
        }
        if vrf_table(view, vrf).is_none() {
            let message = format!(
                "interface {} is to be in VRF {}, but link {} behind {} is not a VRF device; name an interface that is one in \
                 vrf_master_interface",
                member.interface, member.vrf, vrf.host_name, member.vrf
            );
            return Err(Refusal {
                reason: "NotAVrfDevice",
                message,
            });
        }
        if let Some(host_name) = &member.existing {
            let fact = TypedKey::HostInterfaceVrf {
                host_name: host_name.clone(),
                vrf_host_name: vrf.host_name.clone(),
            }
            .to_key();
            return match view.applied(&fact) {
                Some(_) => Ok(Vec::new()),
                None => {
                    let message = format!(
                        "existing interface {host_name} is in another VRF than {}; its owner must move it",
                        vrf.host_name
                    );
                    Err(Refusal {
                        reason: "InOtherVrf",
                        message,
                    })
                }
            };
        }
        Ok(self.set_master(member, Some(vrf.host_name.clone()), view))
    }

    fn delete(&self, _: &Key, applied: &Value, _: DeleteCause, view: &View<'_, Network>) -> Vec<KernelOp> {
        match applied.vrf_membership() {
            Some(member) if member.existing.is_none() => self.set_master(member, None, view),
            _ => Vec::new(),
        }
    }

    /// The kernel takes the link down and up (`cycle_netdev` in drivers/net/vrf.c), which removes the routes and neighbours on it.
    fn takes_along(&self, _: &Key, value: &Value, _: Verb, view: &View<'_, Network>) -> Taken {
        let Some((interface, _)) = value.vrf_membership().and_then(|member| applied_interface(view, &member.interface)) else {
            return Taken::NOTHING;
        };
        let taken = layer3_on_link(interface, view).into_iter();
        Taken::Values(taken.map(|(key, _)| key.clone()).collect())
    }
}
