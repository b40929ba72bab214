//! Undecodable values: each row is a key, the bytes under it, and the reason for which they are refused.

#![allow(clippy::too_many_lines, reason = "tables are long by repetition, not by branching")]

use models::Model;

#[test]
fn undecodable_values_are_refused_with_the_right_reason() {
    let rows: &[(&str, &[u8], &str)] = &[
        // Keys.
        ("", b"{}", "UnknownKey"),
        ("config/", b"{}", "UnknownKey"),
        ("config/vpp/v2/interfaces/memif1", b"{}", "UnknownKey"),
        ("config/vppx/v2/interfaces/memif1", b"{}", "UnknownKey"),
        ("config/linux/interfaces/v2/interface", b"{}", "UnknownKey"),
        ("config-status/linux/interfaces/v2/interface/a", b"{}", "UnknownKey"),
        ("linux/interface/state/a/UP", b"{}", "UnknownKey"),
        ("config/linux/interfaces/v2/interface/", b"{}", "KeyMismatch"),
        ("config/linux/interfaces/v2/interface/a", b"{}", "KeyMismatch"),
        ("config/linux/interfaces/v2/interface/a", br#"{"name":"b"}"#, "KeyMismatch"),
        ("config/linux/interfaces/v2/interface/a//b", br#"{"name":"a//b"}"#, "KeyMismatch"),
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
            "KeyMismatch",
        ),
        // Neither encoding.
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
        // Other JSON than an object.
        ("config/linux/interfaces/v2/interface/a", b"null", "WrongType"),
        ("config/linux/interfaces/v2/interface/a", b"[{\"name\":\"a\"}]", "WrongType"),
        ("config/linux/interfaces/v2/interface/a", b"\"name\"", "WrongType"),
        ("config/linux/interfaces/v2/interface/a", b"42", "WrongType"),
        ("config/linux/interfaces/v2/interface/a", b"true", "WrongType"),
        // Fields.
        (
            "config/linux/interfaces/v2/interface/a",
            br#"{"name":"a","bridge":true}"#,
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
        // Binary.
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
