//! Decodes JSON and binary values, and checks the form of encoded values.

use models::{
    DecodeError, Model, descriptor_pool, json,
    model::key_of_item,
    proto::{
        ligato::{
            configurator::Config,
            generic::SetConfigRequest,
            kvscheduler::{TxnOperation, ValueState, ValueStatus},
            linux::{
                interfaces::{Interface, VethLink, interface},
                l3::ArpEntry,
                namespace::{NetNamespace, net_namespace::ReferenceType},
            },
        },
        netns_agent::Microservice,
        status::{AgentStatus, OperationalState, PluginStatus},
    },
};
use prost::Message;

const VETH_KEY: &str = "config/linux/interfaces/v2/interface/veth1";
const VETH_JSON: &str = r#"{"name":"veth1","type":"VETH","namespace":{"type":"NSID","reference":"ns1"},"host_if_name":"eth0","enabled":true,"ip_addresses":["10.0.0.1/24"],"phys_address":"12:21:21:11:11:11","mtu":1500,"veth":{"peer_if_name":"veth2"}}"#;

fn veth() -> Interface {
    Interface {
        name: "veth1".into(),
        r#type: interface::Type::Veth.into(),
        namespace: Some(NetNamespace {
            r#type: ReferenceType::Nsid.into(),
            reference: "ns1".into(),
        }),
        host_if_name: "eth0".into(),
        enabled: true,
        ip_addresses: vec!["10.0.0.1/24".into()],
        phys_address: "12:21:21:11:11:11".into(),
        mtu: 1500,
        link: Some(interface::Link::Veth(VethLink {
            peer_if_name: "veth2".into(),
            ..VethLink::default()
        })),
        ..Interface::default()
    }
}

#[test]
fn json_and_binary_decode_to_the_same_value() {
    let expected = Ok(Model::from(veth()));
    assert_eq!(Model::decode(VETH_KEY, VETH_JSON.as_bytes()), expected);
    assert_eq!(Model::decode(VETH_KEY, &veth().encode_to_vec()), expected);
    assert_eq!(Model::from(veth()).to_json(), VETH_JSON);
    assert_eq!(Model::from(veth()).validate(), Ok(()));
}

#[test]
fn both_spellings_enum_numbers_string_numbers_and_null_are_read() {
    let json = r#"
        {"name": "veth1", "type": 1, "namespace": {"type": 1, "reference": "ns1"}, "hostIfName": "eth0", "enabled": true,
         "ipAddresses": ["10.0.0.1/24"], "physAddress": "12:21:21:11:11:11", "mtu": "1500", "vrfMasterInterface": null,
         "tap": null, "veth": {"peerIfName": "veth2", "rx_checksum_offloading": "CHKSM_OFFLOAD_DEFAULT"}}"#;
    assert_eq!(Model::decode(VETH_KEY, json.as_bytes()), Ok(Model::from(veth())));
    assert_eq!(
        Model::decode(VETH_KEY, json.replace("\"1500\"", "1.5e3").as_bytes()),
        Ok(Model::from(veth()))
    );
}

#[test]
fn examples_of_vpp_agent_decode_and_are_valid() {
    for (key, value) in [
        (
            "config/linux/l3/v2/route/10.1.0.0/16/veth1",
            r#"{"outgoing_interface":"veth1","scope":"GLOBAL","dst_network":"10.1.0.0/16","gw_addr":"10.0.0.254","metric":10}"#,
        ),
        (
            "config/linux/l3/v2/arp/veth1/10.0.0.2",
            r#"{"interface":"veth1","ip_address":"10.0.0.2","hw_address":"22:22:22:22:22:22"}"#,
        ),
        (
            "config/linux/iptables/v2/rulechain/in1",
            r#"{"name":"in1","chain_type":"INPUT","default_policy":"DROP","rules":["-i lo -j ACCEPT"]}"#,
        ),
        (
            "config/netalloc/v1/ip/network/net1/interface/veth1",
            r#"{"network_name":"net1","interface_name":"veth1","address":"10.0.0.1/24","gw":"10.0.0.254"}"#,
        ),
    ] {
        let model = Model::decode(key, value.as_bytes()).unwrap_or_else(|error| panic!("{key}: {error}"));
        assert_eq!(model.validate(), Ok(()), "{key}");
        assert_eq!(model.to_json(), value);
        assert_eq!(Model::decode(key, &model.to_protobuf()), Ok(model));
    }
}

#[test]
fn binary_that_begins_like_json_is_decoded_as_binary() {
    // The message begins like JSON: the tag of field 1 is 0x0a (newline), and the length of a 123-byte name is 0x7b (`{`).
    let interface = Interface {
        name: "n".repeat(0x7b),
        ..Interface::default()
    };
    let bytes = interface.encode_to_vec();
    assert_eq!(&bytes[..2], b"\n{");
    let key = format!("config/linux/interfaces/v2/interface/{}", interface.name);
    assert_eq!(Model::decode(&key, &bytes), Ok(Model::from(interface)));
    // The length of a 32-byte name is 0x20 (a space), so the whole message looks like text.
    let interface = Interface {
        name: "n".repeat(0x20),
        ..Interface::default()
    };
    let key = format!("config/linux/interfaces/v2/interface/{}", interface.name);
    assert_eq!(Model::decode(&key, &interface.encode_to_vec()), Ok(Model::from(interface)));
    assert!(Model::decode(VETH_KEY, format!("\n \t{VETH_JSON}\n").as_bytes()).is_ok());
}

fn error(value: &str) -> DecodeError {
    Model::decode(VETH_KEY, value.as_bytes()).expect_err(value)
}

#[test]
fn errors_name_field_position_and_accepted_values() {
    let unknown = error("{\"name\":\"veth1\",\n \"namespace\":{\"kind\":1}}");
    assert_eq!(unknown.reason, "UnknownField");
    assert!(
        unknown.message.starts_with("namespace: unknown field `kind`"),
        "{}",
        unknown.message
    );
    assert!(
        unknown.message.contains("reference") && unknown.message.contains("line 2"),
        "{}",
        unknown.message
    );

    let wrong = error(r#"{"name":"veth1","ip_addresses":["10.0.0.1/8",5]}"#);
    assert_eq!(wrong.reason, "WrongType");
    assert!(
        wrong
            .message
            .starts_with("ip_addresses[1]: invalid type: integer `5`, expected a string"),
        "{}",
        wrong.message
    );
    assert!(wrong.message.contains("line 1 column"), "{}", wrong.message);

    let enumeration = error(r#"{"name":"veth1","type":"SWITCH"}"#);
    assert_eq!(enumeration.reason, "UnknownEnumName");
    assert!(
        enumeration.message.contains("type: `SWITCH`") && enumeration.message.contains("VRF_DEVICE"),
        "{}",
        enumeration.message
    );

    let doubled = error(r#"{"name":"veth1","veth":{"peer_if_name":"a","peerIfName":"b"}}"#);
    assert_eq!(doubled.reason, "DuplicateField");
    assert!(doubled.message.starts_with("veth.peer_if_name: "), "{}", doubled.message);

    let mismatch = error(r#"{"name":"other"}"#);
    assert_eq!(mismatch.reason, "KeyMismatch");
    assert!(
        mismatch.message.contains(VETH_KEY) && mismatch.message.contains("interface/other"),
        "{}",
        mismatch.message
    );

    let binary = Model::decode(VETH_KEY, b"\x0a\x05veth1\x1a\x04\x12\x02n").expect_err("a length beyond the end must be rejected");
    assert_eq!(binary.reason, "TruncatedProtobuf");
    assert!(
        binary.message.starts_with("namespace.reference") || binary.message.starts_with("namespace:"),
        "{}",
        binary.message
    );
    assert!(binary.message.contains("byte"), "{}", binary.message);
}

#[test]
fn statuses_are_encoded_with_proto_field_names() {
    let status = ValueStatus {
        key: VETH_KEY.into(),
        state: ValueState::Configured.into(),
        last_operation: TxnOperation::Create.into(),
        ..ValueStatus::default()
    };
    let text = json::encode(&status);
    assert_eq!(
        text,
        r#"{"key":"config/linux/interfaces/v2/interface/veth1","state":"CONFIGURED","last_operation":"CREATE"}"#
    );
    let extended = ValueStatus {
        reason: "NamespaceMissing".into(),
        mod_revision: 7,
        since: Some(prost_types::Timestamp { seconds: 0, nanos: 0 }),
        ..status
    };
    let text = json::encode(&extended);
    assert!(
        text.ends_with(r#""reason":"NamespaceMissing","since":"1970-01-01T00:00:00Z","mod_revision":"7"}"#),
        "{text}"
    );
    assert_eq!(json::decode(text.as_bytes()), Ok(extended));

    let health = AgentStatus {
        state: OperationalState::Ok.into(),
        start_time: 1_696_842_000,
        plugins: vec![PluginStatus {
            name: "kernel".into(),
            ..PluginStatus::default()
        }],
        ..AgentStatus::default()
    };
    assert_eq!(
        json::encode(&health),
        r#"{"state":"OK","start_time":"1696842000","plugins":[{"name":"kernel"}]}"#
    );
    let started = Microservice {
        label: "web".into(),
        namespace_inode: u64::MAX,
        ..Microservice::default()
    };
    assert_eq!(
        json::encode(&started),
        r#"{"label":"web","namespace_inode":"18446744073709551615"}"#
    );
}

#[test]
fn lower_camel_case_is_written_on_request() {
    let arp = ArpEntry {
        ip_address: "10.0.0.2".into(),
        ..ArpEntry::default()
    };
    assert_eq!(
        json::try_encode(&arp, json::Spelling::LowerCamel).ok().as_deref(),
        Some(r#"{"ipAddress":"10.0.0.2"}"#)
    );
}

#[test]
fn maps_and_any_are_read_in_requests() {
    let text = br#"{"updates":[{"labels":{"a":"1","b":""}},{"item":{"id":{"model":"linux.l3.route","name":"x"}}}],"overwriteAll":true}"#;
    let request: SetConfigRequest = json::decode(text).expect("a valid request must be readable");
    assert_eq!(request.updates[0].labels.get("a").map(String::as_str), Some("1"));
    assert!(request.overwrite_all);
    let doubled = json::decode::<SetConfigRequest>(br#"{"updates":[{"labels":{"a":"1","a":"2"}}]}"#).expect_err("a key twice");
    assert_eq!(doubled.reason, "DuplicateField");
    assert!(doubled.message.starts_with("updates[0].labels[\"a\"]"), "{}", doubled.message);
}

#[test]
fn vpp_config_of_a_request_keeps_its_unknown_fields() {
    let config = descriptor_pool()
        .get_message_by_name("ligato.configurator.Config")
        .expect("no such message, field or option");
    assert_eq!(config.get_field(1).expect("no such message, field or option").name(), "vpp_config");
    let empty = Config::decode(&b"\x0a\x00\x12\x00"[..]).expect("an empty config as exported by clients must be decodable");
    assert!(empty.linux_config.is_some() && empty.vpp_config.is_some_and(|vpp| vpp.is_empty()));
    let full = Config::decode(&b"\x0a\x02\x08\x01\x12\x00"[..]).expect("an unknown field must not be an error in gRPC");
    assert!(full.vpp_config.is_some_and(|vpp| !vpp.is_empty()));
}

#[test]
fn descriptor_set_keeps_custom_field_options() {
    let interface = descriptor_pool()
        .get_message_by_name("ligato.linux.interfaces.Interface")
        .expect("no such message, field or option");
    let option = descriptor_pool()
        .get_extension_by_name("ligato.ligato_options")
        .expect("no such message, field or option");
    let mtu = interface.get_field_by_name("mtu").expect("no such message, field or option");
    assert!(mtu.options().has_extension(&option));
}

#[test]
fn key_of_item_joins_model_prefix_and_name() {
    let key = key_of_item("linux.l3.route", "10.0.0.0/8/veth1");
    assert_eq!(key.as_ref().map(AsRef::as_ref), Some("config/linux/l3/v2/route/10.0.0.0/8/veth1"));
    assert_eq!(key_of_item("vpp.interfaces", "x"), None);
}
