//! Tests of the netns executor against the real kernel, compared with `ip` of iproute2.
//!
//! Each test runs on a thread of its own in a private mount and network namespace, with an empty `/run`. Neither the
//! machine's named namespaces nor its links are touched, and everything ends with the thread. Needs root; without it the
//! tests fail.

#[path = "kernel_executor/adoption.rs"]
mod adoption;
#[path = "kernel_executor/kept.rs"]
mod kept;
#[path = "kernel_executor/links.rs"]
mod links;
#[path = "kernel_executor/namespaces.rs"]
mod namespaces;
#[path = "kernel_executor/objects.rs"]
mod objects;
#[path = "kernel_executor/packed.rs"]
mod packed;
#[path = "kernel_executor/world.rs"]
mod world;
