//! Adds IP addresses to links, deletes them, and checks whether they are usable.
//!
//! Never deletes or takes over foreign addresses on a shared link.

use std::{net::IpAddr, path::PathBuf};

use nix::errno::Errno;

use super::{
    address, failure,
    netlink::Change,
    operation::{AddressDetection, AddressSpec, AddressState, Failure, FailureKind, LinkState, NetnsId, PROTOCOL, Progress},
    sysctl,
    worker::{On, Worker, is_eexist},
};

/// IF_OPER_DOWN and IF_OPER_LOWERLAYERDOWN of linux/if.h. In these states, the link has no carrier and duplicate address
/// detection cannot run.
const WITHOUT_CARRIER: [u8; 2] = [2, 3];

/// Minimum MTU of a link on which IPv6 can be used (`IPV6_MIN_MTU`, RFC 8200 §5).
const MTU_MIN_IPV6: u32 = 1280;

impl Worker {
    pub(super) fn add_address(&mut self, on: On<'_>, spec: &AddressSpec, detection: AddressDetection, shared: bool) -> Result<(), Failure> {
        let (netns, link, _) = on;
        let action = || format!("add address {} to link \"{link}\"", address::show(spec));
        if spec.address.is_ipv6() && detection == AddressDetection::Optimistic {
            // Without this sysctl, the kernel ignores IFA_F_OPTIMISTIC.
            self.ensure_link_sysctl(netns, link, sysctl::optimistic_dad(link), "1").map(drop)?;
        }
        let added = self.on_enabled_link(on, spec.address, action, |index| address::add(index, spec, detection, false));
        if !is_eexist(&added) {
            return added;
        }
        let found = self.require(netns, link, "find")?;
        let addresses = self.addresses_of(netns, &found)?;
        let Some(there) = addresses.iter().find(|state| state.address == *spec) else {
            let place = self.place(netns);
            let other = addresses.iter().find(|state| state.address.address == spec.address);
            return added.map_err(|failure| match other {
                Some(other) => failure::exists(format!(
                    "cannot {} in {place}: the link already has {}, and a link can have an IPv6 address only once, with one prefix \
                     length; delete the existing address first",
                    action(),
                    address::show(&other.address)
                )),
                None => failure,
            });
        };
        match (shared, there.protocol) {
            // On a shared link, a foreign address is left unchanged.
            (true, protocol) if protocol != PROTOCOL => return Ok(()),
            (true, _) => {}
            (false, _) => self.on_link(on, action, |index| address::add(index, spec, detection, true))?,
        }
        self.restore_routes(on, spec, detection)
    }

    /// Performs a change on a link, like [`Self::on_link`]. `about` is the address or the route destination to change.
    ///
    /// Enables IPv6 on the link and tries again if `about` is an IPv6 address and IPv6 is disabled.
    pub(super) fn on_enabled_link(
        &mut self,
        on: On<'_>,
        about: IpAddr,
        action: impl Fn() -> String,
        change: impl Fn(u32) -> Change,
    ) -> Result<(), Failure> {
        let (netns, link, _) = on;
        match self.on_link(on, &action, &change) {
            Err(failure) if about.is_ipv6() && says_ipv6_is_disabled(&failure) => {
                self.ensure_link_sysctl(netns, link, sysctl::disable_ipv6(link), "0")
                    .map_err(|failure| self.blame_mtu(on, &action, failure))?;
                let made = self.on_link(on, &action, &change);
                made.map_err(|failure| self.blame_mtu(on, &action, failure))
            }
            Err(failure) if about.is_ipv6() => Err(self.blame_mtu(on, &action, failure)),
            made => made,
        }
    }

    /// Adds a hint to the failure message if the MTU of the link is too small for IPv6.
    ///
    /// The kernel's own error text does not mention the MTU. It says only that the link or its IPv6 settings do not exist.
    fn blame_mtu(&mut self, (netns, link, _): On<'_>, action: &impl Fn() -> String, failure: Failure) -> Failure {
        // Another program may have changed the MTU since the link was read.
        self.links.remove(&(netns, link.to_owned()));
        match self.find(netns, link) {
            Ok(Some(found)) if found.mtu < MTU_MIN_IPV6 => Failure {
                message: format!(
                    "cannot {} in {}: the link has an MTU of {}, and the kernel does not support IPv6 with an MTU below {MTU_MIN_IPV6}: \
                     raise the MTU, or use IPv4 only; the kernel says \"{}\"",
                    action(),
                    self.place(netns),
                    found.mtu,
                    failure.kernel_text
                ),
                ..failure
            },
            _ => failure,
        }
    }

    fn ensure_link_sysctl(&mut self, netns: NetnsId, link: &str, path: PathBuf, value: &'static str) -> Result<bool, Failure> {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        self.namespaces.ensure_sysctl(netns, path, value).map_err(|refusal| {
            let place = self.place(netns);
            failure::refused(&format!("set sysctl {name} of link \"{link}\" to {value}"), &place, &refusal)
        })
    }

    pub(super) fn place(&mut self, netns: NetnsId) -> String {
        self.namespaces
            .get_mut(netns)
            .map_or(netns.to_string(), |pinned| pinned.place.clone())
    }

    /// Checks that an address is usable. If it is unusable, the failure message states the reason.
    pub(super) fn confirm_address(
        &mut self,
        on: On<'_>,
        spec: &AddressSpec,
        detection: AddressDetection,
        shared: bool,
    ) -> Result<(), Failure> {
        let (netns, link, _) = on;
        let shown = address::show(spec);
        // The carrier may have changed since the link was read.
        self.links.remove(&(netns, link.to_owned()));
        let found = self.require(netns, link, &format!("confirm address {shown} of"))?;
        let place = self.place(netns);
        let Some(state) = self.addresses_of(netns, &found)?.into_iter().find(|state| state.address == *spec) else {
            let message = format!("address {shown} is no longer on link \"{link}\" in {place}: another program deleted it");
            return Err(failure::other(message));
        };
        let failed = |kind, message| {
            Err(Failure {
                kind,
                ..failure::other(message)
            })
        };
        let progress = state.progress(detection);
        if progress == Progress::Failed {
            self.delete_address(on, spec, shared)?;
            self.add_address(on, spec, detection, shared)?;
            let message = format!(
                "address {shown} on link \"{link}\" in {place} is a duplicate: another host on the link uses the address (the kernel \
                 marks it `dadfailed`); run `ip -6 neighbour` on a third host on the link to find that host, or choose another address; \
                 put the value again to restart detection at once"
            );
            return failed(FailureKind::Duplicate, message);
        }
        if progress == Progress::Over {
            return Ok(());
        }
        let why = match WITHOUT_CARRIER.contains(&found.oper_state) {
            true => "which starts when the link has a carrier (for a veth: when its other end is up)",
            false => "which takes a second or two",
        };
        let message = format!("waiting for IPv6 duplicate address detection of {shown} on link \"{link}\" in {place}, {why}");
        failed(FailureKind::Tentative, message)
    }

    pub(super) fn addresses_of(&mut self, netns: NetnsId, found: &LinkState) -> Result<Vec<AddressState>, Failure> {
        let pinned = self.namespaces.get_mut(netns)?;
        let mut addresses = address::dump(&mut pinned.route)
            .map_err(|refusal| failure::refused(&format!("read the addresses of link \"{}\"", found.name), &pinned.place, &refusal))?;
        addresses.retain(|state| state.link == found.index);
        Ok(addresses)
    }

    pub(super) fn delete_address(&mut self, on: On<'_>, spec: &AddressSpec, shared: bool) -> Result<(), Failure> {
        let (netns, link, _) = on;
        if shared && self.namespaces.contains(netns) && self.is_foreign_address(netns, link, spec)? {
            return Ok(());
        }
        let action = || format!("delete address {} from link \"{link}\"", address::show(spec));
        self.remove(on, &[Errno::EADDRNOTAVAIL, Errno::ENXIO], action, |index| {
            address::delete(index, spec)
        })
    }

    /// Performs [`super::KernelOp::MakePrimary`].
    ///
    /// The sysctl `promote_secondaries` is on while the other addresses are deleted and added again. The kernel then keeps the
    /// secondary addresses when the primary address is deleted, so the link always has an address and keeps its routes.
    pub(super) fn make_primary(&mut self, on: On<'_>, spec: &AddressSpec, others: &[AddressSpec]) -> Result<(), Failure> {
        let (netns, link, _) = on;
        let found = self.require(netns, link, &format!("make address {} the primary address on", address::show(spec)))?;
        let addresses = self.addresses_of(netns, &found)?;
        let network = |spec: &AddressSpec| (address::network(spec), spec.prefix_len);
        let subnet: Vec<_> = addresses.iter().filter(|state| network(&state.address) == network(spec)).collect();
        let is_behind = subnet.iter().any(|state| state.address == *spec && state.is_secondary());
        let is_named = |state: &&&AddressState| state.address == *spec || others.contains(&state.address);
        let all_ours = subnet.iter().filter(is_named).filter(|state| state.protocol == PROTOCOL).count() == subnet.len();
        if !is_behind || !all_ours {
            return Ok(());
        }
        let switched = self.ensure_link_sysctl(netns, link, sysctl::promote_secondaries(link), "1")?;
        let moved = self.move_behind(
            on,
            others.iter().filter(|other| subnet.iter().any(|state| state.address == **other)),
        );
        if switched {
            self.ensure_link_sysctl(netns, link, sysctl::promote_secondaries(link), "0")?;
        }
        moved
    }

    /// Deletes addresses and adds them again, which makes them secondary.
    fn move_behind<'a>(&mut self, on: On<'_>, moved: impl Iterator<Item = &'a AddressSpec> + Clone) -> Result<(), Failure> {
        for spec in moved.clone() {
            self.delete_address(on, spec, true)?;
        }
        for spec in moved {
            self.add_address(on, spec, AddressDetection::Default, false)?;
        }
        Ok(())
    }

    /// Returns whether the address exists but does not have the agent's protocol number.
    fn is_foreign_address(&mut self, netns: NetnsId, link: &str, spec: &AddressSpec) -> Result<bool, Failure> {
        let Some(found) = self.find(netns, link)? else { return Ok(false) };
        let addresses = self.addresses_of(netns, &found)?;
        let same = addresses.iter().find(|state| state.address == *spec);
        Ok(same.is_some_and(|state| state.protocol != PROTOCOL))
    }
}

/// Returns whether the kernel refused the request because IPv6 is disabled on the link.
///
/// The kernel returns only EACCES and no error text for addresses and routes.
fn says_ipv6_is_disabled(failure: &Failure) -> bool {
    failure.errno == Some(Errno::EACCES as i32) || failure.kernel_text.contains("IPv6 is disabled")
}
