//! The initial configuration file, and what becomes of it while the agent runs.
//!
//! Owns reading it and noticing that it was written or replaced. Must never take a file that cannot be read, or is gone, for one that
//! asks for nothing: what was read last stays. Start reading at [`ConfigFile::open`].

use std::{
    ffi::OsString,
    io,
    path::{Path, PathBuf},
};

use futures::StreamExt;
use inotify::{EventStream, Inotify, WatchMask};
use models::document::Item;
use tracing::{info, warn};

use super::document::{self, DocumentError};

/// Why a configuration file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It cannot be read.
    #[error("cannot read the initial configuration {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The words of the system.
        source: io::Error,
    },
    /// It is no configuration document.
    #[error("the initial configuration {}: {source}", path.display())]
    Document {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, and where.
        source: DocumentError,
    },
    /// Its directory cannot be watched.
    #[error("cannot watch the directory of the initial configuration {}: {source} (see fs.inotify.max_user_instances)", path.display())]
    Watch {
        /// The file.
        path: PathBuf,
        /// The words of the system.
        source: io::Error,
    },
}

/// A configuration file that is followed.
pub struct ConfigFile {
    path: PathBuf,
    name: OsString,
    events: EventStream<[u8; 4096]>,
    /// The text that was read last.
    text: String,
}

impl ConfigFile {
    /// Reads the file, and follows it from then on.
    ///
    /// # Errors
    /// It cannot be read, or is no configuration document: better no start than one without the configuration.
    pub fn open(path: &Path) -> Result<(Self, Vec<Item>), FileError> {
        let watch = |source| FileError::Watch {
            path: path.to_path_buf(),
            source,
        };
        let name = path
            .file_name()
            .ok_or_else(|| watch(io::ErrorKind::InvalidInput.into()))?
            .to_owned();
        let directory = path
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty())
            .unwrap_or(Path::new("."));
        // The directory, because editors and configuration managers put a new file in the place of the old one. Before the file is
        // read, so that nothing falls between.
        let inotify = Inotify::init().map_err(watch)?;
        let mask = WatchMask::CLOSE_WRITE | WatchMask::MOVED_TO;
        inotify.watches().add(directory, mask).map_err(watch)?;
        let events = inotify.into_event_stream([0; 4096]).map_err(watch)?;
        let (text, items) = read(path)?;
        let file = ConfigFile {
            path: path.to_path_buf(),
            name,
            events,
            text,
        };
        Ok((file, items))
    }

    /// Waits until the file asks for something else, and returns all that it asks for. Cancel-safe.
    pub async fn changed(&mut self) -> Vec<Item> {
        loop {
            match self.events.next().await {
                Some(Ok(event)) => {
                    let own = event.name.as_ref() == Some(&self.name);
                    if (own || self.is_link())
                        && let Some(items) = self.read_again()
                    {
                        return items;
                    }
                }
                Some(Err(error)) => warn!("{} is no longer followed: {error}", self.path.display()),
                None => std::future::pending().await,
            }
        }
    }

    /// What it leads to may be turned elsewhere without its own name being touched, as Kubernetes does with `..data`.
    fn is_link(&self) -> bool {
        std::fs::symlink_metadata(&self.path).is_ok_and(|metadata| metadata.is_symlink())
    }

    fn read_again(&mut self) -> Option<Vec<Item>> {
        match read(&self.path) {
            Ok((text, _)) if text == self.text => None,
            Ok((text, items)) => {
                self.text = text;
                info!(file = %self.path.display(), count = items.len(), "the configuration file changed");
                Some(items)
            }
            Err(error) => {
                warn!("{error}; what it asked for before stays");
                None
            }
        }
    }
}

fn read(path: &Path) -> Result<(String, Vec<Item>), FileError> {
    let text = std::fs::read_to_string(path).map_err(|source| FileError::Read {
        path: path.to_path_buf(),
        source,
    })?;
    let items = document::parse(&text).map_err(|source| FileError::Document {
        path: path.to_path_buf(),
        source,
    })?;
    Ok((text, items))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn with(name: &str) -> String {
        format!("linuxConfig:\n  interfaces:\n    - name: {name}\n      type: DUMMY\n")
    }

    fn keys(items: &[Item]) -> Vec<String> {
        items.iter().map(|item| item.model.key().to_string()).collect()
    }

    #[tokio::test]
    async fn a_file_is_followed_and_one_that_cannot_be_used_changes_nothing() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("initial-config.yaml");
        fs::write(&path, with("a")).expect("written");
        let (mut file, items) = ConfigFile::open(&path).expect("opens");
        assert_eq!(keys(&items), ["config/linux/interfaces/v2/interface/a"]);

        // Broken, gone, the same again: nothing of that is told.
        fs::write(&path, "linuxConfig: [").expect("written");
        fs::remove_file(&path).expect("removed");
        fs::write(&path, with("a")).expect("written");
        let other = directory.path().join("new");
        fs::write(&other, with("b")).expect("written");
        fs::rename(&other, &path).expect("replaced");
        assert_eq!(keys(&file.changed().await), ["config/linux/interfaces/v2/interface/b"]);
    }

    #[tokio::test]
    async fn a_file_that_cannot_be_used_at_the_start_says_why() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("c.yaml");
        let error = ConfigFile::open(&path).err().expect("missing").to_string();
        assert!(error.contains("c.yaml") && error.contains("No such file"), "{error}");
        fs::write(&path, "linuxConfig:\n  routs: []\n").expect("written");
        let error = ConfigFile::open(&path).err().expect("wrong").to_string();
        assert!(error.contains("routs") && error.contains("line 2"), "{error}");
    }
}
