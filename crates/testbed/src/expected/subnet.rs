//! Address and subnet arithmetic.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

/// Parses an address with an optional prefix length, which defaults to 32 for IPv4 and 128 for IPv6.
///
/// # Panics
/// Panics if the text is not an address.
pub fn parse(text: &str) -> (IpAddr, u8) {
    let (address, length) = text.split_once('/').unwrap_or((text, ""));
    let address: IpAddr = address.parse().expect("the address must be valid");
    let whole = if address.is_ipv4() { 32 } else { 128 };
    (
        address,
        if length.is_empty() {
            whole
        } else {
            length.parse().expect("the prefix length must be a number")
        },
    )
}

/// Returns the network address of the subnet that contains an address, and the prefix length.
pub fn network((address, length): (IpAddr, u8)) -> (IpAddr, u8) {
    let address = match address {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
            IpAddr::from(Ipv4Addr::from_bits(address.to_bits() & mask))
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0);
            IpAddr::from(Ipv6Addr::from_bits(address.to_bits() & mask))
        }
    };
    (address, length)
}

/// Returns true if the gateway is in the subnet `text`, an address with its prefix length.
pub(super) fn covers(text: &str, gateway: IpAddr) -> bool {
    let (address, length) = parse(text);
    address.is_ipv4() == gateway.is_ipv4() && network((address, length)) == network((gateway, length))
}

/// Returns the first address of each IPv4 subnet that contains several of the addresses.
pub(super) fn primary(addresses: &[String]) -> impl Iterator<Item = IpAddr> {
    let mut subnets = BTreeMap::<(IpAddr, u8), Vec<IpAddr>>::new();
    for (address, length) in addresses.iter().map(|text| parse(text)).filter(|(address, _)| address.is_ipv4()) {
        subnets.entry(network((address, length))).or_default().push(address);
    }
    subnets.into_values().filter(|all| all.len() > 1).map(|all| all[0])
}
