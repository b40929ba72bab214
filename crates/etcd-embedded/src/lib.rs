//! The embedded store: a single-node server of the part of the etcd v3 API that etcdctl and client libraries use.
//!
//! It is the default store of the agent if no etcd is configured, with key space, history, watches and leases in one file. It has no API of
//! its own: to move to several machines, users point the agent to a real etcd and change nothing else. An acknowledged write survives a
//! kill.
//!
//! After [`Store`], read `writer` (how a write becomes durable and visible), `mvcc` (what is kept), `watch` (how clients follow it),
//! `check` and `apply` (semantics of requests), and `service` (gRPC).
//!
//! ```text
//!            writes ─► queue ─► writer thread ─► memory (mvcc, leases) ─► redb commit ─► `committed` mark ─► answers
//!  gRPC ──►  reads  ─► memory, as of the `committed` mark                                     │
//!            watches ◄── log, from each stream's own position up to the mark ◄── wake-up ─────┘
//! ```
//!
//! Known differences from etcd 3.4: user management, membership changes and the HTTP/JSON gateway are refused as Unimplemented; old history
//! is compacted automatically (see [`Retention`]); a message above 2 MiB is refused by the transport as OutOfRange instead of
//! ResourceExhausted; a delete at exactly the compaction revision is still reported to a watch that starts there; transactions may be
//! nested about 45 levels deep, which is the limit of the decoder; calls, connections and watches are bounded (see [`StoreLimits`]), and an
//! idle connection is closed.

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

/// Settings of a store.
#[derive(Debug, Clone)]
pub struct Options {
    /// Address of the gRPC server; port 0 lets the kernel choose (see [`Store::local_addr`]).
    pub listen: SocketAddr,
    /// Directory of the store file `store.redb`. Created if missing.
    pub data_dir: PathBuf,
    /// Limits on what clients can use.
    pub limits: StoreLimits,
}

/// Limits on what clients can use.
#[derive(Debug, Clone, Copy)]
pub struct StoreLimits {
    /// Maximum number of connections.
    pub connections: usize,
    /// Maximum size of keys, values and leases in bytes, including history. Exceeding it raises the alarm NOSPACE.
    pub quota: usize,
    /// Time limit for each step that waits for the client.
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

/// Limits on the history that is kept for reads at old revisions and for watches that resume.
///
/// History that exceeds any limit is compacted, oldest first. Live keys are never affected.
#[derive(Debug, Clone, Copy)]
pub struct Retention {
    /// Maximum number of revisions.
    pub revisions: usize,
    /// Maximum size in bytes of the keys and values written by these revisions.
    pub bytes: usize,
    /// Maximum age of a revision. Checked at intervals of an eighth of it.
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

/// Time limit for open calls to end after [`Store::shutdown`]. Then their connections are aborted.
const SHUTDOWN_MAX: Duration = Duration::from_secs(2);

/// A running store. Dropping it stops the store, but only [`shutdown`](Store::shutdown) waits until the file is closed.
pub struct Store {
    shared: Arc<Shared>,
    server: Option<JoinHandle<()>>,
}

impl Store {
    /// Opens the file, starts the writer thread and serves. Must be called inside a Tokio runtime.
    ///
    /// # Errors
    /// See [`StartError`]: mainly an address in use, a data directory locked by another agent, or a damaged file.
    pub fn start(options: Options) -> Result<Store, StartError> {
        Store::start_with(options, Retention::default())
    }

    /// Like [`start`](Store::start), with custom limits for the history.
    ///
    /// # Errors
    /// Returns the errors of [`start`](Store::start).
    pub fn start_with(options: Options, retention: Retention) -> Result<Store, StartError> {
        tokio::runtime::Handle::try_current().map_err(|_| StartError::NoRuntime)?;
        let Options { listen, data_dir, limits } = options;
        // Binds the address first: a second agent with the same settings should fail on the address, which its user knows best.
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

    /// Returns the address of the server, with the actual port.
    pub fn local_addr(&self) -> SocketAddr {
        self.shared.listen
    }

    /// Ends open streams, answers pending calls, closes the file and releases its lock. Takes at most two seconds, apart from the last
    /// write to disk.
    pub async fn shutdown(mut self) {
        self.shared.stopping.send_replace(true);
        if let Some(mut server) = self.server.take()
            && tokio::time::timeout(SHUTDOWN_MAX, &mut server).await.is_err()
        {
            server.abort();
        }
        let (done, stopped) = oneshot::channel();
        if self.shared.commands.send(Command::Stop(done)).await.is_ok() {
            // An error means that the writer has already ended.
            let _ = stopped.await;
        }
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.shared.stopping.send_replace(true);
        // After `shutdown` the queue is closed. If the queue is full, the writer ends with the last connection.
        let _ = self.shared.commands.try_send(Command::Stop(oneshot::channel().0));
    }
}

fn bind(listen: SocketAddr) -> std::io::Result<tokio::net::TcpListener> {
    let listener = std::net::TcpListener::bind(listen)?;
    listener.set_nonblocking(true)?;
    tokio::net::TcpListener::from_std(listener)
}

/// Starts the writer with its own thread and runtime: its commits block, and its timers must outlive the caller's runtime.
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
