//! Reads the initial configuration file, and watches it for changes.
//!
//! If the file is deleted or becomes unreadable, its last contents stay in effect.

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

/// Error for a configuration file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The file cannot be read.
    #[error("cannot read the initial configuration {}: {source}", path.display())]
    Read {
        /// Path of the file.
        path: PathBuf,
        /// Error reported by the system.
        source: io::Error,
    },
    /// The file is not a configuration document.
    #[error("the initial configuration {} is invalid: {source}", path.display())]
    Document {
        /// Path of the file.
        path: PathBuf,
        /// Error in the document, with its position.
        source: DocumentError,
    },
    /// The directory of the file cannot be watched.
    #[error("cannot watch the directory of the initial configuration {}: {source} (see fs.inotify.max_user_instances)", path.display())]
    Watch {
        /// Path of the file.
        path: PathBuf,
        /// Error reported by the system.
        source: io::Error,
    },
}

/// A configuration file that is watched for changes.
pub struct ConfigFile {
    path: PathBuf,
    name: OsString,
    events: EventStream<[u8; 4096]>,
    /// Text of the last usable version of the file.
    text: String,
}

impl ConfigFile {
    /// Reads the file, and starts watching it for changes.
    ///
    /// # Errors
    /// Fails if the file cannot be read or is not a configuration document. The agent must not start without its configuration.
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
        // Watch the directory, because editors and configuration managers replace the file with a new one. The watch starts
        // before the file is read, so that no change is missed.
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

    /// Waits until the contents of the file change, and returns all values in the file. Cancel-safe.
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
                Some(Err(error)) => warn!("no longer watching {} for changes: {error}", self.path.display()),
                None => std::future::pending().await,
            }
        }
    }

    /// Returns `true` if the path is a symlink. The target of a symlink may change without an event for the symlink itself, as
    /// with `..data` in Kubernetes.
    fn is_link(&self) -> bool {
        std::fs::symlink_metadata(&self.path).is_ok_and(|metadata| metadata.is_symlink())
    }

    fn read_again(&mut self) -> Option<Vec<Item>> {
        match read(&self.path) {
            Ok((text, _)) if text == self.text => None,
            Ok((text, items)) => {
                self.text = text;
                info!(file = %self.path.display(), count = items.len(), "configuration file changed");
                Some(items)
            }
            Err(error) => {
                warn!("{error}; the previous configuration stays in effect");
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
    async fn file_is_followed_and_unusable_content_is_ignored() {
        let directory = tempfile::tempdir().expect("create a temporary directory");
        let path = directory.path().join("initial-config.yaml");
        fs::write(&path, with("a")).expect("write the file");
        let (mut file, items) = ConfigFile::open(&path).expect("opens");
        assert_eq!(keys(&items), ["config/linux/interfaces/v2/interface/a"]);

        // Invalid contents, a deletion and unchanged contents are not reported.
        fs::write(&path, "linuxConfig: [").expect("write the file");
        fs::remove_file(&path).expect("remove the file");
        fs::write(&path, with("a")).expect("write the file");
        let other = directory.path().join("new");
        fs::write(&other, with("b")).expect("write the file");
        fs::rename(&other, &path).expect("replaced");
        assert_eq!(keys(&file.changed().await), ["config/linux/interfaces/v2/interface/b"]);
    }

    #[tokio::test]
    async fn unusable_file_at_start_is_an_error() {
        let directory = tempfile::tempdir().expect("create a temporary directory");
        let path = directory.path().join("c.yaml");
        let error = ConfigFile::open(&path).err().expect("missing").to_string();
        assert!(error.contains("c.yaml") && error.contains("No such file"), "{error}");
        fs::write(&path, "linuxConfig:\n  routs: []\n").expect("write the file");
        let error = ConfigFile::open(&path).err().expect("wrong").to_string();
        assert!(error.contains("routs") && error.contains("line 2"), "{error}");
    }
}
