//! Link and port settings, stored as the numbers that the kernel uses. This module reads settings from a message, encodes them as
//! netlink attributes, and compares them.
//!
//! All functions loop over a [`Table`] and do not depend on the kind.

use std::fmt;

use prost_reflect::{DynamicMessage, Kind, MessageDescriptor, Value};

use super::{
    check::{self, Invalid, number},
    spec::{At, Attribute, Change, Feature, Unset, Wire},
};

/// Table of the settings of a kind. A setting is identified by its position in the table.
pub type Table = &'static [&'static Attribute];

/// Settings of a link, or of a link as a port of its master.
#[derive(Clone)]
pub struct Settings {
    pub(super) table: Table,
    /// Number that the kernel uses for each setting, in table order; `None` if the agent does not manage the setting or the
    /// number is unknown.
    numbers: Box<[Option<u32>]>,
    /// Settings that the user sets explicitly, as a bit set of positions in the table.
    explicit: u64,
}

/// A netlink attribute that contains one setting, or several flags.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Attr {
    /// Attribute number (linux/if_link.h).
    pub number: u16,
    /// Human-readable name of the setting.
    pub title: &'static str,
    /// Encoded value of the attribute.
    pub value: Vec<u8>,
    /// `true` if the kernel cannot change the attribute on an existing link.
    pub immutable: bool,
}

/// Access to the attributes and features of an observed link.
pub struct Observed<'a> {
    /// Function that returns the value of the attribute with the given number; `None` if the kernel does not report it.
    pub attribute: &'a dyn Fn(u16) -> Option<&'a [u8]>,
    /// Function that returns whether a feature is on; `None` if the state is unknown.
    pub feature: &'a dyn Fn(Feature) -> Option<bool>,
}

/// A setting that differs between two links.
#[derive(Clone, Copy, Debug)]
pub struct Difference {
    /// Table entry of the setting.
    pub attribute: &'static Attribute,
    /// Value of the setting on the first link, as the kernel's number; `None` if it is unknown.
    pub from: Option<u32>,
    /// Value of the setting on the second link, as the kernel's number.
    pub to: u32,
}

/// Compares only the effective settings, so an explicitly set default is equal to an unset field.
impl PartialEq for Settings {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self.table, other.table) && self.numbers == other.numbers
    }
}

impl Eq for Settings {}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fields = self.table.iter().map(|attribute| attribute.field).zip(&*self.numbers);
        f.debug_map().entries(fields).finish()
    }
}

impl Settings {
    /// Creates settings with unknown numbers.
    pub fn bare(table: Table) -> Self {
        Settings {
            table,
            numbers: vec![None; table.len()].into(),
            explicit: 0,
        }
    }

    /// Reads the settings from a message and checks them. Without a message, all settings are unset.
    ///
    /// # Errors
    /// Returns which field is invalid and why.
    pub(super) fn parse(table: Table, message: Option<&DynamicMessage>) -> Result<Self, Invalid> {
        let mut settings = Settings::bare(table);
        for (at, attribute) in table.iter().enumerate() {
            if let Some(message) = message {
                check::check_attribute(attribute, message)?;
            }
            let written = message.and_then(|message| number(message, attribute.field));
            let explicit = written.and_then(|number| attribute.scale.to_kernel(number));
            settings.explicit |= u64::from(explicit.is_some()) << at;
            settings.numbers[at] = explicit.or(match attribute.unset {
                Unset::KernelDefault(number) | Unset::AgentDefault(number) => Some(number),
                Unset::Required | Unset::LeftAlone(_) => None,
            });
        }
        Ok(settings)
    }

    /// Writes the settings into the fields of a message. Leaves a field unset if its setting has the default value.
    pub(super) fn write(&self, message: &mut DynamicMessage, descriptor: &MessageDescriptor) {
        for (attribute, number) in self.table.iter().zip(&*self.numbers) {
            let shown = number.filter(|number| match attribute.unset {
                Unset::KernelDefault(default) | Unset::AgentDefault(default) => *number != default,
                Unset::Required | Unset::LeftAlone(_) => true,
            });
            let number = shown.and_then(|number| attribute.scale.to_field(number));
            let (Some(number), Some(field)) = (number, descriptor.get_field_by_name(attribute.field)) else {
                continue;
            };
            let value = match field.kind() {
                Kind::Bool => Value::Bool(number != 0),
                Kind::Enum(_) => Value::EnumNumber(number.cast_signed()),
                _ => Value::U32(number),
            };
            // This call fails only if the message does not have the field. A test ensures that each message has all fields of its
            // table.
            let _ = message.try_set_field(&field, value);
        }
    }

    fn position(&self, attribute: &'static Attribute) -> Option<usize> {
        self.table.iter().position(|other| std::ptr::eq(*other, attribute))
    }

    /// Returns the number that the kernel uses for a setting; `None` if the number is unknown or the table does not contain the
    /// setting.
    pub fn get(&self, attribute: &'static Attribute) -> Option<u32> {
        self.numbers[self.position(attribute)?]
    }

    /// Returns whether a setting has an effect. A setting has no effect if the other setting named in `only_with` is 0 or
    /// unknown.
    fn counts(&self, attribute: &Attribute) -> bool {
        let other = attribute.only_with.map(|other| self.get(other));
        other.is_none_or(|number| number.is_some_and(|number| number != 0))
    }

    fn all(&self) -> impl Iterator<Item = (usize, &'static Attribute, Option<u32>)> {
        let settings = self.table.iter().zip(&*self.numbers).enumerate();
        settings.map(|(at, (attribute, number))| (at, *attribute, *number))
    }

    /// Returns the attributes to send in the request that creates the link.
    pub fn creation(&self) -> Vec<Attr> {
        let is_sent = |at: usize, attribute: &Attribute| {
            let is_own = matches!(attribute.unset, Unset::AgentDefault(_) | Unset::Required);
            (is_own || self.explicit >> at & 1 == 1) && self.counts(attribute)
        };
        let sent = self.all().filter(|(at, attribute, _)| is_sent(*at, attribute));
        attrs(sent.filter_map(|(_, attribute, number)| Some((attribute, number?))))
    }

    /// Returns the features that must be switched after creation, because their desired state differs from the kernel's default.
    pub fn features_to_set(&self) -> impl Iterator<Item = (Feature, bool)> {
        self.all()
            .filter_map(|(_, attribute, number)| match (attribute.at, attribute.unset) {
                (At::Feature(feature), Unset::KernelDefault(default)) => {
                    number.filter(|number| *number != default).map(|on| (feature, on != 0))
                }
                _ => None,
            })
    }

    /// Returns the features with a known state, each together with its state.
    pub fn features(&self) -> impl Iterator<Item = (Feature, bool)> {
        self.all().filter_map(|(_, attribute, number)| match attribute.at {
            At::Feature(feature) => Some((feature, number? != 0)),
            At::Info(..) => None,
        })
    }

    /// Returns all attributes with a known number that can be changed on an existing link.
    pub fn changeable(&self) -> Vec<Attr> {
        let decided = self
            .all()
            .filter(|(_, attribute, _)| attribute.change == Change::InPlace && self.counts(attribute));
        attrs(decided.filter_map(|(_, attribute, number)| Some((attribute, number?))))
    }

    /// Replaces each number with the one that the kernel reports. A number that the kernel does not report stays unchanged.
    pub fn observe(&mut self, observed: &Observed<'_>) {
        for (attribute, believed) in self.table.iter().zip(&mut self.numbers) {
            let shown = match attribute.at {
                At::Info(number, wire) => (observed.attribute)(number).and_then(|value| wire.decode(value)),
                At::Feature(feature) => (observed.feature)(feature).map(u32::from),
            };
            *believed = shown.or(*believed);
        }
    }

    /// Returns the settings immediately after creation, when all features still have the kernel's defaults.
    pub fn as_created(&self) -> Settings {
        let mut settings = self.clone();
        for (at, attribute) in self.table.iter().enumerate() {
            if let (At::Feature(_), Unset::KernelDefault(number)) = (attribute.at, attribute.unset) {
                settings.numbers[at] = Some(number);
            }
        }
        settings
    }

    /// Returns the settings that differ from the desired settings.
    ///
    /// `set` is a bit set of the settings that the agent has set earlier. A setting in `set` is reset if it is no longer desired.
    pub fn differences(&self, desired: &Settings, set: u64) -> Vec<Difference> {
        let mut found = Vec::new();
        for ((at, attribute, to), from) in desired.all().zip(&*self.numbers) {
            let was_set = set >> at & 1 == 1;
            let to = match (to, attribute.unset) {
                (Some(number), _) if desired.counts(attribute) => number,
                (None, Unset::LeftAlone(number)) if was_set => number,
                _ => continue,
            };
            let is_same = match *from {
                Some(from) => from.abs_diff(to) <= attribute.rounding,
                // A setting that the kernel does not report is assumed to have its default, so it differs only if the user sets
                // it explicitly.
                None => desired.explicit >> at & 1 == 0,
            };
            if !is_same {
                found.push(Difference {
                    attribute,
                    from: *from,
                    to,
                });
            }
        }
        found
    }

    /// Returns the changes that reset explicitly set settings to their defaults. Settings without a default stay unchanged.
    pub fn resets(&self) -> Vec<Difference> {
        let set = self.all().filter(|(at, ..)| self.explicit >> at & 1 == 1);
        let differing = set.filter_map(|(_, attribute, from)| {
            let to = match attribute.unset {
                Unset::KernelDefault(number) | Unset::AgentDefault(number) | Unset::LeftAlone(number) => number,
                Unset::Required => return None,
            };
            let is_same = from.is_none_or(|from| from.abs_diff(to) <= attribute.rounding);
            (!is_same).then_some(Difference { attribute, from, to })
        });
        differing.collect()
    }

    /// Returns a bit set of the explicitly set settings that the agent would otherwise leave alone ([`Unset::LeftAlone`]).
    pub fn set_bits(&self) -> u64 {
        let set = self.all().filter(|(at, attribute, _)| {
            let is_set = self.explicit >> at & 1 == 1;
            is_set && matches!(attribute.unset, Unset::LeftAlone(_))
        });
        set.fold(0, |bits, (at, ..)| bits | 1 << at)
    }
}

impl Difference {
    /// Returns the feature to change and its desired state; `None` if the setting is not a feature.
    pub fn feature(&self) -> Option<(Feature, bool)> {
        match self.attribute.at {
            At::Feature(feature) => Some((feature, self.to != 0)),
            At::Info(..) => None,
        }
    }
}

/// Returns the attributes to send in order to remove the given differences. Omits settings that cannot be changed on an existing
/// link.
pub fn changes(differences: &[Difference]) -> Vec<Attr> {
    let in_place = differences
        .iter()
        .filter(|difference| difference.attribute.change == Change::InPlace);
    attrs(in_place.map(|difference| (difference.attribute, difference.to)))
}

/// Describes the difference, as in "the VLAN id is 10 instead of 20" or "receive checksum offloading is not on".
impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Attribute { title, at, .. } = self.attribute;
        let shown = |number| self.attribute.shown(number);
        match (at, self.from) {
            (At::Feature(_), _) => write!(f, "{title} is not {}", if self.to != 0 { "on" } else { "off" }),
            (At::Info(..), Some(from)) => write!(f, "the {title} is {} instead of {}", shown(from), shown(self.to)),
            (At::Info(..), None) => write!(f, "the {title} is not {}", shown(self.to)),
        }
    }
}

/// Converts settings to netlink attributes. Flags of the same `{flags, mask}` pair are merged into one attribute.
pub(super) fn attrs(settings: impl Iterator<Item = (&'static Attribute, u32)>) -> Vec<Attr> {
    let mut attributes: Vec<Attr> = Vec::new();
    for (attribute, number) in settings {
        let At::Info(place, wire) = attribute.at else { continue };
        let value = wire.encode(number);
        if let (Wire::Flag(_), Some(pair)) = (wire, attributes.iter_mut().find(|other| other.number == place)) {
            pair.value.iter_mut().zip(value).for_each(|(byte, more)| *byte |= more);
            continue;
        }
        attributes.push(Attr {
            number: place,
            title: attribute.title,
            value,
            immutable: attribute.change == Change::Recreate,
        });
    }
    attributes
}
