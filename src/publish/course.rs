//! What is asked of the store next, and what its answers mean: the decisions of the writer, without any connection.
//!
//! Owns the lease, the former leases and what is in flight. Must never do I/O, nor decide what a key should be; `state` does.
//! Start reading at [`Course::next`].
//!
//! # How a late transaction is kept from doing harm
//! When a connection is lost, transactions on their way may have been carried out, or may be later (a frozen server goes on
//! with what it had received). So a new lease is taken, every key is written again under it, and then the former lease is
//! revoked: from there on, a put under the former lease fails ("requested lease not found"), and a deletion does not meet its
//! guard. What the late ones did before that is found by listing once more. Only then do the keys count as stored.

use super::state::{Batch, Found, State};

/// Transactions on their way together, as long as full batches wait; a trickle goes one at a time, which merges best.
const IN_FLIGHT_MAX: usize = 8;

/// Something to ask of the store.
#[derive(Debug)]
pub(crate) enum Request {
    /// Whether this lease of ours still exists.
    Renew(i64),
    /// A new lease.
    Grant,
    /// All keys of the publisher.
    List,
    /// A transaction; it may be on its way together with others.
    Write(Batch),
    /// The end of a former lease.
    Revoke(i64),
}

/// What came of a transaction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Landed {
    /// It was carried out, at this revision.
    Written(i64),
    /// A guard did not hold: a key is not as we left it, someone else has written it.
    NotAsLeft,
    /// The store refuses it for good.
    Refused,
    /// The connection ended with it; what came of it is unknown.
    Unknown,
    /// The connection ended with it, and it was certainly not carried out.
    NotWritten,
}

/// See the [module documentation](self).
#[derive(Default)]
pub(crate) struct Course {
    lease: Option<i64>,
    /// Former leases that transactions of unknown outcome were sent with.
    former: Vec<i64>,
    uncertain: bool,
    /// What follows is of the present connection only.
    connection: Connection,
}

#[derive(Default)]
struct Connection {
    /// The lease is known to exist.
    secured: bool,
    /// A request that nothing may go beside is on its way.
    exclusive: bool,
    listed: bool,
    /// The stored state must be listed again.
    list: bool,
    /// Transactions of one operation to send, to find the one that the store refuses.
    single: usize,
    in_flight: usize,
    /// All that was set when the connection was made is stored when this change is.
    fence_at: u64,
}

impl Course {
    /// A connection was made.
    pub fn connected(&mut self) {
        self.connection = Connection::default();
        if std::mem::take(&mut self.uncertain) {
            self.former.extend(self.lease.take());
        }
    }

    /// What to ask now, if anything. To be called again after each answer and each change of the state.
    pub fn next(&mut self, state: &mut State) -> Option<Request> {
        let connection = &mut self.connection;
        if connection.exclusive {
            return None;
        }
        if !connection.secured {
            connection.exclusive = true;
            return Some(self.lease.map_or(Request::Grant, Request::Renew));
        }
        let fence = connection.listed && !self.former.is_empty() && state.settled() >= connection.fence_at;
        if connection.listed && !connection.list && !fence {
            return self.next_write(state);
        }
        if connection.in_flight > 0 {
            return None;
        }
        connection.exclusive = true;
        match self.former.last().filter(|_| fence) {
            Some(lease) => {
                connection.list = true;
                Some(Request::Revoke(*lease))
            }
            None => Some(Request::List),
        }
    }

    fn next_write(&mut self, state: &mut State) -> Option<Request> {
        let connection = &mut self.connection;
        let room = connection.in_flight == 0 || (connection.in_flight < IN_FLIGHT_MAX && state.has_full_batch());
        if !room {
            return None;
        }
        let batch = state.take_batch(if connection.single > 0 { 1 } else { usize::MAX });
        if batch.is_empty() {
            return None;
        }
        connection.single = connection.single.saturating_sub(1);
        connection.in_flight += 1;
        Some(Request::Write(batch))
    }

    /// The lease of [`Request::Renew`] exists.
    pub fn renewed(&mut self) {
        (self.connection.secured, self.connection.exclusive) = (true, false);
    }

    /// The lease of [`Request::Renew`] is gone.
    pub fn lease_gone(&mut self) {
        (self.lease, self.connection.exclusive) = (None, false);
    }

    /// A lease was granted.
    pub fn granted(&mut self, lease: i64) {
        self.lease = Some(lease);
        self.renewed();
    }

    /// The store holds this.
    pub fn listed(&mut self, state: &mut State, found: impl IntoIterator<Item = Found>) {
        state.adopt(self.lease.unwrap_or_default(), found);
        let connection = &mut self.connection;
        (connection.exclusive, connection.list) = (false, false);
        if !std::mem::replace(&mut connection.listed, true) {
            connection.fence_at = state.sequence();
        }
    }

    /// A former lease is gone: nothing that was sent under it can take effect any more.
    pub fn revoked(&mut self) {
        self.former.pop();
        self.connection.exclusive = false;
    }

    /// A transaction has come back.
    pub fn landed(&mut self, state: &mut State, batch: Batch, outcome: Landed) {
        let connection = &mut self.connection;
        connection.in_flight = connection.in_flight.saturating_sub(1);
        match outcome {
            Landed::Written(revision) => state.written(batch, revision),
            Landed::NotAsLeft => {
                state.not_written(batch);
                connection.list = true;
            }
            Landed::Refused => {
                if let [(key, _)] = batch.as_slice() {
                    tracing::error!(%key, "the store refuses this status; it is not published");
                    state.refused(key);
                } else {
                    connection.single += batch.len();
                    state.not_written(batch);
                }
            }
            Landed::NotWritten => state.not_written(batch),
            // It stays in flight until the connection is taken for lost.
            Landed::Unknown => {}
        }
    }

    /// What is stored is compared with what should be, as soon as nothing is in flight.
    pub fn audit(&mut self) {
        self.connection.list = true;
    }

    /// The connection is lost.
    pub fn interrupted(&mut self, state: &mut State) {
        self.uncertain |= state.interrupt();
    }

    /// The present lease.
    pub fn lease(&self) -> Option<i64> {
        self.lease
    }

    /// Whether nothing sent before can take effect late, so that what is written counts as stored.
    pub fn is_fenced(&self) -> bool {
        self.former.is_empty()
    }

    /// All leases, to be revoked at the end.
    pub fn give_up(&mut self) -> Vec<i64> {
        let mut leases = std::mem::take(&mut self.former);
        leases.extend(self.lease.take());
        leases
    }
}
