//! Manages the data directory. Its files survive a restart, and only the agent's user can read or write them.
//!
//! Opening the directory sets its mode to 0700, and opening a file in it sets the file's mode to 0600, regardless of the umask.
//! Symbolic links are never followed. A directory or file that another user owns or can write to is rejected, because its
//! contents determine what the agent does as root. Files are opened through the directory's descriptor, so a later change to the
//! directory's path has no effect.

use std::{
    ffi::OsString,
    fmt,
    fs::{DirBuilder, File},
    io::{self, ErrorKind, Read, Write},
    os::unix::{ffi::OsStringExt, fs::DirBuilderExt},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{AtFlags, CWD, FileType, Mode, OFlags, Stat, fchmod, fstat, fsync, mkdirat, openat, readlinkat, renameat, unlinkat},
    io::Errno,
    process::geteuid,
};
use tracing::info;

mod database;

pub use database::{DatabaseFile, NewDatabase};

/// Permission bits of the directory and its files.
const DIRECTORY_MODE: Mode = Mode::RWXU;
const FILE_MODE: Mode = Mode::RUSR.union(Mode::WUSR);
/// Permission bits of newly created parent directories.
const PARENT_MODE: u32 = 0o755;
/// Permission bits that allow other users to write.
const WRITABLE_BY_OTHERS: Mode = Mode::WGRP.union(Mode::WOTH);

/// Error returned if the data directory, or a file in it, cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// A system call failed.
    #[error("cannot {action} {}: {source}; check --data-dir and its permissions", path.display())]
    System {
        /// Failed action, as a verb for the error message, such as `open`.
        action: &'static str,
        /// Path of the directory or file.
        path: PathBuf,
        /// Error from the kernel.
        source: io::Error,
    },
    /// The file or directory has the wrong type, or another user owns it or can write to it.
    #[error("{} {problem}; {remedy}", path.display())]
    Unsafe {
        /// Path of the directory or file.
        path: PathBuf,
        /// Problem, as a predicate for the error message, such as "is not a regular file".
        problem: String,
        /// Advice on how to solve the problem.
        remedy: String,
    },
}

impl DataDirError {
    /// Returns the kernel's error if a system call failed.
    pub fn io(&self) -> Option<&io::Error> {
        match self {
            DataDirError::System { source, .. } => Some(source),
            DataDirError::Unsafe { .. } => None,
        }
    }
}

impl From<DataDirError> for io::Error {
    fn from(error: DataDirError) -> Self {
        let kind = error.io().map_or(ErrorKind::PermissionDenied, io::Error::kind);
        io::Error::new(kind, error)
    }
}

/// A file of the data directory, open for reading and writing.
#[derive(Debug)]
pub struct OpenFile {
    /// Open file.
    pub file: File,
    /// `true` if the file did not exist and was created.
    pub created: bool,
}

/// The data directory, open and checked.
#[derive(Debug)]
pub struct DataDir {
    directory: File,
    path: PathBuf,
}

impl DataDir {
    /// Opens the directory. Creates it and its parents if necessary.
    ///
    /// # Errors
    /// Fails if the directory cannot be created or opened, is a symbolic link, or is owned or writable by another user.
    pub fn open(path: &Path) -> Result<Self, DataDirError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let open = || openat(CWD, path, flags, Mode::empty());
        let (opened, created) = match open() {
            Err(Errno::NOENT) => {
                create(path)?;
                (open(), true)
            }
            opened => (opened, false),
        };
        let directory = File::from(opened.map_err(|errno| cannot_open_directory(path, errno))?);
        let status = fstat(&directory).map_err(|errno| system("read the permissions of", path, errno))?;
        let mode = Mode::from_raw_mode(status.st_mode);
        check_owner(path, &status, "choose another --data-dir")?;
        if mode.intersects(WRITABLE_BY_OTHERS) {
            return Err(unsafe_path(
                path,
                format!(
                    "is writable by other users (mode {:04o}), so its contents cannot be trusted",
                    permissions(&status)
                ),
                format!(
                    "remove the files that the agent did not write, then run: chmod 700 {}; or choose another --data-dir",
                    path.display()
                ),
            ));
        }
        restrict(&directory, path, mode, DIRECTORY_MODE, created)?;
        Ok(DataDir {
            directory,
            path: path.to_owned(),
        })
    }

    /// Returns the path of a file in the directory, for messages.
    pub fn path_of(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Opens a file for reading and writing. Creates it if it does not exist.
    ///
    /// # Errors
    /// Fails if the file cannot be opened, is not a regular file, has several hard links, or is owned or writable by another user.
    pub fn open_or_create(&self, name: &str) -> Result<OpenFile, DataDirError> {
        let flags = OFlags::RDWR;
        match self.open_checked(name, flags) {
            Ok(file) => Ok(OpenFile { file, created: false }),
            Err(error) if is_missing(&error) => {
                let opened = self.open_raw(name, flags | OFlags::CREATE | OFlags::EXCL);
                let file = opened.map_err(|errno| system("create", &self.path_of(name), errno))?;
                // The umask may have cleared some of the requested permission bits.
                fchmod(&file, FILE_MODE).map_err(|errno| system("set the permissions of", &self.path_of(name), errno))?;
                Ok(OpenFile { file, created: true })
            }
            Err(error) => Err(error),
        }
    }

    /// Reads a file. Returns `None` if it does not exist.
    ///
    /// # Errors
    /// See [`open_or_create`](Self::open_or_create).
    pub fn read(&self, name: &str) -> Result<Option<Vec<u8>>, DataDirError> {
        let mut file = match self.open_checked(name, OFlags::RDONLY) {
            Err(error) if is_missing(&error) => return Ok(None),
            opened => opened?,
        };
        let mut content = Vec::new();
        file.read_to_end(&mut content).map_err(|source| DataDirError::System {
            action: "read",
            path: self.path_of(name),
            source,
        })?;
        Ok(Some(content))
    }

    /// Replaces a file's contents atomically: after a crash, the file has either the old or the new contents.
    ///
    /// # Errors
    /// Fails if the new contents cannot be written. The old contents then stay unchanged.
    pub fn replace(&self, name: &str, content: &[u8]) -> Result<(), DataDirError> {
        let next = format!("{name}.new");
        let path = self.path_of(&next);
        // A crash may have left this file behind, or another user may have planted a link. unlinkat does not follow links.
        match unlinkat(&self.directory, next.as_str(), AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(system("remove", &path, errno)),
        }
        let OpenFile { mut file, .. } = self.open_or_create(&next)?;
        let written = file.write_all(content).and_then(|()| Ok(fsync(&file)?));
        written.map_err(|source| DataDirError::System {
            action: "write",
            path,
            source,
        })?;
        renameat(&self.directory, next.as_str(), &self.directory, name)
            .and_then(|()| fsync(&self.directory))
            .map_err(|errno| system("replace", &self.path_of(name), errno))
    }

    fn open_raw(&self, name: &str, flags: OFlags) -> Result<File, Errno> {
        // Without NONBLOCK, opening a FIFO would block until its other end is opened.
        let safe = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
        openat(&self.directory, name, flags | safe, FILE_MODE).map(File::from)
    }

    fn open_checked(&self, name: &str, flags: OFlags) -> Result<File, DataDirError> {
        let path = self.path_of(name);
        let remedy = || "remove the file if the agent did not write it, or choose another --data-dir".to_owned();
        let file = match self.open_raw(name, flags) {
            Ok(file) => file,
            Err(Errno::LOOP) => return Err(unsafe_path(&path, link_problem(&self.directory, Path::new(name)), remedy())),
            Err(Errno::NXIO | Errno::ISDIR) => return Err(unsafe_path(&path, "is not a regular file".to_owned(), remedy())),
            Err(errno) => return Err(system("open", &path, errno)),
        };
        let status = fstat(&file).map_err(|errno| system("read the permissions of", &path, errno))?;
        if FileType::from_raw_mode(status.st_mode) != FileType::RegularFile {
            return Err(unsafe_path(&path, "is not a regular file".to_owned(), remedy()));
        }
        check_owner(&path, &status, "remove the file if the agent did not write it")?;
        if status.st_nlink > 1 {
            let problem = format!(
                "has {} hard links, so a write would also change the file under its other names",
                status.st_nlink
            );
            return Err(unsafe_path(&path, problem, remedy()));
        }
        let mode = Mode::from_raw_mode(status.st_mode);
        if mode.intersects(WRITABLE_BY_OTHERS) {
            let problem = format!(
                "is writable by other users (mode {:04o}), so its contents cannot be trusted",
                permissions(&status)
            );
            let remedy = format!("remove the file, or check its contents and then run: chmod 600 {}", path.display());
            return Err(unsafe_path(&path, problem, remedy));
        }
        restrict(&file, &path, mode, FILE_MODE, false)?;
        Ok(file)
    }
}

/// Creates the directory with mode 0700, and missing parents with mode 0755.
fn create(path: &Path) -> Result<(), DataDirError> {
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        DirBuilder::new()
            .recursive(true)
            .mode(PARENT_MODE)
            .create(parent)
            .map_err(|source| DataDirError::System {
                action: "create the data directory's parent",
                path: parent.to_owned(),
                source,
            })?;
    }
    match mkdirat(CWD, path, DIRECTORY_MODE) {
        // EEXIST means that another process created the directory in the meantime. The directory is then checked like any existing one.
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(errno) => Err(system("create the data directory", path, errno)),
    }
}

fn cannot_open_directory(path: &Path, errno: Errno) -> DataDirError {
    match readlinkat(CWD, path, Vec::new()) {
        // The kernel returns ENOTDIR instead of ELOOP for a symbolic link, because it checks O_DIRECTORY first.
        Ok(_) => unsafe_path(
            path,
            link_problem(CWD, path),
            "set --data-dir to the target of the symbolic link".to_owned(),
        ),
        Err(_) => system("open the data directory", path, errno),
    }
}

fn link_problem(directory: impl rustix::fd::AsFd, path: &Path) -> String {
    let target = readlinkat(directory, path, Vec::new()).map(|target| PathBuf::from(OsString::from_vec(target.into_bytes())));
    match target {
        Ok(target) => format!("is a symbolic link to {}, which is not followed", target.display()),
        Err(_) => "is a symbolic link, which is not followed".to_owned(),
    }
}

fn check_owner(path: &Path, status: &Stat, otherwise: &str) -> Result<(), DataDirError> {
    let own = geteuid().as_raw();
    if status.st_uid == own {
        return Ok(());
    }
    let problem = format!("belongs to user {}, but the agent runs as user {own}", status.st_uid);
    let remedy = format!("if you trust the contents, run: chown {own} {}; or {otherwise}", path.display());
    Err(unsafe_path(path, problem, remedy))
}

/// Sets the permission bits to `wanted`, because an older release or the user's umask may have left other bits.
fn restrict(file: &File, path: &Path, mode: Mode, wanted: Mode, created: bool) -> Result<(), DataDirError> {
    if mode.intersection(Mode::RWXU | Mode::RWXG | Mode::RWXO) == wanted {
        return Ok(());
    }
    fchmod(file, wanted).map_err(|errno| system("set the permissions of", path, errno))?;
    if !created {
        info!(path = %path.display(), "removed other users' permissions on the data directory");
    }
    Ok(())
}

fn permissions(status: &Stat) -> u32 {
    status.st_mode & 0o7777
}

fn is_missing(error: &DataDirError) -> bool {
    error.io().is_some_and(|source| source.kind() == ErrorKind::NotFound)
}

fn system(action: &'static str, path: &Path, errno: Errno) -> DataDirError {
    DataDirError::System {
        action,
        path: path.to_owned(),
        source: errno.into(),
    }
}

fn unsafe_path(path: &Path, problem: impl fmt::Display, remedy: String) -> DataDirError {
    DataDirError::Unsafe {
        path: path.to_owned(),
        problem: problem.to_string(),
        remedy,
    }
}

#[cfg(test)]
mod tests;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadMe;
