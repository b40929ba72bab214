//! Creates database files under a temporary name and renames them when they are complete.
//!
//! A new database is created as `<name>.new`. Without the rename, an agent that is killed while it creates a database would leave
//! a file that looks damaged at the next start. The creating process locks the file first, and keeps the lock while the database
//! is open.

use std::fs::File;

use rustix::{
    fs::{AtFlags, FlockOperation, OFlags, RenameFlags, flock, fstat, fsync, ftruncate, renameat, renameat_with, statat},
    io::Errno,
};

use super::{DataDir, DataDirError, OpenFile, is_missing, system, unsafe_path};

/// A database file, open for reading and writing.
#[derive(Debug)]
pub struct DatabaseFile {
    /// Open file. A new file is empty and exclusively locked with flock(2).
    pub file: File,
    /// Handle that renames a new file to its final name; `None` if the file already has its final name.
    pub new: Option<NewDatabase>,
}

impl DatabaseFile {
    /// Returns true if the file has its final name but is empty. Such a file is damaged, because only complete files get that name.
    pub fn is_emptied(&self) -> bool {
        self.new.is_none() && self.file.metadata().is_ok_and(|found| found.len() == 0)
    }
}

/// A new database file that does not have its final name yet.
#[derive(Debug)]
#[must_use]
pub struct NewDatabase {
    name: String,
    temporary: String,
}

impl DataDir {
    /// Opens a database file, or creates a new one under a temporary name.
    ///
    /// # Errors
    /// Returns the errors of [`DataDir::open_or_create`]. Also fails if another process is creating the same database.
    pub fn open_database(&self, name: &str) -> Result<DatabaseFile, DataDirError> {
        let temporary = format!("{name}.new");
        loop {
            match self.open_checked(name, OFlags::RDWR) {
                Ok(file) => return Ok(DatabaseFile { file, new: None }),
                Err(error) if is_missing(&error) => {}
                Err(error) => return Err(error),
            }
            let OpenFile { file, .. } = self.open_or_create(&temporary)?;
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {}
                Err(Errno::WOULDBLOCK) => {
                    let problem = "is being created by another process".to_owned();
                    let remedy = "stop the other agent, or choose another --data-dir".to_owned();
                    return Err(unsafe_path(&self.path_of(name), problem, remedy));
                }
                Err(errno) => return Err(system("lock", &self.path_of(&temporary), errno)),
            }
            if !self.is_named(&file, &temporary) {
                // The process that created this file has renamed it and exited in the meantime.
                continue;
            }
            // A process that was killed may have left partial contents.
            ftruncate(&file, 0).map_err(|errno| system("empty", &self.path_of(&temporary), errno))?;
            let new = NewDatabase {
                name: name.to_owned(),
                temporary,
            };
            return Ok(DatabaseFile { file, new: Some(new) });
        }
    }

    fn is_named(&self, file: &File, name: &str) -> bool {
        let named = statat(&self.directory, name, AtFlags::SYMLINK_NOFOLLOW);
        matches!((fstat(file), named), (Ok(file), Ok(named)) if (file.st_dev, file.st_ino) == (named.st_dev, named.st_ino))
    }
}

impl NewDatabase {
    /// Renames the file to its final name. The contents must already be synced to disk.
    ///
    /// # Errors
    /// Fails if the file cannot be renamed, or if the final name already exists.
    pub fn publish(self, data: &DataDir) -> Result<(), DataDirError> {
        let directory = &data.directory;
        let renamed = match renameat_with(directory, &self.temporary, directory, &self.name, RenameFlags::NOREPLACE) {
            // Some file systems do not support RENAME_NOREPLACE.
            Err(Errno::INVAL | Errno::NOSYS) => renameat(directory, &self.temporary, directory, &self.name),
            renamed => renamed,
        };
        renamed
            .and_then(|()| fsync(directory))
            .map_err(|errno| system("create", &data.path_of(&self.name), errno))
    }
}
