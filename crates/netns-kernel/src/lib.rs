//! Executes network operations in Linux network namespaces through system calls, netlink, sysctl and ethtool.
//!
//! This crate contains all `unsafe` blocks and `setns` calls of the program. It makes no decisions: it only performs
//! [`KernelOp`]s and reports their results. Start reading at [`operation`], then [`Executor`].

mod address;
mod address_routes;
mod addressing;
mod adoption;
mod binding_record;
mod bridge;
mod change;
mod creation;
mod deletion;
mod descriptor_store;
mod entrance;
mod ethtool;
mod executor;
mod failure;
mod link;
mod link_details;
mod monitor;
mod namespace;
mod neighbour;
mod neighbouring;
mod netlink;
pub mod open_files;
mod opening;
mod operation;
mod packed;
mod pinned;
pub mod privileges;
mod probe;
mod process;
mod process_stat;
mod reading;
mod route;
mod routing;
pub mod sandbox;
mod serving;
mod slow_open;
mod snapshot;
mod sysctl;
mod table;
mod worker;
mod write_count;

pub use address_routes::{are_routes_read, routes_of_address};
pub use binding_record::boot_id;
pub use descriptor_store::{DescriptorStore, STORED_MAX, StoredDescriptor};
pub use executor::{Executor, ExecutorConfig, StartError};
pub use namespace::NamedTarget;
pub use operation::*;
pub use probe::{LinkKindTrial, try_link_kinds};
pub use process::process_namespaces;
pub use process_stat::ProcessStat;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadMe;
