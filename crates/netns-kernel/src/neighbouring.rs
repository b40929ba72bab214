//! Sets and deletes neighbour entries.
//!
//! On links that do not support neighbour entries, the kernel accepts an entry but stores a different one. The agent rejects
//! such entries in advance. It reads each entry back after writing it, unless the kernel is known to store entries unchanged on
//! that link kind.

use std::net::IpAddr;

use nix::errno::Errno;

use super::{
    failure,
    link::show_mac,
    neighbour::{self, Entry},
    operation::{Failure, Reply},
    worker::{On, Worker, is_eexist},
};

impl Worker {
    /// Creates or replaces a permanent entry, and verifies that the kernel has stored it unchanged.
    pub(super) fn set_neighbour(&mut self, on: On<'_>, address: IpAddr, mac: [u8; 6], adopt: bool) -> Result<Reply, Failure> {
        let (netns, link, _) = on;
        let action = || format!("set neighbour {address} to {} on link \"{link}\"", show_mac(mac));
        let found = self.find(netns, link)?;
        if let Some(reason) = found.as_ref().and_then(|found| neighbour::unsupported(found, address)) {
            let place = self.place(netns);
            return Err(failure::unsupported(format!(
                "cannot {} in {place}: {reason}; put the entry on another interface, or delete it",
                action()
            )));
        }
        let made = self.on_enabled_link(on, address, action, |index| neighbour::set(index, address, mac, false));
        let reply = match is_eexist(&made) {
            true => self.replace_neighbour(on, address, mac, adopt, action)?,
            false => made.map(|()| Reply::Done)?,
        };
        if !found.as_ref().is_some_and(neighbour::is_kept_on) {
            self.check_neighbour(on, address, mac, action)?;
        }
        Ok(reply)
    }

    /// Replaces an existing entry. Fails if the entry is foreign and `adopt` is false.
    fn replace_neighbour(
        &mut self,
        on: On<'_>,
        address: IpAddr,
        mac: [u8; 6],
        adopt: bool,
        action: impl Fn() -> String,
    ) -> Result<Reply, Failure> {
        let (netns, ..) = on;
        let foreign = self.read_neighbour(on, address)?.filter(Entry::is_foreign);
        if let (Some(foreign), false) = (&foreign, adopt) {
            return Err(failure::foreign(format!(
                "cannot {} in {}: a foreign entry exists already ({}); delete it, or set `adopt` to take it over",
                action(),
                self.place(netns),
                foreign.describe()
            )));
        }
        let replaced = self.on_link(on, action, |index| neighbour::set(index, address, mac, true));
        replaced.map(|()| if foreign.is_some() { Reply::Adopted } else { Reply::Done })
    }

    /// Fails if the kernel has not stored the desired entry. Deletes the entry that the kernel has stored instead, unless that
    /// entry is foreign.
    fn check_neighbour(&mut self, on: On<'_>, address: IpAddr, mac: [u8; 6], action: impl Fn() -> String) -> Result<(), Failure> {
        let entry = self.read_neighbour(on, address)?;
        if entry.as_ref().is_some_and(|entry| entry.is_as_set(address, mac)) {
            return Ok(());
        }
        if !entry.as_ref().is_some_and(Entry::is_foreign) {
            self.delete_neighbour(on, address)?;
        }
        let instead = entry.map_or("the entry was missing when the agent read it back".to_owned(), |entry| {
            format!("the agent read back a different entry ({})", entry.describe())
        });
        let place = self.place(on.0);
        Err(failure::unsupported(format!(
            "cannot {} in {place}: the kernel accepted the entry, but {instead}; put the entry on another interface, or delete it",
            action()
        )))
    }

    fn read_neighbour(&mut self, on: On<'_>, address: IpAddr) -> Result<Option<Entry>, Failure> {
        let (netns, link, _) = on;
        let index = self.require(netns, link, "find")?.index;
        let pinned = self.namespaces.get_mut(netns)?;
        neighbour::find(&mut pinned.route, index, address)
            .map_err(|refusal| failure::refused(&format!("read neighbour {address} of link \"{link}\""), &pinned.place, &refusal))
    }

    /// Deletes an entry, if it exists.
    pub(super) fn delete_neighbour(&mut self, on: On<'_>, address: IpAddr) -> Result<(), Failure> {
        let action = || format!("delete neighbour {address} from link \"{}\"", on.1);
        self.remove(on, &[Errno::ENOENT, Errno::ESRCH], action, |index| {
            neighbour::delete(index, address)
        })
    }
}
