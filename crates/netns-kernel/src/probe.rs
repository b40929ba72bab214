//! Creates links in a temporary network namespace to test which link kinds the kernel supports.

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

/// Name of the veth that serves as the parent of other links.
const PARENT: &str = "parent-trial";

/// A link kind to test.
#[derive(Clone, Debug)]
pub struct LinkKindTrial {
    /// Kind to test, with the attributes that the kernel requires.
    pub info: LinkInfo,
    /// True if links of this kind need a parent. A veth is created as the parent.
    pub has_parent: bool,
}

/// Creates one link of each kind in a temporary namespace.
///
/// Returns one result for each kind, in the same order. An error contains the kernel's error text.
///
/// # Errors
/// Fails if the caller is not allowed to create a network namespace, or cannot open a netlink socket in it.
pub fn try_link_kinds(trials: Vec<LinkKindTrial>) -> io::Result<Vec<Result<(), String>>> {
    // Only this thread is in the namespace, so the kernel deletes the namespace when the thread ends.
    let trial = thread::Builder::new().name("link-kinds".to_owned()).spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET)?;
        let mut socket = RouteSocket::open()?;
        let parent = parent(&mut socket);
        let attempt = |(number, trial)| attempt(&mut socket, number, &trial, &parent);
        Ok(trials.into_iter().enumerate().map(attempt).collect())
    })?;
    trial
        .join()
        .unwrap_or_else(|_| Err(io::Error::other("the thread that creates the links panicked")))
}

/// Creates a veth as the parent of other links. Returns its index, or the reason for the failure.
fn parent(socket: &mut RouteSocket) -> Result<u32, String> {
    let mut message = LinkMessage::default();
    message.attributes = vec![
        LinkAttribute::IfName(PARENT.to_owned()),
        LinkAttribute::LinkInfo(vec![InfoAttribute::Kind(InfoKind::Veth)]),
    ];
    let reported = |refusal| format!("cannot create a veth as the parent of the link: {}", failure::explain(&refusal));
    socket
        .change(RouteNetlinkMessage::NewLink(message), NLM_F_CREATE | NLM_F_EXCL)
        .map_err(reported)?;
    let found = find(socket, PARENT).map_err(reported)?;
    found
        .map(|found| found.index)
        .ok_or_else(|| "the parent of the link disappeared".to_owned())
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
