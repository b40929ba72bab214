//! Tests a real agent's gRPC API with a client that has no generated code.

use std::collections::HashMap;

use models::{
    Model,
    proto::ligato::{
        configurator::{
            Config, DeleteRequest, DeleteResponse, DumpRequest, DumpResponse, GetRequest, GetResponse, NotifyRequest, NotifyResponse,
            UpdateRequest, UpdateResponse,
        },
        generic::{
            Data, GetConfigRequest, GetConfigResponse, Item, KnownModelsRequest, KnownModelsResponse, ProtoFileDescriptorRequest,
            ProtoFileDescriptorResponse, SetConfigRequest, SetConfigResponse, SubscribeRequest, SubscribeResponse, Subscription,
            UpdateItem, UpdateResult, data::Union, item::Id,
        },
        linux::{
            ConfigData,
            interfaces::{
                Interface, VethLink,
                interface::{Link, Type},
            },
            l3::ArpEntry,
            namespace::{NetNamespace, net_namespace::ReferenceType},
        },
    },
};
use netns_agent::sources::clients::any_of;
use prost::Message;
use prost_types::{FileDescriptorProto, FileDescriptorSet};
use tonic::{Code, Response};

use crate::{
    grpc_client::{Client, MANAGER},
    on_one_store,
    support::bench::Bench,
};

const META: &str = "/ligato.generic.MetaService/";
const CONFIGURATOR: &str = "/ligato.configurator.ConfiguratorService/";

fn end(name: &str, peer: &str) -> Interface {
    Interface {
        name: name.to_owned(),
        r#type: Type::Veth.into(),
        enabled: true,
        host_if_name: name.to_owned(),
        ip_addresses: vec![],
        link: Some(Link::Veth(VethLink {
            peer_if_name: peer.to_owned(),
            ..VethLink::default()
        })),
        ..Interface::default()
    }
}

fn put(model: &Model, label: &str) -> UpdateItem {
    UpdateItem {
        item: Some(Item {
            id: None,
            data: Some(Data {
                union: Some(Union::Any(any_of(model))),
            }),
        }),
        labels: HashMap::from([("tier".to_owned(), label.to_owned())]),
    }
}

fn set(updates: Vec<UpdateItem>) -> SetConfigRequest {
    SetConfigRequest {
        updates,
        overwrite_all: false,
    }
}

const ONE: &str = "config/linux/interfaces/v2/interface/one";
const TWO: &str = "config/linux/interfaces/v2/interface/two";

/// Puts both ends of a veth pair, each with a different label.
async fn put_pair(client: &mut Client) -> SetConfigResponse {
    let (one, two) = (Model::from(end("one", "two")), Model::from(end("two", "one")));
    let updates = vec![put(&one, "front"), put(&two, "back")];
    let answer = client.call(MANAGER, "SetConfig", set(updates)).await;
    answer.expect("accepted").into_inner()
}

fn id(name: &str) -> Id {
    Id {
        model: "linux.interfaces.interface".to_owned(),
        name: name.to_owned(),
    }
}

async fn the_manager_sets_and_gets_values(mut bench: Bench) {
    bench.start_agent().await;
    let mut client = Client::connect().await;
    let answer = put_pair(&mut client).await;
    let status = |result: &UpdateResult| result.status.as_ref().map(|status| status.status.clone()).unwrap_or_default();
    let reported: Vec<(String, String)> = answer.results.iter().map(|result| (result.key.clone(), status(result))).collect();
    let want = [(ONE, "CONFIGURED"), (TWO, "CONFIGURED"), ("seqnum", "NONEXISTENT")];
    assert_eq!(reported, want.map(|(key, status)| (key.to_owned(), status.to_owned())));

    let request = GetConfigRequest {
        ids: vec![],
        labels: HashMap::from([("tier".to_owned(), "front".to_owned())]),
    };
    let answer: GetConfigResponse = client
        .call(MANAGER, "GetConfig", request)
        .await
        .expect("call the method")
        .into_inner();
    let [item] = answer.items.as_slice() else {
        panic!("expected one item: {answer:?}")
    };
    assert_eq!(item.item.as_ref().and_then(|item| item.id.clone()), Some(id("one")));
    assert_eq!(item.status.as_ref().map(|status| status.status.as_str()), Some("CONFIGURED"));

    // The last of several updates of one key wins. This includes a deletion in a request that replaces all values.
    let gone = |name: &str| UpdateItem {
        item: Some(Item {
            id: Some(id(name)),
            data: None,
        }),
        labels: HashMap::new(),
    };
    let pair = [("one", "two"), ("two", "one")].map(|(name, peer)| put(&Model::from(end(name, peer)), "front"));
    let request = SetConfigRequest {
        updates: pair.into_iter().chain([gone("one"), gone("two")]).collect(),
        overwrite_all: true,
    };
    let answer: Result<Response<SetConfigResponse>, _> = client.call(MANAGER, "SetConfig", request).await;
    answer.expect("accepted");
    let request = GetConfigRequest {
        ids: vec![],
        labels: HashMap::new(),
    };
    let left: Response<GetConfigResponse> = client.call(MANAGER, "GetConfig", request).await.expect("call the method");
    assert_eq!(left.into_inner().items, []);
    bench.stop_agent().await;
}
on_one_store!(the_manager_sets_and_gets_values, Embedded, 120);

/// A value that waits for its process is accepted each time it is put, because being pending is not a failure.
async fn pending_value_is_accepted(mut bench: Bench) {
    bench.start_agent().await;
    let mut client = Client::connect().await;
    let waiting = Interface {
        name: "absent".to_owned(),
        r#type: Type::Dummy.into(),
        enabled: true,
        host_if_name: "absent0".to_owned(),
        namespace: Some(NetNamespace {
            r#type: ReferenceType::Pid.into(),
            reference: "999999".to_owned(),
        }),
        ..Interface::default()
    };
    for _ in 0..2 {
        let updates = vec![put(&Model::from(waiting.clone()), "front")];
        let answer: Response<SetConfigResponse> = client.call(MANAGER, "SetConfig", set(updates)).await.expect("accepted");
        let status = answer.into_inner().results[0].status.clone().unwrap_or_default();
        assert_eq!(status.status, "PENDING", "{status:?}");
        let config = Config {
            vpp_config: None,
            linux_config: Some(ConfigData {
                interfaces: vec![waiting.clone()],
                ..ConfigData::default()
            }),
            netalloc_config: None,
        };
        let request = UpdateRequest {
            update: Some(config),
            full_resync: false,
            wait_done: false,
        };
        let updated: Result<Response<UpdateResponse>, _> = client.call(CONFIGURATOR, "Update", request).await;
        updated.expect("accepted");
    }
    bench.stop_agent().await;
}
on_one_store!(pending_value_is_accepted, Embedded, 120);

async fn manager_explains_rejections(mut bench: Bench) {
    bench.start_agent().await;
    let mut client = Client::connect().await;
    // The agent stores the value, which becomes INVALID, but the call still returns the error.
    let arp = Model::from(ArpEntry {
        interface: "one".to_owned(),
        ip_address: "10.0.0.9".to_owned(),
        ..ArpEntry::default()
    });
    let refused = client
        .call::<_, SetConfigResponse>(MANAGER, "SetConfig", set(vec![put(&arp, "front")]))
        .await;
    let refused = refused.expect_err("it has no MAC address");
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused:?}");
    assert!(refused.message().contains("without MAC address"), "{refused:?}");

    let nothing = UpdateItem {
        item: Some(Item::default()),
        labels: HashMap::new(),
    };
    let refused = client.call::<_, SetConfigResponse>(MANAGER, "SetConfig", set(vec![nothing])).await;
    let refused = refused.expect_err("an empty item is rejected");
    assert_eq!(
        (refused.code(), refused.message()),
        (Code::InvalidArgument, "ProtoItem has no key or val defined.")
    );
    bench.stop_agent().await;
}
on_one_store!(manager_explains_rejections, Embedded, 120);

async fn subscribers_receive_states(mut bench: Bench) {
    bench.start_agent().await;
    let (mut client, mut follower) = (Client::connect().await, Client::connect().await);
    put_pair(&mut client).await;
    let subscribe = SubscribeRequest {
        subscriptions: vec![Subscription { id: Some(id("one")) }],
    };
    let states = |answer: &SubscribeResponse| -> Vec<String> {
        let reported = answer.notifications.iter().filter_map(|reported| reported.status.as_ref());
        reported.map(|status| status.status.clone()).collect()
    };
    // The stream sends the current state first, then changes.
    follower
        .first(MANAGER, "Subscribe", subscribe.clone(), |answer| states(answer) == ["CONFIGURED"])
        .await;
    let gone = UpdateItem {
        item: Some(Item {
            id: Some(id("one")),
            data: None,
        }),
        labels: HashMap::new(),
    };
    let removed = |answer: &SubscribeResponse| states(answer).contains(&"REMOVED".to_owned());
    let delete = client.call::<_, SetConfigResponse>(MANAGER, "SetConfig", set(vec![gone]));
    let (_, deleted) = tokio::join!(follower.first(MANAGER, "Subscribe", subscribe, removed), delete);
    deleted.expect("accepted");
    bench.stop_agent().await;
}
on_one_store!(subscribers_receive_states, Embedded, 120);

async fn the_configurator_reads_and_writes_the_whole(mut bench: Bench) {
    bench.start_agent().await;
    let mut client = Client::connect().await;
    let config = Config {
        vpp_config: None,
        linux_config: Some(ConfigData {
            interfaces: vec![end("one", "two"), end("two", "one")],
            ..ConfigData::default()
        }),
        netalloc_config: None,
    };
    let request = UpdateRequest {
        update: Some(config.clone()),
        full_resync: false,
        wait_done: true,
    };
    let answer: Response<UpdateResponse> = client.call(CONFIGURATOR, "Update", request).await.expect("accepted");
    let number = answer
        .metadata()
        .get("seqnum")
        .and_then(|value| value.to_str().ok())
        .map(str::parse::<u64>);
    assert!(matches!(number, Some(Ok(_))), "{:?}", answer.metadata());

    let names = |config: Option<Config>| -> Vec<String> {
        let interfaces = config.and_then(|config| config.linux_config).unwrap_or_default().interfaces;
        interfaces.into_iter().map(|interface| interface.name).collect()
    };
    let wanted: GetResponse = client
        .call(CONFIGURATOR, "Get", GetRequest {})
        .await
        .expect("call the method")
        .into_inner();
    assert_eq!(names(wanted.config), ["one", "two"]);
    let found: DumpResponse = client
        .call(CONFIGURATOR, "Dump", DumpRequest {})
        .await
        .expect("call the method")
        .into_inner();
    assert_eq!(names(found.dump), ["one", "two"]);

    let notify = NotifyRequest { idx: 0, filters: vec![] };
    let reported: NotifyResponse = client.first(CONFIGURATOR, "Notify", notify, |_| true).await;
    assert_eq!(reported.next_idx, 2, "the first notification must have index 1");

    let request = DeleteRequest {
        delete: Some(config),
        wait_done: true,
    };
    let _: Response<DeleteResponse> = client.call(CONFIGURATOR, "Delete", request).await.expect("accepted");
    let found: DumpResponse = client
        .call(CONFIGURATOR, "Dump", DumpRequest {})
        .await
        .expect("call the method")
        .into_inner();
    assert_eq!(names(found.dump), [""; 0]);
    bench.stop_agent().await;
}
on_one_store!(the_configurator_reads_and_writes_the_whole, Embedded, 120);

async fn clients_learn_models_and_their_files(mut bench: Bench) {
    bench.start_agent().await;
    let mut client = Client::connect().await;
    let request = KnownModelsRequest {
        class: "config".to_owned(),
    };
    let answer: KnownModelsResponse = client
        .call(META, "KnownModels", request)
        .await
        .expect("call the method")
        .into_inner();
    for model in &answer.known_models {
        let option = |key: &str| {
            let option = model.options.iter().find(|option| option.key == key);
            option.map(|option| option.values.join("")).unwrap_or_default()
        };
        assert!(!option("nameTemplate").is_empty(), "{model:?}");
        let request = ProtoFileDescriptorRequest {
            full_proto_file_name: option("protoFile"),
        };
        let files: ProtoFileDescriptorResponse = client
            .call(META, "ProtoFileDescriptor", request)
            .await
            .expect("call the method")
            .into_inner();
        let imports = files.file_import_descriptors.expect("the imports");
        let imports = FileDescriptorSet::decode(imports.as_bytes()).expect("descriptors").file;
        let own = files.file_descriptor.expect("the file");
        let own = FileDescriptorProto::decode(own.as_bytes()).expect("a descriptor");
        // The response must include every file that another file in the response imports.
        for file in imports.iter().chain([&own]) {
            for import in &file.dependency {
                assert!(
                    imports.iter().any(|other| other.name.as_ref() == Some(import)),
                    "{import} is missing"
                );
            }
        }
    }
    assert_eq!(answer.known_models.len(), 5);
    let unknown = Id::default();
    let request = ProtoFileDescriptorRequest {
        full_proto_file_name: unknown.name,
    };
    let refused = client
        .call::<_, ProtoFileDescriptorResponse>(META, "ProtoFileDescriptor", request)
        .await;
    assert_eq!(refused.expect_err("there is no such file").code(), Code::NotFound);
    bench.stop_agent().await;
}
on_one_store!(clients_learn_models_and_their_files, Embedded, 120);
