//! Membership of an interface in a master, which is a VRF device or a bridge.
//!
//! Adds interfaces to masters, removes them, and applies port settings. The master is itself an interface with its own value.
//!
//! The kernel flushes the IPv6 addresses of a link that enters a VRF (`addrconf_notify`), so the addresses of an interface depend
//! on its VRF membership.

use std::sync::Arc;

use link_kinds::{Difference, Port};
use models::key::{Key, TypedKey};

use super::{
    Effect, Network,
    address::derived_part,
    alias::Marks,
    applied_interface, guard_of,
    kind::{Kind, of_one_type},
    link, off_link, on_link,
    route::layer3_on_link,
    sharing::vrf_table,
    value::{Interface, Membership, Role, Value, interface_key},
};
use crate::scheduler::{Comparison, DeleteCause, Dependency, Refusal, Taken, Verb, View};
use netns_kernel::{KernelOp, LinkChanges, LinkInfo, NetnsId};

/// Reason why the agent does not change the VRF membership of an EXISTING interface.
const BY_ITS_OWNER: &str = "only the owner of an EXISTING interface's link can add the link to a VRF";

/// Descriptor of `linux/interface/<if>/vrf/<vrf>` and `linux/interface/<if>//master/<master>`.
#[derive(Clone)]
pub struct MembershipKind {
    pub(super) marks: Marks,
}

/// Returns whether a key names a membership in a VRF or bridge.
pub fn is_membership(key: &Key) -> bool {
    derived_part(key).is_some_and(|part| part.contains("/vrf/") || part.contains("//master/"))
}

/// Returns the key of a VRF membership.
pub fn vrf_membership_key(interface: &str, vrf: &str) -> Key {
    TypedKey::InterfaceVrf {
        interface: interface.to_owned(),
        vrf: vrf.to_owned(),
    }
    .to_key()
}

/// Returns the key of a membership in a VRF or bridge.
pub fn membership_key(membership: &Membership) -> Key {
    let (interface, master) = (membership.interface.clone(), membership.master.clone());
    match membership.role {
        Role::Vrf { .. } => vrf_membership_key(&interface, &master),
        Role::Port(_) => TypedKey::InterfaceMaster { interface, master }.to_key(),
    }
}

/// Returns the desired memberships of an interface.
pub fn memberships(interface: &Interface) -> impl Iterator<Item = (Key, Membership)> {
    let vrf = interface.vrf.clone().map(|master| {
        let existing = interface.is_existing().then(|| interface.host_name.clone());
        (master, Role::Vrf { existing })
    });
    let port = interface.port_of.clone().map(|port| (port.master, Role::Port(port.settings)));
    vrf.into_iter().chain(port).map(|(master, role)| {
        let membership = Membership {
            interface: interface.name.clone(),
            master,
            role,
        };
        (membership_key(&membership), membership)
    })
}

impl MembershipKind {
    fn set(&self, member: &Membership, changes: LinkChanges, view: &View<'_, Network>) -> Effect {
        on_link(view, &member.interface, |interface, netns| {
            Effect::one(KernelOp::SetLink {
                netns,
                name: interface.host_name.clone(),
                guard: guard_of(&self.marks, interface),
                changes: Box::new(changes),
            })
        })
    }

    fn set_master(&self, member: &Membership, master: Option<String>, view: &View<'_, Network>) -> Effect {
        let changes = LinkChanges {
            master: Some(master),
            ..LinkChanges::default()
        };
        self.set(member, changes, view)
    }

    fn set_port(&self, member: &Membership, settings: Option<LinkInfo>, view: &View<'_, Network>) -> Effect {
        match settings {
            Some(_) => {
                let changes = LinkChanges {
                    port: settings,
                    ..LinkChanges::default()
                };
                self.set(member, changes, view)
            }
            None => Effect::Noop("the port has no desired settings"),
        }
    }

    /// Returns the effect that adds a link to its master and then applies the port settings. The kernel accepts port settings
    /// only for a link that is already a port.
    fn become_port(&self, member: &Membership, port: Option<&Port>, master: &Interface, view: &View<'_, Network>) -> Effect {
        let settings = port.and_then(|port| link::port_info(port, port.settings.creation()));
        self.set_master(member, Some(master.host_name.clone()), view)
            .then(self.set_port(member, settings, view))
    }

    /// Checks that the link of an EXISTING interface is already in this VRF. Another program must have added the link, because the
    /// agent does not change the link of an EXISTING interface.
    ///
    /// # Errors
    /// Fails if the link is in another VRF.
    fn refuse_other_vrf(host_name: &str, vrf: &Interface, view: &View<'_, Network>) -> Result<Effect, Refusal> {
        let fact = TypedKey::HostInterfaceVrf {
            host_name: host_name.to_owned(),
            vrf_host_name: vrf.host_name.clone(),
        };
        match view.applied(&fact.to_key()) {
            Some(_) => Ok(Effect::Noop(BY_ITS_OWNER)),
            None => Err(Refusal {
                reason: "InOtherVrf",
                message: format!(
                    "link {host_name} is in a VRF other than {}; the owner of the link must move it",
                    vrf.host_name
                ),
            }),
        }
    }
}

/// Checks that an interface and its master are in the same namespace.
fn check_namespaces(member: &Membership, master: NetnsId, netns: NetnsId) -> Result<(), Refusal> {
    if master == netns {
        return Ok(());
    }
    let Membership {
        interface, master: name, ..
    } = member;
    let (reason, title) = match member.role {
        Role::Vrf { .. } => ("VrfInOtherNamespace", "VRF"),
        Role::Port(_) => ("MasterInOtherNamespace", "master"),
    };
    Err(Refusal {
        reason,
        message: format!(
            "interface {interface} is in {netns}, but its {title} {name} is in {master}; a {title} accepts only links in its own namespace; move one of the two"
        ),
    })
}

/// Checks that the master accepts a member with this role and these port settings.
fn check_master(member: &Membership, master: &Interface, view: &View<'_, Network>) -> Result<(), Refusal> {
    let Membership {
        interface,
        master: name,
        role,
    } = member;
    let spec = master.link.spec();
    let (reason, message) = match role {
        Role::Vrf { .. } if vrf_table(view, master).is_some() => return Ok(()),
        Role::Vrf { .. } => (
            "NotAVrfDevice",
            format!(
                "interface {interface} cannot join VRF {name}: link {} of interface {name} is not a VRF device; name a VRF device in \
                 vrf_master_interface",
                master.host_name
            ),
        ),
        Role::Port(None) if spec.ports.is_some() || master.is_existing() => return Ok(()),
        Role::Port(Some(port)) if port.of == spec.type_name => return Ok(()),
        Role::Port(Some(port)) if spec.ports.is_some() => (
            "PortMismatch",
            format!(
                "interface {interface} has port settings for a {}, but its master {name} is a {}; change one of the two",
                port.of, spec.type_name
            ),
        ),
        Role::Port(_) => (
            "NotAMaster",
            format!(
                "interface {interface} cannot be a port of {name}, because interfaces of type {} have no ports; name a BRIDGE in \
                 master_interface",
                spec.type_name
            ),
        ),
    };
    Err(Refusal { reason, message })
}

/// Returns the port settings that have to change.
///
/// If no settings are desired, all settings that the agent has set are reset to the kernel's defaults. If the applied settings
/// are unknown, only the explicitly desired settings are set.
fn port_differences(applied: &Membership, desired: &Membership) -> Vec<Difference> {
    match (applied.port(), desired.port()) {
        (Some(applied), Some(desired)) => applied.settings.differences(&desired.settings, applied.settings.set_bits()),
        (Some(applied), None) => applied.settings.resets(),
        (None, Some(desired)) => {
            let bare = link_kinds::by_type(desired.of).and_then(|kind| Port::bare(kind.spec()));
            bare.map(|bare| bare.settings.differences(&desired.settings, 0)).unwrap_or_default()
        }
        (None, None) => Vec::new(),
    }
}

impl Kind for MembershipKind {
    of_one_type!(Membership, Arc<Membership>);

    const NAME: &'static str = "linux-interface-vrf";

    fn compare(&self, applied: &Arc<Membership>, desired: &Arc<Membership>) -> Comparison {
        port_differences(applied, desired).iter().map(link::difference).collect()
    }

    fn dependencies(&self, member: &Arc<Membership>) -> Vec<Dependency> {
        let label = match member.role {
            Role::Vrf { .. } => "vrf-device-is-created",
            Role::Port(_) => "master-exists",
        };
        let mut dependencies = vec![Dependency::key(label, interface_key(&member.master))];
        if let Role::Vrf { existing: Some(host_name) } = &member.role {
            let prefix = Key::from(TypedKey::any_host_vrf_of(host_name));
            let describe = format!("membership of {host_name} in a VRF (the owner of {host_name} must add it to one)");
            dependencies.push(Dependency::any_of("inserted-into-vrf-externally", vec![prefix], describe, None));
        }
        dependencies
    }

    /// Returns the VLANs of a port as values.
    fn derived(&self, member: &Arc<Membership>) -> Vec<(Key, Value)> {
        let vlans = member.port().map(|port| port.vlans.as_slice()).unwrap_or_default();
        super::bridge_vlan::values(&member.interface, vlans, false)
    }

    fn create(&self, member: &Arc<Membership>, view: &View<'_, Network>) -> Result<Effect, Refusal> {
        let on = applied_interface(view, &member.master).zip(applied_interface(view, &member.interface));
        let Some(((master, master_netns), (_, netns))) = on else {
            return Ok(Effect::Impossible(format!(
                "interface {} or its master {} is not applied",
                member.interface, member.master
            )));
        };
        check_namespaces(member, master_netns, netns)?;
        check_master(member, master, view)?;
        match &member.role {
            Role::Vrf { existing: Some(host_name) } => Self::refuse_other_vrf(host_name, master, view),
            Role::Vrf { existing: None } => Ok(self.set_master(member, Some(master.host_name.clone()), view)),
            Role::Port(port) => Ok(self.become_port(member, port.as_ref(), master, view)),
        }
    }

    fn update(&self, applied: &Arc<Membership>, desired: &Arc<Membership>, view: &View<'_, Network>) -> Result<Effect, Refusal> {
        if let Some((master, _)) = applied_interface(view, &desired.master) {
            // Check the master again, because the applied value may have had no port settings when `create` checked it.
            check_master(desired, master, view)?;
        }
        let changes = link_kinds::changes(&port_differences(applied, desired));
        let port = desired.port().or(applied.port());
        let settings = port.and_then(|port| link::port_info(port, changes));
        Ok(self.set_port(desired, settings, view))
    }

    fn delete(&self, member: &Arc<Membership>, _: DeleteCause, view: &View<'_, Network>) -> Effect {
        match &member.role {
            Role::Vrf { existing: Some(_) } => Effect::Noop(BY_ITS_OWNER),
            Role::Vrf { existing: None } | Role::Port(_) => off_link(view, &member.interface, |_, _| self.set_master(member, None, view)),
        }
    }

    /// A link that enters or leaves a VRF goes down and up again (`cycle_netdev` in drivers/net/vrf.c), which removes its routes
    /// and neighbours.
    fn takes_along(&self, _: &Key, member: &Arc<Membership>, _: Verb, view: &View<'_, Network>) -> Taken {
        let of_vrf = matches!(member.role, Role::Vrf { .. });
        let Some((interface, _)) = applied_interface(view, &member.interface).filter(|_| of_vrf) else {
            return Taken::NOTHING;
        };
        let taken = layer3_on_link(interface, view).into_iter();
        Taken::Values(taken.map(|(key, _)| key.clone()).collect())
    }
}
