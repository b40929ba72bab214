//! The thread that enters existing namespaces.
//!
//! Inside a namespace, the thread only opens sockets or accesses files in `/proc/sys/net`. Afterwards, it returns to the agent's
//! namespace.
//!
//! # Guarantees
//!
//! All other threads stay in the agent's own namespace, except temporary threads that create namespaces and never return. If this
//! thread cannot return to the agent's namespace, it ends, and a new thread enters the next namespace.

use std::{
    io,
    os::fd::OwnedFd,
    sync::{Arc, mpsc},
    thread::{self, JoinHandle},
};

use nix::sched::{CloneFlags, setns};

/// Namespaces to enter one after the other, and the work to do in each.
///
/// `work` is called once for each namespace, with an error if the namespace could not be entered.
struct Visit {
    namespaces: Vec<Arc<OwnedFd>>,
    work: Box<dyn Fn(io::Result<()>) + Send>,
}

/// Handle to the thread that enters namespaces. Dropping the handle ends the thread.
pub(super) struct Entrance {
    home: Arc<OwnedFd>,
    running: Option<(mpsc::Sender<Visit>, JoinHandle<()>)>,
}

impl Entrance {
    /// Starts the thread. `home` is the namespace of the calling thread, to which the new thread returns after each visit.
    pub fn start(home: Arc<OwnedFd>) -> io::Result<Self> {
        let running = Some(spawn(Arc::clone(&home))?);
        Ok(Self { home, running })
    }

    /// Runs `work` inside a namespace and waits for its result.
    pub fn visit<T: Send + 'static>(
        &mut self,
        namespace: &Arc<OwnedFd>,
        work: impl Fn() -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let mut answers = self.visit_all(vec![Arc::clone(namespace)], work);
        answers.pop().unwrap_or_else(|| Err(ended()))
    }

    /// Runs `work` inside several namespaces, one after the other, and waits for all results. The results are in the order of
    /// the namespaces.
    pub fn visit_all<T: Send + 'static>(
        &mut self,
        namespaces: Vec<Arc<OwnedFd>>,
        work: impl Fn() -> io::Result<T> + Send + 'static,
    ) -> Vec<io::Result<T>> {
        let count = namespaces.len();
        if count == 0 {
            return Vec::new();
        }
        let (answer, answered) = mpsc::channel();
        let run = Box::new(move |entered: io::Result<()>| {
            // Sending cannot fail, because the receiver exists until all results are received.
            let _ = answer.send(entered.and_then(|()| work()));
        });
        if let Some(visit) = self.hand_over(Visit { namespaces, work: run }) {
            // The thread ended because it could not return to the agent's namespace. A new thread starts in the namespace of the
            // calling thread, which is the agent's namespace.
            self.stop();
            match spawn(Arc::clone(&self.home)) {
                Ok(running) => self.running = Some(running),
                Err(error) => return vec![Err(error)],
            }
            self.hand_over(visit);
        }
        (0..count).map(|_| answered.recv().unwrap_or_else(|_| Err(ended()))).collect()
    }

    /// Passes a visit to the thread. If the thread has ended, returns the visit instead.
    fn hand_over(&self, visit: Visit) -> Option<Visit> {
        match &self.running {
            Some((visits, _)) => visits.send(visit).err().map(|error| error.0),
            None => Some(visit),
        }
    }

    fn stop(&mut self) {
        if let Some((visits, thread)) = self.running.take() {
            drop(visits);
            let _ = thread.join();
        }
    }
}

impl Drop for Entrance {
    fn drop(&mut self) {
        self.stop();
    }
}

fn ended() -> io::Error {
    io::Error::other("the thread that enters namespaces ended")
}

fn spawn(home: Arc<OwnedFd>) -> io::Result<(mpsc::Sender<Visit>, JoinHandle<()>)> {
    let (visits, received) = mpsc::channel::<Visit>();
    let thread = thread::Builder::new().name("netns-enter".to_owned()).spawn(move || {
        for visit in received {
            for namespace in visit.namespaces {
                (visit.work)(setns(&*namespace, CloneFlags::CLONE_NEWNET).map_err(io::Error::from));
            }
            if setns(&*home, CloneFlags::CLONE_NEWNET).is_err() {
                return;
            }
        }
    })?;
    Ok((visits, thread))
}
