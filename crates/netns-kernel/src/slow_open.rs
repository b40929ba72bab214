//! Opens files on other threads, because opening a file can hang.
//!
//! Opening a path on a remote file system, a FUSE file system or an automounter can hang forever if the server does not respond.
//! The system call cannot be cancelled. No thread waits for a thread that opens a path, and two threads never open the same path
//! at once.

use std::{
    collections::HashMap,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use super::{
    failure, namespace,
    netlink::Refusal,
    operation::{Failure, FailureKind, NetnsId},
};

/// Time after which opening a path is treated as timed out.
pub(super) const LIMIT: Duration = Duration::from_secs(5);
/// Maximum number of paths that are opened at the same time, each on its own thread.
const PATHS_MAX: usize = 64;

/// A namespace file that was opened.
#[derive(Clone)]
pub(super) struct OpenedFile {
    /// Open nsfs file of the namespace.
    pub file: Arc<OwnedFd>,
    /// Identity of the namespace.
    pub netns: NetnsId,
}

/// Result of opening a path: the open file, or the reason why the path cannot be used.
pub(super) type Opening = Result<OpenedFile, Failure>;

/// Paths that are currently being opened, with the time at which each attempt started.
#[derive(Default)]
pub(super) struct SlowOpens {
    since: HashMap<PathBuf, Instant>,
}

impl SlowOpens {
    /// Starts opening a path, unless it is already being opened. Returns the time at which the attempt started.
    ///
    /// Another thread calls `tell` when the attempt has succeeded or failed. The caller must then call [`Self::end`].
    pub fn begin(&mut self, path: &Path, tell: impl FnOnce(PathBuf, Opening) + Send + 'static) -> Result<Instant, Failure> {
        if let Some(since) = self.since.get(path) {
            return Ok(*since);
        }
        if self.since.len() >= PATHS_MAX {
            return Err(failure::other(format!(
                "cannot open {}: {PATHS_MAX} other paths are being opened, and their file systems do not respond; the agent retries",
                path.display()
            )));
        }
        let target = path.to_owned();
        let run = move || {
            let opened = open(&target);
            tell(target, opened);
        };
        let started = thread::Builder::new().name("netns-open".to_owned()).spawn(run);
        started.map_err(|error| failure::system(&format!("start a thread that opens {}", path.display()), &Refusal::from(error)))?;
        let now = Instant::now();
        self.since.insert(path.to_owned(), now);
        Ok(now)
    }

    /// Removes a path after the attempt to open it has succeeded or failed.
    pub fn end(&mut self, path: &Path) {
        self.since.remove(path);
    }
}

fn open(path: &Path) -> Opening {
    let file = namespace::open_file(path)?;
    let netns = namespace::identity(&file)
        .map_err(|error| failure::system(&format!("identify the network namespace {}", path.display()), &error.into()))?;
    let file = Arc::new(OwnedFd::from(file));
    Ok(OpenedFile { file, netns })
}

/// Returns the error for a path that has not responded in time.
pub(super) fn timed_out(path: &Path, since: Instant) -> Failure {
    Failure {
        kind: FailureKind::TimedOut,
        // The system call has not returned, so there is no error number.
        errno: None,
        kernel_text: String::new(),
        message: format!(
            "cannot open the network namespace {}: its file system has not responded for {} s (is the server of that mount down?); \
             the agent continues as soon as it responds",
            path.display(),
            since.elapsed().as_secs()
        ),
    }
}
