//! Events of the directory of named namespaces, also when it does not exist yet or is replaced.
//!
//! Owns the inotify instance. Must never create the directory. Start reading at [`Directory::next`]. The slow checks of the
//! watcher cover what inotify cannot see: a mount over a name gives no event.

use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use futures::StreamExt;
use inotify::{EventMask, EventStream, Inotify, WatchDescriptor, WatchMask};

/// Room for some dozens of events at a time.
const BUFFER_BYTES: usize = 4096;

/// What is known after a directory event.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum DirectoryEvent {
    /// Something happened to this name.
    Name(String),
    /// Anything may have happened: events were lost, or the directory itself came or went.
    Anything,
}

/// What is being watched: the directory, or its parent until it exists.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Place {
    Itself,
    Parent,
}

/// One installed watch.
struct Installed {
    place: Place,
    watch: WatchDescriptor,
    /// Device and inode number of what is watched, to notice that the path leads elsewhere.
    identity: (u64, u64),
}

/// The watched directory.
pub(super) struct Directory {
    path: PathBuf,
    events: EventStream<[u8; BUFFER_BYTES]>,
    installed: Option<Installed>,
}

impl Directory {
    /// Starts to watch. That the directory (or even its parent) does not exist is no error.
    ///
    /// # Errors
    ///
    /// No inotify instance can be had (see `fs.inotify.max_user_instances`).
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

    /// Watches what the path leads to now, if that has changed; says whether anything may have happened unseen. To be called
    /// now and then: a directory that is mounted over, or whose parent appears, gives no event.
    pub(super) fn reinstall(&mut self) -> bool {
        let found = Self::find(&self.path);
        let current = self.installed.as_ref().map(|installed| (installed.place, installed.identity));
        if found.as_ref().map(|(place, identity, _)| (*place, *identity)) == current {
            return false;
        }
        if let Some(installed) = self.installed.take() {
            // The kernel removes the watch by itself when its directory is gone, and says so by an error.
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

    /// The next event. Cancelling it loses nothing.
    pub(super) async fn next(&mut self) -> DirectoryEvent {
        loop {
            let Some(Ok(event)) = self.events.next().await else {
                // Reading inotify fails only for programming errors; the slow checks go on without it.
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
                // An event of a watch that has been replaced.
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
                    // A name that is no UTF-8 cannot be meant by any reference.
                    if let Ok(name) = name.into_string() {
                        return DirectoryEvent::Name(name);
                    }
                }
                (Some(_), _) => {}
            }
        }
    }
}
