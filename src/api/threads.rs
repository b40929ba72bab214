//! Threads of the APIs, which are separate from the threads of the engine, the store and the lease.
//!
//! Connections have their own runtime, so many connections do not delay other tasks. The kernel divides the CPUs between the
//! threads of both runtimes.
//!
//! Large responses are built in a background pool, so short responses, such as responses to probes, do not wait for large
//! responses. The threads of the pool have a low priority (nice(2)). On Linux, each thread has its own nice value.

use std::{
    future::Future,
    sync::{Arc, LazyLock},
};

use rustix::process::{getpid, getpriority_process, setpriority_process};
use tokio::{
    runtime::{Builder, Handle, Runtime},
    sync::{OwnedSemaphorePermit, Semaphore},
    task::{JoinError, spawn_blocking},
};

/// Amount by which the nice value of pool threads exceeds the nice value of the process. The kernel gives a pool thread about a
/// tenth of the CPU time of a normal thread that competes for the same CPU.
const POOL_NICER_BY: i32 = 10;
/// Largest nice value that the kernel supports.
const NICEST: i32 = 19;
/// Number of threads that serve connections.
const SERVING_THREADS: usize = 2;
/// Maximum number of large responses that are built at the same time. Each may need as much memory as all values together.
const POOL_THREADS_MAX: usize = 4;

/// Runtime for connections. It starts with the first listener and ends with the process. If it cannot be started, the agent's
/// runtime is used instead.
static SERVING: LazyLock<Option<Runtime>> = LazyLock::new(|| {
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(SERVING_THREADS).enable_all().thread_name("api").build().ok()
});

/// Background pool. It starts with the first large response and ends with the process. If it cannot be started, the caller's
/// runtime is used instead.
static POOL: LazyLock<Option<Runtime>> = LazyLock::new(|| {
    let mut builder = Builder::new_multi_thread();
    let builder = builder
        .worker_threads(1)
        .max_blocking_threads(POOL_THREADS_MAX)
        .thread_name("api-answers");
    builder.on_thread_start(be_nice).build().ok()
});

/// Permits for large copies of the engine's state, one for each thread of the background pool.
static PLACES: LazyLock<Arc<Semaphore>> = LazyLock::new(|| Arc::new(Semaphore::new(POOL_THREADS_MAX)));

/// Runs a task in the runtime for connections, together with the tasks that it spawns.
///
/// # Errors
/// Fails if the task panics.
pub async fn serve<T: Send + 'static>(task: impl Future<Output = T> + Send + 'static) -> Result<T, JoinError> {
    let handle = SERVING.as_ref().map_or_else(Handle::current, |runtime| runtime.handle().clone());
    handle.spawn(task).await
}

/// Runs long-running work in the background pool, with low priority.
///
/// # Errors
/// Fails if the work panics.
pub async fn run_in_background<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, JoinError> {
    match &*POOL {
        Some(pool) => pool.spawn_blocking(work).await,
        None => spawn_blocking(work).await,
    }
}

/// Waits for a permit to copy a large part of the engine's state. The number of permits limits the load on the engine, and the
/// memory for copies.
pub async fn place() -> Option<OwnedSemaphorePermit> {
    // The semaphore is never closed.
    PLACES.clone().acquire_owned().await.ok()
}

/// Lowers the priority of this thread relative to the process. Failure is harmless.
fn be_nice() {
    // Start from the nice value of the main thread, because this thread inherits its nice value from the thread that started it.
    let nice = getpriority_process(Some(getpid())).unwrap_or_default();
    let _ = setpriority_process(None, (nice + POOL_NICER_BY).min(NICEST));
}

#[cfg(test)]
mod tests {
    use std::{
        sync::mpsc,
        time::{Duration, Instant},
    };

    use super::*;

    #[tokio::test]
    async fn background_pool_has_lower_priority() {
        let of_process = getpriority_process(Some(getpid())).expect("a nice value");
        let before = getpriority_process(None).expect("a nice value");
        let serving = serve(async { getpriority_process(None) }).await.expect("done");
        assert_eq!(serving, Ok(of_process));
        // The priority of the pool does not depend on the thread that starts it.
        let pool = serve(run_in_background(|| getpriority_process(None)))
            .await
            .expect("done")
            .expect("done");
        assert_eq!(pool, Ok((of_process + POOL_NICER_BY).min(NICEST)));
        assert_eq!(getpriority_process(None), Ok(before));
    }

    /// Tasks that keep all API threads busy do not block this single-threaded runtime.
    #[tokio::test]
    async fn busy_api_threads_do_not_block_other_threads() {
        let (release, wait) = mpsc::channel::<()>();
        let wait = Arc::new(std::sync::Mutex::new(wait));
        let (started, mut starts) = tokio::sync::mpsc::unbounded_channel();
        let busy: Vec<_> = (0..SERVING_THREADS)
            .map(|_| {
                let (started, wait) = (started.clone(), wait.clone());
                tokio::spawn(serve(async move {
                    started.send(()).expect("the test receives it");
                    // Blocks the thread until the sender is dropped.
                    wait.lock()
                        .map(|wait| wait.recv())
                        .expect("the lock is not poisoned")
                        .expect_err("the sender is dropped");
                }))
            })
            .collect();
        let start = Instant::now();
        for _ in 0..SERVING_THREADS {
            starts.recv().await.expect("a thread of the APIs");
        }
        run_in_background(|| ()).await.expect("the pool has threads of its own");
        assert!(start.elapsed() < Duration::from_secs(10));
        drop(release);
        for task in busy {
            task.await.expect("the task ends").expect("the task ends");
        }
    }

    #[tokio::test]
    async fn number_of_large_copies_is_limited() {
        let mut places = Vec::new();
        for _ in 0..POOL_THREADS_MAX {
            places.push(place().await);
        }
        let mut next = std::pin::pin!(place());
        assert!(futures::poll!(&mut next).is_pending());
        places.pop();
        assert!(next.await.is_some());
    }
}
