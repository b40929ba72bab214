//! The settings of the REST and gRPC APIs: where they listen, and who may use it.
//!
//! Owns their checks, and the rule that nothing listens unprotected where other machines can reach it. Must never read a key, a
//! certificate or a token: that is `api::security`, when the server starts. Start reading at [`HttpSettings`].

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use super::{ConfigError, Given, HTTP_BODY_MAX, HTTP_CONNECTIONS_MAX, HTTP_TIME_LIMIT, or_default, path_of};

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

/// What was given about the REST API.
pub(super) struct HttpArgs {
    pub listen: Given,
    pub grpc: Given,
    pub cert: Option<Given>,
    pub key: Option<Given>,
    pub client_ca: Option<Given>,
    pub tokens: Option<Given>,
    pub rate_limit: Option<Given>,
    pub body_max: Option<Given>,
    pub connections_max: Option<Given>,
    pub time_limit: Option<Given>,
    pub insecure: Option<Given>,
}

impl HttpArgs {
    /// The settings, and where gRPC is served, under the same protection.
    ///
    /// `embedded` is the address of the embedded store if that store is used. It has no protection of its own.
    pub fn check(self, embedded: Option<(&Given, SocketAddr)>) -> Result<(HttpSettings, Option<SocketAddr>), ConfigError> {
        let listen = listen_address(&self.listen)?;
        let grpc = listen_address(&self.grpc)?;
        let identity = match (self.cert, self.key) {
            (Some(cert), Some(key)) => Some((path_of(cert)?, path_of(key)?)),
            (Some(lonely), None) => return Err(lonely.wrong("it needs the private key of the certificate", "give --http-key too")),
            (None, Some(lonely)) => return Err(lonely.wrong("it needs the certificate of the key", "give --http-cert too")),
            (None, None) => None,
        };
        if let (Some(lonely), None) = (&self.client_ca, &identity) {
            return Err(lonely.wrong("clients show certificates over TLS only", "give --http-cert and --http-key too"));
        }
        let settings = HttpSettings {
            listen,
            identity,
            client_ca: self.client_ca.map(path_of).transpose()?,
            tokens: self.tokens.map(path_of).transpose()?,
            rate_limit: self
                .rate_limit
                .as_ref()
                .map(requests_per_second)
                .transpose()?
                .filter(|limit| *limit > 0),
            body_max: positive(&or_default(HTTP_BODY_MAX, self.body_max, "4194304"))?,
            connections_max: positive(&or_default(HTTP_CONNECTIONS_MAX, self.connections_max, "256"))?,
            time_limit: seconds(&or_default(HTTP_TIME_LIMIT, self.time_limit, "10"))?,
        };
        let insecure = self.insecure.as_ref().map(switch).transpose()?.unwrap_or(false);
        let is_protected = settings.identity.is_some() && (settings.tokens.is_some() || settings.client_ca.is_some());
        refuse_unprotected(&self.listen, listen, is_protected, insecure)?;
        refuse_unprotected(&self.grpc, grpc, is_protected, insecure)?;
        if let Some((given, address)) = embedded {
            refuse_reachable_store(given, address, insecure)?;
        }
        Ok((settings, grpc))
    }
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

fn requests_per_second(given: &Given) -> Result<u32, ConfigError> {
    let text = given.value.trim();
    let accepted = "requests per second are expected, as 100; 0 sets no limit";
    text.parse().map_err(|error| given.wrong(format!("{text:?}: {error}"), accepted))
}

pub(super) fn positive(given: &Given) -> Result<usize, ConfigError> {
    let text = given.value.trim();
    let accepted = "a number from 1 on is expected";
    match text.parse() {
        Ok(0) => Err(given.wrong("it is 0", accepted)),
        Ok(number) => Ok(number),
        Err(error) => Err(given.wrong(format!("{text:?}: {error}"), accepted)),
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

/// A flag without a value is `true`; the environment and the file say so in words.
pub(super) fn switch(given: &Given) -> Result<bool, ConfigError> {
    match given.value.trim() {
        "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        other => Err(given.wrong(format!("{other:?} is neither"), "true or false is expected")),
    }
}

/// A switch on the command line, as text like all settings.
pub(super) fn switch_flag(given: bool) -> Option<String> {
    given.then(|| "true".to_owned())
}
