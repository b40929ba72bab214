//! Opening files that may hang.
//!
//! Owns the threads that look a path up: on a file system whose server does not answer (a remote one, FUSE, an automounter) that may
//! take for ever, and no system call can be told to give up. Must never let anybody wait for such a thread, nor start a second one
//! for a path before the first has come back. Start reading at [`SlowOpens::begin`].

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

/// How long an opening may take.
pub(super) const LIMIT: Duration = Duration::from_secs(5);
/// Paths that are being opened at the same time; each one is a thread.
const PATHS_MAX: usize = 64;

/// A namespace file, opened.
#[derive(Clone)]
pub(super) struct OpenedFile {
    /// The nsfs file.
    pub file: Arc<OwnedFd>,
    /// The namespace that it is.
    pub netns: NetnsId,
}

/// What became of a path.
pub(super) type Opening = Result<OpenedFile, Failure>;

/// Paths that are being opened, and since when.
#[derive(Default)]
pub(super) struct SlowOpens {
    since: HashMap<PathBuf, Instant>,
}

impl SlowOpens {
    /// Starts to open a path, if that is not under way already; answers since when it is. What comes of it is given to `tell` on
    /// another thread, if it ever comes; then [`Self::end`] must be called.
    pub fn begin(&mut self, path: &Path, tell: impl FnOnce(PathBuf, Opening) + Send + 'static) -> Result<Instant, Failure> {
        if let Some(since) = self.since.get(path) {
            return Ok(*since);
        }
        if self.since.len() >= PATHS_MAX {
            return Err(failure::other(format!(
                "cannot open {}: {PATHS_MAX} other paths are being opened and do not answer; it is tried again",
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

    /// A thread has come back.
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

/// The path has not answered in time.
pub(super) fn timed_out(path: &Path, since: Instant) -> Failure {
    Failure {
        kind: FailureKind::TimedOut,
        // It has not said anything.
        errno: None,
        kernel_text: String::new(),
        message: format!(
            "cannot open the network namespace {}: its file system has not answered for {} s (is the server of that mount gone?); \
             it is looked at again as soon as it answers",
            path.display(),
            since.elapsed().as_secs()
        ),
    }
}
