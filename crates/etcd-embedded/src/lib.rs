//! The embedded store: a single-node server of the part of the etcd v3 API that etcdctl and client libraries use.
//!
//! Owns the default northbound of the agent when no etcd is named: key space, history, watches and leases, in one file. It must never
//! invent an API of its own (whoever outgrows one machine points the agent to a real etcd and changes nothing else), and never
//! acknowledge what a kill could take back. Start reading at [`Store`]; then `writer` (how a write becomes durable and visible),
//! `mvcc` (what is kept), `watch` (how it is followed), `check` and `apply` (what requests mean), `service` (the gRPC edge).
//!
//! ```text
//!            writes ─► queue ─► writer thread ─► memory (mvcc, leases) ─► redb commit ─► `committed` mark ─► answers
//!  gRPC ──►  reads  ─► memory, as of the `committed` mark                                     │
//!            watches ◄── log, from each stream's own position up to the mark ◄── wake-up ─────┘
//! ```
//!
//! Known differences from etcd 3.4: user management and membership changes are refused as Unimplemented, the HTTP/JSON gateway as well;
//! old history is compacted automatically (see [`Retention`]); a message above 2 MiB is refused by the transport as OutOfRange instead of
//! ResourceExhausted; a delete at exactly the compaction revision is still told to a watch that starts there; transactions may be nested
//! about 45 deep, because the decoder follows no deeper; calls, connections and watches are bounded (see [`StoreLimits`]), and an idle
//! connection is closed.

mod apply;
mod backup;
mod check;
mod disk;
mod error;
mod hash;
mod lease;
mod mvcc;
#[cfg(any(test, feature = "offline"))]
pub mod offline;
mod quota;
mod service;
mod shared;
mod turn;
mod watch;
mod writer;

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

pub use error::StartError;

use disk::Disk;
use shared::Shared;
use writer::{Command, Writer};

/// Where the store listens and keeps its file.
#[derive(Debug, Clone)]
pub struct Options {
    /// Address of the gRPC server; port 0 lets the kernel choose (see [`Store::local_addr`]).
    pub listen: SocketAddr,
    /// Directory of the store file `store.redb`; created when missing.
    pub data_dir: PathBuf,
    /// How much clients may make it keep.
    pub limits: StoreLimits,
}

/// How much clients may make the store keep.
#[derive(Debug, Clone, Copy)]
pub struct StoreLimits {
    /// Most connections at a time.
    pub connections: usize,
    /// Most bytes of keys, values and leases, with the history; more raises the alarm NOSPACE.
    pub quota: usize,
    /// How long a client may take for each step that is its turn.
    pub step: Duration,
}

impl Default for StoreLimits {
    fn default() -> Self {
        StoreLimits {
            connections: 256,
            quota: 256 << 20,
            step: Duration::from_secs(10),
        }
    }
}

/// How much history is kept for reads at old revisions and for watches that resume. What exceeds any of the limits is compacted, the
/// oldest first; live keys are never touched by it.
#[derive(Debug, Clone, Copy)]
pub struct Retention {
    /// Most revisions.
    pub revisions: usize,
    /// Most bytes of keys and values that those revisions brought.
    pub bytes: usize,
    /// Longest time for which a revision is kept; checked at eighths of it.
    pub age: Duration,
}

impl Default for Retention {
    fn default() -> Self {
        Retention {
            revisions: 10_000,
            bytes: 64 << 20,
            age: Duration::from_secs(300),
        }
    }
}

/// How long open calls may take to end once [`Store::shutdown`] was called; then their connections are left to break.
const SHUTDOWN_MAX: Duration = Duration::from_secs(2);

/// A running store. Dropping it stops it too, but only [`shutdown`](Store::shutdown) waits for the file to be closed.
pub struct Store {
    shared: Arc<Shared>,
    server: Option<JoinHandle<()>>,
}

impl Store {
    /// Opens the file, starts the writer thread and serves. Must be called inside a Tokio runtime.
    ///
    /// # Errors
    /// See [`StartError`]: mainly an address in use, a data directory locked by another agent, a damaged file.
    pub fn start(options: Options) -> Result<Store, StartError> {
        Store::start_with(options, Retention::default())
    }

    /// [`start`](Store::start) with limits for the history of one's own.
    ///
    /// # Errors
    /// As [`start`](Store::start).
    pub fn start_with(options: Options, retention: Retention) -> Result<Store, StartError> {
        tokio::runtime::Handle::try_current().map_err(|_| StartError::NoRuntime)?;
        let Options { listen, data_dir, limits } = options;
        // The address first: a second agent with the same settings should hear of the address, which its user knows best.
        let listener = bind(listen).map_err(|source| match source.kind() {
            ErrorKind::AddrInUse => StartError::AddressInUse { listen },
            _ => StartError::Listen { listen, source },
        })?;
        let local = listener.local_addr().map_err(|source| StartError::Listen { listen, source })?;
        let (disk, content) = Disk::open(&data_dir)?;
        let (commands, queue) = mpsc::channel(writer::QUEUE);
        let identity = content.identity;
        let state = writer::restore(content, limits.quota, Instant::now());
        let path = disk.path().to_path_buf();
        let shared = Arc::new(Shared::new(state, identity, commands, local, path));
        spawn_writer(Writer::new(Arc::clone(&shared), queue, Some(disk), data_dir, retention))?;
        let server = tokio::spawn(service::serve(listener, Arc::clone(&shared), limits));
        tracing::info!(listen = %local, file = %shared.path.display(), revision = shared.current(), "embedded store: serving the etcd v3 API");
        Ok(Store {
            shared,
            server: Some(server),
        })
    }

    /// The address that is served, with the port that the kernel chose if that was left to it.
    pub fn local_addr(&self) -> SocketAddr {
        self.shared.listen
    }

    /// Ends open streams, answers what was already asked, closes the file and releases its lock. Takes two seconds at most, apart from
    /// the last write to disk.
    pub async fn shutdown(mut self) {
        self.shared.stopping.send_replace(true);
        if let Some(mut server) = self.server.take()
            && tokio::time::timeout(SHUTDOWN_MAX, &mut server).await.is_err()
        {
            server.abort();
        }
        let (done, stopped) = oneshot::channel();
        if self.shared.commands.send(Command::Stop(done)).await.is_ok() {
            // An error means that the writer has ended by itself: the same outcome.
            let _ = stopped.await;
        }
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.shared.stopping.send_replace(true);
        // After `shutdown` the queue is closed; with a full queue the writer ends when the last connection has.
        let _ = self.shared.commands.try_send(Command::Stop(oneshot::channel().0));
    }
}

fn bind(listen: SocketAddr) -> std::io::Result<tokio::net::TcpListener> {
    let listener = std::net::TcpListener::bind(listen)?;
    listener.set_nonblocking(true)?;
    tokio::net::TcpListener::from_std(listener)
}

/// The writer has a thread and a runtime of its own: its commits block, and its timers must outlive the caller's runtime.
fn spawn_writer(writer: Writer) -> Result<(), StartError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .map_err(|source| StartError::Thread { source })?;
    let thread = std::thread::Builder::new().name("store-writer".to_owned());
    thread
        .spawn(move || runtime.block_on(writer.run()))
        .map_err(|source| StartError::Thread { source })?;
    Ok(())
}

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadMe;
