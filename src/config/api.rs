//! Settings of the REST and gRPC APIs: listen addresses, TLS, authentication and limits.
//!
//! Rejects a listen address that other machines can reach, unless it is protected by TLS and authentication, or
//! `--insecure-listen` is set. The key, certificate and token files are read in `api::security`, when the servers start.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use super::{ConfigError, Given, Layers, identity, setting};

/// Maximum of the setting `http_time_limit`: one day, in seconds.
const DAY: usize = 86_400;

/// Listen address of the REST API, and TLS, authentication and limits of both APIs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpSettings {
    /// Listen address of the REST API. `None` if the API is off.
    pub listen: Option<SocketAddr>,
    /// Files with the server's certificate and private key (PEM). If `None`, the APIs are served without TLS.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// File with the CA certificates for verifying clients (PEM). If set, client certificates are mandatory.
    pub client_ca: Option<PathBuf>,
    /// File with tokens and their roles. If `None`, every client that can connect has full access.
    pub tokens: Option<PathBuf>,
    /// Maximum requests per second from one client address. `None` for no limit.
    pub rate_limit: Option<u32>,
    /// Maximum size of a request body or gRPC message, in bytes.
    pub body_max: usize,
    /// Maximum concurrent connections to each API.
    pub connections_max: usize,
    /// Timeout for each step that a client must take, such as the TLS handshake or sending the request headers.
    pub time_limit: Duration,
}

/// Validates the settings, and returns them with the gRPC listen address.
///
/// `embedded` is the listen address of the embedded store, or `None` if etcd endpoints are set.
pub(super) fn check(
    layers: &Layers<'_>,
    embedded: Option<(&Given, SocketAddr)>,
) -> Result<(HttpSettings, Option<SocketAddr>), ConfigError> {
    let (http, grpc) = (layers.given(setting!(http_listen))?, layers.given(setting!(grpc_listen))?);
    let (http_listen, grpc_listen) = (listen_address(&http)?, listen_address(&grpc)?);
    let (cert, key) = (layers.optional(setting!(http_cert))?, layers.optional(setting!(http_key))?);
    let identity = identity(cert, key, ["also set --http-cert", "also set --http-key"])?;
    let client_ca = layers.optional(setting!(http_client_ca))?;
    if let (Some(lonely), None) = (&client_ca, &identity) {
        return Err(lonely.wrong("client certificates require TLS", "also set --http-cert and --http-key"));
    }
    let rate_limit = layers.given(setting!(http_rate_limit))?;
    let rate_limit: u32 = rate_limit.number("expected a number of requests per second, such as 100; 0 means no limit")?;
    let settings = HttpSettings {
        listen: http_listen,
        identity,
        client_ca: client_ca.map(Given::path).transpose()?,
        tokens: layers.optional(setting!(tokens_file))?.map(Given::path).transpose()?,
        rate_limit: Some(rate_limit).filter(|limit| *limit > 0),
        body_max: positive(&layers.given(setting!(http_body_max))?)?,
        connections_max: positive(&layers.given(setting!(http_connections_max))?)?,
        time_limit: seconds(&layers.given(setting!(http_time_limit))?)?,
    };
    let insecure = layers.is_on(setting!(insecure_listen))?;
    let is_protected = settings.identity.is_some() && (settings.tokens.is_some() || settings.client_ca.is_some());
    refuse_unprotected(&http, http_listen, is_protected, insecure)?;
    refuse_unprotected(&grpc, grpc_listen, is_protected, insecure)?;
    if let Some((given, address)) = embedded {
        refuse_reachable_store(given, address, insecure)?;
    }
    Ok((settings, grpc_listen))
}

/// Rejects a non-loopback listen address without TLS and authentication, unless `--insecure-listen` is set.
fn refuse_unprotected(given: &Given, listen: Option<SocketAddr>, is_protected: bool, insecure: bool) -> Result<(), ConfigError> {
    match listen {
        Some(address) if !address.ip().is_loopback() && !is_protected && !insecure => Err(given.wrong(
            format!("other machines can reach {address}, and without authentication could change the network of this machine"),
            "listen on 127.0.0.1, or set --http-cert and --http-key together with --tokens-file or --http-client-ca, or set \
             --insecure-listen if access is restricted in another way, for example by a firewall",
        )),
        _ => Ok(()),
    }
}

/// Rejects a non-loopback listen address for the embedded store, unless `--insecure-listen` is set.
///
/// The embedded store has neither TLS nor authentication.
fn refuse_reachable_store(given: &Given, address: SocketAddr, insecure: bool) -> Result<(), ConfigError> {
    if address.ip().is_loopback() || insecure {
        return Ok(());
    }
    Err(given.wrong(
        format!(
            "other machines can reach {address}; the embedded store has neither TLS nor authentication, so those machines could change \
             the network of this machine"
        ),
        "listen on 127.0.0.1, or use an etcd with TLS (--etcd-endpoints), or set --insecure-listen if access is restricted in another \
         way, for example by a firewall",
    ))
}

fn listen_address(given: &Given) -> Result<Option<SocketAddr>, ConfigError> {
    match given.value.trim() {
        "off" => Ok(None),
        _ => super::address(given).map(Some),
    }
}

pub(super) fn positive(given: &Given) -> Result<usize, ConfigError> {
    let accepted = "expected a number greater than 0";
    match given.number(accepted)? {
        0 => Err(given.wrong("it is 0", accepted)),
        number => Ok(number),
    }
}

fn seconds(given: &Given) -> Result<Duration, ConfigError> {
    match positive(given)? {
        number if number <= DAY => Ok(Duration::from_secs(number as u64)),
        number => Err(given.wrong(
            format!("{number} s is more than a day"),
            "expected a number of seconds from 1 to 86400",
        )),
    }
}
