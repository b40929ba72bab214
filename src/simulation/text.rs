//! Text form of values, steps and scenarios: one line per item, with names instead of numbers.
//!
//! Parsing is the inverse of printing. `simulate --save` writes this form, and `tests/scenarios/` contains files in this form.

mod file;
mod step;
mod value;

use std::{
    collections::BTreeSet,
    fmt::{self, Display},
    sync::{Mutex, PoisonError},
    time::Duration,
};

/// Returns a static copy of the text. There are only a few names, and each is leaked only once.
fn intern(text: &str) -> &'static str {
    static KNOWN: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(found) = known.get(text) {
        return found;
    }
    let kept: &'static str = Box::leak(text.into());
    known.insert(kept);
    kept
}

/// Splits the text at the first separator, and trims both parts.
fn halves<'a>(text: &'a str, separator: &str) -> Result<(&'a str, &'a str), String> {
    let (before, after) = text.split_once(separator).ok_or_else(|| format!("no {separator:?} in {text:?}"))?;
    Ok((before.trim(), after.trim()))
}

fn number<T: std::str::FromStr>(text: &str) -> Result<T, String> {
    text.trim().parse().map_err(|_| format!("{text:?} is not a number"))
}

/// Duration, printed as `2s`, `15ms` or `200us`.
struct Time(Duration);

impl Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = self.0.as_micros();
        match micros {
            0 => write!(f, "0s"),
            _ if micros.is_multiple_of(1_000_000) => write!(f, "{}s", micros / 1_000_000),
            _ if micros.is_multiple_of(1_000) => write!(f, "{}ms", micros / 1_000),
            _ => write!(f, "{micros}us"),
        }
    }
}

impl Time {
    fn parse(text: &str) -> Result<Duration, String> {
        let text = text.trim();
        let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
        let count = number::<u64>(digits)?;
        match &text[digits.len()..] {
            "us" => Ok(Duration::from_micros(count)),
            "ms" => Ok(Duration::from_millis(count)),
            "s" => Ok(Duration::from_secs(count)),
            unit => Err(format!("{unit:?} is not a unit of time")),
        }
    }
}

/// Converts a Rust name to kebab case: `WatchAnswer` becomes `watch-answer`.
pub(super) fn kebab(name: &impl fmt::Debug) -> String {
    let mut text = String::new();
    for letter in format!("{name:?}").chars() {
        if letter.is_ascii_uppercase() && !text.is_empty() {
            text.push('-');
        }
        text.push(letter.to_ascii_lowercase());
    }
    text
}

/// Returns the list element whose name in [kebab] case is `name`.
fn named<T: fmt::Debug + Copy>(all: &[T], name: &str) -> Result<T, String> {
    let found = all.iter().find(|known| kebab(*known) == name);
    found.copied().ok_or_else(|| format!("unknown name {name:?}"))
}
