//! Tests the netns executor against the real kernel, and compares the result with the output of `ip` (iproute2).
//!
//! Each test runs on its own thread, in a private mount and network namespace with an empty `/run`. The machine's named
//! namespaces and links are not touched, and everything disappears when the thread ends. Without root, the tests fail.

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
