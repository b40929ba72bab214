//! Reading a namespace: everything in it that matters to the agent.
//!
//! Owns the order and the filters of the dumps. Must never write. Start reading at [`read`].

use super::{
    address, address_routes, bridge,
    ethtool::{Checksum, EthtoolSocket},
    link, neighbour,
    netlink::{Refusal, RouteSocket},
    operation::{LinkState, Snapshot},
};

/// Reads the namespace of the sockets. One dump after the other: two in one send are refused with EBUSY. `other_routes`: see
/// [`address_routes::dump`].
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

/// Offload flags matter only for links that somebody made and manages, and these carry an alias. A link that vanishes meanwhile has
/// none.
fn read_offloads(link: &mut LinkState, ethtool: &EthtoolSocket) {
    if !link.kind.is_empty() && !link.alias.is_empty() {
        link.rx_checksum = ethtool.get(&link.name, Checksum::Rx).ok();
        link.tx_checksum = ethtool.get(&link.name, Checksum::Tx).ok();
    }
}
