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
use crate::telemetry::defect;

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
    /// Transactions of one operation to send, to find the one that the store refuses.
    single: usize,
    /// All that was set when the connection was made is stored when this change is; known from the first listing on.
    fence_at: Option<u64>,
}

/// State of a connection. Transactions may be on their way together; each other request is alone.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
enum Connection {
    /// It is not known whether the lease exists: it is to be renewed or granted.
    #[default]
    Unleased,
    /// The lease is being renewed or granted.
    Leasing,
    /// All keys are to be listed.
    Unlisted,
    /// All keys are being listed.
    Listing,
    /// What differs from the listing is written. With a listing due, no transaction follows those in flight.
    Writing { in_flight: usize, listing_due: bool },
    /// A former lease is being revoked.
    Fencing,
}

impl Course {
    /// A connection was made.
    pub fn connected(&mut self) {
        (self.connection, self.single, self.fence_at) = (Connection::default(), 0, None);
        if std::mem::take(&mut self.uncertain) {
            self.former.extend(self.lease.take());
        }
    }

    /// What to ask now, if anything. To be called again after each answer and each change of the state.
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

    /// The request of this state was answered.
    fn answered(&mut self, asking: Connection, next: Connection) {
        match self.connection == asking {
            true => self.connection = next,
            false => defect(&format!("an answer for {asking:?} comes in {:?}", self.connection)),
        }
    }

    /// The lease of [`Request::Renew`] exists.
    pub fn renewed(&mut self) {
        self.answered(Connection::Leasing, Connection::Unlisted);
    }

    /// The lease of [`Request::Renew`] is gone.
    pub fn lease_gone(&mut self) {
        self.lease = None;
        self.answered(Connection::Leasing, Connection::Unleased);
    }

    /// A lease was granted.
    pub fn granted(&mut self, lease: i64) {
        self.lease = Some(lease);
        self.renewed();
    }

    /// The store holds this.
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

    /// A former lease is gone: nothing that was sent under it can take effect any more. What it did before is listed.
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

    /// A transaction has come back.
    pub fn landed(&mut self, state: &mut State, batch: Batch, outcome: Landed) {
        match &mut self.connection {
            Connection::Writing {
                in_flight: in_flight @ 1..,
                ..
            } => *in_flight -= 1,
            connection => defect(&format!("a transaction comes back in {connection:?}")),
        }
        match outcome {
            Landed::Written(revision) => state.written(batch, revision),
            Landed::NotAsLeft => {
                state.not_written(batch);
                self.audit();
            }
            Landed::Refused => {
                if let [(key, _)] = batch.as_slice() {
                    tracing::error!(%key, "the store refuses this status; it is not published");
                    state.refused(key);
                } else {
                    self.single += batch.len();
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
        // Otherwise a listing comes anyway.
        if let Connection::Writing { listing_due, .. } = &mut self.connection {
            *listing_due = true;
        }
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

#[cfg(test)]
mod tests;
