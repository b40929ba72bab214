//! Startup errors ([`StartError`]) and request errors (`Refusal`).
//!
//! `Refusal` has the same messages and gRPC codes as etcd, because client libraries compare them.

use std::net::SocketAddr;
use std::path::PathBuf;

use tonic::{Code, Status};

use data_dir::DataDirError;

/// Error returned by [`Store::start`](super::Store::start). After an error, no task or thread of the store is running, and the store file is not
/// locked.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Another process already listens on the address.
    #[error(
        "embedded store: {listen} is already in use by another process (an etcd or another agent?); \
         choose another --embedded-listen, or connect to that server with --etcd-endpoints"
    )]
    AddressInUse {
        /// Listen address from the settings.
        listen: SocketAddr,
    },
    /// Listening on the address failed for a reason other than `AddressInUse`.
    #[error("embedded store: cannot listen on {listen}: {source}; check --embedded-listen")]
    Listen {
        /// Listen address from the settings.
        listen: SocketAddr,
        /// Error reported by the kernel.
        source: std::io::Error,
    },
    /// The data directory or the store file cannot be opened, or is not safe to use.
    #[error("embedded store: {0}")]
    DataDir(#[from] DataDirError),
    /// Another running agent has locked the store file.
    #[error("embedded store: {} is locked by another running agent; stop that agent, or give this agent its own \
             --data-dir", path.display())]
    Locked {
        /// Path of the store file.
        path: PathBuf,
    },
    /// The contents of the store file are invalid.
    #[error(
        "embedded store: {} is damaged ({detail}); restore the file from a backup, or move it away to start with an empty store",
        path.display()
    )]
    Corrupt {
        /// Path of the store file.
        path: PathBuf,
        /// Description of the damage.
        detail: String,
    },
    /// The store file was written by a newer release.
    #[error("embedded store: {} has format {found}, but this release supports at most format {supported}; use a newer release", path.display())]
    NewerFormat {
        /// Path of the store file.
        path: PathBuf,
        /// Format version found in the file.
        found: u64,
        /// Highest format version that this release can read.
        supported: u64,
    },
    /// Reading or writing the store file failed.
    #[error("embedded store: cannot read or write {}: {detail}", path.display())]
    Disk {
        /// Path of the store file.
        path: PathBuf,
        /// Error reported by the storage engine or the kernel.
        detail: String,
    },
    /// The writer thread could not be started.
    #[error("embedded store: cannot start the writer thread: {source}")]
    Thread {
        /// Error reported by the kernel.
        source: std::io::Error,
    },
    /// The store was started outside a Tokio runtime, which the server requires.
    #[error("embedded store: must be started inside a Tokio runtime")]
    NoRuntime,
}

/// Errors that the store returns to clients. The messages and codes are the same as in etcd's `api/v3rpc/rpctypes/error.go`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    #[error("etcdserver: key is not provided")]
    EmptyKey,
    #[error("etcdserver: key not found")]
    KeyNotFound,
    #[error("etcdserver: value is provided")]
    ValueProvided,
    #[error("etcdserver: lease is provided")]
    LeaseProvided,
    #[error("etcdserver: too many operations in txn request")]
    TooManyOperations,
    #[error("etcdserver: duplicate key given in txn request")]
    DuplicateKey,
    #[error("etcdserver: invalid sort option")]
    InvalidSort,
    #[error("etcdserver: mvcc: required revision has been compacted")]
    Compacted,
    #[error("etcdserver: mvcc: required revision is a future revision")]
    FutureRevision,
    #[error("etcdserver: request is too large")]
    TooLarge,
    #[error("etcdserver: requested lease not found")]
    LeaseNotFound,
    #[error("etcdserver: lease already exists")]
    LeaseExists,
    #[error("etcdserver: too large lease TTL")]
    LeaseTtlTooLarge,
    #[error("etcdserver: authentication is not enabled")]
    AuthNotEnabled,
    #[error("etcdserver: mvcc: database space exceeded")]
    NoSpace,
    #[error("etcdserver: too many requests")]
    TooManyRequests,
    #[error("election: not leader")]
    NotLeader,
    #[error("election: no leader")]
    NoLeader,
    #[error("\"leader\" field must be provided")]
    MissingLeader,
    #[error("mutex: session is expired")]
    SessionExpired,
    #[error("etcdserver: server stopped")]
    Stopped,
    /// A commit to disk failed, so the outcome of the request is unknown. This error does not exist in etcd.
    #[error("embedded store: cannot write to disk: {0}")]
    Disk(String),
    /// The request uses a feature of the etcd API that the embedded store does not support. This error does not exist in etcd.
    #[error("embedded store: {0} is not supported; if you need it, connect the agent to an etcd server with --etcd-endpoints")]
    Unsupported(&'static str),
}

impl Refusal {
    /// Cancel reason for a new watch that would exceed the memory limit for all watches together. This limit does not exist in etcd.
    pub(super) const TOO_MANY_WATCHES: &'static str = "embedded store: all watches together use too much memory; cancel some of them";

    fn code(&self) -> Code {
        match self {
            Refusal::EmptyKey
            | Refusal::KeyNotFound
            | Refusal::ValueProvided
            | Refusal::LeaseProvided
            | Refusal::TooManyOperations
            | Refusal::DuplicateKey
            | Refusal::InvalidSort
            | Refusal::TooLarge => Code::InvalidArgument,
            Refusal::Compacted | Refusal::FutureRevision | Refusal::LeaseTtlTooLarge => Code::OutOfRange,
            Refusal::LeaseNotFound => Code::NotFound,
            Refusal::LeaseExists | Refusal::AuthNotEnabled => Code::FailedPrecondition,
            Refusal::NoSpace | Refusal::TooManyRequests => Code::ResourceExhausted,
            // etcd returns these errors without a gRPC code, so clients see the code Unknown.
            Refusal::NotLeader | Refusal::NoLeader | Refusal::MissingLeader | Refusal::SessionExpired => Code::Unknown,
            Refusal::Stopped | Refusal::Disk(_) => Code::Unavailable,
            Refusal::Unsupported(_) => Code::Unimplemented,
        }
    }
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        Status::new(refusal.code(), refusal.to_string())
    }
}
