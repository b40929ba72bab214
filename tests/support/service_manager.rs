//! A service manager that speaks sd_notify(3) with the agent under test, and stores its descriptors like systemd.

use std::{
    collections::BTreeMap,
    fs,
    io::IoSliceMut,
    mem::MaybeUninit,
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::fs::MetadataExt,
    },
    path::PathBuf,
    time::Duration,
};

use nix::sys::ptrace;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use tokio::{net::UnixDatagram, time::Instant};

const SOCKET: &str = "/run/live/notify";
/// First descriptor that a service manager passes to a service (SD_LISTEN_FDS_START in sd_listen_fds(3)).
const FIRST_DESCRIPTOR: usize = 3;

/// The notification socket, and what the agent has sent to it.
pub struct ServiceManager {
    socket: UnixDatagram,
    /// All lines that the agent has sent, in order, without those about the watchdog and about descriptors.
    pub lines: Vec<String>,
    /// Number of times that the agent restarted the watchdog.
    pub alive: usize,
    /// The stored descriptors, by name.
    pub stored: BTreeMap<String, OwnedFd>,
}

impl ServiceManager {
    /// Opens the socket.
    pub fn start() -> Self {
        ServiceManager {
            socket: UnixDatagram::bind(SOCKET).expect("bind the notification socket"),
            lines: Vec::new(),
            alive: 0,
            stored: BTreeMap::new(),
        }
    }

    /// Returns a command that starts the program in its arguments as a service, with the stored descriptors. `watchdog` is the time
    /// limit that the program is told; see [`Self::until_watchdog_fires`].
    pub fn launcher(&self, watchdog: Option<Duration>) -> Vec<String> {
        let mut script = format!("export NOTIFY_SOCKET={SOCKET}; ");
        if let Some(limit) = watchdog {
            script.push_str(&format!("export WATCHDOG_USEC={}; ", limit.as_micros()));
        }
        if !self.stored.is_empty() {
            let names: Vec<&str> = self.stored.keys().map(String::as_str).collect();
            let (count, names) = (names.len(), names.join(":"));
            script.push_str(&format!("export LISTEN_PID=$$ LISTEN_FDS={count} LISTEN_FDNAMES={names}; "));
            for (place, descriptor) in self.stored.values().enumerate() {
                script.push_str(&format!("exec {}<{}; ", FIRST_DESCRIPTOR + place, path(descriptor).display()));
            }
        }
        script.push_str("exec \"$@\"");
        ["/bin/bash", "-c", &script, "launcher"].map(str::to_owned).to_vec()
    }

    /// Waits until the agent has sent what `condition` asks for. Panics after `limit`.
    pub async fn until(&mut self, what: &str, limit: Duration, condition: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + limit;
        while !condition(self) {
            if tokio::time::timeout_at(deadline, self.receive()).await.is_err() {
                panic!(
                    "timed out after {limit:?} while waiting until {what}; the agent sent {:#?}",
                    self.lines
                );
            }
        }
    }

    /// Waits until the agent has not restarted the watchdog for `limit`. A service manager would end the agent then.
    pub async fn until_watchdog_fires(&mut self, limit: Duration) {
        loop {
            let (before, deadline) = (self.alive, Instant::now() + limit);
            while self.alive == before {
                if tokio::time::timeout_at(deadline, self.receive()).await.is_err() {
                    return;
                }
            }
        }
    }

    /// Returns the network namespaces of the stored descriptors, by their inode numbers.
    pub fn stored_namespaces(&self) -> Vec<u64> {
        self.stored.values().map(inode).collect()
    }

    /// Returns a path that leads to the namespace with this inode number, if its descriptor is stored.
    pub fn path_of(&self, namespace: u64) -> Option<PathBuf> {
        self.stored.values().find(|descriptor| inode(descriptor) == namespace).map(path)
    }

    async fn receive(&mut self) {
        loop {
            self.socket.readable().await.expect("wait for a notification");
            let received = self.socket.try_io(tokio::io::Interest::READABLE, || Ok(receive(&self.socket)?));
            match received {
                Ok((text, descriptor)) => return self.take(&text, descriptor),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(error) => panic!("receive a notification: {error}"),
            }
        }
    }

    fn take(&mut self, text: &str, descriptor: Option<OwnedFd>) {
        let name = text.lines().find_map(|line| line.strip_prefix("FDNAME=")).map(str::to_owned);
        for line in text.lines() {
            match line {
                "WATCHDOG=1" => self.alive += 1,
                "FDSTORE=1" => {
                    let name = name.clone().expect("a stored descriptor has a name");
                    let descriptor = descriptor.as_ref().expect("FDSTORE=1 comes with a descriptor");
                    let copy = descriptor.try_clone().expect("duplicate the descriptor");
                    assert!(self.stored.insert(name, copy).is_none(), "the name is already stored");
                }
                "FDSTOREREMOVE=1" => {
                    let name = name.as_deref().expect("a removed descriptor has a name");
                    assert!(self.stored.remove(name).is_some(), "{name} is not stored");
                }
                other if other.starts_with("FDNAME=") => {}
                other => self.lines.push(other.to_owned()),
            }
        }
    }
}

fn receive(socket: &UnixDatagram) -> rustix::io::Result<(String, Option<OwnedFd>)> {
    let mut text = [0; 4096];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let message = recvmsg(socket, &mut [IoSliceMut::new(&mut text)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let descriptor = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    Ok((String::from_utf8_lossy(&text[..message.bytes]).into_owned(), descriptor))
}

/// Returns a path that other processes can open to get a copy of the descriptor.
fn path(descriptor: &OwnedFd) -> PathBuf {
    format!("/proc/{}/fd/{}", std::process::id(), descriptor.as_raw_fd()).into()
}

fn inode(descriptor: &OwnedFd) -> u64 {
    fs::metadata(path(descriptor)).expect("a stored descriptor is open").ino()
}

/// Stops the threads of a process that have this name, until the returned guard is dropped. Its other threads continue.
pub fn hang_threads(pid: i32, name: &str) -> Hanging {
    let threads: Vec<i32> = fs::read_dir(format!("/proc/{pid}/task"))
        .expect("the process runs")
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|thread| fs::read_to_string(format!("/proc/{pid}/task/{thread}/comm")).is_ok_and(|comm| comm.trim() == name))
        .collect();
    assert!(!threads.is_empty(), "PID {pid} has no thread {name}");
    let (release, released) = std::sync::mpsc::channel::<()>();
    let (ready, is_ready) = std::sync::mpsc::channel();
    // The threads continue when the thread that traces them ends (ptrace(2)).
    let tracer = std::thread::spawn(move || {
        for thread in threads {
            let thread = nix::unistd::Pid::from_raw(thread);
            ptrace::seize(thread, ptrace::Options::empty()).expect("trace the thread");
            ptrace::interrupt(thread).expect("stop the thread");
        }
        ready.send(()).expect("the test waits");
        // Ends when the guard is dropped.
        let _ = released.recv();
    });
    is_ready.recv().expect("the threads are stopped");
    Hanging {
        release: Some(release),
        tracer: Some(tracer),
    }
}

/// Threads that are stopped. They continue when it is dropped.
pub struct Hanging {
    release: Option<std::sync::mpsc::Sender<()>>,
    tracer: Option<std::thread::JoinHandle<()>>,
}

impl Drop for Hanging {
    fn drop(&mut self) {
        drop(self.release.take());
        if let Some(tracer) = self.tracer.take() {
            let _ = tracer.join();
        }
    }
}
