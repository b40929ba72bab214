//! Database files: they appear under their name only when they are complete.
//!
//! A kill while one is created would leave a file that looks damaged at the next start. So a new one is filled under the name `<name>.new` and then
//! renamed. The process that fills it locks it first, and keeps the lock while the database is open.

use std::fs::File;

use rustix::{
    fs::{AtFlags, FlockOperation, OFlags, RenameFlags, flock, fstat, fsync, ftruncate, renameat, renameat_with, statat},
    io::Errno,
};

use super::{DataDir, DataDirError, OpenFile, is_missing, system, unsafe_path};

/// A database file, open for reading and writing.
#[derive(Debug)]
pub struct DatabaseFile {
    /// The file; if it is new, it is empty and has the exclusive lock of flock(2).
    pub file: File,
    /// It is new, and has its name as soon as it was [published](NewDatabase::publish).
    pub new: Option<NewDatabase>,
}

impl DatabaseFile {
    /// Whether it is damaged so that it looks like a new one: it has its name, but no content.
    pub fn is_emptied(&self) -> bool {
        self.new.is_none() && self.file.metadata().is_ok_and(|found| found.len() == 0)
    }
}

/// A database file that has not got its name yet.
#[derive(Debug)]
#[must_use]
pub struct NewDatabase {
    name: String,
    temporary: String,
}

impl DataDir {
    /// Opens a database file, or begins a new one.
    ///
    /// # Errors
    /// As [`DataDir::open_or_create`], or another process is creating it.
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
                    let remedy = "stop one of the two agents, or choose another --data-dir".to_owned();
                    return Err(unsafe_path(&self.path_of(name), problem, remedy));
                }
                Err(errno) => return Err(system("lock", &self.path_of(&temporary), errno)),
            }
            if !self.is_named(&file, &temporary) {
                // The other process has given it its name, and has ended.
                continue;
            }
            // A process that was killed may have begun to fill it.
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
    /// Gives the file its name; its content must be on the disk.
    ///
    /// # Errors
    /// It cannot be renamed, or there is a file of that name by now.
    pub fn publish(self, data: &DataDir) -> Result<(), DataDirError> {
        let directory = &data.directory;
        let renamed = match renameat_with(directory, &self.temporary, directory, &self.name, RenameFlags::NOREPLACE) {
            // Some file systems cannot compare and rename in one step.
            Err(Errno::INVAL | Errno::NOSYS) => renameat(directory, &self.temporary, directory, &self.name),
            renamed => renamed,
        };
        renamed
            .and_then(|()| fsync(directory))
            .map_err(|errno| system("create", &data.path_of(&self.name), errno))
    }
}
