//! Observes Docker and the kernel: detects which containers are running, and when a namespace reference may resolve to another
//! namespace.
//!
//! Contains the Docker tracker ([`docker`]), the namespace watcher ([`namespaces`]), and the code for pidfds that both of them
//! use ([`process`]). These modules only observe, and send facts to the engine over channels. They never change an object or
//! enter a namespace.

pub mod docker;
pub mod namespaces;
pub mod process;
