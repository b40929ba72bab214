//! Observes Docker and the kernel. Detects which containers are running, and when a namespace reference may resolve to a
//! different namespace.
//!
//! [`docker`] contains the Docker tracker, and [`namespaces`] contains the namespace watcher. They share the pidfd code in
//! [`process`]. These modules only observe, and send facts to the engine over channels. They never change an object or enter a
//! namespace.

pub mod docker;
pub mod namespaces;
pub mod process;
