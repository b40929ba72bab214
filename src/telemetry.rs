//! What the agent tells about itself while it runs: the log and its filter, and numbers ([`metrics`]).
//!
//! Owns the subscriber of the process and the levels of its loggers, which can be changed at run time. Must never know what is
//! logged. Start reading at [`start_logging`]; [`LogFilter::set`] changes a level.
//!
//! A logger is a module of the agent, under its name below the crate (`engine`, `sources`, `kernel`), or any target under its full
//! name (`hyper`). `default` is everything that has no level of its own.

pub mod calls;
mod defects;
pub mod metrics;
mod visible;

use std::{
    collections::BTreeMap,
    fmt,
    io::IsTerminal,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use tracing_subscriber::{EnvFilter, fmt as fmt_layer, layer::SubscriberExt, reload, util::SubscriberInitExt};

pub use self::defects::defect;
pub use self::visible::{is_hidden, visible};

/// Name of the logger for all that has no level of its own.
pub const DEFAULT_LOGGER: &str = "default";

/// The parts of the agent that can be given a level of their own, besides whatever else a user names.
pub const LOGGERS: &[&str] = &[
    "agent",
    "api",
    "descriptors",
    "embedded",
    "engine",
    "kernel",
    "publish",
    "scheduler",
    "signals",
    "sources",
    "store",
];

/// Names of levels that are accepted, as in the reference, and the level that each means here.
const LEVELS: &[(&str, &str)] = &[
    ("trace", "trace"),
    ("debug", "debug"),
    ("info", "info"),
    ("warn", "warn"),
    ("warning", "warn"),
    ("error", "error"),
    ("fatal", "error"),
    ("panic", "error"),
];

/// The logging of this process, once it was started.
static STARTED: OnceLock<LogFilter> = OnceLock::new();

/// The levels of the loggers; cheap to clone.
#[derive(Clone)]
pub struct LogFilter {
    inner: Arc<Inner>,
}

struct Inner {
    /// The directives that the agent was started with.
    base: String,
    // A std mutex: held for map operations only.
    levels: Mutex<BTreeMap<String, &'static str>>,
    apply: Box<dyn Fn(EnvFilter) -> Result<(), String> + Send + Sync>,
}

/// A level or a logger that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LogFilterError {
    /// As in the reference.
    #[error("invalid log level: {0:?}; one of trace, debug, info, warn, error, fatal and panic is expected")]
    Level(String),
    /// The name cannot be part of a filter.
    #[error("invalid logger name {0:?}: letters, digits, `_`, `-` and `::` are expected")]
    Logger(String),
    /// The subscriber does not take it.
    #[error("the filter of the log cannot be changed: {0}")]
    Subscriber(String),
}

/// Logs to standard error from now on, and lets [`log_filter`] change what. Called once, by `main`.
pub fn start_logging(directives: &str) {
    let (filter, handle) = reload::Layer::new(EnvFilter::new(directives));
    let lines = lines(std::io::stderr().is_terminal()).with_writer(std::io::stderr);
    let started = tracing_subscriber::registry().with(filter).with(lines).try_init().is_ok();
    if started {
        let apply = move |filter| handle.reload(filter).map_err(|error| error.to_string());
        // The subscriber of a process is set once, so this is the first time, too.
        let _ = STARTED.set(LogFilter::new(directives, apply));
    }
}

/// Returns the layer that writes lines, in which text of others is escaped.
fn lines<S>(colors: bool) -> fmt_layer::Layer<S, visible::VisibleFields>
where
    S: tracing::Subscriber + for<'a> tracing_subscriber::registry::LookupSpan<'a>,
{
    fmt_layer::layer().fmt_fields(visible::VisibleFields::default()).with_ansi(colors)
}

/// The filter of the log of this process. Of a process that never called [`start_logging`] it has no effect.
pub fn log_filter() -> LogFilter {
    STARTED.get().cloned().unwrap_or_else(|| LogFilter::new("info", |_| Ok(())))
}

impl LogFilter {
    /// A filter that begins with these directives; `apply` makes the process use another one.
    pub fn new(directives: &str, apply: impl Fn(EnvFilter) -> Result<(), String> + Send + Sync + 'static) -> Self {
        LogFilter {
            inner: Arc::new(Inner {
                base: directives.to_owned(),
                levels: Mutex::new(BTreeMap::new()),
                apply: Box::new(apply),
            }),
        }
    }

    /// All loggers with their levels: the default, the parts of the agent, and what was given a level of its own.
    pub fn list(&self) -> BTreeMap<String, String> {
        let levels = self.inner.levels.lock().unwrap_or_else(PoisonError::into_inner);
        let mut list = BTreeMap::from([(DEFAULT_LOGGER.to_owned(), "error".to_owned())]);
        for directive in self.inner.base.split(',').map(str::trim).filter(|directive| !directive.is_empty()) {
            match directive.split_once('=') {
                Some((target, level)) => drop(list.insert(logger(target).to_owned(), level.to_ascii_lowercase())),
                None => drop(list.insert(DEFAULT_LOGGER.to_owned(), directive.to_ascii_lowercase())),
            }
        }
        for (logger, level) in levels.iter() {
            list.insert(logger.clone(), (*level).to_owned());
        }
        let default = list.get(DEFAULT_LOGGER).cloned().unwrap_or_default();
        for part in LOGGERS {
            list.entry((*part).to_owned()).or_insert_with(|| default.clone());
        }
        list
    }

    /// Gives a logger a level, and returns the name of the level. Loggers that do not exist are accepted.
    ///
    /// # Errors
    /// There is no such level, or the name cannot be that of a logger.
    pub fn set(&self, logger: &str, level: &str) -> Result<&'static str, LogFilterError> {
        let asked = level.to_ascii_lowercase();
        let found = LEVELS.iter().find(|(name, _)| *name == asked);
        let (_, level) = found.ok_or_else(|| LogFilterError::Level(level.to_owned()))?;
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | ':');
        if logger.is_empty() || !logger.chars().all(allowed) {
            return Err(LogFilterError::Logger(logger.to_owned()));
        }
        let mut levels = self.inner.levels.lock().unwrap_or_else(PoisonError::into_inner);
        let mut changed = levels.clone();
        changed.insert(logger.to_owned(), level);
        let filter =
            EnvFilter::try_new(directives(&self.inner.base, &changed)).map_err(|error| LogFilterError::Subscriber(error.to_string()))?;
        (self.inner.apply)(filter).map_err(LogFilterError::Subscriber)?;
        *levels = changed;
        Ok(level)
    }
}

impl fmt::Debug for LogFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LogFilter").field(&self.list()).finish()
    }
}

/// The name of the logger with this target.
fn logger(target: &str) -> &str {
    target.strip_prefix("netns_agent::").unwrap_or(target)
}

/// The text of a filter: of two directives for the same target, the later one counts.
fn directives(base: &str, levels: &BTreeMap<String, &'static str>) -> String {
    let mut text = base.to_owned();
    for (logger, level) in levels {
        let directive = match logger.as_str() {
            DEFAULT_LOGGER => (*level).to_owned(),
            part if LOGGERS.contains(&part) => format!("netns_agent::{part}={level}"),
            target => format!("{target}={level}"),
        };
        text.push(',');
        text.push_str(&directive);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(directives: &str) -> (LogFilter, Arc<Mutex<String>>) {
        let applied = Arc::new(Mutex::new(String::new()));
        let sink = applied.clone();
        let apply = move |filter: EnvFilter| {
            *sink.lock().expect("not poisoned") = filter.to_string();
            Ok(())
        };
        (LogFilter::new(directives, apply), applied)
    }

    #[test]
    fn each_part_is_listed_with_the_level_that_holds_for_it() {
        let (filter, _) = filter("warn,netns_agent::sources=debug,h2=info");
        let list = filter.list();
        assert_eq!(list["default"], "warn");
        assert_eq!(list["engine"], "warn");
        assert_eq!(list["sources"], "debug");
        assert_eq!(list["h2"], "info");
    }

    #[test]
    fn a_level_set_later_replaces_the_one_given_at_the_start() {
        let (filter, applied) = filter("info,netns_agent::engine=debug");
        assert_eq!(filter.set("engine", "WARNING"), Ok("warn"));
        assert_eq!(filter.set("default", "error"), Ok("error"));
        assert_eq!(filter.set("not-there", "panic"), Ok("error"));
        let list = filter.list();
        assert_eq!(
            (
                list["default"].as_str(),
                list["engine"].as_str(),
                list["kernel"].as_str(),
                list["not-there"].as_str()
            ),
            ("error", "warn", "error", "error")
        );
        let text = applied.lock().expect("not poisoned").clone();
        assert!(
            text.contains("netns_agent::engine=warn") && !text.contains("engine=debug"),
            "{text}"
        );
    }

    #[test]
    fn what_cannot_be_a_level_or_a_logger_changes_nothing() {
        let (filter, applied) = filter("info");
        assert_eq!(filter.set("engine", "loud"), Err(LogFilterError::Level("loud".to_owned())));
        for name in ["", "a=b", "a,b", "a[b]", "a b"] {
            assert_eq!(filter.set(name, "info"), Err(LogFilterError::Logger(name.to_owned())));
        }
        assert_eq!(*applied.lock().expect("not poisoned"), "");
    }
}
