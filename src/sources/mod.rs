//! Where desired state comes from.
//!
//! Owns the readers of each source, each of which hands over raw items with the revision they belong to, and the rule by which
//! several sources become one desired state. Must never decode a value, decide what a key means, or turn an error into a deletion.
//! Start reading at [`etcd::Source`], then [`merge::Merge`].

pub mod clients;
pub mod document;
pub mod etcd;
pub mod file;
pub mod merge;
pub mod note_file;
