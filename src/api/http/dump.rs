//! `/scheduler/dump`: returns the values of a descriptor. The client chooses between the desired values, the values last known to
//! the agent, and the values read from the kernel.

use axum::{extract::State, routing::get};
use models::{
    json::{Spelling, try_encode},
    key::Key,
    registry::{MODELS, ModelInfo},
};
use prost::Name;
use serde::Serialize;

use super::{
    answer::{self, Answer, ApiError},
    endpoint::{Endpoint, Parameter},
    history::list,
    query::Query,
};
use crate::api::history::json::Shown;
use crate::scheduler::history::{extract::Scope, record::Origin};
use crate::{
    api::{
        Api,
        retrieval::Retrieval,
        show::{show, show_model},
    },
    descriptors::{
        Network,
        message::namespace_of,
        value::{Interface, Value},
    },
    publish::Published,
};

pub(super) const ENDPOINTS: &[Endpoint] = &[Endpoint {
    parameters: &[
        Parameter::optional(
            "descriptor",
            "Descriptor name; if descriptor and key-prefix are both absent, the response is an index",
        ),
        Parameter::optional("key-prefix", "Exact key prefix of the descriptor"),
        Parameter::one_of(
            "view",
            "SB: read from the kernel now; NB: desired; cached: last known state of the kernel",
            &["SB", "NB", "cached"],
        ),
    ],
    example: r#"[{"Key":"config/linux/interfaces/v2/interface/d1","Value":{"ProtoMsgName":"ligato.linux.interfaces.Interface","ProtoMsgData":{"name":"d1","type":"DUMMY","hostIfName":"d1","enabled":true}},"Origin":1,"Metadata":{"LinuxIfIndex":7,"VPPTapName":"","Namespace":null,"HostIfName":"d1","VrfMasterIf":"","VrfDevRT":0}}]"#,
    other_example: r#"{"Descriptors":["linux-interface"],"KeyPrefixes":["config/linux/interfaces/v2/interface/"],"Views":["SB","NB","cached"]}"#,
    failures: &[
        (404, "no descriptor has this key prefix, or its values cannot be retrieved"),
        (500, "unknown descriptor or view, or the values cannot be retrieved"),
    ],
    ..Endpoint::get("/scheduler/dump", "Values of a descriptor in one of three views", || get(dump))
}];

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Index {
    descriptors: Vec<&'static str>,
    key_prefixes: Vec<&'static str>,
    views: [&'static str; 3],
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Item {
    key: String,
    value: Option<Shown>,
    origin: u8,
    metadata: Option<Metadata>,
}

/// Metadata of an interface, in addition to its value.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Metadata {
    linux_if_index: u32,
    #[serde(rename = "VPPTapName")]
    vpp_tap_name: String,
    namespace: Option<Namespace>,
    host_if_name: String,
    vrf_master_if: String,
    #[serde(rename = "VrfDevRT")]
    vrf_dev_rt: u32,
}

#[derive(Serialize)]
struct Namespace {
    r#type: i32,
    reference: String,
}

#[derive(Clone, Copy)]
enum View {
    Kernel,
    Desired,
    Cached,
}

async fn dump(State(api): State<Api>, query: Query) -> Answer {
    let (descriptor, prefix, view) = (query.single("descriptor")?, query.single("key-prefix")?, query.single("view")?);
    let view = match view.unwrap_or("SB") {
        "SB" => View::Kernel,
        "NB" => View::Desired,
        "cached" => View::Cached,
        _ => return Err(ApiError::internal("unrecognized system view; use SB, NB or cached")),
    };
    match (descriptor, prefix) {
        (None, None) => index(),
        (Some(name), _) => {
            let known = Network::kinds().into_iter().find(|(known, _)| *known == name);
            let (name, _) =
                known.ok_or_else(|| ApiError::internal("descriptor is not registered; GET /scheduler/dump lists all descriptors"))?;
            of_descriptor(&api, name, view).await
        }
        (None, Some(prefix)) => {
            let known = Network::kinds().into_iter().find(|(_, known)| *known == prefix);
            let Some((name, _)) = known else {
                let model = MODELS.iter().find(|model| model.key_prefix == prefix);
                // Clients compare this text, so it must not change.
                let model = model.ok_or_else(|| ApiError::not_found("no descriptor found matching the key prefix"))?;
                return without_descriptor(&api, model, view).await;
            };
            of_descriptor(&api, name, view)
                .await
                .map_err(|error| ApiError::not_found(error.message))
        }
    }
}

fn index() -> Answer {
    let (descriptors, key_prefixes) = Network::kinds().into_iter().unzip();
    answer::json(&Index {
        descriptors,
        key_prefixes,
        views: ["SB", "NB", "cached"],
    })
}

/// Returns the values of a model that the agent stores but does not apply to the kernel.
async fn without_descriptor(api: &Api, model: &'static ModelInfo, view: View) -> Answer {
    let desired = match view {
        View::Desired => api.desired.items(),
        View::Kernel | View::Cached => Vec::new(),
    };
    answer::elsewhere(move || {
        let items = desired.into_iter().filter(|item| item.key.starts_with(model.key_prefix));
        let items = items.filter_map(|item| {
            Some(Item {
                key: item.key.to_string(),
                value: show_model(&item.model?),
                origin: Origin::FromNB as u8,
                metadata: None,
            })
        });
        list(&items.collect::<Vec<_>>())
    })
    .await
}

async fn of_descriptor(api: &Api, name: &'static str, view: View) -> Answer {
    if matches!(view, View::Kernel) {
        return retrieved(api, name).await;
    }
    let extract = api.extract(Scope::Kind(name)).await.ok_or_else(ApiError::stopping)?;
    let api = api.clone();
    answer::elsewhere(move || {
        let items = extract.values().iter().filter_map(|sighting| {
            let shown = match view {
                View::Desired => sighting.desired.as_ref().filter(|_| sighting.requested && !sighting.fact)?,
                View::Cached | View::Kernel => sighting.applied.as_ref().filter(|_| sighting.available)?,
            };
            let applied = sighting.applied.as_ref().and_then(Value::interface);
            Some(Item {
                key: sighting.key.to_string(),
                value: show(&sighting.key, shown),
                origin: if sighting.fact { Origin::FromSB } else { Origin::FromNB } as u8,
                metadata: applied.map(|interface| metadata(interface, known_index(&api, interface), interface.vrf.as_deref())),
            })
        });
        list(&items.collect::<Vec<_>>())
    })
    .await
}

/// Returns the published kernel index of an interface's link, or 0 if none is published.
fn known_index(api: &Api, interface: &Interface) -> u32 {
    let key = Key::from(format!("status/linux/interfaces/v2/interface/{}", interface.name));
    match api.statuses.get(&key).as_deref() {
        Some(Published::Link(link)) => u32::try_from(link.if_index).unwrap_or_default(),
        _ => 0,
    }
}

fn metadata(interface: &Interface, index: u32, vrf: Option<&str>) -> Metadata {
    let namespace = namespace_of(&interface.namespace).map(|namespace| Namespace {
        r#type: namespace.r#type,
        reference: namespace.reference,
    });
    Metadata {
        linux_if_index: index,
        vpp_tap_name: interface.link.original().unwrap_or_default().to_owned(),
        namespace,
        host_if_name: interface.host_name.clone(),
        vrf_master_if: vrf.unwrap_or_default().to_owned(),
        vrf_dev_rt: interface.link.routing_table().unwrap_or_default(),
    }
}

async fn retrieved(api: &Api, name: &'static str) -> Answer {
    if !["linux-interface", "linux-arp", "linux-route"].contains(&name) {
        return Err(ApiError::internal(
            "descriptor does not support Retrieve operation; use the view NB or cached",
        ));
    }
    let retrieval = Retrieval::of(api).await?;
    let extract = api.extract(Scope::Values).await.ok_or_else(ApiError::stopping)?;
    answer::elsewhere(move || {
        let item = |key: &Key, value: Option<Shown>, metadata: Option<Metadata>| Item {
            key: key.to_string(),
            value,
            origin: Origin::FromNB as u8,
            metadata,
        };
        let items: Vec<Item> = match name {
            "linux-interface" => {
                let interfaces = retrieval.interfaces.iter();
                let metadata_of = |key: &Key, index: u32, vrf: &str| {
                    let interface = extract.value(key)?.applied.as_ref()?.interface()?;
                    Some(metadata(interface, index, Some(vrf)))
                };
                interfaces
                    .map(|found| {
                        item(
                            &found.key,
                            encoded(&found.message),
                            metadata_of(&found.key, found.link.state.index, &found.vrf),
                        )
                    })
                    .collect()
            }
            "linux-arp" => retrieval
                .arps
                .iter()
                .map(|found| item(&found.key, encoded(&found.message), None))
                .collect(),
            _ => retrieval
                .routes
                .iter()
                .map(|found| item(&found.key, encoded(&found.message), None))
                .collect(),
        };
        list(&items)
    })
    .await
}

fn encoded<M: prost::Message + Name>(message: &M) -> Option<Shown> {
    let text = try_encode(message, Spelling::LowerCamel).ok()?;
    Some(Shown {
        message: M::full_name(),
        data: serde_json::from_str(&text).ok()?,
    })
}
