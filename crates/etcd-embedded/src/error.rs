//! Why the store could not start, and why it refused a request.
//!
//! Owns [`StartError`], written for the person who starts the agent, and `Refusal`, whose texts and gRPC codes are those of etcd, because
//! client libraries compare them. It must never grow a refusal that etcd would word differently for the same cause.
//! Start reading at `Refusal`.

use std::net::SocketAddr;
use std::path::PathBuf;

use tonic::{Code, Status};

use data_dir::DataDirError;

/// Why [`Store::start`](super::Store::start) failed. Nothing is left running or locked after any of these.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Another process already listens on the address.
    #[error(
        "embedded store: {listen} is already in use by another process (an etcd or another agent?); \
         choose another --embedded-listen, or name that server with --etcd-endpoints"
    )]
    AddressInUse {
        /// The address that was asked for.
        listen: SocketAddr,
    },
    /// The address cannot be listened on for another reason.
    #[error("embedded store: cannot listen on {listen}: {source}; check --embedded-listen")]
    Listen {
        /// The address that was asked for.
        listen: SocketAddr,
        /// The kernel's answer.
        source: std::io::Error,
    },
    /// The data directory or the store file cannot be opened, or is not safe to use.
    #[error("embedded store: {0}")]
    DataDir(#[from] DataDirError),
    /// A running agent holds the store file.
    #[error("embedded store: {} is locked by another running agent; stop it, or give this one its own --data-dir", path.display())]
    Locked {
        /// The store file.
        path: PathBuf,
    },
    /// The store file exists, but its content makes no sense.
    #[error(
        "embedded store: {} is damaged ({detail}); restore it from a copy, or move it away to start with an empty store",
        path.display()
    )]
    Corrupt {
        /// The store file.
        path: PathBuf,
        /// What was found wrong.
        detail: String,
    },
    /// The store file was written by a newer release.
    #[error("embedded store: {} has format {found}, this release reads up to {supported}; use the newer release", path.display())]
    NewerFormat {
        /// The store file.
        path: PathBuf,
        /// The format number in the file.
        found: u64,
        /// The highest format number this release can read.
        supported: u64,
    },
    /// Reading or writing the store file failed.
    #[error("embedded store: cannot read or write {}: {detail}", path.display())]
    Disk {
        /// The store file.
        path: PathBuf,
        /// The words of the storage engine or of the kernel.
        detail: String,
    },
    /// The thread that writes the store could not be started.
    #[error("embedded store: cannot start the writer thread: {source}")]
    Thread {
        /// The kernel's answer.
        source: std::io::Error,
    },
    /// Called outside a Tokio runtime, which the server needs.
    #[error("embedded store: must be started inside a Tokio runtime")]
    NoRuntime,
}

/// Why a request was refused. Texts and codes are those of etcd's `api/v3rpc/rpctypes/error.go`.
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
    /// Ours: the disk refused a commit, so the outcome of the request is unknown to the client.
    #[error("embedded store: cannot write to disk: {0}")]
    Disk(String),
    /// Ours: a part of the API that a single-node store inside an agent does not have.
    #[error("embedded store: {0} is not supported; point the agent to an etcd with --etcd-endpoints if you need it")]
    Unsupported(&'static str),
}

impl Refusal {
    /// Why a watch was cancelled at once; ours, because etcd has no limit.
    pub(super) const TOO_MANY_WATCHES: &'static str = "embedded store: the watches of all clients take too much memory; cancel some";

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
            // etcd passes these on without a code.
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
