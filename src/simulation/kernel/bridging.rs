//! Bridges, bridge ports, VLANs and parent links in the simulated kernel.

use super::{EEXIST, ENETDOWN, Kernel, attributes, refused};
use netns_kernel::{BridgeVlan, CreateLink, Failure, KernelOp, LinkInfo, NetnsId};

/// The error number EOPNOTSUPP (errno(3)).
const EOPNOTSUPP: i32 = 95;
/// IFLA_BR_VLAN_DEFAULT_PVID, IFLA_VLAN_ID, IFLA_VLAN_PROTOCOL and IFLA_VLAN_FLAGS from linux/if_link.h.
const DEFAULT_PVID: u16 = 39;
const VLAN_ID: u16 = 1;
const VLAN_PROTOCOL: u16 = 5;
const VLAN_FLAGS: u16 = 2;
/// VLAN_FLAG_LOOSE_BINDING from linux/if_vlan.h.
const LOOSE_BINDING: u8 = 4;

impl Kernel {
    /// Checks that no other VLAN device on the same parent has the id and protocol of the new device.
    pub(super) fn check_vlan(&self, create: &CreateLink, parent: Option<(NetnsId, u32)>) -> Result<(), Failure> {
        if create.info.kind != "vlan" {
            return Ok(());
        }
        let requested = |number| {
            create
                .info
                .data
                .iter()
                .find(|attr| attr.number == number)
                .map(|attr| attr.value.as_slice())
        };
        let (id, protocol) = (requested(VLAN_ID), requested(VLAN_PROTOCOL).unwrap_or(&[0x81, 0]));
        let is_taken = self.parents.iter().any(|((netns, upper), below)| {
            let link = self
                .spaces
                .get(netns)
                .and_then(|space| space.links.iter().find(|link| link.index == *upper));
            let is_same = link.is_some_and(|link| link.attribute(VLAN_ID) == id && link.attribute(VLAN_PROTOCOL) == Some(protocol));
            Some(*below) == parent && is_same
        });
        match is_taken {
            true => Err(refused(EEXIST, "VLAN device already exists")),
            false => Ok(()),
        }
    }

    /// Checks that the parent of a VLAN device is up, unless its binding is loose.
    pub(super) fn check_up(&self, netns: NetnsId, index: u32) -> Result<(), Failure> {
        let below = self.parents.get(&(netns, index)).filter(|_| !self.is_loose(netns, index));
        let is_down = below.is_some_and(|(netns, below)| {
            let links = self.spaces.get(netns).map(|space| space.links.as_slice()).unwrap_or_default();
            links.iter().any(|link| link.index == *below && !link.up)
        });
        match is_down {
            true => Err(refused(ENETDOWN, "the parent is down")),
            false => Ok(()),
        }
    }

    fn is_loose(&self, netns: NetnsId, index: u32) -> bool {
        let link = self
            .spaces
            .get(&netns)
            .and_then(|space| space.links.iter().find(|link| link.index == index));
        let flags = link
            .and_then(|link| link.attribute(VLAN_FLAGS))
            .and_then(|flags| flags.first().copied());
        flags.unwrap_or_default() & LOOSE_BINDING != 0
    }

    /// Sets the VLAN devices on top of a link up or down together with the link, unless their binding is loose
    /// (`vlan_device_event` in net/8021q/vlan.c).
    pub(super) fn follow_parent(&mut self, netns: NetnsId, index: u32, up: bool) {
        let is_above = |upper: &&(NetnsId, u32)| self.parents.get(*upper) == Some(&(netns, index));
        let uppers: Vec<(NetnsId, u32)> = self.parents.keys().filter(is_above).copied().collect();
        for (netns, upper) in uppers {
            if !self.is_loose(netns, upper) {
                self.side_effects |= self.link_mut(netns, upper).up != up;
                self.set_up(netns, upper, up);
            }
        }
    }

    /// Returns the links that have the given link as their parent, with their namespaces.
    #[cfg(test)]
    pub fn above(&self, netns: NetnsId, name: &str) -> Vec<(NetnsId, String)> {
        let Some(below) = self.link(netns, name).map(|link| (netns, link.index)) else {
            return Vec::new();
        };
        let uppers = self.parents.iter().filter(|(_, parent)| **parent == below);
        let name = |(netns, index): &(NetnsId, u32)| {
            let link = self.spaces.get(netns)?.links.iter().find(|link| link.index == *index)?;
            Some((*netns, link.name.clone()))
        };
        uppers.filter_map(|(upper, _)| name(upper)).collect()
    }

    /// Gives a new port its default settings, and adds it to the default VLAN of its bridge.
    pub(super) fn begin_port(&mut self, netns: NetnsId, index: u32, master: Option<u32>) {
        self.space(netns).bridge_vlans.retain(|vlan| vlan.link != index);
        let device = master.map(|master| self.link_mut(netns, master).clone());
        let kind = device.as_ref().map(|device| device.kind.clone()).unwrap_or_default();
        attributes::begin_port(self.link_mut(netns, index), &kind);
        if let Some(vid) = device.filter(|_| kind == "bridge").and_then(|bridge| default_pvid(&bridge)) {
            self.space(netns).bridge_vlans.push(default_vlan(index, vid));
        }
    }

    /// Adds a new bridge device to its default VLAN.
    pub(super) fn begin_bridge(&mut self, netns: NetnsId, index: u32) {
        let bridge = self.link_mut(netns, index).clone();
        if let Some(vid) = default_pvid(&bridge).filter(|_| bridge.kind == "bridge") {
            self.space(netns).bridge_vlans.push(default_vlan(index, vid));
        }
    }

    pub(super) fn change_port(&mut self, netns: NetnsId, index: u32, port: &LinkInfo) -> Result<(), Failure> {
        let link = self.link_mut(netns, index);
        if link.port_kind != port.kind {
            return Err(refused(EOPNOTSUPP, format!("{} is not a port of a {}", link.name, port.kind)));
        }
        attributes::change_port(link, &port.data);
        Ok(())
    }

    pub(super) fn set_bridge_vlan(&mut self, op: &KernelOp) -> Result<(), Failure> {
        let KernelOp::SetBridgeVlan {
            netns,
            link: name,
            vlan,
            itself,
            present,
            ..
        } = op
        else {
            return Ok(());
        };
        let (netns, itself, present) = (*netns, *itself, *present);
        let Some(link) = self.link(netns, name).cloned() else {
            return if present { self.require(netns, name).map(drop) } else { Ok(()) };
        };
        let has_vlans = if itself {
            link.kind == "bridge"
        } else {
            link.port_kind == "bridge"
        };
        if !has_vlans {
            return if present {
                Err(refused(EOPNOTSUPP, format!("{name} has no VLANs")))
            } else {
                Ok(())
            };
        }
        let vlans = &mut self.space(netns).bridge_vlans;
        vlans.retain(|other| other.link != link.index || !(vlan.first..=vlan.last).contains(&other.first));
        if !present {
            return Ok(());
        }
        if vlan.pvid {
            let own = vlans.iter_mut().filter(|other| other.link == link.index);
            own.for_each(|other| other.pvid = false);
        }
        vlans.extend((vlan.first..=vlan.last).map(|vid| BridgeVlan {
            link: link.index,
            first: vid,
            last: vid,
            ..*vlan
        }));
        Ok(())
    }
}

fn default_pvid(bridge: &netns_kernel::LinkState) -> Option<u16> {
    let value: [u8; 2] = bridge.attribute(DEFAULT_PVID)?.try_into().ok()?;
    Some(u16::from_ne_bytes(value)).filter(|vid| *vid != 0)
}

fn default_vlan(link: u32, vid: u16) -> BridgeVlan {
    BridgeVlan {
        link,
        first: vid,
        last: vid,
        pvid: true,
        untagged: true,
    }
}
