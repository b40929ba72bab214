//! `/dump/linux/v2/…` and `/stats/linux/…`: managed interfaces, ARP entries and routes as read from the kernel.
//!
//! Messages are encoded as in ligato vpp-agent, which uses the plain JSON encoding of Go. Enums are encoded as numbers, default
//! values are omitted, and the member of a `oneof` is stored under the name of its Go type.

use axum::{extract::State, routing::get};
use models::proto::ligato::linux::interfaces::{Interface as InterfaceMessage, interface::Link};
use models::proto::link_member;
use prost_reflect::SerializeOptions;
use serde::Serialize;
use serde_json::{Value as Json, json};

use super::{
    answer::{self, Answer},
    endpoint::Endpoint,
    history::list,
};
use crate::api::{
    Api,
    retrieval::{Retrieval, RetrievedInterface},
};
use link_kinds::LifeCycle;
use netns_kernel::LinkDetails;

/// Address family AF_INET (address_families(7)).
const INET: u8 = 2;
/// Address family AF_INET6.
const INET6: u8 = 10;

const UNREADABLE: &[(u16, &str)] = &[(500, "a namespace cannot be read; the error contains its name")];

pub(super) const ENDPOINTS: &[Endpoint] = &[
    Endpoint {
        example: r#"[{"interface":{"name":"veth1","type":1,"namespace":{"type":1,"reference":"ns1"},"host_if_name":"veth1","enabled":true,"ip_addresses":["10.0.0.1/24"],"phys_address":"12:21:21:11:11:11","mtu":1500,"Link":{"Veth":{"peer_if_name":"veth2"}}},"interface_meta":{"linux_if_index":5,"parent_index":4,"master_index":0,"oper_state":6,"flags":69699,"encapsulation":"ether","num_rx_queue":1,"num_tx_queue":1,"tx_queue_len":1000}}]"#,
        failures: UNREADABLE,
        ..Endpoint::get("/dump/linux/v2/interfaces", "Managed interfaces, read from the kernel", || {
            get(interfaces)
        })
    },
    Endpoint {
        example: r#"[{"linux_arp":{"interface":"veth1","ip_address":"10.0.0.2","hw_address":"12:21:21:11:11:12"},"linux_arp_meta":{"interface_index":5,"ip_family":2,"vni":0}}]"#,
        failures: UNREADABLE,
        ..Endpoint::get("/dump/linux/v2/arps", "Managed ARP entries, read from the kernel", || get(arps))
    },
    Endpoint {
        example: r#"[{"Route":{"outgoing_interface":"veth1","dst_network":"10.1.0.0/16","gw_addr":"10.0.0.2"},"Meta":{"interface_index":5,"link_scope":0,"protocol":99,"mtu":0,"table":254}}]"#,
        failures: UNREADABLE,
        ..Endpoint::get("/dump/linux/v2/routes", "Managed routes, read from the kernel", || get(routes))
    },
    Endpoint {
        example: r#"[{"interface_name":"veth1","interface_type":1,"linux_if_index":5,"rx_packets":3,"tx_packets":4,"rx_bytes":210,"tx_bytes":280,"rx_errors":0,"tx_errors":0,"rx_dropped":0,"tx_dropped":0}]"#,
        failures: UNREADABLE,
        ..Endpoint::get("/stats/linux/interfaces", "Counters of managed interfaces", || get(counters))
    },
];

#[derive(Serialize)]
struct Interface {
    interface: PlainInterface,
    interface_meta: InterfaceMeta,
}

#[derive(Serialize)]
struct PlainInterface {
    name: String,
    #[serde(skip_serializing_if = "is_zero")]
    r#type: i32,
    #[serde(skip_serializing_if = "Option::is_none")]
    namespace: Option<Json>,
    #[serde(skip_serializing_if = "String::is_empty")]
    host_if_name: String,
    #[serde(skip_serializing_if = "is_false")]
    enabled: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    ip_addresses: Vec<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    phys_address: String,
    #[serde(skip_serializing_if = "is_zero_mtu")]
    mtu: u32,
    #[serde(skip_serializing_if = "is_false")]
    link_only: bool,
    #[serde(skip_serializing_if = "String::is_empty")]
    vrf_master_interface: String,
    #[serde(rename = "Link")]
    link: Option<Json>,
}

#[derive(Serialize)]
struct InterfaceMeta {
    linux_if_index: u32,
    parent_index: u32,
    master_index: u32,
    oper_state: u8,
    flags: u32,
    encapsulation: &'static str,
    num_rx_queue: u32,
    num_tx_queue: u32,
    tx_queue_len: u32,
}

#[derive(Serialize)]
struct Counters {
    interface_name: String,
    interface_type: i32,
    linux_if_index: u32,
    rx_packets: u64,
    tx_packets: u64,
    rx_bytes: u64,
    tx_bytes: u64,
    rx_errors: u64,
    tx_errors: u64,
    rx_dropped: u64,
    tx_dropped: u64,
}

fn is_zero(number: &i32) -> bool {
    *number == 0
}

fn is_zero_mtu(number: &u32) -> bool {
    *number == 0
}

fn is_false(value: &bool) -> bool {
    !value
}

/// Returns whether an interface is included in the list. Interfaces that only refer to links of other programs are not included.
fn is_listed(found: &&RetrievedInterface) -> bool {
    let kind = link_kinds::by_type(found.message.r#type().as_str_name());
    kind.is_none_or(|kind| kind.spec().life_cycle != LifeCycle::Referred)
}

async fn interfaces(State(api): State<Api>) -> Answer {
    let retrieval = Retrieval::of(&api).await?;
    answer::elsewhere(move || {
        let interfaces = retrieval.interfaces.iter().filter(is_listed).map(|found| Interface {
            interface: plain(&found.message),
            interface_meta: meta(&found.link),
        });
        list(&interfaces.collect::<Vec<_>>())
    })
    .await
}

fn plain(message: &InterfaceMessage) -> PlainInterface {
    PlainInterface {
        name: message.name.clone(),
        r#type: message.r#type,
        namespace: message
            .namespace
            .as_ref()
            .map(|namespace| json!({ "type": namespace.r#type, "reference": namespace.reference })),
        host_if_name: message.host_if_name.clone(),
        enabled: message.enabled,
        ip_addresses: message.ip_addresses.clone(),
        phys_address: message.phys_address.clone(),
        mtu: message.mtu,
        link_only: message.link_only,
        vrf_master_interface: message.vrf_master_interface.clone(),
        link: message.link.as_ref().map(plain_link),
    }
}

/// Encodes the `oneof` field `link` as Go does. The content is stored under the name of its Go type, with proto field names and
/// numeric enums.
fn plain_link(link: &Link) -> Json {
    let (member, message) = link_member(link);
    let words = member.split('_').map(|word| word[..1].to_uppercase() + &word[1..]);
    let name: String = words.collect();
    let options = SerializeOptions::new().use_proto_field_name(true).use_enum_numbers(true);
    let content = message.and_then(|message| message.serialize_with_options(serde_json::value::Serializer, &options).ok());
    json!({ name: content })
}

fn meta(link: &LinkDetails) -> InterfaceMeta {
    InterfaceMeta {
        linux_if_index: link.state.index,
        parent_index: link.state.linked.unwrap_or_default(),
        master_index: link.state.master.unwrap_or_default(),
        oper_state: link.state.oper_state,
        flags: link.flags,
        encapsulation: encapsulation(link.hardware),
        num_rx_queue: link.rx_queues,
        num_tx_queue: link.tx_queues,
        tx_queue_len: link.tx_queue_length,
    }
}

/// Returns the name of an ARPHRD type, as `ip link` prints it after `link/`.
fn encapsulation(hardware: u16) -> &'static str {
    match hardware {
        1 => "ether",
        772 => "loopback",
        65534 => "none",
        _ => "generic",
    }
}

async fn arps(State(api): State<Api>) -> Answer {
    let retrieval = Retrieval::of(&api).await?;
    answer::elsewhere(move || {
        let arps = retrieval.arps.iter().map(|found| {
            let family = if found.state.address.is_ipv4() { INET } else { INET6 };
            json!({
                "linux_arp": {
                    "interface": found.message.interface,
                    "ip_address": found.message.ip_address,
                    "hw_address": found.message.hw_address,
                },
                "linux_arp_meta": { "interface_index": found.state.link, "ip_family": family, "vni": 0 },
            })
        });
        list(&arps.collect::<Vec<_>>())
    })
    .await
}

async fn routes(State(api): State<Api>) -> Answer {
    let retrieval = Retrieval::of(&api).await?;
    answer::elsewhere(move || {
        let routes = retrieval.routes.iter().map(|found| {
            let mut route = json!({ "outgoing_interface": found.message.outgoing_interface, "dst_network": found.message.dst_network });
            if !found.message.gw_addr.is_empty() {
                route["gw_addr"] = json!(found.message.gw_addr);
            }
            if found.message.metric != 0 {
                route["metric"] = json!(found.message.metric);
            }
            let spec = &found.state.route;
            let meta = json!({
                "interface_index": found.state.link,
                "link_scope": spec.scope,
                "protocol": found.state.protocol,
                "mtu": 0,
                "table": spec.table,
            });
            json!({ "Route": route, "Meta": meta })
        });
        list(&routes.collect::<Vec<_>>())
    })
    .await
}

async fn counters(State(api): State<Api>) -> Answer {
    let retrieval = Retrieval::of(&api).await?;
    answer::elsewhere(move || {
        let counters = retrieval.interfaces.iter().filter(is_listed).map(|found| {
            let counters = found.link.counters;
            Counters {
                interface_name: found.message.name.clone(),
                interface_type: found.message.r#type,
                linux_if_index: found.link.state.index,
                rx_packets: counters.rx_packets,
                tx_packets: counters.tx_packets,
                rx_bytes: counters.rx_bytes,
                tx_bytes: counters.tx_bytes,
                rx_errors: counters.rx_errors,
                tx_errors: counters.tx_errors,
                rx_dropped: counters.rx_dropped,
                tx_dropped: counters.tx_dropped,
            }
        });
        list(&counters.collect::<Vec<_>>())
    })
    .await
}
