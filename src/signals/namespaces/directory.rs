//! Watches the directory of named namespaces. The directory can be missing at first, and another directory can replace it later.
//!
//! The watcher's periodic checks cover changes that inotify does not report, such as a mount over a name.

use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use futures::StreamExt;
use inotify::{EventMask, EventStream, Inotify, WatchDescriptor, WatchMask};

/// Buffer size, sufficient for several dozen events.
const BUFFER_BYTES: usize = 4096;

/// Change in the directory of named namespaces.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum DirectoryEvent {
    /// The entry with this name may have changed.
    Name(String),
    /// Any entry may have changed, because events were lost, or because the directory itself appeared or disappeared.
    Anything,
}

/// Watched directory: the directory of named namespaces, or its parent while that directory does not exist.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Place {
    Itself,
    Parent,
}

/// An installed inotify watch.
struct Installed {
    place: Place,
    watch: WatchDescriptor,
    /// Device and inode number of the watched directory, to detect that its path now refers to another directory.
    identity: (u64, u64),
}

/// Watch on the directory of named namespaces. While this directory does not exist, its parent is watched instead.
pub(super) struct Directory {
    path: PathBuf,
    events: EventStream<[u8; BUFFER_BYTES]>,
    installed: Option<Installed>,
}

impl Directory {
    /// Starts watching the directory. Neither the directory nor its parent needs to exist.
    ///
    /// # Errors
    ///
    /// Fails if no inotify instance is available (see `fs.inotify.max_user_instances`).
    pub(super) fn watch(path: &Path) -> io::Result<Self> {
        let events = Inotify::init()?.into_event_stream([0; BUFFER_BYTES])?;
        let mut directory = Self {
            path: path.to_owned(),
            events,
            installed: None,
        };
        directory.reinstall();
        Ok(directory)
    }

    /// Moves the watch if the path now refers to another directory. Returns true in this case, because events may have been
    /// missed.
    ///
    /// Must be called periodically, because inotify reports no event if another file system is mounted over the directory, or if
    /// the parent of the directory appears.
    pub(super) fn reinstall(&mut self) -> bool {
        let found = Self::find(&self.path);
        let current = self.installed.as_ref().map(|installed| (installed.place, installed.identity));
        if found.as_ref().map(|(place, identity, _)| (*place, *identity)) == current {
            return false;
        }
        if let Some(installed) = self.installed.take() {
            // This call fails if the directory was deleted, because the kernel has then already removed the watch.
            let _ = self.events.watches().remove(installed.watch);
        }
        if let Some((place, identity, path)) = found {
            let mut mask = WatchMask::CREATE | WatchMask::MOVED_TO | WatchMask::DELETE_SELF | WatchMask::MOVE_SELF | WatchMask::ONLYDIR;
            if place == Place::Itself {
                mask |= WatchMask::DELETE | WatchMask::MOVED_FROM;
            }
            self.installed = self
                .events
                .watches()
                .add(path, mask)
                .ok()
                .map(|watch| Installed { place, watch, identity });
        }
        true
    }

    fn find(path: &Path) -> Option<(Place, (u64, u64), &Path)> {
        let identity = |path: &Path| {
            fs::metadata(path)
                .ok()
                .filter(fs::Metadata::is_dir)
                .map(|found| (found.dev(), found.ino()))
        };
        let itself = identity(path).map(|identity| (Place::Itself, identity, path));
        itself.or_else(|| path.parent().and_then(|parent| Some((Place::Parent, identity(parent)?, parent))))
    }

    /// Waits for the next event. Cancel-safe.
    pub(super) async fn next(&mut self) -> DirectoryEvent {
        loop {
            let Some(Ok(event)) = self.events.next().await else {
                // Reading inotify events fails only because of programming errors. The periodic checks then continue without
                // events.
                return futures::future::pending().await;
            };
            let place = self
                .installed
                .as_ref()
                .filter(|installed| installed.watch == event.wd)
                .map(|installed| installed.place);
            if event.mask.contains(EventMask::Q_OVERFLOW) {
                return DirectoryEvent::Anything;
            }
            let lost = event
                .mask
                .intersects(EventMask::DELETE_SELF | EventMask::MOVE_SELF | EventMask::IGNORED);
            match (place, event.name) {
                // The event belongs to a watch that has been replaced.
                (None, _) => {}
                (Some(_), _) if lost => {
                    self.installed = None;
                    self.reinstall();
                    return DirectoryEvent::Anything;
                }
                (Some(Place::Parent), Some(name)) if Some(name.as_os_str()) == self.path.file_name() => {
                    self.reinstall();
                    return DirectoryEvent::Anything;
                }
                (Some(Place::Itself), Some(name)) => {
                    // Names in references are always UTF-8, so a name that is not UTF-8 can be ignored.
                    if let Ok(name) = name.into_string() {
                        return DirectoryEvent::Name(name);
                    }
                }
                (Some(_), _) => {}
            }
        }
    }
}
