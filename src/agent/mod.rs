//! Builds, starts and stops the parts of the agent, and runs the tasks that connect them.
//!
//! [`Agent::start`] is the startup sequence. Only `main`, the CLI and tests import this module.

pub(crate) mod bulk;
pub mod claim;
pub(crate) mod effects;
#[cfg(test)]
mod existing_tests;
mod failure_class;
pub(crate) mod held;
#[cfg(test)]
mod held_tests;
pub(crate) mod hold;
pub(crate) mod host;
pub mod label;
#[cfg(test)]
mod link_tests;
mod performer;
mod progress;
mod reading;
mod removals;
pub(crate) mod report;
#[cfg(test)]
mod restart_tests;
pub(crate) mod startup_scan;
mod statuses;
mod store_events;
mod supervision;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context;
use models::{
    key::agent_prefix,
    proto::status::{HeldRemovals, OperationalState},
};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
};
use tracing::{error, info, warn};

use crate::scheduler::history::HistorySettings;
use crate::{
    api::{self, Api, StoreAddress, grpc, http, security::Gate},
    config::{self, Changes, ForeignAddresses, HttpSettings, Settings},
    descriptors::{Network, alias::Marks, value::DriftPolicy},
    desired::{self, Desired, Held},
    engine::{
        Clock, Core, Engine, Event, Handle,
        watch::{Selector, Watcher as StatusWatcher},
    },
    publish::{Publisher, PublisherOptions, StoreHealth},
    service_manager::{self, ServiceManager},
    signals::{
        docker::{MicroserviceChange, Tracker, TrackerConfig},
        namespaces::{Watcher, WatcherConfig},
    },
    sources::{
        etcd::{Source, SourceOptions},
        file::ConfigFile,
        note_file::NoteFile,
    },
    store::StoreConfig,
    telemetry::{self, metrics::Metrics},
};
use data_dir::DataDir;
use etcd_embedded as embedded;
use listener::Serving;
use netns_kernel::{DescriptorStore, Executor, ExecutorConfig, NetnsId, open_files::OpenFiles};

use self::{
    claim::{Claim, ClaimOptions},
    effects::{NetworkEffects, RunTimeSettings, Signal},
    label::LabelLock,
    performer::KernelPerformer,
    removals::Removals,
    report::{Health, Reporter},
    statuses::{Statuses, Told},
    store_events::StoreEvents,
    supervision::Supervised,
};
pub use crate::publish::Published;

/// Interval at which unchanged health keys are rewritten, as in ligato vpp-agent.
const HEALTH_INTERVAL: Duration = Duration::from_secs(10);

type AgentHandle = Handle<Network, Signal>;

/// Components that publish the agent's state.
struct Reporting {
    publisher: Publisher,
    statuses: Statuses,
    metrics: Arc<Metrics>,
    health: Arc<Health>,
    in_sync: watch::Receiver<bool>,
}

impl Reporting {
    fn start(store: StoreConfig, label: &str, clock: &Clock) -> anyhow::Result<(Self, Reporter)> {
        let publisher = Publisher::start(store, agent_prefix(label), PublisherOptions::default())?;
        let (statuses, metrics) = (Statuses::new(), Arc::new(Metrics::new()));
        let reported = Arc::new(Told::new(publisher.clone(), statuses.clone(), metrics.clone()));
        let health = Health::new(reported.clone(), clock.clone());
        let (in_sync_sender, in_sync) = watch::channel(false);
        let reporter = Reporter::new(reported, health.clone(), clock.clone(), in_sync_sender);
        let reporting = Reporting {
            publisher,
            statuses,
            metrics,
            health,
            in_sync,
        };
        Ok((reporting, reporter))
    }
}

/// A running agent. Dropping it stops all parts and leaves the network unchanged.
pub struct Agent {
    /// Embedded store; `None` if the agent uses an external etcd.
    store: Option<embedded::Store>,
    claim: Claim,
    publisher: Publisher,
    statuses: Statuses,
    in_sync: watch::Receiver<bool>,
    http: Option<Serving>,
    grpc: Option<Serving>,
    tasks: JoinSet<String>,
    desired: Arc<Desired>,
    handle: AgentHandle,
    settings: Settings,
    _tracker: Option<Tracker>,
}

impl Agent {
    /// Starts all components and returns as soon as they are running. Use [`Agent::in_sync`] to wait until the desired state has been processed.
    ///
    /// # Errors
    /// Fails if a component cannot be started, for example because a privilege is missing or an address is in use. Also fails if another agent has
    /// the label in the store. The error names the component.
    pub async fn start(settings: &Settings, lock: &LabelLock, manager: ServiceManager) -> anyhow::Result<Self> {
        // Must come first, because an agent with an unsafe data directory must not change anything.
        DataDir::open(&settings.data_dir)?;
        let initial_config = settings.initial_config.as_deref().map(ConfigFile::open).transpose()?;
        let clock = Clock::new();
        let (started, label) = (clock.now(), settings.microservice_label.as_str());
        let (netns_sender, netns_events) = mpsc::unbounded_channel();
        let executor_config = executor_config(settings, &manager, netns_sender);
        let (netns_dir, open_files) = (executor_config.netns_dir.clone(), executor_config.open_files);

        let (store, store_config, claim) = open_store(settings, open_files, lock)?;
        manager.status("starting: claiming the microservice label in the store");
        let executor = Arc::new(Executor::start(executor_config).context("the netns executor cannot start")?);
        claim.decided().await?;
        let (reported, reporter) = Reporting::start(store_config.clone(), label, &clock)?;

        let (probe_sender, probes) = mpsc::unbounded_channel();
        let watcher = Watcher::start(WatcherConfig { netns_dir }, probe_sender).context("the namespace watcher cannot start")?;
        let own = executor.own_namespace();
        let core = core(settings, &executor, watcher, reporter);
        let (engine, handle) = Engine::new(core, KernelPerformer::new(executor.clone()), clock.clone());
        let statuses = Arc::new(reported.statuses.clone());
        let desired = Arc::new(Desired::open(handle.client(), statuses, &settings.data_dir)?);
        let api = Api::new(api::Parts {
            desired: desired.clone(),
            engine: handle.client(),
            statuses: reported.statuses.clone(),
            kernel: executor.clone(),
            clock,
            started,
            label: label.to_owned(),
            store: StoreAddress::new(store_config.endpoints.iter().map(String::as_str), store.is_some()),
            metrics: reported.metrics.clone(),
            log: telemetry::log_filter(),
        });
        let (http, grpc) = serve(&api, settings, &affordable_http(settings, open_files)).await?;
        handle.send(Event::Facts(vec![NetworkEffects::own_namespace(own)]));

        let mut tasks = JoinSet::new();
        let tracker = start_tracker(settings, own, &handle, &mut tasks);
        let parts = removals::Parts {
            desired: desired.clone(),
            handle: handle.clone(),
            metrics: reported.metrics.clone(),
            orphans: reported.health.held_orphans(),
            in_sync: reported.in_sync.clone(),
        };
        follow_store(settings, store_config, parts, &claim, &mut tasks)?;
        tasks.spawn(named("engine", engine.run()));
        tasks.spawn(named("namespace watcher", pass_probes(probes, handle.clone())));
        tasks.spawn(named("netns executor", pass_namespaces(netns_events, handle.clone())));
        if let Some((file, items)) = initial_config {
            desired.in_file(&items);
            tasks.spawn(named("configuration file", pass_file(file, desired.clone())));
        }
        start_reports(&reported, &desired, &handle, executor, manager, &mut tasks);
        let taken = claim.taken();
        tasks.spawn(async move { taken.await.to_string() });
        Ok(Agent {
            store,
            claim,
            publisher: reported.publisher,
            statuses: reported.statuses,
            in_sync: reported.in_sync,
            http,
            grpc,
            tasks,
            desired,
            handle,
            settings: settings.clone(),
            _tracker: tracker,
        })
    }

    /// Applies changed settings. Changes that take effect only after a restart are logged and otherwise ignored.
    pub fn reload(&mut self, settings: &Settings) {
        let Changes { at_once, at_start } = Changes::between(&self.settings, settings);
        if self.settings.log != settings.log
            && let Err(error) = telemetry::log_filter().replace(&settings.log_directives())
        {
            warn!("{error}");
        }
        let run_time = run_time_settings(settings);
        if run_time != run_time_settings(&self.settings) {
            self.handle.send(Event::Signal(Signal::Settings(run_time)));
        }
        match at_once.as_slice() {
            [] => info!("settings read again: nothing changed that can change while the agent runs"),
            changed => info!("settings read again; changed: {}", changed.join(", ")),
        }
        if !at_start.is_empty() {
            warn!("changed settings that take effect at the next start: {}", at_start.join(", "));
        }
        self.settings.adopt(settings);
    }

    /// Returns a watchable flag that becomes `true` once the values desired at startup have been processed as far as possible.
    pub fn in_sync(&self) -> watch::Receiver<bool> {
        self.in_sync.clone()
    }

    /// Watches published messages, under the same keys as in the store (`config-status/…`).
    pub fn watch_statuses(&self, selector: Selector) -> StatusWatcher<Arc<Published>> {
        self.statuses.watch(selector)
    }

    /// Returns the desired state of all sources. API clients use it to change their values.
    pub fn desired(&self) -> Arc<Desired> {
        self.desired.clone()
    }

    /// Waits until a part of the agent has ended unexpectedly or another agent has taken the label. Returns the reason.
    pub async fn failed(&mut self) -> String {
        match self.tasks.join_next().await {
            Some(Ok(why)) => why,
            Some(Err(error)) => format!("a task of the agent failed: {error}"),
            None => "the agent is not running".to_owned(),
        }
    }

    /// Returns the address of the embedded store, if any.
    pub fn store_address(&self) -> Option<SocketAddr> {
        self.store.as_ref().map(embedded::Store::local_addr)
    }

    /// Returns the address of the REST API, if it is served.
    pub fn http_address(&self) -> Option<SocketAddr> {
        self.http.as_ref().map(Serving::address)
    }

    /// Returns the address of the gRPC API, if it is served.
    pub fn grpc_address(&self) -> Option<SocketAddr> {
        self.grpc.as_ref().map(Serving::address)
    }

    /// Stops the agent. Leaves the network unchanged and deletes the keys under the agent's lease.
    pub async fn shutdown(mut self) {
        if let Some(grpc) = self.grpc.take() {
            grpc.shutdown().await;
        }
        if let Some(http) = self.http.take() {
            http.shutdown().await;
        }
        self.tasks.shutdown().await;
        match tokio::time::timeout(Duration::from_secs(3), self.publisher.shutdown()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => warn!("cannot delete the status keys, so they stay until their lease expires: {error}"),
            Err(_) => warn!("the store does not respond; the status keys stay until their lease expires"),
        }
        // Must come last, so that another agent with the label cannot act before this agent has stopped.
        self.claim.shutdown().await;
        if let Some(store) = self.store.take() {
            store.shutdown().await;
        }
    }
}

/// Starts the tasks that report the progress of bulk changes, the state of the agent and its health.
fn start_reports(
    reported: &Reporting,
    desired: &Desired,
    handle: &AgentHandle,
    executor: Arc<Executor>,
    manager: ServiceManager,
    tasks: &mut JoinSet<String>,
) {
    let (health, metrics) = (reported.health.clone(), reported.metrics.clone());
    tasks.spawn(named("progress", progress::report(health.clone(), executor.clone())));
    let supervised = Supervised {
        in_sync: reported.in_sync.clone(),
        statuses: reported.statuses.clone(),
        metrics: metrics.clone(),
        engine: handle.client(),
        executor,
    };
    tasks.spawn(named("service manager", supervision::report(manager, supervised)));
    let health_task = keep_health(health, reported.publisher.health(), desired.held(), metrics);
    tasks.spawn(named("publisher", health_task));
}

fn executor_config(settings: &Settings, manager: &ServiceManager, event_sender: mpsc::UnboundedSender<NetnsId>) -> ExecutorConfig {
    ExecutorConfig {
        descriptor_store: manager.is_present().then(|| Box::new(manager.clone()) as Box<dyn DescriptorStore>),
        stored_descriptors: service_manager::stored_descriptors(),
        bindings_file: Some(settings.data_dir.join("process-bindings.json")),
        watched_max: settings.drift.watched_max,
        ..ExecutorConfig::new(event_sender)
    }
}

/// Returns the API settings, and reduces `connections_max` if the open file limit requires it.
fn affordable_http(settings: &Settings, open_files: OpenFiles) -> HttpSettings {
    let connections_max = settings.http.connections_max.min(open_files.connections);
    if connections_max < settings.http.connections_max {
        warn!(
            limit = open_files.limit,
            connections_max,
            "the open file limit allows fewer connections than --http-connections-max; raise LimitNOFILE= of the service, or ulimit -n"
        );
    }
    HttpSettings {
        connections_max,
        ..settings.http.clone()
    }
}

/// Creates the engine core from the settings.
fn core(settings: &Settings, executor: &Arc<Executor>, watcher: Watcher, reporter: Reporter) -> Core<NetworkEffects> {
    let label = settings.microservice_label.as_str();
    let sweep_interval = settings.drift.sweep_interval;
    let mut effects = NetworkEffects::new(executor.clone(), Marks::new(label), Box::new(watcher), reporter, sweep_interval);
    if is_strict(settings) {
        effects = effects.strict();
    }
    let network = Network::new(label).with_drift_policy(drift_policy(settings.drift.policy));
    Core::new(network, effects).with_history(history(settings.history))
}

fn is_strict(settings: &Settings) -> bool {
    settings.drift.foreign_addresses == ForeignAddresses::Strict
}

fn run_time_settings(settings: &Settings) -> RunTimeSettings {
    RunTimeSettings {
        sweep_interval: settings.drift.sweep_interval,
        strict: is_strict(settings),
        history: history(settings.history),
    }
}

fn history(limits: config::HistoryLimits) -> HistorySettings {
    HistorySettings {
        enabled: limits.transactions > 0,
        age: limits.age,
        transactions: limits.transactions,
        operations: limits.transactions.saturating_mul(4),
    }
}

fn drift_policy(setting: config::DriftPolicy) -> DriftPolicy {
    match setting {
        config::DriftPolicy::Repair => DriftPolicy::Repair,
        config::DriftPolicy::Report => DriftPolicy::Report,
    }
}

/// Runs a task of the agent. When the task ends, returns a message that names `part`, the component to which the task belongs.
async fn named(part: &'static str, task: impl Future<Output = ()> + Send) -> String {
    task.await;
    format!("the {part} ended")
}

/// Starts the etcd source, and the task that decides whether removals are on hold.
fn follow_store(
    settings: &Settings,
    store: StoreConfig,
    parts: removals::Parts,
    claim: &Claim,
    tasks: &mut JoinSet<String>,
) -> anyhow::Result<()> {
    let prefix = format!("{}{}", agent_prefix(&settings.microservice_label), desired::CONFIG);
    let removals = Removals::new(settings.on_store_loss, NoteFile::new(&settings.data_dir, prefix.clone()), parts);
    let options = SourceOptions {
        note: removals.note(),
        ..SourceOptions::default()
    };
    let events = StoreEvents::new(Source::start_with(store, prefix, options)?, claim.allowed());
    tasks.spawn(named("etcd source", removals.run(events)));
    Ok(())
}

/// Opens the store named in the settings or the embedded store, and starts claiming the agent's label in that store.
fn open_store(
    settings: &Settings,
    open_files: OpenFiles,
    lock: &LabelLock,
) -> anyhow::Result<(Option<embedded::Store>, StoreConfig, Claim)> {
    let (store, config) = match settings.etcd.clone() {
        Some(config) => (None, config),
        None => {
            let store = start_store(settings, open_files)?;
            let config = StoreConfig::plain([store.local_addr().to_string()]);
            (Some(store), config)
        }
    };
    let options = ClaimOptions {
        label: settings.microservice_label.clone(),
        has_socket: lock.has_socket(),
        owns_store: store.is_some(),
    };
    let claim = Claim::start(config.clone(), options)?;
    Ok((store, config, claim))
}

fn start_store(settings: &Settings, open_files: OpenFiles) -> anyhow::Result<embedded::Store> {
    let options = embedded::Options {
        listen: settings.embedded_listen,
        data_dir: settings.data_dir.clone(),
        limits: embedded::StoreLimits {
            connections: embedded::StoreLimits::default().connections.min(open_files.connections),
            quota: settings.embedded_quota,
            ..embedded::StoreLimits::default()
        },
    };
    let store = embedded::Store::start(options).context("the embedded store cannot start")?;
    let address = store.local_addr();
    info!(%address, data_dir = %settings.data_dir.display(), "embedded store started, use it with etcdctl --endpoints {address}");
    Ok(store)
}

/// Starts the APIs. Must be the last startup step that can fail, so that clients never reach an agent that fails to start.
async fn serve(api: &Api, settings: &Settings, limits: &HttpSettings) -> anyhow::Result<(Option<Serving>, Option<Serving>)> {
    let gate = Arc::new(Gate::new(limits).context("the APIs cannot start")?);
    let http = match settings.http.listen {
        None => None,
        Some(listen) => {
            let server = http::start(api.clone(), listen, limits, gate.clone());
            Some(server.await.context("the REST API cannot start")?)
        }
    };
    let grpc = match settings.grpc_listen {
        None => None,
        Some(listen) => {
            let server = grpc::start(api.clone(), listen, limits, gate);
            Some(server.await.context("the gRPC API cannot start")?)
        }
    };
    Ok((http, grpc))
}

/// Starts the Docker tracker. Docker is optional. If its address is unusable, microservice references stay pending.
fn start_tracker(settings: &Settings, own: NetnsId, handle: &AgentHandle, tasks: &mut JoinSet<String>) -> Option<Tracker> {
    let (sender, changes) = mpsc::unbounded_channel();
    let config = TrackerConfig {
        docker_host: format!("unix://{}", settings.docker_socket.display()),
        own_netns_inode: own.0,
    };
    match Tracker::start(config, sender) {
        Ok(tracker) => {
            tasks.spawn(named("Docker tracker", pass_docker(changes, handle.clone())));
            Some(tracker)
        }
        Err(error) => {
            error!("{error}; microservice references stay pending");
            handle.send(Event::FactsSettled);
            None
        }
    }
}

async fn pass_probes(mut probes: mpsc::UnboundedReceiver<String>, handle: AgentHandle) {
    while let Some(key) = probes.recv().await {
        handle.send(Event::Probe(key.into()));
    }
}

async fn pass_namespaces(mut changed: mpsc::UnboundedReceiver<NetnsId>, handle: AgentHandle) {
    while let Some(netns) = changed.recv().await {
        handle.send(Event::Signal(Signal::Namespace(netns)));
    }
}

async fn pass_docker(mut changes: mpsc::UnboundedReceiver<MicroserviceChange>, handle: AgentHandle) {
    while let Some(change) = changes.recv().await {
        handle.send(Event::Signal(Signal::Microservice(change)));
    }
}

async fn pass_file(mut file: ConfigFile, desired: Arc<Desired>) {
    loop {
        desired.in_file(&file.changed().await);
    }
}

/// Republishes the health keys periodically, and immediately when the store connection or the held removals change.
async fn keep_health(health: Arc<Health>, mut store: watch::Receiver<StoreHealth>, mut held: watch::Receiver<Held>, metrics: Arc<Metrics>) {
    let mut ticks = tokio::time::interval(HEALTH_INTERVAL);
    loop {
        let state = store.borrow_and_update().clone();
        let held_now = held.borrow_and_update().clone();
        let connected = matches!(state, StoreHealth::Connected { .. });
        metrics.set_connected(connected);
        let message = held_now.message().filter(|_| connected);
        health.set_held_removals(message.is_some().then(|| held_removals(&held_now)));
        match (state, message) {
            (StoreHealth::Connecting, _) => health.set("etcd", OperationalState::Init, ""),
            (StoreHealth::Connected { .. }, None) => health.set("etcd", OperationalState::Ok, ""),
            (StoreHealth::Connected { .. }, Some(message)) => health.set("etcd", OperationalState::Error, &message),
            (StoreHealth::Disconnected { message }, _) => health.set("etcd", OperationalState::Error, &message),
        }
        tokio::select! {
            changed = store.changed() => if changed.is_err() { return },
            changed = held.changed() => if changed.is_err() { return },
            _ = ticks.tick() => health.publish(),
        }
    }
}

fn held_removals(held: &Held) -> HeldRemovals {
    let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    HeldRemovals {
        values: count(held.values.len()),
        orphans: count(held.orphans.len()),
        evidence: held.evidence.clone().unwrap_or_default(),
    }
}
