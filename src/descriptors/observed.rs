//! Links as observed in the kernel.
//!
//! Interprets the link state that the kernel crate reports: the owner, kind, settings and master of a link. The inspection of
//! namespaces, the APIs and the publication of link states use this module. The result never depends on desired or applied
//! values.

use models::address::MacAddress;

use super::alias::{Mark, Marks};
use link_kinds::{Feature, LifeCycle, Link, LinkKind, Observed, Role, Settings};
use netns_kernel::{AddressRoute, AddressSpec, AddressState, LinkState, Snapshot};

/// IF_OPER_NOTPRESENT and IF_OPER_DOWN of linux/if.h. As in ligato vpp-agent, every other state counts as up.
const OPER_NOT_PRESENT: u8 = 1;
const OPER_DOWN: u8 = 2;

/// Link as observed in the kernel.
#[derive(Clone, Copy)]
pub struct ObservedInterface<'a> {
    /// State of the link as read from the kernel.
    pub state: &'a LinkState,
    /// Kind of link; `None` if the agent does not support it.
    pub kind: Option<&'static dyn LinkKind>,
    /// Ownership mark of this agent, if the link has it.
    pub mark: Option<Mark<'a>>,
    /// True if the link has the ownership mark of this or another agent.
    pub is_marked: bool,
    /// True if this agent created the link and has not set its alias yet.
    pub is_provisional: bool,
}

/// Determines the owner and the kind of a link from its alias, group and kernel kind.
pub fn observe<'a>(state: &'a LinkState, marks: &Marks) -> ObservedInterface<'a> {
    ObservedInterface {
        state,
        kind: link_kinds::of_link(&state.kind, &state.name),
        mark: marks.read(&state.alias),
        is_marked: marks.is_any_agents(&state.alias),
        is_provisional: state.group == marks.provisional_group(),
    }
}

impl std::fmt::Debug for ObservedInterface<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.state.fmt(f)
    }
}

impl<'a> ObservedInterface<'a> {
    /// Returns the kind of link. A link of an unsupported kind is treated like the link of an EXISTING interface, which the agent
    /// never changes.
    pub fn kind_or_referred(&self) -> &'static dyn LinkKind {
        self.kind.unwrap_or_else(link_kinds::referred)
    }

    /// Returns this agent's ownership mark, if it names a value.
    pub fn mark_of_value(&self) -> Option<Mark<'a>> {
        self.mark.filter(Mark::is_of_value)
    }

    /// Returns whether the link has the ownership mark of an agent with another label.
    pub fn is_other_agents(&self) -> bool {
        self.is_marked && self.mark.is_none()
    }

    /// Returns whether the link is one end of a pair.
    pub fn is_pair(&self) -> bool {
        self.kind.is_some_and(|kind| kind.spec().reference(Role::is_peer).is_some())
    }

    /// Returns whether the agent takes over links of this kind, and no agent has taken over this link yet.
    pub fn can_be_taken_over(&self) -> bool {
        let is_taken_over = |kind: &dyn LinkKind| kind.spec().life_cycle == LifeCycle::TakenOver;
        self.kind.is_some_and(is_taken_over) && !self.is_marked
    }

    /// Returns whether the link can carry traffic.
    pub fn is_operational(&self) -> bool {
        !matches!(self.state.oper_state, OPER_NOT_PRESENT | OPER_DOWN)
    }

    /// Returns the MAC address as text. The text is empty if the link has no MAC address.
    pub fn mac(&self) -> String {
        self.state.mac.map(|mac| MacAddress(mac).to_string()).unwrap_or_default()
    }

    /// Updates the settings with the values that the kernel reports. Settings that the kernel does not report stay unchanged.
    pub fn correct(&self, settings: &mut Settings) {
        settings.observe(&Observed {
            attribute: &|number| self.state.attribute(number),
            feature: &|feature| match feature {
                Feature::RxChecksum => self.state.rx_checksum,
                Feature::TxChecksum => self.state.tx_checksum,
            },
        });
    }

    /// Updates the port settings with the values that the kernel reports. Settings that the kernel does not report stay unchanged.
    pub fn correct_port(&self, settings: &mut Settings) {
        settings.observe(&Observed {
            attribute: &|number| self.state.port_attribute(number),
            feature: &|_| None,
        });
    }

    /// Returns the kind and settings of the link, as far as they are known from its state and its ownership mark.
    ///
    /// A link of an unsupported kind is returned as the link of an EXISTING interface, which the agent never changes.
    pub fn link(&self) -> Link {
        let mut link = Link::bare(self.kind_or_referred());
        self.correct(&mut link.settings);
        let subject = self.mark.map(|mark| mark.subject).unwrap_or_default();
        match link.life_cycle() {
            // The last name in the mark is the original name, to which the link is renamed when it is released.
            LifeCycle::TakenOver => link.with_mark_words(subject),
            LifeCycle::Created | LifeCycle::Builtin(_) | LifeCycle::Referred => link,
        }
    }

    /// Returns the VLAN that a bridge assigns by default to itself and to new ports. Returns `None` if the link is not a bridge
    /// or has no default VLAN.
    pub fn default_pvid(&self) -> Option<u16> {
        let spec = self.kind?.spec();
        let attribute = spec.ports?.default_vlan?;
        let mut settings = Settings::bare(spec.attributes);
        self.correct(&mut settings);
        u16::try_from(settings.get(attribute)?).ok().filter(|vid| *vid != 0)
    }
}

/// Contents of a namespace, sorted for fast lookups.
///
/// Most namespaces contain few objects, and sorting them is faster than building hash tables.
pub struct ObservedNamespace<'a> {
    /// Links in kernel order.
    links: Vec<ObservedInterface<'a>>,
    /// Interface indices in ascending order, each with the position of its link in `links`.
    by_index: Vec<(u32, usize)>,
    /// Addresses, sorted by link and then by address.
    addresses: Vec<&'a AddressState>,
    /// Addresses, sorted only by link, so that the addresses of a link stay in kernel order.
    addresses_by_link: Vec<&'a AddressState>,
    /// Routes that the kernel created for addresses, in sorted order.
    address_routes: Vec<AddressRoute>,
}

impl<'a> ObservedNamespace<'a> {
    /// Sorts the contents of a snapshot.
    pub fn of(snapshot: &'a Snapshot, marks: &Marks) -> Self {
        let indices = snapshot.links.iter().map(|link| link.index);
        let mut observed = ObservedNamespace {
            links: snapshot.links.iter().map(|state| observe(state, marks)).collect(),
            by_index: indices.enumerate().map(|(at, index)| (index, at)).collect(),
            addresses: snapshot.addresses.iter().collect(),
            addresses_by_link: snapshot.addresses.iter().collect(),
            address_routes: snapshot.address_routes.clone(),
        };
        observed.by_index.sort_unstable();
        observed.addresses.sort_by_key(|state| (state.link, state.address));
        observed.addresses_by_link.sort_by_key(|state| state.link);
        observed.address_routes.sort_unstable();
        observed
    }

    /// Returns the links in kernel order.
    pub fn links(&self) -> &[ObservedInterface<'a>] {
        &self.links
    }

    /// Returns the link with an interface index.
    pub fn link(&self, index: u32) -> Option<ObservedInterface<'a>> {
        let found = self.by_index.binary_search_by_key(&index, |(index, _)| *index);
        found.ok().map(|found| self.links[self.by_index[found].1])
    }

    /// Returns the master of a link.
    pub fn master_of(&self, link: &ObservedInterface<'_>) -> Option<ObservedInterface<'a>> {
        self.link(link.state.master?)
    }

    /// Returns the routing table that the kernel uses for the addresses of a link, or `None` for the main table.
    pub fn table_of(&self, link: &ObservedInterface<'_>) -> Option<u32> {
        link.state.vrf_table().or_else(|| self.master_of(link)?.state.vrf_table())
    }

    /// Returns the state of an address, if the link has it.
    pub fn address(&self, link: u32, spec: AddressSpec) -> Option<&'a AddressState> {
        let found = self
            .addresses
            .binary_search_by_key(&(link, spec), |state| (state.link, state.address));
        found.ok().map(|at| self.addresses[at])
    }

    /// Returns the addresses of a link in kernel order.
    pub fn addresses(&self, link: u32) -> &[&'a AddressState] {
        let from = self.addresses_by_link.partition_point(|state| state.link < link);
        let rest = &self.addresses_by_link[from..];
        &rest[..rest.partition_point(|state| state.link == link)]
    }

    /// Returns whether the namespace has this route, which the kernel creates for an address.
    pub fn has_address_route(&self, route: &AddressRoute) -> bool {
        self.address_routes.binary_search(route).is_ok()
    }
}
