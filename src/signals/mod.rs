//! Facts from below: which containers run, and when what a namespace reference leads to may have changed.
//!
//! Owns the Docker tracker ([`docker`]), the namespace watcher ([`namespaces`]) and the pinning of processes that both need
//! ([`process`]). Must never change anything below, enter a namespace or decide what a fact means for a value: facts go to
//! the engine over channels. Start reading at [`docker::Tracker`] and [`namespaces::Watcher`].

pub mod docker;
pub mod namespaces;
pub mod process;
