//! What the kernel of this machine can do, tried out where it harms nobody.
//!
//! Owns a network namespace that lives as long as the thread that tries. Must never change another one. Start reading at
//! [`try_link_kinds`].

use std::{io, thread};

use nix::sched::{CloneFlags, unshare};
use rtnetlink::packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use rtnetlink::packet_route::{
    RouteNetlinkMessage,
    link::{InfoData, InfoKind, InfoVrf, LinkAttribute, LinkInfo, LinkMessage},
};

use super::{failure, netlink::RouteSocket};

/// Table of the VRF that is tried.
const TABLE: u32 = 1;

/// A kind of link, and whether the kernel makes one; otherwise its own words.
pub type LinkKindTrial = (&'static str, Result<(), String>);

/// Makes one link of each kind that the agent makes, in a namespace that is gone afterwards.
///
/// # Errors
/// The caller may not make a network namespace, or cannot speak netlink in it.
pub fn try_link_kinds() -> io::Result<Vec<LinkKindTrial>> {
    // The namespace is that of one thread only, and is gone with it.
    let trial = thread::Builder::new().name("link-kinds".to_owned()).spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET)?;
        let mut socket = RouteSocket::open()?;
        Ok(kinds()
            .into_iter()
            .map(|(name, info)| {
                let made = socket.change(RouteNetlinkMessage::NewLink(link(name, info)), NLM_F_CREATE | NLM_F_EXCL);
                (name, made.map_err(|refusal| failure::explain(&refusal)))
            })
            .collect())
    })?;
    trial
        .join()
        .unwrap_or_else(|_| Err(io::Error::other("the thread that tries did not come to its end")))
}

fn kinds() -> [(&'static str, Vec<LinkInfo>); 3] {
    [
        ("veth", vec![LinkInfo::Kind(InfoKind::Veth)]),
        ("dummy", vec![LinkInfo::Kind(InfoKind::Dummy)]),
        (
            "vrf",
            vec![
                LinkInfo::Kind(InfoKind::Vrf),
                LinkInfo::Data(InfoData::Vrf(vec![InfoVrf::TableId(TABLE)])),
            ],
        ),
    ]
}

fn link(name: &str, info: Vec<LinkInfo>) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.attributes = vec![LinkAttribute::IfName(format!("{name}-trial")), LinkAttribute::LinkInfo(info)];
    message
}
