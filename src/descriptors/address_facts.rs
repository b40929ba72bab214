//! Addresses that others have on the links of managed interfaces: facts, on which routes and ARP entries may depend.
//!
//! The agent neither adds nor removes these addresses. It only reports that they are there, since they make gateways reachable.

use models::key::{Key, TypedKey};

use netns_kernel::{AddressSpec, AddressState, PROTOCOL};

/// What precedes the address in the key of a fact.
const PART: &str = "observed-address/";
/// RT_SCOPE_LINK, linux/rtnetlink.h.
const SCOPE_LINK: u8 = 253;
/// IFA_F_NOPREFIXROUTE, linux/if_addr.h: only the address itself is reachable.
const NO_PREFIX_ROUTE: u32 = 0x200;
/// Facts per link. Others decide how many addresses a link has, so there must be a bound.
pub const FACTS_MAX: usize = 1_000;

/// Prefix of the keys of all addresses that others have on the link of an interface.
///
/// It lies below that of the on-link routes of the interface, because the kernel makes such a route for each of these addresses.
pub fn observed_prefix(interface: &str) -> Key {
    Key::from(TypedKey::any_link_local_route_of(interface) + PART)
}

/// Key of one of them.
fn observed_key(interface: &str, state: &AddressState) -> Key {
    let AddressSpec { address, prefix_len } = state.address;
    let prefix_len = match state.flags & NO_PREFIX_ROUTE {
        0 => prefix_len,
        _ if address.is_ipv4() => 32,
        _ => 128,
    };
    Key::from(format!("{}{address}/{prefix_len}", observed_prefix(interface)))
}

/// The address in the key of such a fact.
pub fn observed_address(key: &Key) -> Option<(&str, &str)> {
    let rest = key.as_str().strip_prefix("linux/link-local-route/")?;
    let (interface, address) = rest.split_once(PART)?;
    Some((interface.strip_suffix('/')?, address))
}

/// The fact that an address on the link of an interface is; `None` of an address that counts for nothing (link-local, `127.0.0.1`), or
/// that the agent added. Where several values share the link (`is_shared`), those that it added for the others count.
pub fn observed_fact(interface: &str, state: &AddressState, is_shared: bool) -> Option<Key> {
    may_be_fact(state, is_shared).then(|| observed_key(interface, state))
}

/// Whether [`observed_fact`] has an answer.
pub fn may_be_fact(state: &AddressState, is_shared: bool) -> bool {
    let of_others = state.protocol != PROTOCOL || is_shared;
    of_others && state.scope < SCOPE_LINK
}
