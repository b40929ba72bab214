//! The history of the scheduler as clients see it: JSON and text.
//!
//! Owns the forms, member by member and line by line as in the reference. Must never ask the scheduler: it gets records. Start reading at
//! [`json`].

pub mod json;
#[cfg(test)]
mod tests;
pub mod text;
