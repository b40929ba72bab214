//! Creates links, and explains why a link cannot be created.
//!
//! Chooses the socket through which the request is sent. Does not change existing links; see [`Worker::adopt`] for adoption.

use nix::errno::Errno;

use super::{
    failure,
    link::{self, LinkRequest},
    netlink::{Refusal, RouteSocket},
    operation::{CreateLink, Failure, FailureKind, LinkInfo, NetnsId, NewLink, provisional_group},
    sysctl,
    worker::Worker,
};

impl Worker {
    pub(super) fn create_link(&mut self, create: &CreateLink) -> Result<(), Failure> {
        let places = self.places_of(create)?;
        let (message, flags) = link::create(create, &places);
        let Err(refusal) = self.sender(create)?.change(message, flags) else {
            return Ok(());
        };
        if refusal.is(Errno::EEXIST) && create.parent.is_some() && !self.is_in_the_way(&create.end)? {
            return self.create_under_another_name(create, &places, &refusal);
        }
        let failure = self.creation_failure(create, &refusal);
        match refusal.is(Errno::EEXIST) {
            true => self.adopt(create, failure),
            false => Err(failure),
        }
    }

    /// Returns the namespace descriptors and the parent's index for a creation request. Also removes all links with the new
    /// names from the cache.
    pub(super) fn places_of(&mut self, create: &CreateLink) -> Result<link::Places, Failure> {
        for end in create.ends() {
            self.links.remove(&(end.netns, end.name.clone()));
        }
        let peer = match &create.peer {
            Some(peer) => Some(self.namespaces.descriptor(peer.end.netns)?),
            None => None,
        };
        let parent = match &create.parent {
            Some((netns, name)) => Some(self.require(*netns, name, "find the parent")?.index),
            None => None,
        };
        Ok(link::Places {
            end: self.namespaces.descriptor(create.end.netns)?,
            peer,
            parent,
        })
    }

    /// Returns the socket through which a creation request is sent.
    ///
    /// The kernel looks up the parent in the namespace of the socket, so a link with a parent is created through a socket in the
    /// parent's namespace. All other links are created through the creation socket.
    fn sender(&mut self, create: &CreateLink) -> Result<&mut RouteSocket, Failure> {
        match &create.parent {
            Some((netns, _)) => Ok(&mut self.namespaces.get_mut(*netns)?.route),
            None => Ok(&mut self.creation_socket),
        }
    }

    /// Returns whether an existing link in the namespace has the name of the new link as its kernel name or as an alternative
    /// name.
    fn is_in_the_way(&mut self, new: &NewLink) -> Result<bool, Failure> {
        if self.find(new.netns, &new.name)?.is_some() {
            return Ok(true);
        }
        let pinned = self.namespaces.get_mut(new.netns)?;
        Ok(link::find_by_alternative_name(&mut pinned.route, &new.name).is_ok_and(|holder| holder.is_some()))
    }

    /// Creates a link under a temporary name, then renames it in its namespace.
    ///
    /// Before Linux 6.15, the kernel also looks up the new name in the namespace of the sending socket, and refuses to create the
    /// link if an unrelated link in that namespace has the name.
    fn create_under_another_name(&mut self, create: &CreateLink, places: &link::Places, refusal: &Refusal) -> Result<(), Failure> {
        let mut other = create.clone();
        other.end.name = format!("na-{:08x}", provisional_group(&format!("{}{}", create.end.netns, create.end.name)));
        let (message, flags) = link::create(&other, places);
        if self.sender(create)?.change(message, flags).is_err() {
            // The creation fails under another name as well, so report the first refusal.
            return Err(self.creation_failure(create, refusal));
        }
        let found = self.require(create.end.netns, &other.end.name, "find the newly created")?;
        self.links.remove(&(create.end.netns, other.end.name));
        let rename = LinkRequest {
            rename: Some(create.end.name.clone()),
            ..LinkRequest::default()
        };
        let pinned = self.namespaces.get_mut(create.end.netns)?;
        let (message, flags) = rename.message(found.index);
        pinned.route.change(message, flags).map_err(|refusal| {
            let action = format!("rename the new link \"{}\" to \"{}\"", found.name, create.end.name);
            failure::refused(&action, &pinned.place, &refusal)
        })
    }

    /// Sets a sysctl. Ignores a sysctl that the kernel does not have, because the operation that needs it fails later and reports
    /// the problem.
    pub(super) fn ensure_sysctl(&mut self, netns: NetnsId, name: &str, value: &'static str) -> Result<(), Failure> {
        match self.namespaces.ensure_sysctl(netns, sysctl::path(name), value) {
            Err(refusal) if !refusal.is(Errno::ENOENT) => {
                let place = &self.namespaces.get_mut(netns)?.place;
                Err(failure::refused(&format!("set sysctl {name} to {value}"), place, &refusal))
            }
            _ => Ok(()),
        }
    }

    /// Returns the error for a refused creation. The message names the missing kernel module or the conflicting link if that is
    /// the cause.
    fn creation_failure(&mut self, create: &CreateLink, refusal: &Refusal) -> Failure {
        let LinkInfo { kind, module, .. } = &create.info;
        let action = match &create.peer {
            Some(peer) => format!("create {kind} pair \"{}\" and \"{}\"", create.end.name, peer.end.name),
            None => format!("create link \"{}\" of kind {kind}", create.end.name),
        };
        // Newer kernels send this text for an unknown link kind, and older kernels send no text. Any other text describes a
        // property of the link.
        let unknown_kind = refusal.text.as_ref().is_none_or(|text| text.contains("Unknown device type"));
        if refusal.is(Errno::EOPNOTSUPP) && unknown_kind {
            let place = self.place(create.end.netns);
            return Failure {
                kind: FailureKind::KindMissing,
                errno: Some(refusal.errno),
                kernel_text: failure::kernel_text(refusal),
                message: format!(
                    "cannot {action} in {place}: the kernel does not know link kind \"{kind}\": load the kernel module (modprobe \
                     {module}); {}",
                    failure::kernel_words(refusal)
                ),
            };
        }
        if refusal.is(Errno::EEXIST) {
            for new in create.ends() {
                if let Ok(Some(found)) = self.find(new.netns, &new.name) {
                    let there = format!(
                        "{} already has a link \"{}\" ({})",
                        self.place(new.netns),
                        new.name,
                        link::describe(&found)
                    );
                    return match link::is_of_same_agent(&found, new) {
                        true => failure::exists(format!("cannot {action}: {there}, which belongs to this agent")),
                        false => failure::foreign(format!(
                            "cannot {action}: {there}; rename or delete that link, choose another name, or set `adopt` to take it over"
                        )),
                    };
                }
            }
        }
        self.alternative_name_in_the_way(&action, create, refusal)
            .unwrap_or_else(|| failure::refused(&action, &self.place(create.end.netns), refusal))
    }

    /// Returns the error to report if an existing link has the new name as an alternative name.
    ///
    /// The cached link states do not contain alternative names, so this function looks the name up in the kernel.
    fn alternative_name_in_the_way(&mut self, action: &str, create: &CreateLink, refusal: &Refusal) -> Option<Failure> {
        if !refusal.is(Errno::EEXIST) {
            return None;
        }
        create.ends().find_map(|new| {
            let pinned = self.namespaces.get_mut(new.netns).ok()?;
            let holder = link::find_by_alternative_name(&mut pinned.route, &new.name).ok()??;
            Some(failure::foreign(format!(
                "cannot {action}: in {}, \"{}\" is an alternative name of link \"{}\" ({}); choose another name, or delete the alternative \
                 name: ip link property del dev {} altname {}",
                pinned.place,
                new.name,
                holder.name,
                link::describe(&holder),
                holder.name,
                new.name
            )))
        })
    }
}
