//! Sources of the desired state: etcd, a configuration file, and API clients.
//!
//! Each source delivers raw items with their revision, and [`merge::Merge`] combines several sources into one desired state. Sources do not
//! decode values, and never turn an error into a deletion.

pub mod clients;
pub mod document;
pub mod etcd;
pub mod file;
pub mod merge;
pub mod note_file;
