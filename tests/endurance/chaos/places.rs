//! Where interfaces are put: namespaces of every kind of reference, and their lives.
//!
//! Owns the namespaces, processes and containers of a run, and knows which of them exist; must never put a desired value. Start
//! reading at [`Places`].

use std::{
    collections::BTreeMap,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use nix::{
    mount::{MntFlags, MsFlags},
    sched::CloneFlags,
};
use testbed::random::Random;

use crate::support::{
    command,
    config::Reference,
    docker::{Daemon, TestResult},
    process::Holder,
};

/// Folder of the namespace files.
const FILES: &str = "/run/live/netns-files";

/// How a place is found.
pub enum Kind {
    /// The agent's own namespace.
    Own,
    /// A name below `/run/netns`.
    Named(String),
    /// A process that the run starts and ends; its number is that of the last one.
    Process {
        /// Whether values name it by the path of its namespace file instead of its number.
        by_path: bool,
        /// Its number.
        pid: i32,
        /// The process, while it lives.
        holder: Option<Holder>,
    },
    /// A file on which a namespace is mounted, now and then.
    File {
        /// Its path.
        path: PathBuf,
        /// Whether a namespace is mounted.
        mounted: bool,
    },
    /// A container.
    Container {
        /// Its microservice label.
        label: String,
        /// Its id.
        id: String,
        /// PID of its main process; 0 while it does not run.
        pid: i32,
    },
}

/// A place.
pub struct Place {
    /// How it is found.
    pub kind: Kind,
}

/// How many of what.
#[derive(Clone, Copy, Debug)]
pub struct Count {
    /// Namespaces by name, process or file.
    pub namespaces: usize,
    /// Containers.
    pub containers: usize,
}

/// All places.
pub struct Places {
    /// The places; the first is the agent's own namespace.
    pub all: Vec<Place>,
    /// Named namespaces that were not made by the agent, with their inodes.
    pub foreign: BTreeMap<String, u64>,
    /// The daemon of the containers.
    pub docker: Daemon,
    /// Whether the daemon runs.
    pub docker_runs: bool,
}

impl Place {
    /// How values name it now.
    pub fn reference(&self) -> Reference {
        match &self.kind {
            Kind::Own => Reference::Own,
            Kind::Named(name) => Reference::named(name),
            Kind::Process { by_path: false, pid, .. } => Reference::Pid(*pid),
            Kind::Process { by_path: true, pid, .. } => Reference::File(format!("/proc/{pid}/ns/net")),
            Kind::File { path, .. } => Reference::File(path.display().to_string()),
            Kind::Container { label, .. } => Reference::Microservice(label.clone()),
        }
    }

    /// Its namespace file, if it exists as far as the run knows. A named one may not be there yet.
    pub fn path(&self) -> Option<PathBuf> {
        match &self.kind {
            // Not that of `self`: the path is for other processes, too.
            Kind::Own => Some(PathBuf::from("/proc/1/ns/net")),
            Kind::Named(_) => Some(self.reference().path()),
            Kind::Process { holder, .. } => holder.as_ref().map(Holder::netns),
            Kind::File { path, mounted } => mounted.then(|| path.clone()),
            Kind::Container { pid: 0, .. } => None,
            Kind::Container { pid, .. } => Some(PathBuf::from(format!("/proc/{pid}/ns/net"))),
        }
    }
}

impl Places {
    /// Makes them: of the namespaces three fifths by name (every second of them exists already), one fifth each by process and by
    /// file. `docker` is a daemon that runs.
    pub fn make(count: Count, docker: Daemon) -> TestResult<Self> {
        std::fs::create_dir_all(FILES)?;
        let mut places = Self {
            all: vec![Place { kind: Kind::Own }],
            foreign: BTreeMap::new(),
            docker,
            docker_runs: true,
        };
        for number in 0..count.namespaces {
            let kind = match number % 5 {
                0..=2 => {
                    let name = format!("n{number}");
                    if number % 2 == 0 {
                        places.add_foreign(&name);
                    }
                    Kind::Named(name)
                }
                3 => {
                    let holder = Holder::start(None);
                    Kind::Process {
                        by_path: number % 20 == 3,
                        pid: holder.pid(),
                        holder: Some(holder),
                    }
                }
                _ => {
                    let path = PathBuf::from(format!("{FILES}/f{number}"));
                    let mounted = mount_new_namespace(&path);
                    Kind::File { path, mounted }
                }
            };
            places.all.push(Place { kind });
        }
        for number in 0..count.containers {
            let label = format!("c{number}");
            let id = run_container(&places.docker, &label)?;
            let pid = places.docker.pid(&id)?;
            places.all.push(Place {
                kind: Kind::Container { label, id, pid },
            });
        }
        Ok(places)
    }

    /// `ip netns add`; whoever was first, the namespace is somebody else's only if this call made it.
    pub fn add_foreign(&mut self, name: &str) -> bool {
        let added = command::output("ip", &["netns", "add", name]).status.success();
        if added && let Some(inode) = inode(Path::new(&format!("/run/netns/{name}"))) {
            self.foreign.insert(name.to_owned(), inode);
        }
        added
    }

    /// `ip netns del`.
    pub fn delete_named(&mut self, name: &str) {
        // It may not exist.
        let _ = command::output("ip", &["netns", "del", name]);
        self.foreign.remove(name);
    }

    /// Asks the daemon which containers run; nothing of a daemon that does not.
    pub fn look_at_containers(&mut self) {
        if !self.docker_runs {
            return;
        }
        let ids: Vec<String> = self.all.iter().filter_map(Place::container).map(str::to_owned).collect();
        if ids.is_empty() {
            return;
        }
        let mut arguments = vec!["inspect", "--format", "{{.Id}} {{.State.Pid}}"];
        arguments.extend(ids.iter().map(String::as_str));
        let text = self.docker.docker(&arguments).unwrap_or_else(|error| panic!("{error}"));
        let pids: BTreeMap<&str, i32> = text
            .lines()
            .filter_map(|line| {
                let (id, pid) = line.split_once(' ')?;
                Some((id, pid.parse().ok()?))
            })
            .collect();
        for place in &mut self.all {
            if let Kind::Container { id, pid, .. } = &mut place.kind {
                *pid = pids.get(id.as_str()).copied().unwrap_or(0);
            }
        }
    }

    /// Numbers of the places for which `condition` holds.
    pub fn which(&self, condition: impl Fn(&Kind) -> bool) -> Vec<usize> {
        (0..self.all.len()).filter(|number| condition(&self.all[*number].kind)).collect()
    }

    /// The namespace file that a reference leads to, if it leads somewhere; the agent makes what has a name and does not exist.
    pub fn path_of(&self, reference: &Reference) -> Option<PathBuf> {
        match reference {
            Reference::Named(_) => Some(reference.path()),
            other => self.all.iter().find(|place| place.reference() == *other).and_then(Place::path),
        }
    }
}

impl Place {
    fn container(&self) -> Option<&str> {
        match &self.kind {
            Kind::Container { id, .. } => Some(id),
            _ => None,
        }
    }
}

/// Starts a container that is this microservice, and returns its id.
pub fn run_container(docker: &Daemon, label: &str) -> TestResult<String> {
    docker.run_idle(&["--env", &format!("MICROSERVICE_LABEL={label}")])
}

/// Mounts a fresh network namespace on this file; whether that worked.
pub fn mount_new_namespace(path: &Path) -> bool {
    std::fs::write(path, "").expect("the file to mount on");
    let path = path.to_owned();
    let made = std::thread::spawn(move || {
        nix::sched::unshare(CloneFlags::CLONE_NEWNET).expect("a new network namespace");
        nix::mount::mount(
            Some("/proc/thread-self/ns/net"),
            &path,
            None::<&str>,
            MsFlags::MS_BIND,
            None::<&str>,
        )
        .expect("the namespace can be mounted on a file");
    });
    made.join().is_ok()
}

/// Mounts an existing namespace on this file: it has one more name then. It may be gone already.
pub fn mount_existing_namespace(path: &Path, existing: &Path) -> bool {
    std::fs::write(path, "").expect("the file to mount on");
    let mounted = nix::mount::mount(Some(existing), path, None::<&str>, MsFlags::MS_BIND, None::<&str>).is_ok();
    if !mounted {
        std::fs::remove_file(path).expect("the file can be removed");
    }
    mounted
}

/// Takes the namespace off this file, and removes the file.
pub fn unmount(path: &Path) {
    nix::mount::umount2(path, MntFlags::MNT_DETACH).expect("the namespace file can be unmounted");
    std::fs::remove_file(path).expect("the namespace file can be removed");
}

/// Inode of the namespace behind this file.
pub fn inode(path: &Path) -> Option<u64> {
    std::fs::metadata(path).ok().map(|metadata| metadata.ino())
}

/// One of these numbers.
pub fn pick(random: &mut Random, numbers: &[usize]) -> Option<usize> {
    (!numbers.is_empty()).then(|| *random.choose(numbers))
}

/// One of these places, more often one that is gone, so that most are there.
pub fn pick_gone_or_any(random: &mut Random, places: &Places, numbers: &[usize]) -> Option<usize> {
    let gone: Vec<usize> = numbers
        .iter()
        .copied()
        .filter(|number| places.all[*number].path().is_none())
        .collect();
    let prefers_gone = random.below(100) < 60;
    pick(random, if prefers_gone && !gone.is_empty() { &gone } else { numbers })
}
