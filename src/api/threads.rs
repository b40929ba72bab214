//! The threads on which large answers are made.
//!
//! Owns their priority. Must never run what is short, such as a probe of whether the agent lives: that would have to wait with the rest.
//! Start reading at [`give_way`].
//!
//! Whoever asks for all values in text, again and again, takes whole processors. While very much is to be configured, that is what the
//! processors are for: so large answers are made by threads that give way (nice(2); on Linux each thread has a value of its own, and may
//! not lower it again, so these are no others' threads).

use std::sync::LazyLock;

use rustix::process::{getpriority_process, setpriority_process};
use tokio::{
    runtime::{Builder, Runtime},
    task::{JoinError, spawn_blocking},
};

/// What is added to the nice value of the process. A thread that gives way so far gets a tenth of a processor that is wanted by another.
const NICER_BY: i32 = 10;
/// The kernel's largest nice value.
const NICEST: i32 = 19;
/// How many answers are made at the same time. Each may take as much memory as all values.
const THREADS_MAX: usize = 4;

/// They are started when the first large answer is asked for, and end with the process. Without them, answers are made by others.
static THREADS: LazyLock<Option<Runtime>> = LazyLock::new(|| {
    let mut builder = Builder::new_multi_thread();
    let builder = builder.worker_threads(1).max_blocking_threads(THREADS_MAX).thread_name("api");
    builder.on_thread_start(be_nice).build().ok()
});

/// Has something done that may take long, while everything else goes on.
///
/// # Errors
/// It has panicked.
pub async fn give_way<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, JoinError> {
    match &*THREADS {
        Some(threads) => threads.spawn_blocking(work).await,
        None => spawn_blocking(work).await,
    }
}

/// Of the calling thread. That it cannot be done costs speed, and nothing else.
fn be_nice() {
    let nice = getpriority_process(None).unwrap_or_default();
    let _ = setpriority_process(None, (nice + NICER_BY).min(NICEST));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_may_take_long_gives_way_and_what_asked_for_it_does_not() {
        let before = getpriority_process(None).expect("a nice value");
        let there = give_way(|| getpriority_process(None)).await.expect("done");
        assert_eq!(there, Ok((before + NICER_BY).min(NICEST)));
        assert_eq!(getpriority_process(None), Ok(before));
    }
}
