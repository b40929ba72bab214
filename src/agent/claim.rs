//! Ensures that only one agent per label uses a store, regardless of the machines and namespaces in which the agents run.
//!
//! The agent claims its label by writing a key under a lease. The locks of [`label`](super::label) protect only against agents that are visible on
//! the same machine. The key protects against every agent that uses the same store. The agent writes the key before it applies values from the
//! store, even if the store is unreachable at startup. If the agent later loses the lease or the connection to the store, it claims the label again
//! as soon as possible. If another agent has the label by then, the agent exits and leaves the network unchanged.
//!
//! After a restart, the agent can replace the key of its former process at once if [`Claimant::has_ended`] proves that this process has ended.
//! No proof is possible if the former process ran on another machine or before a reboot. The agent then waits until the lease expires or is
//! renewed by its holder.
//!
//! An agent with an embedded store always has the label in that store.

mod claimant;

use std::time::Duration;

use etcd_client::{Compare, CompareOp, LeaseTimeToLiveResponse, PutOptions, Txn, TxnOp, WatchResponse, WatchStream};
use futures::StreamExt;
use models::key::agent_prefix;
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{Instant, MissedTickBehavior, interval, interval_at, sleep, timeout},
};
use tracing::{debug, info, warn};

use self::claimant::Claimant;
use crate::store::{Backoff, Connector, Renewal, Session, StoreConfig, StoreError, StoreErrorKind};

/// Key of the claim, relative to the agent's prefix.
pub const KEY: &str = "holder";
/// Time after which the store deletes the key of an agent that has died.
const TTL: Duration = Duration::from_secs(10);
/// Maximum time that startup waits for the first response from the store.
const FIRST_ANSWER: Duration = Duration::from_secs(1);
/// After the agent has read the store, it waits at most this long to find out which agent has the label. Must be longer than the remaining lease
/// of a dead agent.
const KNOWN_LIMIT: Duration = Duration::from_secs(40);
/// Interval at which the agent reads the lease of another agent.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// Maximum time that shutdown waits for the store.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(3);

/// Error returned if another agent has the label in this store.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("another agent with label {label} uses this store: {holder}; stop it, or give this agent another --microservice-label")]
pub struct Taken {
    label: String,
    holder: String,
}

/// Options of [`Claim::start`].
pub struct ClaimOptions {
    /// The agent's label.
    pub label: String,
    /// True if this process has bound the abstract socket of the label.
    pub has_socket: bool,
    /// True if the store belongs to this agent alone because it is embedded.
    pub owns_store: bool,
}

/// State of the claim.
#[derive(Clone, Debug)]
enum Progress {
    /// The store has not responded yet.
    Asking,
    /// The store has responded, and no other agent is known to have the label.
    Claiming,
    /// The store has confirmed that this process has the label.
    Held,
    /// The store cannot be reached.
    Unreachable,
    /// The store rejects the claim.
    Refused,
    Taken(Taken),
}

/// Claim of this process to a label. If the claim is dropped, the key stays in the store until its lease expires.
pub struct Claim {
    progress: watch::Receiver<Progress>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
    owns_store: bool,
}

impl Claim {
    /// Starts claiming the label. Must be called within a Tokio runtime.
    ///
    /// # Errors
    /// Fails only if the configuration of the store is unusable.
    pub fn start(store: StoreConfig, options: ClaimOptions) -> Result<Self, StoreError> {
        let (progress_sender, progress) = watch::channel(Progress::Asking);
        let (stop, mut stopped) = watch::channel(false);
        let owns_store = options.owns_store;
        let mut claimer = Claimer {
            connector: Connector::new(store)?,
            key: format!("{}{KEY}", agent_prefix(&options.label)),
            own: Claimant::own(options.has_socket),
            label: options.label,
            owns_store,
            lease: 0,
            progress: progress_sender,
        };
        // The wait fails only if the [`Claim`] was dropped, which aborts this task anyway.
        let stopped = async move {
            let _ = stopped.wait_for(|stop| *stop).await;
        };
        let task = tokio::spawn(async move {
            tokio::select! {
                taken = claimer.run() => {
                    claimer.progress.send_replace(Progress::Taken(taken));
                }
                () = stopped => claimer.give_up().await,
            }
        });
        Ok(Claim {
            progress,
            stop,
            task,
            owns_store,
        })
    }

    /// Waits until this process can start. Also returns `Ok` if the store does not respond in time. In any case, the process must await
    /// [`Self::allowed`] before it applies values from the store.
    ///
    /// # Errors
    /// Fails if another agent has the label.
    pub async fn decided(&self) -> Result<(), Taken> {
        if self.owns_store {
            return Ok(());
        }
        let mut progress = self.progress.clone();
        // A channel error means that the task has failed and the holder is unknown.
        let answered = timeout(FIRST_ANSWER, progress.wait_for(|progress| !matches!(progress, Progress::Asking)));
        if !matches!(answered.await, Ok(Ok(_))) {
            return Ok(());
        }
        let decided = progress.wait_for(|progress| !matches!(progress, Progress::Asking | Progress::Claiming));
        match decided.await.as_deref() {
            Ok(Progress::Taken(taken)) => Err(taken.clone()),
            _ => Ok(()),
        }
    }

    /// Waits until this process may apply values from the store. Never returns if another agent has the label.
    ///
    /// The wait ends after [`KNOWN_LIMIT`] even if it is not known which agent has the label. The limit starts when the future is first polled, so
    /// await the future only after the store has responded.
    pub fn allowed(&self) -> impl Future<Output = ()> + use<> {
        let (owns_store, mut progress) = (self.owns_store, self.progress.clone());
        async move {
            if owns_store {
                return;
            }
            let known = |progress: &Progress| matches!(progress, Progress::Held | Progress::Refused | Progress::Taken(_));
            let is_taken = match timeout(KNOWN_LIMIT, progress.wait_for(known)).await {
                Ok(Ok(progress)) => matches!(*progress, Progress::Taken(_)),
                _ => {
                    warn!(
                        "the store can be read but does not report which agent has the label; another agent with this label might not \
                         detect this agent"
                    );
                    false
                }
            };
            if is_taken {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Waits until another agent has taken the label.
    pub fn taken(&self) -> impl Future<Output = Taken> + use<> {
        let mut progress = self.progress.clone();
        async move {
            if let Ok(Progress::Taken(taken)) = progress
                .wait_for(|progress| matches!(progress, Progress::Taken(_)))
                .await
                .as_deref()
            {
                return taken.clone();
            }
            std::future::pending().await
        }
    }

    /// Releases the label by deleting the key.
    pub async fn shutdown(mut self) {
        self.stop.send_replace(true);
        if timeout(SHUTDOWN_LIMIT, &mut self.task).await.is_err() {
            warn!("the store does not respond; the label claim stays until its lease expires");
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Task that maintains a [`Claim`].
struct Claimer {
    connector: Connector,
    key: String,
    label: String,
    own: Claimant,
    owns_store: bool,
    /// Lease id of the key; 0 if there is no lease.
    lease: i64,
    progress: watch::Sender<Progress>,
}

/// Claim key as read from the store.
struct Found {
    claimant: Claimant,
    lease: i64,
    mod_revision: i64,
}

/// Claim key that this process has written under a lease.
struct Kept {
    renewal: Renewal,
    /// Store revision at which the key was written or read.
    revision: i64,
}

impl Claimer {
    /// Claims and keeps the label until another agent has it.
    async fn run(&mut self) -> Taken {
        let mut backoff = Backoff::new();
        let mut refused = false;
        loop {
            let began = Instant::now();
            let error = match self.session().await {
                Ok(taken) => return taken,
                Err(error) => error,
            };
            let was_held = matches!(*self.progress.borrow(), Progress::Held);
            let is_refusal = !matches!(error.kind(), StoreErrorKind::Unreachable | StoreErrorKind::LeaseNotFound);
            match is_refusal {
                // The source and the publisher already report that the store is unreachable.
                false => debug!(%error, "label claim interrupted"),
                true if std::mem::replace(&mut refused, true) => debug!(%error, "cannot claim the label"),
                true => warn!(%error, "cannot claim the label in the store; another agent with this label will not detect this agent"),
            }
            self.progress
                .send_replace(if is_refusal { Progress::Refused } else { Progress::Unreachable });
            if error.kind() != StoreErrorKind::LeaseNotFound {
                self.connector.skip();
            }
            sleep(backoff.after(if was_held { began.elapsed() } else { Duration::ZERO })).await;
        }
    }

    /// Claims and keeps the label over one connection, until an error occurs or another agent has the label.
    async fn session(&mut self) -> Result<Taken, StoreError> {
        let session = self.connector.connect(self.key.as_bytes()).await?;
        self.progress.send_if_modified(|progress| {
            let is_first = matches!(progress, Progress::Asking);
            if is_first {
                *progress = Progress::Claiming;
            }
            is_first
        });
        loop {
            let mut kept = match self.claim(&session).await? {
                Ok(kept) => kept,
                Err(taken) => return Ok(taken),
            };
            if !matches!(self.progress.send_replace(Progress::Held), Progress::Held) {
                info!(key = self.key, "label claimed in the store");
            }
            self.keep(&session, &mut kept).await?;
        }
    }

    /// Writes the key, unless this process has already written it. If the key was written by another agent, waits until it is
    /// certain whether that agent is still running.
    async fn claim(&mut self, session: &Session) -> Result<Result<Kept, Taken>, StoreError> {
        loop {
            let (found, revision) = self.read(session).await?;
            if let Some(found) = found
                .as_ref()
                .filter(|found| found.claimant.is(&self.own) && found.lease == self.lease)
            {
                match Renewal::start(session, found.lease).await {
                    Ok(renewal) => return Ok(Ok(Kept { renewal, revision })),
                    Err(error) if error.kind() == StoreErrorKind::LeaseNotFound => {}
                    Err(error) => return Err(error),
                }
            }
            if let Some(found) = found.as_ref().filter(|found| !self.may_replace(found))
                && self.is_renewed(session, found).await?
            {
                return Ok(Err(Taken {
                    label: self.label.clone(),
                    holder: found.claimant.to_string(),
                }));
            }
            // If the other agent's lease has expired in the meantime, its key is gone too. The write then fails, and the loop
            // tries again.
            if let Some(kept) = self.write(session, found.map_or(0, |found| found.mod_revision)).await? {
                return Ok(Ok(kept));
            }
        }
    }

    async fn read(&self, session: &Session) -> Result<(Option<Found>, i64), StoreError> {
        let mut kv = session.kv();
        let answer = session.call("reading the label claim", kv.get(self.key.as_str(), None)).await?;
        let revision = answer.header().map_or(0, |header| header.revision());
        let found = answer.kvs().first().map(|kv| Found {
            claimant: Claimant::parse(kv.value()),
            lease: kv.lease(),
            mod_revision: kv.mod_revision(),
        });
        Ok((found, revision))
    }

    /// Returns whether this process may replace the key. This requires that no other running agent has written the key. An agent always writes its
    /// key with a lease, so a key without a lease may be replaced.
    fn may_replace(&self, found: &Found) -> bool {
        self.owns_store || found.lease == 0 || found.claimant.is(&self.own) || found.claimant.has_ended(&self.own)
    }

    /// Waits until another agent's lease is renewed or its key is deleted. Returns `true` if the lease was renewed.
    async fn is_renewed(&self, session: &Session, found: &Found) -> Result<bool, StoreError> {
        info!(holder = %found.claimant, "another agent may have the label; waiting until its lease is renewed or expires");
        let mut checks = interval(CHECK_INTERVAL);
        checks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (began, mut left) = (Instant::now(), i64::MAX);
        loop {
            checks.tick().await;
            // The lease should have expired by now. As the key still exists, the agent assumes that the lease was renewed.
            if began.elapsed() > TTL * 2 {
                return Ok(true);
            }
            let requested = session
                .call("reading a lease", session.lease().time_to_live(found.lease, None))
                .await;
            let now = requested.as_ref().map_or(left, LeaseTimeToLiveResponse::ttl);
            if now > left {
                return Ok(true);
            }
            left = now;
            match self.read(session).await?.0 {
                None => return Ok(false),
                Some(now) if now.mod_revision != found.mod_revision => return Ok(!self.may_replace(&now)),
                Some(_) => {}
            }
        }
    }

    /// Writes the key under a new lease, provided that the key's revision is still `mod_revision` (0 if the key does not exist).
    /// Returns `None` if the revision has changed.
    async fn write(&mut self, session: &Session, mod_revision: i64) -> Result<Option<Kept>, StoreError> {
        let ttl = i64::try_from(TTL.as_secs()).unwrap_or(i64::MAX);
        let lease = session.call("granting a lease", session.lease().grant(ttl, None)).await?.id();
        let put = TxnOp::put(self.key.as_str(), self.own.text(), Some(PutOptions::new().with_lease(lease)));
        let unchanged = Compare::mod_revision(self.key.as_str(), CompareOp::Equal, mod_revision);
        let transaction = Txn::new().when([unchanged]).and_then([put]);
        let answer = session.call("claiming the label", session.kv().txn(transaction)).await?;
        if !answer.succeeded() {
            session.revoke(lease).await?;
            return Ok(None);
        }
        self.lease = lease;
        let revision = answer.header().map_or(0, |header| header.revision());
        let renewal = Renewal::start(session, lease).await?;
        Ok(Some(Kept { renewal, revision }))
    }

    /// Renews the lease until the key is changed or deleted.
    async fn keep(&self, session: &Session, kept: &mut Kept) -> Result<(), StoreError> {
        let mut changes: WatchStream = session.watch(self.key.as_bytes(), kept.revision + 1).await?;
        let period = TTL / 3;
        let mut renew = interval_at(Instant::now() + period, period);
        renew.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                change = changes.next() => match change {
                    Some(Ok(change)) if !change.canceled() && !self.concerns_key(&change) => {}
                    Some(Ok(change)) if !change.canceled() => return Ok(()),
                    Some(Err(error)) => return Err(session.stream_error("watching the label claim", &error)),
                    _ => return Err(StoreError::protocol(session.endpoint(), "the watch of the label claim ended")),
                },
                _ = renew.tick() => kept.renewal.ask(session).await?,
                answer = kept.renewal.answered(session) => answer?,
            }
        }
    }

    /// Returns whether a change affects the claim key itself. The watch also reports longer keys that begin with the claim key.
    fn concerns_key(&self, change: &WatchResponse) -> bool {
        let mut keys = change.events().iter().filter_map(|event| Some(event.kv()?.key()));
        keys.any(|key| key == self.key.as_bytes())
    }

    async fn give_up(&mut self) {
        if self.lease == 0 {
            return;
        }
        let revoked = async {
            let session = self.connector.connect(self.key.as_bytes()).await?;
            session.revoke(self.lease).await
        };
        if let Err::<(), StoreError>(error) = revoked.await {
            warn!(%error, "the label claim stays until its lease expires");
        }
    }
}
