//! Test fixture: a store, an agent with its own label, and a watch on what the agent publishes.
//!
//! Starts the store, the watch and the agent in the right order. Each wait either ends with an event or panics with a report. See
//! [`Bench::new`] and [`Bench::until`].

use std::{collections::BTreeMap, path::Path, sync::Arc, time::Duration};

use super::{
    agent::{self, Agent},
    command,
    config::Config,
    process::tail,
    status::{Publication, StatusWatch, ValueStatus},
    store::{Change, Store, StoreKind},
};

/// Default time limit for a wait, in seconds. Set `LIVE_PATIENCE_SECONDS` to override it, for example on a slow machine.
const TIME_LIMIT_SECONDS: u64 = 20;

/// Store revision at which each value was put, by key (after `config/`).
pub type Revisions = BTreeMap<String, i64>;

/// A store, an agent with its own label, and a watch on what the agent publishes.
pub struct Bench {
    /// Store to which the test writes desired values.
    pub store: Store,
    /// Microservice label of the agent.
    pub label: String,
    /// etcd endpoint for the agent. A test may replace it with a proxy's endpoint before it starts the agent.
    pub endpoint: String,
    /// Docker address for the agent.
    ///
    /// Nothing listens there unless the test starts a daemon and sets its address before it starts the agent.
    pub docker_host: String,
    /// Additional command-line arguments for the agent.
    pub agent_arguments: Vec<String>,
    /// Command that starts the agent's program, which follows as an argument. Empty to start the program itself.
    pub agent_launcher: Vec<String>,
    /// Log filter for the agent (`--log`).
    pub agent_log: String,
    agent: Option<Agent>,
    watch: StatusWatch,
    time_limit: Duration,
}

impl Bench {
    /// Starts a store and returns a bench without an agent.
    pub async fn new(kind: StoreKind) -> Self {
        Self::with_store(Store::start(kind).await)
    }

    /// Returns a bench with this store and without an agent.
    pub fn with_store(store: Store) -> Self {
        let kind = store.kind();
        let endpoint = store.endpoint().to_owned();
        let label = format!("bench-{kind:?}").to_lowercase();
        let watch = StatusWatch::start(store.client(), &label);
        let time_limit = std::env::var("LIVE_PATIENCE_SECONDS")
            .ok()
            .and_then(|text| text.parse().ok())
            .unwrap_or(TIME_LIMIT_SECONDS);
        Self {
            store,
            label,
            endpoint,
            docker_host: "unix:///run/docker.sock".to_owned(),
            agent_arguments: Vec::new(),
            agent_launcher: Vec::new(),
            agent_log: "debug".to_owned(),
            agent: None,
            watch,
            time_limit: Duration::from_secs(time_limit),
        }
    }

    /// Returns the time limit for a wait.
    pub fn time_limit(&self) -> Duration {
        self.time_limit
    }

    /// Returns the full key of a desired value.
    pub fn key(&self, rest: &str) -> String {
        format!("/vnf-agent/{}/config/{rest}", self.label)
    }

    /// Starts the agent and waits until it reports that it is healthy. Returns the store revision from just before the start.
    pub async fn start_agent(&mut self) -> i64 {
        let before = self.launch_agent().await;
        // Take the agent out of `self` during the wait, so that an early exit is reported at once and not only after the time
        // limit.
        let mut agent = self.agent.take().expect("the agent was just launched");
        let published = self.until("the agent publishes OK under check/status/v1/agent", |publication| {
            publication.keys.get("check/status/v1/agent").is_some_and(|entry| {
                let health: serde_json::Value = serde_json::from_str(&entry.text).unwrap_or_default();
                entry.revision > before && (health["state"] == "OK" || health["state"] == 1)
            })
        });
        tokio::select! {
            _ = published => {}
            status = agent.ended() => panic!("the agent ended while starting: {status}\n{}", self.report()),
        }
        self.agent = Some(agent);
        before
    }

    /// Starts the agent without waiting until it is ready. Returns the store revision from just before the start.
    pub async fn launch_agent(&mut self) -> i64 {
        // The embedded store does not run without the agent, so use the last revision that the watch received.
        let before = match self.store.kind() {
            StoreKind::Etcd => self.store.revision().await,
            StoreKind::Embedded => self.watch.now().revision,
        };
        self.launch_agent_now();
        before
    }

    /// Starts the agent, even if its store is not available.
    pub fn launch_agent_now(&mut self) {
        assert!(self.agent.is_none(), "a test must not start a second agent");
        let kind = self.store.kind();
        self.agent = Some(Agent::start_with(
            &self.agent_launcher,
            &self.label,
            kind,
            &self.endpoint,
            &self.docker_host,
            &self.agent_log,
            &self.agent_arguments,
        ));
    }

    /// Returns the running agent.
    pub fn agent(&mut self) -> &mut Agent {
        self.agent.as_mut().expect("the test started the agent")
    }

    /// Sends SIGTERM to the agent and asserts that it exits with 0.
    pub async fn stop_agent(&mut self) {
        self.agent.take().expect("the agent runs").stop().await;
    }

    /// Sends SIGKILL to the agent.
    pub async fn kill_agent(&mut self) {
        self.agent.take().expect("the agent runs").kill().await;
    }

    /// Puts one desired value, and returns the revision.
    pub async fn put(&self, rest: &str, value: impl Into<Vec<u8>>) -> i64 {
        self.store.put(&self.key(rest), value).await
    }

    /// Deletes one desired value, and returns the revision.
    pub async fn delete(&self, rest: &str) -> i64 {
        self.store.delete(&self.key(rest)).await
    }

    /// Puts the values of a configuration one by one, in the order of their keys.
    pub async fn put_each(&self, config: &Config) -> Revisions {
        let mut revisions = Revisions::new();
        for (rest, value) in config.entries() {
            let revision = self.put(&rest, value).await;
            revisions.insert(rest, revision);
        }
        revisions
    }

    /// Puts a whole configuration in one transaction.
    pub async fn put_together(&self, config: &Config) -> Revisions {
        let entries = config.entries();
        let changes = entries
            .iter()
            .map(|(rest, value)| Change::Put(self.key(rest), value.clone().into_bytes()))
            .collect();
        let revision = self.store.transact(changes).await;
        entries.into_keys().map(|rest| (rest, revision)).collect()
    }

    /// Deletes all desired values in one request.
    pub async fn delete_all(&self) -> i64 {
        self.store.delete_prefix(&self.key("")).await
    }

    /// Returns the keys that the agent publishes at the moment.
    pub fn published(&self) -> Arc<Publication> {
        self.watch.now()
    }

    /// Waits until the published keys meet `condition`. Panics with a full report after the time limit.
    pub async fn until(&self, what: &str, condition: impl FnMut(&Publication) -> bool) -> Arc<Publication> {
        match self.watch.wait_for(self.time_limit, condition).await {
            Some(publication) => publication,
            None => panic!(
                "timed out after {:?} while waiting until {what}\n{}",
                self.time_limit,
                self.report()
            ),
        }
    }

    /// Waits until `shortcomings` returns an empty list. Panics with the last list and a full report after the time limit.
    pub async fn until_none(&self, what: &str, shortcomings: impl Fn(&Publication) -> Vec<String>) -> Arc<Publication> {
        match self
            .watch
            .wait_for(self.time_limit, |publication| shortcomings(publication).is_empty())
            .await
        {
            Some(publication) => publication,
            None => panic!(
                "timed out after {:?}; not yet {what}:\n{}\n{}",
                self.time_limit,
                shortcomings(&self.published()).join("\n"),
                self.report()
            ),
        }
    }

    /// Waits until the status of every value is CONFIGURED with the revision of its last put.
    pub async fn until_configured(&self, revisions: &Revisions) -> Arc<Publication> {
        self.until_none("CONFIGURED at the revision of their put", |publication| {
            let late = revisions
                .iter()
                .filter(|(key, revision)| !publication.is_configured_at(key, **revision));
            late.map(|(key, revision)| format!("{key} (revision {revision}): {:?}", publication.of(key)))
                .collect()
        })
        .await
    }

    /// Waits until the status of every value is CONFIGURED and was published after this revision. Pass the revision from just
    /// before an agent's start to exclude the statuses of earlier agents.
    pub async fn until_configured_since(&self, revisions: &Revisions, published_after: i64) {
        self.until("every value is CONFIGURED again by the agent started last", |publication| {
            revisions.iter().all(|(key, revision)| {
                publication.is_configured_since(key, published_after) && publication.is_configured_at(key, *revision)
            })
        })
        .await;
    }

    /// Waits until a value is in this state, and returns its status.
    pub async fn until_state(&self, key: &str, state: &str) -> ValueStatus {
        let publication = self
            .until(&format!("{key} is {state}"), |publication| publication.state(key) == state)
            .await;
        publication.of(key).cloned().unwrap_or_default()
    }

    /// Waits until a value is PENDING with exactly these labels of unmet dependencies.
    pub async fn until_waiting_for(&self, key: &str, labels: &[&str]) -> ValueStatus {
        let mut expected: Vec<String> = labels.iter().map(|label| (*label).to_owned()).collect();
        expected.sort();
        let publication = self
            .until(&format!("{key} is PENDING with exactly {expected:?}"), |publication| {
                publication
                    .of(key)
                    .is_some_and(|status| status.state == "PENDING" && status.labels() == expected)
            })
            .await;
        publication.of(key).cloned().unwrap_or_default()
    }

    /// Waits until no value status is left.
    pub async fn until_nothing_is_published(&self) {
        self.until("no config-status key is left", |publication| !publication.has_status())
            .await;
    }

    /// Waits until `/run/netns` contains exactly these names.
    pub async fn until_namespaces_are(&self, expected: &[String]) {
        let mut expected = expected.to_vec();
        expected.sort();
        let what = format!("/run/netns contains exactly {expected:?}");
        self.until_true(&what, || command::named_namespaces() == expected).await;
    }

    /// Waits for a condition that is not visible in the published keys. Checks the condition every 5 ms.
    pub async fn until_true(&self, what: &str, condition: impl FnMut() -> bool) {
        assert!(
            self.becomes(condition).await,
            "timed out after {:?} while waiting until {what}\n{}",
            self.time_limit,
            self.report()
        );
    }

    /// Returns true if `condition` becomes true within the time limit.
    pub async fn becomes(&self, mut condition: impl FnMut() -> bool) -> bool {
        let deadline = tokio::time::Instant::now() + self.time_limit;
        while !condition() {
            if tokio::time::Instant::now() > deadline {
                return false;
            }
            // Poll, because no event reports a change in the output of a program such as `ip`.
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        true
    }

    /// Panics with the differences if the kernel does not match this configuration.
    pub fn check(&self, config: &Config) {
        config
            .check(&self.label)
            .unwrap_or_else(|difference| panic!("the kernel differs from the desired state:\n{difference}\n{}", self.report()));
    }

    /// Returns a report with everything needed to understand a failed test.
    pub fn report(&self) -> String {
        let mut report = format!("published:\n{}", self.published().describe());
        report.push_str("namespaces:\n");
        for name in command::named_namespaces() {
            let netns = format!("--net=/run/netns/{name}");
            let state = command::output(
                "nsenter",
                &[&netns, "sh", "-c", "ip -br addr; ip -br link; ip route; ip -6 route; ip neigh"],
            );
            report.push_str(&format!(
                "--- {name}\n{}{}",
                String::from_utf8_lossy(&state.stdout),
                String::from_utf8_lossy(&state.stderr)
            ));
        }
        report.push_str(&format!("--- (the agent's namespace)\n{}", command::ip("-br link")));
        report.push_str(&format!("log of the agent:\n{}\n", tail(Path::new(agent::LOG), 80)));
        report
    }
}
