//! Rules for the agent's behaviour: what must never happen, and the final state that a world must reach.
//!
//! The rules check the simulated kernel and the simulated store, and do not rely on the agent's own state.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use models::proto::ligato::kvscheduler::{ValueState, ValueStatus};
use prost::Message;

use super::{Occurrence, World};
use crate::scheduler::Held;
use crate::simulation::{
    configuration::{CONTAINER_PLACE, Item, Kind, NICS},
    daemon::Daemon,
    expectation::{self, SQUATTER},
    kernel::{EEXIST, ENETUNREACH, OWN},
    machine::places,
    mutation::Mutation,
};
use netns_kernel::{Failure, FailureKind, KernelOp, LinkState, NetnsId};
use testbed::expected::{Surroundings, Verdict};

/// Time within which the agent notices a change in the kernel. It exceeds the interval at which the agent checks for changes that
/// cause no event.
const NOTICED_WITHIN: Duration = Duration::from_secs(3);
/// Time within which the agent notices a change in a namespace that is not watched for events.
const SWEPT_WITHIN: Duration = Duration::from_secs(14);
/// Time within which a starting agent has scanned the namespaces that an earlier run may have left.
const SCANNED_WITHIN: Duration = Duration::from_secs(5);

/// Times of the checks, in seconds after the last interference. The later checks allow for retries and comparisons, which take up
/// to a minute.
const TIME_LIMIT: [u64; 4] = [3, 15, 75, 160];

impl World {
    /// Ends all faults and interference.
    pub(super) fn calm_down(&mut self) {
        self.tell(|| "all faults end".to_owned());
        self.calm_since = Some(self.now);
        self.losing_watch = false;
        self.store.reachable = true;
        (self.daemon.up, self.daemon.losing) = (self.scenario.docker, 0);
        {
            let kernel = &mut self.machine.get().kernel;
            kernel.fuel = None;
            kernel.failing.clear();
        }
        if self.agent.is_none() {
            self.plan(Duration::from_millis(5), Occurrence::Start);
        }
    }

    /// Waits until the kernel and the store are in their final state.
    ///
    /// # Errors
    /// Fails if they do not reach this state in time.
    pub(super) fn come_to_rest(&mut self) -> Result<(), String> {
        let begin = self.now;
        let mut wrong = String::new();
        for time_limit in TIME_LIMIT {
            self.run_until(begin + Duration::from_secs(time_limit))?;
            match self.judge() {
                Ok(()) => return Ok(()),
                Err(found) => wrong = found,
            }
        }
        self.tell(|| format!("NOT CONVERGED: {wrong}"));
        self.report_statuses();
        Err(wrong)
    }

    pub(super) fn places(&self) -> Vec<Option<NetnsId>> {
        places(&self.machine.get().kernel, self.daemon.holder().map(Daemon::pid))
    }

    fn blocked(&self, places: &[Option<NetnsId>]) -> BTreeSet<&'static str> {
        let kernel = &self.machine.get().kernel;
        let taken = |item: &Item| match item {
            Item::Interface(interface) => places[interface.place]
                .and_then(|netns| kernel.link(netns, &interface.host))
                .filter(|link| link.alias == SQUATTER)
                .map(|_| interface.name),
            _ => None,
        };
        self.configuration.values().filter_map(taken).collect()
    }

    /// Adds the status of each value that is not CONFIGURED to the trace.
    fn report_statuses(&mut self) {
        let published = self.store.status.values();
        let statuses = published.filter_map(|found| ValueStatus::decode(&*found.value).ok());
        let problems = statuses.filter(|status| status.key.starts_with("config/") && status.state() != ValueState::Configured);
        let reported: Vec<String> = problems
            .map(|status| format!("{} is {:?} ({}): {}", status.key, status.state(), status.reason, status.message))
            .collect();
        reported.into_iter().for_each(|text| self.tell(|| text));
    }

    /// Returns the published state of each value.
    fn reported(&self) -> BTreeMap<String, &'static str> {
        let published = self.store.status.values();
        let statuses = published.filter_map(|found| ValueStatus::decode(&*found.value).ok());
        let reported = statuses.filter_map(|status| Some((status.key.strip_prefix("config/")?.to_owned(), status.state().as_str_name())));
        reported.collect()
    }

    fn surroundings(&self, places: &[Option<NetnsId>], blocked: &BTreeSet<&'static str>) -> Surroundings<NetnsId> {
        Surroundings {
            blocked: blocked.iter().map(|name| (*name).to_owned()).collect(),
            reported: self.reported(),
            ..expectation::surroundings(&self.machine.get().kernel, places)
        }
    }

    /// Returns the names of the links on which EXISTING interfaces conflict. After a restart, the agent can apply a different one
    /// of these interfaces.
    pub(super) fn contested(&self) -> BTreeSet<String> {
        let places = self.places();
        let blocked = self.blocked(&places);
        expectation::contested(&self.configuration, &self.surroundings(&places, &blocked))
    }

    /// Checks that the kernel, the store and the agent are in their final state.
    fn judge(&self) -> Result<(), String> {
        let Some(agent) = &self.agent else {
            return Err("the agent is not running".to_owned());
        };
        let places = self.places();
        let blocked = self.blocked(&places);
        let surroundings = self.surroundings(&places, &blocked);
        let verdicts = expectation::judge(&self.machine.get().kernel, &self.configuration, &surroundings)?;
        for (key, verdict) in &verdicts {
            self.judge_status(key, *verdict)?;
        }
        self.judge_store()?;
        let desired = verdicts.len();
        let reported = self.store.status.keys().filter(|key| key.starts_with("config-status/")).count();
        if desired != reported {
            return Err(format!("{reported} values have a status, but {desired} should have one"));
        }
        if self.losses.is_over() {
            self.expect_nothing_held()?;
        }
        if !agent.is_idle() && blocked.is_empty() {
            return Err("the core is not idle".to_owned());
        }
        Ok(())
    }

    fn judge_status(&self, key: &str, verdict: Verdict) -> Result<(), String> {
        let Some(found) = self.store.status.get(format!("config-status/{key}").as_str()) else {
            return Err(format!("{key} has no status"));
        };
        let status = ValueStatus::decode(&*found.value).map_err(|error| error.to_string())?;
        if !verdict.admits(status.state().as_str_name()) {
            return Err(format!("the status of {key} should be {verdict:?}, but is {status:?}"));
        }
        let is_held = self
            .agent
            .as_ref()
            .is_some_and(|agent| agent.following.held().any(|held| held == key));
        if is_held != status.removal_held_since.is_some() {
            return Err(format!("the removal of {key} is held: {is_held}, but its status is {status:?}"));
        }
        let revisions = self.store.config.iter();
        let revision = revisions
            .filter(|(raw, _)| raw.as_bytes() == key.as_bytes())
            .map(|(_, (revision, _))| *revision)
            .next();
        if !self.losses.contains(key) && revision != Some(status.mod_revision) {
            let answered = status.mod_revision;
            return Err(format!(
                "the status of {key} is for revision {answered}, but the value was put at {revision:?}"
            ));
        }
        Ok(())
    }

    /// Checks that the status keys in the store are exactly those that the agent published.
    fn judge_store(&self) -> Result<(), String> {
        let Some(agent) = &self.agent else { return Ok(()) };
        let content = agent.outbox.get();
        for (key, value) in &content.shadow {
            let found = self.store.status.get(key.as_str());
            if found.map(|found| &found.value) != Some(value) {
                return Err(format!("{key} in the store is not what the agent published last"));
            }
        }
        if let Some(stray) = self.store.status.keys().find(|key| !content.shadow.contains_key(&***key)) {
            return Err(format!("{stray} is in the store, but nobody published it"));
        }
        Ok(())
    }

    /// Checks that no retries are planned.
    pub(super) fn expect_idle(&self) -> Result<(), String> {
        let Some(agent) = &self.agent else { return Ok(()) };
        let blocked = self.blocked(&self.places());
        match agent.core.scheduler().next_deadline() {
            Some(deadline) if blocked.is_empty() => {
                let in_time = deadline.saturating_sub(self.now);
                Err(format!(
                    "everything is in its desired state, but the core has planned a retry in {in_time:?}"
                ))
            }
            _ => Ok(()),
        }
    }

    /// Checks that a restart after convergence changed nothing. `but_for` names links in the agent's own namespace that are
    /// allowed to change.
    pub(super) fn expect_no_operation(&self, but_for: &BTreeSet<String>) -> Result<(), String> {
        if !self.blocked(&self.places()).is_empty() {
            return Ok(());
        }
        let is_excused = |op: &KernelOp| op.on_link().is_some_and(|(netns, link, _)| netns == OWN && but_for.contains(link));
        let kernel = &self.machine.get().kernel;
        match kernel.log.iter().find(|op| !is_excused(op)) {
            Some(op) => Err(format!("a restart after convergence changed something: {op:?}")),
            None => Ok(()),
        }
    }

    pub(super) fn is_undisturbed(&self) -> bool {
        let window = if self.scenario.watched_max < 100 {
            SWEPT_WITHIN
        } else {
            NOTICED_WITHIN
        };
        self.now > self.disturbed + window
    }

    /// Checks that operations failed only because of interference. Any other failure means that an operation was performed before
    /// its dependencies were available.
    pub(super) fn judge_failures(&mut self, failed: Vec<(String, Failure)>) {
        for (what, failure) in failed {
            let desired = failure.message.contains("injected by the simulation");
            // These failures do not indicate that an operation was performed too early.
            let unavailable = matches!(
                failure.kind,
                FailureKind::Unavailable | FailureKind::Tentative | FailureKind::Duplicate
            );
            let taken = self.squatted && failure.errno == Some(EEXIST);
            // The agent may not have noticed yet that a user changed the addresses of a foreign link.
            let of_others = NICS.iter().any(|nic| what.contains(&format!("link: \"{nic}\"")));
            // If the repair of an address failed, gateways in its subnet are unreachable until the retry.
            let lacking = self.machine.get().kernel.lacks_address_routes();
            let unreachable = failure.errno == Some(ENETUNREACH) && (of_others || lacking);
            // A VLAN from an earlier run may still use the id of a new VLAN, in a namespace that the agent has not read yet.
            // This can happen at startup, and when the agent deletes orphans whose removal was held.
            let mut reading = [Some(self.started), self.losses.ended].into_iter().flatten();
            let scanning = reading.any(|since| self.now < since + SCANNED_WITHIN);
            let orphan = scanning && failure.errno == Some(EEXIST) && failure.message.contains("VLAN device already exists");
            self.tell(|| format!("failed: {what}: {failure}"));
            if !desired && !orphan && !unavailable && !taken && !unreachable && self.is_undisturbed() {
                self.fail(format!("operation failed without interference: {what}: {failure}"));
            }
        }
    }

    /// Checks that values are retried when one of their dependencies becomes available. Pending values must be retried at once,
    /// and failed values at the earliest allowed time.
    pub(super) fn judge_held(&mut self) {
        let now = self.now;
        let Some(agent) = &mut self.agent else { return };
        let Some(held) = agent.core.scheduler().held() else { return };
        let before = std::mem::replace(&mut agent.held, held);
        if before.is_empty() || self.mutation == Some(Mutation::NeverRetry) {
            return;
        }
        let late = agent.held.iter().find_map(|held| {
            let earliest = |held: &Held| held.attempts.map(|(earliest, _)| earliest);
            let mut before = before.iter();
            let before = before.find(|before| before.key == held.key && earliest(before) == earliest(held))?;
            let in_time = held.attempts.is_some_and(|(earliest, until)| until <= earliest.max(now));
            let mut both = before.dependencies.iter().zip(&held.dependencies);
            let (before, now) = both.find(|(before, now)| !in_time && before.0 == now.0 && before.1 < now.1)?;
            Some(format!(
                "{} is still blocked although {before:?} has become {now:?}: {:?}",
                held.key, held.attempts
            ))
        });
        late.into_iter().for_each(|text| self.fail(text));
    }

    /// Checks that values reported as CONFIGURED are in the kernel, unless there was recent interference.
    pub(super) fn judge_claims(&mut self, claims: &[(String, i64)]) {
        if claims.is_empty() || !self.is_undisturbed() {
            return;
        }
        let places = self.places();
        let wrong = claims.iter().find_map(|(key, revision)| self.false_claim(&places, key, *revision));
        if let Some(wrong) = wrong {
            self.fail(wrong);
        }
    }

    /// Returns the reason why a value is wrongly reported as CONFIGURED, or `None` if the report is correct.
    fn false_claim(&self, places: &[Option<NetnsId>], key: &str, revision: i64) -> Option<String> {
        let short = key.strip_prefix("config/").unwrap_or(key);
        let versions = self.versions.get(&revision)?.iter().filter(|item| item.key() == short);
        let wrong: Vec<Option<String>> = versions.map(|item| self.falsehood(places, item)).collect();
        let wrong = wrong.into_iter().collect::<Option<Vec<String>>>()?.pop()?;
        Some(format!("{key} at revision {revision} is reported as CONFIGURED, but {wrong}"))
    }

    /// Returns the reason why a version of a value is not applied, or `None` if it is applied.
    fn falsehood(&self, places: &[Option<NetnsId>], item: &Item) -> Option<String> {
        let Item::Interface(interface) = item else { return None };
        if matches!(interface.kind, Kind::Existing { .. }) {
            return None;
        }
        // The agent has had no chance to detect that the label now belongs to another container.
        if interface.place == CONTAINER_PLACE && self.daemon.untold {
            return None;
        }
        let kernel = &self.machine.get().kernel;
        let link = places[interface.place].and_then(|netns| kernel.link(netns, &interface.host));
        let fits = |link: &LinkState| link.alias.contains(interface.name) && link.up == interface.enabled;
        if !link.is_some_and(fits) {
            return Some(format!("its link is {link:?}"));
        }
        let tentative = places[interface.place].is_some_and(|netns| kernel.has_tentative_address(netns, &interface.host));
        (tentative && interface.enabled).then(|| "an address is tentative".to_owned())
    }
}
