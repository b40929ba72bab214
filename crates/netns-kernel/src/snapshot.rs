//! Reads the objects in a namespace that are relevant to the agent. Never writes.

use super::{
    address, address_routes, bridge,
    ethtool::{Checksum, EthtoolSocket},
    link, neighbour,
    netlink::{Refusal, RouteSocket},
    operation::{LinkState, Snapshot},
};

/// Reads the namespace in which the sockets were opened.
///
/// The dumps run one after the other, because the kernel rejects a second dump in the same send with EBUSY. `other_routes` is
/// passed on to [`address_routes::dump`].
pub(super) fn read(route_socket: &mut RouteSocket, ethtool: &EthtoolSocket, other_routes: &mut usize) -> Result<Snapshot, Refusal> {
    let mut links = link::dump(route_socket)?;
    links.iter_mut().for_each(|link| read_offloads(link, ethtool));
    let bridge_vlans = bridge::dump(route_socket, &links)?;
    let addresses = address::dump(route_socket)?;
    let routes = address_routes::dump(route_socket, &addresses, other_routes)?;
    Ok(Snapshot {
        links,
        bridge_vlans,
        addresses,
        routes: routes.own,
        address_routes: routes.of_addresses,
        neighbours: neighbour::dump(route_socket)?,
    })
}

/// Reads whether checksum offloading of a link is on. Skips links without a kind or an alias, because the agent does not manage
/// them.
///
/// Leaves the state unset if the link disappears in the meantime.
fn read_offloads(link: &mut LinkState, ethtool: &EthtoolSocket) {
    if !link.kind.is_empty() && !link.alias.is_empty() {
        link.rx_checksum = ethtool.get(&link.name, Checksum::Rx).ok();
        link.tx_checksum = ethtool.get(&link.name, Checksum::Tx).ok();
    }
}
