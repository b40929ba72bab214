//! A link as a kind with its settings, and how two such differ.
//!
//! Owns the loops over the table that create, change, compare and read. Must never know a kind. Start reading at [`Link`].

use std::fmt;

use super::spec::{At, Attribute, Change, Feature, KindSpec, LifeCycle, LinkKind, MtuDefault, Reference, Role, Unset};

/// A kind, its settings in numbers of the kernel, and the interfaces that it names.
#[derive(Clone)]
pub struct Link {
    pub(super) kind: &'static dyn LinkKind,
    /// By position in the table; `None`: left alone, or not known.
    pub(super) settings: Box<[Option<u32>]>,
    /// By position in the table.
    pub(super) references: Box<[String]>,
    /// Bits by position: settings that the value itself sets.
    pub(super) explicit: u64,
}

/// An attribute inside IFLA_INFO_DATA as it stands in a message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Attr {
    /// Its number.
    pub number: u16,
    /// Name for people.
    pub title: &'static str,
    /// Its value.
    pub value: Vec<u8>,
    /// The kernel does not change it.
    pub immutable: bool,
}

/// What a kernel shows of a link.
pub struct Observed<'a> {
    /// The attribute inside IFLA_INFO_DATA with a number.
    pub attribute: &'a dyn Fn(u16) -> Option<&'a [u8]>,
    /// Whether a feature is on; `None` if it is not known.
    pub feature: &'a dyn Fn(Feature) -> Option<bool>,
}

/// A setting in which two links differ.
#[derive(Clone, Copy, Debug)]
pub struct Difference {
    /// The setting.
    pub attribute: &'static Attribute,
    /// The kernel's number of the first; `None` if it is not known.
    pub from: Option<u32>,
    /// The kernel's number of the second.
    pub to: u32,
}

/// Two links are equal if they are of one kind with equal settings, written out or not.
impl PartialEq for Link {
    fn eq(&self, other: &Self) -> bool {
        self.is_of(other.kind) && (&self.settings, &self.references) == (&other.settings, &other.references)
    }
}

impl Eq for Link {}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let spec = self.spec();
        let mut told = f.debug_struct(spec.type_name);
        for (reference, name) in spec.references.iter().zip(&*self.references) {
            told.field(reference.field, name);
        }
        for (attribute, setting) in spec.attributes.iter().zip(&*self.settings) {
            told.field(attribute.field, setting);
        }
        told.finish()
    }
}

impl Link {
    /// A link of a kind of which nothing is known.
    pub fn bare(kind: &'static dyn LinkKind) -> Self {
        let spec = kind.spec();
        Link {
            kind,
            settings: vec![None; spec.attributes.len()].into(),
            references: vec![String::new(); spec.references.len()].into(),
            explicit: 0,
        }
    }

    /// The data of its kind.
    pub fn spec(&self) -> &'static KindSpec {
        self.kind.spec()
    }

    /// Its kind.
    pub fn kind(&self) -> &'static dyn LinkKind {
        self.kind
    }

    /// Whether it is of a kind.
    pub fn is_of(&self, kind: &dyn LinkKind) -> bool {
        self.spec().type_name == kind.spec().type_name
    }

    /// What the agent does with it.
    pub fn life_cycle(&self) -> LifeCycle {
        self.spec().life_cycle
    }

    /// The interfaces that it names, each with what it is.
    pub fn references(&self) -> impl Iterator<Item = (&'static Reference, &str)> {
        self.spec().references.iter().zip(self.references.iter().map(String::as_str))
    }

    fn named(&self, role: impl Fn(&Role) -> bool) -> Option<&str> {
        let mut references = self.references();
        references.find(|(reference, _)| role(&reference.role)).map(|(_, name)| name)
    }

    /// Logical name of the other end of its pair.
    pub fn peer(&self) -> Option<&str> {
        self.named(|role| matches!(role, Role::Peer { .. }))
    }

    /// Logical name of the interface below it.
    pub fn parent(&self) -> Option<&str> {
        self.named(|role| *role == Role::Parent)
    }

    /// Kernel name that it has before it is taken over.
    pub fn original(&self) -> Option<&str> {
        self.named(|role| *role == Role::Original)
    }

    /// The routing table that it selects for its ports, if it is a VRF device.
    pub fn routing_table(&self) -> Option<u32> {
        let at = self.spec().position(self.spec().routing_table?)?;
        self.settings[at]
    }

    /// MTU in bytes if none is asked for; `None` if the agent leaves it alone.
    pub fn default_mtu(&self) -> Option<u32> {
        match self.spec().mtu.default {
            MtuDefault::Is(mtu) => Some(mtu),
            MtuDefault::LeftAlone => None,
        }
    }

    /// What follows the logical name in the mark on the link, each after a slash.
    pub fn mark_words(&self) -> Vec<&str> {
        let words = |(reference, name): (&'static Reference, _)| match reference.role {
            Role::Peer { .. } | Role::Parent => vec![name],
            // As the reference has it: the name of the TAP, and the name that it had before.
            Role::Original => vec![name, name],
        };
        self.references().flat_map(words).collect()
    }

    /// The link with the references that the mark holds after the logical name.
    pub fn with_mark_words(mut self, words: &str) -> Self {
        let spec = self.spec();
        if let Some((at, reference)) = spec.reference(|_| true) {
            self.references[at] = match reference.role {
                Role::Peer { .. } | Role::Parent => words.to_owned(),
                Role::Original => words.rsplit('/').next().unwrap_or_default().to_owned(),
            };
        }
        self
    }

    /// Whether a setting counts, given the others.
    fn counts(&self, attribute: &Attribute) -> bool {
        let Some(other) = attribute.only_with else { return true };
        let at = self.spec().position(other);
        at.and_then(|at| self.settings[at]).is_some_and(|number| number != 0)
    }

    /// The attributes of a creating request.
    pub fn creation(&self) -> Vec<Attr> {
        let attributes = self.spec().attributes.iter().enumerate();
        let sent = |(at, attribute): (usize, &&'static Attribute)| {
            let is_sent = self.explicit >> at & 1 == 1 || matches!(attribute.unset, Unset::AgentDefault(_) | Unset::Required);
            self.settings[at]
                .filter(|_| is_sent && self.counts(attribute))
                .and_then(|number| attr(attribute, number))
        };
        attributes.filter_map(sent).collect()
    }

    /// The features that have to be set after creation.
    pub fn features_to_set(&self) -> impl Iterator<Item = (Feature, bool)> {
        let settings = self.spec().attributes.iter().zip(&*self.settings);
        settings.filter_map(|(attribute, setting)| match (attribute.at, attribute.unset, setting) {
            (At::Feature(feature), Unset::KernelDefault(default), Some(number)) if *number != default => Some((feature, *number != 0)),
            _ => None,
        })
    }

    /// All features that the value decides.
    pub fn features(&self) -> impl Iterator<Item = (Feature, bool)> {
        let settings = self.spec().attributes.iter().zip(&*self.settings);
        settings.filter_map(|(attribute, setting)| match attribute.at {
            At::Feature(feature) => Some((feature, (*setting)? != 0)),
            At::Info(..) => None,
        })
    }

    /// All attributes that the value decides and that can be changed in place.
    pub fn changeable(&self) -> Vec<Attr> {
        let settings = self.spec().attributes.iter().zip(&*self.settings);
        let decided = settings.filter(|(attribute, _)| attribute.change == Change::InPlace && self.counts(attribute));
        decided.filter_map(|(attribute, setting)| attr(attribute, (*setting)?)).collect()
    }

    /// The link as a kernel shows it; what the kernel does not show is as in `self`.
    pub fn observe(&self, observed: &Observed<'_>) -> Link {
        let mut link = self.clone();
        for (at, attribute) in self.spec().attributes.iter().enumerate() {
            let shown = match attribute.at {
                At::Info(number, wire) => (observed.attribute)(number).and_then(|value| wire.decode(value)),
                At::Feature(feature) => (observed.feature)(feature).map(u32::from),
            };
            link.settings[at] = shown.or(link.settings[at]);
        }
        link
    }

    /// The settings in which this link differs from what is desired. `set`: bits of those that the agent has set on this link.
    pub fn differences(&self, desired: &Link, set: u64) -> Vec<Difference> {
        if !self.is_of(desired.kind) {
            return Vec::new();
        }
        let mut found = Vec::new();
        for (at, attribute) in self.spec().attributes.iter().enumerate() {
            let was_set = set >> at & 1 == 1;
            let to = match (desired.settings[at], attribute.unset) {
                (Some(number), _) if desired.counts(attribute) => number,
                (None, Unset::LeftAlone(number)) if was_set => number,
                _ => continue,
            };
            let from = self.settings[at];
            let is_default = desired.explicit >> at & 1 == 0;
            let is_same = match from {
                Some(from) => from.abs_diff(to) <= attribute.rounding,
                // The kernel does not have it: as good as the default.
                None => is_default,
            };
            if !is_same {
                found.push(Difference { attribute, from, to });
            }
        }
        found
    }

    /// The link as its creation leaves it, where features have their defaults.
    pub fn as_created(&self) -> Link {
        let mut link = self.clone();
        for (at, attribute) in self.spec().attributes.iter().enumerate() {
            if let (At::Feature(_), Unset::KernelDefault(number)) = (attribute.at, attribute.unset) {
                link.settings[at] = Some(number);
            }
        }
        link
    }

    /// In words: another type, other interfaces that it refers to.
    pub fn what_differs(&self, desired: &Link) -> Vec<String> {
        if !self.is_of(desired.kind) {
            let (found, wanted) = (self.spec().type_name, desired.spec().type_name);
            return vec![format!("it is of type {found} instead of {wanted}")];
        }
        let pairs = self.references().zip(&*desired.references);
        let other = pairs.filter(|((_, found), wanted)| found != wanted);
        other
            .map(|((reference, found), wanted)| format!("its {} is `{found}` instead of `{wanted}`", reference.field))
            .collect()
    }

    /// Whether becoming as desired needs a new link.
    pub fn must_be_created_again(&self, desired: &Link) -> bool {
        let is_immutable = |difference: &Difference| difference.attribute.change == Change::Recreate;
        !self.is_of(desired.kind) || self.references != desired.references || self.differences(desired, 0).iter().any(is_immutable)
    }

    /// Bits of the settings that a value leaves alone if it does not set them, and does.
    pub fn set_bits(&self) -> u64 {
        let attributes = self.spec().attributes.iter().enumerate();
        let set = attributes.filter(|(at, attribute)| matches!(attribute.unset, Unset::LeftAlone(_)) && self.settings[*at].is_some());
        set.fold(0, |bits, (at, _)| bits | 1 << at)
    }
}

impl KindSpec {
    /// The attributes without which the kernel makes no such link, each with its smallest number.
    pub fn smallest(&self) -> Vec<Attr> {
        let required = self.attributes.iter().filter(|attribute| attribute.unset == Unset::Required);
        let smallest = |attribute: &&'static Attribute| attr(attribute, attribute.scale.to_kernel(attribute.range.0.max(1))?);
        required.filter_map(smallest).collect()
    }
}

impl Difference {
    /// The attribute that removes it; `None` if it is a feature.
    pub fn attr(&self) -> Option<Attr> {
        attr(self.attribute, self.to)
    }

    /// The feature that removes it, and whether it is to be on.
    pub fn feature(&self) -> Option<(Feature, bool)> {
        match self.attribute.at {
            At::Feature(feature) => Some((feature, self.to != 0)),
            At::Info(..) => None,
        }
    }
}

/// "its VLAN id is 10 instead of 20", "receive checksum offloading is not on".
impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Attribute { title, scale, at, .. } = self.attribute;
        let shown = |number: u32| scale.to_field(number).unwrap_or(number);
        match (at, self.from) {
            (At::Feature(_), _) => write!(f, "{title} is not {}", if self.to != 0 { "on" } else { "off" }),
            (At::Info(..), Some(from)) => write!(f, "its {title} is {} instead of {}", shown(from), shown(self.to)),
            (At::Info(..), None) => write!(f, "its {title} is not {}", shown(self.to)),
        }
    }
}

fn attr(attribute: &'static Attribute, number: u32) -> Option<Attr> {
    let At::Info(place, wire) = attribute.at else { return None };
    Some(Attr {
        number: place,
        title: attribute.title,
        value: wire.encode(number),
        immutable: attribute.change == Change::Recreate,
    })
}
