//! Human-readable names of values, for statuses and messages. Also determines the interface to which a derived value belongs.
//!
//! The names are never parsed; only keys identify values.

use models::key::{Key, NamespaceType, RouteDestination, TypedKey};

use super::orphan::{HELD_ORPHANS, ORPHANS};

/// Returns a human-readable name for the value with this key, or the key itself if there is no better name. The name can be used at
/// the start of a sentence.
pub fn name(key: &Key) -> String {
    for (prefix, fate) in [(ORPHANS, "being removed"), (HELD_ORPHANS, "kept because removals are on hold")] {
        if let Some(orphan) = key.as_str().strip_prefix(prefix) {
            let (_, what) = orphan.split_once('/').unwrap_or(("", orphan));
            return format!("an orphan that is {fate} ({what})");
        }
    }
    if let Some(name) = super::detection::name(key) {
        return name;
    }
    if let Some((interface, address)) = super::address_facts::observed_address(key) {
        return format!("foreign address {address} on interface {interface}");
    }
    let Ok(typed) = TypedKey::parse(key.as_str()) else {
        return key.to_string();
    };
    match typed {
        TypedKey::Interface { name } => format!("interface {name}"),
        TypedKey::Arp { interface, ip_address } => format!("ARP entry {ip_address} of interface {interface}"),
        TypedKey::Route {
            destination,
            outgoing_interface,
        } => match destination {
            RouteDestination::Network { address, prefix_len } => format!("route {address}/{prefix_len} of interface {outgoing_interface}"),
            RouteDestination::Allocation(reference) => format!("route {reference} of interface {outgoing_interface}"),
            RouteDestination::Invalid => key.to_string(),
        },
        TypedKey::RuleChain { name } => format!("rule chain {name}"),
        TypedKey::IpAllocation { network, interface } => format!("IP allocation of interface {interface} in network {network}"),
        TypedKey::HostInterface { host_name } => {
            format!("an interface named {host_name} (alternative names do not count) that is up in the agent's own namespace")
        }
        TypedKey::HostInterfaceAddress { host_name, address } => format!("address {address} of {host_name} in the agent's own namespace"),
        TypedKey::HostInterfaceVrf { host_name, vrf_host_name } => format!("membership of {host_name} in VRF device {vrf_host_name}"),
        TypedKey::InterfaceState { name, up } => format!("interface {name} in state {}", if up { "UP" } else { "DOWN" }),
        TypedKey::InterfaceAddress { interface, address, .. } => format!("address {address} of interface {interface}"),
        TypedKey::InterfaceMaster { interface, master } => format!("membership of interface {interface} in {master}"),
        TypedKey::InterfaceVlan { interface, vlans } => format!("VLAN {vlans} of interface {interface}"),
        TypedKey::InterfaceVrf { interface, vrf } => format!("membership of interface {interface} in VRF {vrf}"),
        TypedKey::Microservice { label } => {
            format!("a running container of microservice {label}")
        }
        TypedKey::LinkLocalRoute {
            outgoing_interface,
            destination,
        } => format!("link-scope route {destination} of interface {outgoing_interface}"),
        TypedKey::NeighborGateway { network, interface } => format!("gateway of interface {interface} in network {network}"),
        TypedKey::Namespace { reference_type, reference } => match reference_type {
            NamespaceType::Own => "the agent's own namespace".to_owned(),
            NamespaceType::Nsid => format!("namespace {reference}"),
            NamespaceType::Pid => format!("namespace of process {reference}"),
            NamespaceType::Fd => format!("namespace file {reference}"),
            NamespaceType::Microservice => format!("namespace of microservice {reference}"),
        },
        TypedKey::Tap { host_name } => format!("TAP {host_name} in the agent's own namespace"),
    }
}

/// Returns the key of the interface to which a property, address, membership or VLAN belongs. `key` can also be the key prefix of
/// an interface's addresses.
pub fn provider(key: &Key) -> Option<Key> {
    TypedKey::provider(key.as_str()).map(|provider| provider.to_key())
}

#[cfg(test)]
mod tests {
    use super::{super::value::interface_key, *};

    #[test]
    fn values_have_names_for_people() {
        for (key, expected) in [
            ("config/linux/interfaces/v2/interface/a", "interface a"),
            ("config/linux/l3/v2/route/10.1.0.0/16/a", "route 10.1.0.0/16 of interface a"),
            ("config/linux/l3/v2/arp/a/10.1.0.9", "ARP entry 10.1.0.9 of interface a"),
            ("linux/interface/state/a/UP", "interface a in state UP"),
            ("linux/interface/a/address/static/10.1.0.1/24", "address 10.1.0.1/24 of interface a"),
            (
                "linux/address-detection/a/b/fd00::1/64",
                "duplicate address detection for fd00::1/64 of interface a/b",
            ),
            ("linux/namespace/NSID/red", "namespace red"),
            ("linux/namespace/PID/1000", "namespace of process 1000"),
            ("linux/orphan/4026531840/link/x", "an orphan that is being removed (link/x)"),
            (
                "linux/held-orphan/4026531840/link/x",
                "an orphan that is kept because removals are on hold (link/x)",
            ),
            ("unknown/key", "unknown/key"),
        ] {
            assert_eq!(name(&Key::new(key)), expected);
        }
    }

    #[test]
    fn provider_of_a_derived_value_is_its_interface() {
        for key in [
            "linux/interface/state/a/UP",
            "linux/interface/a/address/static/10.1.0.1/24",
            "linux/interface/a/address/",
        ] {
            assert_eq!(provider(&Key::new(key)), Some(interface_key("a")), "{key}");
        }
        for key in [
            "linux/interface/host-name/a/address/",
            "linux/namespace/NSID/a",
            "config/linux/interfaces/v2/interface/a",
        ] {
            assert_eq!(provider(&Key::new(key)), None, "{key}");
        }
    }
}
