//! What the kernel of this machine can do, tried out where it harms nobody.
//!
//! Owns a network namespace that lives as long as the thread that tries. Must never change another one. Start reading at
//! [`try_link_kinds`].

use std::{io, thread};

use nix::sched::{CloneFlags, unshare};
use rtnetlink::packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use rtnetlink::packet_route::{
    RouteNetlinkMessage,
    link::{InfoKind, LinkAttribute, LinkInfo as InfoAttribute, LinkMessage},
};

use super::{
    failure,
    link::{self, find},
    netlink::RouteSocket,
    operation::LinkInfo,
};

/// Name of the link that is the parent of the others.
const PARENT: &str = "parent-trial";

/// A kind of link to try.
#[derive(Clone, Debug)]
pub struct LinkKindTrial {
    /// The kind, with the attributes without which the kernel makes none.
    pub info: LinkInfo,
    /// It needs a parent: a veth.
    pub has_parent: bool,
}

/// Makes one link of each kind, in a namespace that is gone afterwards. Answers for each of them, in order, whether the kernel makes one,
/// otherwise its own words.
///
/// # Errors
/// The caller may not make a network namespace, or cannot speak netlink in it.
pub fn try_link_kinds(trials: Vec<LinkKindTrial>) -> io::Result<Vec<Result<(), String>>> {
    // The namespace is that of one thread only, and is gone with it.
    let trial = thread::Builder::new().name("link-kinds".to_owned()).spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET)?;
        let mut socket = RouteSocket::open()?;
        let parent = parent(&mut socket);
        let attempt = |(number, trial)| attempt(&mut socket, number, &trial, &parent);
        Ok(trials.into_iter().enumerate().map(attempt).collect())
    })?;
    trial
        .join()
        .unwrap_or_else(|_| Err(io::Error::other("the thread that tries did not come to its end")))
}

/// Makes the parent; answers its index, or why there is none.
fn parent(socket: &mut RouteSocket) -> Result<u32, String> {
    let mut message = LinkMessage::default();
    message.attributes = vec![
        LinkAttribute::IfName(PARENT.to_owned()),
        LinkAttribute::LinkInfo(vec![InfoAttribute::Kind(InfoKind::Veth)]),
    ];
    let told = |refusal| format!("no veth could be made as its parent: {}", failure::explain(&refusal));
    socket
        .change(RouteNetlinkMessage::NewLink(message), NLM_F_CREATE | NLM_F_EXCL)
        .map_err(told)?;
    let found = find(socket, PARENT).map_err(told)?;
    found.map(|found| found.index).ok_or_else(|| "its parent vanished".to_owned())
}

fn attempt(socket: &mut RouteSocket, number: usize, trial: &LinkKindTrial, parent: &Result<u32, String>) -> Result<(), String> {
    let mut message = LinkMessage::default();
    message.attributes.push(LinkAttribute::IfName(format!("trial{number}")));
    if trial.has_parent {
        message.attributes.push(LinkAttribute::Link(parent.clone()?));
    }
    message.attributes.push(link::info_of(&trial.info));
    let made = socket.change(RouteNetlinkMessage::NewLink(message), NLM_F_CREATE | NLM_F_EXCL);
    made.map_err(|refusal| failure::explain(&refusal))
}
