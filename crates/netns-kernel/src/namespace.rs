//! Identifies namespace files and manages the named namespaces of `ip netns`.
//!
//! Never enters an existing namespace. New namespaces are created on temporary threads, which never return to the agent's
//! namespace.

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

/// Time to wait for another program to mount a namespace on an existing file. `ip netns add` creates the file shortly before it
/// mounts the namespace.
const MOUNT_WAIT: Duration = Duration::from_millis(50);
/// Maximum number of attempts to create a name while another program creates and deletes the same name.
const ATTEMPTS_MAX: usize = 8;
/// First word in a placeholder. A placeholder is the file on which the agent mounts a new namespace.
///
/// The mounted namespace hides the placeholder. The placeholder stays visible only if the agent is killed before the mount.
const PLACEHOLDER_TAG: &str = "netns-agent ";
/// Maximum number of bytes to read from a placeholder.
const PLACEHOLDER_BYTES_MAX: u64 = 4096;
/// Path of the calling thread's namespace.
const CURRENT: &str = "/proc/thread-self/ns/net";

/// Kind of object that a name in the netns directory refers to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum NamedTarget {
    /// A network namespace.
    Namespace(NetnsId),
    /// Any other object: a file that is not a mount point, or a namespace of another type.
    NotANamespace {
        /// Ownership mark of the agent that was killed while it created the name; `None` if the file is not a placeholder.
        orphan_of: Option<String>,
    },
}

/// Kind of file at a path.
pub(super) enum Probe {
    /// A network namespace that was opened.
    Namespace(File),
    /// Another kind of file, described in words, such as "a directory".
    Other(&'static str),
    /// A regular file, on which a namespace may still be mounted.
    RegularFile,
}

/// Opens the namespace of the calling thread.
pub(super) fn current() -> io::Result<File> {
    File::open(CURRENT)
}

/// Returns the identity of an open namespace file.
pub(super) fn identity(file: &File) -> io::Result<NetnsId> {
    Ok(NetnsId(file.metadata()?.ino()))
}

/// Opens a path if it leads to a network namespace.
///
/// Other files are opened only with O_PATH, because opening a device or a pipe could block or have side effects.
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

/// Returns the CLONE_NEW… flag of the namespace type (NS_GET_NSTYPE of ioctl_nsfs(2)).
#[allow(unsafe_code)]
fn namespace_type(file: &File) -> io::Result<i32> {
    // SAFETY: the descriptor is open; this request takes no argument and returns a number.
    let flag = unsafe { libc::ioctl(file.as_raw_fd(), libc::NS_GET_NSTYPE as _) };
    if flag < 0 { Err(io::Error::last_os_error()) } else { Ok(flag) }
}

/// Opens the namespace at the path of a [`NamespaceRef::File`](super::NamespaceRef::File).
pub(super) fn open_file(path: &Path) -> Result<File, Failure> {
    let shown = path.display();
    match probe(path) {
        Ok(Probe::Namespace(file)) => Ok(file),
        Ok(Probe::Other(what)) => Err(failure::unusable(format!("{shown} is {what}, not a network namespace"))),
        Ok(Probe::RegularFile) => Err(failure::unusable(format!("{shown} is a regular file, not a network namespace"))),
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR | libc::ESRCH)) => Err(failure::unavailable(
            format!("{shown} does not exist: the agent retries when it appears"),
        )),
        Err(error) => Err(failure::system(&format!("open the network namespace {shown}"), &error.into())),
    }
}

/// The directory of named namespaces, usually `/run/netns`.
pub(super) struct NamedDirectory {
    path: PathBuf,
    /// True once the directory is known to exist and to be a shared mount.
    prepared: AtomicBool,
}

impl NamedDirectory {
    /// Returns a handle to the directory without accessing it. The directory is prepared when the first name is created.
    pub fn new(path: PathBuf) -> Self {
        Self {
            path,
            prepared: AtomicBool::new(false),
        }
    }

    /// Returns the path of the file for a namespace name. Rejects the names that `ip netns` rejects.
    pub fn path_of(&self, name: &str) -> Result<PathBuf, Failure> {
        if name.is_empty() || name == "." || name == ".." || name.contains(['/', '\0']) || name.len() > 255 {
            return Err(failure::other(format!(
                "{name:?} is not a valid network namespace name: it must be a file name of 1 to 255 bytes without \"/\""
            )));
        }
        Ok(self.path.join(name))
    }

    /// Opens a named namespace. Creates it if the name does not exist, or if no namespace is mounted on its file.
    ///
    /// In a new namespace, `lo` is set up and gets `mark` as its alias before the name becomes visible. `inside` runs in the new
    /// namespace, to open sockets. Its result is returned only if a namespace was created.
    ///
    /// May leave the calling thread in another namespace, so the thread must end without doing anything else.
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
                // Another program created the file first, so examine the file in the next attempt.
                Err((_, refusal)) if refusal.is(Errno::EEXIST) => {}
                Err((step, refusal)) => {
                    let action = format!("create the network namespace {} ({step})", path.display());
                    return Err(failure::system(&action, &refusal));
                }
            }
        }
        Err(failure::unavailable(format!(
            "another program creates and removes {} repeatedly; the agent retries later",
            path.display()
        )))
    }

    /// Opens an existing named namespace; never creates it.
    pub fn open(&self, name: &str) -> Result<File, Failure> {
        open_file(&self.path_of(name)?)
    }

    /// Opens the network namespace with this name; `None` if the name does not refer to a network namespace.
    pub fn existing(&self, name: &str) -> Result<Option<File>, Failure> {
        match probe(&self.path_of(name)?) {
            Ok(Probe::Namespace(file)) => Ok(Some(file)),
            _ => Ok(None),
        }
    }

    /// Creates a namespace and its name. Leaves the calling thread in the new namespace.
    fn create<T>(
        &self,
        path: &Path,
        mark: &str,
        stale: bool,
        inside: &impl Fn() -> io::Result<T>,
    ) -> Result<(File, T), (&'static str, Refusal)> {
        let step = |step: &'static str| move |refusal: Refusal| (step, refusal);
        self.prepare().map_err(step("prepare the directory"))?;
        unshare(CloneFlags::CLONE_NEWNET).map_err(Refusal::from).map_err(step("unshare"))?;
        mark_loopback(mark).map_err(step("set lo up and set its alias"))?;
        let opened = inside().map_err(Refusal::from).map_err(step("open sockets in the namespace"))?;
        let file = current().map_err(Refusal::from).map_err(step("open it"))?;
        if !stale && let Err(refusal) = write_placeholder(path, mark) {
            if refusal.is(Errno::ENOENT) {
                self.prepared.store(false, Ordering::Relaxed);
            }
            return Err(("create the file for the name", refusal));
        }
        if let Err(errno) = mount(Some(CURRENT), path, None::<&str>, MsFlags::MS_BIND, None::<&str>) {
            if !stale {
                // Failure is harmless, because a remaining placeholder is recognised by its contents.
                let _ = fs::remove_file(path);
            }
            return Err(("mount the namespace on the file", errno.into()));
        }
        Ok((file, opened))
    }

    /// Prepares the directory like `ip netns add` does.
    ///
    /// The directory gets mode 0755 and becomes a shared mount, so that new names also appear in existing mount namespaces. A
    /// lock on the directory keeps other programs from preparing it at the same time.
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
            // The directory is not a mount point yet.
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

    /// Deletes a namespace name, like `ip netns del`. Succeeds if the name does not exist.
    pub fn remove(&self, name: &str) -> Result<(), Failure> {
        let path = self.path_of(name)?;
        let refused = |refusal: Refusal| failure::system(&format!("remove the network namespace {}", path.display()), &refusal);
        // Do not follow a symbolic link: it may lead to a namespace with another name, which must not be unmounted.
        match umount2(&path, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
            // EINVAL means that nothing is mounted on the path.
            Ok(()) | Err(Errno::ENOENT | Errno::EINVAL) => {}
            Err(errno) => return Err(refused(errno.into())),
        }
        // Do not delete symbolic links or files with foreign contents.
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

    /// Returns all names and what they refer to, sorted by name.
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
            Probe::Other(_) => NamedTarget::NotANamespace { orphan_of: None },
            Probe::RegularFile => NamedTarget::NotANamespace {
                orphan_of: read_placeholder(path)?,
            },
        })
    }

    /// Deletes a name if its file is a placeholder of an agent with this mark. Returns whether the name was deleted.
    pub fn remove_orphan(&self, name: &str, mark: &str) -> Result<bool, Failure> {
        let path = self.path_of(name)?;
        let refused = |error: io::Error| failure::system(&format!("delete the orphaned file {}", path.display()), &error.into());
        match self.target(&path) {
            Ok(NamedTarget::NotANamespace { orphan_of: Some(of) }) if of == mark => match fs::remove_file(&path) {
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

/// Creates a network namespace without a name and opens a socket in it.
///
/// The namespace exists while the socket is open.
pub(super) fn private() -> io::Result<RouteSocket> {
    thread::scope(|scope| {
        let thread = thread::Builder::new().name("netns-create".to_owned()).spawn_scoped(scope, || {
            unshare(CloneFlags::CLONE_NEWNET)?;
            RouteSocket::open()
        })?;
        thread
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("the thread that creates namespaces ended")))
    })
}

/// Sets `lo` up in the namespace of the calling thread, and sets its alias to the mark.
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

/// Reads the mark from the placeholder of an agent that was killed while it created the name.
///
/// Returns `None` for any other file, and for a symbolic link.
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

/// Returns whether the file at a path has no foreign contents. The file must be empty, as created by `ip netns`, or a
/// placeholder.
fn is_vacant(path: &Path) -> io::Result<bool> {
    let metadata = fs::symlink_metadata(path)?;
    if !metadata.file_type().is_file() {
        return Ok(false);
    }
    Ok(metadata.len() == 0 || read_placeholder(path)?.is_some())
}

/// State of a path at which a namespace is to be created.
enum Place {
    /// A network namespace that was opened.
    Namespace(File),
    /// Nothing exists at the path.
    Free,
    /// An empty file or a placeholder, on which a namespace may be mounted.
    Stale,
    /// Another program replaced the file during the examination.
    Changed,
}

/// Examines a path at which a namespace may be created.
///
/// Rejects foreign files, because mounting a namespace on a file hides its contents, and deleting the name later deletes the
/// file. Also rejects a symbolic link that does not lead to a namespace, because its target may be outside the directory.
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
                "{shown} is a symbolic link to {}, which does not exist; the agent retries when it appears",
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

/// Waits until the deadline for another program to mount a namespace on an existing file.
///
/// Returns true if nothing was mounted, so the file is still stale.
///
/// The mount table signals changes with POLLERR and POLLPRI (proc_pid_mounts(5)).
fn wait_for_mount(path: &Path, deadline: Instant) -> bool {
    let Ok(mounts) = File::open("/proc/thread-self/mounts") else {
        return true;
    };
    loop {
        // `mounts` is already open, so a mount after this check ends the wait below.
        if !matches!(probe(path), Ok(Probe::RegularFile)) {
            return false;
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return true;
        }
        let timeout = PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::ZERO);
        let mut descriptors = [PollFd::new(mounts.as_fd(), PollFlags::POLLPRI | PollFlags::POLLERR)];
        // A signal or an error only shortens this wait; the loop ends at the deadline.
        let _ = poll(&mut descriptors, timeout);
    }
}
