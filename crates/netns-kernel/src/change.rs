//! Changes the name, namespace, master, offloads and other properties of a link.
//!
//! Checks the guard before the first change. If the kernel refuses to rename or move a link, the link stays unchanged.

use nix::errno::Errno;

use super::{
    ethtool::Checksum,
    failure,
    link::{self, LinkRequest},
    operation::{ADOPTED_MARK, Failure, Guard, LinkChanges, LinkState, NetnsId, Reply},
    worker::{Worker, foreign, missing},
};

impl Worker {
    /// Performs a [`super::KernelOp::SetLink`].
    pub(super) fn set_link(&mut self, netns: NetnsId, name: &str, guard: &Guard, changes: &LinkChanges) -> Result<Reply, Failure> {
        if changes.only_releases() && (!self.namespaces.contains(netns) || self.find(netns, name)?.is_none()) {
            return Ok(Reply::Done);
        }
        let mut found = self.require(netns, name, "change")?;
        if !link::guard(guard, &found) {
            return Err(foreign("change", &found, &self.namespaces.get_mut(netns)?.place));
        }
        let mut changes = changes.clone();
        let adopted = found.alias.strip_suffix(ADOPTED_MARK).map(str::to_owned);
        if let Some(info) = changes.info.as_mut().filter(|_| changes.alias.is_some()) {
            // The request contains all settings of the link kind if the link may have been adopted. Drop the settings that
            // already have the desired value, because a kernel without support for one of them refuses the whole request.
            self.links.remove(&(netns, name.to_owned()));
            found = self.require(netns, name, "change")?;
            info.data.retain(|attr| found.attribute(attr.number) != Some(&attr.value));
        }
        changes.info = changes.info.filter(|info| !info.data.is_empty());
        // Leave the alias unchanged if it differs from the desired alias only by the adoption mark.
        changes.alias = changes.alias.filter(|alias| adopted.as_ref() != Some(alias));
        let reply = if adopted.is_some() && changes.alias.is_none() {
            Reply::Adopted
        } else {
            Reply::Done
        };
        let (netns, found) = self.relocate(netns, found, &mut changes)?;
        let master = match &changes.master {
            None => None,
            Some(None) => Some(0),
            Some(Some(master)) => Some(self.require(netns, master, "use as master")?.index),
        };
        let pinned = self.namespaces.get_mut(netns)?;
        for (direction, on) in [(Checksum::Rx, changes.rx_checksum), (Checksum::Tx, changes.tx_checksum)] {
            if let Some(on) = on {
                pinned.ethtool.set(&found.name, direction, on).map_err(|error| {
                    let switch = if on { "on" } else { "off" };
                    let action = format!("switch {direction:?} checksum offloading of link \"{}\" {switch}", found.name);
                    failure::refused(&action, &pinned.place, &error.into())
                })?;
            }
        }
        let request = LinkRequest {
            mac: changes.mac,
            mtu: changes.mtu,
            group: changes.group,
            alias: changes.alias,
            master,
            info: changes.info,
            port: changes.port,
            up: changes.up,
            ..LinkRequest::default()
        };
        self.apply(netns, &found, request).map(|()| reply)
    }

    /// Renames and moves the link as desired. Returns the new namespace and state of the link.
    ///
    /// If the link had to be set down, sets `changes.up`, so that a later request sets the link up again.
    fn relocate(&mut self, netns: NetnsId, found: LinkState, changes: &mut LinkChanges) -> Result<(NetnsId, LinkState), Failure> {
        let rename = changes.rename.take().filter(|to| *to != found.name);
        let move_to = changes.move_to.take().filter(|to| *to != netns);
        if rename.is_none() && move_to.is_none() {
            return Ok((netns, found));
        }
        let target = move_to.unwrap_or(netns);
        let name = rename.clone().unwrap_or_else(|| found.name.clone());
        let verb = if move_to.is_some() { "move" } else { "rename" };
        let action = format!("{verb} link \"{}\" to \"{name}\"", found.name);
        let there = &self.namespaces.get_mut(target)?.place.clone();
        let descriptor = self.namespaces.descriptor(target)?;
        // Check that the name is free before the move. Otherwise, the kernel would move the link and refuse the new name only
        // afterwards.
        if let Some(other) = self.find(target, &name)? {
            let ours = link::mark(&other).is_some_and(|mark| link::mark(&found) == Some(mark));
            let blame = if ours { failure::exists } else { failure::foreign };
            let other = link::describe(&other);
            return Err(blame(format!(
                "cannot {action}: {there} already has a link with that name ({other}); delete or rename that link"
            )));
        }
        self.links.remove(&(netns, found.name.clone()));
        let pinned = self.namespaces.get_mut(netns)?;
        let set_up = |up| {
            LinkRequest {
                up: Some(up),
                ..LinkRequest::default()
            }
            .message(found.index)
        };
        let relocation = LinkRequest {
            rename,
            move_to: move_to.map(|_| descriptor),
            ..LinkRequest::default()
        };
        if let (true, None, Some(to)) = (found.up, move_to, &relocation.rename) {
            // Since Linux 6.2, the kernel can rename a link that is up. The link then keeps its routes and IPv6 addresses.
            let (message, flags) = relocation.clone().message(found.index);
            match pinned.route.change(message, flags) {
                Ok(()) => return Ok((netns, LinkState { name: to.clone(), ..found })),
                Err(refusal) if refusal.is(Errno::EBUSY) => {}
                Err(refusal) => return Err(failure::refused(&action, &pinned.place, &refusal)),
            }
        }
        let mut requests = vec![relocation.message(found.index)];
        if found.up {
            requests.insert(0, set_up(false));
        }
        if let Some(Err(refusal)) = pinned.route.exchange(requests).into_iter().find(Result::is_err) {
            if found.up {
                // Set the link up again. Report the earlier refusal even if this request fails as well.
                let (message, flags) = set_up(true);
                let _ = pinned.route.change(message, flags);
            }
            return Err(failure::refused(&action, &pinned.place, &refusal));
        }
        if found.up {
            changes.up.get_or_insert(true);
        }
        // The link can have a different index in the new namespace.
        let relocated = if move_to.is_some() {
            self.require(target, &name, "find")?
        } else {
            LinkState { name, up: false, ..found }
        };
        Ok((target, relocated))
    }

    /// Sends all changes in one request.
    ///
    /// If the kernel refuses the request, sends the changes one by one to find the property that the kernel refuses.
    fn apply(&mut self, netns: NetnsId, found: &LinkState, request: LinkRequest) -> Result<(), Failure> {
        let name = found.name.clone();
        if request == LinkRequest::default() {
            self.links.insert((netns, name), found.clone());
            return Ok(());
        }
        let pinned = self.namespaces.get_mut(netns)?;
        let (message, flags) = request.clone().message(found.index);
        if let Err(refusal) = pinned.route.change(message, flags) {
            self.links.remove(&(netns, name));
            for (what, part) in request.split() {
                let (message, flags) = part.message(found.index);
                pinned.route.change(message, flags).map_err(|refusal| {
                    let action = format!("change link \"{}\" ({what})", found.name);
                    failure::refused(&action, &pinned.place, &refusal)
                })?;
            }
            // All changes succeeded when they were sent one by one, so the refusal was temporary. The exception is ENODEV, which
            // means that the link no longer exists.
            return if refusal.is(Errno::ENODEV) {
                Err(missing(&format!("change link \"{}\"", found.name), &found.name, &pinned.place))
            } else {
                Ok(())
            };
        }
        let mut changed = found.clone();
        changed.alias = request.alias.unwrap_or(changed.alias);
        changed.group = request.group.unwrap_or(changed.group);
        changed.up = request.up.unwrap_or(changed.up);
        self.links.insert((netns, name), changed);
        Ok(())
    }
}
