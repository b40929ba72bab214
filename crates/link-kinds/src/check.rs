//! Validates an interface against the table and the rules of its kind. The checks need no other values and no information about
//! the system.

use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, ReflectMessage, Value};

use super::spec::{Attribute, KindSpec, LinkKind, Scale, Unset};

/// Reason why a value is invalid.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Invalid {
    /// Stable CamelCase identifier for programs.
    pub reason: &'static str,
    /// Names of the fields that the user must change.
    pub fields: Vec<String>,
    /// Human-readable message that describes the problem and says what to write instead.
    pub message: String,
}

impl Invalid {
    /// Creates an error about these fields.
    pub fn new(reason: &'static str, fields: &[&str], message: impl Into<String>) -> Self {
        Invalid {
            reason,
            fields: fields.iter().map(|field| (*field).to_owned()).collect(),
            message: message.into(),
        }
    }

    /// Creates the error for an interface that sets the wrong member of `link` for its kind.
    pub(super) fn link_mismatch(type_name: &str) -> Self {
        let message = format!("Linux interface reference does not match the interface type {type_name}");
        Invalid::new("LinkMismatch", &["link"], message)
    }
}

/// Properties of an interface that are checked against the rules of its kind.
#[derive(Clone, Copy, Debug)]
pub struct Given<'a> {
    /// `true` if any member of `link` is set.
    pub has_link: bool,
    /// Message in the oneof `link` with the settings of the kind; `None` if it is unset or belongs to another kind.
    pub link: Option<&'a DynamicMessage>,
    /// `true` if the interface names a namespace.
    pub has_namespace: bool,
    /// `true` if the interface sets a MAC address.
    pub has_mac: bool,
    /// `true` if the interface names a VRF.
    pub has_vrf: bool,
    /// `true` if the interface names a master other than a VRF.
    pub has_master: bool,
    /// `true` if the agent manages only the link, without its MAC and IP addresses.
    pub link_only: bool,
    /// Index of the first IP address that refers to a netalloc allocation; `None` if no address does.
    pub alloc_reference: Option<usize>,
}

impl Given<'_> {
    /// Returns a number, bool or enum field of the kind's settings as a number; `None` if the field is not set.
    pub fn number(&self, field: &str) -> Option<u32> {
        number(self.link?, field)
    }
}

/// Reads a number, bool or enum field as a number; `None` if the field is not set or has another type.
pub(super) fn number(message: &DynamicMessage, field: &str) -> Option<u32> {
    if !message.has_field_by_name(field) {
        return None;
    }
    match *message.get_field_by_name(field)? {
        Value::U32(number) => Some(number),
        Value::Bool(on) => Some(on.into()),
        Value::EnumNumber(number) => u32::try_from(number).ok(),
        _ => None,
    }
}

/// Checks an interface against the rules of its kind, except the rules for single settings and for the names of other interfaces.
pub(super) fn check(kind: &dyn LinkKind, given: &Given<'_>) -> Result<(), Invalid> {
    let spec = kind.spec();
    if given.has_mac && !spec.mac {
        let message = format!("it is unsupported to set MAC address to a {}", spec.title);
        return Err(Invalid::new("MacAddressNotSupported", &["type", "phys_address"], message));
    }
    if given.has_vrf && !spec.can_be_in_vrf {
        let message = format!("{} cannot be inside another VRF", spec.title);
        return Err(Invalid::new("VrfInsideVrf", &["type", "vrf_master_interface"], message));
    }
    if given.has_master && !spec.can_be_port {
        let message = format!(
            "an interface of type {} cannot be a port of another interface; omit master_interface",
            spec.type_name
        );
        return Err(Invalid::new("PortNotSupported", &["type", "master_interface"], message));
    }
    if given.has_master && given.has_vrf {
        let message = "an interface can have only one master: set vrf_master_interface or master_interface, not both";
        return Err(Invalid::new("TwoMasters", &["vrf_master_interface", "master_interface"], message));
    }
    check_member(spec, given)?;
    kind.check(given)?;
    let Some(link) = given.link else { return Ok(()) };
    let missing = spec.references.iter().find(|reference| text(link, reference.field).is_empty());
    match missing {
        Some(reference) => Err(Invalid::new(reference.missing, &[reference.field], reference.missing_text)),
        None => Ok(()),
    }
}

/// Checks that the member of `link` belongs to the kind, and that it is present if the kind has required fields.
fn check_member(spec: &KindSpec, given: &Given<'_>) -> Result<(), Invalid> {
    match (given.has_link, given.link) {
        (true, None) => Err(Invalid::link_mismatch(spec.type_name)),
        (_, Some(_)) => Ok(()),
        (false, None) => match first_needed(spec) {
            None => Ok(()),
            Some(field) => {
                let (name, member) = (spec.type_name, spec.member);
                let message = format!("{name} interface defined without {member}; set {member} and its field {field}");
                Err(Invalid::new("LinkMissing", &["link"], message))
            }
        },
    }
}

/// Returns the name of one field that the kind requires; `None` if all fields are optional.
fn first_needed(spec: &KindSpec) -> Option<&'static str> {
    let reference = spec.references.first().map(|reference| reference.field);
    let mut required = spec.attributes.iter().filter(|attribute| attribute.unset == Unset::Required);
    reference.or_else(|| required.next().map(|attribute| attribute.field))
}

/// Checks that a field is set if it is required, and that its value is in the range given in the table.
pub(super) fn check_attribute(attribute: &Attribute, link: &DynamicMessage) -> Result<(), Invalid> {
    let Attribute { field, title, range, .. } = attribute;
    let (min, max) = *range;
    let descriptor = link.descriptor().get_field_by_name(field);
    let Some(number) = number(link, field) else {
        if attribute.unset != Unset::Required {
            return Ok(());
        }
        let message = format!("the {title} is missing; set {field} to a number from {min} to {max}");
        return Err(Invalid::new("SettingMissing", &[field], message));
    };
    if let (Scale::Table(_), None) = (attribute.scale, attribute.scale.to_kernel(number)) {
        let known = descriptor.as_ref().map(names).unwrap_or_default();
        let message = format!("unknown {title} {number}; expected {known}");
        return Err(Invalid::new("UnknownEnumValue", &[field], message));
    }
    // A field that cannot distinguish 0 from unset (no presence tracking) counts as unset if it is 0.
    let is_unset = number == 0 && attribute.unset != Unset::Required && !descriptor.is_some_and(|field| field.supports_presence());
    if !is_unset && !(min..=max).contains(&number) {
        let message = format!("the {title} {number} is out of range; expected {min} to {max}");
        return Err(Invalid::new("SettingOutOfRange", &[field], message));
    }
    Ok(())
}

/// Lists the value names of an enum field, for messages.
fn names(field: &FieldDescriptor) -> String {
    let Kind::Enum(values) = field.kind() else { return String::new() };
    let names: Vec<String> = values
        .values()
        .map(|value| format!("{} ({})", value.name(), value.number()))
        .collect();
    match names.split_last() {
        Some((last, others)) if !others.is_empty() => format!("{} or {last}", others.join(", ")),
        _ => names.concat(),
    }
}

/// Reads a text field. Returns an empty string if the field is not set.
pub(super) fn text(message: &DynamicMessage, field: &str) -> String {
    let value = message.get_field_by_name(field);
    value.and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}
