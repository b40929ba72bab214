//! Parsing and printing of IP addresses, MAC addresses and references to allocated addresses.
//!
//! This module defines the accepted syntax and the canonical form of addresses and references. [`crate::validation`] decides whether an address is
//! allowed in a field.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

/// Error returned for text that cannot be parsed. The message repeats the text and shows the accepted syntax.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum AddressError {
    /// The text is neither an IP address nor an IP address with a prefix length.
    #[error("`{0}` is not an IP address; valid examples are 10.0.0.1, 10.0.0.1/24 and 2001:db8::1/64")]
    NotAnAddress(String),
    /// The address is valid, but the prefix length is not.
    #[error("`{text}` has an invalid prefix length; expected a number from 0 to {max} after the slash")]
    PrefixLength {
        /// Address and prefix length, as written.
        text: String,
        /// Largest prefix length: 32 for IPv4, 128 for IPv6.
        max: u8,
    },
    /// The text is an IPv4-mapped IPv6 address. The kernel does not treat such an address as the IPv4 address that it contains.
    #[error("`{0}` is an IPv4-mapped IPv6 address; write it as an IPv4 address")]
    Ipv4Mapped(String),
    /// The text is not six hexadecimal octets.
    #[error("`{0}` is not a MAC address; expected six octets such as 02:00:5e:10:00:01 or 02-00-5e-10-00-01")]
    NotAMac(String),
    /// The text is not a reference to an allocated address.
    #[error("`{0}` is not a reference to an allocated address; expected alloc:<network>[/<interface>][/GW]")]
    NotAReference(String),
    /// The reference to an allocated address has no network name.
    #[error("address allocation reference with empty network name: {0}")]
    ReferenceWithoutNetwork(String),
    /// The reference names an interface that differs from the interface of the value.
    #[error("expected different interface name in the address allocation reference: {text} (expected={expected} vs. actual={actual})")]
    ReferenceToOtherInterface {
        /// Reference, as written.
        text: String,
        /// Interface of the value that contains the reference.
        expected: String,
        /// Interface that the reference names.
        actual: String,
    },
    /// The reference has no interface name, but the field requires one.
    #[error("missing interface name in the address allocation reference: {0}")]
    ReferenceWithoutInterface(String),
}

/// IP address with a prefix length.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct IpPrefix {
    /// Address, including its host bits.
    pub address: IpAddr,
    /// Prefix length in bits: 0 to 32 for IPv4, 0 to 128 for IPv6.
    pub prefix_len: u8,
    /// `true` if the text contained a prefix length. If `false`, the text was a single address, and `prefix_len` is 32 or 128.
    pub had_mask: bool,
}

impl IpPrefix {
    /// Returns the network address, in which all host bits are zero.
    pub fn network(&self) -> IpAddr {
        network_of(self.address, self.prefix_len)
    }

    /// Returns `true` if `address` is in this network. Always `false` if the IP versions differ.
    pub fn contains(&self, address: IpAddr) -> bool {
        contains(self.address, self.prefix_len, address)
    }
}

impl fmt::Display for IpPrefix {
    /// Writes the canonical text, always with a prefix length: `10.0.0.1/24`, `2001:db8::1/128`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix_len)
    }
}

impl FromStr for IpPrefix {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse_ip_or_cidr(text)
    }
}

/// Returns the length of `address` in bits: 32 or 128.
pub fn address_bits(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// Parses an address with or without `/<prefix length>`.
///
/// # Errors
/// Fails if the address or the prefix length is invalid, or if the address is an IPv4-mapped IPv6 address.
pub fn parse_ip_or_cidr(text: &str) -> Result<IpPrefix, AddressError> {
    let Some((address, length)) = text.split_once('/') else {
        let address = parse_ip(text)?;
        return Ok(IpPrefix {
            address,
            prefix_len: address_bits(address),
            had_mask: false,
        });
    };
    let address = parse_ip(address).map_err(|error| match error {
        AddressError::NotAnAddress(_) => AddressError::NotAnAddress(text.to_owned()),
        other => other,
    })?;
    let max = address_bits(address);
    let prefix_len = parse_prefix_len(length).filter(|len| *len <= max);
    let prefix_len = prefix_len.ok_or_else(|| AddressError::PrefixLength {
        text: text.to_owned(),
        max,
    })?;
    Ok(IpPrefix {
        address,
        prefix_len,
        had_mask: true,
    })
}

/// Parses an address without a prefix length.
///
/// # Errors
/// Fails if the text is not an address, or if it is an IPv4-mapped IPv6 address.
pub fn parse_ip(text: &str) -> Result<IpAddr, AddressError> {
    match text.parse::<IpAddr>() {
        Ok(IpAddr::V6(address)) if address.to_ipv4_mapped().is_some() => Err(AddressError::Ipv4Mapped(text.to_owned())),
        Ok(address) => Ok(address),
        Err(_) => Err(AddressError::NotAnAddress(text.to_owned())),
    }
}

/// Parses a prefix length of decimal digits only. `u8::from_str` would also accept a plus sign.
fn parse_prefix_len(text: &str) -> Option<u8> {
    let digits = !text.is_empty() && text.len() <= 3 && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

/// Returns `address` with all host bits cleared. Prefix lengths above the maximum of the address family are treated as the maximum.
pub fn network_of(address: IpAddr, prefix_len: u8) -> IpAddr {
    match address {
        IpAddr::V4(address) => {
            let host_bits = 32u32.saturating_sub(u32::from(prefix_len));
            IpAddr::V4(Ipv4Addr::from_bits(
                address.to_bits() & u32::MAX.checked_shl(host_bits).unwrap_or(0),
            ))
        }
        IpAddr::V6(address) => {
            let host_bits = 128u32.saturating_sub(u32::from(prefix_len));
            IpAddr::V6(Ipv6Addr::from_bits(
                address.to_bits() & u128::MAX.checked_shl(host_bits).unwrap_or(0),
            ))
        }
    }
}

/// Returns `true` if `address` is in the network `network/prefix_len`. Always `false` if the IP versions differ.
pub fn contains(network: IpAddr, prefix_len: u8, address: IpAddr) -> bool {
    network.is_ipv4() == address.is_ipv4() && network_of(network, prefix_len) == network_of(address, prefix_len)
}

/// Returns the canonical text of an address: lower case and in the shortest form (RFC 5952).
///
/// The result has a prefix length only if `text` has one.
///
/// # Errors
/// Returns the errors of [`parse_ip_or_cidr`].
pub fn canonical_text(text: &str) -> Result<String, AddressError> {
    let parsed = parse_ip_or_cidr(text)?;
    Ok(if parsed.had_mask {
        parsed.to_string()
    } else {
        parsed.address.to_string()
    })
}

/// MAC address (EUI-48).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MacAddress(pub [u8; 6]);

impl MacAddress {
    /// Returns true for a multicast or broadcast address, which has the group bit set. The kernel does not accept it as the address of an interface.
    pub fn is_multicast(&self) -> bool {
        self.0[0] & 1 == 1
    }

    /// Returns true if all octets are zero.
    pub fn is_zero(&self) -> bool {
        self.0 == [0; 6]
    }
}

impl FromStr for MacAddress {
    type Err = AddressError;

    /// Parses six octets of two hexadecimal digits each, in upper or lower case. The separators are either all `:` or all `-`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || AddressError::NotAMac(text.to_owned());
        let separator = if text.contains('-') { '-' } else { ':' };
        let mut octets = [0; 6];
        let mut parts = text.split(separator);
        for octet in &mut octets {
            let part = parts
                .next()
                .filter(|part| part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_hexdigit()));
            *octet = part.and_then(|part| u8::from_str_radix(part, 16).ok()).ok_or_else(error)?;
        }
        if parts.next().is_some() {
            return Err(error());
        }
        Ok(Self(octets))
    }
}

impl fmt::Display for MacAddress {
    /// Writes lower-case octets separated by colons.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Prefix of every reference to an allocated address.
pub const ALLOC_PREFIX: &str = "alloc:";

/// Returns true if `text` has the prefix of a reference to an allocated address.
pub fn is_alloc_reference(text: &str) -> bool {
    text.starts_with(ALLOC_PREFIX)
}

/// Reference to an allocated address: `alloc:<network>[/<interface>][/GW]`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct AllocReference {
    /// Network name.
    pub network: String,
    /// Logical name of the interface, if the reference contains one.
    pub interface: Option<String>,
    /// `true` if the reference means the gateway of the allocation, `false` if it means the allocated address.
    pub gateway: bool,
}

impl AllocReference {
    /// Returns the interface that the reference names, or `own_interface` if the reference names no interface.
    ///
    /// `own_interface` is the interface of the value that contains the reference, or `None` if the reference must name an interface.
    ///
    /// # Errors
    /// Fails if the reference names an interface other than `own_interface`, or if it names no interface and
    /// `own_interface` is `None`.
    pub fn resolve_interface(&self, own_interface: Option<&str>) -> Result<String, AddressError> {
        match (&self.interface, own_interface) {
            (Some(actual), Some(expected)) if actual != expected => Err(AddressError::ReferenceToOtherInterface {
                text: self.to_string(),
                expected: expected.to_owned(),
                actual: actual.clone(),
            }),
            (Some(name), _) => Ok(name.clone()),
            (None, Some(name)) => Ok(name.to_owned()),
            (None, None) => Err(AddressError::ReferenceWithoutInterface(self.to_string())),
        }
    }
}

impl FromStr for AllocReference {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let rest = text
            .strip_prefix(ALLOC_PREFIX)
            .ok_or_else(|| AddressError::NotAReference(text.to_owned()))?;
        let (rest, gateway) = rest.strip_suffix("/GW").map_or((rest, false), |rest| (rest, true));
        let (network, interface) = rest
            .split_once('/')
            .map_or((rest, None), |(network, interface)| (network, Some(interface)));
        if network.is_empty() {
            return Err(AddressError::ReferenceWithoutNetwork(text.to_owned()));
        }
        if interface.is_some_and(str::is_empty) {
            return Err(AddressError::NotAReference(text.to_owned()));
        }
        Ok(Self {
            network: network.to_owned(),
            interface: interface.map(str::to_owned),
            gateway,
        })
    }
}

impl fmt::Display for AllocReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{ALLOC_PREFIX}{}", self.network)?;
        if let Some(interface) = &self.interface {
            write!(f, "/{interface}")?;
        }
        if self.gateway { f.write_str("/GW") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn canonical_text_is_shortest_form_and_keeps_the_prefix_length() {
        for (text, canonical) in [
            ("10.0.0.7/8", "10.0.0.7/8"),
            ("10.0.0.1", "10.0.0.1"),
            ("2001:DB8:0::1/064", "2001:db8::1/64"),
            ("2001:0db8:0000:0000:0001::", "2001:db8:0:0:1::"),
            ("0.0.0.0/0", "0.0.0.0/0"),
        ] {
            assert_eq!(canonical_text(text).as_deref(), Ok(canonical), "{text}");
        }
    }

    #[test]
    fn invalid_addresses_are_rejected() {
        for text in [
            "",
            "/",
            "10.0.0.1/",
            "10.0.0.1/33",
            "10.0.0.1/+8",
            "10.0.0.01",
            "::1/129",
            "10.0.0",
            "a/b",
            "::ffff:10.0.0.1",
            "fe80::1%eth0",
        ] {
            assert!(parse_ip_or_cidr(text).is_err(), "{text}");
        }
    }

    #[test]
    fn network_clears_the_host_bits() {
        let network = |text: &str| parse_ip_or_cidr(text).map(|prefix| prefix.network().to_string());
        assert_eq!(network("10.1.2.3/8").as_deref(), Ok("10.0.0.0"));
        assert_eq!(network("10.1.2.3/0").as_deref(), Ok("0.0.0.0"));
        assert_eq!(network("10.1.2.3").as_deref(), Ok("10.1.2.3"));
        assert_eq!(network("2001:db8::1/32").as_deref(), Ok("2001:db8::"));
        assert_eq!(network("2001:db8::1/0").as_deref(), Ok("::"));
    }

    #[test]
    fn network_contains_only_addresses_of_its_family() {
        let any = IpPrefix {
            address: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            prefix_len: 0,
            had_mask: true,
        };
        assert!(any.contains("192.0.2.1".parse().expect("constant")));
        assert!(!any.contains("2001:db8::1".parse().expect("constant")));
    }

    #[test]
    fn mac_address_is_parsed_with_either_separator_and_printed_with_colons() {
        for text in ["02:00:5E:10:00:01", "02-00-5e-10-00-01"] {
            assert_eq!(
                text.parse::<MacAddress>().map(|mac| mac.to_string()).as_deref(),
                Ok("02:00:5e:10:00:01")
            );
        }
        for text in [
            "",
            "02:00:5e:10:00",
            "02:00:5e:10:00:01:02",
            "02:00-5e:10:00:01",
            "2:0:5e:10:0:1",
            "02005e100001",
            "0g:00:5e:10:00:01",
            "+2:00:5e:10:00:01",
        ] {
            assert!(text.parse::<MacAddress>().is_err(), "{text}");
        }
    }

    #[test]
    fn reference_is_split_at_its_first_slash_without_the_gateway_suffix() {
        let parse = |text: &str| text.parse::<AllocReference>().map(|r| (r.network, r.interface, r.gateway));
        assert_eq!(parse("alloc:net1"), Ok(("net1".into(), None, false)));
        assert_eq!(parse("alloc:net1/a/b"), Ok(("net1".into(), Some("a/b".into()), false)));
        assert_eq!(parse("alloc:net1/GW"), Ok(("net1".into(), None, true)));
        assert_eq!(parse("alloc:net1/if1/GW"), Ok(("net1".into(), Some("if1".into()), true)));
        assert!(matches!(parse("alloc:"), Err(AddressError::ReferenceWithoutNetwork(_))));
        assert!(matches!(parse("alloc:/if1"), Err(AddressError::ReferenceWithoutNetwork(_))));
        assert!(matches!(parse("alloc:net1/"), Err(AddressError::NotAReference(_))));
        assert!(matches!(parse("net1"), Err(AddressError::NotAReference(_))));
    }

    #[test]
    fn reference_to_another_interface_is_rejected() {
        let full: AllocReference = "alloc:net1/if1".parse().expect("constant");
        let short: AllocReference = "alloc:net1".parse().expect("constant");
        assert_eq!(full.resolve_interface(Some("if1")).as_deref(), Ok("if1"));
        assert_eq!(full.resolve_interface(None).as_deref(), Ok("if1"));
        assert_eq!(short.resolve_interface(Some("if2")).as_deref(), Ok("if2"));
        assert!(matches!(
            full.resolve_interface(Some("if2")),
            Err(AddressError::ReferenceToOtherInterface { .. })
        ));
        assert!(matches!(
            short.resolve_interface(None),
            Err(AddressError::ReferenceWithoutInterface(_))
        ));
    }
}
