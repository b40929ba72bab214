//! The embedded store: a single-node server for the part of the etcd v3 API that etcdctl and client libraries use.
//!
//! The agent uses the store if no etcd is configured. One file contains the key space, its history and the leases. Acknowledged writes survive even
//! if the process is killed. The store has no API of its own, so users can later switch to a real etcd by changing only the agent's etcd endpoints.
//!
//! To read the code, start with [`Store`]. The module `writer` makes writes durable and visible, `mvcc` stores the versions of all keys, and `watch`
//! reports changes to clients. The modules `check` and `apply` implement the request semantics, and `service` implements the gRPC services.
//!
//! ```text
//!            writes ─► queue ─► writer thread ─► memory (mvcc, leases) ─► redb commit ─► `committed` mark ─► responses
//!  gRPC ──►  reads  ─► memory, as of the `committed` mark                                     │
//!            watches ◄── log, from each stream's own position up to the mark ◄── wake-up ─────┘
//! ```
//!
//! Known differences from etcd 3.4:
//!
//! - Requests for user management, membership changes and the HTTP/JSON gateway fail with Unimplemented.
//! - Old history is compacted automatically (see [`Retention`]).
//! - The transport refuses messages above 2 MiB with OutOfRange instead of ResourceExhausted.
//! - A watch that starts at the compaction revision still receives the deletions of that revision.
//! - Transactions can be nested at most about 45 levels deep, because the decoder limits the nesting depth.
//! - Calls, connections and watches are limited (see [`StoreLimits`]), and idle connections are closed.

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

/// Settings of the embedded store.
#[derive(Debug, Clone)]
pub struct Options {
    /// Listen address of the gRPC server. With port 0, the kernel chooses a free port (see [`Store::local_addr`]).
    pub listen: SocketAddr,
    /// Directory that contains the store file, `store.redb`. Created if missing.
    pub data_dir: PathBuf,
    /// Limits on the resources that clients can use.
    pub limits: StoreLimits,
}

/// Limits on the resources that clients can use.
#[derive(Debug, Clone, Copy)]
pub struct StoreLimits {
    /// Maximum number of client connections.
    pub connections: usize,
    /// Maximum total size of keys, values and leases in bytes, including history. A write that would exceed the quota raises the
    /// NOSPACE alarm.
    pub quota: usize,
    /// Time limit for each wait for a client, for example for its first request.
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

/// Limits on the retained history. Clients use the history to read old revisions and to resume watches.
///
/// If the history exceeds any of these limits, the oldest revisions are compacted. Live keys are never affected.
#[derive(Debug, Clone, Copy)]
pub struct Retention {
    /// Maximum number of revisions to keep.
    pub revisions: usize,
    /// Maximum size in bytes of all keys and values in the retained revisions.
    pub bytes: usize,
    /// Maximum age of a revision. The store checks ages at intervals of one eighth of this value.
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

/// Maximum time for which [`Store::shutdown`] waits for open calls to end. Afterwards, it aborts their connections.
const SHUTDOWN_MAX: Duration = Duration::from_secs(2);

/// A running store. Dropping it stops the store without waiting. [`shutdown`](Store::shutdown) also waits until the file is closed.
pub struct Store {
    shared: Arc<Shared>,
    server: Option<JoinHandle<()>>,
}

impl Store {
    /// Opens the file, starts the writer thread and begins to serve clients. Must be called inside a Tokio runtime.
    ///
    /// # Errors
    /// Returns a [`StartError`], for example if the address is in use, another agent has locked the store file, or the file is damaged.
    pub fn start(options: Options) -> Result<Store, StartError> {
        Store::start_with(options, Retention::default())
    }

    /// Starts a store like [`start`](Store::start), but with the given history limits.
    ///
    /// # Errors
    /// Returns the errors of [`start`](Store::start).
    pub fn start_with(options: Options, retention: Retention) -> Result<Store, StartError> {
        tokio::runtime::Handle::try_current().map_err(|_| StartError::NoRuntime)?;
        let Options { listen, data_dir, limits } = options;
        // Bind the address before opening the file. If a second agent uses the same settings, an error about the address is easier to understand
        // than an error about the locked file.
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

    /// Returns the server's address, with the actual port if the configured port was 0.
    pub fn local_addr(&self) -> SocketAddr {
        self.shared.listen
    }

    /// Ends open streams, completes pending calls, closes the file and releases its lock. The shutdown takes at most two seconds, plus the time for
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
            // An error means that the writer has already ended.
            let _ = stopped.await;
        }
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.shared.stopping.send_replace(true);
        // Ignore errors. A closed queue means that the writer has already ended. If the queue is full, the writer ends when the last connection ends.
        let _ = self.shared.commands.try_send(Command::Stop(oneshot::channel().0));
    }
}

fn bind(listen: SocketAddr) -> std::io::Result<tokio::net::TcpListener> {
    let listener = std::net::TcpListener::bind(listen)?;
    listener.set_nonblocking(true)?;
    tokio::net::TcpListener::from_std(listener)
}

/// Starts the writer on its own thread and runtime, because its commits block and its timers must outlive the caller's runtime.
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
