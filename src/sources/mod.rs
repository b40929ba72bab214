//! Sources of the desired state: etcd, a configuration file, and clients of the APIs.
//!
//! Each source delivers raw items with their revision, and [`merge::Merge`] combines several sources into one desired state. No source
//! decodes values or turns an error into a deletion.

pub mod clients;
pub mod document;
pub mod etcd;
pub mod file;
pub mod merge;
pub mod note_file;
