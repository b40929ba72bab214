//! Facts about foreign addresses on the links of managed interfaces. Routes and ARP entries may depend on these facts.
//!
//! The agent neither adds nor removes these addresses. It only reports that they exist, because they make gateways reachable.

use models::key::{Key, TypedKey};

use netns_kernel::{AddressSpec, AddressState, PROTOCOL};

/// Part of a fact's key between the interface name and the address.
const PART: &str = "observed-address/";
/// Scope of an address that is valid only on its link (RT_SCOPE_LINK in linux/rtnetlink.h).
const SCOPE_LINK: u8 = 253;
/// IFA_F_NOPREFIXROUTE, linux/if_addr.h: the kernel creates no route to the subnet, so only the address itself is reachable.
const NO_PREFIX_ROUTE: u32 = 0x200;
/// Maximum number of facts per link. Limits the work, because other programs can add any number of addresses to a link.
pub const FACTS_MAX: usize = 1_000;

/// Returns the key prefix of the facts about foreign addresses on the link of an interface.
///
/// This prefix extends the key prefix of the interface's on-link routes, so these facts also satisfy dependencies on an on-link
/// route. This is correct, because the kernel creates an on-link route for each address.
pub fn observed_prefix(interface: &str) -> Key {
    Key::from(TypedKey::any_link_local_route_of(interface) + PART)
}

/// Returns the key of the fact that a foreign address exists.
fn observed_key(interface: &str, state: &AddressState) -> Key {
    let AddressSpec { address, prefix_len } = state.address;
    let prefix_len = match state.flags & NO_PREFIX_ROUTE {
        0 => prefix_len,
        _ if address.is_ipv4() => 32,
        _ => 128,
    };
    Key::from(format!("{}{address}/{prefix_len}", observed_prefix(interface)))
}

/// Extracts the interface and the address from the key of a fact about a foreign address.
pub fn observed_address(key: &Key) -> Option<(&str, &str)> {
    let rest = key.as_str().strip_prefix("linux/link-local-route/")?;
    let (interface, address) = rest.split_once(PART)?;
    Some((interface.strip_suffix('/')?, address))
}

/// Returns the key of the fact that a foreign address exists on the link of an interface.
///
/// Returns `None` for an address that makes nothing reachable (link-local, `127.0.0.1`), and for an address that the agent added.
/// If several values share the link (`is_shared`), the agent's own addresses are included, because they may belong to another
/// value.
pub fn observed_fact(interface: &str, state: &AddressState, is_shared: bool) -> Option<Key> {
    may_be_fact(state, is_shared).then(|| observed_key(interface, state))
}

/// Returns whether [`observed_fact`] returns a key for this address.
pub fn may_be_fact(state: &AddressState, is_shared: bool) -> bool {
    let of_others = state.protocol != PROTOCOL || is_shared;
    of_others && state.scope < SCOPE_LINK
}
