//! Types for the tables that describe link kinds. The top-level type is [`KindSpec`].

use std::fmt;

use super::{
    bridging::PortSpec,
    check::{Given, Invalid},
    settings::Table,
};

/// A link kind. `spec` returns its table, and the other methods implement rules that a table cannot express. All methods are
/// pure.
pub trait LinkKind: Sync {
    /// Returns the table that describes this kind.
    fn spec(&self) -> &'static KindSpec;

    /// Checks rules that involve several fields of an interface.
    ///
    /// # Errors
    /// Returns an error that describes the violated rule and says what to write instead.
    fn check(&self, _given: &Given<'_>) -> Result<(), Invalid> {
        Ok(())
    }
}

/// Table that describes a link kind.
#[derive(Debug)]
pub struct KindSpec {
    /// Name of the kind, as in `Interface.Type`.
    pub type_name: &'static str,
    /// Human-readable name for an interface of this kind.
    pub title: &'static str,
    /// Member of the oneof `link` that contains the settings; empty if the kind has no settings.
    pub member: &'static str,
    /// Kind of the link in the kernel (IFLA_INFO_KIND); empty if the kernel reports none.
    pub info_kind: &'static str,
    /// How the agent manages links of this kind.
    pub life_cycle: LifeCycle,
    /// Settings of the kind. The agent's ownership mark on a link refers to settings by position, so new settings must be added
    /// at the end.
    pub attributes: Table,
    /// Settings that refer to other interfaces.
    pub references: &'static [Reference],
    /// Limits and default of the MTU.
    pub mtu: Mtu,
    /// `true` if the user can set the MAC address of a link of this kind.
    pub mac: bool,
    /// `true` if a link of this kind can be in a VRF.
    pub can_be_in_vrf: bool,
    /// `true` if a link of this kind can be a port of a master other than a VRF.
    pub can_be_port: bool,
    /// Port settings that a master of this kind supports; `None` for VRFs and for kinds that cannot be a master.
    pub ports: Option<&'static PortSpec>,
    /// Field that contains the VLANs of the bridge itself; `None` for kinds other than bridges.
    pub own_vlans: Option<&'static str>,
    /// Combination of settings that must be unique among the links on one parent; `None` if several links can have the same
    /// settings.
    pub unique: Option<Unique>,
    /// Namespace sysctls (name and value) that must be set before a link of this kind is created.
    pub sysctls: &'static [(&'static str, &'static str)],
    /// Setting that contains the routing table of a VRF device; `None` for kinds other than VRFs.
    pub routing_table: Option<&'static Attribute>,
    /// `true` if the kernel accepts the IPv6 loopback address on a link of this kind.
    pub takes_loopback_address: bool,
    /// `true` if the kernel performs IPv6 duplicate address detection on a link of this kind.
    pub detects_duplicates: bool,
    /// `true` if the agent can adopt a foreign link as a link of this kind.
    pub adoptable: bool,
    /// Kernel module that implements the kind.
    pub module: Module,
}

impl KindSpec {
    /// Returns a table with the defaults for Ethernet-like links that the agent creates.
    pub const fn created(type_name: &'static str, member: &'static str, info_kind: &'static str) -> Self {
        KindSpec {
            type_name,
            title: type_name,
            member,
            info_kind,
            life_cycle: LifeCycle::Created,
            attributes: &[],
            references: &[],
            mtu: Mtu::ETHERNET,
            mac: true,
            can_be_in_vrf: true,
            can_be_port: true,
            ports: None,
            own_vlans: None,
            unique: None,
            sysctls: &[],
            routing_table: None,
            takes_loopback_address: false,
            detects_duplicates: true,
            adoptable: true,
            module: Module {
                name: info_kind,
                option: "",
                needed: false,
            },
        }
    }

    /// Returns the first reference whose role satisfies `role`.
    pub fn reference(&self, role: impl Fn(&Role) -> bool) -> Option<&'static Reference> {
        self.references.iter().find(|reference| role(&reference.role))
    }
}

/// How the agent manages links of a kind.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LifeCycle {
    /// The agent creates and deletes the links.
    Created,
    /// Other programs create the links. The agent takes them over, and gives them back when they are no longer desired.
    TakenOver,
    /// Each namespace has one link of this kind, with this name. The agent changes it but never deletes it.
    Builtin(&'static str),
    /// The agent refers to the links but never changes them.
    Referred,
}

/// How the kernel exposes a setting.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum At {
    /// Attribute inside IFLA_INFO_DATA (linux/if_link.h), with its number and encoding.
    Info(u16, Wire),
    /// Device feature, read and set through ethtool.
    Feature(Feature),
}

/// A device feature that the agent can switch through ethtool.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Feature {
    /// Receive checksum offloading.
    RxChecksum,
    /// Transmit checksum offloading.
    TxChecksum,
}

/// Encoding of an attribute in a netlink message. Integers are in native byte order unless stated otherwise.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wire {
    /// Unsigned integer of one byte.
    U8,
    /// Unsigned integer of two bytes.
    U16,
    /// Unsigned integer of four bytes.
    U32,
    /// Unsigned integer of two bytes in network byte order (big endian).
    Be16,
    /// One bit in a pair of four-byte integers, `{flags, mask}`.
    Flag(u32),
}

impl Wire {
    /// Encodes a number as the value of a netlink attribute.
    pub fn encode(self, number: u32) -> Vec<u8> {
        match self {
            Wire::U8 => vec![number as u8],
            Wire::U16 => (number as u16).to_ne_bytes().to_vec(),
            Wire::U32 => number.to_ne_bytes().to_vec(),
            Wire::Be16 => (number as u16).to_be_bytes().to_vec(),
            Wire::Flag(bit) => {
                let flags = if number == 0 { 0 } else { bit };
                [flags.to_ne_bytes(), bit.to_ne_bytes()].concat()
            }
        }
    }

    /// Decodes the value of a netlink attribute; `None` if it is too short.
    pub fn decode(self, value: &[u8]) -> Option<u32> {
        match self {
            Wire::U8 => value.first().map(|byte| u32::from(*byte)),
            Wire::U16 => Some(u16::from_ne_bytes(value.get(..2)?.try_into().ok()?).into()),
            Wire::U32 => Some(u32::from_ne_bytes(value.get(..4)?.try_into().ok()?)),
            Wire::Be16 => Some(u16::from_be_bytes(value.get(..2)?.try_into().ok()?).into()),
            Wire::Flag(bit) => {
                let flags = u32::from_ne_bytes(value.get(..4)?.try_into().ok()?);
                Some(u32::from(flags & bit != 0))
            }
        }
    }
}

/// Conversion between the number in a field and the number in the kernel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scale {
    /// The kernel uses the same number as the field.
    One,
    /// The kernel uses the same number as the field; 1 means on and 0 means off.
    Switch,
    /// The kernel's number is the field's number multiplied by this factor.
    Times(u32),
    /// The kernel's number is the field's number divided by this divisor.
    Over(u32),
    /// Pairs of field number and kernel number, for example for an enum. If several pairs have the same kernel number, the first
    /// one determines the field number to show.
    Table(&'static [(u32, u32)]),
}

impl Scale {
    /// Converts the number in a field to the number in the kernel; `None` if the kernel has no equivalent.
    pub fn to_kernel(self, number: u32) -> Option<u32> {
        match self {
            Scale::One | Scale::Switch => Some(number),
            Scale::Times(factor) => number.checked_mul(factor),
            Scale::Over(divisor) => Some(number / divisor),
            Scale::Table(pairs) => pairs.iter().find(|(field, _)| *field == number).map(|(_, kernel)| *kernel),
        }
    }

    /// Converts the number in the kernel to the number in a field; `None` if the field has no equivalent.
    pub fn to_field(self, number: u32) -> Option<u32> {
        match self {
            Scale::One | Scale::Switch => Some(number),
            Scale::Times(factor) => Some(number / factor),
            Scale::Over(divisor) => number.checked_mul(divisor),
            Scale::Table(pairs) => pairs.iter().find(|(_, kernel)| *kernel == number).map(|(field, _)| *field),
        }
    }
}

/// Meaning of an unset field. The variants contain the numbers that the kernel uses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unset {
    /// There is no default, so the field must be set.
    Required,
    /// An unset field means the kernel's default, which is this number. The agent does not send this number when it creates a
    /// link. A link with a different number has drifted.
    KernelDefault(u32),
    /// An unset field means the agent's default, which is this number. The agent sends this number when it creates a link,
    /// because the kernel has a different default.
    AgentDefault(u32),
    /// An unset field means that any number is accepted. When a field that was set becomes unset, the agent resets the setting to
    /// this number.
    LeftAlone(u32),
}

/// How a setting of an existing link is changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Change {
    /// The kernel changes the setting of the existing link.
    InPlace,
    /// The link must be recreated, because the kernel cannot change the setting of an existing link.
    Recreate,
}

/// One setting of a kind: its field in the protobuf message, and how the kernel exposes it.
#[derive(Debug)]
pub struct Attribute {
    /// Name of the protobuf field.
    pub field: &'static str,
    /// Human-readable name of the setting, usable inside a sentence.
    pub title: &'static str,
    /// How the kernel exposes the setting.
    pub at: At,
    /// Conversion from the number in the field to the number in the kernel.
    pub scale: Scale,
    /// Smallest and largest number that the field accepts. An optional field also accepts 0, which means "not set".
    pub range: (u32, u32),
    /// Meaning of an unset field.
    pub unset: Unset,
    /// How the setting is changed on an existing link.
    pub change: Change,
    /// Largest difference between two kernel numbers that still count as equal. The kernel may have rounded one of the two.
    pub rounding: u32,
    /// Another setting that must not be 0 for this setting to have an effect. If the other setting is 0, the kernel may even
    /// reject this setting.
    pub only_with: Option<&'static Attribute>,
}

impl Attribute {
    /// Creates a setting that has the kernel default 0 and can be changed on an existing link.
    pub const fn new(field: &'static str, title: &'static str, at: At) -> Self {
        Attribute {
            field,
            title,
            at,
            scale: Scale::One,
            range: (0, u32::MAX),
            unset: Unset::KernelDefault(0),
            change: Change::InPlace,
            rounding: 0,
            only_with: None,
        }
    }

    /// Creates a setting that is on or off. An unset field means off.
    pub const fn switch(field: &'static str, title: &'static str, at: At) -> Self {
        Attribute::new(field, title, at).scale(Scale::Switch)
    }

    /// Sets the conversion from the number in the field to the number in the kernel.
    pub const fn scale(self, scale: Scale) -> Self {
        Attribute { scale, ..self }
    }

    /// Sets the smallest and largest number that the field accepts.
    pub const fn range(self, min: u32, max: u32) -> Self {
        Attribute { range: (min, max), ..self }
    }

    /// Sets what an unset field means.
    pub const fn unset(self, unset: Unset) -> Self {
        Attribute { unset, ..self }
    }

    /// Declares that the kernel cannot change the setting of an existing link.
    pub const fn immutable(self) -> Self {
        Attribute {
            change: Change::Recreate,
            ..self
        }
    }

    /// Sets the largest difference to ignore, because the kernel may have rounded the number.
    pub const fn rounded(self, rounding: u32) -> Self {
        Attribute { rounding, ..self }
    }

    /// Formats the number that the kernel uses for this setting, for use in messages.
    pub fn shown(&self, number: u32) -> String {
        match self.scale {
            Scale::Table(_) => format!("0x{number:x}"),
            Scale::Switch if number == 0 => "off".to_owned(),
            Scale::Switch => "on".to_owned(),
            Scale::One | Scale::Times(_) | Scale::Over(_) => self.scale.to_field(number).unwrap_or(number).to_string(),
        }
    }

    /// Declares that the setting has an effect only if `other` is not 0.
    pub const fn only_with(self, other: &'static Attribute) -> Self {
        Attribute {
            only_with: Some(other),
            ..self
        }
    }
}

/// Combination of settings that must be unique among the links on one parent.
#[derive(Debug)]
pub struct Unique {
    /// Reason reported for a second link with the same combination.
    pub reason: &'static str,
    /// Human-readable name of the combination, usable inside a sentence.
    pub title: &'static str,
    /// Settings that form the combination.
    pub of: Table,
}

/// A field in which an interface names another interface.
#[derive(Debug)]
pub struct Reference {
    /// Name of the protobuf field.
    pub field: &'static str,
    /// Relation of the named interface to the interface that names it.
    pub role: Role,
    /// Reason reported if the field is not set.
    pub missing: &'static str,
    /// Message reported if the field is not set.
    pub missing_text: &'static str,
    /// Reason and message reported if an interface names itself; `None` if that is allowed. The message follows the name of the
    /// interface.
    pub itself: Option<(&'static str, &'static str)>,
}

/// Relation of a named interface to the interface that names it.
#[derive(Clone, Copy, Debug)]
pub enum Role {
    /// The other end of a pair. Each end names the other one, and a single netlink request creates both.
    Peer {
        /// Number of the attribute inside IFLA_INFO_DATA that describes the other end.
        attribute: u16,
    },
    /// The parent, that is, the link below this one (IFLA_LINK). If the parent is deleted, the kernel deletes this link too.
    Parent {
        /// Setting that allows the link to be up while its parent is down. The setting has this effect if it is not 0. `None` if
        /// the link can be up only while its parent is up.
        up_unless: Option<&'static Attribute>,
    },
    /// The name that a link has before the agent takes it over.
    Original,
}

impl Role {
    /// Returns whether the named interface is the other end of a pair.
    pub fn is_peer(&self) -> bool {
        matches!(self, Role::Peer { .. })
    }
}

/// MTU limits and default of a kind, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mtu {
    /// Smallest MTU that a link of the kind can have.
    pub min: u32,
    /// Largest MTU that a link of this kind can have.
    pub max: u32,
    /// MTU of an interface for which the user sets no MTU.
    pub default: MtuDefault,
}

/// MTU of an interface for which the user sets no MTU.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MtuDefault {
    /// The agent sets this MTU, in bytes.
    Is(u32),
    /// The kernel chooses the MTU.
    LeftAlone,
}

impl Mtu {
    /// MTU limits and default of an Ethernet-like link (`ETH_MIN_MTU`, `ETH_MAX_MTU`, `ETH_DATA_LEN`).
    pub const ETHERNET: Mtu = Mtu {
        min: 68,
        max: 65_535,
        default: MtuDefault::Is(1_500),
    };
}

/// Kernel module that implements a kind.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Module {
    /// Module name, as used by `modprobe`.
    pub name: &'static str,
    /// Kernel configuration option, without `CONFIG_`.
    pub option: &'static str,
    /// `true` if the agent cannot work without this module.
    pub needed: bool,
}

impl fmt::Debug for dyn LinkKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.spec().type_name)
    }
}
