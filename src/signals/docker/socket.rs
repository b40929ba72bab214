//! Watches for the daemon's socket, so that a starting daemon is noticed at once instead of after a pause.

use std::{ffi::OsString, io, path::Path};

use futures::StreamExt;
use inotify::{Inotify, WatchMask};

/// Inotify watch for a Unix socket.
pub(super) struct SocketWatch {
    events: inotify::EventStream<[u8; 1024]>,
    file_name: OsString,
}

impl SocketWatch {
    /// Starts watching the directory of the socket.
    ///
    /// # Errors
    ///
    /// Fails if the directory does not exist, or if no inotify instance is available. The caller must then poll.
    pub(super) fn install(socket: &Path) -> io::Result<Self> {
        let (Some(directory), Some(file_name)) = (socket.parent(), socket.file_name()) else {
            return Err(io::Error::from(io::ErrorKind::InvalidInput));
        };
        let inotify = Inotify::init()?;
        // Creation events alone are not enough: a daemon may create its socket under a temporary name and rename it, or may
        // change the owner of the socket later.
        inotify.watches().add(
            directory,
            WatchMask::CREATE | WatchMask::MOVED_TO | WatchMask::ATTRIB | WatchMask::ONLYDIR,
        )?;
        Ok(Self {
            events: inotify.into_event_stream([0; 1024])?,
            file_name: file_name.to_owned(),
        })
    }

    /// Completes when the socket has appeared. Never completes if there is no watch.
    pub(super) async fn appeared(watch: &mut Option<Self>) {
        while let Some(Self { events, file_name }) = watch {
            match events.next().await {
                Some(Ok(event)) if event.name.as_ref() == Some(file_name) => return,
                Some(Ok(_)) => {}
                Some(Err(_)) | None => *watch = None,
            }
        }
        futures::future::pending().await
    }
}
