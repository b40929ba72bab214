//! Links in the simulated kernel, and the side effects of changing them.

use super::{EEXIST, Kernel, attributes, foreign, guarded, refused};
use netns_kernel::{CreateLink, Failure, Guard, LinkChanges, LinkState, NetnsId, NewLink};

impl Kernel {
    /// Adds a foreign link that is up, and returns its index.
    pub fn add_foreign_link(&mut self, netns: NetnsId, name: &str, kind: &str) -> u32 {
        let index = self.add_link(netns, name, kind);
        self.link_mut(netns, index).up = true;
        self.foreign.insert((netns, index));
        index
    }

    fn add_link(&mut self, netns: NetnsId, name: &str, kind: &str) -> u32 {
        self.next_index += 1;
        let index = self.next_index;
        let veth = (kind == "veth").then_some(true);
        let [.., high, low] = index.to_be_bytes();
        let link = LinkState {
            index,
            name: name.to_owned(),
            kind: kind.to_owned(),
            mtu: if kind == "vrf" { 65575 } else { 1500 },
            mac: Some([0x4e, 0, 0, 0, high, low]),
            rx_checksum: veth,
            tx_checksum: veth,
            ..LinkState::default()
        };
        self.space(netns).links.push(link);
        attributes::begin(self.link_mut(netns, index));
        index
    }

    /// Connects two links as the ends of a veth pair.
    pub fn pair(&mut self, first: (NetnsId, u32), second: (NetnsId, u32)) {
        self.peers.extend([(first, second), (second, first)]);
    }

    fn add_new(&mut self, new: &NewLink, kind: &str) -> u32 {
        let index = self.add_link(new.netns, &new.name, kind);
        let link = self.link_mut(new.netns, index);
        link.group = new.group;
        link.mtu = new.mtu.unwrap_or(link.mtu);
        link.mac = new.mac.or(link.mac);
        index
    }

    /// Returns the links of a namespace, or no links if the namespace does not exist.
    fn space_of(&self, netns: NetnsId) -> impl Iterator<Item = &LinkState> {
        self.spaces.get(&netns).into_iter().flat_map(|space| &space.links)
    }

    fn check_free(&self, netns: NetnsId, name: &str) -> Result<(), Failure> {
        self.require(netns, "lo")?;
        match self.link(netns, name) {
            Some(link) if self.foreign.contains(&(netns, link.index)) => Err(foreign(format!("a foreign link {name} exists in {netns}"))),
            Some(_) => Err(refused(EEXIST, format!("link {name} exists in {netns}"))),
            None => Ok(()),
        }
    }

    pub(super) fn create_link(&mut self, create: &CreateLink) -> Result<(), Failure> {
        for end in create.ends() {
            self.check_free(end.netns, &end.name)?;
        }
        let parent = match &create.parent {
            Some((netns, name)) => Some((*netns, self.require(*netns, name)?.index)),
            None => None,
        };
        self.check_vlan(create, parent)?;
        let place = (create.end.netns, self.add_new(&create.end, create.info.kind));
        for attribute in &create.info.data {
            attributes::set(self.link_mut(place.0, place.1), attribute.number, &attribute.value);
        }
        self.begin_bridge(place.0, place.1);
        self.parents.extend(parent.map(|parent| (place, parent)));
        if let Some(peer) = &create.peer {
            if (peer.end.netns, &peer.end.name) == (create.end.netns, &create.end.name) {
                self.remove_link(place.0, place.1);
                return Err(refused(EEXIST, "both ends have the same name"));
            }
            let other = self.add_new(&peer.end, create.info.kind);
            self.pair(place, (peer.end.netns, other));
        }
        Ok(())
    }

    /// Sets the routing table of a foreign VRF device.
    pub fn set_vrf_table(&mut self, netns: NetnsId, index: u32, table: u32) {
        attributes::set(self.link_mut(netns, index), 1, &table.to_ne_bytes());
    }

    pub(super) fn set_link(&mut self, netns: NetnsId, name: &str, guard: &Guard, changes: &LinkChanges) -> Result<(), Failure> {
        if changes.only_releases() && self.link(netns, name).is_none() {
            return Ok(());
        }
        let found = self.require(netns, name)?;
        guarded(guard, &found)?;
        let (netns, index) = self.relocate(netns, &found, changes)?;
        let master = match &changes.master {
            None => None,
            Some(None) => Some(None),
            Some(Some(master)) => Some(Some(self.require(netns, master)?.index)),
        };
        self.side_effects |= changes.rename.is_some();
        let was_up = self.link_mut(netns, index).up;
        let link = self.link_mut(netns, index);
        link.rx_checksum = changes.rx_checksum.or(link.rx_checksum);
        link.tx_checksum = changes.tx_checksum.or(link.tx_checksum);
        link.mtu = changes.mtu.unwrap_or(link.mtu);
        link.group = changes.group.unwrap_or(link.group);
        if let Some(info) = &changes.info {
            attributes::change(link, &info.data);
        }
        if let Some(alias) = &changes.alias {
            link.alias.clone_from(alias);
        }
        if let Some(mac) = changes.mac {
            self.set_mac(netns, index, mac);
        }
        if let Some(master) = master {
            self.set_master(netns, index, master);
        }
        if let Some(port) = &changes.port {
            self.change_port(netns, index, port)?;
        }
        let up = changes.up.unwrap_or(was_up);
        if up && !was_up {
            self.check_up(netns, index)?;
        }
        self.set_up(netns, index, up);
        Ok(())
    }

    /// Renames or moves a link. A link that is up is first set down, which deletes its routes and neighbours, and then set up
    /// again.
    fn relocate(&mut self, netns: NetnsId, found: &LinkState, changes: &LinkChanges) -> Result<(NetnsId, u32), Failure> {
        let name = changes.rename.clone().unwrap_or_else(|| found.name.clone());
        let target = changes.move_to.unwrap_or(netns);
        if (target, &name) == (netns, &found.name) {
            return Ok((netns, found.index));
        }
        self.check_free(target, &name)?;
        self.set_up(netns, found.index, false);
        if target != netns {
            self.set_master(netns, found.index, None);
            let space = self.space(netns);
            space.addresses.retain(|address| address.link != found.index);
            let position = space.links.iter().position(|link| link.index == found.index).expect("it was found");
            let mut link = space.links.remove(position);
            self.next_index += 1;
            link.index = self.next_index;
            if let Some(peer) = self.peers.remove(&(netns, found.index)) {
                self.pair((target, link.index), peer);
            }
            self.move_in_parents((netns, found.index), (target, link.index));
            let index = link.index;
            self.space(target).links.push(link);
            return self.finish_relocation(target, index, name, found.up);
        }
        self.finish_relocation(netns, found.index, name, found.up)
    }

    /// Updates `parents` after a link was moved, for the link itself and for the links on top of it.
    fn move_in_parents(&mut self, from: (NetnsId, u32), to: (NetnsId, u32)) {
        if let Some(parent) = self.parents.remove(&from) {
            self.parents.insert(to, parent);
        }
        self.parents
            .values_mut()
            .filter(|parent| **parent == from)
            .for_each(|parent| *parent = to);
    }

    fn finish_relocation(&mut self, netns: NetnsId, index: u32, name: String, up: bool) -> Result<(NetnsId, u32), Failure> {
        self.link_mut(netns, index).name = name;
        self.set_up(netns, index, up);
        Ok((netns, index))
    }

    /// Sets the MAC address of a link. If the address changes, all neighbours on the link are deleted, including permanent ones
    /// (`neigh_changeaddr`).
    pub fn set_mac(&mut self, netns: NetnsId, index: u32, mac: [u8; 6]) {
        let link = self.link_mut(netns, index);
        if link.mac != Some(mac) {
            link.mac = Some(mac);
            self.space(netns).neighbours.retain(|entry| entry.link != index);
        }
    }

    /// Sets a link up or down. A link that is taken down loses its routes, its neighbours and its IPv6 addresses.
    pub fn set_up(&mut self, netns: NetnsId, index: u32, up: bool) {
        let link = self.link_mut(netns, index);
        let (goes_down, comes_up) = (link.up && !up, up && !link.up);
        link.up = up;
        if comes_up {
            self.restore_all_routes(netns, index);
        }
        if goes_down {
            self.flush_layer3(netns, index);
            self.flush_ipv6(netns, index);
        }
        if goes_down || comes_up {
            self.follow_parent(netns, index, up);
        }
    }

    /// Sets the master of a link. If the link enters or leaves a VRF (but not a bridge), it is set down and up again and loses
    /// its IPv6 addresses.
    pub fn set_master(&mut self, netns: NetnsId, index: u32, master: Option<u32>) {
        let link = self.link_mut(netns, index);
        if link.master == master {
            return;
        }
        let before = link.master;
        link.master = master;
        self.begin_port(netns, index, master);
        let is_vrf =
            |index: Option<u32>| index.is_some_and(|index| self.space_of(netns).any(|link| link.index == index && link.kind == "vrf"));
        if !is_vrf(before) && !is_vrf(master) {
            return;
        }
        if self.link_mut(netns, index).up {
            self.flush_layer3(netns, index);
            self.restore_all_routes(netns, index);
        }
        self.flush_ipv6(netns, index);
    }

    pub(super) fn delete_link(&mut self, netns: NetnsId, name: &str, guard: &Guard) -> Result<(), Failure> {
        let Some(found) = self.link(netns, name).cloned() else {
            return Ok(());
        };
        guarded(guard, &found)?;
        self.remove_link(netns, found.index);
        Ok(())
    }

    /// Deletes a link together with everything on it, its peer, and the links on top of it. Its ports lose their master.
    pub fn remove_link(&mut self, netns: NetnsId, index: u32) {
        let slaves: Vec<u32> = self
            .space(netns)
            .links
            .iter()
            .filter(|link| link.master == Some(index))
            .map(|link| link.index)
            .collect();
        for slave in slaves {
            self.set_master(netns, slave, None);
        }
        self.flush_layer3(netns, index);
        self.restore_all_routes(netns, index);
        let space = self.space(netns);
        space.addresses.retain(|address| address.link != index);
        space.bridge_vlans.retain(|vlan| vlan.link != index);
        space.links.retain(|link| link.index != index);
        if let Some(peer) = self.peers.remove(&(netns, index)) {
            self.peers.remove(&peer);
            self.remove_link(peer.0, peer.1);
        }
        self.parents.remove(&(netns, index));
        let is_below = |upper: &&(NetnsId, u32)| self.parents.get(*upper) == Some(&(netns, index));
        let uppers: Vec<(NetnsId, u32)> = self.parents.keys().filter(is_below).copied().collect();
        for (netns, upper) in uppers {
            self.remove_link(netns, upper);
        }
    }
}
