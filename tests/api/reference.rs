//! Tests that clients of ligato vpp-agent can read every response to their requests.
//!
//! These clients use types that are generated from `proto/` without this agent's additions. The additions are the package
//! `netns_agent`, and all fields and enum values with numbers of 100 and above. The JSON reader of the tests rejects every field
//! that these types do not define, like ligato vpp-agent's command-line client.

use std::collections::HashMap;

use models::{
    FILE_DESCRIPTOR_SET, Model, descriptor_pool,
    document::document_descriptor,
    json::{decode_dynamic, encode_dynamic},
    proto::{
        Encoded,
        ligato::{
            configurator::{DumpRequest, GetRequest, NotifyRequest},
            generic::{DumpStateRequest, GetConfigRequest, KnownModelsRequest, SetConfigRequest, UpdateItem, data::Union},
        },
    },
    registry::MODELS,
};
use netns_agent::sources::{clients::any_of, document};
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, Kind, MessageDescriptor, ReflectMessage, SerializeOptions, Value};
use prost_types::{DescriptorProto, EnumDescriptorProto, FileDescriptorProto, FileDescriptorSet};
use serde_json::Value as Json;

use crate::{
    client::Request,
    grpc_client::{Client, MANAGER},
    on_one_store,
    support::bench::Bench,
    world,
};

const META: &str = "/ligato.generic.MetaService/";
const CONFIGURATOR: &str = "/ligato.configurator.ConfiguratorService/";
/// Lowest number of the fields and enum values that this agent adds.
const FIRST_ADDITION: i32 = 100;
/// Package of messages that only this agent has.
const OWN_PACKAGE: &str = "netns_agent/";

/// Returns ligato vpp-agent's message types, without this agent's additions.
fn reference() -> DescriptorPool {
    let mut set = FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).expect("decode the descriptors of this program");
    set.file.retain(|file| !file.name().starts_with(OWN_PACKAGE));
    set.file.iter_mut().for_each(strip_file);
    DescriptorPool::from_file_descriptor_set(set).expect("the files of ligato vpp-agent are complete")
}

fn strip_file(file: &mut FileDescriptorProto) {
    if file.name().starts_with("google/") {
        return;
    }
    file.dependency.retain(|name| !name.starts_with(OWN_PACKAGE));
    file.message_type.iter_mut().for_each(strip_message);
    file.enum_type.iter_mut().for_each(strip_enum);
}

fn strip_message(message: &mut DescriptorProto) {
    // `InterfaceState.statistics` is the only field of ligato vpp-agent whose number is 100 or above.
    message
        .field
        .retain(|field| field.number() < FIRST_ADDITION || field.name() == "statistics");
    // Protobuf lists the oneofs of `optional` fields last, so removing them leaves the indexes of all other oneofs valid.
    let used = message.field.iter().filter_map(|field| field.oneof_index).max();
    message.oneof_decl.truncate(used.map_or(0, |index| index as usize + 1));
    message.nested_type.iter_mut().for_each(strip_message);
    message.enum_type.iter_mut().for_each(strip_enum);
}

fn strip_enum(values: &mut EnumDescriptorProto) {
    values.value.retain(|value| value.number() < FIRST_ADDITION);
}

/// Converts a message in the same way as ligato vpp-agent's client. Decodes it with the descriptors that the agent sends, writes
/// it as JSON including unset fields, and reads the JSON into the client's type.
fn convert(reference: &DescriptorPool, message: &DynamicMessage) -> Result<(), String> {
    let options = SerializeOptions::new().skip_default_fields(false);
    let mut text = Vec::new();
    let mut serializer = serde_json::Serializer::new(&mut text);
    message
        .serialize_with_options(&mut serializer, &options)
        .map_err(|error| error.to_string())?;
    let own = message_of(reference, message.descriptor().full_name())?;
    decode_dynamic(&own, &text)
        .map(drop)
        .map_err(|error| format!("{}: {}", String::from_utf8_lossy(&text), error.message))
}

fn message_of(pool: &DescriptorPool, name: &str) -> Result<MessageDescriptor, String> {
    pool.get_message_by_name(name)
        .ok_or_else(|| format!("the reference has no message {name}"))
}

/// Fields that this agent adds must be `optional`, because clients omit unset `optional` fields. They write all other unset
/// fields with default values.
#[test]
fn additions_are_optional_fields() {
    let reference = reference();
    let (mut next, mut seen, mut additions) = (vec![document_descriptor().clone()], Vec::new(), 0);
    while let Some(message) = next.pop() {
        if seen.contains(&message.full_name().to_owned()) {
            continue;
        }
        seen.push(message.full_name().to_owned());
        let own = reference.get_message_by_name(message.full_name());
        for field in message.fields() {
            if let Kind::Message(inner) = field.kind() {
                next.push(inner);
            }
            if own.as_ref().is_some_and(|own| own.get_field(field.number()).is_none()) {
                additions += 1;
                assert!(field.containing_oneof().is_some(), "{} is not `optional`", field.full_name());
            }
        }
    }
    assert!(additions >= 7, "{additions} additions in {seen:?}");
}

/// If an added field has its default value, the agent treats it as unset.
#[test]
fn additions_with_their_default_values_are_omitted() {
    for (model, text) in [
        ("linux.interfaces.interface", r#""name":"a""#),
        ("linux.l3.arp", r#""interface":"a""#),
        ("linux.l3.route", r#""outgoing_interface":"a""#),
    ] {
        let info = MODELS.iter().find(|info| info.name == model).expect(model);
        let descriptor = message_of(descriptor_pool(), info.proto_name).expect(model);
        let additions = descriptor.fields().filter(|field| field.number() >= FIRST_ADDITION as u32);
        // Skip fields that contain a message, because a message that is present has a meaning even if it is empty.
        let defaults: Vec<String> = additions
            .filter_map(|field| match field.kind() {
                Kind::Message(_) => None,
                Kind::Bool => Some(format!(r#","{}":false"#, field.name())),
                Kind::String => Some(format!(r#","{}":"""#, field.name())),
                _ => Some(format!(r#","{}":0"#, field.name())),
            })
            .collect();
        assert!(defaults.len() >= 2, "{model}");
        let long = format!("{{{text}{}}}", defaults.concat());
        let read = Model::decode_message(info.kind, long.as_bytes()).expect(model);
        assert_eq!(read.to_json(), format!("{{{text}}}"));
        assert_eq!(Model::from_protobuf(info.kind, &any_of(&read).value).expect(model), read);
    }
}

/// Checks the parts of a JSON response that ligato vpp-agent's client decodes: messages, and the names of states and operations.
fn check_json(reference: &DescriptorPool, place: &str, json: &Json) {
    match json {
        Json::Array(list) => list.iter().for_each(|one| check_json(reference, place, one)),
        Json::Object(members) => {
            if let (Some(name), Some(data)) = (members.get("ProtoMsgName"), members.get("ProtoMsgData")) {
                let name = name.as_str().expect("a name");
                if name == "google.protobuf.Empty" {
                    assert_eq!(data, &Json::Object(serde_json::Map::new()), "{place}");
                } else {
                    let own = message_of(reference, name).expect(place);
                    decode_dynamic(&own, data.to_string().as_bytes()).unwrap_or_else(|error| panic!("{place}: {data}: {error:?}"));
                }
                return;
            }
            for (name, member) in members {
                let names = match name.as_str() {
                    "NewState" | "PrevState" => "ligato.kvscheduler.ValueState",
                    "Operation" => "ligato.kvscheduler.TxnOperation",
                    "TxnType" => {
                        let types = ["SBNotification", "NBTransaction", "RetryFailedOps", "RetryUnimplOps"];
                        assert!(types.contains(&member.as_str().expect("a name")), "{place}: {member}");
                        continue;
                    }
                    "ResyncType" => {
                        let types = ["FullResync", "UpstreamResync", "DownstreamResync"];
                        assert!(types.contains(&member.as_str().expect("a name")), "{place}: {member}");
                        continue;
                    }
                    _ => {
                        check_json(reference, place, member);
                        continue;
                    }
                };
                let known = reference.get_enum_by_name(names).expect(names);
                let text = member.as_str().unwrap_or_else(|| panic!("{place}: {name}: {member}"));
                assert!(known.get_value_by_name(text).is_some(), "{place}: {name}: {text}");
            }
        }
        _ => {}
    }
}

/// Puts one value of each kind. Some of the values stay pending, and some set fields explicitly to their default values.
async fn everything(bench: &mut Bench) {
    world::converged(bench).await;
    let body = "vppConfig: {}\nlinuxConfig:\n  interfaces:\n  - {name: e1, type: VETH, hostIfName: e1, enabled: true, ipAddresses: [10.9.0.1/24], veth: {peerIfName: e2}}\n  \
                - {name: e2, type: VETH, enabled: true, veth: {peerIfName: e1, rxChecksumOffloading: CHKSM_OFFLOAD_ENABLED}}\n  \
                - {name: l1, type: LOOPBACK, enabled: true, adopt: false, driftPolicy: DRIFT_POLICY_OF_AGENT}\n  \
                routes:\n  - {outgoingInterface: e1, scope: GLOBAL, dstNetwork: 10.10.0.0/16, gwAddr: 10.9.0.2}\n  \
                - {outgoingInterface: e2, scope: LINK, dstNetwork: 10.11.0.0/16}\n  \
                RuleChain:\n  - {name: c, chainType: INPUT, rules: [-j ACCEPT]}\n\
                netallocConfig:\n  ipAddresses:\n  - {networkName: n, interfaceName: e1, address: 10.9.0.7/24}\n";
    let answer = Request::new("PUT", "/configuration").body(body).send().await;
    assert!([200, 422].contains(&answer.status), "{answer:?}");
}

async fn rest_responses_have_the_reference_types(mut bench: Bench) {
    everything(&mut bench).await;
    let reference = reference();
    let mut values = 0;
    let mut targets: Vec<(&str, String)> = vec![
        ("POST", "/scheduler/downstream-resync?retry=1&verbose=1".to_owned()),
        ("GET", "/scheduler/txn-history".to_owned()),
        ("GET", "/scheduler/txn-history?seq-num=1".to_owned()),
        ("GET", "/scheduler/graph-snapshot".to_owned()),
    ];
    for model in &MODELS {
        for view in ["SB", "NB", "cached"] {
            targets.push(("GET", format!("/scheduler/dump?key-prefix={}&view={view}", model.key_prefix)));
        }
    }
    for (method, target) in targets {
        let answer = Request::new(method, &target).send().await;
        assert_eq!(answer.status, 200, "{target}: {answer:?}");
        let json: Json = serde_json::from_str(&answer.body).expect("JSON");
        values += answer.body.matches("ProtoMsgName").count();
        check_json(&reference, &target, &json);
    }
    assert!(values > 30, "only {values} values were checked");

    let own = message_of(&reference, "ligato.kvscheduler.BaseValueStatus").expect("statuses");
    let mut statuses = 0;
    for target in ["/scheduler/status", "/scheduler/status?key=&key-prefix=config/linux/l3/v2/route/"] {
        let answer = Request::get(target).send().await;
        let list: Vec<Json> = serde_json::from_str(&answer.body).expect("a list");
        for status in &list {
            decode_dynamic(&own, status.to_string().as_bytes()).unwrap_or_else(|error| panic!("{status}: {error:?}"));
        }
        statuses += list.len();
    }
    assert!(statuses > 10, "{statuses}");

    // Ligato vpp-agent's client reads these members by name and ignores all others.
    let readiness: Json = serde_json::from_str(&Request::get("/readiness").send().await.body).expect("JSON");
    assert_eq!(
        (&readiness["state"], &readiness["PluginStatus"]["VPPAgent"]["state"]),
        (&Json::from(1), &Json::from(1))
    );
    let version: Json = serde_json::from_str(&Request::get("/info/version").send().await.body).expect("JSON");
    assert!(version["BuildTime"].is_i64() && version["GoVersion"].is_string(), "{version}");
    bench.stop_agent().await;
}
on_one_store!(rest_responses_have_the_reference_types, Embedded, 120);

/// Returns the agent's response to a gRPC call as one of ligato vpp-agent's messages. Panics if the response has unknown fields.
async fn call<Q: Message + Default + 'static>(
    reference: &DescriptorPool,
    client: &mut Client,
    service: &str,
    method: &str,
    request: Q,
) -> DynamicMessage {
    let answer: Encoded = client.call(service, method, request).await.expect(method).into_inner();
    let path = format!("{}.{method}", service.trim_matches('/'));
    let service = reference.get_service_by_name(service.trim_matches('/')).expect("a service");
    let output = service.methods().find(|known| known.name() == method).expect("a method").output();
    let message = DynamicMessage::decode(output, answer.as_bytes()).expect("the message");
    refuse_unknown(&path, &message);
    message
}

fn refuse_unknown(place: &str, message: &DynamicMessage) {
    let unknown: Vec<u32> = message.unknown_fields().map(|field| field.number()).collect();
    assert!(
        unknown.is_empty(),
        "{place}: {}: fields {unknown:?}",
        message.descriptor().full_name()
    );
    for (_, value) in message.fields() {
        match value {
            Value::Message(inner) => refuse_unknown(place, inner),
            Value::List(list) => list
                .iter()
                .filter_map(Value::as_message)
                .for_each(|inner| refuse_unknown(place, inner)),
            _ => {}
        }
    }
}

/// Passes values through the types of ligato vpp-agent's client, as `agentctl config get` and `agentctl config update
/// FILE` do.
async fn values_survive_a_round_trip_through_the_reference_client(mut bench: Bench) {
    everything(&mut bench).await;
    let reference = reference();
    let mut client = Client::connect().await;
    let class = KnownModelsRequest {
        class: "config".to_owned(),
    };
    call(&reference, &mut client, META, "KnownModels", class).await;
    call(&reference, &mut client, MANAGER, "GetConfig", GetConfigRequest::default()).await;
    call(&reference, &mut client, MANAGER, "DumpState", DumpStateRequest::default()).await;
    call(&reference, &mut client, CONFIGURATOR, "Get", GetRequest {}).await;
    call(&reference, &mut client, CONFIGURATOR, "Dump", DumpRequest {}).await;
    let notify = NotifyRequest { idx: 0, filters: vec![] };
    let reported: Encoded = client.first(CONFIGURATOR, "Notify", notify, |_| true).await;
    let own = message_of(&reference, "ligato.configurator.NotifyResponse").expect("notifications");
    refuse_unknown("Notify", &DynamicMessage::decode(own, reported.as_bytes()).expect("a notification"));

    let answer: models::proto::ligato::generic::GetConfigResponse = client
        .call(MANAGER, "GetConfig", GetConfigRequest::default())
        .await
        .expect("answered")
        .into_inner();
    let mut kinds = Vec::new();
    for item in answer.items {
        let Some(Union::Any(any)) = item.item.and_then(|item| item.data).and_then(|data| data.union) else {
            panic!("an item without a value")
        };
        let name = any.type_url.rsplit('/').next().expect("a name").to_owned();
        let described = message_of(descriptor_pool(), &name).expect("a message of the agent");
        let message = DynamicMessage::decode(described, any.value.as_slice()).expect("its own message");
        convert(&reference, &message).expect("the reference's client reads it");
        kinds.push(name);
    }
    for model in &MODELS {
        assert!(kinds.iter().any(|kind| kind == model.proto_name), "{}: {kinds:?}", model.proto_name);
    }

    let document = Request::get("/configuration").send().await.body;
    let items = document::parse(&document).expect("its own document");
    let updates = items.iter().map(|item| UpdateItem {
        item: Some(models::proto::ligato::generic::Item {
            id: None,
            data: Some(models::proto::ligato::generic::Data {
                union: Some(Union::Any(any_of(&item.model))),
            }),
        }),
        labels: HashMap::from([("io.ligato.from-client".to_owned(), "agentctl".to_owned())]),
    });
    let update = SetConfigRequest {
        updates: updates.collect(),
        overwrite_all: false,
    };
    let answer = client.call::<_, Encoded>(MANAGER, "SetConfig", update).await;
    // The agent stores rule chains and allocations, but does not apply them.
    assert!(answer.is_ok() || answer.is_err_and(|status| status.code() == tonic::Code::FailedPrecondition));
    bench.stop_agent().await;
}
on_one_store!(values_survive_a_round_trip_through_the_reference_client, Embedded, 120);

/// Responses show the scope of a route and the kernel name of an interface as given in the value. Updates that contain VPP values
/// are rejected.
async fn responses_show_values_as_written(mut bench: Bench) {
    everything(&mut bench).await;
    let key = "config/linux/l3/v2/route/10.10.0.0/16/e1";
    for view in ["NB", "cached", "SB"] {
        let target = format!("/scheduler/dump?key-prefix=config/linux/l3/v2/route/&view={view}");
        let list: Vec<Json> = serde_json::from_str(&Request::get(&target).send().await.body).expect("a list");
        let route = list
            .iter()
            .find(|item| item["Key"] == key)
            .unwrap_or_else(|| panic!("{view}: {list:?}"));
        assert_eq!(route["Value"]["ProtoMsgData"]["scope"], "GLOBAL", "{view}");
    }
    let history = Request::get("/scheduler/txn-history").send().await.body;
    let history: Vec<Json> = serde_json::from_str(&history).expect("a list");
    let named = |json: &Json| json["Key"] == "config/linux/interfaces/v2/interface/e1";
    let values = history.iter().filter_map(|record| record["Values"].as_array()).flatten();
    let value = values.into_iter().find(|value| named(value)).expect("the interface");
    assert_eq!(value["Value"]["ProtoMsgData"]["hostIfName"], "e1");

    let list: Json = serde_json::from_str(
        &Request::get("/scheduler/dump?key-prefix=config/netalloc/v1/ip/&view=NB")
            .send()
            .await
            .body,
    )
    .expect("JSON");
    assert_eq!(list[0]["Value"]["ProtoMsgData"]["networkName"], "n", "{list}");
    let none = Request::get("/scheduler/dump?key-prefix=config/netalloc/v1/ip/&view=cached")
        .send()
        .await;
    assert_eq!((none.status, none.body.trim()), (200, "null"));

    let mut client = Client::connect().await;
    // An update that contains a VPP value: `vpp_config { 1: "x" }`.
    let update = Encoded::new(vec![0x0a, 0x05, 0x0a, 0x03, 0x0a, 0x01, b'x']);
    let refused = client
        .call::<_, Encoded>(CONFIGURATOR, "Update", update)
        .await
        .expect_err("refused");
    assert!(refused.message().contains("vpp_config"), "{refused:?}");
    let update = Encoded::new(vec![0x0a, 0x02, 0x0a, 0x00]);
    client
        .call::<_, Encoded>(CONFIGURATOR, "Update", update)
        .await
        .expect("empty, as clients write it");
    bench.stop_agent().await;
}
on_one_store!(responses_show_values_as_written, Embedded, 120);

/// Ligato vpp-agent's client can read the agent's documents.
#[test]
fn reference_client_can_read_a_document() {
    let text =
        "linuxConfig: {interfaces: [{name: a, type: DUMMY, adopt: false}], routes: [{outgoingInterface: a, dstNetwork: 10.0.0.0/8}]}";
    let reference = reference();
    for item in document::parse(text).expect("a document") {
        let described = message_of(descriptor_pool(), item.model.info().proto_name).expect("a message");
        let message = DynamicMessage::decode(described, item.model.to_protobuf().as_slice()).expect("its own message");
        convert(&reference, &message).expect("readable");
        let plain = encode_dynamic(&message, models::json::Spelling::LowerCamel).expect("writable");
        assert!(!plain.contains("adopt"), "{plain}");
    }
}
