//! Where desired state comes from.
//!
//! Owns the readers of each source; each hands over raw items with the revision they belong to. Must never decode a value,
//! decide what a key means, or turn an error into a deletion. Start reading at [`etcd::Source`].

pub mod etcd;
