//! Connections between the agent and the store, with the messages in flight.
//!
//! All decisions are made by the agent's `sources::etcd::reading` and `publish::lease_state`. [`super::world`] executes the steps.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use crate::{
    publish::{
        lease_state::{Completion, LeaseState, Request},
        state::{Batch, Found},
    },
    sources::etcd::{RawItem, RawKey, buffer::CoalescingBuffer, note::Note, reading::Reading},
    store::Backoff,
};

/// Connection of the reader of desired values.
pub struct ReaderLink {
    /// The agent's reader.
    pub reading: Reading,
    /// The agent's coalescing buffer.
    pub buffer: CoalescingBuffer,
    /// The agent's back-off.
    pub backoff: Backoff,
    /// Connection number. Messages of earlier connections are lost.
    pub connection: u64,
    /// Revision up to which the watch has reported; `None` without a watch.
    pub watched: Option<i64>,
    /// When the connection was established.
    pub established: Option<Duration>,
    /// True while a watch response is in flight.
    pub answering: bool,
    /// True if an event is about to be delivered to the core.
    pub delivering: bool,
    /// True if the note about the store is about to be written.
    pub noting: bool,
}

impl ReaderLink {
    /// Creates a reader without a connection. The note identifies the expected store.
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
    /// The reader tries to connect.
    Connect,
    /// A listing arrives, with its revision and the id of the store.
    Listed(i64, u64, Vec<RawItem>),
    /// A watch response arrives.
    Answer,
    /// The reader compares all revisions.
    Compare,
    /// The listing for a comparison arrives.
    Compared(i64, BTreeMap<RawKey, i64>),
}

/// Connection of the writer of statuses.
pub struct WriterLink {
    /// The agent's lease state.
    pub lease_state: LeaseState,
    /// The agent's back-off.
    pub backoff: Backoff,
    /// Connection number. Responses on earlier connections are lost.
    pub connection: u64,
    /// True while the writer is connected.
    pub connected: bool,
    /// When the connection was established.
    pub established: Option<Duration>,
    /// True if a lease renewal has not been answered yet.
    pub unanswered: bool,
    /// Revision up to which deletions are reported or in flight; `None` while they are not watched.
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

/// Response to the writer.
pub enum WriterAnswer {
    /// Response to a renewal after a reconnection: true if the lease still exists.
    Renewed(bool),
    /// A new lease was granted.
    Granted(i64),
    /// All status keys, and the revision at which they were listed.
    Listed(i64, Vec<Found>),
    /// Result of a transaction.
    Completion(Batch, Completion),
    /// A previous lease was revoked.
    Revoked,
    /// Response to a periodic renewal: true if the lease still exists.
    KeptAlive(bool),
}

/// Event on the writer's connection.
pub enum WriterStep {
    /// The writer tries to connect.
    Connect,
    /// The watch reports deleted keys with the revisions of their deletions.
    Deleted(Vec<(Arc<str>, i64)>),
    /// The writer compares all stored keys with the desired ones.
    Audit,
    /// The writer checks for statuses to write.
    Write,
    /// A request with the current lease arrives at the store, even if the connection was cut in the meantime.
    Arrive(Request, i64),
    /// A response arrives.
    Answer(WriterAnswer),
    /// The writer renews the lease.
    Renew,
    /// The renewal arrives at the store.
    RenewalArrives(i64),
    /// A request times out.
    Timeout,
}
