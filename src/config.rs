//! Settings of `netns-agent run`: merges flags, environment and a YAML file into one validated [`Settings`].
//!
//! The sources, from highest to lowest precedence, are flags, environment, file and defaults. `src/config/layer.rs` lists all settings. The
//! environment is read only through a function argument, so tests do not have to change the environment of the process.

use std::{net::SocketAddr, path::PathBuf};

use clap::{Arg, ArgMatches, Args, Command, FromArgMatches, builder::Resettable};
use models::key::check_label;

pub use self::{
    api::HttpSettings,
    changes::Changes,
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
mod changes;
mod drift;
mod given;
mod history;
mod layer;
mod log;
mod store;
pub mod suggest;

/// Re-exported for the client commands that connect to the store directly and show the same advice.
pub use crate::store::connection_advice;

/// Command-line arguments of `netns-agent run`.
#[derive(Clone, Debug, Default)]
pub struct RunArgs(Layer);

impl Args for RunArgs {
    fn augment_args(command: Command) -> Command {
        Layer::augment_args(command).mut_args(shown_in_help_only)
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

/// Appends a flag's environment variable and default to the first paragraph of its help text, and removes both from the flag. If the default stayed
/// in the flag, clap would apply it even if the file contains a value.
fn shown_in_help_only(flag: Arg) -> Arg {
    let variable = flag.get_env().map(|name| format!(" [env: {}]", name.display()));
    let default = flag
        .get_default_values()
        .first()
        .map(|value| format!(" [default: {}]", value.display()));
    let short = flag.get_help().map(ToString::to_string).unwrap_or_default();
    let long = flag.get_long_help().map(ToString::to_string);
    let reported = format!("{short}{}{}", variable.unwrap_or_default(), default.unwrap_or_default());
    let flag = match long.as_ref().and_then(|long| long.strip_prefix(&short)) {
        Some(rest) => flag.long_help(format!("{reported}{rest}")),
        None => flag,
    };
    flag.help(reported).env(Resettable::Reset).default_value(Resettable::Reset)
}

/// Validated settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Label of this agent. Every key of the agent in the store contains the label.
    pub microservice_label: String,
    /// Connection settings of the etcd cluster that stores the desired values; `None` if the agent uses its embedded store.
    pub etcd: Option<StoreConfig>,
    /// Listen address of the embedded store.
    pub embedded_listen: SocketAddr,
    /// Size limit of the embedded store, in bytes.
    pub embedded_quota: usize,
    /// Directory for data that must survive a restart.
    pub data_dir: PathBuf,
    /// Action to take if the store may have lost its contents.
    pub on_store_loss: OnStoreLoss,
    /// Settings of the REST API. TLS, authentication and limits also apply to the gRPC API.
    pub http: HttpSettings,
    /// Listen address of the gRPC API. `None` if the API is off.
    pub grpc_listen: Option<SocketAddr>,
    /// Unix socket of the Docker daemon.
    pub docker_socket: PathBuf,
    /// YAML file with network configuration to apply in addition to the store.
    pub initial_config: Option<PathBuf>,
    /// Settings for detecting and handling drift.
    pub drift: DriftSettings,
    /// Limits of the transaction history.
    pub history: HistoryLimits,
    /// True if the agent keeps capabilities that it does not need.
    pub keep_privileges: bool,
    /// Validated log filter in the syntax of `tracing_subscriber::filter::Targets`.
    pub log: String,
}

impl Settings {
    /// Returns `/vnf-agent/<label>/`, the prefix of all keys that this agent reads and writes.
    pub fn prefix(&self) -> String {
        format!("/vnf-agent/{}/", self.microservice_label)
    }

    /// Returns true if one of the agent's servers listens on a privileged port (1 to 1023).
    pub fn has_low_port(&self) -> bool {
        let embedded = Some(self.embedded_listen).filter(|_| self.etcd.is_none());
        let addresses = [self.http.listen, self.grpc_listen, embedded];
        addresses.into_iter().flatten().any(|address| (1..1024).contains(&address.port()))
    }

    /// Returns the log filter. If the setting is only the level `debug` or `trace`, libraries that would log every frame stay at `info`.
    pub fn log_directives(&self) -> String {
        const QUIET: [&str; 8] = ["h2", "hyper", "hyper_util", "tower", "tonic", "rustls", "bollard", "rtnetlink"];
        let chatty = matches!(self.log.to_ascii_lowercase().as_str(), "debug" | "trace");
        let quiet = QUIET.iter().filter(|_| chatty).map(|library| format!(",{library}=info"));
        std::iter::once(self.log.clone()).chain(quiet).collect()
    }
}

/// An invalid setting, which is a usage error (exit code 2).
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The value of a setting is invalid.
    #[error("{origin}: {problem}; {accepted}")]
    Value {
        /// Source of the value, such as a flag or an environment variable.
        origin: Origin,
        /// Reason why the value is invalid.
        problem: String,
        /// Description of the accepted values.
        accepted: &'static str,
    },
    /// The `--config` file cannot be read or parsed.
    #[error("configuration file {path}: {words}")]
    File {
        /// Path of the configuration file.
        path: String,
        /// Error message from the operating system, or from the YAML parser with line and column.
        words: String,
    },
    /// Settings conflict with each other. Contains the error message.
    #[error("{0}")]
    Together(String),
}

impl RunArgs {
    /// Returns all environment variables that set a flag, each with the name of the flag.
    pub fn variables() -> Vec<(String, String)> {
        let list = Layer::augment_args(Command::default());
        let of_flags = list.get_arguments().filter_map(|flag| {
            let variable = flag.get_env()?.to_string_lossy().into_owned();
            Some((variable, flag.get_long()?.to_owned()))
        });
        std::iter::once((given::CONFIG_FILE.to_owned(), "config".to_owned()))
            .chain(of_flags)
            .collect()
    }

    /// Merges flags, environment, file and defaults, and validates the result.
    ///
    /// `environment` returns the value of an environment variable. Empty variables count as unset.
    ///
    /// # Errors
    /// Fails with the first invalid setting. The error names the flag, environment variable or file member, and the accepted values.
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
    let accepted = "expected 1 to 63 bytes without slashes, whitespace or control characters; . and .. are not allowed";
    match check_label(&given.value) {
        Ok(()) => Ok(given.value),
        Err(error) => Err(given.wrong(format!("{:?} {}", given.value, error.problem), accepted)),
    }
}

fn address(given: &Given) -> Result<SocketAddr, ConfigError> {
    let accepted = "expected an IP address and a port, such as 127.0.0.1:9191, 0.0.0.0:9191 or [::]:9191";
    let text = &given.value;
    text.trim()
        .parse()
        .map_err(|error| given.wrong(format!("{text:?}: {error}"), accepted))
}

/// Returns the paths of a certificate and its private key, or `None` if neither is given. `missing` contains the advice for a missing
/// certificate and for a missing key.
fn identity(cert: Option<Given>, key: Option<Given>, missing: [&'static str; 2]) -> Result<Option<(PathBuf, PathBuf)>, ConfigError> {
    match (cert, key) {
        (Some(cert), Some(key)) => Ok(Some((cert.path()?, key.path()?))),
        (Some(lonely), None) => Err(lonely.wrong("the private key of the certificate is missing", missing[1])),
        (None, Some(lonely)) => Err(lonely.wrong("the certificate for the private key is missing", missing[0])),
        (None, None) => Ok(None),
    }
}

fn docker_socket(given: &Given) -> Result<PathBuf, ConfigError> {
    let path = given.value.strip_prefix("unix://").unwrap_or(&given.value);
    if path.starts_with('/') {
        return Ok(path.into());
    }
    // TCP is refused, because the agent cannot open the namespaces of containers on another machine.
    let accepted = "expected a Unix socket, such as unix:///var/run/docker.sock, because the containers must run on this machine";
    Err(given.wrong(format!("{:?} is not an absolute path", given.value), accepted))
}

fn refuse_same_address(settings: &Settings, layers: &Layers<'_>) -> Result<(), ConfigError> {
    // The embedded store does not listen if etcd endpoints are set. Servers with port 0 get different ports from the kernel.
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
                    "{a_origin} and {b_origin} are both {a}; use different ports"
                )));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
