//! Task that writes status to the store. It keeps a session open and renews the lease. `lease_state` decides which requests to
//! send.

use std::{sync::Arc, time::Duration};

use etcd_client::{Compare, CompareOp, PutOptions, ResponseHeader, Txn, TxnOp, TxnResponse, WatchResponse, WatchStream};
use futures::stream::{FuturesUnordered, SelectAll, StreamExt};
use tokio::{
    sync::watch,
    time::{Instant, MissedTickBehavior, interval_at, sleep, timeout},
};

use super::{
    OWN_KEY_SPACES, Shared, StoreHealth,
    lease_state::{Completion, LeaseState, Request},
    state::{Batch, Found, Guard, Write},
};
use crate::store::{Backoff, Connector, Renewal, Session, StoreError, StoreErrorKind};

/// Interval at which all stored keys are compared with the desired ones. The comparison detects keys that another client has
/// overwritten; deletions are noticed at once by a watch.
const AUDIT_INTERVAL: Duration = Duration::from_secs(600);
/// Maximum duration of a shutdown.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(3);

pub(super) struct Writer {
    connector: Connector,
    prefix: String,
    ttl: Duration,
    shared: Arc<Shared>,
    health: watch::Sender<StoreHealth>,
    lease_state: LeaseState,
    /// Time at which the current session was established; `None` if there is no working session.
    established: Option<Instant>,
}

impl Writer {
    pub fn new(connector: Connector, prefix: String, ttl: Duration, shared: Arc<Shared>, health: watch::Sender<StoreHealth>) -> Self {
        Self {
            connector,
            prefix,
            ttl: ttl.max(Duration::from_secs(1)),
            shared,
            health,
            lease_state: LeaseState::default(),
            established: None,
        }
    }

    /// Writes until `stop` is `true`, then revokes the lease.
    pub async fn run(mut self, mut stop: watch::Receiver<bool>) -> Result<(), StoreError> {
        // `wait_for` fails only if all handles were dropped. In this case, the task is aborted anyway.
        let stopped = async move {
            let _ = stop.wait_for(|stop| *stop).await;
        };
        tokio::select! {
            () = stopped => {}
            () = self.write() => {}
        }
        self.shared.settled.send_replace(None);
        match timeout(SHUTDOWN_LIMIT, self.give_up_leases()).await {
            Ok(result) => result,
            Err(_) => Err(StoreError::protocol(
                "the configured endpoints",
                "the lease was not revoked in time; the keys expire by themselves",
            )),
        }
    }

    async fn write(&mut self) {
        let mut backoff = Backoff::new();
        loop {
            let Err(error) = self.session().await;
            self.lease_state.interrupted(&mut self.shared.state());
            // Until the next session has listed the keys, any of them could be missing from the store, so no change counts as
            // stored.
            self.shared.settled.send_replace(Some(0));
            let message = error.to_string();
            let news = self.health.send_if_modified(|health| {
                let now = StoreHealth::Disconnected { message };
                let differs = *health != now;
                *health = now;
                differs
            });
            if news {
                tracing::warn!(%error, "status not published; the agent keeps trying");
            }
            // All endpoints of a cluster share leases, so the next endpoint can continue with the same lease.
            if error.kind() != StoreErrorKind::LeaseNotFound {
                self.connector.skip();
            }
            let worked = self.established.take().map_or(Duration::ZERO, |since| since.elapsed());
            sleep(backoff.after(worked)).await;
        }
    }

    /// Connects to an endpoint, and writes until an error occurs.
    async fn session(&mut self) -> Result<std::convert::Infallible, StoreError> {
        let session = self
            .connector
            .connect(format!("{}{}", self.prefix, OWN_KEY_SPACES[0]).as_bytes())
            .await?;
        self.lease_state.connected();
        let mut renewal = self.secure_lease(&session).await?;
        let mut in_flight = FuturesUnordered::new();
        let period = self.ttl / 3;
        let mut renew = interval_at(Instant::now() + period, period);
        renew.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut audit = interval_at(Instant::now() + AUDIT_INTERVAL, AUDIT_INTERVAL);
        let (mut opening, mut deletions) = (FuturesUnordered::new(), SelectAll::new());
        let shared = self.shared.clone();
        loop {
            loop {
                let request = self.lease_state.next(&mut shared.state());
                match request {
                    Some(Request::Write(batch)) => in_flight.push(self.send(&session, batch)),
                    Some(Request::Revoke(lease)) => {
                        session.revoke(lease).await?;
                        self.lease_state.revoked();
                    }
                    Some(_) => {
                        let listed = self.list(&session).await?;
                        if self.established.is_none() {
                            self.establish(&session);
                            // Open the watches while writes continue. No deletion is missed in the meantime, because each watch
                            // starts right after the revision of its listing.
                            opening.extend(
                                listed
                                    .into_iter()
                                    .map(|(prefix, revision)| watch_deletions(&session, prefix, revision + 1)),
                            );
                        }
                    }
                    None => break,
                }
            }
            if self.lease_state.is_fenced() {
                self.report_written();
            }
            tokio::select! {
                Some((batch, outcome)) = in_flight.next(), if !in_flight.is_empty() => self.completed(batch, outcome)?,
                () = shared.changed.notified() => {}
                Some(opened) = opening.next(), if !opening.is_empty() => deletions.push(opened?),
                Some(answer) = deletions.next(), if !deletions.is_empty() => {
                    let answer = answer.map_err(|error| session.stream_error("watching status", &error))?;
                    self.deleted(&session, &answer)?;
                }
                _ = audit.tick() => self.lease_state.audit(),
                _ = renew.tick() => renewal.ask(&session).await?,
                answer = renewal.answered(&session) => answer?,
            }
        }
    }

    /// Renews the current lease if it still exists and no transaction with an unknown outcome was sent under it. Otherwise
    /// requests a new lease.
    async fn secure_lease(&mut self, session: &Session) -> Result<Renewal, StoreError> {
        let mut client = session.lease();
        loop {
            let request = self.lease_state.next(&mut self.shared.state());
            let lease = match request {
                Some(Request::Grant) => {
                    let seconds = i64::try_from(self.ttl.as_secs()).unwrap_or(i64::MAX);
                    let lease = session.call("granting a lease", client.grant(seconds, None)).await?.id();
                    self.lease_state.granted(lease);
                    lease
                }
                Some(Request::Renew(lease)) => lease,
                _ => {
                    return Err(StoreError::protocol(
                        session.endpoint(),
                        "no lease was requested for the status keys",
                    ));
                }
            };
            match Renewal::start(session, lease).await {
                Ok(renewal) => {
                    if matches!(request, Some(Request::Renew(_))) {
                        self.lease_state.renewed();
                    }
                    return Ok(renewal);
                }
                Err(error) if error.kind() == StoreErrorKind::LeaseNotFound && matches!(request, Some(Request::Renew(_))) => {
                    self.lease_state.lease_gone();
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Records that the session works. Called once all stored keys have been listed.
    fn establish(&mut self, session: &Session) {
        self.established = Some(Instant::now());
        let endpoint = session.endpoint().to_owned();
        tracing::info!(endpoint, lease = self.lease_state.lease(), "publishing status");
        self.health.send_replace(StoreHealth::Connected { endpoint });
    }

    /// Processes deletions that a watch reported. Deleted keys that should exist are written again.
    fn deleted(&mut self, session: &Session, answer: &WatchResponse) -> Result<(), StoreError> {
        if answer.canceled() {
            let words = format!("the watch of the status keys was canceled: {:?}", answer.cancel_reason());
            return Err(StoreError::protocol(session.endpoint(), &words));
        }
        let mut state = self.shared.state();
        for kv in answer.events().iter().filter_map(|event| event.kv()) {
            if let Some(key) = std::str::from_utf8(kv.key()).ok().and_then(|key| key.strip_prefix(&self.prefix)) {
                state.deleted(key, kv.mod_revision());
            }
        }
        Ok(())
    }

    /// Lists the stored keys and compares them with the desired keys. Must not be called while a transaction is in flight. Returns the prefix of
    /// each key space with the revision of its listing.
    async fn list(&mut self, session: &Session) -> Result<Vec<(String, i64)>, StoreError> {
        let (mut found, mut listed) = (Vec::new(), Vec::new());
        for space in OWN_KEY_SPACES {
            let prefix = format!("{}{space}", self.prefix);
            let listing = session.list(prefix.as_bytes(), false).await?;
            listed.push((prefix, listing.revision));
            found.extend(listing.items.into_iter().filter_map(|item| {
                let (mod_revision, lease) = (item.mod_revision(), item.lease());
                let (key, value) = item.into_key_value();
                // All keys of the publisher are UTF-8; a non-UTF-8 key here belongs to another client.
                let key = Arc::from(std::str::from_utf8(&key).ok()?.strip_prefix(&self.prefix)?);
                Some(Found {
                    key,
                    value,
                    lease,
                    mod_revision,
                })
            }));
        }
        self.lease_state.listed(&mut self.shared.state(), found);
        Ok(listed)
    }

    /// Sends one transaction. The future returns the batch with the revision of the transaction, or with `None` if a guard did
    /// not hold.
    fn send(&self, session: &Session, batch: Batch) -> impl Future<Output = (Batch, Result<Option<i64>, StoreError>)> + use<> {
        let lease = self.lease_state.lease().unwrap_or_default();
        let mut guards = Vec::new();
        let operations = batch.iter().map(|(key, write)| {
            let key = format!("{}{key}", self.prefix);
            match write {
                Write::Put(value) => TxnOp::put(key, value.text(), Some(PutOptions::new().with_lease(lease))),
                Write::Delete(guard) => {
                    guards.push(match guard {
                        Guard::Lease(lease) => Compare::lease(key.clone(), CompareOp::Equal, *lease),
                        Guard::Revision(revision) => Compare::mod_revision(key.clone(), CompareOp::Equal, *revision),
                    });
                    TxnOp::delete(key, None)
                }
            }
        });
        let operations: Vec<TxnOp> = operations.collect();
        let transaction = Txn::new().when(guards).and_then(operations);
        let mut kv = session.kv();
        let place = session.place();
        async move {
            let answer = place.call("publishing status", kv.txn(transaction)).await;
            let revision = |answer: &TxnResponse| answer.header().map_or(0, ResponseHeader::revision);
            (batch, answer.map(|answer| answer.succeeded().then(|| revision(&answer))))
        }
    }

    fn completed(&mut self, batch: Batch, outcome: Result<Option<i64>, StoreError>) -> Result<(), StoreError> {
        let (completed, end) = match outcome {
            Ok(Some(revision)) => (Completion::Written(revision), None),
            Ok(None) => (Completion::NotAsLeft, None),
            Err(error) if error.kind() == StoreErrorKind::Refused => {
                tracing::warn!(%error, keys = batch.len(), "the store rejects a batch of statuses");
                (Completion::Refused, None)
            }
            Err(error) if error.kind().is_certain_refusal() => (Completion::NotWritten, Some(error)),
            Err(error) => (Completion::Unknown, Some(error)),
        };
        self.lease_state.completed(&mut self.shared.state(), batch, completed);
        end.map_or(Ok(()), Err)
    }

    fn report_written(&self) {
        let settled = Some(self.shared.state().settled());
        self.shared
            .settled
            .send_if_modified(|reported| std::mem::replace(reported, settled) != settled);
    }

    async fn give_up_leases(&mut self) -> Result<(), StoreError> {
        let leases = self.lease_state.give_up();
        if leases.is_empty() {
            return Ok(());
        }
        let session = self
            .connector
            .connect(format!("{}{}", self.prefix, OWN_KEY_SPACES[0]).as_bytes())
            .await?;
        for lease in leases {
            session.revoke(lease).await?;
        }
        Ok(())
    }
}

/// Opens a watch for deletions of keys below `prefix`, starting at `revision`.
async fn watch_deletions(session: &Session, prefix: String, revision: i64) -> Result<WatchStream, StoreError> {
    session.watch_deletions(prefix.as_bytes(), revision).await
}
