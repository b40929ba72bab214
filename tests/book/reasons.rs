//! Checks that the page about statuses describes every reason that the program can publish.

use std::{collections::BTreeSet, fs, path::Path};

use super::pages::{Page, root};

/// String literals that look like reasons but are not.
const OTHERS: &[&str] = &[
    "LogFilter",
    "NBTransaction",
    "SBNotification",
    "RetryFailedOps",
    "RetryUnimplOps",
    "RuleChain",
];

/// Source files that publish reasons.
const SOURCES: &[&str] = &[
    "src/agent",
    "src/descriptors",
    "src/desired",
    "src/desired.rs",
    "src/sources",
    "src/signals",
    "models/src",
    "crates/kvscheduler/src",
    "crates/link-kinds/src",
    "crates/netns-kernel/src",
];

fn rust_files(path: &Path, found: &mut Vec<String>) {
    if path.is_dir() {
        for entry in fs::read_dir(path).expect("list a folder") {
            rust_files(&entry.expect("read an entry").path(), found);
        }
    } else if path.extension().is_some_and(|extension| extension == "rs") && !path.to_string_lossy().contains("test") {
        found.push(fs::read_to_string(path).expect("read a source file"));
    }
}

/// Returns the string literals that consist of at least two capitalized words, such as `HostNameConflict`.
fn camel_case_literals(text: &str) -> impl Iterator<Item = &str> {
    let code = text.split("#[cfg(test)]").next().unwrap_or_default();
    let literals = code
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .flat_map(|line| line.split('"').skip(1).step_by(2));
    literals.filter(|literal| {
        let capitals = literal.chars().filter(char::is_ascii_uppercase).count();
        let is_word = literal.chars().all(|c| c.is_ascii_alphanumeric()) && literal.starts_with(|c: char| c.is_ascii_uppercase());
        is_word && capitals > 1 && capitals < literal.len() / 2
    })
}

#[test]
fn every_reason_is_described() {
    let mut sources = Vec::new();
    SOURCES.iter().for_each(|source| rust_files(&root().join(source), &mut sources));
    let literals = sources.iter().flat_map(|text| camel_case_literals(text));
    let reasons: BTreeSet<&str> = literals.filter(|literal| !OTHERS.contains(literal)).collect();
    let page = Page::read(Path::new("docs/src/statuses.md"));
    let missing: Vec<&&str> = reasons
        .iter()
        .filter(|reason| !page.text.contains(&format!("`{reason}`")))
        .collect();
    assert!(missing.is_empty(), "docs/src/statuses.md does not describe {missing:?}");
    assert!(reasons.len() > 50, "only {} reasons were found", reasons.len());
}
