//! Links as the kernel shows them.
//!
//! Owns the only way from what the kernel crate reads of a link to what the agent takes it for: whose it is, its kind, its settings, what it
//! is a port of. What is found in a namespace, what is published of a link and what the APIs show are functions of it. Must never look at a
//! value: what is believed or desired is not observed. Start reading at [`observe`].

use models::address::MacAddress;

use super::alias::{Mark, Marks};
use link_kinds::{Feature, LifeCycle, Link, LinkKind, Observed, Role, Settings};
use netns_kernel::{AddressRoute, AddressSpec, AddressState, LinkState, Snapshot};

/// IF_OPER_NOTPRESENT and IF_OPER_DOWN of linux/if.h; as in the reference everything else counts as up.
const OPER_NOT_PRESENT: u8 = 1;
const OPER_DOWN: u8 = 2;

/// A link as the kernel shows it.
#[derive(Clone, Copy)]
pub struct ObservedInterface<'a> {
    /// Names, numbers and states.
    pub state: &'a LinkState,
    /// Its kind; `None` of one that the agent does not know.
    pub kind: Option<&'static dyn LinkKind>,
    /// The mark of this agent.
    pub mark: Option<Mark<'a>>,
    /// It carries the mark of an agent, this or another.
    pub is_marked: bool,
    /// This agent made it and has not marked it yet.
    pub is_provisional: bool,
}

/// What a link is, given its alias, group and kind.
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
    /// Its kind; that of links which the agent only refers to, if it does not know the kind.
    pub fn kind_or_referred(&self) -> &'static dyn LinkKind {
        self.kind.unwrap_or_else(link_kinds::referred)
    }

    /// The mark of one of this agent's values.
    pub fn mark_of_value(&self) -> Option<Mark<'a>> {
        self.mark.filter(Mark::is_of_value)
    }

    /// Whether it carries the mark of an agent with another label.
    pub fn is_other_agents(&self) -> bool {
        self.is_marked && self.mark.is_none()
    }

    /// Whether it is an end of a pair.
    pub fn is_pair(&self) -> bool {
        self.kind.is_some_and(|kind| kind.spec().reference(Role::is_peer).is_some())
    }

    /// Whether it is of a kind that the agent takes over, and no agent has taken it.
    pub fn can_be_taken_over(&self) -> bool {
        let is_taken_over = |kind: &dyn LinkKind| kind.spec().life_cycle == LifeCycle::TakenOver;
        self.kind.is_some_and(is_taken_over) && !self.is_marked
    }

    /// Whether something can be sent through it.
    pub fn is_operational(&self) -> bool {
        !matches!(self.state.oper_state, OPER_NOT_PRESENT | OPER_DOWN)
    }

    /// Its MAC address in words; empty if it has none.
    pub fn mac(&self) -> String {
        self.state.mac.map(|mac| MacAddress(mac).to_string()).unwrap_or_default()
    }

    /// Corrects what is believed of its settings. What the kernel does not show stays.
    pub fn correct(&self, settings: &mut Settings) {
        settings.observe(&Observed {
            attribute: &|number| self.state.attribute(number),
            feature: &|feature| match feature {
                Feature::RxChecksum => self.state.rx_checksum,
                Feature::TxChecksum => self.state.tx_checksum,
            },
        });
    }

    /// Corrects what is believed of its settings as a port. What the kernel does not show stays.
    pub fn correct_port(&self, settings: &mut Settings) {
        settings.observe(&Observed {
            attribute: &|number| self.state.port_attribute(number),
            feature: &|_| None,
        });
    }

    /// The link as one that is known by nothing but its mark. Of a kind that the agent does not know, it is one that it only refers to, and
    /// never touches.
    pub fn link(&self) -> Link {
        let mut link = Link::bare(self.kind_or_referred());
        self.correct(&mut link.settings);
        let subject = self.mark.map(|mark| mark.subject).unwrap_or_default();
        match link.life_cycle() {
            // Only the last word is needed to give it back.
            LifeCycle::TakenOver => link.with_mark_words(subject),
            LifeCycle::Created | LifeCycle::Builtin(_) | LifeCycle::Referred => link,
        }
    }

    /// The VLAN that it gives its new ports and itself by itself, if it is a bridge.
    pub fn default_pvid(&self) -> Option<u16> {
        let spec = self.kind?.spec();
        let attribute = spec.ports?.default_vlan?;
        let mut settings = Settings::bare(spec.attributes);
        self.correct(&mut settings);
        u16::try_from(settings.get(attribute)?).ok().filter(|vid| *vid != 0)
    }
}

/// What is in a namespace, in the orders in which it is looked for. Of few elements, as most namespaces have, sorting takes less time than
/// building tables that are searched by hash.
pub struct ObservedNamespace<'a> {
    /// In the order of the kernel.
    links: Vec<ObservedInterface<'a>>,
    /// Their indices in order, each with the place in `links`.
    by_index: Vec<(u32, usize)>,
    /// In the order of links and addresses.
    addresses: Vec<&'a AddressState>,
    /// In the order of links alone.
    addresses_by_link: Vec<&'a AddressState>,
    /// The routes that the kernel made for addresses, in order.
    address_routes: Vec<AddressRoute>,
}

impl<'a> ObservedNamespace<'a> {
    /// What a reading of a namespace shows.
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

    /// The links, in the order of the kernel.
    pub fn links(&self) -> &[ObservedInterface<'a>] {
        &self.links
    }

    /// The link with an index.
    pub fn link(&self, index: u32) -> Option<ObservedInterface<'a>> {
        let found = self.by_index.binary_search_by_key(&index, |(index, _)| *index);
        found.ok().map(|found| self.links[self.by_index[found].1])
    }

    /// The link that another one is a port of.
    pub fn master_of(&self, link: &ObservedInterface<'_>) -> Option<ObservedInterface<'a>> {
        self.link(link.state.master?)
    }

    /// The routing table of the addresses of a link.
    pub fn table_of(&self, link: &ObservedInterface<'_>) -> Option<u32> {
        link.state.vrf_table().or_else(|| self.master_of(link)?.state.vrf_table())
    }

    /// An address, if a link has it.
    pub fn address(&self, link: u32, spec: AddressSpec) -> Option<&'a AddressState> {
        let found = self
            .addresses
            .binary_search_by_key(&(link, spec), |state| (state.link, state.address));
        found.ok().map(|at| self.addresses[at])
    }

    /// The addresses of a link, in the order of the kernel.
    pub fn addresses(&self, link: u32) -> &[&'a AddressState] {
        let from = self.addresses_by_link.partition_point(|state| state.link < link);
        let rest = &self.addresses_by_link[from..];
        &rest[..rest.partition_point(|state| state.link == link)]
    }

    /// Whether a route is there that the kernel makes for an address.
    pub fn has_address_route(&self, route: &AddressRoute) -> bool {
        self.address_routes.binary_search(route).is_ok()
    }
}
