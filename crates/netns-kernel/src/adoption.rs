//! Taking over what somebody else made, for a value that says so.
//!
//! Owns the conditions under which a foreign link may become the agent's, and the mark that it then carries. Must never touch one
//! that fails a condition. Start reading at [`Worker::adopt_link`].
//!
//! The guard is the interface index: it was read together with what the conditions are about, and the kernel gives it to no other
//! link as long as this one lives. Between the two ends of a pair the agent may be killed; the end that carries its mark already is
//! then taken as it is.

use super::{
    failure,
    link::{self, LinkRequest},
    operation::{Failure, LinkState, NetnsId, NewLink, NewLinkKind},
    worker::Worker,
};

impl Worker {
    /// Takes over the link that is in the way of a single new one, or says why not. `refused` is what is said without adoption.
    pub(super) fn adopt_link(&mut self, new: &NewLink, kind: &NewLinkKind, refused: Failure) -> Result<(), Failure> {
        let (Some(alias), Some(found)) = (&new.adopt, self.find(new.netns, &new.name)?) else {
            return Err(refused);
        };
        if link::is_of_same_agent(&found, new) {
            return Err(refused);
        }
        check_kind(&found, link::kind_name(kind), &refused)?;
        if let NewLinkKind::Vrf { table } = kind
            && found.vrf_table != Some(*table)
        {
            let has = found.vrf_table.unwrap_or_default();
            return Err(unfit(&refused, &format!("its routing table is {has} and not {table}")));
        }
        self.take_over(new.netns, &found, alias)
    }

    /// As [`Self::adopt_link`], for both ends of a pair.
    pub(super) fn adopt_veth(&mut self, ends: &[NewLink; 2], refused: Failure) -> Result<(), Failure> {
        if ends.iter().all(|end| end.adopt.is_none()) {
            return Err(refused);
        }
        let mut found = Vec::new();
        for end in ends {
            let Some(alias) = &end.adopt else {
                return Err(unfit(
                    &refused,
                    &format!("the value of its other end \"{}\" does not say `adopt`", end.name),
                ));
            };
            let Some(link) = self.find(end.netns, &end.name)? else {
                return Err(unfit(&refused, &format!("there is no link \"{}\" for its other end", end.name)));
            };
            if link::is_of_same_agent(&link, end) && link.alias != *alias {
                return Err(refused);
            }
            check_kind(&link, "veth", &refused)?;
            found.push((end.netns, link, alias));
        }
        let [(a, one, _), (b, other, _)] = found.as_slice() else {
            return Err(refused);
        };
        if !self.is_pair((*a, one), (*b, other))? {
            return Err(unfit(
                &refused,
                &format!("\"{}\" and \"{}\" are not the ends of one pair", one.name, other.name),
            ));
        }
        found
            .into_iter()
            .try_for_each(|(netns, link, alias)| self.take_over(netns, &link, alias))
    }

    /// Whether two veth links are each other's ends. Indexes are unique within a namespace only, so that is compared too.
    fn is_pair(&mut self, (a, one): (NetnsId, &LinkState), (b, other): (NetnsId, &LinkState)) -> Result<bool, Failure> {
        if (one.peer_index, other.peer_index) != (Some(other.index), Some(one.index)) {
            return Ok(false);
        }
        let there = self.namespaces.descriptor(b)?;
        let pinned = self.namespaces.get_mut(a)?;
        let action = || format!("look for the other end of link \"{}\"", one.name);
        let peer =
            link::peer_namespace(&mut pinned.route, one.index).map_err(|refusal| failure::refused(&action(), &pinned.place, &refusal))?;
        if a == b {
            return Ok(peer.is_none());
        }
        let number =
            link::namespace_number(&mut pinned.route, there).map_err(|refusal| failure::refused(&action(), &pinned.place, &refusal))?;
        Ok(peer.is_some() && peer == number)
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

fn check_kind(found: &LinkState, kind: &str, refused: &Failure) -> Result<(), Failure> {
    match found.kind == kind {
        true => Ok(()),
        false => Err(unfit(
            refused,
            &format!(
                "it is of kind {} and not {kind}",
                if found.kind.is_empty() { "none" } else { &found.kind }
            ),
        )),
    }
}

/// What is in the way cannot be adopted.
fn unfit(refused: &Failure, why: &str) -> Failure {
    failure::foreign(format!("{}. It is not adopted: {why}", refused.message))
}
