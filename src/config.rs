//! Settings of `netns-agent run`: from flags, environment and a YAML file to one checked [`Settings`].
//!
//! Owns names, defaults and checks of the settings. A flag beats the environment, which beats the file, which beats the
//! default. Must never start anything, and never read the environment but through the function it is given, so that tests
//! need not change that of the process. Start reading at [`RunArgs::load`].

use std::{
    ffi::OsString,
    fmt,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use serde::Deserialize;

use self::{api::HttpArgs, drift::DriftArgs, history::HistoryArgs, store::StoreArgs};
pub use self::{
    api::HttpSettings,
    drift::{DriftPolicy, DriftSettings, ForeignAddresses},
    history::HistoryLimits,
    store::OnStoreLoss,
};
use crate::store::StoreConfig;

mod api;
mod drift;
mod history;
mod log;
mod store;
pub mod suggest;

/// Longest microservice label in bytes: that of a DNS label (RFC 1035 §2.3.4), since names of services are its usual source.
const LABEL_BYTES_MAX: usize = 63;

/// What the user typed after `netns-agent run`. Defaults are not filled in here, so that the file can come between.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct RunArgs {
    /// YAML file with settings: members are the flags below without dashes, as in `http_listen: 127.0.0.1:9191`
    ///
    /// A flag beats the environment, the environment beats the file. An unknown member is an error. Relative paths are relative
    /// to the working directory. [env: CONFIG_FILE]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Name of this agent: it follows the keys below /vnf-agent/LABEL/config/ [env: MICROSERVICE_LABEL] [default: vpp1]
    ///
    /// At most 63 bytes, without slash and white space.
    #[arg(long, value_name = "LABEL")]
    pub microservice_label: Option<String>,

    /// etcd servers to follow, separated by commas, as in http://10.0.0.1:2379 [env: ETCD_ENDPOINTS]
    ///
    /// Without this, the agent starts a small store of its own (see --embedded-listen), which etcdctl can talk to.
    #[arg(long, value_name = "URLS", help_heading = "Store")]
    pub etcd_endpoints: Option<String>,

    /// Certificates of the authority that signed etcd's certificate (PEM), needed for https [env: ETCD_CA]
    #[arg(long, value_name = "FILE", help_heading = "Store")]
    pub etcd_ca: Option<PathBuf>,

    /// Certificate to show to etcd (PEM); together with --etcd-key [env: ETCD_CERT]
    #[arg(long, value_name = "FILE", help_heading = "Store")]
    pub etcd_cert: Option<PathBuf>,

    /// Private key of --etcd-cert (PEM) [env: ETCD_KEY]
    #[arg(long, value_name = "FILE", help_heading = "Store")]
    pub etcd_key: Option<PathBuf>,

    /// User to sign in to etcd as; needs a password [env: ETCD_USER]
    #[arg(long, value_name = "NAME", help_heading = "Store")]
    pub etcd_user: Option<String>,

    /// File whose first line is the password of --etcd-user [env: ETCD_PASSWORD_FILE]
    ///
    /// The password itself can be given in the environment as ETCD_PASSWORD. There is no flag for it, because other users of
    /// the machine can read the command line of a process.
    #[arg(long, value_name = "FILE", help_heading = "Store")]
    pub etcd_password_file: Option<PathBuf>,

    /// Address of the agent's own store, used when no --etcd-endpoints are given [env: EMBEDDED_LISTEN] [default: 127.0.0.1:2379]
    ///
    /// This store has neither TLS nor credentials: an address that other machines can reach needs --insecure-listen.
    #[arg(long, value_name = "IP:PORT", help_heading = "Store")]
    pub embedded_listen: Option<String>,

    /// Most bytes of keys, values and history in the agent's own store; more raises etcd's alarm NOSPACE
    /// [env: EMBEDDED_QUOTA] [default: 268435456]
    ///
    /// Then puts are refused until keys are deleted, `etcdctl compaction` was run and the alarm is disarmed with
    /// `etcdctl alarm disarm`.
    #[arg(long, value_name = "BYTES", help_heading = "Store")]
    pub embedded_quota: Option<String>,

    /// Directory for what must survive a restart, such as the agent's own store [env: DATA_DIR] [default: /var/lib/netns-agent]
    #[arg(long, value_name = "DIR", help_heading = "Store")]
    pub data_dir: Option<PathBuf>,

    /// What to do if the store has lost its content: hold or apply [env: ON_STORE_LOSS] [default: hold]
    ///
    /// A store that was emptied, or is another one, lacks keys that nobody deleted. With hold, what they ask for stays and readiness
    /// fails, until the keys are put again or `netns-agent removals accept` is run. With apply, it is deleted at once.
    #[arg(long, value_name = "POLICY", help_heading = "Store")]
    pub on_store_loss: Option<String>,

    /// YAML file with network configuration to apply beside the store [env: INITIAL_CONFIG]
    ///
    /// It is followed: what is written to it is applied. Where the store has a value under the same key, that one applies.
    #[arg(long, value_name = "FILE")]
    pub initial_config: Option<PathBuf>,

    /// Address of the REST API, or off [env: HTTP_LISTEN] [default: 127.0.0.1:9191]
    ///
    /// An address that other machines can reach needs --http-cert, --http-key and --tokens-file or --http-client-ca.
    #[arg(long, value_name = "IP:PORT", help_heading = "REST")]
    pub http_listen: Option<String>,

    /// Certificate of the REST API (PEM, with those that lead to its authority); together with --http-key [env: HTTP_CERT]
    #[arg(long, value_name = "FILE", help_heading = "REST")]
    pub http_cert: Option<PathBuf>,

    /// Private key of --http-cert (PEM) [env: HTTP_KEY]
    #[arg(long, value_name = "FILE", help_heading = "REST")]
    pub http_key: Option<PathBuf>,

    /// Authorities of client certificates (PEM): then every client needs one [env: HTTP_CLIENT_CA]
    #[arg(long, value_name = "FILE", help_heading = "REST")]
    pub http_client_ca: Option<PathBuf>,

    /// Who may use the REST API: a line `NAME read|write TOKEN [EXPIRY]` each [env: TOKENS_FILE]
    ///
    /// A token is sent as `Authorization: Bearer TOKEN`. In the file it is the token itself, or `sha256:` and the hash of it in
    /// hexadecimal digits. EXPIRY is a time as 2030-01-31T00:00:00Z. A changed file counts at once.
    #[arg(long, value_name = "FILE", help_heading = "REST")]
    pub tokens_file: Option<PathBuf>,

    /// Most requests per second from one address to both APIs, 0 for no limit [env: HTTP_RATE_LIMIT] [default: 0]
    #[arg(long, value_name = "NUMBER", help_heading = "REST")]
    pub http_rate_limit: Option<String>,

    /// Longest body of a request and longest gRPC message, in bytes [env: HTTP_BODY_MAX] [default: 4194304]
    #[arg(long, value_name = "BYTES", help_heading = "REST")]
    pub http_body_max: Option<String>,

    /// Most connections of each API at a time; gRPC takes four times as many calls [env: HTTP_CONNECTIONS_MAX] [default: 256]
    #[arg(long, value_name = "NUMBER", help_heading = "REST")]
    pub http_connections_max: Option<String>,

    /// How long a client may take for the TLS handshake and the headers of a request [env: HTTP_TIME_LIMIT] [default: 10]
    ///
    /// In seconds, of both APIs. It may take three times as long for a body and to read a piece of an answer, and six times as long
    /// between two gRPC calls.
    #[arg(long, value_name = "SECONDS", help_heading = "REST")]
    pub http_time_limit: Option<String>,

    /// Listen where other machines can connect although neither TLS nor credentials protect it [env: INSECURE_LISTEN]
    #[arg(long, help_heading = "REST")]
    pub insecure_listen: bool,

    /// Address of the gRPC API, or off; protected like the REST API [env: GRPC_LISTEN] [default: 127.0.0.1:9111]
    #[arg(long, value_name = "IP:PORT")]
    pub grpc_listen: Option<String>,

    /// Socket of the Docker daemon, to find containers by label [env: DOCKER_HOST] [default: unix:///var/run/docker.sock]
    ///
    /// It need not exist: what refers to containers waits until it does, all else works.
    #[arg(long, value_name = "URL")]
    pub docker_host: Option<String>,

    /// How many network namespaces are watched by events [env: WATCHED_MAX] [default: 300]
    ///
    /// The others are read every --sweep-interval. Each watched one costs every program on the machine that configures networking a
    /// little (38 microseconds an operation with 1000).
    #[arg(long, value_name = "NUMBER", help_heading = "Drift")]
    pub watched_max: Option<String>,

    /// How often a namespace that is not watched is read, in seconds [env: SWEEP_INTERVAL] [default: 10]
    #[arg(long, value_name = "SECONDS", help_heading = "Drift")]
    pub sweep_interval: Option<String>,

    /// What is done when somebody else changes or removes what was configured: repair or report [env: DRIFT_POLICY] [default: repair]
    ///
    /// A value can say otherwise for itself (`drift_policy`). With report, the status is FAILED with reason Drifted, and nothing is
    /// done until the value is put again.
    #[arg(long, value_name = "POLICY", help_heading = "Drift")]
    pub drift_policy: Option<String>,

    /// What is done about addresses that nobody asked for: keep or strict [env: FOREIGN_ADDRESSES] [default: keep]
    ///
    /// With strict they are removed at the start and at a resync: from interfaces that the agent made itself and from EXISTING
    /// interfaces, except where a value on the link has link_only.
    #[arg(long, value_name = "POLICY", help_heading = "Drift")]
    pub foreign_addresses: Option<String>,

    /// How long transactions are remembered, in minutes [env: HISTORY_AGE] [default: 1440]
    #[arg(long, value_name = "MINUTES", help_heading = "History")]
    pub history_age: Option<String>,

    /// How many transactions are remembered at most; 0 remembers none [env: HISTORY_MAX] [default: 10000]
    ///
    /// They are in memory, with up to four times as many operations in all.
    #[arg(long, value_name = "NUMBER", help_heading = "History")]
    pub history_max: Option<String>,

    /// Keep capabilities that configuring networks does not take [env: KEEP_PRIVILEGES]
    ///
    /// The agent gives them up when it starts. A root without them is not above the permissions of files: a socket of Docker or a data
    /// directory that belongs to somebody else may need this.
    #[arg(long)]
    pub keep_privileges: bool,

    /// What is logged: error, warn, info, debug, trace, or per module as in info,netns_agent::sources=debug [env: RUST_LOG] [default: info]
    #[arg(long, value_name = "FILTER")]
    pub log: Option<String>,
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

/// Where a value was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// On the command line.
    Flag(&'static str),
    /// In the environment.
    Environment(&'static str),
    /// In the configuration file, under this member.
    File(&'static str),
    /// Nowhere.
    Default(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(name) => write!(f, "--{name}"),
            Self::Environment(name) => write!(f, "environment variable {name}"),
            Self::File(member) => write!(f, "member {member} of the configuration file"),
            Self::Default(name) => write!(f, "default of --{name}"),
        }
    }
}

/// A setting's three names.
#[derive(Clone, Copy)]
struct Name {
    flag: &'static str,
    environment: &'static str,
    member: &'static str,
}

macro_rules! names {
    ($($constant:ident = $flag:literal, $environment:literal, $member:literal;)*) => {
        $(const $constant: Name = Name { flag: $flag, environment: $environment, member: $member };)*
        #[cfg(test)]
        const ALL_NAMES: &[Name] = &[$($constant),*];
    };
}

names! {
    LABEL = "microservice-label", "MICROSERVICE_LABEL", "microservice_label";
    ENDPOINTS = "etcd-endpoints", "ETCD_ENDPOINTS", "etcd_endpoints";
    CA = "etcd-ca", "ETCD_CA", "etcd_ca";
    CERT = "etcd-cert", "ETCD_CERT", "etcd_cert";
    KEY = "etcd-key", "ETCD_KEY", "etcd_key";
    USER = "etcd-user", "ETCD_USER", "etcd_user";
    PASSWORD_FILE = "etcd-password-file", "ETCD_PASSWORD_FILE", "etcd_password_file";
    EMBEDDED = "embedded-listen", "EMBEDDED_LISTEN", "embedded_listen";
    EMBEDDED_QUOTA = "embedded-quota", "EMBEDDED_QUOTA", "embedded_quota";
    DATA_DIR = "data-dir", "DATA_DIR", "data_dir";
    ON_STORE_LOSS = "on-store-loss", "ON_STORE_LOSS", "on_store_loss";
    INITIAL = "initial-config", "INITIAL_CONFIG", "initial_config";
    HTTP = "http-listen", "HTTP_LISTEN", "http_listen";
    HTTP_CERT = "http-cert", "HTTP_CERT", "http_cert";
    HTTP_KEY = "http-key", "HTTP_KEY", "http_key";
    HTTP_CLIENT_CA = "http-client-ca", "HTTP_CLIENT_CA", "http_client_ca";
    TOKENS = "tokens-file", "TOKENS_FILE", "tokens_file";
    HTTP_RATE_LIMIT = "http-rate-limit", "HTTP_RATE_LIMIT", "http_rate_limit";
    HTTP_BODY_MAX = "http-body-max", "HTTP_BODY_MAX", "http_body_max";
    HTTP_CONNECTIONS_MAX = "http-connections-max", "HTTP_CONNECTIONS_MAX", "http_connections_max";
    HTTP_TIME_LIMIT = "http-time-limit", "HTTP_TIME_LIMIT", "http_time_limit";
    INSECURE = "insecure-listen", "INSECURE_LISTEN", "insecure_listen";
    GRPC = "grpc-listen", "GRPC_LISTEN", "grpc_listen";
    DOCKER = "docker-host", "DOCKER_HOST", "docker_host";
    WATCHED_MAX = "watched-max", "WATCHED_MAX", "watched_max";
    SWEEP_INTERVAL = "sweep-interval", "SWEEP_INTERVAL", "sweep_interval";
    DRIFT_POLICY = "drift-policy", "DRIFT_POLICY", "drift_policy";
    FOREIGN_ADDRESSES = "foreign-addresses", "FOREIGN_ADDRESSES", "foreign_addresses";
    HISTORY_AGE = "history-age", "HISTORY_AGE", "history_age";
    HISTORY_MAX = "history-max", "HISTORY_MAX", "history_max";
    KEEP_PRIVILEGES = "keep-privileges", "KEEP_PRIVILEGES", "keep_privileges";
    LOG = "log", "RUST_LOG", "log";
}

/// The file, member by member as the flags.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct FileSettings {
    microservice_label: Option<String>,
    etcd_endpoints: Option<Endpoints>,
    etcd_ca: Option<String>,
    etcd_cert: Option<String>,
    etcd_key: Option<String>,
    etcd_user: Option<String>,
    etcd_password_file: Option<String>,
    embedded_listen: Option<String>,
    embedded_quota: Option<String>,
    data_dir: Option<String>,
    on_store_loss: Option<String>,
    initial_config: Option<String>,
    http_listen: Option<String>,
    http_cert: Option<String>,
    http_key: Option<String>,
    http_client_ca: Option<String>,
    tokens_file: Option<String>,
    http_rate_limit: Option<String>,
    http_body_max: Option<String>,
    http_connections_max: Option<String>,
    http_time_limit: Option<String>,
    insecure_listen: Option<String>,
    grpc_listen: Option<String>,
    docker_host: Option<String>,
    watched_max: Option<String>,
    sweep_interval: Option<String>,
    drift_policy: Option<String>,
    foreign_addresses: Option<String>,
    history_age: Option<String>,
    history_max: Option<String>,
    keep_privileges: Option<String>,
    log: Option<String>,
}

/// In YAML a list is the natural form; the comma list of the flag is accepted too.
#[derive(Deserialize)]
#[serde(untagged)]
enum Endpoints {
    List(Vec<String>),
    Commas(String),
}

impl Endpoints {
    /// As on the command line.
    fn text(self) -> String {
        match self {
            Endpoints::List(list) => list.join(","),
            Endpoints::Commas(text) => text,
        }
    }
}

/// A given value and where it was given.
#[derive(Clone)]
struct Given {
    value: String,
    origin: Origin,
}

impl Given {
    fn wrong(&self, problem: impl Into<String>, accepted: &'static str) -> ConfigError {
        ConfigError::Value {
            origin: self.origin.clone(),
            problem: problem.into(),
            accepted,
        }
    }
}

/// The environment, as a function from name to value.
type Environment<'a> = &'a dyn Fn(&str) -> Option<OsString>;

impl RunArgs {
    /// Reads the file, fills in environment and defaults, and checks everything. `environment` is `|name| std::env::var_os(name)`
    /// in the program. An empty environment variable counts as absent.
    ///
    /// # Errors
    /// The first setting that cannot be used; it names the flag, variable or member and what is accepted.
    pub fn load(self, environment: Environment<'_>) -> Result<Settings, ConfigError> {
        let file = file_settings(self.config, environment)?;
        let endpoints = file.etcd_endpoints.map(Endpoints::text);
        let pick = |name, flag, member| pick(name, flag, environment, member);
        let password_file = text(PASSWORD_FILE, self.etcd_password_file)?;
        let store = StoreArgs {
            endpoints: pick(ENDPOINTS, self.etcd_endpoints, endpoints)?,
            ca: pick(CA, text(CA, self.etcd_ca)?, file.etcd_ca)?,
            cert: pick(CERT, text(CERT, self.etcd_cert)?, file.etcd_cert)?,
            key: pick(KEY, text(KEY, self.etcd_key)?, file.etcd_key)?,
            user: pick(USER, self.etcd_user, file.etcd_user)?,
            password_file: pick(PASSWORD_FILE, password_file, file.etcd_password_file)?,
            password: from_environment("ETCD_PASSWORD", environment)?,
        };
        let http_listen = or_default(HTTP, pick(HTTP, self.http_listen, file.http_listen)?, "127.0.0.1:9191");
        let grpc = or_default(GRPC, pick(GRPC, self.grpc_listen, file.grpc_listen)?, "127.0.0.1:9111");
        let http = HttpArgs {
            listen: http_listen.clone(),
            grpc: grpc.clone(),
            cert: pick(HTTP_CERT, text(HTTP_CERT, self.http_cert)?, file.http_cert)?,
            key: pick(HTTP_KEY, text(HTTP_KEY, self.http_key)?, file.http_key)?,
            client_ca: pick(HTTP_CLIENT_CA, text(HTTP_CLIENT_CA, self.http_client_ca)?, file.http_client_ca)?,
            tokens: pick(TOKENS, text(TOKENS, self.tokens_file)?, file.tokens_file)?,
            rate_limit: pick(HTTP_RATE_LIMIT, self.http_rate_limit, file.http_rate_limit)?,
            body_max: pick(HTTP_BODY_MAX, self.http_body_max, file.http_body_max)?,
            connections_max: pick(HTTP_CONNECTIONS_MAX, self.http_connections_max, file.http_connections_max)?,
            time_limit: pick(HTTP_TIME_LIMIT, self.http_time_limit, file.http_time_limit)?,
            insecure: pick(INSECURE, api::switch_flag(self.insecure_listen), file.insecure_listen)?,
        };
        let name = pick(LABEL, self.microservice_label, file.microservice_label)?;
        let embedded = pick(EMBEDDED, self.embedded_listen, file.embedded_listen)?;
        let embedded = or_default(EMBEDDED, embedded, "127.0.0.1:2379");
        let quota = pick(EMBEDDED_QUOTA, self.embedded_quota, file.embedded_quota)?;
        let docker = pick(DOCKER, self.docker_host, file.docker_host)?;
        let docker = or_default(DOCKER, docker, "unix:///var/run/docker.sock");
        let data_dir = pick(DATA_DIR, text(DATA_DIR, self.data_dir)?, file.data_dir)?;
        let drift = DriftArgs {
            watched_max: pick(WATCHED_MAX, self.watched_max, file.watched_max)?,
            sweep_interval: pick(SWEEP_INTERVAL, self.sweep_interval, file.sweep_interval)?,
            policy: pick(DRIFT_POLICY, self.drift_policy, file.drift_policy)?,
            foreign_addresses: pick(FOREIGN_ADDRESSES, self.foreign_addresses, file.foreign_addresses)?,
        };
        let history = HistoryArgs {
            age: pick(HISTORY_AGE, self.history_age, file.history_age)?,
            max: pick(HISTORY_MAX, self.history_max, file.history_max)?,
        };
        let initial_config = pick(INITIAL, text(INITIAL, self.initial_config)?, file.initial_config)?;
        let keep_privileges = pick(KEEP_PRIVILEGES, api::switch_flag(self.keep_privileges), file.keep_privileges)?;
        let (etcd, embedded_listen) = (store.check()?, address(&embedded)?);
        let (http, grpc_listen) = http.check(etcd.is_none().then_some((&embedded, embedded_listen)))?;
        let settings = Settings {
            microservice_label: label(or_default(LABEL, name, "vpp1"))?,
            etcd,
            embedded_listen,
            embedded_quota: api::positive(&or_default(EMBEDDED_QUOTA, quota, "268435456"))?,
            data_dir: path_of(or_default(DATA_DIR, data_dir, "/var/lib/netns-agent"))?,
            on_store_loss: store::on_loss(pick(ON_STORE_LOSS, self.on_store_loss, file.on_store_loss)?)?,
            http,
            grpc_listen,
            docker_socket: docker_socket(&docker)?,
            initial_config: initial_config.map(path_of).transpose()?,
            drift: drift.check()?,
            history: history.check()?,
            keep_privileges: keep_privileges.as_ref().map(api::switch).transpose()?.unwrap_or(false),
            log: log::filter(or_default(LOG, pick(LOG, self.log, file.log)?, "info"))?,
        };
        refuse_same_address(&settings, &[&http_listen, &grpc, &embedded])?;
        Ok(settings)
    }
}

/// Flag before environment before file.
fn pick(name: Name, flag: Option<String>, environment: Environment<'_>, member: Option<String>) -> Result<Option<Given>, ConfigError> {
    if let Some(value) = flag {
        return Ok(Some(Given {
            value,
            origin: Origin::Flag(name.flag),
        }));
    }
    let file = member.map(|value| Given {
        value,
        origin: Origin::File(name.member),
    });
    Ok(from_environment(name.environment, environment)?.or(file))
}

fn from_environment(name: &'static str, environment: Environment<'_>) -> Result<Option<Given>, ConfigError> {
    let origin = Origin::Environment(name);
    match environment(name).filter(|value| !value.is_empty()).map(OsString::into_string) {
        None => Ok(None),
        Some(Ok(value)) => Ok(Some(Given { value, origin })),
        Some(Err(_)) => Err(ConfigError::Value {
            origin,
            problem: "it is not UTF-8".to_owned(),
            accepted: "write it in UTF-8",
        }),
    }
}

fn or_default(name: Name, given: Option<Given>, default: &str) -> Given {
    given.unwrap_or_else(|| Given {
        value: default.to_owned(),
        origin: Origin::Default(name.flag),
    })
}

/// A path as text, so that all settings are treated alike.
fn text(name: Name, path: Option<PathBuf>) -> Result<Option<String>, ConfigError> {
    let accepted = "write it in UTF-8";
    let wrong = |_| ConfigError::Value {
        origin: Origin::Flag(name.flag),
        problem: "the path is not UTF-8".to_owned(),
        accepted,
    };
    path.map(|path| path.into_os_string().into_string().map_err(wrong)).transpose()
}

fn file_settings(path: Option<PathBuf>, environment: Environment<'_>) -> Result<FileSettings, ConfigError> {
    let path = match path {
        Some(path) => Some(path),
        None => from_environment("CONFIG_FILE", environment)?.map(|given| PathBuf::from(given.value)),
    };
    path.map_or_else(|| Ok(FileSettings::default()), |path| read_file(&path))
}

fn read_file(path: &Path) -> Result<FileSettings, ConfigError> {
    let wrong = |words: String| ConfigError::File {
        path: path.display().to_string(),
        words,
    };
    let content = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
    if content
        .lines()
        .all(|line| line.trim().is_empty() || line.trim_start().starts_with('#'))
    {
        return Ok(FileSettings::default());
    }
    serde_saphyr::from_str(&content).map_err(|error| wrong(crate::yaml::words(&error)))
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
    given
        .value
        .trim()
        .parse()
        .map_err(|error| given.wrong(format!("{:?}: {error}", given.value), accepted))
}

fn path_of(given: Given) -> Result<PathBuf, ConfigError> {
    if given.value.is_empty() {
        return Err(given.wrong("it is empty", "name a path"));
    }
    Ok(given.value.into())
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

fn refuse_same_address(settings: &Settings, given: &[&Given; 3]) -> Result<(), ConfigError> {
    // The embedded store only listens when no other one is named; port 0 asks the kernel for a free port.
    let embedded = Some(settings.embedded_listen).filter(|_| settings.etcd.is_none());
    let addresses = [settings.http.listen, settings.grpc_listen, embedded];
    for first in 0..addresses.len() {
        for second in first + 1..addresses.len() {
            if let (Some(a), Some(b)) = (addresses[first], addresses[second])
                && a == b
                && a.port() != 0
            {
                let (a_origin, b_origin) = (&given[first].origin, &given[second].origin);
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
