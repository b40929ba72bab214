//! Interfaces: creates, changes and deletes links of all kinds.
//!
//! Never changes a link without the agent's ownership mark. The exceptions are `lo`, the links of EXISTING interfaces, and a TAP
//! that is being taken over.
//!
//! Links are created in their final namespace and with their final name, because moving a link later takes a hundred times as long.
//! One request creates both ends of a veth pair. The end that comes first in key order sends the request, and the other end is
//! created together with it. Afterwards, each end sets its own alias and clears the provisional group.

use std::sync::Arc;

use models::{
    address::MacAddress,
    key::{Key, TypedKey},
};

use super::{
    Effect, MICROSERVICE_AVAILABLE, NAMESPACE_AVAILABLE, Network,
    alias::{Marks, RELEASED},
    applied_interface, bridge_vlan,
    kind::Kind,
    link,
    membership::memberships,
    namespace::NAMESPACES,
    netns_of, not_others, owned,
    sharing::{check_link, has_to_leave, host_link_key, is_in_own_namespace, link_in_words},
    value::{Address, AppliedInterface, DesiredInterface, Interface, KnownBy, NamespaceName, Value, interface_key},
};
use crate::scheduler::{Claim, Comparison, DeleteCause, Dependency, Difference, Refusal, Remedy, View};
use link_kinds::{Change, LifeCycle, Link, Role};
use netns_kernel::{Guard, KernelOp, LinkChanges, NetnsId, NewLink, NewPeer};

/// Refusal reason for a LOOPBACK that is desired DOWN in the agent's own namespace.
const OWN_LOOPBACK: &str = "OwnLoopback";

/// Refusal reason for the second of two interfaces with the same host name in one namespace.
pub const HOST_NAME_CONFLICT: &str = "HostNameConflict";

/// Descriptor of `config/linux/interfaces/v2/interface/<name>`.
#[derive(Clone)]
pub struct InterfaceKind {
    pub(super) marks: Marks,
}

/// Returns the name of the claim that reserves the link name `host_name` in a namespace.
pub fn host_name_claim(netns: NetnsId, host_name: &str) -> String {
    format!("host name {host_name} in {netns}")
}

/// Reason why no operation is needed for an EXISTING interface.
const BY_OTHERS: &str = "the agent does not create or change the link of an EXISTING interface";

fn not_open(namespace: &NamespaceName) -> Effect {
    Effect::Impossible(format!("{namespace} is not open"))
}

/// Returns whether the agent created the namespace of an interface. The alias of the namespace's `lo` must record this, even if
/// the `lo` belongs to a value.
fn namespace_is_owned(interface: &Interface, view: &View<'_, Network>) -> bool {
    let namespace = view.applied(&interface.namespace.key()).and_then(Value::open_namespace);
    namespace.is_some_and(|open| open.owned)
}

impl InterfaceKind {
    fn loopback_alias(&self, interface: &Interface, view: &View<'_, Network>) -> String {
        match namespace_is_owned(interface, view) {
            true => self.marks.created_namespace(Some(&interface.name)),
            false => self.marks.alias(interface),
        }
    }

    /// Returns the operation that sets every property that was not set when the link was created.
    fn finish(&self, desired: &DesiredInterface, netns: NetnsId, view: &View<'_, Network>) -> KernelOp {
        let interface = &*desired.interface;
        let mut changes = LinkChanges {
            alias: Some(self.marks.alias(interface)),
            group: Some(0),
            ..LinkChanges::default()
        };
        changes.mtu = (interface.mtu != 0).then_some(interface.mtu);
        changes.mac = interface.mac.filter(|_| !interface.link_only);
        changes.up = interface.enabled.then_some(true);
        link::set_features(&mut changes, interface.link.settings.features_to_set());
        if desired.terms.adopt {
            leave_nothing_open(&mut changes, interface);
        }
        let mut guard = owned(&self.marks);
        if interface.is_loopback() {
            // The kernel creates `lo` together with the namespace, so `lo` is not in the provisional group and has no ownership
            // mark yet.
            (changes.alias, changes.group, guard) = (Some(self.loopback_alias(interface, view)), None, not_others(&self.marks));
            changes.up = Some(interface.enabled);
        }
        KernelOp::SetLink {
            netns,
            name: interface.host_name.clone(),
            guard,
            changes: Box::new(changes),
        }
    }

    fn new_link(&self, desired: &DesiredInterface, netns: NetnsId) -> NewLink {
        let interface = &*desired.interface;
        NewLink {
            netns,
            name: interface.host_name.clone(),
            mtu: (interface.mtu != 0).then_some(interface.mtu),
            mac: interface.mac.filter(|_| !interface.link_only),
            group: self.marks.provisional_group(),
            adopt: desired.terms.adopt.then(|| self.marks.adopted(interface)),
        }
    }

    /// Returns the operations that create a link and, for a pair, its other end.
    fn make(&self, desired: &DesiredInterface, netns: NetnsId, view: &View<'_, Network>) -> Result<Effect, Refusal> {
        let interface = &*desired.interface;
        let mut create = link::create(&interface.link, self.new_link(desired, netns));
        for (reference, name) in interface.link.references() {
            match reference.role {
                Role::Peer { attribute } => {
                    let Some((other, netns)) = mutual_peer(interface, name, view)? else {
                        return Ok(Effect::Impossible(format!(
                            "the peer {name} is not desired, or its namespace is not open"
                        )));
                    };
                    let end = self.new_link(other, netns);
                    create.peer = Some(NewPeer { attribute, end });
                }
                Role::Parent { .. } => {
                    let Some((parent, netns)) = applied_interface(view, name) else {
                        return Ok(Effect::Impossible(format!(
                            "the parent {name} is not applied, or its namespace is not open"
                        )));
                    };
                    create.parent = Some((netns, parent.host_name.clone()));
                }
                Role::Original => {}
            }
        }
        let sysctls = interface.link.spec().sysctls.iter();
        let mut ops: Vec<KernelOp> = sysctls.map(|(name, value)| KernelOp::EnsureSysctl { netns, name, value }).collect();
        ops.push(KernelOp::CreateLink(Box::new(create)));
        ops.push(self.finish(desired, netns, view));
        Ok(Effect::Do(ops))
    }

    fn take_over(&self, desired: &DesiredInterface, netns: NetnsId, view: &View<'_, Network>) -> Effect {
        let interface = &*desired.interface;
        let (Some(original), Some(own)) = (interface.link.original(), netns_of(view, &NamespaceName::Own)) else {
            return Effect::Impossible("the original link is unknown, or the agent's own namespace is not open".to_owned());
        };
        // The ownership mark is set first, in a separate operation. If the agent is killed before the link has been moved, the
        // agent can still recognise the link after a restart.
        let mark = LinkChanges {
            alias: Some(self.marks.alias(interface)),
            ..LinkChanges::default()
        };
        let relocate = LinkChanges {
            rename: (interface.host_name != original).then(|| interface.host_name.clone()),
            move_to: (own != netns).then_some(netns),
            ..LinkChanges::default()
        };
        let set = |guard, changes| KernelOp::SetLink {
            netns: own,
            name: original.to_owned(),
            guard,
            changes: Box::new(changes),
        };
        let mut ops = vec![set(not_others(&self.marks), mark)];
        if relocate != LinkChanges::default() {
            ops.push(set(owned(&self.marks), relocate));
        }
        ops.push(self.finish(desired, netns, view));
        Effect::Do(ops)
    }

    /// Returns the operation that changes a link with this agent's ownership mark.
    fn change_own(&self, interface: &Interface, netns: NetnsId, changes: LinkChanges) -> Effect {
        Effect::one(KernelOp::SetLink {
            netns,
            name: interface.host_name.clone(),
            guard: owned(&self.marks),
            changes: Box::new(changes),
        })
    }

    fn give_back(&self, interface: &Interface, netns: NetnsId, view: &View<'_, Network>) -> Effect {
        let own = netns_of(view, &NamespaceName::Own);
        let original = interface.link.original().unwrap_or(&interface.host_name);
        let changes = LinkChanges {
            alias: Some(RELEASED.to_owned()),
            rename: (interface.host_name != original).then(|| original.to_owned()),
            move_to: own.filter(|own| *own != netns),
            ..LinkChanges::default()
        };
        self.change_own(interface, netns, changes)
    }

    fn unmark(&self, interface: &Interface, netns: NetnsId, view: &View<'_, Network>) -> Effect {
        let alias = match namespace_is_owned(interface, view) {
            true => self.marks.created_namespace(None),
            false => RELEASED.to_owned(),
        };
        let changes = LinkChanges {
            alias: Some(alias),
            ..LinkChanges::default()
        };
        self.change_own(interface, netns, changes)
    }

    fn remove(interface: &Interface, netns: NetnsId, guard: Guard) -> Effect {
        Effect::one(KernelOp::DeleteLink {
            netns,
            name: interface.host_name.clone(),
            guard,
        })
    }

    fn changes(applied: &AppliedInterface, desired: &DesiredInterface, alias: String) -> LinkChanges {
        let (circumstances, was, is_to_be) = (applied.circumstances, &*applied.interface, &*desired.interface);
        let mut changes = LinkChanges {
            rename: (was.host_name != is_to_be.host_name).then(|| is_to_be.host_name.clone()),
            mac: is_to_be.mac.filter(|mac| !is_to_be.link_only && was.mac != Some(*mac)),
            up: (was.enabled != is_to_be.enabled).then_some(is_to_be.enabled),
            ..LinkChanges::default()
        };
        let is_marked = circumstances.known_by == KnownBy::Mark;
        if !is_marked || circumstances.set != is_to_be.link.settings.set_bits() {
            (changes.alias, changes.group) = (Some(alias), Some(0));
        }
        // Remove a link with desired addresses from its foreign master, because a link with addresses does not work as a bridge
        // port. Keep a link without desired addresses in its master, because it may be meant as a port of a foreign bridge.
        if circumstances.enslaved && is_to_be.vrf.is_none() && is_to_be.port_of.is_none() && !desired.addresses.is_empty() {
            changes.master = Some(None);
        }
        if was.effective_mtu() != is_to_be.effective_mtu() {
            changes.mtu = is_to_be.effective_mtu();
        }
        let settings = was.link.differences(&is_to_be.link, circumstances.set);
        link::change(&mut changes, &is_to_be.link, &settings);
        if !is_marked && desired.terms.adopt {
            leave_nothing_open(&mut changes, is_to_be);
        }
        changes
    }
}

/// Returns the desired peer of an interface, if the two interfaces name each other as peer.
fn other_end<'a>(interface: &Interface, view: &View<'a, Network>) -> Option<&'a Arc<DesiredInterface>> {
    let other = view.desired(&interface_key(interface.link.peer()?))?.desired_interface()?;
    (other.interface.link.peer() == Some(&interface.name)).then_some(other)
}

/// Returns the desired peer of an interface, and the namespace of the peer. Returns `None` while the peer is not desired or its
/// namespace is not open.
///
/// # Errors
/// Fails if `peer` is not an end of a pair, or names another interface as its peer.
fn mutual_peer<'a>(
    interface: &Interface,
    peer: &str,
    view: &View<'a, Network>,
) -> Result<Option<(&'a DesiredInterface, NetnsId)>, Refusal> {
    let Some(other) = view.desired(&interface_key(peer)).and_then(Value::desired_interface) else {
        return Ok(None);
    };
    let (name, type_name) = (&interface.name, interface.link.spec().type_name);
    let wrong = match other.interface.link.peer() {
        Some(back) if back == *name => None,
        Some(back) => Some(format!("{peer} names {back}; each end must name the other")),
        None => Some(format!("{peer} is not of type {type_name}")),
    };
    match wrong {
        Some(wrong) => Err(Refusal {
            reason: "PeerMismatch",
            message: format!("{name} names {peer} as its peer, but {wrong}"),
        }),
        None => Ok(netns_of(view, &other.interface.namespace).map(|netns| (&**other, netns))),
    }
}

/// Returns whether the agent still has to create the link of interface `name`. Until the link exists, it cannot be the parent of
/// another link. Returns false while the namespace of the interface is not open.
fn has_to_be_created(name: &str, view: &View<'_, Network>) -> bool {
    let known = view.known(&interface_key(name));
    let desired = known.desired.and_then(Value::interface).filter(|_| known.applied.is_none());
    desired.is_some_and(|desired| matches!(desired.link.life_cycle(), LifeCycle::Created) && netns_of(view, &desired.namespace).is_some())
}

/// Returns the claim for a property that must be unique among the links on one parent, such as a VLAN id.
fn unique_claim(interface: &Interface, view: &View<'_, Network>) -> Option<Claim> {
    unique_claim_on(interface.link.parent()?, &interface.link, view)
}

/// Returns the claim for a unique property of a link, like [`unique_claim`]. `parent` is the parent interface of the link.
pub(super) fn unique_claim_on(parent: &str, link: &Link, view: &View<'_, Network>) -> Option<Claim> {
    let (reason, what) = link.unique()?;
    let name = format!("{what} on {}", link_in_words(view, parent));
    Some(Claim { name, reason })
}

/// Checks that `lo` of the agent's own namespace is not set DOWN.
///
/// Clients reach the store and the API through this `lo`, so they could not undo the change.
///
/// # Errors
/// Fails with a refusal that tells the user what to change.
fn check_loopback(interface: &Interface, view: &View<'_, Network>) -> Result<(), Refusal> {
    if interface.enabled || !is_in_own_namespace(view, interface) {
        return Ok(());
    }
    Err(Refusal {
        reason: OWN_LOOPBACK,
        message: "`lo` of the agent's own network namespace cannot be set DOWN, because the store, the API and other programs on this \
                  machine are reached through it; set `enabled` to true, or name another namespace"
            .to_owned(),
    })
}

/// Adds all managed properties of the interface to `changes`, because the properties of an adopted link are unknown.
fn leave_nothing_open(changes: &mut LinkChanges, interface: &Interface) {
    (changes.mtu, changes.up) = (interface.effective_mtu(), Some(interface.enabled));
    changes.mac = interface.mac.filter(|_| !interface.link_only);
    link::set_all(changes, &interface.link);
}

/// Returns the differences that require a new link. They concern the kind, references, immutable settings, namespace, or the
/// `host_name` of an EXISTING interface.
fn beyond_change<'a>(applied: &'a Interface, desired: &'a Interface) -> impl Iterator<Item = Difference> + 'a {
    let kind = applied.link.what_differs(&desired.link);
    let moved =
        (applied.namespace != desired.namespace).then(|| format!("the link is in {} instead of {}", applied.namespace, desired.namespace));
    let is_other = desired.is_existing() && applied.host_name != desired.host_name;
    let other = is_other.then(|| format!("the link is {} instead of {}", applied.host_name, desired.host_name));
    let settings = applied.link.differences(&desired.link, 0).into_iter();
    let immutable = settings.map(|setting| link::difference(&setting));
    let again = kind.into_iter().chain(moved).chain(other).map(Difference::again);
    again.chain(immutable.filter(|difference| difference.remedy == Remedy::Recreate))
}

/// Returns the differences that can be resolved in place, one for each property.
fn to_change(applied: &AppliedInterface, desired: &DesiredInterface) -> Comparison {
    let changes = InterfaceKind::changes(applied, desired, String::new());
    if changes == LinkChanges::default() {
        return Comparison::same();
    }
    let (circumstances, is, is_to_be) = (applied.circumstances, &*applied.interface, &*desired.interface);
    let mut reported = Vec::new();
    reported.extend(changes.rename.map(|name| format!("the name is {} instead of {name}", is.host_name)));
    reported.extend(changes.alias.map(|_| match circumstances.known_by {
        KnownBy::Mark => "the alias (the ownership mark) does not record the desired settings".to_owned(),
        KnownBy::Group | KnownBy::Index(_) => "the alias (the ownership mark) was removed".to_owned(),
    }));
    reported.extend(changes.mtu.map(|mtu| match is.effective_mtu() {
        Some(found) => format!("the MTU is {found} instead of {mtu}"),
        None => format!("the MTU is not {mtu}"),
    }));
    reported.extend(changes.mac.map(|mac| match (is.mac.map(MacAddress), MacAddress(mac)) {
        (Some(found), mac) => format!("the MAC address is {found} instead of {mac}"),
        (None, mac) => format!("the MAC address is not {mac}"),
    }));
    reported.extend(changes.master.map(|_| "the link has a master that is not desired".to_owned()));
    let settings = is.link.differences(&is_to_be.link, circumstances.set).into_iter();
    reported.extend(
        settings
            .filter(|setting| setting.attribute.change == Change::InPlace)
            .map(|setting| setting.to_string()),
    );
    reported.extend(changes.up.map(|up| match up {
        true => "the link is DOWN instead of UP".to_owned(),
        false => "the link is UP instead of DOWN".to_owned(),
    }));
    reported.into_iter().map(Difference::in_place).collect()
}

/// Returns a difference if the link properties that an EXISTING interface requires have changed.
///
/// The agent does not set these properties, but must check that other interfaces on the link do not require different values.
fn to_check(applied: &Interface, desired: &Interface) -> Comparison {
    let checked = |interface: &Interface| (interface.mtu, interface.mac, interface.link_only, interface.enabled);
    let differs = checked(applied) != checked(desired);
    let text = "the desired MTU, MAC address or admin state of the link has changed";
    differs.then(|| Difference::in_place(text)).into_iter().collect()
}

impl Kind for InterfaceKind {
    type Desired = Arc<DesiredInterface>;
    type Applied = Arc<AppliedInterface>;
    type Common<'a> = (&'a Interface, &'a [Arc<Address>]);

    const NAME: &'static str = "linux-interface";

    fn desired(value: &Value) -> Option<&Arc<DesiredInterface>> {
        value.desired_interface()
    }

    fn applied(value: &Value) -> Option<&Arc<AppliedInterface>> {
        value.applied_interface()
    }

    fn common(value: &Value) -> Option<(&Interface, &[Arc<Address>])> {
        Some((value.interface()?, value.addresses()))
    }

    fn value(applied: Arc<AppliedInterface>) -> Value {
        Value::AppliedInterface(applied)
    }

    /// Returns the logical name of the interface.
    fn label(&self, key: &Key) -> String {
        let text = key.as_str();
        text.rsplit_once('/').map_or(text, |(_, name)| name).to_owned()
    }

    fn compare(&self, applied: &Arc<AppliedInterface>, desired: &Arc<DesiredInterface>) -> Comparison {
        let mut comparison: Comparison = beyond_change(&applied.interface, &desired.interface).collect();
        comparison.extend(match desired.interface.is_existing() {
            true => to_check(&applied.interface, &desired.interface),
            false => to_change(applied, desired),
        });
        comparison
    }

    fn as_applied(&self, former: Option<&Arc<AppliedInterface>>, desired: &Arc<DesiredInterface>) -> Arc<AppliedInterface> {
        let mut applied = AppliedInterface::of(desired);
        applied.circumstances.adopted = former.is_some_and(|former| former.circumstances.adopted);
        applied.into()
    }

    fn dependencies(&self, (interface, _): Self::Common<'_>) -> Vec<Dependency> {
        let mut dependencies = Vec::new();
        if interface.is_existing() {
            dependencies.push(Dependency::key("host-interface-exists", host_link_key(&interface.host_name)));
        }
        for (reference, name) in interface.link.references().filter(|(_, name)| !name.is_empty()) {
            dependencies.push(match reference.role {
                Role::Peer { .. } => Dependency::key("veth-peer-exists", interface_key(name)).outlived(),
                Role::Parent { .. } => Dependency::key("parent-exists", interface_key(name)),
                // The TAP is no longer available after the agent has taken it over, so only the creation depends on it.
                Role::Original => {
                    let host_name = name.to_owned();
                    Dependency {
                        only_to_create: true,
                        ..Dependency::key("vpp-tap-interface-exists", TypedKey::Tap { host_name }.to_key())
                    }
                }
            });
        }
        if let Some(parent) = interface
            .link
            .parent()
            .filter(|_| interface.enabled && interface.link.needs_parent_up())
        {
            let state = TypedKey::InterfaceState {
                name: parent.to_owned(),
                up: true,
            };
            dependencies.push(Dependency::key("parent-is-up", state.to_key()).outlived());
        }
        let label = match interface.namespace {
            NamespaceName::Microservice(_) => MICROSERVICE_AVAILABLE,
            _ => NAMESPACE_AVAILABLE,
        };
        dependencies.push(Dependency::key(label, interface.namespace.key()));
        dependencies
    }

    fn derived(&self, (interface, addresses): Self::Common<'_>) -> Vec<(Key, Value)> {
        let state = TypedKey::InterfaceState {
            name: interface.name.clone(),
            up: interface.enabled,
        };
        let mut derived = vec![(state.to_key(), Value::Present)];
        derived.extend(memberships(interface).map(|(key, member)| (key, Value::Membership(member.into()))));
        derived.extend(bridge_vlan::values(&interface.name, &interface.link.own_vlans, true));
        derived.extend(
            addresses
                .iter()
                .map(|address| (address.key.clone(), Value::Address(address.clone()))),
        );
        derived
    }

    fn implied(&self, (interface, _): Self::Common<'_>) -> Vec<(Key, Value)> {
        let name = interface.namespace.clone();
        match name {
            NamespaceName::Own => Vec::new(),
            _ => vec![(name.key(), Value::Namespace(name))],
        }
    }

    fn claims(&self, (interface, _): Self::Common<'_>, view: &View<'_, Network>) -> Vec<Claim> {
        if interface.is_existing() {
            return Vec::new();
        }
        let netns = netns_of(view, &interface.namespace);
        let claim = netns.map(|netns| Claim {
            name: host_name_claim(netns, &interface.host_name),
            reason: HOST_NAME_CONFLICT,
        });
        claim.into_iter().chain(unique_claim(interface, view)).collect()
    }

    /// A link in a namespace that the agent has not read since a restart can conflict with the claim. An example is a VLAN on the
    /// same parent that already has the desired VLAN id.
    fn claims_may_be_held(&self, desired: &Arc<DesiredInterface>, view: &View<'_, Network>) -> bool {
        let Some(claim) = unique_claim(&desired.interface, view) else {
            return false;
        };
        let unread = view.untried_under(NAMESPACES);
        let mut beyond = unread.flat_map(|namespace| view.dependents(namespace));
        beyond.any(|key| {
            let other = view.desired(key).and_then(Value::interface);
            *key != desired.interface.key() && other.is_some_and(|other| unique_claim(other, view).as_ref() == Some(&claim))
        })
    }

    fn create(&self, desired: &Arc<DesiredInterface>, view: &View<'_, Network>) -> Result<Effect, Refusal> {
        let interface = &*desired.interface;
        let Some(netns) = netns_of(view, &interface.namespace) else {
            return Ok(not_open(&interface.namespace));
        };
        match interface.link.life_cycle() {
            LifeCycle::Created => self.make(desired, netns, view),
            LifeCycle::TakenOver => Ok(self.take_over(desired, netns, view)),
            LifeCycle::Builtin(_) => check_loopback(interface, view).map(|()| Effect::one(self.finish(desired, netns, view))),
            LifeCycle::Referred => check_link(view, interface).map(|()| Effect::Noop(BY_OTHERS)),
        }
    }

    fn co_creates(&self, desired: &Arc<DesiredInterface>, view: &View<'_, Network>) -> Vec<(Key, Value)> {
        let other = other_end(&desired.interface, view);
        let co_created_values = other.filter(|other| netns_of(view, &other.interface.namespace).is_some());
        let co_created_values = co_created_values.map(|other| {
            let key = other.interface.key();
            (key, Value::AppliedInterface(AppliedInterface::co_created(other).into()))
        });
        co_created_values.into_iter().collect()
    }

    /// One end of a pair is stale if the other end has to be created again. A link on a parent is stale if the parent's link has
    /// to be created again. An EXISTING interface is stale if it has to leave its link because it contradicts another interface
    /// there.
    fn stale(&self, applied: &Arc<AppliedInterface>, view: &View<'_, Network>) -> bool {
        if applied.interface.is_existing() {
            return has_to_leave(view, &applied.interface);
        }
        if applied
            .interface
            .link
            .parent()
            .is_some_and(|parent| has_to_be_created(parent, view))
        {
            return true;
        }
        other_end(&applied.interface, view).is_some_and(|other| {
            let key = other.interface.key();
            view.applied(&key).is_none() && !view.in_flight(&key) && netns_of(view, &other.interface.namespace).is_some()
        })
    }

    fn recover(&self, attempted: &Arc<AppliedInterface>, view: &View<'_, Network>) -> Effect {
        let interface = &*attempted.interface;
        let Some(netns) = netns_of(view, &interface.namespace) else {
            return Effect::Noop(
                "the namespace is closed; the link was deleted with the namespace, or will be an orphan when the namespace is opened again",
            );
        };
        match interface.link.life_cycle() {
            LifeCycle::Created => {
                let alias_prefix = self.marks.prefix().to_owned();
                Self::remove(interface, netns, Guard::OwnCreation { alias_prefix })
            }
            LifeCycle::TakenOver | LifeCycle::Builtin(_) => Effect::Noop("the link existed before; the next attempt takes it over"),
            LifeCycle::Referred => Effect::Noop(BY_OTHERS),
        }
    }

    /// A link that a failed creation left behind can be found only by its host name, so the host name must not have changed.
    fn recovers_alike(&self, attempted: &Arc<AppliedInterface>, desired: &Arc<DesiredInterface>) -> bool {
        attempted.interface.host_name == desired.interface.host_name
    }

    fn update(
        &self,
        applied: &Arc<AppliedInterface>,
        desired: &Arc<DesiredInterface>,
        view: &View<'_, Network>,
    ) -> Result<Effect, Refusal> {
        let (was, is_to_be) = (&*applied.interface, &*desired.interface);
        let Some(netns) = netns_of(view, &was.namespace) else {
            return Ok(not_open(&was.namespace));
        };
        if is_to_be.is_existing() {
            return check_link(view, is_to_be).map(|()| Effect::Noop(BY_OTHERS));
        }
        let loopback = is_to_be.is_loopback();
        if loopback {
            check_loopback(is_to_be, view)?;
        }
        let alias = match (loopback, applied.circumstances.adopted) {
            (true, _) => self.loopback_alias(is_to_be, view),
            (false, true) => self.marks.adopted(is_to_be),
            (false, false) => self.marks.alias(is_to_be),
        };
        let mut changes = Self::changes(applied, desired, alias);
        if loopback {
            changes.group = None;
        }
        let guard = match applied.circumstances.known_by {
            _ if loopback => not_others(&self.marks),
            KnownBy::Index(index) => Guard::Known { index },
            KnownBy::Mark | KnownBy::Group => owned(&self.marks),
        };
        Ok(Effect::one(KernelOp::SetLink {
            netns,
            name: was.host_name.clone(),
            guard,
            changes: Box::new(changes),
        }))
    }

    fn delete(&self, applied: &Arc<AppliedInterface>, _: DeleteCause, view: &View<'_, Network>) -> Effect {
        let interface = &*applied.interface;
        let Some(netns) = netns_of(view, &interface.namespace) else {
            return not_open(&interface.namespace);
        };
        match interface.link.life_cycle() {
            LifeCycle::Referred => Effect::Noop(BY_OTHERS),
            LifeCycle::TakenOver => self.give_back(interface, netns, view),
            LifeCycle::Builtin(_) => self.unmark(interface, netns, view),
            LifeCycle::Created => Self::remove(interface, netns, owned(&self.marks)),
        }
    }
}
