//! Writes tables, documents and coloured text to standard output.
//!
//! Control characters in external text are escaped, because a terminal would interpret them.

use std::io::{self, IsTerminal, Write};

use clap::ValueEnum;
use serde::Serialize;

use super::failure::Failure;
use crate::telemetry::is_hidden;
pub use crate::telemetry::visible;

/// Output options.
#[derive(clap::Args, Clone, Debug)]
pub struct OutputArgs {
    /// Output format
    #[arg(short, long, global = true, value_enum, value_name = "FORMAT", default_value_t = Format::Table, help_heading = "Output")]
    output: Format,

    /// Omit table headings
    #[arg(long, global = true, help_heading = "Output")]
    no_headers: bool,

    /// Colour the output; auto: on a terminal, unless NO_COLOR is set
    #[arg(long, global = true, value_enum, value_name = "WHEN", default_value_t = Colors::Auto, help_heading = "Output")]
    color: Colors,
}

/// Output formats.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum Format {
    /// Table
    Table,
    /// Table with more columns
    Wide,
    /// JSON
    Json,
    /// YAML
    Yaml,
    /// Keys only, one per line
    Name,
}

#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
enum Colors {
    Auto,
    Always,
    Never,
}

/// Meaning of a text, which determines its colour.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tone {
    /// Text without a special meaning.
    Plain,
    /// Success.
    Good,
    /// State of a value that is waiting, or a warning.
    Waiting,
    /// Error.
    Bad,
    /// Less important text.
    Faint,
    /// Heading.
    Strong,
}

impl Tone {
    /// Returns the tone of a value's state.
    pub fn of_state(state: &str) -> Self {
        match state {
            "CONFIGURED" | "OBTAINED" | "OK" => Tone::Good,
            "PENDING" | "DISCOVERED" | "RETRYING" | "UNIMPLEMENTED" | "starting" => Tone::Waiting,
            "INVALID" | "FAILED" | "MISSING" | "ERROR" => Tone::Bad,
            _ => Tone::Plain,
        }
    }

    /// Returns the SGR parameter (ECMA-48) for the tone, or `None` for plain text.
    fn code(self) -> Option<u8> {
        match self {
            Tone::Plain => None,
            Tone::Good => Some(32),
            Tone::Waiting => Some(33),
            Tone::Bad => Some(31),
            Tone::Faint => Some(2),
            Tone::Strong => Some(1),
        }
    }
}

/// Cell of a table.
#[derive(Clone, Debug)]
pub struct Cell {
    text: String,
    tone: Tone,
}

impl Cell {
    /// Creates a cell with this text and tone.
    pub fn new(text: impl Into<String>, tone: Tone) -> Self {
        Cell { text: text.into(), tone }
    }

    /// Creates a cell with the state of a value, in the colour of this state.
    pub fn state(state: &str) -> Self {
        Cell::new(state, Tone::of_state(state))
    }
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Cell::new(text, Tone::Plain)
    }
}

/// Table with headings.
pub struct Table {
    headings: Vec<&'static str>,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    /// Creates a table without rows.
    pub fn new(headings: impl Into<Vec<&'static str>>) -> Self {
        Table {
            headings: headings.into(),
            rows: Vec::new(),
        }
    }

    /// Appends a row.
    pub fn row(&mut self, cells: impl Into<Vec<Cell>>) {
        self.rows.push(cells.into());
    }

    /// Returns whether the table has no rows.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}

/// Standard output, in the format that the user has chosen.
pub struct Output {
    pub format: Format,
    headings: bool,
    colors: bool,
    /// True if standard output is a terminal, which interprets control characters.
    terminal: bool,
}

impl Output {
    /// Creates the output. By default, colours depend on the terminal and on the variables `NO_COLOR` and `TERM`.
    pub fn new(args: &OutputArgs) -> Self {
        let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let is_dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let colors = match args.color {
            Colors::Always => true,
            Colors::Never => false,
            Colors::Auto => io::stdout().is_terminal() && !is_set("NO_COLOR") && !is_dumb,
        };
        Output {
            format: args.output,
            headings: !args.no_headers,
            colors,
            terminal: io::stdout().is_terminal(),
        }
    }

    /// Returns whether the format is JSON or YAML, which are meant for programs.
    pub fn is_document(&self) -> bool {
        matches!(self.format, Format::Json | Format::Yaml)
    }

    /// Returns whether the format is `wide`, which is a table with additional columns.
    pub fn is_wide(&self) -> bool {
        self.format == Format::Wide
    }

    /// Prints bytes from an external source. Control characters are escaped if the output is a terminal.
    pub fn raw(&self, bytes: &[u8]) -> Result<(), Failure> {
        match self.terminal {
            true => write(escaped_lines(&String::from_utf8_lossy(bytes)).as_bytes()),
            false => write(bytes),
        }
    }

    /// Prints text that may contain colours. Escape external text with [`visible`] first.
    pub fn text(&self, text: &str) -> Result<(), Failure> {
        write(text.as_bytes())
    }

    /// Prints a line that may contain colours. Escape external text with [`visible`] first.
    pub fn line(&self, text: &str) -> Result<(), Failure> {
        self.text(&format!("{text}\n"))
    }

    /// Prints a value as YAML if that is the output format, and as JSON otherwise.
    pub fn document<T: Serialize + ?Sized>(&self, value: &T) -> Result<(), Failure> {
        let wrong = |error: &dyn std::fmt::Display| Failure::new(format!("cannot write the output: {error}"));
        let text = match self.format {
            Format::Yaml => serde_saphyr::to_string(&value).map_err(|error| wrong(&error))?,
            _ => serde_json::to_string_pretty(value).map_err(|error| wrong(&error))?,
        };
        self.raw(format!("{}\n", text.trim_end()).as_bytes())
    }

    /// Prints a table.
    pub fn table(&self, table: &Table) -> Result<(), Failure> {
        self.text(&self.lay_out(table, ""))
    }

    /// Formats a table, with `indent` before each line.
    pub fn lay_out(&self, table: &Table, indent: &str) -> String {
        let headings: Vec<Cell> = table.headings.iter().map(|text| Cell::new(*text, Tone::Strong)).collect();
        let first = (self.headings && !table.headings.is_empty()).then_some(&headings);
        let lines: Vec<Vec<(String, Tone)>> = first
            .into_iter()
            .chain(&table.rows)
            .map(|row| row.iter().map(|cell| (visible(&cell.text), cell.tone)).collect())
            .collect();
        let columns = lines.iter().map(Vec::len).max().unwrap_or_default();
        let width_of = |column: usize| {
            let widths = lines.iter().filter_map(|line| line.get(column));
            widths.map(|(text, _)| text.chars().count()).max().unwrap_or_default()
        };
        let widths: Vec<usize> = (0..columns).map(width_of).collect();
        let mut laid_out = String::new();
        for line in &lines {
            let mut made = indent.to_owned();
            let last = line.iter().rposition(|(text, _)| !text.is_empty()).unwrap_or_default();
            for (column, (text, tone)) in line.iter().enumerate().take(last + 1) {
                made.push_str(&self.paint(text, *tone));
                if column < last {
                    made.push_str(&" ".repeat(widths[column] - text.chars().count() + 2));
                }
            }
            laid_out.push_str(made.trim_end());
            laid_out.push('\n');
        }
        laid_out
    }

    /// Returns the text in the colour of its tone, with control characters escaped.
    pub fn paint(&self, text: &str, tone: Tone) -> String {
        let text = visible(text);
        match tone.code().filter(|_| self.colors && !text.is_empty()) {
            Some(code) => format!("\x1b[{code}m{text}\x1b[0m"),
            None => text,
        }
    }
}

fn write(bytes: &[u8]) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(bytes)?;
    Ok(stdout.flush()?)
}

/// Escapes control characters as [`visible`] does, but keeps line breaks and tabs. The escapes are valid in JSON and in quoted YAML.
fn escaped_lines(text: &str) -> String {
    let escaped = |c: char| is_hidden(c) && !matches!(c, '\n' | '\t');
    let mut made = String::with_capacity(text.len());
    for c in text.chars() {
        match escaped(c) {
            true => made.push_str(&format!("\\u{:04x}", u32::from(c))),
            false => made.push(c),
        }
    }
    made
}

/// Returns the text with `indent` before each line and control characters escaped.
pub fn indented(text: &str, indent: &str) -> String {
    text.lines().map(|line| format!("{indent}{}\n", visible(line))).collect()
}

/// Wraps text at spaces into lines of at most `width` characters. Longer words are not broken.
pub fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_filled_up_to_the_width_without_breaking_words() {
        assert_eq!(wrap("one two three", 7), ["one two", "three"]);
        assert_eq!(wrap("incomprehensible a b", 3), ["incomprehensible", "a b"]);
        assert!(wrap("", 3).is_empty());
    }

    fn output(colors: bool) -> Output {
        Output {
            format: Format::Table,
            headings: true,
            colors,
            terminal: false,
        }
    }

    fn table() -> Table {
        let mut table = Table::new(["NAME", "STATE", "WHY"]);
        table.row(["left".into(), Cell::state("CONFIGURED"), "".into()]);
        table.row(["a-long-näme".into(), Cell::state("PENDING"), "waits\x1b[2J".into()]);
        table
    }

    #[test]
    fn columns_are_aligned_and_control_characters_are_escaped() {
        let text = output(false).lay_out(&table(), " ");
        let expected = " NAME         STATE       WHY\n left         CONFIGURED\n a-long-näme  PENDING     waits\\u{1b}[2J\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn control_characters_are_escaped_in_documents() {
        assert_eq!(
            escaped_lines("{\n\t\"a\": \"\u{9b}2J\u{202e}\u{7f}\"\n}"),
            "{\n\t\"a\": \"\\u009b2J\\u202e\\u007f\"\n}"
        );
    }

    #[test]
    fn colours_do_not_count_as_width() {
        let text = output(true).lay_out(&table(), "");
        assert!(text.contains("\x1b[32mCONFIGURED\x1b[0m\n"), "{text:?}");
        assert!(text.contains("a-long-näme  \x1b[33mPENDING\x1b[0m     waits"), "{text:?}");
    }
}
