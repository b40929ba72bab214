//! The one thread that enters namespaces.
//!
//! Owns every `setns` of the program. Must never run anything long or foreign inside a namespace: a visit opens sockets or
//! touches files of `/proc/sys/net`, then the thread is at home again. Start reading at [`Entrance::visit`].
//!
//! # Guarantees
//!
//! No other thread is ever in a namespace that is not the agent's own, but for those that create one and end with it. When
//! the way home fails, the thread ends (with it the wrong namespace) and the next visit is made by a new one.

use std::{
    io,
    os::fd::OwnedFd,
    sync::{Arc, mpsc},
    thread::{self, JoinHandle},
};

use nix::sched::{CloneFlags, setns};

type Visit = (Arc<OwnedFd>, Box<dyn FnOnce(io::Result<()>) + Send>);

/// Handle of the entering thread; dropping it ends the thread.
pub(super) struct Entrance {
    home: Arc<OwnedFd>,
    running: Option<(mpsc::Sender<Visit>, JoinHandle<()>)>,
}

impl Entrance {
    /// Starts the thread. `home` is the namespace of the calling thread.
    pub fn start(home: Arc<OwnedFd>) -> io::Result<Self> {
        let running = Some(spawn(Arc::clone(&home))?);
        Ok(Self { home, running })
    }

    /// Runs `work` inside a namespace and waits for its answer.
    pub fn visit<T: Send + 'static>(
        &mut self,
        namespace: &Arc<OwnedFd>,
        work: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let (answer, answered) = mpsc::sync_channel(1);
        let run = Box::new(move |entered: io::Result<()>| {
            // The receiver waits below, so this cannot fail.
            let _ = answer.send(entered.and_then(|()| work()));
        });
        let visit: Visit = (Arc::clone(namespace), run);
        if let Some(visit) = self.hand_over(visit) {
            // The thread ended because it could not come home: this thread is at home, and so is what it spawns.
            self.stop();
            self.running = Some(spawn(Arc::clone(&self.home))?);
            self.hand_over(visit);
        }
        answered
            .recv()
            .unwrap_or_else(|_| Err(io::Error::other("the thread that enters namespaces ended")))
    }

    /// Gives a visit to the thread, or back when there is none.
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

fn spawn(home: Arc<OwnedFd>) -> io::Result<(mpsc::Sender<Visit>, JoinHandle<()>)> {
    let (visits, received) = mpsc::channel::<Visit>();
    let thread = thread::Builder::new().name("netns-enter".to_owned()).spawn(move || {
        for (namespace, work) in received {
            work(setns(&*namespace, CloneFlags::CLONE_NEWNET).map_err(io::Error::from));
            if setns(&*home, CloneFlags::CLONE_NEWNET).is_err() {
                return;
            }
        }
    })?;
    Ok((visits, thread))
}
