//! Logging, log levels and metrics ([`metrics`]) of the agent.
//!
//! Log levels can be changed at run time with [`LogFilter::set`]. Each module of the agent has a logger, such as `engine` or `sources`, with a
//! name that does not include the crate. Every other tracing target is a logger with its full name, such as `hyper`. The level of `default`
//! applies to all loggers without a level of their own.

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

use tracing_subscriber::{
    filter::{LevelFilter, ParseError, Targets},
    fmt as fmt_layer,
    layer::SubscriberExt,
    reload,
    util::SubscriberInitExt,
};

pub use self::defects::defect;
pub use self::visible::{is_hidden, visible};

/// Name of the default logger. Its level applies to all loggers without a level of their own.
pub const DEFAULT_LOGGER: &str = "default";

/// Modules of the agent that are listed as loggers. Users can also set levels for other targets.
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

/// Accepted level names, each with the corresponding level in this agent. The names are those of ligato vpp-agent.
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

/// Log filter of this process, set by [`start_logging`].
static STARTED: OnceLock<LogFilter> = OnceLock::new();

/// Handle for reading and changing logger levels. Cheap to clone.
#[derive(Clone)]
pub struct LogFilter {
    inner: Arc<Inner>,
}

struct Inner {
    // A std mutex suffices, because it is locked only for map operations.
    levels: Mutex<Levels>,
    apply: Box<dyn Fn(Targets) -> Result<(), String> + Send + Sync>,
}

#[derive(Clone)]
struct Levels {
    /// Filter directives from the agent's settings.
    base: String,
    /// Levels that were set at run time, by logger.
    set: BTreeMap<String, &'static str>,
}

/// Error returned when a log level cannot be changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LogFilterError {
    /// The level is unknown.
    #[error("invalid log level: {0:?}; expected trace, debug, info, warn, error, fatal or panic")]
    Level(String),
    /// The logger name is empty, or contains a character that is not allowed in a filter.
    #[error("invalid logger name {0:?}: only letters, digits, `_`, `-` and `::` are allowed")]
    Logger(String),
    /// The tracing subscriber refused the filter.
    #[error("cannot change the log filter: {0}")]
    Subscriber(String),
}

/// Starts logging to standard error. Called once, by `main`. To change levels later, use the filter that [`log_filter`] returns.
pub fn start_logging(directives: &str) {
    let (filter, handle) = reload::Layer::new(targets(directives).unwrap_or_default());
    let lines = lines(std::io::stderr().is_terminal()).with_writer(std::io::stderr);
    let started = tracing_subscriber::registry().with(filter).with(lines).try_init().is_ok();
    if started {
        let apply = move |filter| handle.reload(filter).map_err(|error| error.to_string());
        // The process-wide subscriber can be set only once, so `STARTED` is still empty.
        let _ = STARTED.set(LogFilter::new(directives, apply));
    }
}

/// Returns the layer that writes log lines and escapes untrusted text in them.
fn lines<S>(colors: bool) -> fmt_layer::Layer<S, visible::VisibleFields>
where
    S: tracing::Subscriber + for<'a> tracing_subscriber::registry::LookupSpan<'a>,
{
    fmt_layer::layer().fmt_fields(visible::VisibleFields::default()).with_ansi(colors)
}

/// Returns the log filter of this process. Changing it has no effect if [`start_logging`] was not called.
pub fn log_filter() -> LogFilter {
    STARTED.get().cloned().unwrap_or_else(|| LogFilter::new("info", |_| Ok(())))
}

impl LogFilter {
    /// Creates a log filter from the initial directives. `apply` must install each new filter.
    pub fn new(directives: &str, apply: impl Fn(Targets) -> Result<(), String> + Send + Sync + 'static) -> Self {
        LogFilter {
            inner: Arc::new(Inner {
                levels: Mutex::new(Levels {
                    base: directives.to_owned(),
                    set: BTreeMap::new(),
                }),
                apply: Box::new(apply),
            }),
        }
    }

    /// Returns the level of each logger: the default logger, the modules in [`LOGGERS`], and all other loggers that have their
    /// own level.
    pub fn list(&self) -> BTreeMap<String, String> {
        let levels = self.inner.levels.lock().unwrap_or_else(PoisonError::into_inner);
        let mut list = BTreeMap::from([(DEFAULT_LOGGER.to_owned(), "error".to_owned())]);
        for directive in levels.base.split(',').map(str::trim).filter(|directive| !directive.is_empty()) {
            match directive.split_once('=') {
                Some((target, level)) => drop(list.insert(logger(target).to_owned(), level.to_ascii_lowercase())),
                None => drop(list.insert(DEFAULT_LOGGER.to_owned(), directive.to_ascii_lowercase())),
            }
        }
        for (logger, level) in &levels.set {
            list.insert(logger.clone(), (*level).to_owned());
        }
        let default = list.get(DEFAULT_LOGGER).cloned().unwrap_or_default();
        for part in LOGGERS {
            list.entry((*part).to_owned()).or_insert_with(|| default.clone());
        }
        list
    }

    /// Sets the level of a logger. The logger does not have to exist. Returns the level that takes effect, such as `error` for `fatal`.
    ///
    /// # Errors
    /// Fails if the level is unknown or the logger name is invalid.
    pub fn set(&self, logger: &str, level: &str) -> Result<&'static str, LogFilterError> {
        let requested = level.to_ascii_lowercase();
        let found = LEVELS.iter().find(|(name, _)| *name == requested);
        let (_, level) = found.ok_or_else(|| LogFilterError::Level(level.to_owned()))?;
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | ':');
        if logger.is_empty() || !logger.chars().all(allowed) {
            return Err(LogFilterError::Logger(logger.to_owned()));
        }
        self.change(|levels| {
            levels.set.insert(logger.to_owned(), level);
        })?;
        Ok(level)
    }

    /// Replaces the directives from the agent's settings. Levels that were set at run time no longer apply.
    ///
    /// # Errors
    /// Fails if the directives are invalid.
    pub fn replace(&self, directives: &str) -> Result<(), LogFilterError> {
        let base = directives.to_owned();
        self.change(|levels| {
            *levels = Levels {
                base,
                set: BTreeMap::new(),
            }
        })
    }

    fn change(&self, change: impl FnOnce(&mut Levels)) -> Result<(), LogFilterError> {
        let mut levels = self.inner.levels.lock().unwrap_or_else(PoisonError::into_inner);
        let mut changed = levels.clone();
        change(&mut changed);
        let filter = targets(&directives(&changed))?;
        (self.inner.apply)(filter).map_err(LogFilterError::Subscriber)?;
        *levels = changed;
        Ok(())
    }
}

impl fmt::Debug for LogFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LogFilter").field(&self.list()).finish()
    }
}

/// Returns the logger name for a tracing target. For modules of the agent, this is the target without the crate name.
fn logger(target: &str) -> &str {
    target.strip_prefix("netns_agent::").unwrap_or(target)
}

/// Parses a filter. Without a directive for all targets, it logs errors of all targets.
fn targets(directives: &str) -> Result<Targets, LogFilterError> {
    let parsed: Targets = directives
        .parse()
        .map_err(|error: ParseError| LogFilterError::Subscriber(error.to_string()))?;
    Ok(match parsed.default_level() {
        Some(_) => parsed,
        None => parsed.with_default(LevelFilter::ERROR),
    })
}

/// Returns the filter as text. If two directives have the same target, the later one applies.
fn directives(levels: &Levels) -> String {
    let mut text = levels.base.clone();
    for (logger, level) in &levels.set {
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
        let apply = move |filter: Targets| {
            *sink.lock().expect("not poisoned") = filter.to_string();
            Ok(())
        };
        (LogFilter::new(directives, apply), applied)
    }

    #[test]
    fn parts_are_listed_with_their_effective_level() {
        let (filter, _) = filter("warn,netns_agent::sources=debug,h2=info");
        let list = filter.list();
        assert_eq!(list["default"], "warn");
        assert_eq!(list["engine"], "warn");
        assert_eq!(list["sources"], "debug");
        assert_eq!(list["h2"], "info");
    }

    #[test]
    fn level_set_later_replaces_initial_level() {
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
    fn invalid_level_or_logger_changes_nothing() {
        let (filter, applied) = filter("info");
        assert_eq!(filter.set("engine", "loud"), Err(LogFilterError::Level("loud".to_owned())));
        for name in ["", "a=b", "a,b", "a[b]", "a b"] {
            assert_eq!(filter.set(name, "info"), Err(LogFilterError::Logger(name.to_owned())));
        }
        assert_eq!(*applied.lock().expect("not poisoned"), "");
    }
}
