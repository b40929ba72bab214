//! Threads of the APIs, apart from those of the engine, the store and the lease.
//!
//! Connections are served by a runtime of their own, so that their number delays no task of the rest: the kernel shares the processors
//! between the threads of both. Large answers are made on a pool of threads with a lower priority (nice(2); on Linux each thread has a
//! value of its own). A short answer, such as that of a probe, waits neither for large ones nor for processors.

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

/// Added to the nice value of the process for threads that make large answers. The kernel gives such a thread a tenth of the time of
/// another that wants the same processor.
const POOL_NICER_BY: i32 = 10;
/// The kernel's largest nice value.
const NICEST: i32 = 19;
/// Threads that serve connections.
const SERVING_THREADS: usize = 2;
/// Large answers made at the same time. Each may take as much memory as all values.
const POOL_THREADS_MAX: usize = 4;

/// The runtime of connections. It is started with the first listener and ends with the process. Without it, the agent's own serves.
static SERVING: LazyLock<Option<Runtime>> = LazyLock::new(|| {
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(SERVING_THREADS).enable_all().thread_name("api").build().ok()
});

/// The pool. It is started when the first large answer is asked for, and ends with the process. Without it, answers are made by others.
static POOL: LazyLock<Option<Runtime>> = LazyLock::new(|| {
    let mut builder = Builder::new_multi_thread();
    let builder = builder
        .worker_threads(1)
        .max_blocking_threads(POOL_THREADS_MAX)
        .thread_name("api-answers");
    builder.on_thread_start(be_nice).build().ok()
});

/// Places for large copies of the engine's state, as many as there are threads that make answers of them.
static PLACES: LazyLock<Arc<Semaphore>> = LazyLock::new(|| Arc::new(Semaphore::new(POOL_THREADS_MAX)));

/// Runs a task, and all that it spawns, in the runtime of connections.
///
/// # Errors
/// The task panicked.
pub async fn serve<T: Send + 'static>(task: impl Future<Output = T> + Send + 'static) -> Result<T, JoinError> {
    let handle = SERVING.as_ref().map_or_else(Handle::current, |runtime| runtime.handle().clone());
    handle.spawn(task).await
}

/// Runs work that may take long on the pool.
///
/// # Errors
/// The work panicked.
pub async fn give_way<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, JoinError> {
    match &*POOL {
        Some(pool) => pool.spawn_blocking(work).await,
        None => spawn_blocking(work).await,
    }
}

/// Waits for a place for a large copy. The engine makes few of them at a time, however many clients ask, and few are in memory.
pub async fn place() -> Option<OwnedSemaphorePermit> {
    // The semaphore is never closed.
    PLACES.clone().acquire_owned().await.ok()
}

/// Lowers the priority of this thread relative to the process. Failure costs speed only.
fn be_nice() {
    // Of the main thread: this one has that of the thread that started it.
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
    async fn large_answers_have_a_lower_priority() {
        let of_process = getpriority_process(Some(getpid())).expect("a nice value");
        let before = getpriority_process(None).expect("a nice value");
        let serving = serve(async { getpriority_process(None) }).await.expect("done");
        assert_eq!(serving, Ok(of_process));
        // However it is reached, the value is the same.
        let pool = serve(give_way(|| getpriority_process(None))).await.expect("done").expect("done");
        assert_eq!(pool, Ok((of_process + POOL_NICER_BY).min(NICEST)));
        assert_eq!(getpriority_process(None), Ok(before));
    }

    /// Tasks that keep every thread of the APIs busy neither stop this runtime, which has a single thread, nor each other's end.
    #[tokio::test]
    async fn busy_apis_leave_other_threads_alone() {
        let (release, wait) = mpsc::channel::<()>();
        let wait = Arc::new(std::sync::Mutex::new(wait));
        let (started, mut starts) = tokio::sync::mpsc::unbounded_channel();
        let busy: Vec<_> = (0..SERVING_THREADS)
            .map(|_| {
                let (started, wait) = (started.clone(), wait.clone());
                tokio::spawn(serve(async move {
                    started.send(()).expect("the test waits for it");
                    // Blocks the thread on purpose, until there is nothing left to receive from.
                    wait.lock()
                        .map(|wait| wait.recv())
                        .expect("nobody panicked")
                        .expect_err("nobody sends");
                }))
            })
            .collect();
        let start = Instant::now();
        for _ in 0..SERVING_THREADS {
            starts.recv().await.expect("a thread of the APIs");
        }
        give_way(|| ()).await.expect("the pool has threads of its own");
        assert!(start.elapsed() < Duration::from_secs(10));
        drop(release);
        for task in busy {
            task.await.expect("it ends").expect("it ends");
        }
    }

    #[tokio::test]
    async fn few_large_copies_exist_at_a_time() {
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
