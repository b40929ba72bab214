//! Tests of the documentation: the book in `docs/`, the README and the other pages of the repository.
//!
//! They check that links resolve, documents are valid, command lines parse and generated pages are up to date. They also run
//! the book's shell sessions, as root and in separate namespaces. `BOOK=overwrite cargo test --test book generated` writes
//! the generated pages again.

#[path = "../support/mod.rs"]
mod support;

mod console;
mod examples;
mod links;
mod pages;
mod reasons;
mod values;
