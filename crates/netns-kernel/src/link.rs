//! Builds the rtnetlink requests that create, change and delete links, and reads links from the kernel.
//!
//! Translates between [`LinkState`], [`NewLink`] and RTM_*LINK. The caller must check [`guard`] before it changes a link.

use std::os::fd::RawFd;

use nix::{errno::Errno, libc};
use rtnetlink::packet_core::{DefaultNla, Emitable, NLM_F_CREATE, NLM_F_EXCL};
use rtnetlink::packet_route::{
    RouteNetlinkMessage,
    link::{self as attribute, InfoData, InfoKind, InfoPortData, InfoPortKind, LinkAttribute, LinkExtentMask, LinkFlags, LinkMessage},
    nsid::{NsidAttribute, NsidMessage},
};

use super::{
    netlink::{Change, Refusal, RouteSocket, attributes, read_text, read_u32},
    operation::{Attr, CreateLink, Guard, LinkInfo, LinkState, NewLink, provisional_group},
};

/// Size of a `struct ifinfomsg` in bytes.
pub(super) const HEADER_BYTES: usize = 16;
/// Prefix that the link aliases of all agents share.
const AGENTS: &str = "/vnf-agent/";
/// IFLA_LINK_NETNSID in linux/if_link.h.
const LINK_NETNSID: u16 = 37;
/// NETNSA_NSID in linux/net_namespace.h.
const NETNSA_NSID: u16 = 1;
/// Size of a padded `struct rtgenmsg` in bytes.
const NSID_HEADER_BYTES: usize = 4;

/// Properties of a link to set in one request; `None` leaves a property unchanged.
///
/// The kernel applies the properties in the order of these fields, regardless of their order in the message (`do_setlink` in
/// net/core/rtnetlink.c).
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct LinkRequest {
    /// Descriptor of the namespace to which the link is moved.
    pub move_to: Option<RawFd>,
    /// MAC address.
    pub mac: Option<[u8; 6]>,
    /// MTU in bytes.
    pub mtu: Option<u32>,
    /// Interface group.
    pub group: Option<u32>,
    /// New name of the link.
    pub rename: Option<String>,
    /// New alias; an empty string removes the alias.
    pub alias: Option<String>,
    /// Index of the master; 0 releases the link from its master.
    pub master: Option<u32>,
    /// Attributes of the link's kind (IFLA_INFO_DATA).
    pub info: Option<LinkInfo>,
    /// Attributes of the link as a port of its master (IFLA_INFO_SLAVE_DATA).
    pub port: Option<LinkInfo>,
    /// Administrative state: `true` sets the link up, `false` sets it down.
    pub up: Option<bool>,
}

impl LinkRequest {
    /// Returns the netlink request that sets these properties on the link with this index.
    pub fn message(self, index: u32) -> Change {
        let mut message = LinkMessage::default();
        message.header.index = index;
        if let Some(up) = self.up {
            message.header.change_mask = LinkFlags::Up;
            message.header.flags = if up { LinkFlags::Up } else { LinkFlags::empty() };
        }
        let to = &mut message.attributes;
        to.extend(self.move_to.map(LinkAttribute::NetNsFd));
        to.extend(self.mac.map(|mac| LinkAttribute::Address(mac.to_vec())));
        to.extend(self.mtu.map(LinkAttribute::Mtu));
        to.extend(self.group.map(LinkAttribute::Group));
        to.extend(self.rename.map(LinkAttribute::IfName));
        to.extend(self.alias.map(LinkAttribute::IfAlias));
        to.extend(self.master.map(LinkAttribute::Controller));
        if self.info.is_none() && self.port.is_none() {
            return (RouteNetlinkMessage::SetLink(message), 0);
        }
        let mut info = Vec::new();
        if let Some(own) = &self.info {
            info.push(attribute::LinkInfo::Kind(InfoKind::Other(own.kind.to_owned())));
            info.push(attribute::LinkInfo::Data(InfoData::Other(encode(&own.data))));
        }
        if let Some(port) = &self.port {
            info.push(attribute::LinkInfo::PortKind(InfoPortKind::Other(port.kind.to_owned())));
            info.push(attribute::LinkInfo::PortData(InfoPortData::Other(encode(&port.data))));
        }
        to.push(LinkAttribute::LinkInfo(info));
        // Use RTM_NEWLINK without NLM_F_CREATE, because RTM_SETLINK silently ignores kind-specific attributes.
        (RouteNetlinkMessage::NewLink(message), 0)
    }

    /// Splits the request into one request per property, to find the property that the kernel refuses.
    pub fn split(self) -> Vec<(String, Self)> {
        let none = Self::default;
        let mut parts = Vec::new();
        if self.move_to.is_some() || self.rename.is_some() {
            let what = self
                .rename
                .as_ref()
                .map_or("move".to_owned(), |name| format!("rename to \"{name}\""));
            parts.push((
                what,
                Self {
                    move_to: self.move_to,
                    rename: self.rename.clone(),
                    ..none()
                },
            ));
        }
        if let Some(alias) = &self.alias {
            parts.push((
                format!("set alias \"{alias}\""),
                Self {
                    alias: self.alias.clone(),
                    ..none()
                },
            ));
        }
        if let Some(group) = self.group {
            parts.push((
                format!("set group {group}"),
                Self {
                    group: self.group,
                    ..none()
                },
            ));
        }
        if let Some(mtu) = self.mtu {
            parts.push((format!("set MTU {mtu}"), Self { mtu: self.mtu, ..none() }));
        }
        if let Some(mac) = self.mac {
            parts.push((format!("set MAC address {}", show_mac(mac)), Self { mac: self.mac, ..none() }));
        }
        if let Some(master) = self.master {
            let what = if master == 0 {
                "release from master".to_owned()
            } else {
                format!("set master {master}")
            };
            parts.push((
                what,
                Self {
                    master: self.master,
                    ..none()
                },
            ));
        }
        parts.extend(self.attributes_one_by_one());
        if let Some(up) = self.up {
            parts.push((format!("set {}", if up { "up" } else { "down" }), Self { up: self.up, ..none() }));
        }
        parts
    }

    fn attributes_one_by_one(&self) -> Vec<(String, Self)> {
        let of_link = |info| Self { info, ..Self::default() };
        let of_port = |port| Self { port, ..Self::default() };
        let parts = |info: &Option<LinkInfo>, request: fn(Option<LinkInfo>) -> Self| -> Vec<(String, Self)> {
            let Some(LinkInfo { kind, module, data }) = info else {
                return Vec::new();
            };
            let one = |attr: &Attr| LinkInfo {
                kind,
                module,
                data: vec![attr.clone()],
            };
            data.iter()
                .map(|attr| (format!("set {}", attr.name), request(Some(one(attr)))))
                .collect()
        };
        [parts(&self.info, of_link), parts(&self.port, of_port)].concat()
    }
}

/// Formats a MAC address like `ip` does.
pub(super) fn show_mac(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

/// Encodes attributes one after the other, as the contents of a nested attribute.
pub(super) fn encode(data: &[Attr]) -> Vec<u8> {
    let attributes: Vec<DefaultNla> = data.iter().map(|attr| DefaultNla::new(attr.number, attr.value.clone())).collect();
    let mut bytes = vec![0; attributes.as_slice().buffer_len()];
    attributes.as_slice().emit(&mut bytes);
    bytes
}

/// Descriptors and indices for a request that creates a link.
pub(super) struct Places {
    /// Descriptor of the namespace of the link, or of the first end of a pair.
    pub end: RawFd,
    /// Descriptor of the namespace of the other end; `None` if the link is not a pair.
    pub peer: Option<RawFd>,
    /// Index of the parent in the namespace from which the request is sent; `None` for a link without a parent.
    pub parent: Option<u32>,
}

/// Returns the RTM_NEWLINK request that creates a link, or both ends of a pair.
pub(super) fn create(create: &CreateLink, places: &Places) -> Change {
    let mut message = new_link(&create.end, places.end);
    message.attributes.extend(places.parent.map(LinkAttribute::Link));
    let peer = create.peer.as_ref().zip(places.peer).map(|(peer, place)| {
        let end = new_link(&peer.end, place);
        let mut value = vec![0; end.buffer_len()];
        end.emit(&mut value);
        Attr {
            number: peer.attribute,
            name: "peer",
            value,
            immutable: true,
        }
    });
    message.attributes.push(info_of(&LinkInfo {
        data: create.info.data.iter().cloned().chain(peer).collect(),
        kind: create.info.kind,
        module: create.info.module,
    }));
    (RouteNetlinkMessage::NewLink(message), NLM_F_CREATE | NLM_F_EXCL)
}

/// Returns the IFLA_LINKINFO attribute for a link kind and its attributes.
pub(super) fn info_of(info: &LinkInfo) -> LinkAttribute {
    let mut attributes = vec![attribute::LinkInfo::Kind(InfoKind::Other(info.kind.to_owned()))];
    if !info.data.is_empty() {
        attributes.push(attribute::LinkInfo::Data(InfoData::Other(encode(&info.data))));
    }
    LinkAttribute::LinkInfo(attributes)
}

/// Returns a message with the attributes that every request for a new link contains.
///
/// The link gets one queue in each direction. More queues would use memory and make the creation slower. On a veth, several
/// queues are useful only if several CPUs send at the same time.
fn new_link(link: &NewLink, namespace: RawFd) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.attributes = vec![
        LinkAttribute::IfName(link.name.clone()),
        LinkAttribute::NetNsFd(namespace),
        LinkAttribute::Group(link.group),
        LinkAttribute::NumTxQueues(1),
        LinkAttribute::NumRxQueues(1),
    ];
    message.attributes.extend(link.mtu.map(LinkAttribute::Mtu));
    message.attributes.extend(link.mac.map(|mac| LinkAttribute::Address(mac.to_vec())));
    message
}

/// Returns the RTM_DELLINK request that deletes the link with this index.
pub(super) fn delete(index: u32) -> Change {
    let mut message = LinkMessage::default();
    message.header.index = index;
    (RouteNetlinkMessage::DelLink(message), 0)
}

/// Returns the RTM_DELLINK request that deletes all links in a group.
pub(super) fn delete_group(group: u32) -> Change {
    let mut message = LinkMessage::default();
    message.attributes.push(LinkAttribute::Group(group));
    (RouteNetlinkMessage::DelLink(message), 0)
}

/// Reads the link with this name; `None` if there is no such link.
pub(super) fn find(socket: &mut RouteSocket, name: &str) -> Result<Option<LinkState>, Refusal> {
    match socket.get(by_name(name)) {
        // The kernel also finds links by their alternative names, so compare the name.
        Ok(payload) => Ok(parse(&payload).filter(|link| link.name == name)),
        Err(refusal) if refusal.is(Errno::ENODEV) => Ok(None),
        Err(refusal) => Err(refusal),
    }
}

/// Reads the link with this alternative name; `None` if there is no such link.
pub(super) fn find_by_alternative_name(socket: &mut RouteSocket, name: &str) -> Result<Option<LinkState>, Refusal> {
    match socket.get(by_name(name)) {
        Ok(payload) => Ok(parse(&payload).filter(|link| link.name != name)),
        Err(refusal) if refusal.is(Errno::ENODEV) => Ok(None),
        Err(refusal) => Err(refusal),
    }
}

/// Returns the routing table of the VRF if the link is a VRF device or a port of a VRF device; otherwise `None`.
pub(super) fn vrf_table(socket: &mut RouteSocket, link: &LinkState) -> Result<Option<u32>, Refusal> {
    let Some(master) = link.master.filter(|_| link.vrf_table().is_none()) else {
        return Ok(link.vrf_table());
    };
    let mut message = LinkMessage::default();
    message.header.index = master;
    message.attributes = vec![LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats])];
    match socket.get(RouteNetlinkMessage::GetLink(message)) {
        Ok(payload) => Ok(parse(&payload).and_then(|master| master.vrf_table())),
        Err(refusal) if refusal.is(Errno::ENODEV) => Ok(None),
        Err(refusal) => Err(refusal),
    }
}

/// Reads the links with these names. Omits links that do not exist or cannot be read.
pub(super) fn find_all(socket: &mut RouteSocket, names: &[&str]) -> Vec<LinkState> {
    let payloads = socket.get_all(names.iter().map(|name| by_name(name)));
    let found = payloads.into_iter().filter_map(|payload| parse(&payload));
    found.filter(|link| names.contains(&link.name.as_str())).collect()
}

fn by_name(name: &str) -> RouteNetlinkMessage {
    let mut message = LinkMessage::default();
    message.attributes = vec![
        LinkAttribute::IfName(name.to_owned()),
        LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]),
    ];
    RouteNetlinkMessage::GetLink(message)
}

/// Reads the id (nsid) of the namespace behind `descriptor`, as seen from the socket's namespace; `None` if no id is assigned.
pub(super) fn namespace_number(socket: &mut RouteSocket, descriptor: RawFd) -> Result<Option<i32>, Refusal> {
    let mut message = NsidMessage::default();
    message.attributes.push(NsidAttribute::Fd(descriptor.cast_unsigned()));
    let payload = socket.get(RouteNetlinkMessage::GetNsId(message))?;
    let mut attributes = attributes(payload.get(NSID_HEADER_BYTES..).unwrap_or_default());
    let id = attributes.find(|(kind, _)| *kind == NETNSA_NSID);
    Ok(id
        .and_then(|(_, value)| read_u32(value, 0))
        .map(u32::cast_signed)
        .filter(|id| *id >= 0))
}

/// Reads all links in the namespace of the socket.
pub(super) fn dump(socket: &mut RouteSocket) -> Result<Vec<LinkState>, Refusal> {
    let mut message = LinkMessage::default();
    message.attributes = vec![LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats])];
    socket.dump(&RouteNetlinkMessage::GetLink(message), |payload, found: &mut Vec<_>| {
        found.extend(parse(payload))
    })
}

pub(super) fn parse(payload: &[u8]) -> Option<LinkState> {
    let flags = read_u32(payload, 8)?;
    let mut link = LinkState {
        index: read_u32(payload, 4)?,
        up: flags & libc::IFF_UP as u32 != 0,
        single_neighbour: flags & (libc::IFF_LOOPBACK | libc::IFF_POINTOPOINT) as u32 != 0,
        ..LinkState::default()
    };
    for (kind, value) in attributes(payload.get(HEADER_BYTES..)?) {
        match kind {
            libc::IFLA_IFNAME => link.name = read_text(value),
            libc::IFLA_IFALIAS => link.alias = read_text(value),
            libc::IFLA_OPERSTATE => link.oper_state = value.first().copied().unwrap_or(0),
            libc::IFLA_MTU => link.mtu = read_u32(value, 0)?,
            libc::IFLA_ADDRESS => link.mac = value.try_into().ok(),
            libc::IFLA_GROUP => link.group = read_u32(value, 0)?,
            libc::IFLA_MASTER => link.master = read_u32(value, 0),
            libc::IFLA_LINK => link.linked = read_u32(value, 0),
            LINK_NETNSID => link.linked_netnsid = read_u32(value, 0).map(u32::cast_signed),
            libc::IFLA_LINKINFO => parse_info(value, &mut link),
            _ => {}
        }
    }
    Some(link)
}

fn parse_info(info: &[u8], link: &mut LinkState) {
    for (kind, value) in attributes(info) {
        match kind {
            libc::IFLA_INFO_KIND => link.kind = read_text(value),
            libc::IFLA_INFO_DATA => link.info = value.to_vec(),
            libc::IFLA_INFO_SLAVE_KIND => link.port_kind = read_text(value),
            libc::IFLA_INFO_SLAVE_DATA => link.port = value.to_vec(),
            _ => {}
        }
    }
}

/// Returns whether the guard allows the agent to change or delete this link.
pub(super) fn guard(guard: &Guard, link: &LinkState) -> bool {
    match guard {
        Guard::Any => true,
        Guard::Known { index } => link.index == *index && mark(link).is_none(),
        Guard::NotOthers {
            alias_prefix,
            agents_prefix,
        } => link.alias.starts_with(alias_prefix) || !link.alias.starts_with(agents_prefix),
        Guard::Owned { alias_prefix } | Guard::OwnCreation { alias_prefix } => {
            link.alias.starts_with(alias_prefix) || link.group == provisional_group(alias_prefix)
        }
    }
}

/// Returns whether an existing link has the ownership mark of the agent that creates the link `new`.
pub(super) fn is_of_same_agent(link: &LinkState, new: &NewLink) -> bool {
    link.group == new.group || mark(link).is_some_and(|prefix| provisional_group(prefix) == new.group)
}

/// Returns the alias prefix of the agent that owns the link, `/vnf-agent/<label>/`; `None` if the alias is not an ownership mark.
pub(super) fn mark(link: &LinkState) -> Option<&str> {
    let (at, _) = link.alias.strip_prefix(AGENTS)?.match_indices('/').next()?;
    Some(&link.alias[..=AGENTS.len() + at])
}

/// Describes the kind and owner of a conflicting link, for messages.
pub(super) fn describe(link: &LinkState) -> String {
    let kind = if link.kind.is_empty() { "no kind" } else { &link.kind };
    if link.alias.is_empty() {
        return format!("kind {kind}, no alias, owner unknown");
    }
    match mark(link) {
        Some(mark) => format!(
            "kind {kind}, alias \"{}\", which probably belongs to the agent {}",
            link.alias,
            mark[AGENTS.len()..].trim_end_matches('/')
        ),
        None => format!("kind {kind}, alias \"{}\"", link.alias),
    }
}
