//! Decides which request the publisher sends to the store next, and processes the responses. Performs no I/O.
//!
//! Tracks the lease, former leases and transactions in flight; `state` decides what to write under each key.
//!
//! # Late transactions
//!
//! When a connection is lost, the transactions in flight may have been carried out, or may still be carried out later. For example, a frozen server
//! that resumes processes the requests that it has received. Therefore, the publisher obtains a new lease, writes every key again under the new
//! lease, and then revokes the former lease. From then on, a put under the former lease fails ("requested lease not found"). A deletion has no
//! effect, because its guard no longer holds. A further listing shows the changes that late transactions made before the revocation. The keys count
//! as stored after this listing.

use super::state::{Batch, Found, State};
use crate::telemetry::defect;

/// Maximum number of transactions in flight. Only full batches are sent in parallel. A smaller batch waits for the transactions
/// in flight, so that more changes are merged into it.
const IN_FLIGHT_MAX: usize = 8;

/// A request to the store.
#[derive(Debug)]
pub(crate) enum Request {
    /// Renew this lease, if it still exists.
    Renew(i64),
    /// Grant a new lease.
    Grant,
    /// List all of the publisher's keys.
    List,
    /// Send a transaction. Other transactions may be in flight at the same time.
    Write(Batch),
    /// Revoke a former lease.
    Revoke(i64),
}

/// Outcome of a transaction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Completion {
    /// The store carried out the transaction at this revision.
    Written(i64),
    /// The guard of a deletion did not hold, because another client has changed the key. The transaction had no effect.
    NotAsLeft,
    /// The store rejects the transaction permanently.
    Refused,
    /// The connection was lost, and the outcome is unknown.
    Unknown,
    /// The connection was lost, and the transaction was certainly not carried out.
    NotWritten,
}

/// State of the lease and of the requests to the store.
#[derive(Default)]
pub(crate) struct LeaseState {
    lease: Option<i64>,
    /// Former leases under which transactions with unknown outcomes were sent.
    former: Vec<i64>,
    uncertain: bool,
    /// State of the current connection. [`Self::connected`] resets this field and the fields below.
    connection: Connection,
    /// Number of operations to send one at a time, each in its own transaction, to find the operation that the store rejects.
    single: usize,
    /// Sequence number of the newest change at the time of this connection's first listing. Once that change is stored, all keys
    /// have been written under the current lease.
    fence_at: Option<u64>,
}

/// State of a connection. Several transactions may be in flight at a time; any other request is sent alone.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
enum Connection {
    /// The lease must be renewed or granted.
    #[default]
    Unleased,
    /// The lease is being renewed or granted.
    Leasing,
    /// All keys must be listed.
    Unlisted,
    /// All keys are being listed.
    Listing,
    /// Changes are being written. If `listing_due` is `true`, no further transaction starts, and the keys are listed once all
    /// transactions in flight have completed.
    Writing { in_flight: usize, listing_due: bool },
    /// A former lease is being revoked.
    Fencing,
}

impl LeaseState {
    /// Resets the state for a new connection.
    pub fn connected(&mut self) {
        (self.connection, self.single, self.fence_at) = (Connection::default(), 0, None);
        if std::mem::take(&mut self.uncertain) {
            self.former.extend(self.lease.take());
        }
    }

    /// Returns the next request to send, if any. Must be called after each response and each change of `state`.
    pub fn next(&mut self, state: &mut State) -> Option<Request> {
        match self.connection {
            Connection::Leasing | Connection::Listing | Connection::Fencing => None,
            Connection::Unleased => self.ask(Connection::Leasing, self.lease.map_or(Request::Grant, Request::Renew)),
            Connection::Unlisted => self.ask(Connection::Listing, Request::List),
            Connection::Writing { in_flight, listing_due } => {
                let is_written_again = self.fence_at.is_some_and(|change| state.settled() >= change);
                match self.former.last().copied().filter(|_| is_written_again) {
                    None if !listing_due => self.next_write(in_flight, state),
                    _ if in_flight > 0 => None,
                    Some(lease) => self.ask(Connection::Fencing, Request::Revoke(lease)),
                    None => self.ask(Connection::Listing, Request::List),
                }
            }
        }
    }

    fn ask(&mut self, connection: Connection, request: Request) -> Option<Request> {
        self.connection = connection;
        Some(request)
    }

    fn next_write(&mut self, in_flight: usize, state: &mut State) -> Option<Request> {
        let room = in_flight == 0 || (in_flight < IN_FLIGHT_MAX && state.has_full_batch());
        if !room {
            return None;
        }
        let batch = state.take_batch(if self.single > 0 { 1 } else { usize::MAX });
        if batch.is_empty() {
            return None;
        }
        self.single = self.single.saturating_sub(1);
        let writing = Connection::Writing {
            in_flight: in_flight + 1,
            listing_due: false,
        };
        self.ask(writing, Request::Write(batch))
    }

    /// Moves from the state `asking`, in which a response is expected, to the state `next`.
    fn answered(&mut self, asking: Connection, next: Connection) {
        match self.connection == asking {
            true => self.connection = next,
            false => defect(&format!("unexpected response to {asking:?} in state {:?}", self.connection)),
        }
    }

    /// Processes the response to [`Request::Renew`] if the lease still exists.
    pub fn renewed(&mut self) {
        self.answered(Connection::Leasing, Connection::Unlisted);
    }

    /// Processes the response to [`Request::Renew`] if the lease no longer exists.
    pub fn lease_gone(&mut self) {
        self.lease = None;
        self.answered(Connection::Leasing, Connection::Unleased);
    }

    /// Processes the response to [`Request::Grant`].
    pub fn granted(&mut self, lease: i64) {
        self.lease = Some(lease);
        self.renewed();
    }

    /// Processes the response to [`Request::List`].
    pub fn listed(&mut self, state: &mut State, found: impl IntoIterator<Item = Found>) {
        state.adopt(self.lease.unwrap_or_default(), found);
        self.fence_at.get_or_insert(state.sequence());
        self.answered(
            Connection::Listing,
            Connection::Writing {
                in_flight: 0,
                listing_due: false,
            },
        );
    }

    /// Processes the response to [`Request::Revoke`]. Transactions under the revoked lease can no longer take effect. The listing
    /// that follows shows the changes that they made before the revocation.
    pub fn revoked(&mut self) {
        self.former.pop();
        self.answered(
            Connection::Fencing,
            Connection::Writing {
                in_flight: 0,
                listing_due: true,
            },
        );
    }

    /// Processes the outcome of a transaction.
    pub fn completed(&mut self, state: &mut State, batch: Batch, outcome: Completion) {
        match &mut self.connection {
            Connection::Writing {
                in_flight: in_flight @ 1..,
                ..
            } => *in_flight -= 1,
            connection => defect(&format!("a transaction completed in the unexpected state {connection:?}")),
        }
        match outcome {
            Completion::Written(revision) => state.written(batch, revision),
            Completion::NotAsLeft => {
                state.not_written(batch);
                self.audit();
            }
            Completion::Refused => {
                if let [(key, _)] = batch.as_slice() {
                    tracing::error!(%key, "status not published: the store rejects it");
                    state.refused(key);
                } else {
                    self.single += batch.len();
                    state.not_written(batch);
                }
            }
            Completion::NotWritten => state.not_written(batch),
            // The keys of the batch stay marked as in flight until [`Self::interrupted`] is called.
            Completion::Unknown => {}
        }
    }

    /// Requests a new listing of the keys once no transaction is in flight.
    pub fn audit(&mut self) {
        // In every other state, a listing is in progress or will follow anyway.
        if let Connection::Writing { listing_due, .. } = &mut self.connection {
            *listing_due = true;
        }
    }

    /// Records that the connection was lost.
    pub fn interrupted(&mut self, state: &mut State) {
        self.uncertain |= state.interrupt();
    }

    /// Returns the ID of the current lease.
    pub fn lease(&self) -> Option<i64> {
        self.lease
    }

    /// Returns `true` if no transaction under a former lease can still take effect, so written keys count as stored.
    pub fn is_fenced(&self) -> bool {
        self.former.is_empty()
    }

    /// Removes the current lease and all former leases from the state. Returns them, so that the caller can revoke them at shutdown.
    pub fn give_up(&mut self) -> Vec<i64> {
        let mut leases = std::mem::take(&mut self.former);
        leases.extend(self.lease.take());
        leases
    }
}

#[cfg(test)]
mod tests;
