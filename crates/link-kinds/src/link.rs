//! A link: a kind, its settings and the interfaces that it refers to.

use std::fmt;

use prost_reflect::{DynamicMessage, MessageDescriptor, Value};

use super::{
    bridging::{self, VlanRange},
    check::{self, Given, Invalid, text},
    settings::{Attr, Difference, Settings, attrs},
    spec::{Change, KindSpec, LifeCycle, LinkKind, MtuDefault, Reference, Role, Unset},
};

/// A link: its kind, its settings, and the interfaces that it refers to.
#[derive(Clone)]
pub struct Link {
    kind: &'static dyn LinkKind,
    /// Settings of the link itself, without its settings as a port of a master.
    pub settings: Settings,
    /// Names of the interfaces that the link refers to, in the order in which its kind declares the references.
    references: Box<[String]>,
    /// VLANs of the bridge itself; empty for other kinds.
    pub own_vlans: Vec<VlanRange>,
}

/// Compares kind, settings, references and VLANs.
impl PartialEq for Link {
    fn eq(&self, other: &Self) -> bool {
        self.is_of(other.kind)
            && (&self.settings, &self.references, &self.own_vlans) == (&other.settings, &other.references, &other.own_vlans)
    }
}

impl Eq for Link {}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut reported = f.debug_struct(self.spec().type_name);
        for (reference, name) in self.references() {
            reported.field(reference.field, &name);
        }
        reported.field("settings", &self.settings).finish()
    }
}

impl Link {
    /// Creates a link of this kind with unknown settings and references.
    pub fn bare(kind: &'static dyn LinkKind) -> Self {
        let spec = kind.spec();
        Link {
            kind,
            settings: Settings::bare(spec.attributes),
            references: vec![String::new(); spec.references.len()].into(),
            own_vlans: Vec::new(),
        }
    }

    /// Checks an interface against the rules of its kind, and reads its settings. The caller must check the names of the
    /// interfaces that the interface refers to.
    ///
    /// # Errors
    /// Returns which field is invalid and why.
    pub fn parse(kind: &'static dyn LinkKind, given: &Given<'_>) -> Result<Link, Invalid> {
        check::check(kind, given)?;
        let spec = kind.spec();
        let name = |reference: &Reference| given.link.map(|message| text(message, reference.field)).unwrap_or_default();
        Ok(Link {
            kind,
            settings: Settings::parse(spec.attributes, given.link)?,
            references: spec.references.iter().map(name).collect(),
            own_vlans: match (spec.own_vlans, given.link) {
                (Some(field), Some(message)) => bridging::vlans(message, field)?,
                _ => Vec::new(),
            },
        })
    }

    /// Builds the protobuf message of type `member` from the settings of this link.
    pub fn message(&self, member: &MessageDescriptor) -> DynamicMessage {
        let mut message = DynamicMessage::new(member.clone());
        for (reference, name) in self.references() {
            let _ = message.try_set_field_by_name(reference.field, Value::String(name.to_owned()));
        }
        self.settings.write(&mut message, member);
        if let Some(field) = self.spec().own_vlans {
            bridging::write(&self.own_vlans, &mut message, member, field);
        }
        message
    }

    /// Returns the table of the link's kind.
    pub fn spec(&self) -> &'static KindSpec {
        self.kind.spec()
    }

    /// Returns whether the link is of this kind.
    pub fn is_of(&self, kind: &dyn LinkKind) -> bool {
        self.spec().type_name == kind.spec().type_name
    }

    /// Returns how the agent manages the link.
    pub fn life_cycle(&self) -> LifeCycle {
        self.spec().life_cycle
    }

    /// Returns the references of the kind, each with the name of the interface that this link refers to.
    pub fn references(&self) -> impl Iterator<Item = (&'static Reference, &str)> {
        self.spec().references.iter().zip(self.references.iter().map(String::as_str))
    }

    fn named(&self, role: impl Fn(&Role) -> bool) -> Option<&str> {
        let mut references = self.references();
        references.find(|(reference, _)| role(&reference.role)).map(|(_, name)| name)
    }

    /// Returns the logical name of the other end of the pair; `None` if the link is not part of a pair.
    pub fn peer(&self) -> Option<&str> {
        self.named(Role::is_peer)
    }

    /// Returns the logical name of the parent interface; `None` if the kind has no parent.
    pub fn parent(&self) -> Option<&str> {
        self.named(|role| matches!(role, Role::Parent { .. }))
    }

    /// Returns whether the link can be up only while its parent is up.
    pub fn needs_parent_up(&self) -> bool {
        self.references().any(|(reference, _)| match reference.role {
            Role::Parent { up_unless } => up_unless.is_none_or(|unless| self.settings.get(unless).unwrap_or_default() == 0),
            Role::Peer { .. } | Role::Original => false,
        })
    }

    /// Returns the kernel name that the link had before the agent took it over; `None` for kinds that are not taken over by name.
    pub fn original(&self) -> Option<&str> {
        self.named(|role| matches!(role, Role::Original))
    }

    /// Returns the routing table of a VRF device; `None` for other kinds.
    pub fn routing_table(&self) -> Option<u32> {
        self.settings.get(self.spec().routing_table?)
    }

    /// Returns the default MTU in bytes; `None` if the kernel chooses the MTU.
    pub fn default_mtu(&self) -> Option<u32> {
        match self.spec().mtu.default {
            MtuDefault::Is(mtu) => Some(mtu),
            MtuDefault::LeftAlone => None,
        }
    }

    /// Returns an error reason and a description of the settings that must be unique among the links on one parent, such as the
    /// VLAN id.
    ///
    /// The reason is reported if two links have the same settings. Returns `None` if the kind has no unique settings.
    pub fn unique(&self) -> Option<(&'static str, String)> {
        let unique = self.spec().unique.as_ref()?;
        let shown = |attribute| self.settings.get(attribute).map(|number| attribute.shown(number));
        let numbers: Vec<String> = unique.of.iter().filter_map(|attribute| shown(attribute)).collect();
        Some((unique.reason, format!("{} {}", unique.title, numbers.join(" "))))
    }

    /// Returns the words that follow the logical name in the link's ownership mark. In the mark, each word is preceded by a
    /// slash.
    pub fn mark_words(&self) -> Vec<&str> {
        let words = |(reference, name): (&'static Reference, _)| match reference.role {
            Role::Peer { .. } | Role::Parent { .. } => vec![name],
            // This is the format of ligato vpp-agent: the name of the TAP, followed by its original name.
            Role::Original => vec![name, name],
        };
        self.references().flat_map(words).collect()
    }

    /// Sets the references of the link from the words that follow the logical name in its ownership mark.
    pub fn with_mark_words(mut self, words: &str) -> Self {
        if let (Some(reference), Some(name)) = (self.spec().references.first(), self.references.first_mut()) {
            *name = match reference.role {
                Role::Peer { .. } | Role::Parent { .. } => words.to_owned(),
                Role::Original => words.rsplit('/').next().unwrap_or_default().to_owned(),
            };
        }
        self
    }

    /// Returns the settings and references that the link has immediately after its creation; see [`Settings::as_created`].
    pub fn as_created(&self) -> Link {
        Link {
            settings: self.settings.as_created(),
            ..self.clone()
        }
    }

    /// Returns the settings that differ from those of the desired link; empty if the links are of different kinds. For `set`, see
    /// [`Settings::differences`].
    pub fn differences(&self, desired: &Link, set: u64) -> Vec<Difference> {
        match self.is_of(desired.kind) {
            true => self.settings.differences(&desired.settings, set),
            false => Vec::new(),
        }
    }

    /// Describes how the kind and the references to other interfaces differ from those of the desired link. The texts are used in
    /// messages.
    pub fn what_differs(&self, desired: &Link) -> Vec<String> {
        if !self.is_of(desired.kind) {
            let (found, wanted) = (self.spec().type_name, desired.spec().type_name);
            return vec![format!("the type is {found} instead of {wanted}")];
        }
        let pairs = self.references().zip(&*desired.references);
        let other = pairs.filter(|((_, found), wanted)| found != wanted);
        other
            .map(|((reference, found), wanted)| format!("{} is `{found}` instead of `{wanted}`", reference.field))
            .collect()
    }

    /// Returns whether the link must be recreated to reach the desired state.
    pub fn must_be_created_again(&self, desired: &Link) -> bool {
        let is_immutable = |difference: &Difference| difference.attribute.change == Change::Recreate;
        !self.is_of(desired.kind) || self.references != desired.references || self.differences(desired, 0).iter().any(is_immutable)
    }
}

impl KindSpec {
    /// Returns the attributes that the kernel requires to create a link of this kind, each with the smallest allowed number.
    pub fn smallest(&self) -> Vec<Attr> {
        let required = self.attributes.iter().filter(|attribute| attribute.unset == Unset::Required);
        attrs(required.filter_map(|attribute| Some((*attribute, attribute.scale.to_kernel(attribute.range.0.max(1))?))))
    }
}
