//! Namespace files: telling them from others, and the names of `ip netns`.
//!
//! Owns the netns directory. Must never enter a namespace (that is the entrance's part); a new one is made on a thread of
//! its own that ends with the making. Start reading at [`NamedDirectory::open_or_create`].

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::{
        fd::{AsFd, AsRawFd},
        unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, OpenOptionsExt},
    },
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg, OFlag},
    libc,
    mount::{MntFlags, MsFlags, mount, umount2},
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sched::{CloneFlags, unshare},
    sys::statfs::{NSFS_MAGIC, fstatfs},
};

use super::{
    failure, link,
    netlink::{Refusal, RouteSocket},
    operation::{Failure, NetnsId},
};

/// `ip netns add` creates the file and mounts then: how long a file that is no namespace yet may still become one.
const MOUNT_WAIT: Duration = Duration::from_millis(50);
/// How often a name is looked at again because another program created it in between.
const ATTEMPTS_MAX: usize = 8;
/// First word of the placeholder under a name that the agent creates. It shows only while the mount is missing, that is after
/// a crash in between.
const PLACEHOLDER_TAG: &str = "netns-agent ";
/// The mark of a placeholder is read up to this length in bytes.
const PLACEHOLDER_BYTES_MAX: u64 = 4096;
/// The namespace of the calling thread.
const CURRENT: &str = "/proc/thread-self/ns/net";

/// What a name in the netns directory leads to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum NamedTarget {
    /// A network namespace.
    Namespace(NetnsId),
    /// Something else: no mount, or a namespace of another type.
    NotANamespace {
        /// Mark of an agent that was killed while it created the name.
        leftover_of: Option<String>,
    },
}

/// What a path was found to be.
pub(super) enum Probe {
    /// A network namespace, opened.
    Namespace(File),
    /// Something else, in words (“a directory”).
    Other(&'static str),
    /// A file that might still become a mount point.
    RegularFile,
}

/// The namespace of the calling thread, as an open file.
pub(super) fn current() -> io::Result<File> {
    File::open(CURRENT)
}

/// Identity of an opened namespace file.
pub(super) fn identity(file: &File) -> io::Result<NetnsId> {
    Ok(NetnsId(file.metadata()?.ino()))
}

/// Opens a path if it is a network namespace. What is no namespace is never opened for real: opening a device or a pipe could
/// have effects, or wait.
pub(super) fn probe(path: &Path) -> io::Result<Probe> {
    let handle = OpenOptions::new().read(true).custom_flags(OFlag::O_PATH.bits()).open(path)?;
    if fstatfs(&handle)?.filesystem_type() != NSFS_MAGIC {
        let kind = handle.metadata()?.file_type();
        return Ok(match () {
            () if kind.is_file() => Probe::RegularFile,
            () if kind.is_dir() => Probe::Other("a directory"),
            () if kind.is_char_device() || kind.is_block_device() => Probe::Other("a device"),
            () if kind.is_fifo() => Probe::Other("a pipe"),
            () => Probe::Other("a socket or a special file"),
        });
    }
    let file = File::open(format!("/proc/thread-self/fd/{}", handle.as_raw_fd()))?;
    match namespace_type(&file)? {
        libc::CLONE_NEWNET => Ok(Probe::Namespace(file)),
        other => Ok(Probe::Other(failure::namespace_type(other))),
    }
}

/// NS_GET_NSTYPE of ioctl_nsfs(2): the CLONE_NEW… flag of the type.
#[allow(unsafe_code)]
fn namespace_type(file: &File) -> io::Result<i32> {
    // SAFETY: the descriptor is open; this request takes no argument and answers with a number.
    let flag = unsafe { libc::ioctl(file.as_raw_fd(), libc::NS_GET_NSTYPE as _) };
    if flag < 0 { Err(io::Error::last_os_error()) } else { Ok(flag) }
}

/// Opens the namespace of a file reference.
pub(super) fn open_file(path: &Path) -> Result<File, Failure> {
    let shown = path.display();
    match probe(path) {
        Ok(Probe::Namespace(file)) => Ok(file),
        Ok(Probe::Other(what)) => Err(failure::unusable(format!("{shown} is {what}, not a network namespace"))),
        Ok(Probe::RegularFile) => Err(failure::unusable(format!("{shown} is a regular file, not a network namespace"))),
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR | libc::ESRCH)) => Err(failure::unavailable(
            format!("{shown} does not exist: it is tried again when it appears"),
        )),
        Err(error) => Err(failure::system(&format!("open the network namespace {shown}"), &error.into())),
    }
}

/// The directory of named namespaces, `/run/netns`.
pub(super) struct NamedDirectory {
    path: PathBuf,
    /// It exists and is a shared mount, as far as we know.
    prepared: AtomicBool,
}

impl NamedDirectory {
    /// Nothing is touched before a name is created.
    pub fn new(path: PathBuf) -> Self {
        Self {
            path,
            prepared: AtomicBool::new(false),
        }
    }

    /// Path of a name; refuses what `ip netns` refuses.
    pub fn path_of(&self, name: &str) -> Result<PathBuf, Failure> {
        if name.is_empty() || name == "." || name == ".." || name.contains(['/', '\0']) || name.len() > 255 {
            return Err(failure::other(format!(
                "{name:?} is no name of a network namespace: it must be a file name of 1 to 255 bytes without \"/\""
            )));
        }
        Ok(self.path.join(name))
    }

    /// Opens a name, and creates it when it does not exist or is stale. `lo` of a new namespace is up and carries `mark` before
    /// the name becomes visible. `inside` runs in a new namespace, to open sockets there; its answer tells that it is new.
    ///
    /// The calling thread may be left in another namespace: it must do nothing else and end.
    pub fn open_or_create<T>(&self, name: &str, mark: &str, inside: impl Fn() -> io::Result<T>) -> Result<(File, Option<T>), Failure> {
        let path = self.path_of(name)?;
        let deadline = Instant::now() + MOUNT_WAIT;
        for _ in 0..ATTEMPTS_MAX {
            let stale = match examine(&path, deadline)? {
                Place::Namespace(file) => return Ok((file, None)),
                Place::Free => false,
                Place::Stale => true,
                Place::Changed => continue,
            };
            match self.create(&path, mark, stale, &inside) {
                Ok((file, opened)) => return Ok((file, Some(opened))),
                // Another program was faster: look at what it created.
                Err((_, refusal)) if refusal.is(Errno::EEXIST) => {}
                Err((step, refusal)) => {
                    let action = format!("create the network namespace {} ({step})", path.display());
                    return Err(failure::system(&action, &refusal));
                }
            }
        }
        Err(failure::unavailable(format!(
            "another program creates and removes {} again and again: it is tried again later",
            path.display()
        )))
    }

    /// Opens a name, for verification; never creates.
    pub fn open(&self, name: &str) -> Result<File, Failure> {
        open_file(&self.path_of(name)?)
    }

    /// Opens a name that is a network namespace; `None` when it is not, whatever it is.
    pub fn existing(&self, name: &str) -> Result<Option<File>, Failure> {
        match probe(&self.path_of(name)?) {
            Ok(Probe::Namespace(file)) => Ok(Some(file)),
            _ => Ok(None),
        }
    }

    /// Leaves the calling thread in the new namespace.
    fn create<T>(
        &self,
        path: &Path,
        mark: &str,
        stale: bool,
        inside: &impl Fn() -> io::Result<T>,
    ) -> Result<(File, T), (&'static str, Refusal)> {
        let step = |step: &'static str| move |refusal: Refusal| (step, refusal);
        self.prepare().map_err(step("prepare its directory"))?;
        unshare(CloneFlags::CLONE_NEWNET).map_err(Refusal::from).map_err(step("unshare"))?;
        mark_loopback(mark).map_err(step("set lo up and mark it"))?;
        let opened = inside().map_err(Refusal::from).map_err(step("open sockets in it"))?;
        let file = current().map_err(Refusal::from).map_err(step("open it"))?;
        if !stale && let Err(refusal) = write_placeholder(path, mark) {
            if refusal.is(Errno::ENOENT) {
                self.prepared.store(false, Ordering::Relaxed);
            }
            return Err(("create its name", refusal));
        }
        if let Err(errno) = mount(Some(CURRENT), path, None::<&str>, MsFlags::MS_BIND, None::<&str>) {
            if !stale {
                // Best effort: what stays is recognised by its content.
                let _ = fs::remove_file(path);
            }
            return Err(("mount it on its name", errno.into()));
        }
        Ok((file, opened))
    }

    /// Makes the directory what `ip netns add` makes it: mode 0755 and a shared mount, so that names created now are seen in
    /// mount namespaces that exist already. Programs that do the same are kept apart by a lock on the directory.
    fn prepare(&self) -> Result<(), Refusal> {
        if self.prepared.load(Ordering::Relaxed) && self.path.is_dir() {
            return Ok(());
        }
        fs::DirBuilder::new().recursive(true).mode(0o755).create(&self.path)?;
        let _lock = Flock::lock(File::open(&self.path)?, FlockArg::LockExclusive).map_err(|(_, errno)| errno)?;
        let share = || {
            mount(
                None::<&str>,
                &self.path,
                None::<&str>,
                MsFlags::MS_SHARED | MsFlags::MS_REC,
                None::<&str>,
            )
        };
        if let Err(errno) = share() {
            if errno != Errno::EINVAL {
                return Err(errno.into());
            }
            // Not a mount point yet.
            mount(
                Some(&self.path),
                &self.path,
                None::<&str>,
                MsFlags::MS_BIND | MsFlags::MS_REC,
                None::<&str>,
            )?;
            share()?;
        }
        self.prepared.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Removes a name as `ip netns del` does; one that is gone is removed already.
    pub fn remove(&self, name: &str) -> Result<(), Failure> {
        let path = self.path_of(name)?;
        let refused = |refusal: Refusal| failure::system(&format!("remove the network namespace {}", path.display()), &refusal);
        // A link may lead to a namespace with another name, which stays.
        match umount2(&path, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
            // EINVAL: it is not mounted.
            Ok(()) | Err(Errno::ENOENT | Errno::EINVAL) => {}
            Err(errno) => return Err(refused(errno.into())),
        }
        // Links and files with content were made by somebody else.
        match is_vacant(&path) {
            Ok(true) => {}
            Ok(false) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(refused(error.into())),
        }
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(refused(error.into())),
            _ => Ok(()),
        }
    }

    /// All names and what they lead to, sorted.
    pub fn list(&self) -> io::Result<Vec<(String, NamedTarget)>> {
        let entries = match fs::read_dir(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut found = Vec::new();
        for entry in entries {
            let Ok(name) = entry?.file_name().into_string() else { continue };
            match self.target(&self.path.join(&name)) {
                Ok(target) => found.push((name, target)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        found.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(found)
    }

    fn target(&self, path: &Path) -> io::Result<NamedTarget> {
        Ok(match probe(path)? {
            Probe::Namespace(file) => NamedTarget::Namespace(identity(&file)?),
            Probe::Other(_) => NamedTarget::NotANamespace { leftover_of: None },
            Probe::RegularFile => NamedTarget::NotANamespace {
                leftover_of: read_placeholder(path)?,
            },
        })
    }

    /// Removes a name that an agent with this mark left behind without a namespace. Answers whether there was one.
    pub fn remove_leftover(&self, name: &str, mark: &str) -> Result<bool, Failure> {
        let path = self.path_of(name)?;
        let refused = |error: io::Error| failure::system(&format!("remove the leftover {}", path.display()), &error.into());
        match self.target(&path) {
            Ok(NamedTarget::NotANamespace { leftover_of: Some(of) }) if of == mark => match fs::remove_file(&path) {
                Ok(()) => Ok(true),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
                Err(error) => Err(refused(error)),
            },
            Ok(_) => Ok(false),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(refused(error)),
        }
    }
}

/// A new network namespace without a name, as a socket in it. It lives as long as the socket.
pub(super) fn private() -> io::Result<RouteSocket> {
    thread::scope(|scope| {
        let thread = thread::Builder::new().name("netns-create".to_owned()).spawn_scoped(scope, || {
            unshare(CloneFlags::CLONE_NEWNET)?;
            RouteSocket::open()
        })?;
        thread
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("the thread that creates a namespace ended")))
    })
}

/// Sets `lo` up in the namespace of the calling thread, and its alias.
fn mark_loopback(mark: &str) -> Result<(), Refusal> {
    let mut socket = RouteSocket::open()?;
    let changes = link::LinkRequest {
        alias: Some(mark.to_owned()),
        up: Some(true),
        ..link::LinkRequest::default()
    };
    // `lo` is the first link of each namespace (LOOPBACK_IFINDEX in net/flow.h).
    let (message, flags) = changes.message(1);
    socket.change(message, flags)
}

fn write_placeholder(path: &Path, mark: &str) -> Result<(), Refusal> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o444).open(path)?;
    file.write_all(format!("{PLACEHOLDER_TAG}{mark}\n").as_bytes()).map_err(|error| {
        let _ = fs::remove_file(path);
        Refusal::from(error)
    })
}

/// Mark in the placeholder of an agent that was killed while it created the name; `None` for any other file, and for a link.
fn read_placeholder(path: &Path) -> io::Result<Option<String>> {
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    let file = match OpenOptions::new().read(true).custom_flags(flags.bits()).open(path) {
        Err(error) if error.raw_os_error() == Some(libc::ELOOP) => return Ok(None),
        opened => opened?,
    };
    let mut content = Vec::new();
    file.take(PLACEHOLDER_BYTES_MAX).read_to_end(&mut content)?;
    let text = String::from_utf8_lossy(&content);
    Ok(text
        .strip_prefix(PLACEHOLDER_TAG)
        .map(|mark| mark.trim_end_matches('\n').to_owned()))
}

/// Whether a name is a file without content of its own: an empty one, as `ip netns` leaves it, or a placeholder.
fn is_vacant(path: &Path) -> io::Result<bool> {
    let metadata = fs::symlink_metadata(path)?;
    if !metadata.file_type().is_file() {
        return Ok(false);
    }
    Ok(metadata.len() == 0 || read_placeholder(path)?.is_some())
}

/// What stands at a path under which a namespace is wanted.
enum Place {
    /// A network namespace, opened.
    Namespace(File),
    /// Nothing.
    Free,
    /// A file without content, on which a namespace may be mounted.
    Stale,
    /// Another program replaced it while it was examined.
    Changed,
}

/// Looks at a path under which a namespace may be created. Refuses everything that somebody else made: mounting over a file would
/// hide it, and removing the name would delete it; a link leads to a file elsewhere.
fn examine(path: &Path, deadline: Instant) -> Result<Place, Failure> {
    let shown = path.display();
    let failed = |error: io::Error| failure::system(&format!("open the network namespace {shown}"), &error.into());
    let found = match probe(path) {
        Ok(Probe::Namespace(file)) => return Ok(Place::Namespace(file)),
        Ok(Probe::Other(what)) => return Err(failure::unusable(format!("{shown} is {what}, not a network namespace"))),
        Ok(Probe::RegularFile) => true,
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR | libc::ESRCH)) => false,
        Err(error) => return Err(failed(error)),
    };
    match fs::read_link(path) {
        Ok(target) if found => {
            return Err(failure::unusable(format!(
                "{shown} is a symbolic link to {}, which is not a network namespace; remove the link, or use another name",
                target.display()
            )));
        }
        Ok(target) => {
            return Err(failure::unavailable(format!(
                "{shown} is a symbolic link to {}, which does not exist: it is tried again when it appears",
                target.display()
            )));
        }
        Err(_) if !found => return Ok(Place::Free),
        Err(_) => {}
    }
    match is_vacant(path) {
        Ok(true) if wait_for_mount(path, deadline) => Ok(Place::Stale),
        Ok(true) => Ok(Place::Changed),
        Ok(false) => Err(failure::unusable(format!(
            "{shown} is a regular file with content, not a network namespace; remove the file, or use another name"
        ))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Place::Free),
        Err(error) => Err(failed(error)),
    }
}

/// Waits for another program to mount a namespace on a file that exists, until the deadline. Answers whether the file is still
/// stale. The table of mounts tells changes by POLLERR and POLLPRI (proc_pid_mounts(5)).
fn wait_for_mount(path: &Path, deadline: Instant) -> bool {
    let Ok(mounts) = File::open("/proc/thread-self/mounts") else {
        return true;
    };
    loop {
        // The order matters: a mount after this look wakes the wait below.
        if !matches!(probe(path), Ok(Probe::RegularFile)) {
            return false;
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return true;
        }
        let timeout = PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::ZERO);
        let mut descriptors = [PollFd::new(mounts.as_fd(), PollFlags::POLLPRI | PollFlags::POLLERR)];
        // A signal or an error only shortens the wait; the deadline ends it.
        let _ = poll(&mut descriptors, timeout);
    }
}
