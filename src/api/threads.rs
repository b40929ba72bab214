//! The threads on which the APIs are served.
//!
//! Owns their priority. Must never run anything of the engine, the sources or the publisher: those come first. Start reading at
//! [`ApiThreads`].
//!
//! Whoever asks for all values in text, again and again, takes whole processors. While very much is to be configured, that is what the
//! processors are for: so answers are made by threads that give way (nice(2); on Linux each thread has a value of its own).

use std::io;

use rustix::process::{getpriority_process, setpriority_process};
use tokio::runtime::{Builder, Runtime};

/// What is added to the nice value of the process. A thread that gives way so far gets a tenth of a processor that is wanted by another.
const NICER_BY: i32 = 10;
/// The kernel's largest nice value.
const NICEST: i32 = 19;

/// A runtime of its own. Dropping it does not wait for what is under way.
pub struct ApiThreads(Option<Runtime>);

impl ApiThreads {
    /// Starts the threads.
    ///
    /// # Errors
    /// No thread can be started.
    pub fn start() -> io::Result<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("api")
            .on_thread_start(give_way)
            .enable_all()
            .build()?;
        Ok(ApiThreads(Some(runtime)))
    }

    /// Has something done by these threads, and all that it starts.
    ///
    /// # Errors
    /// It has panicked.
    pub async fn run<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> io::Result<T> {
        let Some(runtime) = &self.0 else {
            return Err(io::Error::other("the threads of the APIs have ended"));
        };
        runtime.spawn(work).await.map_err(io::Error::other)
    }
}

impl Drop for ApiThreads {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// Of the calling thread. That it cannot be done costs speed, and nothing else.
fn give_way() {
    let nice = getpriority_process(None).unwrap_or_default();
    let _ = setpriority_process(None, (nice + NICER_BY).min(NICEST));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_they_run_gives_way_and_what_started_them_does_not() {
        let before = getpriority_process(None).expect("a nice value");
        let threads = ApiThreads::start().expect("started");
        let nicer = (before + NICER_BY).min(NICEST);
        assert_eq!(threads.run(async { getpriority_process(None) }).await.expect("run"), Ok(nicer));
        let on_blocking = async { tokio::task::spawn_blocking(|| getpriority_process(None)).await };
        assert_eq!(threads.run(on_blocking).await.expect("run").expect("run"), Ok(nicer));
        assert_eq!(getpriority_process(None), Ok(before));
    }
}
