//! Checks that the link kind tables match the messages.
//!
//! The agent would silently ignore a message field that has no row in the table of its link kind. No other test detects a table row for a field that
//! does not exist in the message.

use std::collections::BTreeSet;

use link_kinds::{KINDS, KindSpec, Scale, Unset, by_type};
use models::proto::{descriptor_pool, member_descriptor};
use prost_reflect::{Kind, MessageDescriptor};

fn specs() -> impl Iterator<Item = &'static KindSpec> {
    KINDS.iter().map(|kind| kind.spec())
}

fn interface() -> MessageDescriptor {
    let name = "ligato.linux.interfaces.Interface";
    descriptor_pool().get_message_by_name(name).expect(name)
}

/// Returns the member names of a oneof.
fn members(oneof: &str) -> BTreeSet<String> {
    let oneof = interface().oneofs().find(|found| found.name() == oneof).expect("a oneof");
    oneof.fields().map(|field| field.name().to_owned()).collect()
}

#[test]
fn each_type_has_one_kind() {
    let field = interface().get_field_by_name("type").expect("type");
    let Kind::Enum(types) = field.kind() else {
        panic!("the field must be an enum")
    };
    for value in types.values().filter(|value| value.number() != 0) {
        assert!(by_type(value.name()).is_some(), "there is no link kind for {}", value.name());
    }
    let names: BTreeSet<&str> = specs().map(|spec| spec.type_name).collect();
    assert_eq!((names.len(), types.values().count() - 1), (KINDS.len(), KINDS.len()));
}

#[test]
fn info_kinds_of_kinds_are_unique() {
    let info_kinds: Vec<&str> = specs().map(|spec| spec.info_kind).filter(|kind| !kind.is_empty()).collect();
    let different: BTreeSet<&str> = info_kinds.iter().copied().collect();
    assert_eq!(different.len(), info_kinds.len(), "{info_kinds:?}");
}

#[test]
fn members_and_kinds_correspond() {
    let link: BTreeSet<String> = specs()
        .map(|spec| spec.member.to_owned())
        .filter(|member| !member.is_empty())
        .collect();
    assert_eq!(link, members("link"));
    let port: BTreeSet<String> = specs().filter_map(|spec| Some(spec.ports?.member.to_owned())).collect();
    assert_eq!(port, members("port"));
}

/// Every field of a message must be in the table of the link kind, as a setting, a reference or a list of VLANs.
#[test]
fn fields_and_table_rows_correspond() {
    let mut tables = Vec::new();
    for spec in specs().filter(|spec| !spec.member.is_empty()) {
        let references = spec.references.iter().map(|reference| reference.field);
        let rows: BTreeSet<&str> = spec
            .attributes
            .iter()
            .map(|row| row.field)
            .chain(references)
            .chain(spec.own_vlans)
            .collect();
        tables.push((spec.member, rows, spec.attributes));
    }
    for ports in specs().filter_map(|spec| spec.ports) {
        let rows: BTreeSet<&str> = ports.attributes.iter().map(|row| row.field).chain(ports.vlans).collect();
        tables.push((ports.member, rows, ports.attributes));
    }
    let mut enums = 0;
    for (member, rows, attributes) in tables {
        let message = member_descriptor(member).expect(member);
        let names: Vec<String> = message.fields().map(|field| field.name().to_owned()).collect();
        let fields: BTreeSet<&str> = names.iter().map(String::as_str).collect();
        assert_eq!(rows, fields, "{member}");
        for row in attributes {
            let field = message.get_field_by_name(row.field).expect(row.field);
            // A boolean that is true when unset must be `optional`, to distinguish unset from false.
            let is_on = matches!(row.unset, Unset::LeftAlone(1)) && field.kind() == Kind::Bool;
            assert!(!is_on || field.supports_presence(), "{member}.{} cannot be unset", row.field);
            let is_switch = matches!(row.scale, Scale::Switch);
            assert_eq!(
                is_switch,
                field.kind() == Kind::Bool,
                "{member}.{} must be shown as on or off exactly if it is a boolean",
                row.field
            );
            if let (Kind::Enum(values), Scale::Table(pairs)) = (field.kind(), row.scale) {
                let known: BTreeSet<u32> = pairs.iter().map(|(number, _)| *number).collect();
                let all: BTreeSet<u32> = values.values().map(|value| value.number().cast_unsigned()).collect();
                assert_eq!(known, all, "{member}.{}", row.field);
                enums += 1;
            }
            assert!(
                row.scale.to_kernel(row.range.0).is_some() || row.range.0 == 0,
                "{member}.{}",
                row.field
            );
        }
    }
    assert!(enums > 0, "no enum table was compared");
}

/// The ownership marks of existing links contain the positions of these settings, so the positions must never change.
#[test]
fn positions_of_settings_in_ownership_marks_are_stable() {
    let mut found = Vec::new();
    for spec in specs() {
        let rows = spec.attributes.iter().enumerate();
        let left_alone = rows.filter(|(_, row)| matches!(row.unset, Unset::LeftAlone(_)));
        found.extend(left_alone.map(|(at, row)| format!("{} {at} {}", spec.type_name, row.field)));
    }
    assert_eq!(
        found,
        [
            "BRIDGE 4 priority",
            "BRIDGE 5 forward_delay_ms",
            "BRIDGE 6 hello_time_ms",
            "BRIDGE 7 max_age_ms",
            "BRIDGE 8 ageing_time_s",
            "BRIDGE 9 mcast_snooping",
            "VLAN 3 reorder_headers",
        ]
    );
}
