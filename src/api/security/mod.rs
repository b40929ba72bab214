//! Who may use an API, and how much: tokens and roles, TLS, request rates. For every listener of the agent, whatever it speaks.
//!
//! Owns credentials and the decision about them. Must never write a secret to the log, to an error or to `Debug`, and must never
//! know of HTTP or gRPC. Start reading at [`Gate`], then [`Access::admit`].
//!
//! There is no password that works without being set: with no tokens file, whoever can connect may do everything, and so
//! `config` lets nothing listen beyond this machine unless TLS and credentials protect it or the user insists.

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

/// What somebody may do.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Role {
    /// Look at everything.
    Read,
    /// Change things, too.
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

/// Why a request is not admitted. The text tells a person what to do, and nothing about the credentials of others.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// Credentials are needed.
    #[error("a token is needed: send it as `Authorization: Bearer TOKEN`; it must be in the file of --tokens-file")]
    Missing,
    /// Nobody has this token.
    #[error("the token is not known; it must be in the file of --tokens-file")]
    Unknown,
    /// The token was good once.
    #[error("the token of {name} has expired; give it a later time in the file of --tokens-file, or replace it")]
    Expired {
        /// Whose token it is.
        name: String,
    },
    /// The role is not enough.
    #[error("{name} has role {has}, and this needs role {needs}")]
    Role {
        /// Who asks.
        name: String,
        /// What they may do.
        has: Role,
        /// What would be needed.
        needs: Role,
    },
}

impl Denied {
    /// Whether other credentials would help, rather than another role.
    pub fn is_unauthenticated(&self) -> bool {
        !matches!(self, Denied::Role { .. })
    }
}

/// Who may do what.
pub struct Access {
    tokens: Option<Tokens>,
}

impl Access {
    /// With the tokens of a file, or with none: then everybody who can connect may do everything.
    ///
    /// # Errors
    /// The file cannot be read or understood.
    pub fn new(tokens_file: Option<PathBuf>) -> Result<Self, TokenError> {
        let tokens = tokens_file.map(Tokens::read).transpose()?;
        Ok(Access { tokens })
    }

    /// Whether requests need a token.
    pub fn needs_token(&self) -> bool {
        self.tokens.is_some()
    }

    /// Decides whether whoever shows this token (`None`: none) may do what needs this role. Answers the name, if there is one.
    ///
    /// # Errors
    /// Why not.
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

/// More requests than are admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("more than {limit} requests per second; try again after {} s, or see --http-rate-limit", self.seconds())]
pub struct TooFast {
    /// So many are admitted per second.
    pub limit: u32,
    /// After this time the next one is.
    pub wait: Duration,
}

impl TooFast {
    /// The time to wait, in whole seconds.
    pub fn seconds(&self) -> u64 {
        self.wait.as_secs() + u64::from(self.wait.subsec_nanos() > 0)
    }
}

/// What all APIs ask together before they do anything for somebody: a rate is one, whichever of them is called.
pub struct Gate {
    /// Who may do what.
    pub access: Access,
    rate: Option<(RateLimiter, u32)>,
}

impl Gate {
    /// As the settings say.
    ///
    /// # Errors
    /// The file of tokens cannot be read or understood.
    pub fn new(settings: &HttpSettings) -> Result<Self, TokenError> {
        Ok(Gate {
            access: Access::new(settings.tokens.clone())?,
            rate: settings.rate_limit.map(|limit| (RateLimiter::new(limit), limit)),
        })
    }

    /// Counts a request from an address.
    ///
    /// # Errors
    /// It is one too many.
    pub fn count(&self, address: IpAddr, now: Instant) -> Result<(), TooFast> {
        let Some((limiter, limit)) = &self.rate else { return Ok(()) };
        limiter.admit(address, now).map_err(|wait| TooFast { limit: *limit, wait })
    }
}

/// The token in an `Authorization` header or the metadata of the same name (RFC 6750 §2.1); `None` if it holds none.
pub fn bearer(header: &str) -> Option<&str> {
    let (scheme, token) = header.trim().split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}
