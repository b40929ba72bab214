//! Contents of the keys below `config-status/`, `status/` and `check/`.
//!
//! Publishes the statuses of values, links, namespaces and microservices, and the agent's health. The publisher writes them to
//! the store and ensures that the newest state of each key reaches the store.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use models::{
    key::{Key, status_key},
    proto::{
        ligato::{
            kvscheduler::ValueStatus,
            linux::{interfaces::InterfaceState, namespace::net_namespace::ReferenceType},
        },
        netns_agent::{self as proto, Microservice as MicroserviceState, NamespaceStatus},
        status::{AgentStatus, BulkChange, HeldRemovals, OperationalState, PluginStatus},
    },
};
use prost_types::Timestamp;
use tokio::sync::watch;
use tracing::{info, warn};

use crate::scheduler::{LastError, Repair, Status, StatusChange, Suggestion, Unmet, ValueState, View};
use crate::{
    descriptors::{
        Network,
        message::state_of,
        netns_of,
        observed::ObservedInterface,
        value::{Interface, NamespaceName, Value, interface_key},
    },
    engine::Clock,
    publish::{AGENT_HEALTH, PART_HEALTH, Published},
    signals::docker::Microservice,
    telemetry::visible,
};
use netns_kernel::NetnsId;

use super::host::StatusStore;

/// Health of one part of the agent.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Part {
    state: OperationalState,
    error: String,
    last_change: Duration,
}

/// The agent's health, shared with the task that republishes it periodically.
pub struct Health {
    publisher: Arc<dyn StatusStore>,
    clock: Clock,
    start: Duration,
    parts: Mutex<BTreeMap<&'static str, Part>>,
    /// Start of the bulk change in progress; `None` if there is none.
    bulk: watch::Sender<Option<Duration>>,
    /// Published progress of the bulk change. Changed only while `parts` is locked.
    bulk_change: Mutex<Option<BulkChange>>,
    /// Published number of held removals, and the evidence of the store loss. Changed only while `parts` is locked.
    held_removals: Mutex<Option<HeldRemovals>>,
    /// Orphans that are kept because removals are on hold.
    held_orphans: watch::Sender<Vec<String>>,
}

impl Health {
    /// Creates the health of a starting agent, and publishes it with the state INIT.
    pub fn new(publisher: Arc<dyn StatusStore>, clock: Clock) -> Arc<Self> {
        let health = Health {
            publisher,
            start: clock.now(),
            clock,
            parts: Mutex::new(BTreeMap::new()),
            bulk: watch::Sender::new(None),
            bulk_change: Mutex::new(None),
            held_removals: Mutex::new(None),
            held_orphans: watch::Sender::new(Vec::new()),
        };
        health.set("VPPAgent", OperationalState::Init, "");
        Arc::new(health)
    }

    /// Sets the state of a part, and publishes the health if the state has changed.
    pub fn set(&self, part: &'static str, state: OperationalState, error: &str) {
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        if parts.get(part).is_some_and(|known| known.state == state && known.error == error) {
            return;
        }
        let last_change = self.clock.now();
        parts.insert(
            part,
            Part {
                state,
                error: error.to_owned(),
                last_change,
            },
        );

        self.write(&parts);
    }

    /// Returns a receiver for the start time of the bulk change in progress. The received value is `None` if no bulk change is in
    /// progress.
    pub fn bulk(&self) -> watch::Receiver<Option<Duration>> {
        self.bulk.subscribe()
    }

    /// Returns a receiver for the descriptions of the orphans that are kept because removals are on hold.
    pub fn held_orphans(&self) -> watch::Receiver<Vec<String>> {
        self.held_orphans.subscribe()
    }

    /// Publishes the start time of the bulk change in progress and the number of changes so far. If `change` is `None`, publishes
    /// that no bulk change is in progress.
    pub fn set_bulk_change(&self, change: Option<(Duration, u64)>) {
        let parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        *self.bulk_change.lock().unwrap_or_else(PoisonError::into_inner) = change.map(|(since, changes)| BulkChange {
            since: Some(timestamp(since)),
            changes,
        });
        self.write(&parts);
    }

    /// Publishes the held removals. If `held` is `None`, publishes that no removals are held.
    pub fn set_held_removals(&self, held: Option<HeldRemovals>) {
        let parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        let mut known = self.held_removals.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = std::mem::replace(&mut *known, held.clone()) != held;
        drop(known);
        if changed {
            self.write(&parts);
        }
    }

    /// Rewrites all health keys with the current time.
    pub fn publish(&self) {
        self.write(&self.parts.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Writes the health keys. Called with `parts` locked, so an older state cannot overwrite a newer one. Does not block.
    fn write(&self, parts: &BTreeMap<&'static str, Part>) {
        let seconds = |time: Duration| i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
        let now = seconds(self.clock.now());
        let mut agent = AgentStatus {
            build_version: env!("CARGO_PKG_VERSION").to_owned(),
            start_time: seconds(self.start),
            last_update: now,
            bulk_change: *self.bulk_change.lock().unwrap_or_else(PoisonError::into_inner),
            held_removals: self.held_removals.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            ..AgentStatus::default()
        };
        // The agent's state is the worst state of all its parts except Docker, which is optional.
        let needed = parts.iter().filter(|(name, _)| **name != "docker");
        let badness = |state: OperationalState| {
            [OperationalState::Ok, OperationalState::Init, OperationalState::Error]
                .iter()
                .position(|s| *s == state)
        };
        agent.state = needed
            .clone()
            .map(|(_, part)| part.state)
            .max_by_key(|state| badness(*state))
            .unwrap_or(OperationalState::Init) as i32;
        agent.last_change = needed.map(|(_, part)| seconds(part.last_change)).max().unwrap_or_default();
        for (name, part) in parts {
            let state = part.state as i32;
            agent.plugins.push(PluginStatus {
                name: (*name).to_owned(),
                state,
                ..PluginStatus::default()
            });
            let (last_change, error) = (seconds(part.last_change), part.error.clone());
            let status = PluginStatus {
                name: String::new(),
                state,
                last_change,
                last_update: now,
                error,
            };
            self.publisher.set(format!("{PART_HEALTH}{name}"), Published::Part(status));
        }
        self.publisher.set(AGENT_HEALTH.to_owned(), Published::Agent(agent));
    }
}

/// Publisher of the statuses of values, links, namespaces and microservices.
pub struct Reporter {
    publisher: Arc<dyn StatusStore>,
    clock: Clock,
    health: Arc<Health>,
    /// Published links by namespace and logical name.
    links: HashMap<NetnsId, BTreeMap<String, InterfaceState>>,
    /// Values that are kept because removals are on hold, each with the time at which its removal was put on hold.
    held_values: BTreeMap<Key, Duration>,
    in_sync: watch::Sender<bool>,
}

impl Reporter {
    /// Creates a reporter. It sets `in_sync` once everything that was desired at startup has been processed.
    pub fn new(publisher: Arc<dyn StatusStore>, health: Arc<Health>, clock: Clock, in_sync: watch::Sender<bool>) -> Self {
        Reporter {
            publisher,
            clock,
            health,
            links: HashMap::new(),
            held_values: BTreeMap::new(),
            in_sync,
        }
    }

    /// Publishes the status of a value, or deletes the published status if the value no longer exists.
    pub fn status(&self, view: &View<'_, Network>, change: &StatusChange) {
        let Some(key) = status_key(change.key.as_str()) else { return };
        let Some(status) = &change.status else {
            info!(key = %change.key, "value removed");
            return self.publisher.remove(key.as_str());
        };
        log(&change.key, status, self.clock.now());
        self.publish_value(view, &key, &change.key, status);
    }

    fn publish_value(&self, view: &View<'_, Network>, status_key: &Key, key: &Key, status: &Status) {
        let published = ValueStatus {
            namespace: namespace_text(view, key),
            adopted: view.applied(key).is_some_and(Value::is_adopted),
            removal_held_since: self.held_values.get(key).copied().map(timestamp),
            ..value_status(key, status)
        };
        self.publisher.set(status_key.to_string(), Published::Value(published.into()));
    }

    /// Publishes which values are kept because removals are on hold, and when the removal of each value was put on hold.
    ///
    /// Writes only the statuses that change.
    pub fn held_values(&mut self, view: &View<'_, Network>, held: BTreeMap<Key, Duration>) {
        let before = std::mem::replace(&mut self.held_values, held);
        let now = &self.held_values;
        let ended = before.keys().filter(|key| !now.contains_key(*key));
        let begun = now
            .iter()
            .filter(|(key, since)| before.get(*key) != Some(*since))
            .map(|(key, _)| key);
        for key in ended.chain(begun) {
            if let (Some(status_key), Some(status)) = (status_key(key.as_str()), view.status(key)) {
                self.publish_value(view, &status_key, key, &status);
            }
        }
    }

    /// Publishes the managed links of a namespace, and deletes the keys of links that no longer exist.
    pub fn links_of(&mut self, netns: NetnsId, links: Vec<(String, ObservedInterface<'_>)>) {
        let states = links.into_iter().map(|(name, link)| {
            let state = state_of(&name, &link);
            (name, state)
        });
        let now: BTreeMap<String, InterfaceState> = states.collect();
        let before = self.links.remove(&netns).unwrap_or_default();
        for name in before.keys().filter(|name| !now.contains_key(*name)) {
            // The interface may have a link in another namespace by now, in which case the key must stay.
            if self.links.values().all(|links| !links.contains_key(name)) {
                self.publisher.remove(&link_key(name));
            }
        }
        let last_change = i64::try_from(self.clock.now().as_secs()).unwrap_or(i64::MAX);
        for (name, state) in now.iter().filter(|(name, state)| before.get(*name) != Some(*state)) {
            let state = InterfaceState {
                last_change,
                ..state.clone()
            };
            self.publisher.set(link_key(name), Published::Link(state));
        }
        if !now.is_empty() {
            self.links.insert(netns, now);
        }
    }

    /// Publishes the namespace that a reference resolves to. If `found` is `None`, the reference does not resolve, and `message`
    /// says why.
    pub fn namespace(&self, name: &NamespaceName, found: Option<(NetnsId, bool)>, message: &str) {
        let Some((reference_type, reference)) = reference_of(name) else {
            return;
        };
        let status = NamespaceStatus {
            r#type: reference_type as i32,
            reference,
            available: found.is_some(),
            inode: found.map_or(0, |(netns, _)| netns.0),
            created_by_agent: found.is_some_and(|(_, owned)| owned),
            since: Some(timestamp(self.clock.now())),
            reason: if found.is_some() { String::new() } else { "Unavailable".to_owned() },
            message: message.to_owned(),
        };
        self.publisher.set(namespace_key(&name.key()), Published::Namespace(status));
    }

    /// Deletes the published status of a namespace reference.
    pub fn namespace_gone(&self, name: &NamespaceName) {
        self.namespace_key_gone(&name.key());
    }

    /// Deletes the published status of a namespace reference, given the scheduler key of the namespace.
    pub fn namespace_key_gone(&self, key: &Key) {
        self.publisher.remove(&namespace_key(key));
    }

    /// Publishes the container of a microservice. `netns` is the namespace of its main process.
    pub fn microservice(&self, service: &Microservice, netns: Option<NetnsId>) {
        let state = MicroserviceState {
            label: service.label.clone(),
            container_id: service.container_id.clone(),
            container_name: service.container_name.clone(),
            pid: service.pid,
            start_time: Some(service.started_at.into()),
            namespace_inode: netns.map_or(0, |netns| netns.0),
        };
        self.publisher.set(microservice_key(&service.label), Published::Microservice(state));
    }

    /// Deletes the published status of a microservice.
    pub fn microservice_gone(&self, label: &str) {
        self.publisher.remove(&microservice_key(label));
    }

    /// Publishes whether Docker can be reached.
    pub fn docker(&self, state: Result<(), String>) {
        match state {
            Ok(()) => self.health.set("docker", OperationalState::Ok, ""),
            Err(message) => self.health.set("docker", OperationalState::Error, &message),
        }
    }

    /// Notifies watchers of the start time of a bulk change, or of its end (`None`).
    pub fn bulk(&self, since: Option<Duration>) {
        self.health.bulk.send_replace(since);
    }

    /// Notifies watchers of the orphans that are kept because removals are on hold. `texts` contains a description of each
    /// orphan.
    pub fn held_orphans(&self, texts: Vec<String>) {
        self.health.held_orphans.send_replace(texts);
    }

    /// Called whenever all desired values have been processed. The first call declares the agent in sync.
    pub fn settled(&self) {
        self.publisher.settled();
        if !*self.in_sync.borrow() {
            self.in_sync.send_replace(true);
            self.health.set("VPPAgent", OperationalState::Ok, "");
            self.publisher.retain_only_current();
            info!(after_ms = (self.clock.now() - self.health.start).as_millis(), "in sync");
        }
    }
}

/// Logs a status. Statuses that need attention are logged as warnings.
fn log(key: &Key, status: &Status, now: Duration) {
    let (revision, state, reason, message) = (status.revision, status.state, &status.reason, &status.message);
    // Log a repair only once. Later statuses of the value still contain it.
    let just_made = |repair: &&Repair| repair.at + Duration::from_secs(1) > now;
    match state {
        ValueState::Configured => match status.last_repair.as_ref().filter(just_made) {
            Some(repair) => info!(%key, revision, "repaired after another program changed or deleted {}", repair.lost.join(", ")),
            None => info!(%key, revision, "configured"),
        },
        ValueState::Invalid | ValueState::Failed | ValueState::Retrying => warn!(%key, revision, ?state, %reason, "{message}"),
        _ => info!(%key, revision, ?state, %reason, "{message}"),
    }
}

fn link_key(name: &str) -> String {
    format!("status/linux/interfaces/v2/interface/{name}")
}

fn microservice_key(label: &str) -> String {
    format!("status/linux/microservice/{label}")
}

/// Returns the status key of a namespace reference, `status/linux/namespace/<type>/<reference>`.
fn namespace_key(key: &Key) -> String {
    format!("status/{key}")
}

fn reference_of(name: &NamespaceName) -> Option<(ReferenceType, String)> {
    Some(match name {
        NamespaceName::Own => return None,
        NamespaceName::Named(name) => (ReferenceType::Nsid, name.clone()),
        NamespaceName::Process(pid) => (ReferenceType::Pid, pid.to_string()),
        NamespaceName::File(path) => (ReferenceType::Fd, path.clone()),
        NamespaceName::Microservice(label) => (ReferenceType::Microservice, label.clone()),
    })
}

/// Returns the name of the namespace that contains the value's interface, followed by the namespace's inode number if it is open.
fn namespace_text(view: &View<'_, Network>, key: &Key) -> String {
    let value = view.desired(key).or(view.applied(key));
    let arp = || interface_named(view, &value?.arp()?.interface);
    let route = || interface_named(view, &value?.route()?.interface);
    let interface = value.and_then(Value::interface).or_else(arp).or_else(route);
    let Some(interface) = interface else { return String::new() };
    match netns_of(view, &interface.namespace) {
        Some(netns) => format!("{} ({netns})", interface.namespace),
        None => interface.namespace.to_string(),
    }
}

fn interface_named<'a>(view: &View<'a, Network>, name: &str) -> Option<&'a Interface> {
    let key = interface_key(name);
    view.desired(&key).or(view.applied(&key))?.interface()
}

fn timestamp(time: Duration) -> Timestamp {
    Timestamp {
        seconds: i64::try_from(time.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(time.subsec_nanos()).unwrap_or_default(),
    }
}

/// Converts a status to its published form. Texts may contain names chosen by users, so they are escaped with [`visible`]. Keys
/// identify values and stay unchanged.
fn value_status(key: &Key, status: &Status) -> ValueStatus {
    let explanation = status.explanation.as_deref().cloned().unwrap_or_default();
    ValueStatus {
        key: key.to_string(),
        state: status.state as i32,
        error: visible(&status.error),
        last_operation: status.last_operation as i32,
        details: status.details.iter().map(|text| visible(text)).collect(),
        reason: status.reason.clone(),
        message: visible(&status.message),
        since: Some(timestamp(status.since)),
        mod_revision: status.revision,
        next_retry: status.next_retry.map(timestamp),
        unmet: explanation.unmet.into_iter().map(unmet_dependency).collect(),
        attempts: explanation.attempts,
        last_error: explanation.last_error.map(last_error),
        derived_key: explanation.derived.map(|key| key.to_string()).unwrap_or_default(),
        last_repair: status.last_repair.as_ref().map(|repair| proto::Repair {
            time: Some(timestamp(repair.at)),
            lost: repair.lost.iter().map(|text| visible(text)).collect(),
        }),
        ..ValueStatus::default()
    }
}

fn unmet_dependency(unmet: Unmet) -> proto::UnmetDependency {
    let suggestion = |suggestion: Suggestion| proto::Suggestion {
        key: suggestion.key.to_string(),
        text: visible(&suggestion.text),
    };
    proto::UnmetDependency {
        label: visible(&unmet.label),
        expected: unmet.expected.map(|key| key.to_string()).unwrap_or_default(),
        name: visible(&unmet.name),
        since: Some(timestamp(unmet.since)),
        state: visible(&unmet.state),
        suggestions: unmet.suggestions.into_iter().map(suggestion).collect(),
    }
}

fn last_error(error: LastError) -> proto::LastError {
    let (errno, kernel_text) = error.kernel.map(|kernel| (kernel.errno, kernel.text)).unwrap_or_default();
    proto::LastError {
        errno,
        kernel_text,
        message: visible(&error.message),
        time: Some(timestamp(error.at)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scheduler::{Change, Scheduler};
    use crate::{desired::decode, sources::etcd::RawKey};

    /// Published status keys, each with the time at which the removal of the value was put on hold.
    #[derive(Default)]
    struct Recorded(Mutex<Vec<(String, Option<i64>)>>);

    impl StatusStore for Recorded {
        fn set(&self, key: String, message: Published) {
            if let Published::Value(status) = message {
                let since = status.removal_held_since.map(|since| since.seconds);
                self.0.lock().expect("the lock is not poisoned").push((key, since));
            }
        }

        fn remove(&self, _: &str) {}

        fn retain_only_current(&self) {}
    }

    #[test]
    fn statuses_include_held_removals_until_the_hold_ends() {
        let clock = Clock::with_clock(|| Duration::from_secs(1_000));
        let store = Arc::new(Recorded::default());
        let health = Health::new(store.clone(), clock.clone());
        let mut reporter = Reporter::new(store.clone(), health, clock.clone(), watch::Sender::new(false));
        let taken = || std::mem::take(&mut *store.0.lock().expect("the lock is not poisoned"));
        let mut scheduler = Scheduler::new(Network::new("vpp1"));

        // The ARP entries wait for their interface, so the scheduler starts no operation for them.
        let keys = ["10.0.0.1", "10.0.0.2"].map(|address| format!("linux/l3/v2/arp/absent/{address}"));
        let put = |key: &String, revision: i64| {
            let address = key.rsplit('/').next().unwrap_or_default();
            let text = format!(r#"{{"interface":"absent","ip_address":"{address}","hw_address":"02:00:00:00:00:01"}}"#);
            let full = Key::from(format!("config/{key}"));
            let value = decode(&RawKey::from(key.as_bytes()), &full, text.as_bytes());
            Change {
                key: full,
                revision,
                value: Some(value),
            }
        };
        let report = |reporter: &Reporter, scheduler: &mut Scheduler<Network>| {
            scheduler.step(clock.now());
            for change in scheduler.take_status_changes() {
                reporter.status(&scheduler.view(), &change);
            }
        };
        let [first, second] = keys.each_ref().map(|key| format!("config-status/{key}"));
        scheduler.transaction(keys.iter().map(|key| put(key, 1)).collect(), true);
        report(&reporter, &mut scheduler);
        assert_eq!(taken(), [(first.clone(), None), (second.clone(), None)]);

        let since = |seconds: u64| Duration::from_secs(seconds);
        let held = |keys: &[&String]| keys.iter().map(|key| (Key::from(format!("config/{key}")), since(900))).collect();
        reporter.held_values(&scheduler.view(), BTreeMap::new());
        assert_eq!(taken(), [], "nothing is written if no removals are on hold");
        reporter.held_values(&scheduler.view(), held(&[&keys[0]]));
        assert_eq!(taken(), [(first.clone(), Some(900))]);
        reporter.held_values(
            &scheduler.view(),
            held(&[&keys[0], &keys[1], &"linux/l3/v2/arp/unknown/10.0.0.1".to_owned()]),
        );
        assert_eq!(taken(), [(second.clone(), Some(900))], "only changed statuses are written");

        // A status that changes during the hold also includes the time at which the hold began.
        scheduler.transaction(vec![put(&keys[1], 2)], false);
        report(&reporter, &mut scheduler);
        assert_eq!(taken(), [(second.clone(), Some(900))]);
        reporter.held_values(&scheduler.view(), held(&[&keys[0]]));
        assert_eq!(taken(), [(second, None)]);
        reporter.held_values(&scheduler.view(), BTreeMap::new());
        assert_eq!(taken(), [(first, None)]);
    }
}
