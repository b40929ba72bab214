//! The ways between the agent and the store: what the product's connections do, one step at a time.
//!
//! Owns what is on its way. Must never decide: `sources::etcd::reading` and `publish::course` do. Start reading at
//! [`super::world`], which carries the steps out.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use crate::{
    publish::{
        course::{Course, Landed, Request},
        state::{Batch, Found},
    },
    sources::etcd::{RawItem, RawKey, mailbox::Mailbox, note::Note, reading::Reading},
    store::Backoff,
};

/// The reader of desired values.
pub struct ReaderLink {
    /// The product's own.
    pub reading: Reading,
    /// The product's own.
    pub mailbox: Mailbox,
    /// The product's own.
    pub backoff: Backoff,
    /// Number of the connection; what belongs to an earlier one is lost.
    pub connection: u64,
    /// Up to which revision the watch has told, while there is one.
    pub watched: Option<i64>,
    /// Since when it works.
    pub established: Option<Duration>,
    /// An answer of the watch is on its way.
    pub answering: bool,
    /// An event is about to be handed over.
    pub delivering: bool,
    /// The note of the store is about to be written.
    pub noting: bool,
}

impl ReaderLink {
    /// Not connected yet; the store should be the one of the note.
    pub fn new(note: Option<Note>) -> Self {
        ReaderLink {
            reading: Reading::recognizing(note),
            mailbox: Mailbox::default(),
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

/// What happens on the way of desired values.
pub enum ReaderStep {
    /// A connection is tried.
    Connect,
    /// A listing arrives, made at this revision of this store.
    Listed(i64, u64, Vec<RawItem>),
    /// An answer of the watch arrives.
    Answer,
    /// All revisions are compared.
    Compare,
    /// The listing for it arrives.
    Compared(i64, BTreeMap<RawKey, i64>),
}

/// The writer of status.
pub struct WriterLink {
    /// The product's own.
    pub course: Course,
    /// The product's own.
    pub backoff: Backoff,
    /// Number of the connection; answers of an earlier one are lost.
    pub connection: u64,
    /// Whether there is a connection.
    pub connected: bool,
    /// Since when it works.
    pub established: Option<Duration>,
    /// A renewal of the lease is not answered yet.
    pub unanswered: bool,
    /// Up to which revision deletions are on their way or told, while they are watched.
    pub watched: Option<i64>,
}

impl WriterLink {
    /// Not connected yet.
    pub fn new() -> Self {
        WriterLink {
            course: Course::default(),
            backoff: Backoff::new(),
            connection: 0,
            connected: false,
            established: None,
            unanswered: false,
            watched: None,
        }
    }
}

/// An answer to the writer.
pub enum WriterAnswer {
    /// The lease exists, or not.
    Renewed(bool),
    /// A new lease.
    Granted(i64),
    /// All status keys, at this revision.
    Listed(i64, Vec<Found>),
    /// What came of a transaction.
    Landed(Batch, Landed),
    /// A former lease is gone.
    Revoked,
    /// The renewal that is done from time to time: whether the lease still exists.
    KeptAlive(bool),
}

/// What happens on the way of status.
pub enum WriterStep {
    /// A connection is tried.
    Connect,
    /// The watch tells of deleted keys and the revisions of their deletions.
    Deleted(Vec<(Arc<str>, i64)>),
    /// All stored keys are to be compared with those that should be.
    Audit,
    /// The writer looks for something to write.
    Write,
    /// A request arrives at the store; it does so even if the connection has been cut meanwhile. With the present lease.
    Arrive(Request, i64),
    /// An answer arrives.
    Answer(WriterAnswer),
    /// The lease is to be renewed.
    Renew,
    /// The renewal arrives at the store.
    RenewalArrives(i64),
    /// The answer to a request has not come in time.
    Timeout,
}
