//! What goes wrong, one thing at a time or several at once.
//!
//! Owns choosing and doing it; must never judge what comes of it. Start reading at [`Chaos::fault`].

use std::{path::Path, time::Duration};

use super::{
    Chaos,
    places::{self, Kind, pick, pick_gone_or_any},
    values::{Slot, Value, Wanted, garbage},
};
use crate::support::{
    command,
    config::{Interface, Reference},
    process::Holder,
    store::Change,
};

/// Names of the faults, with how often each is chosen.
const FAULTS: [(&str, usize); 18] = [
    ("agent killed", 3),
    ("etcd killed", 2),
    ("dockerd killed", 1),
    ("container killed", 3),
    ("container restarted", 4),
    ("container paused or continued", 3),
    ("container renamed", 2),
    ("container replaced", 1),
    ("process ended or started", 6),
    ("namespace file unmounted or mounted", 6),
    ("link tampered with", 30),
    ("links of a namespace tampered with", 4),
    ("addresses, routes or neighbours tampered with", 20),
    ("named namespace deleted", 4),
    ("named namespace replaced", 4),
    ("values changed", 40),
    ("value unusable", 6),
    ("values of a namespace deleted", 1),
];

impl Chaos {
    /// One random fault. `agent_may_die` spares the agent, so that what it leaks adds up.
    pub(super) async fn fault(&mut self, agent_may_die: bool) {
        let total = FAULTS.iter().map(|(_, weight)| weight).sum();
        let mut choice = self.random.below(total);
        let (name, _) = FAULTS
            .iter()
            .find(|(_, weight)| {
                let found = choice < *weight;
                choice = choice.saturating_sub(*weight);
                found
            })
            .expect("the choice is below the sum");
        let what = match *name {
            "agent killed" if agent_may_die => self.kill_agent().await,
            "etcd killed" => self.kill_etcd(),
            "dockerd killed" => self.end_docker(),
            name if name.starts_with("container ") => self.disturb_container(name),
            "process ended or started" => self.end_or_start_process().await,
            "namespace file unmounted or mounted" => self.unmount_or_mount(),
            "link tampered with" => self.tamper_with_link(),
            "links of a namespace tampered with" => (0..5)
                .filter_map(|_| self.tamper_with_link())
                .reduce(|all, one| format!("{all}; {one}")),
            "addresses, routes or neighbours tampered with" => self.tamper_with_l3(),
            "named namespace deleted" => self.delete_named(false),
            "named namespace replaced" => self.delete_named(true),
            "values changed" => self.change_values().await,
            "value unusable" => self.spoil_value().await,
            "values of a namespace deleted" => self.empty_place().await,
            _ => None,
        };
        if let Some(what) = what {
            *self.counts.entry(name).or_default() += 1;
            self.tell(format!("{name}: {what}"));
        }
    }

    async fn kill_agent(&mut self) -> Option<String> {
        if self.agent_returns.is_some() {
            return None;
        }
        self.bench.kill_agent().await;
        let wait = self.random.below(2) * self.random.below(2000);
        self.agent_returns = Some(tokio::time::Instant::now() + Duration::from_millis(wait as u64));
        Some(format!("to be started again after {wait} ms"))
    }

    fn kill_etcd(&mut self) -> Option<String> {
        if self.etcd_returns.is_some() {
            return None;
        }
        self.bench.store.etcd().kill();
        let wait = self.random.below(3000);
        self.etcd_returns = Some(tokio::time::Instant::now() + Duration::from_millis(wait as u64));
        Some(format!("to be started again after {wait} ms"))
    }

    fn end_docker(&mut self) -> Option<String> {
        if !self.places.docker_runs || self.places.which(|kind| matches!(kind, Kind::Container { .. })).is_empty() {
            return None;
        }
        let crash = self.random.below(4) > 0;
        let ended = if crash {
            self.places.docker.crash()
        } else {
            self.places.docker.stop()
        };
        ended.unwrap_or_else(|error| panic!("ending dockerd: {error}"));
        self.places.docker_runs = false;
        let wait = self.random.below(5000);
        self.docker_returns = Some(tokio::time::Instant::now() + Duration::from_millis(wait as u64));
        Some(format!(
            "{}, to be started again after {wait} ms",
            if crash { "SIGKILL" } else { "SIGTERM" }
        ))
    }

    fn disturb_container(&mut self, fault: &str) -> Option<String> {
        let all = self.places.which(|kind| matches!(kind, Kind::Container { .. }));
        let number = pick_gone_or_any(&mut self.random, &self.places, &all)?;
        let Kind::Container { label, id, pid } = &mut self.places.all[number].kind else {
            return None;
        };
        let docker = &self.places.docker;
        if fault == "container killed" {
            if *pid == 0 {
                return None;
            }
            // By the kernel, as the one who runs out of memory; the daemon may be away.
            let _ = command::output("kill", &["-KILL", &pid.to_string()]);
            return Some(format!("{label} (process {pid})"));
        }
        if !self.places.docker_runs {
            return None;
        }
        let name = format!("{label}-{}", self.random.below(1000));
        let arguments: Vec<&str> = match fault {
            "container restarted" if *pid == 0 => vec!["start", id],
            "container restarted" => vec!["restart", "--time", "0", id],
            "container paused or continued" if self.paused.remove(&*id) => vec!["unpause", id],
            "container paused or continued" => {
                self.paused.insert(id.clone());
                vec!["pause", id]
            }
            "container renamed" => vec!["rename", id, &name],
            _ => {
                docker.docker(&["rm", "--force", id]).unwrap_or_else(|error| panic!("{error}"));
                *id = places::run_container(docker, label).unwrap_or_else(|error| panic!("{error}"));
                *pid = docker.pid(id).unwrap_or(0);
                return Some(label.clone());
            }
        };
        let said = docker
            .docker(&arguments)
            .map_or_else(|error| format!(" ({error})"), |_| String::new());
        let what = format!("docker {}{said}", arguments.join(" "));
        *pid = docker.pid(id).unwrap_or(0);
        Some(what)
    }

    async fn end_or_start_process(&mut self) -> Option<String> {
        let all = self.places.which(|kind| matches!(kind, Kind::Process { .. }));
        let number = pick_gone_or_any(&mut self.random, &self.places, &all)?;
        let old = self.places.all[number].reference();
        let Kind::Process { pid, holder, .. } = &mut self.places.all[number].kind else {
            return None;
        };
        if let Some(mut ended) = holder.take() {
            ended.end();
            return Some(format!("process {pid} ended"));
        }
        if self.etcd_returns.is_some() {
            return None;
        }
        let started = Holder::start(None);
        *pid = started.pid();
        *holder = Some(started);
        let what = format!("process {pid} started");
        let new = self.places.all[number].reference();
        // Whoever refers to a process says so anew when it is another one.
        let moved: Vec<(Slot, Value)> = self
            .catalogue
            .in_place(&old)
            .into_iter()
            .filter_map(|slot| match &self.catalogue.wanted[&slot.key()].value {
                Value::Interface(interface) => {
                    let moved = Interface {
                        netns: new.clone(),
                        ..interface.clone()
                    };
                    Some((slot, Value::Interface(moved)))
                }
                _ => None,
            })
            .collect();
        let changes = moved.into_iter().map(|(slot, value)| (slot, Some(value))).collect();
        self.write(changes).await;
        Some(what)
    }

    fn unmount_or_mount(&mut self) -> Option<String> {
        let all = self.places.which(|kind| matches!(kind, Kind::File { .. }));
        let number = pick_gone_or_any(&mut self.random, &self.places, &all)?;
        let replaced = self.random.below(3) == 0;
        let Kind::File { path, mounted } = &mut self.places.all[number].kind else {
            return None;
        };
        let was_mounted = *mounted;
        if was_mounted {
            places::unmount(path);
        }
        *mounted = !was_mounted || replaced;
        if *mounted {
            places::mount_new_namespace(path);
        }
        let what = match (was_mounted, *mounted) {
            (true, true) => "replaced",
            (true, false) => "unmounted",
            _ => "mounted",
        };
        Some(format!("{} {what}", path.display()))
    }

    /// A link that is wanted somewhere that can be reached, with its namespace file.
    fn some_link(&mut self) -> Option<(Interface, std::path::PathBuf)> {
        for _ in 0..20 {
            let slot = *self.random.choose(&self.catalogue.slots);
            let Some(Wanted {
                value: Value::Interface(interface),
                ..
            }) = self.catalogue.wanted.get(&slot.key())
            else {
                continue;
            };
            let place = self.places.all.iter().find(|place| place.reference() == interface.netns);
            if let (Slot::End { .. } | Slot::Dummy { .. }, Some(path)) = (slot, place.and_then(|place| place.path())) {
                return Some((interface.clone(), path));
            }
        }
        None
    }

    fn tamper_with_link(&mut self) -> Option<String> {
        let (interface, path) = self.some_link()?;
        let (host_name, name) = (&interface.host_name, &interface.name);
        let arguments = match self.random.below(7) {
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
        };
        Some(in_namespace(&path, &arguments))
    }

    fn tamper_with_l3(&mut self) -> Option<String> {
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
            // Only what carries the agent's number: nobody would restore the kernel's own.
            3 => format!("route flush dev {host_name} proto 158"),
            4 => format!("-6 route flush dev {host_name} proto 158"),
            5 => format!("neighbour flush dev {host_name} nud permanent"),
            _ => "route flush proto 158".to_owned(),
        };
        Some(in_namespace(&path, &arguments))
    }

    fn delete_named(&mut self, replace: bool) -> Option<String> {
        let number = pick(&mut self.random, &self.places.which(|kind| matches!(kind, Kind::Named(_))))?;
        let Kind::Named(name) = &self.places.all[number].kind else {
            return None;
        };
        let name = name.clone();
        self.places.delete_named(&name);
        if !replace {
            return Some(name);
        }
        let first = if self.places.add_foreign(&name) {
            "by hand"
        } else {
            "the agent was faster"
        };
        Some(format!("{name} ({first})"))
    }

    async fn change_values(&mut self) -> Option<String> {
        if self.etcd_returns.is_some() {
            return None;
        }
        let count = 1 + self.random.below(3) * self.random.below(10);
        let mut changes: Vec<(Slot, Option<Value>)> = Vec::new();
        for _ in 0..count {
            let slot = *self.random.choose(&self.catalogue.slots);
            if changes.iter().any(|(other, _)| other.key() == slot.key()) {
                continue;
            }
            let delete = self.catalogue.wanted.contains_key(&slot.key()) && self.random.below(10) == 0;
            let value = (!delete).then(|| slot.draw(&mut self.random, &self.places, false));
            changes.push((slot, value));
        }
        let what: Vec<String> = changes
            .iter()
            .map(|(slot, value)| format!("{} {}", if value.is_some() { "put" } else { "delete" }, slot.key()))
            .collect();
        self.write(changes).await;
        Some(what.join(", "))
    }

    async fn spoil_value(&mut self) -> Option<String> {
        if self.etcd_returns.is_some() {
            return None;
        }
        let leaves: Vec<Slot> = self.catalogue.slots.iter().filter(|slot| slot.is_leaf()).copied().collect();
        let slot = *self.random.choose(&leaves);
        let before = match self.catalogue.wanted.get(&slot.key()).map(|wanted| wanted.value.clone()) {
            Some(Value::Garbage(_, before)) => before,
            other => other.map(Box::new),
        };
        let value = Value::Garbage(garbage(&mut self.random), before);
        self.write(vec![(slot, Some(value))]).await;
        Some(slot.key())
    }

    async fn empty_place(&mut self) -> Option<String> {
        if self.etcd_returns.is_some() {
            return None;
        }
        let place = 1 + self.random.below(self.places.all.len() - 1);
        let reference: Reference = self.places.all[place].reference();
        let slots = self.catalogue.in_place(&reference);
        let what = format!("{reference:?}: {} interfaces", slots.len());
        self.write(slots.into_iter().map(|slot| (slot, None)).collect()).await;
        Some(what)
    }

    /// Writes these values, all in one transaction or each by itself, and remembers them.
    pub(super) async fn write(&mut self, changes: Vec<(Slot, Option<Value>)>) {
        let together = self.random.below(2) == 0;
        let chunk = if together { 100 } else { 1 };
        for part in changes.chunks(chunk) {
            let writes = part.iter().map(|(slot, value)| {
                let key = self.bench.key(&slot.key());
                match value {
                    Some(value) => Change::Put(key, value.bytes()),
                    None => Change::Delete(key),
                }
            });
            let revision = self.bench.store.transact(writes.collect()).await;
            for (slot, value) in part {
                match value {
                    Some(value) => {
                        let value = value.clone();
                        self.catalogue.wanted.insert(slot.key(), Wanted { value, revision });
                    }
                    None => drop(self.catalogue.wanted.remove(&slot.key())),
                }
            }
        }
    }
}

/// `ip` with these arguments in a namespace, which may be gone, as may the link; returns what was done and how it went.
fn in_namespace(netns: &Path, arguments: &str) -> String {
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
