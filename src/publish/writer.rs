//! The task that writes to the store.
//!
//! Owns the session, the lease and its renewal, and what is in flight. Must never decide what a key should be; `state` does.
//! Start reading at [`Writer::run`], then `Writer::session`.
//!
//! # How a late transaction is kept from doing harm
//! When a connection is lost, transactions on their way may have been carried out, or may be later (a frozen server goes on
//! with what it had received). So a new lease is taken, every key is written again under it, and then the former lease is
//! revoked: from there on, a put under the former lease fails ("requested lease not found"), and a deletion does not meet its
//! guard. What the late ones did before that is found by listing once more. Only then do the keys count as stored.

use std::{sync::Arc, time::Duration};

use etcd_client::{Compare, CompareOp, LeaseKeepAliveStream, LeaseKeeper, PutOptions, Txn, TxnOp};
use futures::stream::{FuturesUnordered, StreamExt};
use tokio::{
    sync::watch,
    time::{Instant, MissedTickBehavior, interval_at, sleep, timeout},
};

use super::{
    OWN_KEY_SPACES, Shared, StoreHealth,
    state::{Batch, Found, Guard, Write},
};
use crate::store::{Backoff, Connector, Session, StoreError, StoreErrorKind};

/// Transactions on their way together, as long as full batches wait; a trickle goes one at a time, which merges best.
const IN_FLIGHT_MAX: usize = 8;
/// How long a shutdown may take.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(3);

pub(super) struct Writer {
    connector: Connector,
    prefix: String,
    ttl: Duration,
    shared: Arc<Shared>,
    health: watch::Sender<StoreHealth>,
    lease: Option<i64>,
    /// Former leases that transactions of unknown outcome were sent with.
    former: Vec<i64>,
    uncertain: bool,
    /// Since when the present session works.
    established: Option<Instant>,
}

/// Renewal of the lease.
struct Renewal {
    keeper: LeaseKeeper,
    answers: LeaseKeepAliveStream,
}

/// Why the next step of a session is another one than writing.
#[derive(Default)]
struct Round {
    /// The stored state must be listed again.
    list: bool,
    /// Transactions of one operation to send, to find the one that the store refuses.
    single: usize,
}

impl Writer {
    pub fn new(connector: Connector, prefix: String, ttl: Duration, shared: Arc<Shared>, health: watch::Sender<StoreHealth>) -> Self {
        Self {
            connector,
            prefix,
            ttl: ttl.max(Duration::from_secs(1)),
            shared,
            health,
            lease: None,
            former: Vec::new(),
            uncertain: false,
            established: None,
        }
    }

    /// Writes until told to stop, then gives the lease back.
    pub async fn run(mut self, mut stop: watch::Receiver<bool>) -> Result<(), StoreError> {
        // An error here means that all handles are gone, which ends the task anyway.
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
            self.uncertain |= self.shared.state().interrupt();
            // Keys may be gone until they are verified again.
            self.shared.settled.send_replace(Some(0));
            let message = error.to_string();
            let news = self.health.send_if_modified(|health| {
                let now = StoreHealth::Disconnected { message };
                let differs = *health != now;
                *health = now;
                differs
            });
            if news {
                tracing::warn!(%error, "status cannot be published; it is kept and published later");
            }
            // Endpoints of one cluster share leases, so another one can go on with ours.
            if error.kind() != StoreErrorKind::LeaseNotFound {
                self.connector.skip();
            }
            let worked = self.established.take().map_or(Duration::ZERO, |since| since.elapsed());
            sleep(backoff.after(worked)).await;
        }
    }

    /// One connection; it ends only by an error.
    async fn session(&mut self) -> Result<std::convert::Infallible, StoreError> {
        let session = self
            .connector
            .connect(format!("{}{}", self.prefix, OWN_KEY_SPACES[0]).as_bytes())
            .await?;
        let (lease, mut renewal) = self.secure_lease(&session).await?;
        self.list(&session, lease).await?;
        self.established = Some(Instant::now());
        self.health.send_replace(StoreHealth::Connected {
            endpoint: session.endpoint().to_owned(),
        });
        tracing::info!(endpoint = session.endpoint(), lease, "publishing status");

        let fence_at = self.shared.state().sequence();
        let mut in_flight = FuturesUnordered::new();
        let mut round = Round::default();
        let period = self.ttl / 3;
        let mut renew = interval_at(Instant::now() + period, period);
        renew.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut unanswered = false;
        let shared = self.shared.clone();
        loop {
            let fence = !self.former.is_empty() && self.shared.state().settled() >= fence_at;
            if !(round.list || fence) {
                while in_flight.is_empty() || (in_flight.len() < IN_FLIGHT_MAX && self.shared.state().has_full_batch()) {
                    let size = if round.single > 0 { 1 } else { usize::MAX };
                    let batch = self.shared.state().take_batch(size);
                    if batch.is_empty() {
                        break;
                    }
                    round.single = round.single.saturating_sub(1);
                    in_flight.push(self.send(&session, lease, batch));
                }
            } else if in_flight.is_empty() {
                if fence {
                    self.revoke_former(&session).await?;
                }
                self.list(&session, lease).await?;
                round.list = false;
                continue;
            }
            if self.former.is_empty() {
                self.tell_settled();
            }
            tokio::select! {
                Some((batch, outcome)) = in_flight.next(), if !in_flight.is_empty() => self.landed(batch, outcome, &mut round)?,
                () = shared.changed.notified() => {}
                _ = renew.tick() => {
                    if std::mem::replace(&mut unanswered, true) {
                        return Err(StoreError::protocol(session.endpoint(), "the renewal of the lease is not answered"));
                    }
                    session.call("renewing the lease", renewal.keeper.keep_alive()).await?;
                }
                answer = renewal.answers.message() => {
                    check_renewal(&session, answer)?;
                    unanswered = false;
                }
            }
        }
    }

    /// Goes on with the present lease if it still exists and nothing of unknown outcome was sent with it; else takes a new one.
    async fn secure_lease(&mut self, session: &Session) -> Result<(i64, Renewal), StoreError> {
        let mut client = session.lease();
        if std::mem::take(&mut self.uncertain) {
            self.former.extend(self.lease.take());
        }
        if let Some(lease) = self.lease {
            match session.call("renewing the lease", client.keep_alive(lease)).await {
                Ok((keeper, answers)) => return Ok((lease, Renewal { keeper, answers })),
                Err(error) if error.kind() == StoreErrorKind::LeaseNotFound => self.lease = None,
                Err(error) => return Err(error),
            }
        }
        let seconds = i64::try_from(self.ttl.as_secs()).unwrap_or(i64::MAX);
        let lease = session.call("taking a lease", client.grant(seconds, None)).await?.id();
        self.lease = Some(lease);
        let (keeper, answers) = session.call("renewing the lease", client.keep_alive(lease)).await?;
        Ok((lease, Renewal { keeper, answers }))
    }

    /// Compares the stored keys with the wanted ones; nothing may be in flight.
    async fn list(&self, session: &Session, lease: i64) -> Result<(), StoreError> {
        let mut found = Vec::new();
        for space in OWN_KEY_SPACES {
            let listing = session.list(format!("{}{space}", self.prefix).as_bytes(), false).await?;
            found.extend(listing.items.into_iter().filter_map(|item| {
                let (mod_revision, lease) = (item.mod_revision(), item.lease());
                let (key, value) = item.into_key_value();
                // All our keys are text; another key here is not ours and cannot be named.
                let key = Arc::from(std::str::from_utf8(&key).ok()?.strip_prefix(&self.prefix)?);
                Some(Found {
                    key,
                    value,
                    lease,
                    mod_revision,
                })
            }));
        }
        self.shared.state().adopt(lease, found);
        Ok(())
    }

    /// One transaction.
    fn send(&self, session: &Session, lease: i64, batch: Batch) -> impl Future<Output = (Batch, Result<bool, StoreError>)> + use<> {
        let mut guards = Vec::new();
        let operations = batch.iter().map(|(key, write)| {
            let key = format!("{}{key}", self.prefix);
            match write {
                Write::Put(value) => TxnOp::put(key, value.to_vec(), Some(PutOptions::new().with_lease(lease))),
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
            (batch, answer.map(|answer| answer.succeeded()))
        }
    }

    fn landed(&self, batch: Batch, outcome: Result<bool, StoreError>, round: &mut Round) -> Result<(), StoreError> {
        let mut state = self.shared.state();
        match outcome {
            Ok(true) => state.written(batch),
            // A key is not as we left it: someone else has written it. Look again.
            Ok(false) => {
                state.not_written(batch);
                round.list = true;
            }
            Err(error) if error.kind() == StoreErrorKind::Refused => {
                if let [(key, _)] = batch.as_slice() {
                    tracing::error!(%key, %error, "the store refuses this status; it is not published");
                    state.refused(key);
                } else {
                    round.single += batch.len();
                    state.not_written(batch);
                }
            }
            Err(error) => {
                if error.kind().is_certain_refusal() {
                    state.not_written(batch);
                }
                return Err(error);
            }
        }
        Ok(())
    }

    fn tell_settled(&self) {
        let settled = Some(self.shared.state().settled());
        self.shared
            .settled
            .send_if_modified(|told| std::mem::replace(told, settled) != settled);
    }

    /// After this, nothing that was sent under a former lease can take effect.
    async fn revoke_former(&mut self, session: &Session) -> Result<(), StoreError> {
        while let Some(&lease) = self.former.last() {
            revoke(session, lease).await?;
            self.former.pop();
        }
        Ok(())
    }

    async fn give_up_leases(&mut self) -> Result<(), StoreError> {
        self.former.extend(self.lease.take());
        if self.former.is_empty() {
            return Ok(());
        }
        let session = self
            .connector
            .connect(format!("{}{}", self.prefix, OWN_KEY_SPACES[0]).as_bytes())
            .await?;
        self.revoke_former(&session).await
    }
}

/// Revokes a lease; one that is gone already is as good.
async fn revoke(session: &Session, lease: i64) -> Result<(), StoreError> {
    match session.call("revoking a lease", session.lease().revoke(lease)).await {
        Err(error) if error.kind() != StoreErrorKind::LeaseNotFound => Err(error),
        _ => Ok(()),
    }
}

/// The store answers the renewal of a lease that is gone with TTL 0, not with an error.
fn check_renewal(
    session: &Session,
    answer: Result<Option<etcd_client::LeaseKeepAliveResponse>, etcd_client::Error>,
) -> Result<(), StoreError> {
    match answer {
        Ok(Some(answer)) if answer.ttl() > 0 => Ok(()),
        Ok(Some(_)) => Err(StoreError::lease_lost(session.endpoint())),
        Ok(None) => Err(StoreError::protocol(session.endpoint(), "it closed the renewal of the lease")),
        Err(error) => Err(session.stream_error("renewing the lease", &error)),
    }
}
