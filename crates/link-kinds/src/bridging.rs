//! Port settings of interfaces that have a master, and VLANs of bridges and their ports.

use prost_reflect::{DynamicMessage, MessageDescriptor, Value};

use super::{
    KINDS,
    check::{Invalid, number},
    settings::{Settings, Table},
    spec::{Attribute, KindSpec},
};

/// Largest VLAN id (IEEE 802.1Q; 4095 is reserved).
const VID_MAX: u32 = 4094;

/// Port settings that one kind of master supports, such as those of bridge ports.
#[derive(Debug)]
pub struct PortSpec {
    /// Member of the oneof `port` that contains the port settings.
    pub member: &'static str,
    /// Table of the port settings.
    pub attributes: Table,
    /// Setting of the master that contains the VLAN id for new ports and for the master itself; `None` if the kind has no default
    /// VLAN.
    pub default_vlan: Option<&'static Attribute>,
    /// Field that contains the VLANs of a port; `None` if ports have no VLANs.
    pub vlans: Option<&'static str>,
}

/// Settings of an interface as a port of its master.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Port {
    /// Kind of the master, as named in `Interface.Type`.
    pub of: &'static str,
    /// Values of the port settings that this kind of master supports.
    pub settings: Settings,
    /// VLANs of the port; empty if this kind of master has no VLANs for its ports.
    pub vlans: Vec<VlanRange>,
}

/// A VLAN or VLAN range of a port or of the bridge itself.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct VlanRange {
    /// First VLAN id of the range.
    pub first: u16,
    /// Last VLAN id of the range, inclusive; equal to `first` for a single VLAN.
    pub last: u16,
    /// `true` if untagged ingress frames are assigned to this VLAN.
    pub pvid: bool,
    /// `true` if the tag is removed from egress frames of the VLANs in this range.
    pub untagged: bool,
}

impl Port {
    /// Returns the kind of master that uses this member of the oneof `port` for its port settings.
    pub fn kind_of(member: &str) -> Option<(&'static KindSpec, &'static PortSpec)> {
        let mut kinds = KINDS.iter().map(|kind| kind.spec());
        kinds.find_map(|spec| Some((spec, spec.ports.filter(|ports| ports.member == member)?)))
    }

    /// Returns the port settings that apply if the user sets none; `None` if links of this kind cannot have ports.
    pub fn bare(of: &KindSpec) -> Option<Port> {
        let ports = of.ports?;
        Some(Port {
            of: of.type_name,
            settings: Settings::parse(ports.attributes, None).ok()?,
            vlans: Vec::new(),
        })
    }

    /// Reads the port settings from a message and checks them.
    ///
    /// # Errors
    /// Returns which field is invalid and why.
    pub fn parse(member: &str, message: &DynamicMessage) -> Result<Port, Invalid> {
        let Some((of, ports)) = Port::kind_of(member) else {
            let text = format!("no interface type has port settings named {member}");
            return Err(Invalid::new("PortMismatch", &[member], text));
        };
        Ok(Port {
            of: of.type_name,
            settings: Settings::parse(ports.attributes, Some(message))?,
            vlans: match ports.vlans {
                Some(field) => vlans(message, field)?,
                None => Vec::new(),
            },
        })
    }

    /// Builds the protobuf message of type `member` from these settings.
    pub fn message(&self, member: &MessageDescriptor) -> DynamicMessage {
        let mut message = DynamicMessage::new(member.clone());
        self.settings.write(&mut message, member);
        let ports = super::by_type(self.of).and_then(|kind| kind.spec().ports);
        if let Some(field) = ports.and_then(|ports| ports.vlans) {
            write(&self.vlans, &mut message, member, field);
        }
        message
    }
}

impl VlanRange {
    /// Formats the range for use in a key, such as `10` or `20-29`.
    pub fn id(&self) -> String {
        match self.first == self.last {
            true => self.first.to_string(),
            false => format!("{}-{}", self.first, self.last),
        }
    }
}

/// Reads the VLANs from a field of a message and checks them.
pub(super) fn vlans(message: &DynamicMessage, field: &str) -> Result<Vec<VlanRange>, Invalid> {
    let Some(list) = message.get_field_by_name(field) else {
        return Ok(Vec::new());
    };
    let mut ranges: Vec<VlanRange> = Vec::new();
    for (at, item) in list.as_list().unwrap_or_default().iter().enumerate() {
        let Some(item) = item.as_message() else { continue };
        let range = range(item, &format!("{field}[{at}]"))?;
        let overlaps = |other: &&VlanRange| range.first <= other.last && other.first <= range.last;
        if let Some(other) = ranges.iter().find(overlaps) {
            let text = format!("the VLANs {} and {} overlap; list each VLAN only once", other.id(), range.id());
            return Err(Invalid::new("VlanOverlap", &[&format!("{field}[{at}]")], text));
        }
        if let Some(other) = ranges.iter().find(|other| other.pvid && range.pvid) {
            let text = format!(
                "both VLAN {} and VLAN {} are the PVID; a port can have only one PVID",
                other.first, range.first
            );
            return Err(Invalid::new("VlanPvidTwice", &[&format!("{field}[{at}].pvid")], text));
        }
        ranges.push(range);
    }
    Ok(ranges)
}

fn range(item: &DynamicMessage, field: &str) -> Result<VlanRange, Invalid> {
    let get = |name| number(item, name).unwrap_or_default();
    let (vid, end) = (get("vid"), get("vid_end"));
    if !(1..=VID_MAX).contains(&vid) {
        let text = format!("the VLAN id {vid} is out of range; expected 1 to {VID_MAX}");
        return Err(Invalid::new("SettingOutOfRange", &[&format!("{field}.vid")], text));
    }
    if end != 0 && !(vid..=VID_MAX).contains(&end) {
        let text = format!("the last VLAN id {end} is out of range; expected {vid} to {VID_MAX}, or 0 for a single VLAN");
        return Err(Invalid::new("SettingOutOfRange", &[&format!("{field}.vid_end")], text));
    }
    let last = if end == 0 { vid } else { end };
    let pvid = get("pvid") != 0;
    if pvid && last != vid {
        let text = format!("the VLANs {vid} to {last} cannot all be the PVID; put the PVID in a separate entry");
        return Err(Invalid::new("VlanPvidRange", &[&format!("{field}.pvid")], text));
    }
    Ok(VlanRange {
        first: vid as u16,
        last: last as u16,
        pvid,
        untagged: get("untagged") != 0,
    })
}

/// Writes VLANs into a field of a message. Leaves the field unset if there are no VLANs.
pub(super) fn write(vlans: &[VlanRange], message: &mut DynamicMessage, descriptor: &MessageDescriptor, field: &str) {
    let item = descriptor
        .get_field_by_name(field)
        .and_then(|field| field.kind().as_message().cloned());
    let Some(item) = item.filter(|_| !vlans.is_empty()) else { return };
    let written = vlans.iter().map(|range| {
        let mut message = DynamicMessage::new(item.clone());
        let last = if range.last == range.first { 0 } else { range.last };
        for (name, value) in [
            ("vid", Value::U32(range.first.into())),
            ("vid_end", Value::U32(last.into())),
            ("pvid", Value::Bool(range.pvid)),
            ("untagged", Value::Bool(range.untagged)),
        ] {
            let _ = message.try_set_field_by_name(name, value);
        }
        Value::Message(message)
    });
    let _ = message.try_set_field_by_name(field, Value::List(written.collect()));
}
