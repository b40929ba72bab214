//! Compares responses with golden files. Values that differ from run to run, such as times and inodes, are masked first.
//!
//! Data that is meaningful to a client is not masked. See [`check`].

use std::{fs, path::PathBuf};

use super::client::Answer;

/// Compares a response, including its status and content type, with the golden file of this name.
pub fn check(name: &str, answer: &Answer) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/api/golden").join(name);
    let text = format!("{} {}\n{}", answer.status, answer.content_type(), blot(&answer.body));
    let text = format!("{}\n", text.trim_end());
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, &text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }
    let expected = fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(text, expected, "the response differs from {}", path.display());
}

/// Replaces times, inodes, link indexes, counters and revisions with placeholders, because they differ from run to run.
fn blot(text: &str) -> String {
    let mut lines = Vec::new();
    for line in text.lines() {
        let line = replace_times(line);
        let line = replace_after(&line, "net:[", "INODE");
        // Namespace inodes begin with these digits (PROC_DYNAMIC_FIRST in the kernel).
        lines.push(replace_after(&line, "\"4026", "INODE"));
    }
    let mut text = lines.join("\n");
    for member in [
        "start_time",
        "last_change",
        "last_update",
        "BuildTime",
        "linux_if_index",
        "LinuxIfIndex",
        "interface_index",
        "parent_index",
        "rx_packets",
        "tx_packets",
        "rx_bytes",
        "tx_bytes",
    ] {
        text = replace_after(&text, &format!("\"{member}\":"), "NUMBER");
        text = replace_after(&text, &format!("\"{member}\": "), "NUMBER");
    }
    // Revisions depend on how often the agent has written its own keys to the store.
    text = replace_after(&text, "\"mod_revision\": \"", "NUMBER");
    text
}

/// Replaces times such as `2026-01-02T03:04:05.678Z` with `TIME`. Keeps the zero time, because it has a meaning.
fn replace_times(line: &str) -> String {
    let mut left = line;
    let mut made = String::new();
    while let Some(at) = left.find("T").and_then(|_| time_at(left)) {
        let (before, rest) = left.split_at(at);
        made.push_str(before);
        made.push_str("TIME");
        left = &rest[rest.find('Z').map_or(rest.len(), |end| end + 1)..];
    }
    made.push_str(left);
    made
}

/// Returns the offset of the first timestamp whose year begins with `20`.
fn time_at(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    (0..bytes.len().saturating_sub(19)).find(|&at| {
        let window = &bytes[at..at + 19];
        window.starts_with(b"20")
            && window.iter().enumerate().all(|(position, byte)| match position {
                4 | 7 => *byte == b'-',
                10 => *byte == b'T',
                13 | 16 => *byte == b':',
                _ => byte.is_ascii_digit(),
            })
    })
}

/// Replaces the digits that follow each `mark` with `word`.
fn replace_after(text: &str, mark: &str, word: &str) -> String {
    let mut parts = text.split(mark);
    let mut made = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let digits = part.bytes().take_while(u8::is_ascii_digit).count();
        made.push_str(mark);
        if digits > 0 {
            made.push_str(word);
        }
        made.push_str(&part[digits..]);
    }
    made
}
