//! Changes links, addresses, routes and neighbours with `ip`, as a foreign program would.
//!
//! Never creates a foreign link, route or address, because the agent would leave it alone and the expected state would be
//! unknown. See [`Chaos::tamper_with_link`].

use std::path::{Path, PathBuf};

use super::{Chaos, values::Slot};
use crate::support::{command, config::Interface};

impl Chaos {
    /// Returns a desired link whose namespace exists, and the namespace file.
    fn some_link(&mut self) -> Option<(Interface, PathBuf)> {
        for _ in 0..20 {
            let slot = *self.random.choose(&self.catalogue.slots);
            let Some(interface) = self.catalogue.interface(&slot) else {
                continue;
            };
            if let (Slot::End { .. } | Slot::Dummy { .. }, Some(path)) = (slot, self.places.path_of(&interface.netns)) {
                return Some((interface.clone(), path));
            }
        }
        None
    }

    /// Returns two veth ends that are in the same namespace, and the namespace file.
    pub(super) fn two_ends(&mut self) -> Option<([Slot; 2], PathBuf)> {
        for _ in 0..20 {
            let place = &self.places.all[self.random.below(self.places.all.len())];
            let mut ends = self.catalogue.in_place(&place.reference());
            ends.retain(|slot| matches!(slot, Slot::End { .. }));
            if let (true, Some(path)) = (ends.len() > 1, place.path()) {
                self.random.shuffle(&mut ends);
                return Some(([ends[0], ends[1]], path));
            }
        }
        None
    }

    pub(super) fn exchange_links(&mut self) -> Option<String> {
        let (slots, path) = self.two_ends()?;
        let [first, second] = slots.map(|slot| self.catalogue.interface(&slot).map_or(String::new(), |end| end.host_name.clone()));
        let steps = [(first.as_str(), "exchanged"), (&second, &first), ("exchanged", &second)];
        let done = steps.map(|(from, to)| in_namespace(&path, &format!("link set {from} down name {to}")));
        Some(done.join("; "))
    }

    pub(super) fn tamper_with_link(&mut self) -> Option<String> {
        let (interface, path) = self.some_link()?;
        Some(in_namespace(&path, &self.link_command(&interface)?))
    }

    /// Returns arguments for `ip` that make a random change to a link.
    pub(super) fn link_command(&mut self, interface: &Interface) -> Option<String> {
        let (host_name, name) = (&interface.host_name, &interface.name);
        Some(match self.random.below(7) {
            0 => format!("link del {host_name}"),
            1 => format!("link set {host_name} down name t{name}"),
            2 => format!("link set {host_name} down"),
            3 => format!("link set {host_name} up"),
            4 => format!("link set {host_name} mtu {}", 1300 + self.random.below(200)),
            5 => format!("link set {host_name} address 02:cc:00:00:00:{:02x}", self.random.below(256)),
            _ => {
                let place = self.random.below(self.places.all.len());
                let target = self.places.all[place].path()?;
                format!("link set {host_name} netns {}", target.display())
            }
        })
    }

    pub(super) fn tamper_with_l3(&mut self) -> Option<String> {
        let (interface, path) = self.some_link()?;
        let host_name = &interface.host_name;
        let some_address = if interface.addresses.is_empty() {
            None
        } else {
            Some(self.random.choose(&interface.addresses).clone())
        };
        let arguments = match self.random.below(7) {
            0 => format!("address del {} dev {host_name}", some_address?),
            1 => format!("address flush dev {host_name}"),
            2 => format!("-4 address flush dev {host_name}"),
            // Flush only routes with the agent's protocol. Nothing would restore the routes that the kernel created.
            3 => format!("route flush dev {host_name} proto 158"),
            4 => format!("-6 route flush dev {host_name} proto 158"),
            5 => format!("neighbour flush dev {host_name} nud permanent"),
            _ => "route flush proto 158".to_owned(),
        };
        Some(in_namespace(&path, &arguments))
    }
}

/// Runs `ip` in a namespace. Returns the command and its error output. The command can fail, because the namespace or the link
/// does not always exist.
pub(super) fn in_namespace(netns: &Path, arguments: &str) -> String {
    let option = format!("--net={}", netns.display());
    let mut words = vec![option.as_str(), "ip"];
    words.extend(arguments.split_whitespace());
    let output = command::output("nsenter", &words);
    let said = String::from_utf8_lossy(&output.stderr);
    let said = if output.status.success() {
        String::new()
    } else {
        format!(" ({})", said.trim())
    };
    format!("{}: ip {arguments}{said}", netns.display())
}
