//! Looks at namespace files, beside the watcher's task.
//!
//! Owns the threads that look: on a file system whose server does not answer, a look never ends, and must not hold up any other.
//! Must never look twice at a path at the same time. Start reading at [`FileLooks::look`].

use std::{
    collections::{HashSet, VecDeque},
    path::{Path, PathBuf},
};

use futures::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use tokio::task::spawn_blocking;

use super::observation::{Observation, observe_file};

/// Looks at the same time; each one is a thread while it lasts. Further ones wait.
const LOOKS_MAX: usize = 64;

/// Looks under way and those that wait.
#[derive(Default)]
pub(super) struct FileLooks {
    under_way: FuturesUnordered<BoxFuture<'static, (PathBuf, Option<Observation>)>>,
    queue: VecDeque<PathBuf>,
    /// Paths under way or in the queue.
    asked: HashSet<PathBuf>,
}

impl FileLooks {
    /// Looks at a path, unless that is under way already.
    pub fn look(&mut self, path: &Path) {
        if self.asked.insert(path.to_owned()) {
            self.queue.push_back(path.to_owned());
            self.start();
        }
    }

    fn start(&mut self) {
        while self.under_way.len() < LOOKS_MAX
            && let Some(path) = self.queue.pop_front()
        {
            let target = path.clone();
            let look = spawn_blocking(move || observe_file(&target));
            self.under_way.push(async move { (path, look.await.ok()) }.boxed());
        }
    }

    /// The next look that has ended; waits for ever if none does.
    pub async fn next(&mut self) -> (PathBuf, Observation) {
        loop {
            match self.under_way.next().await {
                Some((path, seen)) => {
                    self.asked.remove(&path);
                    self.start();
                    // Without an observation, the runtime is ending.
                    if let Some(seen) = seen {
                        return (path, seen);
                    }
                }
                None => futures::future::pending().await,
            }
        }
    }
}
