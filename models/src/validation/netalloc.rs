//! Validates allocated addresses.

use super::{ValidationError, check_interface_name, name::check_name};
use crate::{address::parse_ip_or_cidr, proto::ligato::netalloc::IpAllocation};

pub(super) fn validate(allocation: &IpAllocation) -> Result<(), ValidationError> {
    check_name("network_name", &allocation.network_name)?;
    if allocation.network_name.contains('/') {
        let message = format!(
            "the network name `{}` contains a slash, which separates the parts of a reference; choose a name without slashes",
            allocation.network_name
        );
        return Err(ValidationError::new("NameInvalid", &["network_name"], message));
    }
    check_interface_name("interface_name", &allocation.interface_name)?;
    let address = parse_ip_or_cidr(&allocation.address).map_err(|error| ValidationError::address("address", &error))?;
    if allocation.gw.is_empty() {
        return Ok(());
    }
    let gateway = parse_ip_or_cidr(&allocation.gw).map_err(|error| ValidationError::address("gw", &error))?;
    if gateway.address.is_ipv4() != address.address.is_ipv4() {
        let message = format!(
            "the gateway {} and the address {} have different IP versions",
            gateway.address, address.address
        );
        return Err(ValidationError::new("FamilyMismatch", &["address", "gw"], message));
    }
    Ok(())
}
