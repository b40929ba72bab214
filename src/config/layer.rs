//! The list of settings: flag, environment variable, member of the file, default and help of each, in one place.
//!
//! Owns the names. Must never check a value: that is done when the layers have been put on each other. Start reading at [`Layer`].

use std::path::PathBuf;

use serde::{Deserialize, Deserializer};

/// The settings as the command line gives them, or the file. A field is a flag (with `-` for `_`) and a member of the file.
///
/// Environment variable and default are told to clap, but it must not fill them in, since the file comes between:
/// [`RunArgs`](super::RunArgs) takes them out, and [`Layers`](super::given::Layers) looks them up.
#[derive(clap::Args, Deserialize, Clone, Debug, Default)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Layer {
    /// YAML file with settings: members are the flags below without dashes, as in `http_listen: 127.0.0.1:9191`
    ///
    /// A flag beats the environment, the environment beats the file. An unknown member is an error. Relative paths are relative
    /// to the working directory. [env: CONFIG_FILE]
    #[arg(long, value_name = "FILE")]
    #[serde(skip)]
    pub config: Option<PathBuf>,

    /// Name of this agent: it follows the keys below /vnf-agent/LABEL/config/
    ///
    /// At most 63 bytes, without slash and white space.
    #[arg(long, env = "MICROSERVICE_LABEL", default_value = "vpp1", value_name = "LABEL")]
    pub microservice_label: Option<String>,

    /// etcd servers to follow, separated by commas, as in http://10.0.0.1:2379
    ///
    /// Without this, the agent starts a small store of its own (see --embedded-listen), which etcdctl can talk to.
    #[arg(long, env = "ETCD_ENDPOINTS", value_name = "URLS", help_heading = "Store")]
    #[serde(deserialize_with = "list_or_text")]
    pub etcd_endpoints: Option<String>,

    /// Certificates of the authority that signed etcd's certificate (PEM), needed for https
    #[arg(long, env = "ETCD_CA", value_name = "FILE", help_heading = "Store")]
    pub etcd_ca: Option<PathBuf>,

    /// Certificate to show to etcd (PEM); together with --etcd-key
    #[arg(long, env = "ETCD_CERT", value_name = "FILE", help_heading = "Store")]
    pub etcd_cert: Option<PathBuf>,

    /// Private key of --etcd-cert (PEM)
    #[arg(long, env = "ETCD_KEY", value_name = "FILE", help_heading = "Store")]
    pub etcd_key: Option<PathBuf>,

    /// User to sign in to etcd as; needs a password
    #[arg(long, env = "ETCD_USER", value_name = "NAME", help_heading = "Store")]
    pub etcd_user: Option<String>,

    /// File whose first line is the password of --etcd-user
    ///
    /// The password itself can be given in the environment as ETCD_PASSWORD. There is no flag for it, because other users of
    /// the machine can read the command line of a process.
    #[arg(long, env = "ETCD_PASSWORD_FILE", value_name = "FILE", help_heading = "Store")]
    pub etcd_password_file: Option<PathBuf>,

    /// Address of the agent's own store, used when no --etcd-endpoints are given
    ///
    /// This store has neither TLS nor credentials: an address that other machines can reach needs --insecure-listen.
    #[arg(
        long,
        env = "EMBEDDED_LISTEN",
        default_value = "127.0.0.1:2379",
        value_name = "IP:PORT",
        help_heading = "Store"
    )]
    pub embedded_listen: Option<String>,

    /// Most bytes of keys, values and history in the agent's own store; more raises etcd's alarm NOSPACE
    ///
    /// Then puts are refused until keys are deleted, `etcdctl compaction` was run and the alarm is disarmed with
    /// `etcdctl alarm disarm`.
    #[arg(
        long,
        env = "EMBEDDED_QUOTA",
        default_value = "268435456",
        value_name = "BYTES",
        help_heading = "Store"
    )]
    pub embedded_quota: Option<String>,

    /// Directory for what must survive a restart, such as the agent's own store
    #[arg(
        long,
        env = "DATA_DIR",
        default_value = "/var/lib/netns-agent",
        value_name = "DIR",
        help_heading = "Store"
    )]
    pub data_dir: Option<PathBuf>,

    /// What to do if the store has lost its content: hold or apply
    ///
    /// A store that was emptied, or is another one, lacks keys that nobody deleted. With hold, what they ask for stays and readiness
    /// fails, until the keys are put again or `netns-agent removals accept` is run. With apply, it is deleted at once.
    #[arg(long, env = "ON_STORE_LOSS", default_value = "hold", value_name = "POLICY", help_heading = "Store")]
    pub on_store_loss: Option<String>,

    /// YAML file with network configuration to apply beside the store
    ///
    /// It is followed: what is written to it is applied. Where the store has a value under the same key, that one applies.
    #[arg(long, env = "INITIAL_CONFIG", value_name = "FILE")]
    pub initial_config: Option<PathBuf>,

    /// Address of the REST API, or off
    ///
    /// An address that other machines can reach needs --http-cert, --http-key and --tokens-file or --http-client-ca.
    #[arg(
        long,
        env = "HTTP_LISTEN",
        default_value = "127.0.0.1:9191",
        value_name = "IP:PORT",
        help_heading = "REST"
    )]
    pub http_listen: Option<String>,

    /// Certificate of the REST API (PEM, with those that lead to its authority); together with --http-key
    #[arg(long, env = "HTTP_CERT", value_name = "FILE", help_heading = "REST")]
    pub http_cert: Option<PathBuf>,

    /// Private key of --http-cert (PEM)
    #[arg(long, env = "HTTP_KEY", value_name = "FILE", help_heading = "REST")]
    pub http_key: Option<PathBuf>,

    /// Authorities of client certificates (PEM): then every client needs one
    #[arg(long, env = "HTTP_CLIENT_CA", value_name = "FILE", help_heading = "REST")]
    pub http_client_ca: Option<PathBuf>,

    /// Who may use the REST API: a line `NAME read|write TOKEN [EXPIRY]` each
    ///
    /// A token is sent as `Authorization: Bearer TOKEN`. In the file it is the token itself, or `sha256:` and the hash of it in
    /// hexadecimal digits. EXPIRY is a time as 2030-01-31T00:00:00Z. A changed file counts at once.
    #[arg(long, env = "TOKENS_FILE", value_name = "FILE", help_heading = "REST")]
    pub tokens_file: Option<PathBuf>,

    /// Most requests per second from one address to both APIs, 0 for no limit
    #[arg(long, env = "HTTP_RATE_LIMIT", default_value = "0", value_name = "NUMBER", help_heading = "REST")]
    pub http_rate_limit: Option<String>,

    /// Longest body of a request and longest gRPC message, in bytes
    #[arg(
        long,
        env = "HTTP_BODY_MAX",
        default_value = "4194304",
        value_name = "BYTES",
        help_heading = "REST"
    )]
    pub http_body_max: Option<String>,

    /// Most connections of each API at a time; gRPC takes four times as many calls
    #[arg(
        long,
        env = "HTTP_CONNECTIONS_MAX",
        default_value = "256",
        value_name = "NUMBER",
        help_heading = "REST"
    )]
    pub http_connections_max: Option<String>,

    /// How long a client may take for the TLS handshake and the headers of a request
    ///
    /// In seconds, of both APIs. It may take three times as long for a body and to read a piece of an answer, and six times as long
    /// between two gRPC calls.
    #[arg(long, env = "HTTP_TIME_LIMIT", default_value = "10", value_name = "SECONDS", help_heading = "REST")]
    pub http_time_limit: Option<String>,

    /// Listen where other machines can connect although neither TLS nor credentials protect it
    #[arg(long, env = "INSECURE_LISTEN", num_args = 0, default_missing_value = "true", help_heading = "REST")]
    pub insecure_listen: Option<String>,

    /// Address of the gRPC API, or off; protected like the REST API
    #[arg(long, env = "GRPC_LISTEN", default_value = "127.0.0.1:9111", value_name = "IP:PORT")]
    pub grpc_listen: Option<String>,

    /// Socket of the Docker daemon, to find containers by label
    ///
    /// It need not exist: what refers to containers waits until it does, all else works.
    #[arg(long, env = "DOCKER_HOST", default_value = "unix:///var/run/docker.sock", value_name = "URL")]
    pub docker_host: Option<String>,

    /// How many network namespaces are watched by events
    ///
    /// The others are read every --sweep-interval. Each watched one costs every program on the machine that configures networking a
    /// little (38 microseconds an operation with 1000).
    #[arg(long, env = "WATCHED_MAX", default_value = "300", value_name = "NUMBER", help_heading = "Drift")]
    pub watched_max: Option<String>,

    /// How often a namespace that is not watched is read, in seconds
    #[arg(long, env = "SWEEP_INTERVAL", default_value = "10", value_name = "SECONDS", help_heading = "Drift")]
    pub sweep_interval: Option<String>,

    /// What is done when somebody else changes or removes what was configured: repair or report
    ///
    /// A value can say otherwise for itself (`drift_policy`). With report, the status is FAILED with reason Drifted, and nothing is
    /// done until the value is put again.
    #[arg(
        long,
        env = "DRIFT_POLICY",
        default_value = "repair",
        value_name = "POLICY",
        help_heading = "Drift"
    )]
    pub drift_policy: Option<String>,

    /// What is done about addresses that nobody asked for: keep or strict
    ///
    /// With strict they are removed at the start and at a resync: from interfaces that the agent made itself and from EXISTING
    /// interfaces, except where a value on the link has link_only.
    #[arg(
        long,
        env = "FOREIGN_ADDRESSES",
        default_value = "keep",
        value_name = "POLICY",
        help_heading = "Drift"
    )]
    pub foreign_addresses: Option<String>,

    /// How long transactions are remembered, in minutes
    #[arg(
        long,
        env = "HISTORY_AGE",
        default_value = "1440",
        value_name = "MINUTES",
        help_heading = "History"
    )]
    pub history_age: Option<String>,

    /// How many transactions are remembered at most; 0 remembers none
    ///
    /// They are in memory, with up to four times as many operations in all.
    #[arg(
        long,
        env = "HISTORY_MAX",
        default_value = "10000",
        value_name = "NUMBER",
        help_heading = "History"
    )]
    pub history_max: Option<String>,

    /// Keep capabilities that configuring networks does not take
    ///
    /// The agent gives them up when it starts. A root without them is not above the permissions of files: a socket of Docker or a data
    /// directory that belongs to somebody else may need this.
    #[arg(long, env = "KEEP_PRIVILEGES", num_args = 0, default_missing_value = "true")]
    pub keep_privileges: Option<String>,

    /// What is logged: error, warn, info, debug, trace, or per module as in info,netns_agent::sources=debug
    #[arg(long, env = "RUST_LOG", default_value = "info", value_name = "FILTER")]
    pub log: Option<String>,
}

/// In YAML a list is the natural form; the comma list of the flag is accepted too.
fn list_or_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "expected a list, or one text with commas")]
    enum ListOrText {
        List(Vec<String>),
        Text(String),
    }
    let given = Option::deserialize(deserializer)?;
    Ok(given.map(|given| match given {
        ListOrText::List(list) => list.join(","),
        ListOrText::Text(text) => text,
    }))
}
