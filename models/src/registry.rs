//! Table of models, with their key prefixes and the descriptions that the agent publishes.

use crate::key::prefix;

/// Kind of a configuration value.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum ModelKind {
    /// An interface.
    Interface,
    /// A permanent neighbour entry.
    Arp,
    /// A route.
    Route,
    /// An iptables chain with its rules.
    RuleChain,
    /// An allocated address.
    IpAllocation,
}

/// Description of a model that the agent publishes to clients.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ModelInfo {
    /// Kind of the model's values.
    pub kind: ModelKind,
    /// Name, in the form `<module>.<type>`, for example `linux.l3.route`.
    pub name: &'static str,
    /// Module, for example `linux.l3`.
    pub module: &'static str,
    /// Version, for example `v2`.
    pub version: &'static str,
    /// Type within the module, for example `route`.
    pub type_name: &'static str,
    /// Class; always `config`.
    pub class: &'static str,
    /// Full name of the protobuf message.
    pub proto_name: &'static str,
    /// `.proto` file that defines the message.
    pub proto_file: &'static str,
    /// Key prefix, in the form `<class>/<module>/<version>/<type>/`, with slashes instead of dots in the module.
    pub key_prefix: &'static str,
    /// Go template with which clients compute the name of a value. The text is identical to the template of ligato vpp-agent.
    pub name_template: &'static str,
    /// Names of the fields that the template uses, for error messages.
    pub key_fields: &'static str,
}

impl ModelKind {
    /// Returns the model for this kind of value.
    pub fn info(self) -> &'static ModelInfo {
        match self {
            Self::Interface => &MODELS[0],
            Self::Arp => &MODELS[1],
            Self::Route => &MODELS[2],
            Self::RuleChain => &MODELS[3],
            Self::IpAllocation => &MODELS[4],
        }
    }
}

/// All models, in the order of [`ModelKind`].
pub static MODELS: [ModelInfo; 5] = [
    ModelInfo {
        kind: ModelKind::Interface,
        name: "linux.interfaces.interface",
        module: "linux.interfaces",
        version: "v2",
        type_name: "interface",
        class: "config",
        proto_name: "ligato.linux.interfaces.Interface",
        proto_file: "ligato/linux/interfaces/interface.proto",
        key_prefix: prefix::INTERFACE,
        name_template: "{{.Name}}",
        key_fields: "name",
    },
    ModelInfo {
        kind: ModelKind::Arp,
        name: "linux.l3.arp",
        module: "linux.l3",
        version: "v2",
        type_name: "arp",
        class: "config",
        proto_name: "ligato.linux.l3.ARPEntry",
        proto_file: "ligato/linux/l3/arp.proto",
        key_prefix: prefix::ARP,
        name_template: "{{.Interface}}/{{.IpAddress}}",
        key_fields: "interface, ip_address",
    },
    ModelInfo {
        kind: ModelKind::Route,
        name: "linux.l3.route",
        module: "linux.l3",
        version: "v2",
        type_name: "route",
        class: "config",
        proto_name: "ligato.linux.l3.Route",
        proto_file: "ligato/linux/l3/route.proto",
        key_prefix: prefix::ROUTE,
        name_template: concat!(
            r#"{{with ipnet .DstNetwork}}{{printf "%s/%d" .IP .MaskSize}}{{else}}{{.DstNetwork}}{{end}}"#,
            "/{{.OutgoingInterface}}"
        ),
        key_fields: "dst_network, outgoing_interface",
    },
    ModelInfo {
        kind: ModelKind::RuleChain,
        name: "linux.iptables.rulechain",
        module: "linux.iptables",
        version: "v2",
        type_name: "rulechain",
        class: "config",
        proto_name: "ligato.linux.iptables.RuleChain",
        proto_file: "ligato/linux/iptables/iptables.proto",
        key_prefix: prefix::RULE_CHAIN,
        name_template: "{{.Name}}",
        key_fields: "name",
    },
    ModelInfo {
        kind: ModelKind::IpAllocation,
        name: "netalloc.ip",
        module: "netalloc",
        version: "v1",
        type_name: "ip",
        class: "config",
        proto_name: "ligato.netalloc.IPAllocation",
        proto_file: "ligato/netalloc/netalloc.proto",
        key_prefix: prefix::IP_ALLOCATION,
        name_template: "network/{{.NetworkName}}/interface/{{.InterfaceName}}",
        key_fields: "network_name, interface_name",
    },
];

/// Returns the model to which a key (without the agent prefix) belongs.
pub fn model_of_key(key: &str) -> Option<&'static ModelInfo> {
    MODELS.iter().find(|model| key.starts_with(model.key_prefix))
}

/// Returns the model with the given name, such as `linux.l3.route`.
pub fn model_by_name(name: &str) -> Option<&'static ModelInfo> {
    MODELS.iter().find(|model| model.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::descriptor_pool;

    #[test]
    fn descriptions_of_models_are_consistent() {
        for model in &MODELS {
            assert_eq!(model.kind.info(), model);
            assert_eq!(model.name, format!("{}.{}", model.module, model.type_name));
            let (module, kind) = (model.module.replace('.', "/"), model.type_name);
            assert_eq!(model.key_prefix, format!("{}/{module}/{}/{kind}/", model.class, model.version));
            let message = descriptor_pool()
                .get_message_by_name(model.proto_name)
                .expect("the message of a model must exist");
            assert_eq!(message.parent_file().name(), model.proto_file);
        }
    }
}
