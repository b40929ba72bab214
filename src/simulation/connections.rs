//! Connections between the agent and the store, with the messages in flight.
//!
//! The agent's own code makes all decisions (`sources::etcd::reading` and `publish::lease_state`). [`super::world`] executes the
//! steps.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use crate::{
    publish::{
        lease_state::{Completion, LeaseState, Request},
        state::{Batch, Found},
    },
    sources::etcd::{RawItem, RawKey, buffer::CoalescingBuffer, note::Note, reading::Reading},
    store::Backoff,
};

/// Connection over which the agent reads desired values.
pub struct ReaderLink {
    /// State of the agent's reader of desired values.
    pub reading: Reading,
    /// The agent's coalescing buffer.
    pub buffer: CoalescingBuffer,
    /// Back-off between attempts to connect.
    pub backoff: Backoff,
    /// Number of the current connection. Messages from earlier connections are discarded.
    pub connection: u64,
    /// Revision up to which the watch has reported changes, or `None` if there is no watch.
    pub watched: Option<i64>,
    /// Time at which the current connection was established, or `None` without a connection.
    pub established: Option<Duration>,
    /// True while a watch response is in flight.
    pub answering: bool,
    /// True if an event is about to be delivered to the core.
    pub delivering: bool,
    /// True if the agent is about to write the note that identifies the store after a restart.
    pub noting: bool,
}

impl ReaderLink {
    /// Creates a reader without a connection. `note` identifies the store that the agent read before its restart.
    pub fn new(note: Option<Note>) -> Self {
        ReaderLink {
            reading: Reading::recognizing(note),
            buffer: CoalescingBuffer::default(),
            backoff: Backoff::new(),
            connection: 0,
            watched: None,
            established: None,
            answering: false,
            delivering: false,
            noting: false,
        }
    }
}

/// Event on the reader's connection.
pub enum ReaderStep {
    /// The reader tries to connect to the store.
    Connect,
    /// A listing of all desired values arrives, with its revision and the cluster id of the store.
    Listed(i64, u64, Vec<RawItem>),
    /// A watch response arrives.
    Answer,
    /// The reader requests the revisions of all keys, to compare them with the revisions that it has read earlier.
    Compare,
    /// The requested revisions arrive: the revision of the store, and the mod revision of each key.
    Compared(i64, BTreeMap<RawKey, i64>),
}

/// Connection over which the agent writes statuses.
pub struct WriterLink {
    /// State of the agent's lease and of the writer's requests to the store.
    pub lease_state: LeaseState,
    /// Back-off between attempts to connect.
    pub backoff: Backoff,
    /// Number of the current connection. Responses from earlier connections are discarded.
    pub connection: u64,
    /// True while the writer is connected.
    pub connected: bool,
    /// Time at which the current connection was established, or `None` without a connection.
    pub established: Option<Duration>,
    /// True if a lease renewal has not been answered yet.
    pub unanswered: bool,
    /// Revision of the last deletion that was reported to the writer, including reports in flight. `None` while the writer does
    /// not watch the status keys.
    pub watched: Option<i64>,
}

impl WriterLink {
    /// Creates a writer without a connection.
    pub fn new() -> Self {
        WriterLink {
            lease_state: LeaseState::default(),
            backoff: Backoff::new(),
            connection: 0,
            connected: false,
            established: None,
            unanswered: false,
            watched: None,
        }
    }
}

/// Response of the store to the writer.
pub enum WriterAnswer {
    /// Response to a renewal after a reconnection: true if the lease still exists.
    Renewed(bool),
    /// A new lease was granted.
    Granted(i64),
    /// All status keys, and the revision at which they were listed.
    Listed(i64, Vec<Found>),
    /// Result of the transaction that was sent for this batch.
    Completion(Batch, Completion),
    /// A previous lease was revoked.
    Revoked,
    /// Response to a periodic renewal: true if the lease still exists.
    KeptAlive(bool),
}

/// Event on the writer's connection.
pub enum WriterStep {
    /// The writer tries to connect to the store.
    Connect,
    /// The watch reports deleted status keys, each with the revision of its deletion.
    Deleted(Vec<(Arc<str>, i64)>),
    /// The writer compares all status keys in the store with those that the store should contain.
    Audit,
    /// The writer checks for statuses to write.
    Write,
    /// A request arrives at the store, even if the connection was cut in the meantime. The number is the id of the lease that the
    /// writer had when it sent the request.
    Arrive(Request, i64),
    /// A response arrives.
    Answer(WriterAnswer),
    /// The writer renews the lease.
    Renew,
    /// A request to renew this lease arrives at the store.
    RenewalArrives(i64),
    /// A request times out.
    Timeout,
}
