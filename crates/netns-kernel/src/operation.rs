//! Describes kernel operations as plain values. Each value specifies a change and the namespace in which to make it.
//!
//! Descriptors return [`KernelOp`]s and the executor performs them. A simulated kernel or a dry run can interpret the same
//! operations.

use std::{fmt, net::IpAddr, path::PathBuf};

use super::netlink::{attributes, read_u32};

/// A pinned network namespace, identified by the inode number of its nsfs file.
///
/// `stat /proc/PID/ns/net` shows the number. The kernel does not reuse the number while the executor keeps the namespace open,
/// so the number identifies one namespace within the agent.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct NetnsId(pub u64);

impl fmt::Display for NetnsId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "net:[{}]", self.0)
    }
}

/// A way to find a namespace.
///
/// The same reference can lead to a different namespace later. Opening a reference returns the [`NetnsId`] of its namespace.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum NamespaceRef {
    /// The namespace in which the agent itself was started.
    Own,
    /// A named namespace, as used by `ip netns` (`/run/netns/<name>`); [`KernelOp::OpenNamespace`] can create it.
    Named(String),
    /// The namespace of the process with this PID. A reference that is bound to a process never leads to a later process with
    /// the same PID.
    Process(i32),
    /// A namespace file. `/proc/<pid>/ns/net` is treated like [`NamespaceRef::Process`].
    File(PathBuf),
    /// The namespace of a container's main process, as reported by the Docker tracker.
    Container {
        /// Microservice label of the container, for messages.
        label: String,
        /// PID of the main process in the agent's PID namespace.
        pid: i32,
        /// Start time of the main process, in clock ticks after boot (field 22 of `/proc/PID/stat`, proc(5)). Detects a reused
        /// PID.
        start_time: u64,
    },
}

impl NamespaceRef {
    /// Returns the name under which the reference is recorded for the next run of the agent. The names must stay the same in all
    /// versions of the agent. The name of a container does not depend on its main process.
    pub(super) fn recorded_name(&self) -> String {
        match self {
            NamespaceRef::Own => "OWN".to_owned(),
            NamespaceRef::Named(name) => format!("NSID {name}"),
            NamespaceRef::Process(pid) => format!("PID {pid}"),
            NamespaceRef::File(path) => format!("FD {}", path.display()),
            NamespaceRef::Container { label, .. } => format!("MICROSERVICE {label}"),
        }
    }
}

/// A link to create, or one end of a pair. A single request sets all its properties.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NewLink {
    /// Namespace in which the link is created.
    pub netns: NetnsId,
    /// Kernel name, 1 to 15 bytes.
    pub name: String,
    /// MTU in bytes; `None` lets the kernel choose.
    pub mtu: Option<u32>,
    /// MAC address; `None` lets the kernel choose.
    pub mac: Option<[u8; 6]>,
    /// Interface group: the agent's [`provisional_group`].
    pub group: u32,
    /// Alias to set if an existing foreign link is adopted. The alias ends with [`ADOPTED_MARK`]. `None` forbids adoption.
    ///
    /// The existing link must have the same name, kind, parent and immutable attributes. Both ends of a pair must exist, be peers
    /// of each other and allow adoption.
    pub adopt: Option<String>,
}

/// One attribute of a link kind, inside IFLA_INFO_DATA or IFLA_INFO_SLAVE_DATA.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Attr {
    /// Attribute number (linux/if_link.h).
    pub number: u16,
    /// Attribute name, for messages.
    pub name: &'static str,
    /// Value, encoded as in the netlink message.
    pub value: Vec<u8>,
    /// True if the kernel cannot change the attribute of an existing link, so a link with a different value cannot be adopted.
    pub immutable: bool,
}

/// A link kind with its attributes (IFLA_LINKINFO).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LinkInfo {
    /// IFLA_INFO_KIND, such as `bridge`.
    pub kind: &'static str,
    /// Kernel module that implements the kind.
    pub module: &'static str,
    /// Attributes of the kind, which are sent inside IFLA_INFO_DATA.
    pub data: Vec<Attr>,
}

/// The other end of a pair, which is created in the same request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NewPeer {
    /// Number of the attribute that describes the other end, such as VETH_INFO_PEER.
    pub attribute: u16,
    /// Namespace, name, MTU and MAC address of the other end.
    pub end: NewLink,
}

/// A link to create, with every property that can be set at creation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CreateLink {
    /// Namespace, name, MTU and MAC address of the link.
    pub end: NewLink,
    /// Kind of the link, with its attributes.
    pub info: LinkInfo,
    /// The other end of a pair; `None` if the link is not a pair.
    pub peer: Option<NewPeer>,
    /// Namespace and kernel name of the parent link (IFLA_LINK), if there is one. The creation request is sent from the parent's
    /// namespace.
    pub parent: Option<(NetnsId, String)>,
}

impl CreateLink {
    /// Returns a link of this kind without attributes, peer or parent.
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

    /// Returns the link itself, or both ends of a pair.
    pub fn ends(&self) -> impl Iterator<Item = &NewLink> {
        std::iter::once(&self.end).chain(self.peer.as_ref().map(|peer| &peer.end))
    }
}

/// Condition that a link must meet before an operation changes it. Protects foreign links.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Guard {
    /// The alias starts with this agent's prefix, or the link is in the [`provisional_group`] because the agent has created it
    /// but not yet set its alias.
    Owned {
        /// Alias prefix of this agent: `/vnf-agent/<label>/`.
        alias_prefix: String,
    },
    /// Like [`Guard::Owned`], but used to delete a link after a failed creation. The operation leaves an adopted link
    /// ([`ADOPTED_MARK`]) unchanged and succeeds, because the link existed before the creation.
    OwnCreation {
        /// Alias prefix of this agent: `/vnf-agent/<label>/`.
        alias_prefix: String,
    },
    /// The link does not have another agent's alias. Used for `lo`, and for TAPs, which other programs create.
    NotOthers {
        /// Alias prefix of this agent: `/vnf-agent/<label>/`.
        alias_prefix: String,
        /// Prefix that the aliases of all agents share: `/vnf-agent/`.
        agents_prefix: String,
    },
    /// The link has this index and no agent's ownership mark. Used for a link that belongs to the agent but has lost its mark.
    ///
    /// The kernel does not assign the index to another link while this link exists.
    Known {
        /// Interface index.
        index: u32,
    },
    /// Any link with the given name, even a foreign one.
    Any,
}

/// Changes to one link; `None` leaves a property unchanged. The link is renamed and moved before all other changes.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct LinkChanges {
    /// New kernel name. Before Linux 6.2, the kernel cannot rename a link that is up, so the link is set down for the rename and
    /// up again afterwards.
    pub rename: Option<String>,
    /// Namespace to which the link is moved, in the same request as the rename.
    pub move_to: Option<NetnsId>,
    /// Interface alias (at most 255 bytes); `Some("")` removes it.
    pub alias: Option<String>,
    /// Interface group; 0 is the kernel's default.
    pub group: Option<u32>,
    /// MTU in bytes.
    pub mtu: Option<u32>,
    /// MAC address.
    pub mac: Option<[u8; 6]>,
    /// Kernel name of the master, in the same namespace; `Some(None)` releases the link from its master.
    pub master: Option<Option<String>>,
    /// Receive checksum offloading on or off (ETHTOOL_SRXCSUM).
    pub rx_checksum: Option<bool>,
    /// Transmit checksum offloading on or off (ETHTOOL_STXCSUM).
    pub tx_checksum: Option<bool>,
    /// Attributes of the link's kind (IFLA_INFO_DATA).
    pub info: Option<LinkInfo>,
    /// Attributes of the link as a port (IFLA_INFO_SLAVE_DATA), with the kind of its master.
    ///
    /// Cannot be combined with `master`, because the kernel accepts these attributes only for a link that is already a port.
    pub port: Option<LinkInfo>,
    /// Administrative state: `true` sets the link up, `false` sets it down.
    pub up: Option<bool>,
}

impl LinkChanges {
    /// Returns whether the only change is to release the link from its master. Releasing a link that does not exist succeeds and
    /// changes nothing.
    pub fn only_releases(&self) -> bool {
        let release = LinkChanges {
            master: Some(None),
            ..LinkChanges::default()
        };
        *self == release
    }
}

/// An IP address to configure on a link.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct AddressSpec {
    /// IP address.
    pub address: IpAddr,
    /// Prefix length: up to 32 for IPv4, up to 128 for IPv6.
    pub prefix_len: u8,
}

/// Mode of duplicate address detection for an IPv6 address (RFC 4862 §5.4); ignored for IPv4.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum AddressDetection {
    /// Detection as configured by the link's sysctls (`dad_transmits`, `accept_dad`).
    #[default]
    Default,
    /// No detection (IFA_F_NODAD).
    Off,
    /// The address can be used during detection (RFC 4429). Sets IFA_F_OPTIMISTIC and the sysctl `optimistic_dad`, because the
    /// kernel ignores the flag without the sysctl.
    Optimistic,
}

/// A route with one next hop.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct RouteSpec {
    /// Destination network, with the host bits cleared.
    pub destination: IpAddr,
    /// Prefix length of the destination.
    pub prefix_len: u8,
    /// IP address of the gateway; `None` for a route without a gateway.
    pub gateway: Option<IpAddr>,
    /// Routing table; 254 is main (rtnetlink(7)).
    pub table: u32,
    /// Route scope for IPv4 (`RT_SCOPE_*`: universe 0, site 200, link 253, host 254); IPv6 ignores it.
    pub scope: u8,
    /// Metric (RTA_PRIORITY); 0 means the kernel's default (1024 for IPv6).
    pub metric: u32,
}

/// Returns the interface group for the agent's links that do not have an alias yet.
///
/// The kernel ignores IFLA_IFALIAS in a request that creates a link, but honours IFLA_GROUP (`rtnl_create_link` in
/// net/core/rtnetlink.c). The group marks the link as the agent's until the alias is set. If the agent is killed before it sets
/// the alias, the restarted agent recognises the link by its group. The request that sets the alias also resets the group to 0.
///
/// The group is derived from the agent's alias prefix, so that an agent does not mistake another agent's unfinished link for
/// its own.
pub fn provisional_group(alias_prefix: &str) -> u32 {
    // FNV-1a, 32 bits. The fixed first byte keeps the number away from groups that users choose.
    let hash = alias_prefix
        .bytes()
        .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    0x6e00_0000 | (hash & 0x00ff_ffff)
}

/// Alias suffix of an adopted link, that is, a link created by another program. The suffix is kept when the alias changes.
pub const ADOPTED_MARK: &str = "//adopted";

/// Protocol number that marks the agent's routes, addresses and neighbours.
///
/// Set in `rtm_protocol`, `IFA_PROTO` (since Linux 5.18) and `NDA_PROTOCOL`. Neither /etc/iproute2/rt_protos nor
/// linux/rtnetlink.h assigns this number.
pub const PROTOCOL: u8 = 158;

/// One kernel operation.
///
/// Deleting an object that does not exist succeeds, as does releasing a missing link from its master. Creating an object that
/// already exists fails with EEXIST.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum KernelOp {
    /// Find, pin and read a namespace. The reply is [`Reply::Opened`].
    ///
    /// If `mark` is set, a named namespace ([`NamespaceRef::Named`]) that does not exist is created. In the new namespace, `lo`
    /// is set up and gets the mark as its alias before the name becomes visible.
    OpenNamespace {
        /// How to find the namespace.
        reference: NamespaceRef,
        /// Alias to set on `lo` if the namespace is created; `None` if the namespace must already exist.
        mark: Option<String>,
    },
    /// Check whether a reference still leads to the same namespace. The reply is [`Reply::Same`] or [`Reply::Changed`].
    VerifyNamespace {
        /// Reference by which the namespace was found.
        reference: NamespaceRef,
        /// Namespace to which the reference led when it was opened.
        netns: NetnsId,
    },
    /// Read a pinned namespace again. The reply is [`Reply::Contents`].
    DumpNamespace {
        /// Namespace to read.
        netns: NetnsId,
    },
    /// Read the links of a pinned namespace, with details and counters for display. The reply is [`Reply::Links`].
    ReadLinks {
        /// Namespace whose links are read.
        netns: NetnsId,
    },
    /// Release a pinned namespace. Each successful [`KernelOp::OpenNamespace`] must be released once.
    CloseNamespace {
        /// Reference by which the namespace was opened.
        reference: NamespaceRef,
        /// Namespace to release.
        netns: NetnsId,
        /// Alias prefix of this agent; `None` keeps the name of the namespace. The name is deleted (like `ip netns del`) if the
        /// alias of `lo` starts with this prefix and the name still leads to `netns`.
        remove_if_marked: Option<String>,
        /// `true` to also delete the binding of the reference to a process, because the user deleted the reference.
        forget: bool,
    },
    /// Delete the binding of a reference to a process. Used if the user deletes a reference that leads to no namespace.
    ForgetProcess {
        /// Reference whose binding is forgotten.
        reference: NamespaceRef,
    },
    /// Create a link, or both ends of a pair in one request. The links are created in their final namespaces, are down, and
    /// belong to the [`provisional_group`].
    CreateLink(Box<CreateLink>),
    /// Set a sysctl in a namespace. Succeeds without doing anything if the kernel does not have the sysctl.
    EnsureSysctl {
        /// Namespace in which the sysctl is set.
        netns: NetnsId,
        /// Name of the sysctl, such as `net.ipv4.tcp_l3mdev_accept`.
        name: &'static str,
        /// Desired value of the sysctl.
        value: &'static str,
    },
    /// Change properties of a link.
    SetLink {
        /// Current namespace of the link.
        netns: NetnsId,
        /// Current kernel name of the link.
        name: String,
        /// Condition that the link must meet.
        guard: Guard,
        /// Properties to change.
        changes: Box<LinkChanges>,
    },
    /// Delete a link.
    DeleteLink {
        /// Namespace of the link.
        netns: NetnsId,
        /// Kernel name of the link.
        name: String,
        /// Condition that the link must meet.
        guard: Guard,
    },
    /// Add a VLAN range to a bridge or to one of its ports, or remove it.
    SetBridgeVlan {
        /// Namespace of the link.
        netns: NetnsId,
        /// Kernel name of the link.
        link: String,
        /// Condition that the link must meet.
        guard: Guard,
        /// VLAN range to add or remove.
        vlan: BridgeVlan,
        /// True if the link is a bridge and the VLAN range belongs to the bridge itself.
        itself: bool,
        /// `true` to add the VLAN range, `false` to remove it.
        present: bool,
    },
    /// Add an address and mark it with [`PROTOCOL`]. For an IPv6 address, also enable IPv6 on the link.
    ///
    /// An address that already exists is taken over, and its missing kernel routes are restored
    /// ([`routes_of_address`](super::routes_of_address)).
    AddAddress {
        /// Namespace of the link.
        netns: NetnsId,
        /// Kernel name of the link.
        link: String,
        /// Condition that the link must meet.
        guard: Guard,
        /// Address to add.
        address: AddressSpec,
        /// Mode of duplicate address detection.
        detection: AddressDetection,
        /// True if the link is shared with other programs (EXISTING, `lo`).
        ///
        /// On a shared link, an existing foreign address is left unchanged.
        shared: bool,
    },
    /// Check whether an address is usable. Fails with [`FailureKind::Tentative`] or [`FailureKind::Duplicate`] if it is not.
    ///
    /// A duplicate address is removed and added again to restart detection, which the kernel does not repeat by itself.
    ConfirmAddress {
        /// Namespace of the link.
        netns: NetnsId,
        /// Kernel name of the link.
        link: String,
        /// Condition that the link must meet.
        guard: Guard,
        /// Address to check.
        address: AddressSpec,
        /// Mode of duplicate address detection. With [`AddressDetection::Optimistic`], an address is usable during detection.
        detection: AddressDetection,
        /// True if the link is shared with other programs (EXISTING, `lo`), so that foreign addresses on it are left unchanged.
        shared: bool,
    },
    /// Remove an address.
    DeleteAddress {
        /// Namespace of the link.
        netns: NetnsId,
        /// Kernel name of the link.
        link: String,
        /// Condition that the link must meet.
        guard: Guard,
        /// Address to remove.
        address: AddressSpec,
        /// True if the link is shared with other programs (EXISTING, `lo`).
        ///
        /// On a shared link, only an address with [`PROTOCOL`] is removed.
        shared: bool,
    },
    /// Make an IPv4 address the primary address of its subnet by removing the other addresses and adding them again in the
    /// given order.
    ///
    /// Does nothing if the address is already primary. Also does nothing if another address of the subnet is missing from
    /// `others` or is not marked with [`PROTOCOL`], because deleting the primary address can delete that address too.
    MakePrimary {
        /// Namespace of the link.
        netns: NetnsId,
        /// Kernel name of the link.
        link: String,
        /// Condition that the link must meet.
        guard: Guard,
        /// Address to make primary.
        address: AddressSpec,
        /// All other addresses of the agent in the subnet, in the desired order.
        others: Vec<AddressSpec>,
    },
    /// Create or replace a permanent neighbour entry and mark it with [`PROTOCOL`].
    ///
    /// A foreign entry is replaced only if `adopt` is true ([`Reply::Adopted`]). Entries learnt by the kernel are not foreign.
    SetNeighbour {
        /// Namespace of the link.
        netns: NetnsId,
        /// Kernel name of the link.
        link: String,
        /// Condition that the link must meet.
        guard: Guard,
        /// IP address of the neighbour.
        address: IpAddr,
        /// MAC address of the neighbour.
        mac: [u8; 6],
        /// `true` to replace even a foreign entry ([`Reply::Adopted`]).
        adopt: bool,
    },
    /// Delete a neighbour entry.
    DeleteNeighbour {
        /// Namespace of the link.
        netns: NetnsId,
        /// Kernel name of the link.
        link: String,
        /// Condition that the link must meet.
        guard: Guard,
        /// IP address of the neighbour.
        address: IpAddr,
    },
    /// Add a route and mark it with [`PROTOCOL`].
    AddRoute {
        /// Namespace of the link.
        netns: NetnsId,
        /// Kernel name of the output link.
        link: String,
        /// Condition that the link must meet.
        guard: Guard,
        /// Route to add.
        route: RouteSpec,
        /// `true` to replace an equal route of the agent (same destination, metric and table) instead of failing with EEXIST.
        replace: bool,
        /// `true` to replace even an equal foreign route ([`Reply::Adopted`]).
        adopt: bool,
    },
    /// Delete a route that is marked with [`PROTOCOL`].
    DeleteRoute {
        /// Namespace of the link.
        netns: NetnsId,
        /// Kernel name of the output link.
        link: String,
        /// Condition that the link must meet.
        guard: Guard,
        /// Route to delete.
        route: RouteSpec,
    },
}

impl KernelOp {
    /// Returns the namespaces that must be open for the operation; empty for operations that open or close a namespace.
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

    /// Returns the link and its guard for an operation on VLANs, addresses, neighbours or routes; `None` for other operations.
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

/// Operations for one value, performed in order until the first failure.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Task {
    /// Task id, chosen by the caller and repeated in the [`Outcome`].
    pub id: u64,
    /// Key of the value, for error messages and logs.
    pub key: String,
    /// Operations to perform, in this order.
    pub ops: Vec<KernelOp>,
}

/// Result of a task.
#[derive(Clone, PartialEq, Debug)]
pub struct Outcome {
    /// Id of the task ([`Task::id`]).
    pub id: u64,
    /// The failure, if an operation failed. Otherwise, the last reply other than [`Reply::Done`], or `Done` if there is no other
    /// reply.
    pub result: Result<Reply, Failure>,
}

/// Outcomes of tasks that were submitted together. Each submission receives at least one answer.
#[derive(Clone, PartialEq, Debug)]
pub struct Answer {
    /// Outcomes of some or all of the tasks.
    pub outcomes: Vec<Outcome>,
    /// Position of this answer among all answers to the submission.
    pub part: Part,
}

/// Position of an answer among all answers to one submission.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Part {
    /// The remaining tasks are still in progress. The caller can process these outcomes in the meantime.
    Early,
    /// All tasks except long-running ones are done. Each submission gets exactly one main answer.
    Main,
    /// Outcomes of long-running tasks.
    Late,
}

/// Result of a successful operation.
#[derive(Clone, PartialEq, Debug)]
pub enum Reply {
    /// The operation succeeded and returns no data.
    Done,
    /// The operation succeeded on an object that was adopted from another program, now or earlier.
    Adopted,
    /// A namespace was opened.
    Opened {
        /// Identity of the namespace.
        netns: NetnsId,
        /// True if this operation created the namespace.
        created: bool,
        /// Contents of the namespace.
        contents: Box<Snapshot>,
    },
    /// The reference still leads to the same namespace.
    Same,
    /// The reference now leads to another namespace or to none. The text gives the reason.
    Changed(String),
    /// Contents of a pinned namespace.
    Contents(Box<Snapshot>),
    /// Links of a pinned namespace, with details for display.
    Links(Vec<LinkDetails>),
}

/// The objects in a namespace that are relevant to the agent, as reported by the kernel.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Snapshot {
    /// All links of the namespace.
    pub links: Vec<LinkState>,
    /// VLANs of bridges and their ports.
    pub bridge_vlans: Vec<BridgeVlan>,
    /// All addresses of all links.
    pub addresses: Vec<AddressState>,
    /// Unicast routes with [`PROTOCOL`], from all tables. Other routes are omitted, because they are not needed and there can be
    /// very many of them.
    pub routes: Vec<RouteState>,
    /// Permanent neighbour entries that are marked with [`PROTOCOL`].
    pub neighbours: Vec<NeighbourState>,
    /// Routes that the kernel created for addresses. Read only for address families in which the agent has addresses.
    pub address_routes: Vec<AddressRoute>,
}

/// A link as reported by the kernel.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct LinkState {
    /// Interface index, unique within the namespace.
    pub index: u32,
    /// Kernel name.
    pub name: String,
    /// IFLA_INFO_KIND, such as `veth`; empty if the kernel reports none (`lo`, hardware).
    pub kind: String,
    /// Interface alias; empty if the link has none.
    pub alias: String,
    /// True if the link is administratively up (IFF_UP).
    pub up: bool,
    /// Operational state (IFLA_OPERSTATE, RFC 2863; linux/if.h: 0 unknown, 2 down, 6 up).
    pub oper_state: u8,
    /// MTU in bytes.
    pub mtu: u32,
    /// MAC address; `None` if the link has none.
    pub mac: Option<[u8; 6]>,
    /// True if IPv4 uses a single neighbour entry for all addresses on the link (IFF_LOOPBACK or IFF_POINTOPOINT;
    /// `arp_constructor` in net/ipv4/arp.c).
    pub single_neighbour: bool,
    /// Interface group; 0 is the kernel's default.
    pub group: u32,
    /// Index of the master; `None` if the link has none.
    pub master: Option<u32>,
    /// Index of the peer or of the parent (IFLA_LINK). The index is valid in the namespace of that other link.
    pub linked: Option<u32>,
    /// Id (nsid) of the namespace in which `linked` is valid (IFLA_LINK_NETNSID); `None` if it is the namespace of this link.
    pub linked_netnsid: Option<i32>,
    /// Attributes of the link's kind, as sent by the kernel (IFLA_INFO_DATA); see [`Self::attribute`].
    pub info: Vec<u8>,
    /// Kind of the master (IFLA_INFO_SLAVE_KIND); empty if the link has no master.
    pub port_kind: String,
    /// Attributes of the link as a port, as sent by the kernel (IFLA_INFO_SLAVE_DATA); see [`Self::port_attribute`].
    pub port: Vec<u8>,
    /// State of receive checksum offloading; `None` if it was not read. The agent does not read it for links without a kind or
    /// an alias.
    pub rx_checksum: Option<bool>,
    /// State of transmit checksum offloading; `None` if it was not read. The agent does not read it for links without a kind or
    /// an alias.
    pub tx_checksum: Option<bool>,
}

/// Attribute number IFLA_VRF_TABLE of linux/if_link.h.
const VRF_TABLE: u16 = 1;

impl LinkState {
    /// Returns the attribute of the link's kind with this number; `None` if the kernel sent no such attribute.
    pub fn attribute(&self, number: u16) -> Option<&[u8]> {
        attributes(&self.info).find(|(found, _)| *found == number).map(|(_, value)| value)
    }

    /// Returns the port attribute with this number; `None` if the kernel sent no such attribute.
    pub fn port_attribute(&self, number: u16) -> Option<&[u8]> {
        attributes(&self.port).find(|(found, _)| *found == number).map(|(_, value)| value)
    }

    /// Returns the routing table that a VRF device and its ports use; `None` if the link is not a VRF device.
    pub fn vrf_table(&self) -> Option<u32> {
        let table = self.attribute(VRF_TABLE).filter(|_| self.kind == "vrf");
        table.and_then(|table| read_u32(table, 0))
    }
}

/// A link with details that are used only for display.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct LinkDetails {
    /// State of the link, as in a [`Snapshot`].
    pub state: LinkState,
    /// Flags of the link (IFF_* of linux/if.h).
    pub flags: u32,
    /// Hardware type (ARPHRD_* of linux/if_arp.h: 1 Ethernet, 772 loopback, 65534 none).
    pub hardware: u16,
    /// Number of receive queues.
    pub rx_queues: u32,
    /// Number of transmit queues.
    pub tx_queues: u32,
    /// Maximum length of the transmit queue, in packets.
    pub tx_queue_length: u32,
    /// Traffic counters of the link.
    pub counters: LinkCounters,
}

/// Link counters for display, from `struct rtnl_link_stats64` (linux/if_link.h).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[allow(missing_docs, reason = "the field names are those of the kernel, which documents them")]
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

/// A VLAN or VLAN range on a bridge or on one of its ports.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BridgeVlan {
    /// Index of the bridge or the port; ignored in [`KernelOp::SetBridgeVlan`].
    pub link: u32,
    /// First VLAN id of the range.
    pub first: u16,
    /// Last VLAN id of the range, inclusive.
    pub last: u16,
    /// True if untagged ingress frames are assigned to this VLAN.
    pub pvid: bool,
    /// True if frames of these VLANs are untagged on egress.
    pub untagged: bool,
}

/// An address as reported by the kernel.
#[derive(Clone, PartialEq, Debug)]
pub struct AddressState {
    /// Index of the link that has the address.
    pub link: u32,
    /// The IP address with its prefix length.
    pub address: AddressSpec,
    /// Protocol number (IFA_PROTO); 0 if the kernel reports none.
    pub protocol: u8,
    /// Address scope (RT_SCOPE_* of linux/rtnetlink.h).
    pub scope: u8,
    /// Address flags (IFA_F_* of linux/if_addr.h: 0x40 tentative, 0x08 dadfailed).
    pub flags: u32,
}

/// IFA_F_OPTIMISTIC, IFA_F_DADFAILED and IFA_F_TENTATIVE of linux/if_addr.h.
const OPTIMISTIC: u32 = 0x04;
const DAD_FAILED: u32 = 0x08;
const TENTATIVE: u32 = 0x40;

/// Progress of duplicate address detection for an address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Progress {
    /// The address can be used.
    Over,
    /// Detection is in progress, so the address cannot be used yet.
    Tentative,
    /// Another host on the link has the same address.
    Failed,
}

/// IFA_F_SECONDARY of linux/if_addr.h. For IPv6, the flag means a temporary address.
const SECONDARY: u32 = 0x01;

impl AddressState {
    /// Returns whether this is a secondary IPv4 address. An address is secondary if it was added after the primary address of
    /// the same subnet.
    pub fn is_secondary(&self) -> bool {
        self.address.address.is_ipv4() && self.flags & SECONDARY != 0
    }

    /// Returns the progress of duplicate address detection, derived from the address flags.
    ///
    /// An optimistic address can be used during detection. Its progress is [`Progress::Over`] if `requested` is optimistic.
    pub fn progress(&self, requested: AddressDetection) -> Progress {
        match self.flags {
            flags if flags & DAD_FAILED != 0 => Progress::Failed,
            flags if flags & OPTIMISTIC != 0 && requested == AddressDetection::Optimistic => Progress::Over,
            flags if flags & TENTATIVE != 0 => Progress::Tentative,
            _ => Progress::Over,
        }
    }
}

/// A route as reported by the kernel.
#[derive(Clone, PartialEq, Debug)]
pub struct RouteState {
    /// Index of the output link.
    pub link: u32,
    /// The route, with `metric` as reported by the kernel.
    pub route: RouteSpec,
    /// Protocol number (`rtm_protocol`), which identifies the creator of the route.
    pub protocol: u8,
}

impl RouteState {
    /// Returns whether the kernel created the route, either for an address (RTPROT_KERNEL) or after an ICMP redirect
    /// (RTPROT_REDIRECT).
    pub fn is_of_kernel(&self) -> bool {
        matches!(self.protocol, 1 | 2)
    }
}

/// A route that the kernel created for an address: the connected route of its subnet, or the local route of the address itself.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct AddressRoute {
    /// Index of the output link.
    pub link: u32,
    /// Destination network, with the host bits cleared.
    pub destination: IpAddr,
    /// Prefix length of the destination.
    pub prefix_len: u8,
    /// Routing table; 254 is main, 255 is local (rtnetlink(7)).
    pub table: u32,
    /// True if packets to the destination are delivered on this host (route type `local`).
    pub local: bool,
}

/// A permanent neighbour entry as reported by the kernel.
#[derive(Clone, PartialEq, Debug)]
pub struct NeighbourState {
    /// Index of the link that has the entry.
    pub link: u32,
    /// IP address of the neighbour.
    pub address: IpAddr,
    /// MAC address of the neighbour.
    pub mac: [u8; 6],
    /// Protocol number (NDA_PROTOCOL); 0 if the kernel reports none.
    pub protocol: u8,
}

/// Class of a failure, which determines how it is handled.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FailureKind {
    /// A required process, file or container does not exist yet. This is not an error, because the operation can be retried
    /// when the object appears.
    Unavailable,
    /// The named object exists but can never be used, such as a directory instead of a namespace. The user must correct the name.
    Unusable,
    /// The kernel does not support the link kind. The kernel module that implements the kind must be loaded.
    KindMissing,
    /// Another object of this agent has the same name or key.
    Exists,
    /// The operation was abandoned without a result. A result that arrives later has no effect.
    TimedOut,
    /// A foreign object has the same name or key, and was left unchanged.
    Foreign,
    /// Duplicate address detection is still in progress. The end of detection causes an event for the namespace.
    Tentative,
    /// Another host on the link has the same address.
    Duplicate,
    /// The kernel cannot apply the value to this link, or applies a different value. The user must change the value or the link.
    Unsupported,
    /// Any other failure; a retry may help.
    Other,
}

/// Failure of an operation, with a message for users.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// Class of the failure, which determines how it is handled.
    pub kind: FailureKind,
    /// The kernel's error number (errno(3)); `None` if the failure did not come from the kernel.
    pub errno: Option<i32>,
    /// The kernel's error text. This is the extended acknowledgement text if the kernel sent one, otherwise the errno(3) text.
    /// Empty if the failure did not come from the kernel.
    pub kernel_text: String,
    /// Message for users. It contains the failed action with its object and namespace, the kernel's error text, and a remedy.
    pub message: String,
}
