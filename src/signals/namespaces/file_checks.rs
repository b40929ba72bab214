//! Checks namespace files on blocking threads instead of in the watcher task.
//!
//! A check can block forever if a file is on a remote file system and the server does not respond. A blocked check must not delay
//! other checks. At most one check of each path is in flight.

use std::{
    collections::{HashSet, VecDeque},
    path::{Path, PathBuf},
};

use futures::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use tokio::task::spawn_blocking;

use super::observation::{Observation, observe_file};

/// Maximum number of concurrent checks, each of which occupies a thread. Further checks are queued.
const CHECKS_MAX: usize = 64;

/// Checks in flight and in the queue.
#[derive(Default)]
pub(super) struct FileChecks {
    under_way: FuturesUnordered<BoxFuture<'static, (PathBuf, Option<Observation>)>>,
    queue: VecDeque<PathBuf>,
    /// Paths with a check that is in flight or queued.
    requested: HashSet<PathBuf>,
}

impl FileChecks {
    /// Starts checking a path, unless a check is already in flight or queued.
    pub fn check(&mut self, path: &Path) {
        if self.requested.insert(path.to_owned()) {
            self.queue.push_back(path.to_owned());
            self.start();
        }
    }

    fn start(&mut self) {
        while self.under_way.len() < CHECKS_MAX
            && let Some(path) = self.queue.pop_front()
        {
            let target = path.clone();
            let check = spawn_blocking(move || observe_file(&target));
            self.under_way.push(async move { (path, check.await.ok()) }.boxed());
        }
    }

    /// Returns the next completed check. Waits forever if there is none.
    pub async fn next(&mut self) -> (PathBuf, Observation) {
        loop {
            match self.under_way.next().await {
                Some((path, seen)) => {
                    self.requested.remove(&path);
                    self.start();
                    // There is no observation if the runtime is shutting down.
                    if let Some(seen) = seen {
                        return (path, seen);
                    }
                }
                None => futures::future::pending().await,
            }
        }
    }
}
