//! All system calls: namespaces, netlink, sysctl, ethtool.
//!
//! Owns every `unsafe` block and every `setns` of the program, the pinned namespaces and their sockets. Must never decide
//! anything: it performs [`KernelOp`]s and says what came of them. Start reading at [`operation`], then [`Executor`].

mod operation;

pub use operation::*;
