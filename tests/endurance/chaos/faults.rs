//! Random faults for the chaos test. Several faults may be active at the same time. See [`Chaos::fault`].

use std::time::Duration;

use super::{
    Chaos,
    places::{self, Kind, pick, pick_gone_or_any},
    values::{Slot, Value},
};
use crate::support::{command, config::Interface, process::Holder};

/// Names of the faults, each with its weight in the random choice.
const FAULTS: [(&str, usize); 23] = [
    ("agent killed", 3),
    ("agent frozen", 2),
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
    ("two links exchange names", 6),
    ("values changed", 40),
    ("two values exchange names", 6),
    ("pairs crossed and uncrossed", 4),
    ("values and links of a namespace changed at once", 6),
    ("value unusable", 6),
    ("values of a namespace deleted", 1),
];

impl Chaos {
    /// Causes one random fault. If `agent_may_die` is false, the agent is not killed, so that any leaks accumulate.
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
            "agent frozen" => self.freeze_agent(),
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
            "two links exchange names" => self.exchange_links(),
            "values changed" => self.change_values().await,
            "two values exchange names" => self.exchange_names().await,
            "pairs crossed and uncrossed" => self.cross_pairs().await,
            "values and links of a namespace changed at once" => self.change_all_at_once().await,
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
        self.agent_thaws = None;
        let wait = self.random.below(2) * self.random.below(2000);
        self.agent_returns = Some(tokio::time::Instant::now() + Duration::from_millis(wait as u64));
        Some(format!("to be started again after {wait} ms"))
    }

    /// Suspends the agent, as a debugger or heavy swapping would. Events accumulate in its sockets in the meantime.
    fn freeze_agent(&mut self) -> Option<String> {
        if self.agent_returns.is_some() || self.agent_thaws.is_some() {
            return None;
        }
        self.bench.agent().freeze();
        // Sometimes suspend the agent for longer than the TTL of its lease, so that its published keys are deleted.
        let wait = self.random.below(3000) + if self.random.below(15) == 0 { 11_000 } else { 0 };
        self.agent_thaws = Some(tokio::time::Instant::now() + Duration::from_millis(wait as u64));
        Some(format!("for {wait} ms"))
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
            // Kill the process directly, as the OOM killer does, because the daemon may be down.
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
        // Put the values that refer to the process again, with the new PID.
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
        // Mount an existing namespace with a probability of one third. The namespace then has one more name.
        let others = self.places.which(|kind| !matches!(kind, Kind::Own | Kind::File { .. }));
        let other = if self.random.below(3) == 0 {
            pick(&mut self.random, &others)
        } else {
            None
        };
        let existing = other.and_then(|other| self.places.all[other].path());
        let Kind::File { path, mounted } = &mut self.places.all[number].kind else {
            return None;
        };
        let was_mounted = std::mem::take(mounted);
        if was_mounted {
            places::unmount(path);
        }
        let mut what = format!("{}{}", path.display(), if was_mounted { " unmounted" } else { "" });
        if !was_mounted || replaced {
            *mounted = match &existing {
                Some(existing) => places::mount_existing_namespace(path, existing),
                None => places::mount_new_namespace(path),
            };
            what.push_str(&existing.map_or(" mounted".to_owned(), |existing| format!(" mounted: {}", existing.display())));
        }
        Some(what)
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
}
