//! Reports the agent's state to the service manager, and stores namespace descriptors in it. Uses the protocol of sd_notify(3).
//!
//! systemd passes the path of its socket in `NOTIFY_SOCKET` if the unit has `Type=notify`. Without this variable, nothing is sent.

use std::{
    os::fd::{AsFd, OwnedFd},
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use netns_kernel::{DescriptorStore, StoredDescriptor};
use sd_notify::NotifyState;
use tracing::warn;

use crate::telemetry::visible;

/// Handle for sending notifications. Cheap to clone. Sending never blocks and never fails, because a separate thread sends the
/// notifications.
#[derive(Clone, Debug)]
pub struct ServiceManager {
    /// `None` if there is no service manager.
    messages: Option<mpsc::Sender<Message>>,
    watchdog: Option<Duration>,
}

#[derive(Debug)]
pub(crate) enum Message {
    Ready,
    Reloading,
    Stopping,
    Status(String),
    Alive,
    Store { name: String, file: Arc<OwnedFd> },
    Remove { name: String },
}

impl ServiceManager {
    /// Connects to the service manager that started this process. Starts the sending thread only if a service manager is present.
    pub fn connect() -> Self {
        if std::env::var_os("NOTIFY_SOCKET").is_none() {
            return ServiceManager::absent();
        }
        let (messages, received) = mpsc::channel();
        let send_all = move || {
            let mut failed = false;
            for message in received {
                match send(&message) {
                    Ok(()) => failed = false,
                    // Do not repeat the warning for each message.
                    Err(error) if !std::mem::replace(&mut failed, true) => warn!("cannot notify the service manager: {error}"),
                    Err(_) => {}
                }
            }
        };
        match thread::Builder::new().name("service-manager".to_owned()).spawn(send_all) {
            Ok(_) => ServiceManager {
                messages: Some(messages),
                watchdog: sd_notify::watchdog_enabled(),
            },
            Err(error) => {
                warn!("cannot start the thread that notifies the service manager: {error}");
                ServiceManager::absent()
            }
        }
    }

    /// Returns a handle that sends nothing.
    pub fn absent() -> Self {
        ServiceManager {
            messages: None,
            watchdog: None,
        }
    }

    /// Returns a handle with this watchdog, and a receiver of what would be sent.
    #[cfg(test)]
    pub(crate) fn recording(watchdog: Duration) -> (Self, mpsc::Receiver<Message>) {
        let (messages, sent) = mpsc::channel();
        let manager = ServiceManager {
            messages: Some(messages),
            watchdog: Some(watchdog),
        };
        (manager, sent)
    }

    /// Returns whether notifications are sent.
    pub fn is_present(&self) -> bool {
        self.messages.is_some()
    }

    /// Returns the watchdog timeout (`WatchdogSec=` in systemd.service(5)); `None` if the watchdog is disabled. The service
    /// manager ends the process if [`Self::alive`] is not called within this time.
    pub fn watchdog(&self) -> Option<Duration> {
        self.watchdog.filter(|limit| !limit.is_zero())
    }

    /// Reports that the service has started, or that a reload is complete.
    pub fn ready(&self) {
        self.send(Message::Ready);
    }

    /// Reports that the settings are being read again. [`Self::ready`] must follow.
    pub fn reloading(&self) {
        self.send(Message::Reloading);
    }

    /// Reports that the service is stopping.
    pub fn stopping(&self) {
        self.send(Message::Stopping);
    }

    /// Sets the line that `systemctl status` shows. Control characters in it are escaped.
    pub fn status(&self, line: &str) {
        self.send(Message::Status(visible(line)));
    }

    /// Restarts the timeout that [`Self::watchdog`] returns.
    pub fn alive(&self) {
        self.send(Message::Alive);
    }

    fn send(&self, message: Message) {
        if let Some(messages) = &self.messages {
            // The thread ends only after all senders are dropped.
            let _ = messages.send(message);
        }
    }
}

impl DescriptorStore for ServiceManager {
    fn store(&self, name: &str, file: Arc<OwnedFd>) {
        let name = name.to_owned();
        self.send(Message::Store { name, file });
    }

    fn remove(&self, name: &str) {
        let name = name.to_owned();
        self.send(Message::Remove { name });
    }
}

fn send(message: &Message) -> std::io::Result<()> {
    match message {
        Message::Ready => sd_notify::notify(&[NotifyState::Ready]),
        // systemd 253 and later require the time if the unit has `Type=notify-reload`.
        Message::Reloading => sd_notify::notify(&[NotifyState::Reloading, NotifyState::monotonic_usec_now()?]),
        Message::Stopping => sd_notify::notify(&[NotifyState::Stopping]),
        Message::Status(line) => sd_notify::notify(&[NotifyState::Status(line)]),
        Message::Alive => sd_notify::notify(&[NotifyState::Watchdog]),
        Message::Store { name, file } => sd_notify::notify_with_fds(&[NotifyState::FdStore, NotifyState::FdName(name)], &[file.as_fd()]),
        Message::Remove { name } => sd_notify::notify(&[NotifyState::FdStoreRemove, NotifyState::FdName(name)]),
    }
}

/// Takes over the namespace descriptors that an earlier run of the agent stored in the service manager.
///
/// Must be called only once, because it closes the descriptors that the service manager passed to this process.
pub fn stored_descriptors() -> Vec<StoredDescriptor> {
    match sd_notify::listen_fds_with_names() {
        Ok(passed) => passed
            .filter_map(|(descriptor, name)| StoredDescriptor::take(name, descriptor))
            .collect(),
        Err(error) => {
            warn!("cannot take over the descriptors that the service manager passed: {error}");
            Vec::new()
        }
    }
}
