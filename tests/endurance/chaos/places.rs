//! Namespaces in which the chaos test puts interfaces. Values use every kind of reference to refer to them.
//!
//! Creates and removes namespaces, processes and containers, and tracks which of them exist. See [`Places`].

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

/// Directory that contains the namespace files.
const FILES: &str = "/run/live/netns-files";

/// The way in which values refer to a namespace, and the data that the test stores about the namespace.
pub enum Kind {
    /// The agent's own namespace.
    Own,
    /// A name in `/run/netns`.
    Named(String),
    /// A process that the test starts and ends.
    Process {
        /// True if values refer to the process by the path of its namespace file and not by its PID.
        by_path: bool,
        /// PID of the latest process.
        pid: i32,
        /// The running process, or `None` if it has ended.
        holder: Option<Holder>,
    },
    /// A file on which a namespace is mounted from time to time.
    File {
        /// Path of the file.
        path: PathBuf,
        /// True while a namespace is mounted.
        mounted: bool,
    },
    /// A container, which values refer to by its microservice label.
    Container {
        /// Microservice label.
        label: String,
        /// ID of the container.
        id: String,
        /// PID of the container's main process, or 0 while the container is not running.
        pid: i32,
    },
}

/// A namespace in which the test puts interfaces.
pub struct Place {
    /// How values refer to this namespace.
    pub kind: Kind,
}

/// Numbers of namespaces and containers to create.
#[derive(Clone, Copy, Debug)]
pub struct Count {
    /// Number of namespaces that are referred to by name, process or file.
    pub namespaces: usize,
    /// Number of containers.
    pub containers: usize,
}

/// All namespaces in which the test puts interfaces, and the Docker daemon.
pub struct Places {
    /// All namespaces. The first is the agent's own.
    pub all: Vec<Place>,
    /// Inodes of named namespaces that the agent did not create, by name.
    pub foreign: BTreeMap<String, u64>,
    /// Docker daemon that runs the containers.
    pub docker: Daemon,
    /// True while the daemon is running.
    pub docker_runs: bool,
}

impl Place {
    /// Returns the reference by which values currently refer to this namespace.
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

    /// Returns the path of the namespace file, or `None` while the process, mount or container behind it does not exist. The path
    /// of a named namespace is returned even if the file is missing.
    pub fn path(&self) -> Option<PathBuf> {
        match &self.kind {
            // Use PID 1 and not `self`, because other processes open this path too.
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
    /// Creates the namespaces and containers. `docker` must be running.
    ///
    /// Values refer to three fifths of the namespaces by name, to one fifth by process, and to one fifth by file. Half of the
    /// named namespaces are created here, which makes them foreign to the agent.
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

    /// Adds a named namespace that does not belong to the agent, with `ip netns add`. Returns true if the command succeeded.
    pub fn add_foreign(&mut self, name: &str) -> bool {
        let added = command::output("ip", &["netns", "add", name]).status.success();
        if added && let Some(inode) = inode(Path::new(&format!("/run/netns/{name}"))) {
            self.foreign.insert(name.to_owned(), inode);
        }
        added
    }

    /// Runs `ip netns del`.
    pub fn delete_named(&mut self, name: &str) {
        // Ignore errors, because the name may not exist.
        let _ = command::output("ip", &["netns", "del", name]);
        self.foreign.remove(name);
    }

    /// Queries the daemon for the running containers. Does nothing if the daemon is not running.
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

    /// Returns the indexes of the namespaces whose kind meets `condition`.
    pub fn which(&self, condition: impl Fn(&Kind) -> bool) -> Vec<usize> {
        (0..self.all.len()).filter(|number| condition(&self.all[*number].kind)).collect()
    }

    /// Returns the path of the namespace file of a reference, if there is one. The path of a named namespace is returned even if
    /// the agent has not created the namespace yet.
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

/// Starts a container with this microservice label, and returns its ID.
pub fn run_container(docker: &Daemon, label: &str) -> TestResult<String> {
    docker.run_idle(&["--env", &format!("MICROSERVICE_LABEL={label}")])
}

/// Mounts a new network namespace on this file. Returns true if the mount succeeded.
pub fn mount_new_namespace(path: &Path) -> bool {
    std::fs::write(path, "").expect("create the file to mount on");
    let path = path.to_owned();
    let made = std::thread::spawn(move || {
        nix::sched::unshare(CloneFlags::CLONE_NEWNET).expect("create a network namespace");
        nix::mount::mount(
            Some("/proc/thread-self/ns/net"),
            &path,
            None::<&str>,
            MsFlags::MS_BIND,
            None::<&str>,
        )
        .expect("mount the namespace on the file");
    });
    made.join().is_ok()
}

/// Mounts an existing namespace on this file, which gives it one more name. Returns false if the namespace has disappeared.
pub fn mount_existing_namespace(path: &Path, existing: &Path) -> bool {
    std::fs::write(path, "").expect("create the file to mount on");
    let mounted = nix::mount::mount(Some(existing), path, None::<&str>, MsFlags::MS_BIND, None::<&str>).is_ok();
    if !mounted {
        std::fs::remove_file(path).expect("remove the file");
    }
    mounted
}

/// Unmounts the namespace from this file, and removes the file.
pub fn unmount(path: &Path) {
    nix::mount::umount2(path, MntFlags::MNT_DETACH).expect("unmount the namespace file");
    std::fs::remove_file(path).expect("remove the namespace file");
}

/// Returns the inode of this file's namespace.
pub fn inode(path: &Path) -> Option<u64> {
    std::fs::metadata(path).ok().map(|metadata| metadata.ino())
}

/// Returns one of these indexes at random, or `None` if `numbers` is empty.
pub fn pick(random: &mut Random, numbers: &[usize]) -> Option<usize> {
    (!numbers.is_empty()).then(|| *random.choose(numbers))
}

/// Returns one of these indexes at random. Prefers namespaces that do not exist, so that most namespaces exist at any time.
pub fn pick_gone_or_any(random: &mut Random, places: &Places, numbers: &[usize]) -> Option<usize> {
    let gone: Vec<usize> = numbers
        .iter()
        .copied()
        .filter(|number| places.all[*number].path().is_none())
        .collect();
    let prefers_gone = random.below(100) < 60;
    pick(random, if prefers_gone && !gone.is_empty() { &gone } else { numbers })
}
