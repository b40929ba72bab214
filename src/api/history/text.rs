//! History records as human-readable text, in the layout of ligato vpp-agent.

use std::fmt::Write;

use models::key::Key;

use super::json::rfc3339;
use crate::scheduler::{
    Kind, Resync, Verb,
    history::record::{OperationRecord, Origin, TransactionRecord},
};

/// Function that formats a value on one line.
pub type Print<'a, V> = &'a dyn Fn(&Key, &V) -> String;

/// Formats a transaction. With `verbose`, includes the states before and after each operation.
pub fn transaction<V>(record: &TransactionRecord<V>, verbose: bool, print: Print<'_, V>) -> String {
    let mut page = Page::default();
    page.line(0, format_args!("Transaction #{}:", record.seq));
    page.line(1, format_args!("* transaction arguments:"));
    page.line(2, format_args!("- seqNum: {}", record.seq));
    page.line(2, format_args!("- type: {}", kind_text(record)));
    for (at, line) in record.options.description.lines().enumerate() {
        match at {
            0 => page.line(2, format_args!("- Description: {line}")),
            _ => page.line(3, format_args!("{line}")),
        }
    }
    if record.options.resync != Resync::Downstream {
        values(&mut page, record, print);
    }
    if let Some(planned) = &record.planned {
        page.line(1, format_args!("* planned operations:"));
        operations(&mut page, planned.iter(), verbose, print);
    }
    let (start, stop) = (rfc3339(record.start), rfc3339(record.stop));
    let duration = record.stop.saturating_sub(record.start);
    page.line(1, format_args!("* executed operations ({start} -> {stop}, dur: {duration:?}):"));
    operations(&mut page, record.executed(), verbose, print);
    if record.omitted > 0 {
        page.line(2, format_args!("operations not kept in the history: {}", record.omitted));
    }
    page.0
}

/// Formats a list of transactions.
pub fn transactions<'a, V: 'a>(records: impl IntoIterator<Item = &'a TransactionRecord<V>>, print: Print<'_, V>) -> String {
    let texts: Vec<String> = records.into_iter().map(|record| transaction(record, false, print)).collect();
    texts.join("\n")
}

#[derive(Default)]
struct Page(String);

impl Page {
    fn line(&mut self, indent: usize, text: std::fmt::Arguments<'_>) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.0, "{:width$}{text}", "", width = indent * 4);
    }
}

fn kind_text<V>(record: &TransactionRecord<V>) -> String {
    let kind = match record.kind {
        Kind::Notification => "SB Notification".to_owned(),
        Kind::Northbound => "NB Transaction".to_owned(),
        Kind::Retry { of, attempt } => format!("Retry Transaction (for txn #{of}, attempt #{attempt})"),
        Kind::Unimplemented => "RetryUnimplOps".to_owned(),
    };
    match record.options.resync {
        Resync::None => kind,
        Resync::Full => format!("{kind}, Full Resync"),
        Resync::Upstream => format!("{kind}, NB Sync"),
        Resync::Downstream => format!("{kind}, SB Sync"),
    }
}

fn values<V>(page: &mut Page, record: &TransactionRecord<V>, print: Print<'_, V>) {
    // In a resync, list only the requested values, not those read from the kernel.
    let requested = |origin: Origin| record.options.resync == Resync::None || origin != Origin::FromSB;
    if record.values.is_empty() {
        return page.line(2, format_args!("- values: NONE"));
    }
    page.line(2, format_args!("- values:"));
    for value in record.values.iter().filter(|value| requested(value.origin)) {
        page.line(3, format_args!("- key: {}", value.key));
        let text = value
            .value
            .as_ref()
            .map_or_else(|| "<NIL>".to_owned(), |content| print(&value.key, content));
        page.line(3, format_args!("  val: {text}"));
    }
}

fn operations<'a, V: 'a>(page: &mut Page, list: impl Iterator<Item = &'a OperationRecord<V>>, verbose: bool, print: Print<'_, V>) {
    let mut count = 0;
    for operation in list {
        count += 1;
        let flags = operation.flag_names();
        let flags = if flags.is_empty() {
            String::new()
        } else {
            format!(" [{}]", flags.join(" "))
        };
        page.line(2, format_args!("{count}. {}{flags}:", operation.verb));
        page.line(3, format_args!("- key: {}", operation.key));
        let show = |value: &Option<V>| {
            value
                .as_ref()
                .map_or_else(|| "<NIL>".to_owned(), |value| print(&operation.key, value))
        };
        match operation.verb {
            Verb::Update => {
                page.line(3, format_args!("- prev-value: {}", show(&operation.before.value)));
                page.line(3, format_args!("- new-value: {}", show(&operation.after.value)));
            }
            Verb::Delete => page.line(3, format_args!("- value: {}", show(&operation.before.value))),
            _ => page.line(3, format_args!("- value: {}", show(&operation.after.value))),
        }
        if let Some(error) = &operation.before.error {
            page.line(3, format_args!("- prev-error: {error}"));
        }
        if let Some(error) = &operation.after.error {
            page.line(3, format_args!("- error: {error}"));
        }
        if verbose {
            page.line(3, format_args!("- prev-state: {}", operation.before.state));
            page.line(3, format_args!("- new-state: {}", operation.after.state));
        }
    }
    if count == 0 {
        page.line(2, format_args!("<NONE>"));
    }
}
