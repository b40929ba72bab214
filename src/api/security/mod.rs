//! Access control for all listeners of the agent: tokens and roles, TLS, and request rates.
//!
//! Secrets never appear in the log, in errors or in `Debug` output.
//!
//! There is no default password. Without a tokens file, every client that can connect has all roles. Therefore, `config` accepts
//! only loopback addresses, unless TLS and authentication protect the listener or `--insecure-listen` is set.

pub mod rate;
pub mod tls;
pub mod tokens;

use std::{
    fmt,
    net::IpAddr,
    path::PathBuf,
    time::{Duration, Instant, SystemTime},
};

use self::{
    rate::RateLimiter,
    tokens::{TokenError, Tokens},
};
use crate::config::HttpSettings;

/// Role of a client, which determines the requests that the client can make.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Role {
    /// The client can read everything.
    Read,
    /// The client can read and change everything.
    Write,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Role::Read => "read",
            Role::Write => "write",
        })
    }
}

/// Reason why a request is denied. The message says what to do, and reveals nothing about the credentials of other clients.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// The request has no token.
    #[error("a token is required: send it as `Authorization: Bearer TOKEN`; it must be listed in the tokens file (--tokens-file)")]
    Missing,
    /// The token is unknown.
    #[error("unknown token; it must be listed in the tokens file (--tokens-file)")]
    Unknown,
    /// The token has expired.
    #[error("the token of {name} has expired; set a later expiry in the tokens file (--tokens-file), or replace the token")]
    Expired {
        /// Name of the token's holder.
        name: String,
    },
    /// The client's role does not allow the request.
    #[error("{name} has role {has}, but the request requires role {needs}")]
    Role {
        /// Name of the client.
        name: String,
        /// The client's role.
        has: Role,
        /// Role required by the request.
        needs: Role,
    },
}

impl Denied {
    /// Returns true if the token is missing, unknown or expired. Returns false if the token is valid but its role is
    /// insufficient.
    pub fn is_unauthenticated(&self) -> bool {
        !matches!(self, Denied::Role { .. })
    }
}

/// Access control, which decides whether a request is allowed.
pub struct Access {
    tokens: Option<Tokens>,
}

impl Access {
    /// Reads the tokens from a file. Without a file, all requests are allowed.
    ///
    /// # Errors
    /// Fails if the file cannot be read or parsed.
    pub fn new(tokens_file: Option<PathBuf>) -> Result<Self, TokenError> {
        let tokens = tokens_file.map(Tokens::read).transpose()?;
        Ok(Access { tokens })
    }

    /// Returns whether requests need a token.
    pub fn needs_token(&self) -> bool {
        self.tokens.is_some()
    }

    /// Returns the name of the client if its token has the required role, or `None` if no tokens are configured.
    ///
    /// # Errors
    /// Fails if the request is denied.
    pub fn admit(&self, token: Option<&str>, needs: Role, now: SystemTime) -> Result<Option<String>, Denied> {
        let Some(tokens) = &self.tokens else { return Ok(None) };
        let holder = tokens.holder(token.ok_or(Denied::Missing)?).ok_or(Denied::Unknown)?;
        let name = holder.name.clone();
        if holder.expires.is_some_and(|expires| expires <= now) {
            return Err(Denied::Expired { name });
        }
        match holder.role < needs {
            true => Err(Denied::Role {
                name,
                has: holder.role,
                needs,
            }),
            false => Ok(Some(name)),
        }
    }
}

/// Error for a client that has exceeded the rate limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("more than {limit} requests per second; try again after {} s, or raise --http-rate-limit", self.seconds())]
pub struct TooFast {
    /// Number of requests allowed per second.
    pub limit: u32,
    /// Time until the next request is allowed.
    pub wait: Duration,
}

impl TooFast {
    /// Returns the time to wait in seconds, rounded up.
    pub fn seconds(&self) -> u64 {
        self.wait.as_secs() + u64::from(self.wait.subsec_nanos() > 0)
    }
}

/// Access control and rate limiter. All APIs share one gate, so that the rate limit applies to the sum of a client's requests.
pub struct Gate {
    /// Access control.
    pub access: Access,
    rate: Option<(RateLimiter, u32)>,
}

impl Gate {
    /// Creates a gate from the settings.
    ///
    /// # Errors
    /// Fails if the tokens file cannot be read or parsed.
    pub fn new(settings: &HttpSettings) -> Result<Self, TokenError> {
        Ok(Gate {
            access: Access::new(settings.tokens.clone())?,
            rate: settings.rate_limit.map(|limit| (RateLimiter::new(limit), limit)),
        })
    }

    /// Counts a request from this address.
    ///
    /// # Errors
    /// Fails if the rate limit is exceeded.
    pub fn count(&self, address: IpAddr, now: Instant) -> Result<(), TooFast> {
        let Some((limiter, limit)) = &self.rate else { return Ok(()) };
        limiter.admit(address, now).map_err(|wait| TooFast { limit: *limit, wait })
    }
}

/// Returns the bearer token in an `Authorization` header or in gRPC metadata (RFC 6750 §2.1), if there is one.
pub fn provider(header: &str) -> Option<&str> {
    let (scheme, token) = header.trim().split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}
