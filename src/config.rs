//! Settings of `netns-agent run`: from flags, environment and a YAML file to one checked [`Settings`].
//!
//! Owns names, defaults and checks of the settings: each stands once in the list of `src/config/layer.rs`, and is checked where the
//! part that it is for has its file. A flag beats the environment, which beats the file, which beats the default. Must never start
//! anything, and never read the environment but through the function it is given, so that tests need not change that of the process.
//! Start reading at [`RunArgs::load`].

use std::{net::SocketAddr, path::PathBuf};

use clap::{Arg, ArgMatches, Args, Command, FromArgMatches, builder::Resettable};

pub use self::{
    api::HttpSettings,
    drift::{DriftPolicy, DriftSettings, ForeignAddresses},
    given::Origin,
    history::HistoryLimits,
    store::OnStoreLoss,
};
use self::{
    given::{Environment, Given, Layers, setting},
    layer::Layer,
};
use crate::store::StoreConfig;

mod api;
mod drift;
mod given;
mod history;
mod layer;
mod log;
mod store;
pub mod suggest;

/// Longest microservice label in bytes: that of a DNS label (RFC 1035 §2.3.4), since names of services are its usual source.
const LABEL_BYTES_MAX: usize = 63;

/// What the user typed after `netns-agent run`.
#[derive(Clone, Debug, Default)]
pub struct RunArgs(Layer);

impl Args for RunArgs {
    fn augment_args(command: Command) -> Command {
        Layer::augment_args(command).mut_args(told_by_help_alone)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for RunArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        Layer::from_arg_matches(matches).map(RunArgs)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        self.0.update_from_arg_matches(matches)
    }
}

/// Writes environment variable and default of a flag behind the first paragraph of its help, and has clap forget them: it would prefer
/// the default to the file.
fn told_by_help_alone(flag: Arg) -> Arg {
    let variable = flag.get_env().map(|name| format!(" [env: {}]", name.display()));
    let default = flag
        .get_default_values()
        .first()
        .map(|value| format!(" [default: {}]", value.display()));
    let short = flag.get_help().map(ToString::to_string).unwrap_or_default();
    let long = flag.get_long_help().map(ToString::to_string);
    let told = format!("{short}{}{}", variable.unwrap_or_default(), default.unwrap_or_default());
    let flag = match long.as_ref().and_then(|long| long.strip_prefix(&short)) {
        Some(rest) => flag.long_help(format!("{told}{rest}")),
        None => flag,
    };
    flag.help(told).env(Resettable::Reset).default_value(Resettable::Reset)
}

/// The checked settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Name of this agent in the store.
    pub microservice_label: String,
    /// The store to follow; `None`: the embedded one.
    pub etcd: Option<StoreConfig>,
    /// Where the embedded store listens.
    pub embedded_listen: SocketAddr,
    /// Most bytes that the embedded store keeps.
    pub embedded_quota: usize,
    /// Directory for persistent data.
    pub data_dir: PathBuf,
    /// What to do if the store has lost its content.
    pub on_store_loss: OnStoreLoss,
    /// Where REST is served, and to whom.
    pub http: HttpSettings,
    /// Where gRPC is served.
    pub grpc_listen: Option<SocketAddr>,
    /// Unix socket of the Docker daemon.
    pub docker_socket: PathBuf,
    /// Network configuration to apply at the start.
    pub initial_config: Option<PathBuf>,
    /// What is done about what others change.
    pub drift: DriftSettings,
    /// How much of the history of transactions is kept.
    pub history: HistoryLimits,
    /// Capabilities that are not needed are kept.
    pub keep_privileges: bool,
    /// Filter in the syntax of `tracing_subscriber::EnvFilter`; it has been parsed once.
    pub log: String,
}

impl Settings {
    /// `/vnf-agent/<label>/`: everything this agent reads and writes is below it.
    pub fn prefix(&self) -> String {
        format!("/vnf-agent/{}/", self.microservice_label)
    }

    /// Whether something listens on a port that only the privileged may use.
    pub fn has_low_port(&self) -> bool {
        let embedded = Some(self.embedded_listen).filter(|_| self.etcd.is_none());
        let addresses = [self.http.listen, self.grpc_listen, embedded];
        addresses.into_iter().flatten().any(|address| (1..1024).contains(&address.port()))
    }

    /// The filter for the log. Where the user named nothing but a level, the libraries below stay at `info`: at `debug` each of
    /// their frames would be a line.
    pub fn log_directives(&self) -> String {
        const QUIET: [&str; 8] = ["h2", "hyper", "hyper_util", "tower", "tonic", "rustls", "bollard", "rtnetlink"];
        let chatty = matches!(self.log.to_ascii_lowercase().as_str(), "debug" | "trace");
        let quiet = QUIET.iter().filter(|_| chatty).map(|library| format!(",{library}=info"));
        std::iter::once(self.log.clone()).chain(quiet).collect()
    }
}

/// A setting that cannot be used; a usage error (exit code 2).
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A value that is not accepted.
    #[error("{origin}: {problem}; {accepted}")]
    Value {
        /// Where it was given.
        origin: Origin,
        /// What is wrong with it.
        problem: String,
        /// What would be right.
        accepted: &'static str,
    },
    /// The file of `--config` cannot be read or understood.
    #[error("configuration file {path}: {words}")]
    File {
        /// The file.
        path: String,
        /// The words of the system or of the YAML parser, with line and column.
        words: String,
    },
    /// Settings that do not fit together.
    #[error("{0}")]
    Together(String),
}

impl RunArgs {
    /// Reads the file, fills in environment and defaults, and checks everything. `environment` is `|name| std::env::var_os(name)`
    /// in the program. An empty environment variable counts as absent.
    ///
    /// # Errors
    /// The first setting that cannot be used; it names the flag, variable or member and what is accepted.
    pub fn load(self, environment: Environment<'_>) -> Result<Settings, ConfigError> {
        let layers = Layers::new(self.0, environment)?;
        let etcd = store::check(&layers)?;
        let embedded = layers.given(setting!(embedded_listen))?;
        let embedded_listen = address(&embedded)?;
        let (http, grpc_listen) = api::check(&layers, etcd.is_none().then_some((&embedded, embedded_listen)))?;
        let initial_config = layers.optional(setting!(initial_config))?;
        let settings = Settings {
            microservice_label: label(layers.given(setting!(microservice_label))?)?,
            etcd,
            embedded_listen,
            embedded_quota: api::positive(&layers.given(setting!(embedded_quota))?)?,
            data_dir: layers.given(setting!(data_dir))?.path()?,
            on_store_loss: store::on_loss(&layers)?,
            http,
            grpc_listen,
            docker_socket: docker_socket(&layers.given(setting!(docker_host))?)?,
            initial_config: initial_config.map(Given::path).transpose()?,
            drift: drift::check(&layers)?,
            history: history::check(&layers)?,
            keep_privileges: layers.is_on(setting!(keep_privileges))?,
            log: log::filter(layers.given(setting!(log))?)?,
        };
        refuse_same_address(&settings, &layers)?;
        Ok(settings)
    }
}

fn label(given: Given) -> Result<String, ConfigError> {
    let accepted = "a label has 1 to 63 bytes, and no slash, white space or control character";
    let problem = if given.value.is_empty() {
        "it is empty".to_owned()
    } else if given.value.len() > LABEL_BYTES_MAX {
        format!("{:?} has {} bytes", given.value, given.value.len())
    } else if let Some(wrong) = given.value.chars().find(|&c| c == '/' || c.is_whitespace() || c.is_control()) {
        format!("{:?} contains {wrong:?}", given.value)
    } else {
        return Ok(given.value);
    };
    Err(given.wrong(problem, accepted))
}

fn address(given: &Given) -> Result<SocketAddr, ConfigError> {
    let accepted = "an IP address and a port are expected, as 127.0.0.1:9191, 0.0.0.0:9191 or [::]:9191";
    let text = &given.value;
    text.trim()
        .parse()
        .map_err(|error| given.wrong(format!("{text:?}: {error}"), accepted))
}

/// A certificate and its private key, which need each other; `missing` says how to give the one and the other.
fn identity(cert: Option<Given>, key: Option<Given>, missing: [&'static str; 2]) -> Result<Option<(PathBuf, PathBuf)>, ConfigError> {
    match (cert, key) {
        (Some(cert), Some(key)) => Ok(Some((cert.path()?, key.path()?))),
        (Some(lonely), None) => Err(lonely.wrong("it needs the private key of the certificate", missing[1])),
        (None, Some(lonely)) => Err(lonely.wrong("it needs the certificate of the key", missing[0])),
        (None, None) => Ok(None),
    }
}

fn docker_socket(given: &Given) -> Result<PathBuf, ConfigError> {
    let path = given.value.strip_prefix("unix://").unwrap_or(&given.value);
    if path.starts_with('/') {
        return Ok(path.into());
    }
    // A Docker daemon on another machine has containers whose namespaces are not here.
    let accepted = "only a Unix socket is accepted, as unix:///var/run/docker.sock, because containers must run on this machine";
    Err(given.wrong(format!("{:?} is not an absolute path", given.value), accepted))
}

fn refuse_same_address(settings: &Settings, layers: &Layers<'_>) -> Result<(), ConfigError> {
    // The embedded store only listens when no other one is named; port 0 asks the kernel for a free port.
    let embedded = Some(settings.embedded_listen).filter(|_| settings.etcd.is_none());
    let addresses = [settings.http.listen, settings.grpc_listen, embedded];
    let names = [setting!(http_listen), setting!(grpc_listen), setting!(embedded_listen)];
    for first in 0..addresses.len() {
        for second in first + 1..addresses.len() {
            if let (Some(a), Some(b)) = (addresses[first], addresses[second])
                && a == b
                && a.port() != 0
            {
                let (a_origin, b_origin) = (layers.given(names[first])?.origin, layers.given(names[second])?.origin);
                return Err(ConfigError::Together(format!(
                    "{a_origin} and {b_origin} are both {a}; give each its own port"
                )));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
