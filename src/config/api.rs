//! The settings of the REST and gRPC APIs: where they listen, and who may use it.
//!
//! Owns their checks, and the rule that nothing listens unprotected where other machines can reach it. Must never read a key, a
//! certificate or a token: that is `api::security`, when the server starts. Start reading at [`HttpSettings`].

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use super::{ConfigError, Given, Layers, identity, setting};

/// Seconds of a day: whoever waits longer for a client does not want a limit.
const DAY: usize = 86_400;

/// How the REST API is reached; and, of both APIs, by whom, and how much they may ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpSettings {
    /// Where it is served; `None`: nowhere.
    pub listen: Option<SocketAddr>,
    /// Certificate and private key of the server (PEM); `None`: without TLS.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// Authorities by whose certificates clients are recognised (PEM); then every client needs one.
    pub client_ca: Option<PathBuf>,
    /// Tokens and the roles of those who show them; `None`: whoever can connect may do everything.
    pub tokens: Option<PathBuf>,
    /// Most requests per second from one address; `None`: no limit.
    pub rate_limit: Option<u32>,
    /// Longest body of a request, and longest message, in bytes.
    pub body_max: usize,
    /// Most connections of each API at a time.
    pub connections_max: usize,
    /// For each step of a client: a handshake, the headers of a request.
    pub time_limit: Duration,
}

/// The settings, and where gRPC is served, under the same protection.
///
/// `embedded` is the address of the embedded store if that store is used. It has no protection of its own.
pub(super) fn check(
    layers: &Layers<'_>,
    embedded: Option<(&Given, SocketAddr)>,
) -> Result<(HttpSettings, Option<SocketAddr>), ConfigError> {
    let (http, grpc) = (layers.given(setting!(http_listen))?, layers.given(setting!(grpc_listen))?);
    let (http_listen, grpc_listen) = (listen_address(&http)?, listen_address(&grpc)?);
    let (cert, key) = (layers.optional(setting!(http_cert))?, layers.optional(setting!(http_key))?);
    let identity = identity(cert, key, ["give --http-cert too", "give --http-key too"])?;
    let client_ca = layers.optional(setting!(http_client_ca))?;
    if let (Some(lonely), None) = (&client_ca, &identity) {
        return Err(lonely.wrong("clients show certificates over TLS only", "give --http-cert and --http-key too"));
    }
    let rate_limit = layers.given(setting!(http_rate_limit))?;
    let rate_limit: u32 = rate_limit.number("requests per second are expected, as 100; 0 sets no limit")?;
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

/// Nothing listens where other machines can reach it without TLS and credentials, unless the user insists.
fn refuse_unprotected(given: &Given, listen: Option<SocketAddr>, is_protected: bool, insecure: bool) -> Result<(), ConfigError> {
    match listen {
        Some(address) if !address.ip().is_loopback() && !is_protected && !insecure => Err(given.wrong(
            format!("{address} can be reached from other machines, and whoever reaches it could change the network of this one"),
            "listen on 127.0.0.1, or give --http-cert and --http-key together with --tokens-file or --http-client-ca, or \
             --insecure-listen if something else keeps others away",
        )),
        _ => Ok(()),
    }
}

/// Refuses an embedded store that other machines can reach, unless the user insists: it has neither TLS nor credentials.
fn refuse_reachable_store(given: &Given, address: SocketAddr, insecure: bool) -> Result<(), ConfigError> {
    if address.ip().is_loopback() || insecure {
        return Ok(());
    }
    Err(given.wrong(
        format!(
            "{address} can be reached from other machines; the embedded store has neither TLS nor credentials, and whoever reaches it \
             could change the network of this one"
        ),
        "listen on 127.0.0.1, or run an etcd with TLS and name it with --etcd-endpoints, or give --insecure-listen if something else \
         keeps others away",
    ))
}

fn listen_address(given: &Given) -> Result<Option<SocketAddr>, ConfigError> {
    match given.value.trim() {
        "off" => Ok(None),
        _ => super::address(given).map(Some),
    }
}

pub(super) fn positive(given: &Given) -> Result<usize, ConfigError> {
    let accepted = "a number from 1 on is expected";
    match given.number(accepted)? {
        0 => Err(given.wrong("it is 0", accepted)),
        number => Ok(number),
    }
}

fn seconds(given: &Given) -> Result<Duration, ConfigError> {
    match positive(given)? {
        number if number <= DAY => Ok(Duration::from_secs(number as u64)),
        number => Err(given.wrong(
            format!("{number} s are more than a day"),
            "a number of seconds from 1 to 86400 is expected",
        )),
    }
}
