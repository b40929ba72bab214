//! The kernel operations: plain values that say *what* is to be true in *which* namespace.
//!
//! Owns the vocabulary between descriptors (which return operations) and the executor (which performs them); a simulated
//! kernel or a dry run can interpret the same values. Must never perform anything. Start reading at [`KernelOp`].

use std::{fmt, net::IpAddr, path::PathBuf};

use super::netlink::{attributes, read_u32};

/// A pinned network namespace, by the inode number of its nsfs file (`stat /proc/PID/ns/net`). The kernel does not reuse the
/// number while the executor holds the namespace open, so within the agent it is an identity, not a name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct NetnsId(pub u64);

impl fmt::Display for NetnsId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "net:[{}]", self.0)
    }
}

/// A way to find a namespace. What it leads to may change; the result of opening one is a [`NetnsId`].
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum NamespaceRef {
    /// The namespace in which the agent itself was started.
    Own,
    /// A name of `ip netns` (`/run/netns/<name>`); created when it does not exist.
    Named(String),
    /// The namespace of a process. A PID that was bound once never silently means another process.
    Process(i32),
    /// A namespace file. `/proc/<pid>/ns/net` is treated as [`NamespaceRef::Process`] is.
    File(PathBuf),
    /// The namespace of a container's main process, as the Docker tracker saw it.
    Container {
        /// Microservice label, for messages.
        label: String,
        /// PID of the main process in the agent's PID namespace.
        pid: i32,
        /// Start time of that process in clock ticks after boot (field 22 of `/proc/PID/stat`, proc(5)); it tells a reused PID.
        start_time: u64,
    },
}

/// One end of a pair, or a single link, as it is to be created: final namespace, name, MTU and MAC in one request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NewLink {
    /// Where it is created.
    pub netns: NetnsId,
    /// Kernel name, 1 to 15 bytes.
    pub name: String,
    /// MTU in bytes; `None` leaves the kernel's default.
    pub mtu: Option<u32>,
    /// MAC address; `None` leaves the kernel's choice.
    pub mac: Option<[u8; 6]>,
    /// Interface group: [`provisional_group`] of the agent.
    pub group: u32,
    /// A foreign link of this name, kind, parent and immutable attributes may be taken over instead: it gets this alias, which ends
    /// with [`ADOPTED_MARK`]. Of a pair both ends must be there, be each other's and allow it.
    pub adopt: Option<String>,
}

/// One attribute of a link kind: what stands inside IFLA_INFO_DATA or IFLA_INFO_SLAVE_DATA.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Attr {
    /// Its number (linux/if_link.h).
    pub number: u16,
    /// Its name, for messages.
    pub name: &'static str,
    /// Its value as it stands in the message.
    pub value: Vec<u8>,
    /// The kernel changes it only by making the link anew: a link with another value cannot be adopted.
    pub immutable: bool,
}

/// The kind of a link with attributes of it (IFLA_LINKINFO).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LinkInfo {
    /// IFLA_INFO_KIND, such as `bridge`.
    pub kind: &'static str,
    /// The kernel module that has it.
    pub module: &'static str,
    /// The attributes.
    pub data: Vec<Attr>,
}

/// The other end of a pair, which is created in the same request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NewPeer {
    /// Number of the attribute that describes it, such as VETH_INFO_PEER.
    pub attribute: u16,
    /// The end itself.
    pub end: NewLink,
}

/// A link of some kind that is to be created, with all that creation can settle.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CreateLink {
    /// Name, place and common properties.
    pub end: NewLink,
    /// Kind and attributes.
    pub info: LinkInfo,
    /// The other end of a pair.
    pub peer: Option<NewPeer>,
    /// The link below it (IFLA_LINK): its namespace and kernel name. The request is sent from there.
    pub parent: Option<(NetnsId, String)>,
}

impl CreateLink {
    /// A link without attributes, peer and parent.
    pub fn new(end: NewLink, kind: &'static str) -> Self {
        let info = LinkInfo {
            kind,
            module: kind,
            data: Vec::new(),
        };
        Self {
            end,
            info,
            peer: None,
            parent: None,
        }
    }

    /// The ends: one, or both of a pair.
    pub fn ends(&self) -> impl Iterator<Item = &NewLink> {
        std::iter::once(&self.end).chain(self.peer.as_ref().map(|peer| &peer.end))
    }
}

/// What must hold of a link before an operation may touch it: the protection of foreign links.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Guard {
    /// The alias starts with this text, or the link carries [`provisional_group`] (made by the agent, alias not yet set).
    Owned {
        /// `/vnf-agent/<label>/`.
        alias_prefix: String,
    },
    /// The alias does not name another agent (`lo` and TAPs, which somebody else makes).
    NotOthers {
        /// `/vnf-agent/<label>/`.
        alias_prefix: String,
        /// `/vnf-agent/`: with this begin the aliases of all agents.
        agents_prefix: String,
    },
    /// It has this index and no agent's mark: a link of the agent from which somebody took the mark. The kernel gives the index to no
    /// other link as long as this one lives.
    Known {
        /// Interface index.
        index: u32,
    },
    /// Any link of that name.
    Any,
}

/// Changes to one link; `None` leaves the property as it is. Applied in the order of the fields.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct LinkChanges {
    /// New kernel name. Where the kernel does not rename a link that is up (before Linux 6.2), it is set down for that and up again.
    pub rename: Option<String>,
    /// Move to this namespace (after the rename, in the same request where the kernel allows it).
    pub move_to: Option<NetnsId>,
    /// Interface alias (at most 255 bytes); `Some("")` removes it.
    pub alias: Option<String>,
    /// Interface group; 0 is the kernel's default.
    pub group: Option<u32>,
    /// MTU in bytes.
    pub mtu: Option<u32>,
    /// MAC address.
    pub mac: Option<[u8; 6]>,
    /// Kernel name of the master, in the same namespace; `Some(None)` releases the link.
    pub master: Option<Option<String>>,
    /// Receive checksum offloading (ethtool ETHTOOL_SRXCSUM).
    pub rx_checksum: Option<bool>,
    /// Transmit checksum offloading (ethtool ETHTOOL_STXCSUM).
    pub tx_checksum: Option<bool>,
    /// Attributes of its kind (IFLA_INFO_DATA).
    pub info: Option<LinkInfo>,
    /// Attributes that it has as a port of its master (IFLA_INFO_SLAVE_DATA), by the kind of the master. Not together with `master`:
    /// the kernel takes them only of what is a port already.
    pub port: Option<LinkInfo>,
    /// Administrative state.
    pub up: Option<bool>,
}

impl LinkChanges {
    /// Whether they do nothing but release the link from its master: there is nothing to do when the link is gone.
    pub fn only_releases(&self) -> bool {
        let release = LinkChanges {
            master: Some(None),
            ..LinkChanges::default()
        };
        *self == release
    }
}

/// An address on a link.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct AddressSpec {
    /// The address itself.
    pub address: IpAddr,
    /// Prefix length, 0..=32 or 0..=128.
    pub prefix_len: u8,
}

/// Duplicate address detection of an IPv6 address (RFC 4862 §5.4); means nothing for IPv4.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum AddressDetection {
    /// As the link's sysctls say (`dad_transmits`, `accept_dad`).
    #[default]
    Default,
    /// None: IFA_F_NODAD.
    Off,
    /// The address is used meanwhile (RFC 4429): IFA_F_OPTIMISTIC, with the sysctl `optimistic_dad` that the kernel wants for it.
    Optimistic,
}

/// A route with one next hop.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct RouteSpec {
    /// Destination network, host bits cleared.
    pub destination: IpAddr,
    /// Its prefix length.
    pub prefix_len: u8,
    /// Gateway; `None` for a route without one.
    pub gateway: Option<IpAddr>,
    /// Routing table; 254 is main (rtnetlink(7)).
    pub table: u32,
    /// Route scope for IPv4 (`RT_SCOPE_*`: universe 0, site 200, link 253, host 254); IPv6 ignores it.
    pub scope: u8,
    /// Metric (RTA_PRIORITY); 0 leaves the kernel's default (IPv6: 1024).
    pub metric: u32,
}

/// Interface group of a link that was created but does not carry its alias yet. The kernel ignores IFLA_IFALIAS in a creating
/// request but honours IFLA_GROUP (`rtnl_create_link` in net/core/rtnetlink.c), so this closes the gap in which a killed agent
/// would leave a link without a mark. Setting the alias sets the group back to 0 in the same request.
///
/// Each agent has its own, made from the prefix of its aliases, so that one never takes another's unfinished link for a leftover.
pub fn provisional_group(alias_prefix: &str) -> u32 {
    // FNV-1a, 32 bits; the first byte is fixed, so that the number is far from those that people choose.
    let hash = alias_prefix
        .bytes()
        .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    0x6e00_0000 | (hash & 0x00ff_ffff)
}

/// Ends the alias of a link that somebody else had made and the agent took over. Setting the rest of that alias leaves it.
pub const ADOPTED_MARK: &str = "//adopted";

/// Protocol number that marks the agent's own routes (`rtm_protocol`), addresses (`IFA_PROTO`, Linux 5.18) and neighbours
/// (`NDA_PROTOCOL`). Not assigned in /etc/iproute2/rt_protos nor in linux/rtnetlink.h.
pub const PROTOCOL: u8 = 158;

/// One thing to do in the kernel. Deleting what is already gone is success, and so is releasing it from its master; creating what exists is an error (EEXIST).
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum KernelOp {
    /// Find, pin and read a namespace; with a `mark`, a [`NamespaceRef::Named`] that does not exist is created (`lo` up, alias of `lo`
    /// set to it before the name becomes visible). Answers [`Reply::Opened`].
    OpenNamespace {
        /// How to find it.
        reference: NamespaceRef,
        /// Alias of `lo` in a namespace that the agent creates; `None`: it must exist.
        mark: Option<String>,
    },
    /// Check that a reference still leads to the same namespace; answers [`Reply::Same`] or [`Reply::Changed`].
    VerifyNamespace {
        /// How it was found.
        reference: NamespaceRef,
        /// What it led to.
        netns: NetnsId,
    },
    /// Read a pinned namespace again; answers [`Reply::Contents`].
    DumpNamespace {
        /// Which.
        netns: NetnsId,
    },
    /// Read the links of a pinned namespace with all that people want to know of them; answers [`Reply::Links`].
    ReadLinks {
        /// Which.
        netns: NetnsId,
    },
    /// Release a pinned namespace (each open is released once).
    CloseNamespace {
        /// How it was found.
        reference: NamespaceRef,
        /// Which.
        netns: NetnsId,
        /// Remove the name too (as `ip netns del`), if the alias of `lo` starts with this text and the name still leads to `netns`.
        remove_if_marked: Option<String>,
        /// Forget which process a PID was bound to: the user gave the reference up.
        forget: bool,
    },
    /// Forget which process a reference was bound to: the user gave up a reference that leads nowhere.
    ForgetProcess {
        /// Which.
        reference: NamespaceRef,
    },
    /// Create a link, or both ends of a pair in one request, in the final namespaces, down, in [`provisional_group`].
    CreateLink(Box<CreateLink>),
    /// Make a sysctl of a namespace have a value; one that the kernel does not have is passed over.
    EnsureSysctl {
        /// Namespace.
        netns: NetnsId,
        /// Name, such as `net.ipv4.tcp_l3mdev_accept`.
        name: &'static str,
        /// The value.
        value: &'static str,
    },
    /// Change a link.
    SetLink {
        /// Namespace in which the link is now.
        netns: NetnsId,
        /// Kernel name that it has now.
        name: String,
        /// What must hold of it.
        guard: Guard,
        /// What to change.
        changes: Box<LinkChanges>,
    },
    /// Delete a link.
    DeleteLink {
        /// Namespace.
        netns: NetnsId,
        /// Kernel name.
        name: String,
        /// What must hold of it.
        guard: Guard,
    },
    /// Give a bridge or a port of one a range of VLANs, or take it away.
    SetBridgeVlan {
        /// Namespace.
        netns: NetnsId,
        /// Kernel name of the link.
        link: String,
        /// What must hold of the link.
        guard: Guard,
        /// The VLANs.
        vlan: BridgeVlan,
        /// The link is a bridge: the VLANs are its own.
        itself: bool,
        /// Give, or take away.
        present: bool,
    },
    /// Add an address, marked with [`PROTOCOL`]; one that exists already is taken over, and gets back the routes that the kernel had made
    /// for it ([`routes_of_address`](super::routes_of_address)). Enables IPv6 on the link for an IPv6 address.
    AddAddress {
        /// Namespace.
        netns: NetnsId,
        /// Kernel name of the link.
        link: String,
        /// What must hold of the link.
        guard: Guard,
        /// The address.
        address: AddressSpec,
        /// Whether the kernel looks for somebody else with the address.
        detection: AddressDetection,
        /// The link is somebody else's too (EXISTING, `lo`): an address that is there already is left as it is, and only one that
        /// carries [`PROTOCOL`] is removed.
        shared: bool,
    },
    /// Look whether an address may be used; a failure of kind [`FailureKind::Tentative`] or [`FailureKind::Duplicate`] says why not.
    /// In the latter case the address is removed and added, so that the kernel asks once more; it never does so by itself.
    ConfirmAddress {
        /// Namespace.
        netns: NetnsId,
        /// Kernel name of the link.
        link: String,
        /// What must hold of the link.
        guard: Guard,
        /// The address.
        address: AddressSpec,
        /// As for [`KernelOp::AddAddress`]; one that is used meanwhile may be used.
        detection: AddressDetection,
        /// As for [`KernelOp::AddAddress`].
        shared: bool,
    },
    /// Remove an address.
    DeleteAddress {
        /// Namespace.
        netns: NetnsId,
        /// Kernel name of the link.
        link: String,
        /// What must hold of the link.
        guard: Guard,
        /// The address.
        address: AddressSpec,
        /// The link is somebody else's too (EXISTING, `lo`): an address that is there already is left as it is, and only one that
        /// carries [`PROTOCOL`] is removed.
        shared: bool,
    },
    /// Make an IPv4 address the primary one of its subnet by adding the others again, in the order given. Nothing is done if it is already,
    /// or if any address of the subnet is not marked with [`PROTOCOL`] or is not named: deleting a primary address can delete others.
    MakePrimary {
        /// Namespace.
        netns: NetnsId,
        /// Kernel name of the link.
        link: String,
        /// What must hold of the link.
        guard: Guard,
        /// The address.
        address: AddressSpec,
        /// All other addresses of the subnet.
        others: Vec<AddressSpec>,
    },
    /// Create or replace a permanent neighbour entry, marked with [`PROTOCOL`]. A foreign one is replaced only if `adopt` says so
    /// ([`Reply::Adopted`]); what the kernel learnt is nobody's.
    SetNeighbour {
        /// Namespace.
        netns: NetnsId,
        /// Kernel name of the link.
        link: String,
        /// What must hold of the link.
        guard: Guard,
        /// IP address of the neighbour.
        address: IpAddr,
        /// Its MAC address.
        mac: [u8; 6],
        /// Take over a foreign entry.
        adopt: bool,
    },
    /// Delete a neighbour entry.
    DeleteNeighbour {
        /// Namespace.
        netns: NetnsId,
        /// Kernel name of the link.
        link: String,
        /// What must hold of the link.
        guard: Guard,
        /// IP address of the neighbour.
        address: IpAddr,
    },
    /// Add a route, marked with [`PROTOCOL`].
    AddRoute {
        /// Namespace.
        netns: NetnsId,
        /// Kernel name of the output link.
        link: String,
        /// What must hold of the link.
        guard: Guard,
        /// The route.
        route: RouteSpec,
        /// Replace an equal route (same destination, metric and table) of ours instead of failing with EEXIST.
        replace: bool,
        /// Replace a foreign equal route, too ([`Reply::Adopted`]).
        adopt: bool,
    },
    /// Delete a route that carries [`PROTOCOL`].
    DeleteRoute {
        /// Namespace.
        netns: NetnsId,
        /// Kernel name of the output link.
        link: String,
        /// What must hold of the link.
        guard: Guard,
        /// The route.
        route: RouteSpec,
    },
}

impl KernelOp {
    /// The namespaces in which an operation works, which must be open; none for those that open or close one.
    pub fn works_in(&self) -> Vec<NetnsId> {
        match self {
            KernelOp::CreateLink(create) => {
                let parent = create.parent.as_ref().map(|(netns, _)| *netns);
                create.ends().map(|end| end.netns).chain(parent).collect()
            }
            KernelOp::SetLink { netns, changes, .. } => changes.move_to.into_iter().chain([*netns]).collect(),
            KernelOp::DeleteLink { netns, .. } | KernelOp::EnsureSysctl { netns, .. } => vec![*netns],
            _ => self.on_link().map(|(netns, ..)| netns).into_iter().collect(),
        }
    }

    /// The link that an operation on addresses, VLANs, neighbours or routes is about, and what must hold of it; `None` of any other operation.
    pub fn on_link(&self) -> Option<(NetnsId, &str, &Guard)> {
        match self {
            KernelOp::AddAddress { netns, link, guard, .. }
            | KernelOp::ConfirmAddress { netns, link, guard, .. }
            | KernelOp::DeleteAddress { netns, link, guard, .. }
            | KernelOp::MakePrimary { netns, link, guard, .. }
            | KernelOp::SetNeighbour { netns, link, guard, .. }
            | KernelOp::DeleteNeighbour { netns, link, guard, .. }
            | KernelOp::AddRoute { netns, link, guard, .. }
            | KernelOp::DeleteRoute { netns, link, guard, .. }
            | KernelOp::SetBridgeVlan { netns, link, guard, .. } => Some((*netns, link, guard)),
            _ => None,
        }
    }
}

/// The operations of one value. They are performed in order; the first failure ends the task.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Task {
    /// Number chosen by the sender; comes back with the outcome.
    pub id: u64,
    /// Key of the value, for error messages and logs.
    pub key: String,
    /// What to do.
    pub ops: Vec<KernelOp>,
}

/// What came of a task.
#[derive(Clone, PartialEq, Debug)]
pub struct Outcome {
    /// Number of the task.
    pub id: u64,
    /// Reply of its last operation that has one, or the failure that ended it.
    pub result: Result<Reply, Failure>,
}

/// What came of tasks that were handed over together. Whoever handed them over hears at least once of them.
#[derive(Clone, PartialEq, Debug)]
pub struct Answer {
    /// Outcomes, some or all.
    pub outcomes: Vec<Outcome>,
    /// Which of the answers it is.
    pub part: Part,
}

/// Which of several answers one is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Part {
    /// The rest is being performed: whoever was told can think about these meanwhile.
    Early,
    /// With this one, everything has been performed but for what takes long. There is exactly one.
    Main,
    /// These took long.
    Late,
}

/// What an operation answers. A task answers with the reply of its last operation that has one.
#[derive(Clone, PartialEq, Debug)]
pub enum Reply {
    /// Done, nothing to tell.
    Done,
    /// Done; the object was, now or earlier, taken over from somebody else.
    Adopted,
    /// A namespace was opened.
    Opened {
        /// Its identity.
        netns: NetnsId,
        /// Whether this operation created it.
        created: bool,
        /// What it contains.
        contents: Box<Snapshot>,
    },
    /// The reference still leads to the same namespace.
    Same,
    /// The reference leads elsewhere or nowhere; the text says what happened.
    Changed(String),
    /// Contents of a pinned namespace.
    Contents(Box<Snapshot>),
    /// Links of a pinned namespace.
    Links(Vec<LinkDetails>),
}

/// Everything in a namespace that matters to the agent, as the kernel tells it.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Snapshot {
    /// All links.
    pub links: Vec<LinkState>,
    /// VLANs of bridges and their ports.
    pub bridge_vlans: Vec<BridgeVlan>,
    /// All addresses.
    pub addresses: Vec<AddressState>,
    /// Unicast routes of all tables that carry [`PROTOCOL`] (others do not matter to the agent and can be very many).
    pub routes: Vec<RouteState>,
    /// Permanent neighbour entries that carry [`PROTOCOL`].
    pub neighbours: Vec<NeighbourState>,
    /// Routes that the kernel made for addresses, of those families in which the agent has addresses.
    pub address_routes: Vec<AddressRoute>,
}

/// A link as the kernel tells it.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct LinkState {
    /// Interface index, unique within the namespace.
    pub index: u32,
    /// Kernel name.
    pub name: String,
    /// IFLA_INFO_KIND, such as `veth`; empty when the kernel gives none (`lo`, hardware).
    pub kind: String,
    /// Interface alias; empty when unset.
    pub alias: String,
    /// IFF_UP.
    pub up: bool,
    /// IFLA_OPERSTATE (RFC 2863; linux/if.h: 0 unknown, 2 down, 6 up).
    pub oper_state: u8,
    /// MTU in bytes.
    pub mtu: u32,
    /// MAC address; `None` for links without one.
    pub mac: Option<[u8; 6]>,
    /// IFF_LOOPBACK or IFF_POINTOPOINT: IPv4 has one neighbour entry on it for all addresses (`arp_constructor` in net/ipv4/arp.c).
    pub single_neighbour: bool,
    /// Interface group.
    pub group: u32,
    /// Index of the master.
    pub master: Option<u32>,
    /// IFLA_LINK: index of the other end of a pair, or of the parent, in the namespace of that one.
    pub linked: Option<u32>,
    /// IFLA_LINK_NETNSID: by which number the namespace of `linked` is known; `None` if it is in the same namespace.
    pub linked_netnsid: Option<i32>,
    /// IFLA_INFO_DATA: the attributes of its kind as the kernel sends them; see [`Self::attribute`].
    pub info: Vec<u8>,
    /// IFLA_INFO_SLAVE_KIND: the kind of its master; empty without one.
    pub port_kind: String,
    /// IFLA_INFO_SLAVE_DATA: the attributes that it has as a port; see [`Self::port_attribute`].
    pub port: Vec<u8>,
    /// Receive checksum offloading; read only of links of some kind with an alias.
    pub rx_checksum: Option<bool>,
    /// Transmit checksum offloading; read only of links of some kind with an alias.
    pub tx_checksum: Option<bool>,
}

/// IFLA_VRF_TABLE of linux/if_link.h.
const VRF_TABLE: u16 = 1;

impl LinkState {
    /// The attribute of its kind that has this number.
    pub fn attribute(&self, number: u16) -> Option<&[u8]> {
        attributes(&self.info).find(|(found, _)| *found == number).map(|(_, value)| value)
    }

    /// The attribute with this number that it has as a port of its master.
    pub fn port_attribute(&self, number: u16) -> Option<&[u8]> {
        attributes(&self.port).find(|(found, _)| *found == number).map(|(_, value)| value)
    }

    /// Routing table of a VRF device, to which the routes of its ports belong; `None` of any other link.
    pub fn vrf_table(&self) -> Option<u32> {
        let table = self.attribute(VRF_TABLE).filter(|_| self.kind == "vrf");
        table.and_then(|table| read_u32(table, 0))
    }
}

/// A link with what only people want to know of it.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct LinkDetails {
    /// What matters to the agent.
    pub state: LinkState,
    /// IFF_* (linux/if.h).
    pub flags: u32,
    /// ARPHRD_* (linux/if_arp.h): 1 Ethernet, 772 loopback, 65534 none.
    pub hardware: u16,
    /// Receive queues.
    pub rx_queues: u32,
    /// Transmit queues.
    pub tx_queues: u32,
    /// Length of a transmit queue in packets.
    pub tx_queue_length: u32,
    /// What went through it.
    pub counters: LinkCounters,
}

/// `struct rtnl_link_stats64` of linux/if_link.h, as far as it is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[allow(missing_docs, reason = "the names are those of the kernel")]
pub struct LinkCounters {
    pub rx_packets: u64,
    pub tx_packets: u64,
    pub rx_bytes: u64,
    pub tx_bytes: u64,
    pub rx_errors: u64,
    pub tx_errors: u64,
    pub rx_dropped: u64,
    pub tx_dropped: u64,
}

/// A VLAN, or a range of them, of a bridge or of one of its ports.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BridgeVlan {
    /// Index of the bridge or the port; of no meaning in an operation.
    pub link: u32,
    /// First VLAN id.
    pub first: u16,
    /// Last VLAN id.
    pub last: u16,
    /// Untagged frames that come in belong to it.
    pub pvid: bool,
    /// Its frames leave without a tag.
    pub untagged: bool,
}

/// An address as the kernel tells it.
#[derive(Clone, PartialEq, Debug)]
pub struct AddressState {
    /// Index of the link.
    pub link: u32,
    /// The address.
    pub address: AddressSpec,
    /// IFA_PROTO; 0 when the kernel gives none.
    pub protocol: u8,
    /// RT_SCOPE_*.
    pub scope: u8,
    /// IFA_FLAGS (linux/if_addr.h: 0x40 tentative, 0x08 dadfailed).
    pub flags: u32,
}

/// IFA_F_OPTIMISTIC, IFA_F_DADFAILED and IFA_F_TENTATIVE of linux/if_addr.h.
const OPTIMISTIC: u32 = 0x04;
const DAD_FAILED: u32 = 0x08;
const TENTATIVE: u32 = 0x40;

/// How far duplicate address detection of an address has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Progress {
    /// The address may be used.
    Over,
    /// It may turn out that somebody else has it.
    Tentative,
    /// Somebody else has it.
    Failed,
}

/// IFA_F_SECONDARY of linux/if_addr.h, which for IPv6 means a temporary address.
const SECONDARY: u32 = 0x01;

impl AddressState {
    /// Whether another IPv4 address of the subnet was there before: that one is the primary address.
    pub fn is_secondary(&self) -> bool {
        self.address.address.is_ipv4() && self.flags & SECONDARY != 0
    }

    /// What the flags say. One that is used meanwhile counts as over where that was asked for.
    pub fn progress(&self, asked: AddressDetection) -> Progress {
        match self.flags {
            flags if flags & DAD_FAILED != 0 => Progress::Failed,
            flags if flags & OPTIMISTIC != 0 && asked == AddressDetection::Optimistic => Progress::Over,
            flags if flags & TENTATIVE != 0 => Progress::Tentative,
            _ => Progress::Over,
        }
    }
}

/// A route as the kernel tells it.
#[derive(Clone, PartialEq, Debug)]
pub struct RouteState {
    /// Index of the output link.
    pub link: u32,
    /// The route; `metric` as the kernel tells it.
    pub route: RouteSpec,
    /// `rtm_protocol`.
    pub protocol: u8,
}

impl RouteState {
    /// Whether the kernel made it: it follows from an address or a redirect (RTPROT_KERNEL, RTPROT_REDIRECT).
    pub fn is_of_kernel(&self) -> bool {
        matches!(self.protocol, 1 | 2)
    }
}

/// A route that the kernel made for an address: the connected route of its subnet, or the local route of the address itself.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct AddressRoute {
    /// Index of the link.
    pub link: u32,
    /// Destination network, host bits cleared.
    pub destination: IpAddr,
    /// Its prefix length.
    pub prefix_len: u8,
    /// Routing table.
    pub table: u32,
    /// It is of type `local`: packets to it are delivered on this host.
    pub local: bool,
}

/// A permanent neighbour entry as the kernel tells it.
#[derive(Clone, PartialEq, Debug)]
pub struct NeighbourState {
    /// Index of the link.
    pub link: u32,
    /// IP address.
    pub address: IpAddr,
    /// MAC address.
    pub mac: [u8; 6],
    /// NDA_PROTOCOL; 0 when the kernel gives none.
    pub protocol: u8,
}

/// How a failed operation is to be treated.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FailureKind {
    /// What it needs does not exist yet (no such process, file or container): wait for a signal, this is no error.
    Unavailable,
    /// What was named exists and can never be used (a directory where a namespace is meant): the name must be corrected.
    Unusable,
    /// The kernel lacks the link kind: only loading a module helps.
    KindMissing,
    /// Another object of this agent is in the way.
    Exists,
    /// It has not come back, and was given up; it may still come back, without effect.
    TimedOut,
    /// Somebody else's object is in the way; it was left as it is.
    Foreign,
    /// The kernel has not finished looking for somebody else with the address: an event will tell.
    Tentative,
    /// Somebody else on the link has the address.
    Duplicate,
    /// The kernel cannot keep it as requested on such a link, or keeps something else: the value or the link must be changed.
    Unsupported,
    /// Anything else; trying again may help.
    Other,
}

/// Why an operation failed, for the person who reads it.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// How to treat it.
    pub kind: FailureKind,
    /// The kernel's error number (errno(3)); `None` where the kernel was not asked.
    pub errno: Option<i32>,
    /// The kernel's own words: those of the extended acknowledgement if there are any, otherwise those of errno(3); empty where the
    /// kernel was not asked.
    pub kernel_text: String,
    /// What failed, on what, in which namespace, in the kernel's own words (errno text and extended ack), and what to do next.
    pub message: String,
}
