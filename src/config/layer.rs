//! Declares all settings, each with its flag, environment variable, configuration file member, default and help text.
//!
//! This module does not validate the values. `RunArgs::load` validates them after it has merged the layers.

use std::path::PathBuf;

use serde::{Deserialize, Deserializer};

/// Settings as given on the command line or in the file. Each field is a flag (with `-` for `_`) and a member of the file.
///
/// Environment variables and defaults are declared as clap attributes, but clap must not apply them, because the file overrides
/// defaults but not environment variables. Therefore, [`RunArgs`](super::RunArgs) removes them from the command, and
/// [`Layers`](super::given::Layers) looks them up.
#[derive(clap::Args, Deserialize, Clone, Debug, Default)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Layer {
    /// YAML file with settings, named like the flags with underscores: `http_listen: 127.0.0.1:9191`
    ///
    /// Flags override environment variables, which override the file. Unknown members are errors. Relative paths are relative
    /// to the working directory. [env: CONFIG_FILE]
    #[arg(long, value_name = "FILE")]
    #[serde(skip)]
    pub config: Option<PathBuf>,

    /// Label of this agent, which reads the keys under /vnf-agent/LABEL/config/
    ///
    /// 1 to 63 bytes, without slashes, whitespace and control characters.
    #[arg(long, env = "MICROSERVICE_LABEL", default_value = "vpp1", value_name = "LABEL")]
    pub microservice_label: Option<String>,

    /// etcd endpoints, separated by commas, for example http://10.0.0.1:2379
    ///
    /// Without this flag, the agent starts an embedded store that serves the etcd v3 API (see --embedded-listen).
    #[arg(long, env = "ETCD_ENDPOINTS", value_name = "URLS", help_heading = "Store")]
    #[serde(deserialize_with = "list_or_text")]
    pub etcd_endpoints: Option<String>,

    /// CA certificates for verifying the etcd server (PEM); required for https endpoints
    #[arg(long, env = "ETCD_CA", value_name = "FILE", help_heading = "Store")]
    pub etcd_ca: Option<PathBuf>,

    /// Client certificate for etcd (PEM); requires --etcd-key
    #[arg(long, env = "ETCD_CERT", value_name = "FILE", help_heading = "Store")]
    pub etcd_cert: Option<PathBuf>,

    /// Private key of --etcd-cert (PEM)
    #[arg(long, env = "ETCD_KEY", value_name = "FILE", help_heading = "Store")]
    pub etcd_key: Option<PathBuf>,

    /// etcd user name; requires --etcd-password-file or ETCD_PASSWORD
    #[arg(long, env = "ETCD_USER", value_name = "NAME", help_heading = "Store")]
    pub etcd_user: Option<String>,

    /// File whose first line is the password of --etcd-user
    ///
    /// The environment variable ETCD_PASSWORD can contain the password itself. There is no flag for the password, because other
    /// users of the machine can read the command lines of processes.
    #[arg(long, env = "ETCD_PASSWORD_FILE", value_name = "FILE", help_heading = "Store")]
    pub etcd_password_file: Option<PathBuf>,

    /// Listen address of the embedded store, which is used without --etcd-endpoints
    ///
    /// The embedded store has neither TLS nor authentication: an address other than loopback requires --insecure-listen.
    #[arg(
        long,
        env = "EMBEDDED_LISTEN",
        default_value = "127.0.0.1:2379",
        value_name = "IP:PORT",
        help_heading = "Store"
    )]
    pub embedded_listen: Option<String>,

    /// Size limit of keys, values and history in the embedded store, in bytes; exceeding it raises the etcd alarm NOSPACE
    ///
    /// While the alarm is raised, puts are rejected. To recover, delete keys, then run `etcdctl compaction` and
    /// `etcdctl alarm disarm`.
    #[arg(
        long,
        env = "EMBEDDED_QUOTA",
        default_value = "268435456",
        value_name = "BYTES",
        help_heading = "Store"
    )]
    pub embedded_quota: Option<String>,

    /// Directory for data that survives restarts, such as the embedded store
    #[arg(
        long,
        env = "DATA_DIR",
        default_value = "/var/lib/netns-agent",
        value_name = "DIR",
        help_heading = "Store"
    )]
    pub data_dir: Option<PathBuf>,

    /// Action if the store has lost its contents: hold or apply
    ///
    /// A store that was emptied or replaced lacks keys that nobody deleted. With hold, the agent keeps the values of these keys, and
    /// readiness fails, until the keys are put again or `netns-agent removals accept` is run. With apply, it deletes them at once.
    #[arg(long, env = "ON_STORE_LOSS", default_value = "hold", value_name = "POLICY", help_heading = "Store")]
    pub on_store_loss: Option<String>,

    /// YAML file with network configuration to apply in addition to the store
    ///
    /// Changes to the file are applied as they are written. For keys in both, the value in the store takes precedence.
    #[arg(long, env = "INITIAL_CONFIG", value_name = "FILE")]
    pub initial_config: Option<PathBuf>,

    /// Listen address of the REST API, or off
    ///
    /// An address other than loopback requires --http-cert, --http-key and either --tokens-file or --http-client-ca.
    #[arg(
        long,
        env = "HTTP_LISTEN",
        default_value = "127.0.0.1:9191",
        value_name = "IP:PORT",
        help_heading = "REST"
    )]
    pub http_listen: Option<String>,

    /// Server certificate chain of the REST and gRPC APIs (PEM); requires --http-key
    #[arg(long, env = "HTTP_CERT", value_name = "FILE", help_heading = "REST")]
    pub http_cert: Option<PathBuf>,

    /// Private key of --http-cert (PEM)
    #[arg(long, env = "HTTP_KEY", value_name = "FILE", help_heading = "REST")]
    pub http_key: Option<PathBuf>,

    /// CA certificates for verifying clients (PEM); makes client certificates mandatory
    #[arg(long, env = "HTTP_CLIENT_CA", value_name = "FILE", help_heading = "REST")]
    pub http_client_ca: Option<PathBuf>,

    /// File of tokens for the REST and gRPC APIs, one `NAME read|write TOKEN [EXPIRY]` per line
    ///
    /// Clients send `Authorization: Bearer TOKEN`. In the file, TOKEN is the token itself or `sha256:` followed by its hash in
    /// hexadecimal. EXPIRY is an RFC 3339 time, for example 2030-01-31T00:00:00Z. Changes to the file take effect immediately.
    #[arg(long, env = "TOKENS_FILE", value_name = "FILE", help_heading = "REST")]
    pub tokens_file: Option<PathBuf>,

    /// Maximum requests per second from one address to the REST and gRPC APIs together; 0 means no limit
    #[arg(long, env = "HTTP_RATE_LIMIT", default_value = "0", value_name = "NUMBER", help_heading = "REST")]
    pub http_rate_limit: Option<String>,

    /// Maximum size of a request body or gRPC message, in bytes
    #[arg(
        long,
        env = "HTTP_BODY_MAX",
        default_value = "4194304",
        value_name = "BYTES",
        help_heading = "REST"
    )]
    pub http_body_max: Option<String>,

    /// Maximum concurrent connections to each API; gRPC accepts four times as many concurrent calls
    #[arg(
        long,
        env = "HTTP_CONNECTIONS_MAX",
        default_value = "256",
        value_name = "NUMBER",
        help_heading = "REST"
    )]
    pub http_connections_max: Option<String>,

    /// Timeout of both APIs for the TLS handshake and for the headers of a request, in seconds
    ///
    /// From 1 to 86400. The timeout is three times as long for a request body and for a client that does not read its response, and
    /// six times as long between two gRPC calls.
    #[arg(long, env = "HTTP_TIME_LIMIT", default_value = "10", value_name = "SECONDS", help_heading = "REST")]
    pub http_time_limit: Option<String>,

    /// Allow listening on addresses other than loopback without TLS and authentication
    #[arg(long, env = "INSECURE_LISTEN", num_args = 0, default_missing_value = "true", help_heading = "REST")]
    pub insecure_listen: Option<String>,

    /// Listen address of the gRPC API, or off; TLS and authentication as for the REST API
    #[arg(long, env = "GRPC_LISTEN", default_value = "127.0.0.1:9111", value_name = "IP:PORT")]
    pub grpc_listen: Option<String>,

    /// URL of the Docker daemon's Unix socket, used to find containers by microservice label
    ///
    /// The socket need not exist: values in containers wait until it does, and all other values are unaffected.
    #[arg(long, env = "DOCKER_HOST", default_value = "unix:///var/run/docker.sock", value_name = "URL")]
    pub docker_host: Option<String>,

    /// Maximum number of network namespaces monitored with kernel notifications
    ///
    /// All other namespaces are read every --sweep-interval. Each monitored namespace slightly slows down every network
    /// configuration operation on the machine (by 38 microseconds with 1000 of them).
    #[arg(long, env = "WATCHED_MAX", default_value = "300", value_name = "NUMBER", help_heading = "Drift")]
    pub watched_max: Option<String>,

    /// Interval at which namespaces without notifications are read, in seconds (0.1 to 86400)
    #[arg(long, env = "SWEEP_INTERVAL", default_value = "10", value_name = "SECONDS", help_heading = "Drift")]
    pub sweep_interval: Option<String>,

    /// Action when others change or delete a configured object: repair or report
    ///
    /// The field `drift_policy` of a value overrides this. With report, the status becomes FAILED with reason Drifted, and the agent
    /// repairs nothing until the value is put again.
    #[arg(
        long,
        env = "DRIFT_POLICY",
        default_value = "repair",
        value_name = "POLICY",
        help_heading = "Drift"
    )]
    pub drift_policy: Option<String>,

    /// Action for addresses that are not configured: keep or strict
    ///
    /// With strict, the agent removes them at startup and at a resync, from interfaces that it created and from EXISTING
    /// interfaces, unless a value on the link has link_only set.
    #[arg(
        long,
        env = "FOREIGN_ADDRESSES",
        default_value = "keep",
        value_name = "POLICY",
        help_heading = "Drift"
    )]
    pub foreign_addresses: Option<String>,

    /// Age up to which transactions are kept in the history, in minutes
    #[arg(
        long,
        env = "HISTORY_AGE",
        default_value = "1440",
        value_name = "MINUTES",
        help_heading = "History"
    )]
    pub history_age: Option<String>,

    /// Maximum number of transactions in the history; 0 disables the history
    ///
    /// The history is kept in memory. All its transactions together have at most four times this number of operations.
    #[arg(
        long,
        env = "HISTORY_MAX",
        default_value = "10000",
        value_name = "NUMBER",
        help_heading = "History"
    )]
    pub history_max: Option<String>,

    /// Keep capabilities that the agent does not need
    ///
    /// By default, the agent drops them at startup. Without them, file permissions apply to root as well: a Docker socket or a data
    /// directory of another user may require this flag.
    #[arg(long, env = "KEEP_PRIVILEGES", num_args = 0, default_missing_value = "true")]
    pub keep_privileges: Option<String>,

    /// Log filter: error, warn, info, debug, trace, or per module, for example info,netns_agent::sources=debug
    #[arg(long, env = "RUST_LOG", default_value = "info", value_name = "FILTER")]
    pub log: Option<String>,
}

/// Deserializes a YAML list, or a comma-separated string in the format of the flag.
fn list_or_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "expected a list or a comma-separated string")]
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
