//! Converts scheduler values back to protobuf messages, which users and clients see. The module [`super::convert`] converts in
//! the other direction.
//!
//! A value that equals its model is shown exactly as the user wrote it. All other values are shown in normal form, with every
//! field that is known from the kernel.

use std::sync::Arc;

use models::{
    address::MacAddress,
    proto::{
        self,
        ligato::linux::{
            interfaces::{
                Interface as InterfaceMessage, InterfaceState,
                interface::{self, DuplicateAddressDetection, Type},
                interface_state::Status as LinkStatus,
            },
            l3::{ArpEntry, Route as RouteMessage, route::Scope},
            namespace::{NetNamespace, net_namespace::ReferenceType},
        },
        netns_agent::DriftPolicy as DriftPolicyMessage,
    },
};

use super::{
    observed::ObservedInterface,
    route::SCOPE_LINK,
    value::{
        Address, Applied, AppliedInterface, Arp, Desired, DesiredInterface, Detection, DriftPolicy, Interface, Membership, NamespaceName,
        Role, Route, Terms, Value,
    },
};
use link_kinds::{KindSpec, Link, Port};
use netns_kernel::RouteState;

/// Protobuf message of a scheduler value.
#[derive(Clone, PartialEq, Debug)]
pub enum Message {
    /// Interface. If the value is an address, membership or VLAN, the message contains only the fields of that value.
    Interface(Box<InterfaceMessage>),
    /// Static neighbour.
    Arp(ArpEntry),
    /// Route.
    Route(RouteMessage),
    /// `google.protobuf.Empty`, for a value without fields to show.
    Empty,
}

/// Returns the message of a value, or `None` for a model that the agent does not handle.
pub fn message_of(value: &Value) -> Option<Message> {
    let part = |interface: InterfaceMessage| Some(Message::Interface(Box::new(interface)));
    match value {
        Value::Interface(desired) => part(desired_interface(desired)),
        Value::AppliedInterface(applied) => part(applied_interface(applied)),
        Value::Address(address) => part(InterfaceMessage {
            name: address.interface.clone(),
            ip_addresses: vec![address.text.clone()],
            vrf_master_interface: address.vrf.clone().unwrap_or_default(),
            ..InterfaceMessage::default()
        }),
        Value::Membership(membership) => part(membership_of(membership)),
        Value::BridgeVlan(vlan) => part(InterfaceMessage {
            name: vlan.interface.clone(),
            ..InterfaceMessage::default()
        }),
        Value::Arp(arp) => Some(Message::Arp(desired(arp, arp_of))),
        Value::AppliedArp(arp) => Some(Message::Arp(applied(arp, arp_of))),
        Value::Route(route) => Some(Message::Route(desired(route, route_of))),
        Value::AppliedRoute(route) => Some(Message::Route(applied(route, route_of))),
        Value::Detection(_)
        | Value::Namespace(_)
        | Value::AppliedNamespace(_)
        | Value::Microservice(_)
        | Value::Orphan(_)
        | Value::HostLink(_)
        | Value::Present => Some(Message::Empty),
        Value::Unhandled => None,
    }
}

fn membership_of(membership: &Membership) -> InterfaceMessage {
    let name = membership.interface.clone();
    match &membership.role {
        Role::Vrf { .. } => InterfaceMessage {
            name,
            vrf_master_interface: membership.master.clone(),
            ..InterfaceMessage::default()
        },
        Role::Port(port) => InterfaceMessage {
            name,
            master_interface: Some(membership.master.clone()),
            port: port.as_ref().and_then(port_member),
            ..InterfaceMessage::default()
        },
    }
}

/// Returns port settings, wrapped in the member of the `port` oneof that matches their kind.
fn port_member(port: &Port) -> Option<interface::Port> {
    let member = link_kinds::by_type(port.of)?.spec().ports?.member;
    let message = port.message(&proto::member_descriptor(member)?);
    proto::interface_with(vec![(member, message)]).port
}

/// Returns the message from which a value was converted. If there is no original message, returns the value in normal form.
fn written<M: prost::Message + Default>(terms: &Terms, in_normal_form: impl FnOnce() -> M) -> M {
    terms.original.message().unwrap_or_else(in_normal_form)
}

fn desired_interface(desired: &DesiredInterface) -> InterfaceMessage {
    written(&desired.terms, || {
        interface_of(&desired.interface, &desired.addresses, Some(&desired.terms))
    })
}

fn applied_interface(applied: &AppliedInterface) -> InterfaceMessage {
    match applied.desired.as_deref() {
        Some(desired) if applied.is_as(desired) => desired_interface(desired),
        desired => interface_of(&applied.interface, &applied.addresses, desired.map(|desired| &desired.terms)),
    }
}

/// Returns the message of an interface in normal form, including `adopt` and `drift_policy` from `terms`.
fn interface_of(interface: &Interface, addresses: &[Arc<Address>], terms: Option<&Terms>) -> InterfaceMessage {
    let (adopt, drift_policy) = terms_of(terms);
    let detection = addresses.first().map_or(Detection::Wait, |address| address.detection);
    let port = interface.port_of.as_ref().and_then(|port| port.settings.as_ref());
    InterfaceMessage {
        name: interface.name.clone(),
        r#type: type_of(interface.link.spec()) as i32,
        namespace: namespace_of(&interface.namespace),
        host_if_name: interface.host_name.clone(),
        enabled: interface.enabled,
        ip_addresses: addresses.iter().map(|address| address.text.clone()).collect(),
        phys_address: interface.mac.map(|mac| MacAddress(mac).to_string()).unwrap_or_default(),
        mtu: interface.mtu,
        link_only: interface.link_only,
        vrf_master_interface: interface.vrf.clone().unwrap_or_default(),
        link: link_member(&interface.link),
        port: port.and_then(port_member),
        master_interface: interface.port_of.as_ref().map(|port| port.master.clone()),
        adopt,
        drift_policy,
        duplicate_address_detection: match detection {
            Detection::Wait => None,
            Detection::Skip => Some(DuplicateAddressDetection::Skip.into()),
            Detection::Optimistic => Some(DuplicateAddressDetection::Optimistic.into()),
        },
    }
}

/// Returns the message of an applied interface as observed in the kernel. Fields that the kernel does not report are copied from
/// the applied value.
pub fn observed_interface(
    applied: &AppliedInterface,
    observed: &ObservedInterface<'_>,
    addresses: Vec<String>,
    vrf: &str,
) -> InterfaceMessage {
    let mut link = applied.interface.link.clone();
    observed.correct(&mut link.settings);
    InterfaceMessage {
        host_if_name: observed.state.name.clone(),
        enabled: observed.state.up,
        ip_addresses: addresses,
        phys_address: observed.mac(),
        mtu: observed.state.mtu,
        vrf_master_interface: vrf.to_owned(),
        link: link_member(&link),
        ..applied_interface(applied)
    }
}

/// Returns the link state to publish for an interface, without the timestamp.
pub fn state_of(name: &str, observed: &ObservedInterface<'_>) -> InterfaceState {
    let status = |up: bool| if up { LinkStatus::Up } else { LinkStatus::Down } as i32;
    InterfaceState {
        name: name.to_owned(),
        internal_name: observed.state.name.clone(),
        r#type: type_of(observed.kind_or_referred().spec()) as i32,
        if_index: i32::try_from(observed.state.index).unwrap_or_default(),
        admin_status: status(observed.state.up),
        oper_status: status(observed.is_operational()),
        phys_address: observed.mac(),
        mtu: observed.state.mtu,
        ..InterfaceState::default()
    }
}

/// Returns the interface type for a kind of link.
fn type_of(spec: &KindSpec) -> Type {
    Type::from_str_name(spec.type_name).unwrap_or_default()
}

/// Returns link settings, wrapped in the member of the `link` oneof that matches their kind.
fn link_member(link: &Link) -> Option<interface::Link> {
    let member = link.spec().member;
    let message = link.message(&proto::member_descriptor(member)?);
    proto::interface_with(vec![(member, message)]).link
}

/// Returns the message for a namespace reference, or `None` for the agent's own namespace.
pub fn namespace_of(name: &NamespaceName) -> Option<NetNamespace> {
    let reference_type = match name {
        NamespaceName::Own => return None,
        NamespaceName::Named(_) => ReferenceType::Nsid,
        NamespaceName::Process(_) => ReferenceType::Pid,
        NamespaceName::File(_) => ReferenceType::Fd,
        NamespaceName::Microservice(_) => ReferenceType::Microservice,
    };
    Some(NetNamespace {
        r#type: reference_type as i32,
        reference: name.parts().1,
    })
}

/// Returns the `adopt` and `drift_policy` fields.
fn terms_of(terms: Option<&Terms>) -> (Option<bool>, Option<i32>) {
    let policy = terms.and_then(|terms| terms.drift_policy).map(|policy| match policy {
        DriftPolicy::Repair => DriftPolicyMessage::Repair.into(),
        DriftPolicy::Report => DriftPolicyMessage::Report.into(),
    });
    (terms.filter(|terms| terms.adopt).map(|_| true), policy)
}

fn desired<T, M: prost::Message + Default>(desired: &Desired<T>, in_normal_form: impl Fn(&T, Option<&Terms>) -> M) -> M {
    written(&desired.terms, || in_normal_form(&desired.value, Some(&desired.terms)))
}

fn applied<T: PartialEq + Clone, M: prost::Message + Default>(applied: &Applied<T>, in_normal_form: impl Fn(&T, Option<&Terms>) -> M) -> M {
    match applied.as_desired() {
        Some(as_desired) => desired(as_desired, in_normal_form),
        None => in_normal_form(applied.value(), applied.desired().map(|desired| &desired.terms)),
    }
}

fn arp_of(arp: &Arp, terms: Option<&Terms>) -> ArpEntry {
    let (adopt, drift_policy) = terms_of(terms);
    ArpEntry {
        interface: arp.interface.clone(),
        ip_address: arp.text.clone(),
        hw_address: MacAddress(arp.mac).to_string(),
        adopt,
        drift_policy,
    }
}

/// Returns the message of a route in normal form, with an explicit scope.
fn route_of(route: &Route, terms: Option<&Terms>) -> RouteMessage {
    let (adopt, drift_policy) = terms_of(terms);
    let gateway = route.gateway.map(|gateway| gateway.to_string());
    let scope = match route.scope {
        0 => Scope::Global,
        200 => Scope::Site,
        SCOPE_LINK => Scope::Link,
        _ => Scope::Host,
    };
    RouteMessage {
        outgoing_interface: route.interface.clone(),
        scope: scope as i32,
        dst_network: route.destination_text.clone(),
        gw_addr: gateway.or_else(|| route.gateway_reference.clone()).unwrap_or_default(),
        metric: route.metric,
        adopt,
        drift_policy,
    }
}

/// Returns the message of an applied route as observed in the kernel.
pub fn observed_route(applied: &Applied<Route>, state: &RouteState) -> RouteMessage {
    RouteMessage {
        metric: state.route.metric,
        ..route_of(applied.value(), applied.desired().map(|desired| &desired.terms))
    }
}

#[cfg(test)]
mod tests {
    use models::{Model, key::Key};

    use super::*;
    use crate::descriptors::{
        Network,
        convert::value_of,
        value::{Circumstances, KnownBy},
    };
    use crate::scheduler::Domain;

    fn there_and_back(key: &str, json: &str) -> Option<Model> {
        let model = Model::decode(key, json.as_bytes()).expect(json);
        match message_of(&value_of(&model).expect(json))? {
            Message::Interface(message) => Some(Model::from(*message)),
            Message::Arp(message) => Some(Model::from(message)),
            Message::Route(message) => Some(Model::from(message)),
            Message::Empty => None,
        }
    }

    #[test]
    fn converting_a_model_to_a_value_and_back_changes_nothing() {
        for (key, json) in [
            (
                "config/linux/interfaces/v2/interface/a",
                r#"{"name":"a","type":"VETH","namespace":{"type":"NSID","reference":"red"},"host_if_name":"eth0","enabled":true,
                    "ip_addresses":["10.1.0.1/24","fd00::1/64"],"phys_address":"02:00:00:00:00:01","mtu":1400,"drift_policy":"REPORT",
                    "duplicate_address_detection":"SKIP","veth":{"peer_if_name":"b","rx_checksum_offloading":"CHKSM_OFFLOAD_DISABLED"}}"#,
            ),
            (
                "config/linux/interfaces/v2/interface/lo1",
                r#"{"name":"lo1","type":"LOOPBACK","enabled":true,"ip_addresses":["10.1.0.1/32"]}"#,
            ),
            (
                "config/linux/interfaces/v2/interface/v",
                r#"{"name":"v","type":"VRF_DEVICE","vrf_dev":{"routing_table":7},"adopt":true}"#,
            ),
            (
                "config/linux/l3/v2/arp/a/10.0.0.9",
                r#"{"interface":"a","ip_address":"10.0.0.9","hw_address":"02:00:00:00:00:09"}"#,
            ),
            (
                "config/linux/l3/v2/route/10.2.0.0/16/a",
                r#"{"outgoing_interface":"a","dst_network":"10.2.0.0/16","gw_addr":"10.1.0.2","metric":5}"#,
            ),
            (
                "config/linux/l3/v2/route/10.3.0.0/16/a",
                r#"{"outgoing_interface":"a","dst_network":"10.3.0.0/16"}"#,
            ),
            (
                "config/linux/l3/v2/route/10.4.0.0/16/a",
                r#"{"outgoing_interface":"a","dst_network":"10.4.0.0/16","scope":"GLOBAL"}"#,
            ),
            (
                "config/linux/l3/v2/route/10.5.0.0/16/a",
                r#"{"outgoing_interface":"a","dst_network":"10.5.0.0/16","scope":"GLOBAL","gw_addr":"10.1.0.2"}"#,
            ),
            (
                "config/linux/l3/v2/route/fd00::/64/a",
                r#"{"outgoing_interface":"a","dst_network":"fd00:0::1/64","scope":"LINK","drift_policy":"REPAIR"}"#,
            ),
            (
                "config/linux/l3/v2/arp/a/fd00:0::9",
                r#"{"interface":"a","ip_address":"fd00:0::9","hw_address":"02:00:00:00:00:0A"}"#,
            ),
            (
                "config/linux/interfaces/v2/interface/e",
                r#"{"name":"e","type":"VETH","host_if_name":"e","phys_address":"02-00-00-00-00-0A",
                    "veth":{"peer_if_name":"b","rx_checksum_offloading":"CHKSM_OFFLOAD_ENABLED"}}"#,
            ),
            (
                "config/linux/interfaces/v2/interface/l",
                r#"{"name":"l","type":"DUMMY","link_only":true,"ip_addresses":["10.1.0.1/24"]}"#,
            ),
        ] {
            let model = Model::decode(key, json.as_bytes()).expect(json);
            assert_eq!(there_and_back(key, json), Some(model), "{key}");
        }
    }

    #[test]
    fn applied_value_that_differs_from_its_model_shows_the_applied_state() {
        let json = r#"{"name":"a","type":"DUMMY","enabled":true}"#;
        let key = "config/linux/interfaces/v2/interface/a";
        let model = Model::decode(key, json.as_bytes()).expect(json);
        let Ok(Value::Interface(requested)) = value_of(&model) else {
            panic!("{json}");
        };
        let as_requested = AppliedInterface::of(&requested);
        let interface = Interface {
            enabled: false,
            ..(*requested.interface).clone()
        };
        let down = AppliedInterface {
            interface: interface.into(),
            ..as_requested.clone()
        };
        let shown = applied_interface(&down);
        assert_eq!((shown.enabled, shown.host_if_name.as_str()), (false, "a"));
        let circumstances = Circumstances {
            known_by: KnownBy::Group,
            adopted: true,
            ..as_requested.circumstances
        };
        let adopted = AppliedInterface {
            circumstances,
            ..as_requested
        };
        assert_eq!(Model::from(applied_interface(&adopted)), model);
    }

    #[test]
    fn kinds_have_the_names_of_the_descriptors_for_their_keys() {
        let network = Network::new("test");
        for (name, prefix) in Network::kinds().into_iter().filter(|(_, prefix)| !prefix.is_empty()) {
            let descriptor = network.descriptor(&Key::from(format!("{prefix}x"))).expect(prefix);
            assert_eq!(descriptor.name(), name);
        }
    }
}
