//! Values that cannot be decoded. Each row contains a key, the bytes stored under the key, and the expected error reason.

#![allow(clippy::too_many_lines, reason = "tables are long by repetition, not by branching")]

use models::Model;

#[test]
fn undecodable_values_are_rejected_with_a_reason() {
    let rows: &[(&str, &[u8], &str)] = &[
        // Unknown keys, keys that do not match the value, and invalid key fields.
        ("", b"{}", "UnknownKey"),
        ("config/", b"{}", "UnknownKey"),
        ("config/vpp/v2/interfaces/memif1", b"{}", "UnknownKey"),
        ("config/vppx/v2/interfaces/memif1", b"{}", "UnknownKey"),
        ("config/linux/interfaces/v2/interface", b"{}", "UnknownKey"),
        ("config-status/linux/interfaces/v2/interface/a", b"{}", "UnknownKey"),
        ("linux/interface/state/a/UP", b"{}", "UnknownKey"),
        ("config/linux/interfaces/v2/interface/", b"{}", "NameMissing"),
        ("config/linux/interfaces/v2/interface/a", b"{}", "NameMissing"),
        ("config/linux/interfaces/v2/interface/a", br#"{"name":"b"}"#, "KeyMismatch"),
        ("config/linux/interfaces/v2/interface/a//b", br#"{"name":"a//b"}"#, "NameInvalid"),
        (
            "config/linux/l3/v2/route/10.0.0.7/8/a",
            br#"{"dst_network":"10.0.0.7/8","outgoing_interface":"a"}"#,
            "KeyMismatch",
        ),
        (
            "config/linux/l3/v2/arp/a/2001:db8::1",
            br#"{"interface":"a","ip_address":"2001:DB8::1"}"#,
            "KeyMismatch",
        ),
        (
            "config/netalloc/v1/ip/network/n/interface/a",
            br#"{"network_name":"n"}"#,
            "NameMissing",
        ),
        // Neither JSON nor binary protobuf.
        ("config/linux/interfaces/v2/interface/a", b"", "NotJson"),
        ("config/linux/interfaces/v2/interface/a", b" \n\t ", "NotJson"),
        ("config/linux/interfaces/v2/interface/a", b"name: a", "NotJson"),
        ("config/linux/interfaces/v2/interface/a", b"{", "NotJson"),
        ("config/linux/interfaces/v2/interface/a", b"{\"name\":\"a\"", "NotJson"),
        ("config/linux/interfaces/v2/interface/a", b"{\"name\":\"a\",}", "NotJson"),
        ("config/linux/interfaces/v2/interface/a", b"{\"name\":\"a\"} x", "NotJson"),
        ("config/linux/interfaces/v2/interface/a", b"{'name':'a'}", "NotJson"),
        ("config/linux/interfaces/v2/interface/a", b"{\"name\":\"\xff\"}", "NotJson"),
        ("config/linux/interfaces/v2/interface/a", b"{\"name\":\"a\nb\"}", "NotJson"),
        ("config/linux/interfaces/v2/interface/a", b"\n{\"name\":\"a\"", "NotJson"),
        // Valid JSON, but not an object.
        ("config/linux/interfaces/v2/interface/a", b"null", "WrongType"),
        ("config/linux/interfaces/v2/interface/a", b"[{\"name\":\"a\"}]", "WrongType"),
        ("config/linux/interfaces/v2/interface/a", b"\"name\"", "WrongType"),
        ("config/linux/interfaces/v2/interface/a", b"42", "WrongType"),
        ("config/linux/interfaces/v2/interface/a", b"true", "WrongType"),
        // JSON objects with invalid fields.
        (
            "config/linux/interfaces/v2/interface/a",
            br#"{"name":"a","switch":true}"#,
            "UnknownField",
        ),
        ("config/linux/interfaces/v2/interface/a", br#"{"Name":"a"}"#, "UnknownField"),
        (
            "config/linux/interfaces/v2/interface/a",
            br#"{"name":"a","veth":{"peer":"b"}}"#,
            "UnknownField",
        ),
        (
            "config/linux/interfaces/v2/interface/a",
            br#"{"name":"a","link":{"veth":{}}}"#,
            "UnknownField",
        ),
        (
            "config/linux/interfaces/v2/interface/a",
            br#"{"name":"a","name":"a"}"#,
            "DuplicateField",
        ),
        (
            "config/linux/interfaces/v2/interface/a",
            br#"{"name":"a","host_if_name":"x","hostIfName":"x"}"#,
            "DuplicateField",
        ),
        (
            "config/linux/interfaces/v2/interface/a",
            br#"{"name":"a","mtu":null,"mtu":1500}"#,
            "DuplicateField",
        ),
        (
            "config/linux/interfaces/v2/interface/a",
            br#"{"name":"a","veth":{},"tap":{}}"#,
            "DuplicateOneof",
        ),
        ("config/linux/interfaces/v2/interface/a", br#"{"name":5}"#, "WrongType"),
        (
            "config/linux/interfaces/v2/interface/a",
            br#"{"name":"a","enabled":"true"}"#,
            "WrongType",
        ),
        (
            "config/linux/interfaces/v2/interface/a",
            br#"{"name":"a","enabled":1}"#,
            "WrongType",
        ),
        (
            "config/linux/interfaces/v2/interface/a",
            br#"{"name":"a","ip_addresses":"10.0.0.1/8"}"#,
            "WrongType",
        ),
        (
            "config/linux/interfaces/v2/interface/a",
            br#"{"name":"a","ip_addresses":[null]}"#,
            "WrongType",
        ),
        (
            "config/linux/interfaces/v2/interface/a",
            br#"{"name":"a","namespace":"ns1"}"#,
            "WrongType",
        ),
        (
            "config/linux/interfaces/v2/interface/a",
            br#"{"name":"a","namespace":[]}"#,
            "WrongType",
        ),
        (
            "config/linux/interfaces/v2/interface/a",
            br#"{"name":"a","mtu":"many"}"#,
            "WrongType",
        ),
        ("config/linux/interfaces/v2/interface/a", br#"{"name":"a","mtu":1.5}"#, "WrongType"),
        ("config/linux/interfaces/v2/interface/a", br#"{"name":"a","mtu":true}"#, "WrongType"),
        ("config/linux/interfaces/v2/interface/a", br#"{"name":"a","mtu":-1}"#, "OutOfRange"),
        (
            "config/linux/interfaces/v2/interface/a",
            br#"{"name":"a","mtu":4294967296}"#,
            "OutOfRange",
        ),
        (
            "config/linux/interfaces/v2/interface/a",
            br#"{"name":"a","mtu":"99999999999"}"#,
            "OutOfRange",
        ),
        (
            "config/linux/interfaces/v2/interface/a",
            br#"{"name":"a","type":"veth"}"#,
            "UnknownEnumName",
        ),
        (
            "config/linux/interfaces/v2/interface/a",
            br#"{"name":"a","type":9999999999}"#,
            "OutOfRange",
        ),
        ("config/linux/interfaces/v2/interface/a", br#"{"name":"a","type":{}}"#, "WrongType"),
        // Invalid binary protobuf.
        ("config/linux/interfaces/v2/interface/a", b"\x0a\x01a\xf8\x07\x01", "UnknownField"),
        (
            "config/linux/interfaces/v2/interface/a",
            b"\x0a\x01a\x1a\x02\x18\x01",
            "UnknownField",
        ),
        ("config/linux/interfaces/v2/interface/a", b"\x0a\x05a", "TruncatedProtobuf"),
        ("config/linux/interfaces/v2/interface/a", b"\x0a\x01a\x10", "TruncatedProtobuf"),
        ("config/linux/interfaces/v2/interface/a", b"\x0a\x01a\x10\x80", "TruncatedProtobuf"),
        ("config/linux/interfaces/v2/interface/a", b"\x08\x01", "WrongType"),
        ("config/linux/interfaces/v2/interface/a", b"\x0a\x01\xff", "WrongType"),
        ("config/linux/interfaces/v2/interface/a", b"\x0b\x0c", "MalformedProtobuf"),
        ("config/linux/interfaces/v2/interface/a", b"\x00\x00", "MalformedProtobuf"),
        (
            "config/linux/interfaces/v2/interface/a",
            b"\x40\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
            "MalformedProtobuf",
        ),
        ("config/linux/interfaces/v2/interface/a", b"\x0a\x01b", "KeyMismatch"),
    ];
    for (key, value, reason) in rows {
        let actual = Model::decode(key, value);
        let shown = String::from_utf8_lossy(value);
        assert_eq!(
            actual.as_ref().map_err(|error| error.reason),
            Err(*reason),
            "{key} {shown:?}: {actual:?}"
        );
    }
}

/// A key mismatch error must not suggest a key that is computed from invalid fields.
#[test]
fn key_fields_are_validated_before_the_key_is_compared() {
    let route = |dst: &str| format!(r#"{{"outgoing_interface":"a1","dst_network":"{dst}"}}"#);
    for (key, value, reason, field, words) in [
        (
            "linux/l3/v2/route/10.7.0.1/32/a1",
            route("10.7.0.1"),
            "PrefixLengthMissing",
            "dst_network",
            "write 10.7.0.1/32",
        ),
        (
            "linux/l3/v2/route/fd00::1/128/a1",
            route("fd00::1"),
            "PrefixLengthMissing",
            "dst_network",
            "write fd00::1/128",
        ),
        (
            "linux/l3/v2/route/10.7.0.0/33/a1",
            route("10.7.0.0/33"),
            "PrefixLengthInvalid",
            "dst_network",
            "0 to 32",
        ),
        (
            "linux/l3/v2/route/10.7.0.0/16/a1",
            route(""),
            "IpAddressInvalid",
            "dst_network",
            "without destination",
        ),
        (
            "linux/l3/v2/route/10.7.0.0/16/a1",
            r#"{"dst_network":"10.7.0.0/16"}"#.to_owned(),
            "InterfaceMissing",
            "outgoing_interface",
            "",
        ),
        (
            "linux/l3/v2/arp/a1/10.0.0.9",
            r#"{"interface":"a1","ip_address":"10.0.0"}"#.to_owned(),
            "IpAddressInvalid",
            "ip_address",
            "",
        ),
        (
            "linux/interfaces/v2/interface/a",
            r#"{"name":"a\u001b"}"#.to_owned(),
            "NameInvalid",
            "name",
            "a\\u{1b}",
        ),
        ("linux/iptables/v2/rulechain/a", "{}".to_owned(), "NameMissing", "name", ""),
    ] {
        let error = Model::decode(&format!("config/{key}"), value.as_bytes()).expect_err(key);
        assert_eq!(
            (error.reason, error.fields.as_slice()),
            (reason, &[field.to_owned()][..]),
            "{key} {value}: {error}"
        );
        assert!(error.message.contains(words), "{error}");
        assert!(!error.message.contains("<invalid>"), "{error}");
    }
}
