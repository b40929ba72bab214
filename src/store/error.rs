//! Store errors, their classification, and advice for users. Error messages never contain a password.

use std::{error::Error, fmt::Write};

use tonic::Code;

/// Error of a call to the store. Its message names the endpoint and the action, and contains the store's message and advice.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {action} failed: {words}{}", advice(*.kind, .words))]
pub struct StoreError {
    kind: StoreErrorKind,
    place: String,
    action: &'static str,
    words: String,
}

/// Class of an error. It determines whether and how the call is retried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreErrorKind {
    /// A setting or file is invalid. Settings and files are checked at startup and again before each connection.
    Configuration,
    /// The store could not be reached, or sent no valid response. It may have executed the call.
    Unreachable,
    /// The store does not accept the user, the password or the token.
    Unauthenticated,
    /// The user does not have permission to read or write these keys.
    PermissionDenied,
    /// The lease does not exist: it has expired, was revoked, or belongs to another store. Nothing was written.
    LeaseNotFound,
    /// The store rejects the request as invalid, for example because of its size. Nothing was written.
    Refused,
    /// The requested revision has been compacted.
    Compacted,
    /// The store is out of space or overloaded. Nothing was written.
    Exhausted,
    /// Any other error. The store may have executed the call.
    Other,
}

impl StoreErrorKind {
    fn advice(self) -> &'static str {
        match self {
            Self::Unreachable => " (is the store running and reachable? the agent keeps trying)",
            Self::Unauthenticated => " (check --etcd-user and its password)",
            Self::PermissionDenied => {
                " (grant a role of the etcd user, which --etcd-user or the client certificate names, readwrite access to this prefix: \
                 etcdctl role grant-permission --prefix)"
            }
            Self::LeaseNotFound => " (the agent obtains a new lease and publishes everything again)",
            Self::Exhausted => " (to free space in the store, compact and defragment it, then run `etcdctl alarm disarm`)",
            Self::Configuration | Self::Refused | Self::Compacted | Self::Other => "",
        }
    }

    /// Returns true if it is certain that the store has not executed the call and will not do so later.
    pub fn is_certain_refusal(self) -> bool {
        !matches!(self, Self::Unreachable | Self::Other)
    }
}

fn advice(kind: StoreErrorKind, words: &str) -> String {
    match connection_advice(words) {
        Some(advice) => format!(" ({advice}; the agent keeps trying)"),
        None => kind.advice().to_owned(),
    }
}

/// Returns advice on which settings to check if a connection to the store failed during or right after the TLS handshake. Returns `None` for any
/// other error.
///
/// `words` is the error message. It can contain the names of rustls errors. With TLS 1.3, the client completes the handshake before etcd checks the
/// client certificate, so a missing certificate looks like a closed connection.
pub fn connection_advice(words: &str) -> Option<&'static str> {
    if words.contains("UnknownIssuer") {
        return Some("name the CA that issued the certificate of the store with --etcd-ca");
    }
    let is_client_unknown = words.contains("CertificateRequired") || words.contains("BadCertificate");
    if is_client_unknown {
        return Some("the store requires a client certificate: name one that it accepts with --etcd-cert and --etcd-key");
    }
    let is_closed = words.contains("connection closed") || words.contains("broken pipe");
    is_closed.then_some(
        "the store closed the connection: check that it is running, that its address begins with https:// if it uses TLS, and that \
         --etcd-cert and --etcd-key name a client certificate if it requires one",
    )
}

impl StoreError {
    /// Returns the classification of the error.
    pub fn kind(&self) -> StoreErrorKind {
        self.kind
    }

    /// Returns the store's message.
    pub fn words(&self) -> &str {
        &self.words
    }

    pub(super) fn configuration(what: impl Into<String>, words: impl Into<String>) -> Self {
        Self {
            kind: StoreErrorKind::Configuration,
            place: what.into(),
            action: "checking it",
            words: words.into(),
        }
    }

    pub(crate) fn protocol(endpoint: &str, words: &str) -> Self {
        Self {
            kind: StoreErrorKind::Other,
            place: place(endpoint),
            action: "reading the response",
            words: words.to_owned(),
        }
    }

    pub(crate) fn lease_lost(endpoint: &str) -> Self {
        let words = "the lease has expired or was revoked".to_owned();
        Self {
            kind: StoreErrorKind::LeaseNotFound,
            place: place(endpoint),
            action: "renewing the lease",
            words,
        }
    }

    pub(super) fn from_client(endpoint: &str, action: &'static str, error: &etcd_client::Error) -> Self {
        match error {
            etcd_client::Error::GRpcStatus(status) => {
                let mut words = status.message().to_owned();
                append_causes(&mut words, status.source());
                Self::from_code(endpoint, action, status.code(), words)
            }
            etcd_client::Error::TransportError(error) => Self::from_code(endpoint, action, Code::Unavailable, with_causes(error)),
            etcd_client::Error::LeaseKeepAliveError(words) if words == "lease not found" => Self {
                kind: StoreErrorKind::LeaseNotFound,
                place: place(endpoint),
                action,
                words: words.clone(),
            },
            other => Self::from_code(endpoint, action, Code::Unknown, other.to_string()),
        }
    }

    pub(crate) fn from_code(endpoint: &str, action: &'static str, code: Code, words: String) -> Self {
        Self {
            kind: classify(code, &words),
            place: place(endpoint),
            action,
            words,
        }
    }
}

/// Classifies an error by its code and by the messages in etcd's `rpctypes/error.go`, because the code alone is ambiguous.
fn classify(code: Code, words: &str) -> StoreErrorKind {
    match code {
        Code::Unauthenticated => StoreErrorKind::Unauthenticated,
        Code::InvalidArgument if words.contains("authentication failed") => StoreErrorKind::Unauthenticated,
        Code::InvalidArgument if words.contains("user name is empty") => StoreErrorKind::Unauthenticated,
        // Users or roles have changed since etcd issued the token. The agent must authenticate again.
        Code::InvalidArgument if words.contains("revision of auth store is old") => StoreErrorKind::Unauthenticated,
        Code::PermissionDenied => StoreErrorKind::PermissionDenied,
        Code::NotFound if words.contains("lease not found") => StoreErrorKind::LeaseNotFound,
        Code::OutOfRange if words.contains("compacted") => StoreErrorKind::Compacted,
        Code::InvalidArgument => StoreErrorKind::Refused,
        Code::ResourceExhausted if words.contains("larger than max") => StoreErrorKind::Refused,
        Code::ResourceExhausted => StoreErrorKind::Exhausted,
        Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled | Code::Unknown => StoreErrorKind::Unreachable,
        _ => StoreErrorKind::Other,
    }
}

fn place(endpoint: &str) -> String {
    format!("store at {endpoint}")
}

/// Formats an error and its causes, without repetition.
///
/// The error alone often says too little. For example, the message of a transport error is only "transport error", and its cause is "connection
/// refused".
pub(super) fn with_causes(error: &dyn Error) -> String {
    let mut words = error.to_string();
    append_causes(&mut words, error.source());
    words
}

fn append_causes(words: &mut String, mut cause: Option<&(dyn Error + 'static)>) {
    while let Some(error) = cause {
        let text = error.to_string();
        if !words.contains(&text) {
            // Writing to a string cannot fail.
            let _ = write!(words, ": {text}");
        }
        cause = error.source();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_of_tls_are_named_in_the_advice() {
        for (words, option) in [
            ("invalid peer certificate: UnknownIssuer", "--etcd-ca"),
            ("received fatal alert: CertificateRequired", "--etcd-cert"),
            ("received fatal alert: BadCertificate", "--etcd-cert"),
            ("stream closed because of a broken pipe", "https://"),
        ] {
            let error = StoreError::from_code("https://10.0.0.1:2379", "reading", Code::Unavailable, words.to_owned());
            assert!(error.to_string().contains(option), "{error}");
        }
        let refused = StoreError::from_code(
            "http://10.0.0.1:2379",
            "reading",
            Code::Unavailable,
            "connection refused".to_owned(),
        );
        assert!(refused.to_string().contains("running and reachable"), "{refused}");
    }

    #[test]
    fn errors_are_classified_by_the_message_of_etcd() {
        for (code, words, kind) in [
            (
                Code::NotFound,
                "etcdserver: requested lease not found",
                StoreErrorKind::LeaseNotFound,
            ),
            (
                Code::OutOfRange,
                "etcdserver: mvcc: required revision has been compacted",
                StoreErrorKind::Compacted,
            ),
            (Code::InvalidArgument, "etcdserver: request is too large", StoreErrorKind::Refused),
            (
                Code::InvalidArgument,
                "etcdserver: authentication failed, invalid user ID or password",
                StoreErrorKind::Unauthenticated,
            ),
            (Code::Unknown, "h2 protocol error", StoreErrorKind::Unreachable),
            (
                Code::ResourceExhausted,
                "etcdserver: mvcc: database space exceeded",
                StoreErrorKind::Exhausted,
            ),
        ] {
            assert_eq!(classify(code, words), kind, "{words}");
        }
    }

    #[test]
    fn message_names_endpoint_action_reason_and_remedy() {
        let error = StoreError::from_code(
            "http://a:1",
            "listing keys",
            Code::PermissionDenied,
            "etcdserver: permission denied".to_owned(),
        );
        let text = error.to_string();
        for part in [
            "http://a:1",
            "listing keys",
            "etcdserver: permission denied",
            "etcdctl role grant-permission",
        ] {
            assert!(text.contains(part), "{text}");
        }
    }
}
