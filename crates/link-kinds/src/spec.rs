//! What a table of a kind consists of.
//!
//! Owns the vocabulary. Must never hold a fact of one kind. Start reading at [`KindSpec`].

use std::fmt;

use super::{
    bridging::PortSpec,
    check::{Given, Invalid},
    settings::Table,
};

/// A kind of links. The spec is its data; the other methods say what no table can. All are pure.
pub trait LinkKind: Sync {
    /// Its data.
    fn spec(&self) -> &'static KindSpec;

    /// Checks rules about several fields of a value, before the rules that follow from the spec.
    ///
    /// # Errors
    /// Says what is wrong, and what to write instead.
    fn check(&self, _given: &Given<'_>) -> Result<(), Invalid> {
        Ok(())
    }
}

/// Data of a kind.
#[derive(Debug)]
pub struct KindSpec {
    /// Name in `Interface.Type`.
    pub type_name: &'static str,
    /// What people call such an interface.
    pub title: &'static str,
    /// Member of the oneof `link` with its settings; empty if there is none.
    pub member: &'static str,
    /// IFLA_INFO_KIND; empty if the kernel gives none.
    pub info_kind: &'static str,
    /// What the agent does with such links.
    pub life_cycle: LifeCycle,
    /// Settings. A position is part of the mark on a link, so a table grows at its end only.
    pub attributes: Table,
    /// Other interfaces that it names.
    pub references: &'static [Reference],
    /// MTU.
    pub mtu: Mtu,
    /// A MAC address can be set.
    pub mac: bool,
    /// It can be in a VRF.
    pub can_be_in_vrf: bool,
    /// It can be a port of a master that is no VRF.
    pub can_be_port: bool,
    /// What it decides of its ports, if it is a master that is no VRF.
    pub ports: Option<&'static PortSpec>,
    /// Field with its own VLANs, if it is a bridge.
    pub own_vlans: Option<&'static str>,
    /// What only one link on the same parent may have.
    pub unique: Option<Unique>,
    /// Sysctls of the namespace, by name and value, that must be so before such a link is created.
    pub sysctls: &'static [(&'static str, &'static str)],
    /// The setting with the routing table that it selects for its ports, if it is a VRF device.
    pub routing_table: Option<&'static Attribute>,
    /// The kernel takes the IPv6 loopback address on it.
    pub takes_loopback_address: bool,
    /// The kernel looks for duplicates of IPv6 addresses on it.
    pub detects_duplicates: bool,
    /// A link of somebody else can be taken over for a value of this kind.
    pub adoptable: bool,
    /// What the kernel needs for it.
    pub module: Module,
}

impl KindSpec {
    /// The defaults of an Ethernet-like kind that the agent creates.
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

    /// The reference that plays a role.
    pub fn reference(&self, role: impl Fn(&Role) -> bool) -> Option<&'static Reference> {
        self.references.iter().find(|reference| role(&reference.role))
    }
}

/// What the agent does with links of a kind.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LifeCycle {
    /// Creates and deletes them.
    Created,
    /// Takes them over from whoever makes them, and gives them back.
    TakenOver,
    /// They are part of each namespace, under this name: the agent changes them and never deletes them.
    Builtin(&'static str),
    /// Only refers to them.
    Referred,
}

/// Where the kernel keeps a setting.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum At {
    /// An attribute inside IFLA_INFO_DATA (linux/if_link.h), by its number.
    Info(u16, Wire),
    /// A feature of the device (ethtool).
    Feature(Feature),
}

/// A feature of a device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Feature {
    /// Checksum offloading of what is received.
    RxChecksum,
    /// Checksum offloading of what is sent.
    TxChecksum,
}

/// Form of an attribute in a message. Numbers have the byte order of the machine unless they say otherwise.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wire {
    /// One byte.
    U8,
    /// Two bytes.
    U16,
    /// Four bytes.
    U32,
    /// Two bytes in network byte order.
    Be16,
    /// One bit of a pair `{flags, mask}` of four bytes each.
    Flag(u32),
}

impl Wire {
    /// A number as it stands in the message.
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

    /// The number in a message; `None` if it has another form.
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

/// How the number in a field becomes that of the kernel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scale {
    /// It is the same.
    One,
    /// It is the same, and 1 means on, 0 off.
    Switch,
    /// It is so many times larger.
    Times(u32),
    /// It is so many times smaller.
    Over(u32),
    /// A table of pairs, such as from the numbers of an enum. Of several with one number of the kernel the first is shown.
    Table(&'static [(u32, u32)]),
}

impl Scale {
    /// The kernel's number; `None` if the field's number has none.
    pub fn to_kernel(self, number: u32) -> Option<u32> {
        match self {
            Scale::One | Scale::Switch => Some(number),
            Scale::Times(factor) => number.checked_mul(factor),
            Scale::Over(divisor) => Some(number / divisor),
            Scale::Table(pairs) => pairs.iter().find(|(field, _)| *field == number).map(|(_, kernel)| *kernel),
        }
    }

    /// The field's number; `None` if the kernel's number has none.
    pub fn to_field(self, number: u32) -> Option<u32> {
        match self {
            Scale::One | Scale::Switch => Some(number),
            Scale::Times(factor) => Some(number / factor),
            Scale::Over(divisor) => number.checked_mul(divisor),
            Scale::Table(pairs) => pairs.iter().find(|(_, kernel)| *kernel == number).map(|(field, _)| *field),
        }
    }
}

/// What a field that is not set means, in numbers of the kernel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unset {
    /// It has to be set.
    Required,
    /// The kernel's default: not sent at creation; a link that has another number has drifted.
    KernelDefault(u32),
    /// A default of the agent, which differs from the kernel's: sent at creation.
    AgentDefault(u32),
    /// Whatever the kernel or somebody else chose; but if the agent has set it before, it is reset to this number.
    LeftAlone(u32),
}

/// How the kernel changes a setting of a link that exists.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Change {
    /// In place.
    InPlace,
    /// Not at all: the link is created again.
    Recreate,
}

/// One setting: a field of the kind's message, and where the kernel keeps it.
#[derive(Debug)]
pub struct Attribute {
    /// Name of the field.
    pub field: &'static str,
    /// Name for people, as part of a sentence.
    pub title: &'static str,
    /// Where the kernel keeps it.
    pub at: At,
    /// From the field to the kernel.
    pub scale: Scale,
    /// Smallest and largest number of the field; 0 stands for "not set" in addition unless it is required.
    pub range: (u32, u32),
    /// What it means if it is not set.
    pub unset: Unset,
    /// How it changes.
    pub change: Change,
    /// Differences up to this are the rounding of the kernel.
    pub rounding: u32,
    /// It counts only if this other setting is not 0; the kernel may even refuse it otherwise.
    pub only_with: Option<&'static Attribute>,
}

impl Attribute {
    /// A setting that is changed in place and means 0 if it is not set.
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

    /// Returns a setting that is on or off, and off if it is not set.
    pub const fn switch(field: &'static str, title: &'static str, at: At) -> Self {
        Attribute::new(field, title, at).scale(Scale::Switch)
    }

    /// With a scale.
    pub const fn scale(self, scale: Scale) -> Self {
        Attribute { scale, ..self }
    }

    /// With limits of the field.
    pub const fn range(self, min: u32, max: u32) -> Self {
        Attribute { range: (min, max), ..self }
    }

    /// With a meaning if it is not set.
    pub const fn unset(self, unset: Unset) -> Self {
        Attribute { unset, ..self }
    }

    /// A change needs a new link.
    pub const fn immutable(self) -> Self {
        Attribute {
            change: Change::Recreate,
            ..self
        }
    }

    /// The kernel rounds it.
    pub const fn rounded(self, rounding: u32) -> Self {
        Attribute { rounding, ..self }
    }

    /// A number of the kernel for people.
    pub fn shown(&self, number: u32) -> String {
        match self.scale {
            Scale::Table(_) => format!("0x{number:x}"),
            Scale::Switch if number == 0 => "off".to_owned(),
            Scale::Switch => "on".to_owned(),
            Scale::One | Scale::Times(_) | Scale::Over(_) => self.scale.to_field(number).unwrap_or(number).to_string(),
        }
    }

    /// Counts only if another setting is not 0.
    pub const fn only_with(self, other: &'static Attribute) -> Self {
        Attribute {
            only_with: Some(other),
            ..self
        }
    }
}

/// What only one of the links on a parent may have.
#[derive(Debug)]
pub struct Unique {
    /// Reason of the second one.
    pub reason: &'static str,
    /// Name for people.
    pub title: &'static str,
    /// The settings that make it up.
    pub of: Table,
}

/// Another interface that a value of the kind names.
#[derive(Debug)]
pub struct Reference {
    /// Name of the field.
    pub field: &'static str,
    /// What the other interface is to this one.
    pub role: Role,
    /// Reason of a value without it.
    pub missing: &'static str,
    /// What such a value is told.
    pub missing_text: &'static str,
    /// Reason of a value that names itself, and what it is told after its name; `None` if it may.
    pub itself: Option<(&'static str, &'static str)>,
}

/// What another interface is to one that names it.
#[derive(Clone, Copy, Debug)]
pub enum Role {
    /// The other end of a pair: each names the other, and both are created in one request, in which this attribute describes the other.
    Peer {
        /// Number inside IFLA_INFO_DATA.
        attribute: u16,
    },
    /// The link below it (IFLA_LINK): without it the kernel deletes this one.
    Parent {
        /// This one can be up only while that one is, unless this setting is not 0.
        up_unless: Option<&'static Attribute>,
    },
    /// The name that the link has before it is taken over.
    Original,
}

impl Role {
    /// Whether it is the other end of a pair.
    pub fn is_peer(&self) -> bool {
        matches!(self, Role::Peer { .. })
    }
}

/// MTU of a kind, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mtu {
    /// Smallest.
    pub min: u32,
    /// Largest.
    pub max: u32,
    /// What it is if it is not set.
    pub default: MtuDefault,
}

/// The MTU of an interface that sets none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MtuDefault {
    /// This, in bytes.
    Is(u32),
    /// Whatever the kernel makes it.
    LeftAlone,
}

impl Mtu {
    /// Of an Ethernet-like link (`ETH_MIN_MTU`, `ETH_MAX_MTU`, `ETH_DATA_LEN`).
    pub const ETHERNET: Mtu = Mtu {
        min: 68,
        max: 65_535,
        default: MtuDefault::Is(1_500),
    };
}

/// What the kernel needs for a kind.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Module {
    /// Name of its module.
    pub name: &'static str,
    /// Option of the kernel's configuration.
    pub option: &'static str,
    /// The agent is of no use without it.
    pub needed: bool,
}

impl fmt::Debug for dyn LinkKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.spec().type_name)
    }
}
