//! Escapes untrusted text in logs, messages and terminal output, so that it cannot forge a log line or control a terminal.

use std::fmt;

use tracing_subscriber::{
    field::RecordFields,
    fmt::{
        FormatFields,
        format::{DefaultFields, Writer},
    },
};

/// Initial capacity in bytes for a log line. Most lines are shorter.
const LINE_BYTES: usize = 256;

/// Returns true if a character controls a terminal, starts a new line, or changes the order of other characters (Unicode directional
/// formatting).
pub fn is_hidden(c: char) -> bool {
    c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Replaces all characters that would affect a terminal with escape sequences such as `\u{1b}`.
pub fn visible(text: &str) -> String {
    escaped(text).unwrap_or_else(|| text.to_owned())
}

/// Like [`visible`], but returns `None` if nothing needs escaping.
fn escaped(text: &str) -> Option<String> {
    // Fast path, because almost all text is printable ASCII.
    let is_printable = text.bytes().fold(true, |all, byte| all & matches!(byte, b' '..=b'~'));
    if is_printable || !text.chars().any(is_hidden) {
        return None;
    }
    let mut made = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match is_hidden(c) {
            true if c.is_control() => made.extend(c.escape_debug()),
            true => made.extend(c.escape_unicode()),
            false => made.push(c),
        }
    }
    Some(made)
}

/// Formats the fields of a log line, including the message, with all [hidden](is_hidden) characters escaped.
#[derive(Debug, Default)]
pub(super) struct VisibleFields(DefaultFields);

impl<'writer> FormatFields<'writer> for VisibleFields {
    fn format_fields<R: RecordFields>(&self, mut writer: Writer<'writer>, fields: R) -> fmt::Result {
        let mut text = String::with_capacity(LINE_BYTES);
        self.0.format_fields(Writer::new(&mut text), fields)?;
        writer.write_str(escaped(&text).as_ref().unwrap_or(&text))
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{self, Write},
        sync::{Arc, Mutex},
    };

    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    #[test]
    fn terminal_control_characters_are_escaped() {
        assert_eq!(
            visible("a\u{1b}[2J\nb\u{85}c\u{202e}d é\t"),
            "a\\u{1b}[2J\\nb\\u{85}c\\u{202e}d é\\t"
        );
    }

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("not poisoned").extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn log_fields_cannot_forge_a_line() {
        let lines = Lines::default();
        let sink = lines.clone();
        let layer = crate::telemetry::lines(false).with_writer(move || sink.clone());
        let subscriber = tracing_subscriber::registry().with(layer);
        let key = "config/x\n2026-01-01 ERROR forged \u{1b}[31m";
        tracing::subscriber::with_default(subscriber, || {
            tracing::warn!(%key, text = key, "{key}");
            tracing::warn!(other = ?key, path = %key, "constant");
        });
        let written = String::from_utf8(lines.0.lock().expect("not poisoned").clone()).expect("UTF-8");
        assert_eq!(written.lines().count(), 2, "{written}");
        assert!(!written.contains('\u{1b}'), "{written:?}");
        assert_eq!(written.matches("config/x\\n2026").count(), 5, "{written}");
    }
}
