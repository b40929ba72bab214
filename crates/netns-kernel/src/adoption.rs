//! Adopts an existing foreign link instead of creating a new one, if the desired value allows adoption.
//!
//! A link that does not meet all conditions for adoption is left unchanged. Each request identifies the link by the index that
//! was read together with the checked properties. The kernel does not assign this index to another link while the link exists.
//!
//! An adoption remains incomplete if the agent is killed after it has adopted one end of a pair, or if the kernel refuses a
//! setting. A link that already has the agent's ownership mark is therefore accepted.

use super::{
    failure,
    link::{self, LinkRequest},
    operation::{CreateLink, Failure, LinkInfo, LinkState, NetnsId, NewLink},
    worker::Worker,
};

impl Worker {
    /// Adopts the existing link or pair with the desired names. Fails if the link or pair cannot be adopted.
    ///
    /// `refused` is the error of the creation request. This function returns it unchanged if adoption is not allowed.
    pub(super) fn adopt(&mut self, create: &CreateLink, refused: Failure) -> Result<(), Failure> {
        match &create.peer {
            Some(peer) => self.adopt_pair([&create.end, &peer.end], &create.info, refused),
            None => self.adopt_link(create, refused),
        }
    }

    fn adopt_link(&mut self, create: &CreateLink, refused: Failure) -> Result<(), Failure> {
        let new = &create.end;
        let (Some(alias), Some(found)) = (&new.adopt, self.find(new.netns, &new.name)?) else {
            return Err(refused);
        };
        if link::is_of_same_agent(&found, new) && found.alias != *alias {
            return Err(refused);
        }
        check_info(&found, &create.info, &refused)?;
        if let Some((netns, name)) = &create.parent {
            let parent = self.require(*netns, name, "find the parent")?;
            if !self.is_linked((new.netns, &found), (*netns, &parent))? {
                return Err(unfit(&refused, &format!("the parent of the link is not \"{name}\" in {netns}")));
            }
        }
        self.take_over(new.netns, &found, alias)
    }

    fn adopt_pair(&mut self, ends: [&NewLink; 2], info: &LinkInfo, refused: Failure) -> Result<(), Failure> {
        if ends.iter().all(|end| end.adopt.is_none()) {
            return Err(refused);
        }
        let mut found = Vec::new();
        for end in ends {
            let Some(alias) = &end.adopt else {
                return Err(unfit(
                    &refused,
                    &format!("the value of the other end \"{}\" does not set `adopt`", end.name),
                ));
            };
            let Some(link) = self.find(end.netns, &end.name)? else {
                return Err(unfit(
                    &refused,
                    &format!("the other end of the pair, link \"{}\", does not exist", end.name),
                ));
            };
            if link::is_of_same_agent(&link, end) && link.alias != *alias {
                return Err(refused);
            }
            check_info(&link, info, &refused)?;
            found.push((end.netns, link, alias));
        }
        let [(a, one, _), (b, other, _)] = found.as_slice() else {
            return Err(refused);
        };
        if one.linked != Some(other.index) || !self.is_linked((*b, other), (*a, one))? {
            return Err(unfit(
                &refused,
                &format!("\"{}\" and \"{}\" are not the two ends of the same pair", one.name, other.name),
            ));
        }
        found
            .into_iter()
            .try_for_each(|(netns, link, alias)| self.take_over(netns, &link, alias))
    }

    /// Returns whether `other` is the peer or the parent of `link`.
    ///
    /// Also compares the namespaces, because an index is unique only within a namespace.
    fn is_linked(&mut self, (netns, link): (NetnsId, &LinkState), (there, other): (NetnsId, &LinkState)) -> Result<bool, Failure> {
        if link.linked != Some(other.index) {
            return Ok(false);
        }
        if netns == there {
            return Ok(link.linked_netnsid.is_none());
        }
        let descriptor = self.namespaces.descriptor(there)?;
        let pinned = self.namespaces.get_mut(netns)?;
        let number = link::namespace_number(&mut pinned.route, descriptor).map_err(|refusal| {
            let action = format!("find the other end or parent of link \"{}\"", link.name);
            failure::refused(&action, &pinned.place, &refusal)
        })?;
        Ok(number.is_some() && link.linked_netnsid == number)
    }

    fn take_over(&mut self, netns: NetnsId, found: &LinkState, alias: &str) -> Result<(), Failure> {
        self.links.remove(&(netns, found.name.clone()));
        if found.alias == alias {
            return Ok(());
        }
        let request = LinkRequest {
            alias: Some(alias.to_owned()),
            group: Some(0),
            ..LinkRequest::default()
        };
        let (message, flags) = request.message(found.index);
        let pinned = self.namespaces.get_mut(netns)?;
        pinned.route.change(message, flags).map_err(|refusal| {
            let action = format!("take over link \"{}\" ({})", found.name, link::describe(found));
            failure::refused(&action, &pinned.place, &refusal)
        })
    }
}

/// Checks that a link has the given kind and the given immutable attributes.
fn check_info(found: &LinkState, info: &LinkInfo, refused: &Failure) -> Result<(), Failure> {
    if found.kind != info.kind {
        let kind = if found.kind.is_empty() { "none" } else { &found.kind };
        return Err(unfit(refused, &format!("the link is of kind {kind}, not {}", info.kind)));
    }
    for attr in info.data.iter().filter(|attr| attr.immutable) {
        let has = found.attribute(attr.number).unwrap_or_default();
        if has != attr.value {
            let (has, wants) = (show(has), show(&attr.value));
            return Err(unfit(refused, &format!("its {} is {has} and not {wants}", attr.name)));
        }
    }
    Ok(())
}

/// Formats the value of an attribute for messages. A value of 1, 2 or 4 bytes is shown as a number, and any other value in
/// hexadecimal.
fn show(value: &[u8]) -> String {
    match *value {
        [] => "unset".to_owned(),
        [byte] => byte.to_string(),
        [a, b] => u16::from_ne_bytes([a, b]).to_string(),
        [a, b, c, d] => u32::from_ne_bytes([a, b, c, d]).to_string(),
        _ => value.iter().map(|byte| format!("{byte:02x}")).collect(),
    }
}

/// Returns the error for an existing link that cannot be adopted.
fn unfit(refused: &Failure, why: &str) -> Failure {
    failure::foreign(format!("{}. The link cannot be adopted: {why}", refused.message))
}
