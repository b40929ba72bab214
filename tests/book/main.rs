//! Tests of the documentation: the book in `docs/`, the README and the other pages of the repository.
//!
//! Links resolve, documents are valid, command lines parse, generated pages are up to date, and the shell sessions of the
//! book are run as root in namespaces of their own. `BOOK=overwrite cargo test --test book generated` writes the generated
//! pages again.

#[path = "../support/mod.rs"]
#[allow(dead_code)]
mod support;

mod console;
mod examples;
mod links;
mod pages;
mod reasons;
mod values;
