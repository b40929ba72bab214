//! Sessions with the store, which is an etcd v3 API server: endpoints, TLS, authentication, timeouts and errors.
//!
//! A [`Session`] uses exactly one endpoint, because the etcd client's load balancing keeps sending calls to dead endpoints. If an endpoint
//! fails, the [`Connector`] tries the next one. Passwords are never printed.

use std::{fmt, future::Future, path::PathBuf, time::Duration};

use etcd_client::{
    Certificate, Client, ConnectOptions, GetOptions, Identity, KeyValue, KvClient, LeaseClient, TlsOptions, WatchClient, WatchFilterType,
    WatchOptions, WatchStream,
};
use tonic::Code;

mod error;
mod renewal;

pub use error::{StoreError, StoreErrorKind, connection_advice};
pub use renewal::Renewal;

/// HTTP/2 ping interval. Without pings, the client would not notice a frozen server that keeps its connection open.
///
/// The interval must be longer than etcd's `--grpc-keepalive-min-time` (5 s by default), because etcd closes an idle connection on which pings
/// arrive more often. With a ping every second, etcd would close the connection of an idle watch every four seconds.
const PING_INTERVAL: Duration = Duration::from_secs(6);
/// Timeout for the response to a ping, after which the connection is considered broken.
const PING_TIMEOUT: Duration = Duration::from_secs(2);
/// Timeout for connecting to an endpoint, including the TLS handshake.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Timeout for unary calls. Pings detect a frozen server earlier; this timeout catches servers that respond only to pings.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// Maximum response size in bytes. The client's default of 4 MiB is too small for a page of large values.
const MESSAGE_SIZE_MAX: usize = 1 << 30;
/// Maximum number of keys in one page of a listing.
const PAGE_KEYS: i64 = 1_000;

/// Store addresses and connection settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreConfig {
    /// Endpoints in the order in which they are tried: `http://host:port`, `https://host:port` or `host:port` (https if `tls` is set).
    pub endpoints: Vec<String>,
    /// Certificate files, required for https endpoints.
    pub tls: Option<TlsFiles>,
    /// User and password, if authentication is enabled in the store.
    pub credentials: Option<Credentials>,
}

impl StoreConfig {
    /// Creates a configuration without TLS or authentication, for loopback connections and tests.
    pub fn plain<I: IntoIterator<Item = S>, S: Into<String>>(endpoints: I) -> Self {
        Self {
            endpoints: endpoints.into_iter().map(Into::into).collect(),
            tls: None,
            credentials: None,
        }
    }
}

/// PEM files for TLS. They are read again for each connection, so renewed certificates take effect without a restart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// Certificates of the authorities (CAs) that are trusted to sign the server's certificate.
    pub ca: PathBuf,
    /// Client certificate and its private key; needed only if the server requests a client certificate.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// User and password for the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// Name of the etcd user.
    pub user: String,
    /// Password of the etcd user.
    pub password: Password,
}

/// A password. It does not implement `Display`, and `Debug` does not show it, so it cannot be logged by accident.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(String);

impl Password {
    /// Creates a password from clear text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Returns the password in clear text. Must only be used for the authentication call.
    fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

/// Connector that opens sessions with the store and tries the endpoints in turn.
#[derive(Debug)]
pub struct Connector {
    config: StoreConfig,
    next: usize,
}

impl Connector {
    /// Creates a connector and checks its configuration without using the network.
    ///
    /// There must be at least one endpoint, all endpoints must be valid, and the TLS files must be readable.
    ///
    /// # Errors
    /// Fails with [`StoreErrorKind::Configuration`] if a check fails. The message names the endpoint or file.
    pub fn new(config: StoreConfig) -> Result<Self, StoreError> {
        if config.endpoints.is_empty() {
            return Err(StoreError::configuration(
                "the list of etcd endpoints",
                "the list is empty; specify at least one endpoint, for example http://host:2379",
            ));
        }
        let tls = read_tls(config.tls.as_ref())?;
        for endpoint in &config.endpoints {
            let url = endpoint_url(endpoint, tls.is_some())?;
            check_endpoint(&url, tls.as_ref())?;
        }
        Ok(Self { config, next: 0 })
    }

    /// Connects to the first endpoint that responds to a read of the key `probe`. The user must have permission to read this key.
    ///
    /// Tries each endpoint once, beginning with the current one. Callers that retry must wait between two calls.
    ///
    /// # Errors
    /// Fails if no endpoint responds. The error is that of the last endpoint that was tried.
    pub async fn connect(&mut self, probe: &[u8]) -> Result<Session, StoreError> {
        let count = self.config.endpoints.len();
        let mut last = None;
        for _ in 0..count {
            match self.connect_one(self.next, probe).await {
                Ok(session) => return Ok(session),
                Err(error) => {
                    tracing::debug!(%error, "store endpoint does not respond");
                    last = Some(error);
                    self.skip();
                }
            }
        }
        Err(last.unwrap_or_else(|| StoreError::configuration("the list of etcd endpoints", "it is empty")))
    }

    /// Moves on to the next endpoint. Call this when a session with the current endpoint has failed.
    pub fn skip(&mut self) {
        self.next = (self.next + 1) % self.config.endpoints.len().max(1);
    }

    async fn connect_one(&self, index: usize, probe: &[u8]) -> Result<Session, StoreError> {
        let tls = read_tls(self.config.tls.as_ref())?;
        let url = endpoint_url(&self.config.endpoints[index], tls.is_some())?;
        let mut options = ConnectOptions::new()
            // Pings are sent only while a stream (watch, lease) is open, because etcd regards pings on a connection without streams as an attack.
            .with_keep_alive(PING_INTERVAL, PING_TIMEOUT)
            .with_keep_alive_while_idle(false)
            .with_connect_timeout(CONNECT_TIMEOUT)
            // Without this option, watches on a cluster member without a leader would stay open but never report a change.
            .with_require_leader(true);
        if let Some(credentials) = &self.config.credentials {
            options = options
                .with_user(&credentials.user, credentials.password.expose())
                .with_auto_token_refresh(true);
        }
        if let Some(tls) = tls.filter(|_| url.starts_with("https://")) {
            options = options.with_tls(tls);
        }
        let client = bounded(&url, "connecting and authenticating", Client::connect([&url], Some(options))).await?;
        let session = Session {
            place: Place(url.into()),
            client,
        };
        // The client connects lazily, so only a successful call shows that the store is reachable.
        let mut kv = session.kv();
        session
            .call("reading", kv.get(probe, Some(GetOptions::new().with_limit(1).with_keys_only())))
            .await?;
        Ok(session)
    }
}

/// Connection to one store endpoint that has responded at least once.
pub struct Session {
    place: Place,
    client: Client,
}

/// Owned copy of a session's endpoint, for calls that cannot borrow the [`Session`].
#[derive(Clone, Debug)]
pub struct Place(std::sync::Arc<str>);

impl Place {
    /// Runs a call to the store with a timeout, like [`Session::call`].
    ///
    /// # Errors
    /// Returns the errors of [`Session::call`].
    pub async fn call<T>(&self, action: &'static str, call: impl Future<Output = Result<T, etcd_client::Error>>) -> Result<T, StoreError> {
        bounded(&self.0, action, call).await
    }
}

/// All keys with a prefix at one store revision.
pub struct Listing {
    /// Store revision at which all keys were read.
    pub revision: i64,
    /// Cluster ID in the response header. 0 if the server does not report one, and always 0 in a listing at a given revision.
    pub cluster_id: u64,
    /// The keys, in ascending order.
    pub items: Vec<KeyValue>,
}

impl Session {
    /// Returns the endpoint URL.
    pub fn endpoint(&self) -> &str {
        &self.place.0
    }

    /// Returns an owned copy of the endpoint.
    pub fn place(&self) -> Place {
        self.place.clone()
    }

    /// Returns a client for reading and writing keys. It accepts large responses.
    pub fn kv(&self) -> KvClient {
        self.client.kv_client().max_decoding_message_size(MESSAGE_SIZE_MAX)
    }

    /// Returns a client for leases.
    pub fn lease(&self) -> LeaseClient {
        self.client.lease_client()
    }

    /// Runs a call to the store with a timeout. Errors name the endpoint and `action`.
    ///
    /// # Errors
    /// Fails with the server's error, or with [`StoreErrorKind::Unreachable`] if there is no response in time.
    pub async fn call<T>(&self, action: &'static str, call: impl Future<Output = Result<T, etcd_client::Error>>) -> Result<T, StoreError> {
        self.place.call(action, call).await
    }

    /// Revokes a lease, which deletes its keys. Also succeeds if the lease no longer exists.
    ///
    /// # Errors
    /// Returns the errors of [`Session::call`].
    pub async fn revoke(&self, lease: i64) -> Result<(), StoreError> {
        match self.call("revoking a lease", self.lease().revoke(lease)).await {
            Err(error) if error.kind() != StoreErrorKind::LeaseNotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Converts an error of one of this session's streams (watch or lease keep-alive) to a [`StoreError`].
    pub fn stream_error(&self, action: &'static str, error: &etcd_client::Error) -> StoreError {
        StoreError::from_client(self.endpoint(), action, error)
    }

    /// Lists the keys under `prefix` in pages, all at the revision of the first page.
    ///
    /// # Errors
    /// Returns the errors of [`Session::call`]. Also fails if the revision is compacted between two pages; the caller should then
    /// list again.
    pub async fn list(&self, prefix: &[u8], keys_only: bool) -> Result<Listing, StoreError> {
        self.list_at(prefix, keys_only, 0).await
    }

    /// Like [`Session::list`], but at a given revision.
    ///
    /// # Errors
    /// Returns the errors of [`Session::list`], and [`StoreErrorKind::Compacted`] if the revision is no longer available.
    pub async fn list_at(&self, prefix: &[u8], keys_only: bool, revision: i64) -> Result<Listing, StoreError> {
        let mut kv = self.kv();
        let end = prefix_end(prefix);
        let mut from = prefix.to_vec();
        let mut listing = Listing {
            revision,
            cluster_id: 0,
            items: Vec::new(),
        };
        loop {
            let mut options = GetOptions::new()
                .with_range(end.clone())
                .with_limit(PAGE_KEYS)
                .with_revision(listing.revision);
            if keys_only {
                options = options.with_keys_only();
            }
            let mut page = self.call("listing keys", kv.get(from, Some(options))).await?;
            if listing.revision == 0 {
                let header = page
                    .header()
                    .ok_or_else(|| StoreError::protocol(self.endpoint(), "the response has no header"))?;
                listing.revision = header.revision();
                listing.cluster_id = header.cluster_id();
            }
            let more = page.more();
            let items = page.take_kvs();
            let last = items.last().map(|item| item.key().to_vec());
            listing.items.extend(items);
            match last {
                Some(key) if more => from = successor(key),
                _ => return Ok(listing),
            }
        }
    }

    /// Opens a watch on all keys with `prefix`, starting at `revision` (inclusive).
    ///
    /// # Errors
    /// Returns the errors of [`Session::call`].
    pub async fn watch(&self, prefix: &[u8], revision: i64) -> Result<WatchStream, StoreError> {
        self.open_watch(prefix, revision, WatchOptions::new()).await
    }

    /// Like [`Session::watch`], but reports deletions only.
    ///
    /// # Errors
    /// Returns the errors of [`Session::call`].
    pub async fn watch_deletions(&self, prefix: &[u8], revision: i64) -> Result<WatchStream, StoreError> {
        let options = WatchOptions::new().with_filters([WatchFilterType::NoPut]);
        self.open_watch(prefix, revision, options).await
    }

    async fn open_watch(&self, prefix: &[u8], revision: i64, options: WatchOptions) -> Result<WatchStream, StoreError> {
        let mut client: WatchClient = self.client.watch_client().max_decoding_message_size(MESSAGE_SIZE_MAX);
        let options = options.with_range(prefix_end(prefix)).with_start_revision(revision);
        self.call("opening a watch", client.watch(prefix, Some(options))).await
    }
}

/// Delay before the next attempt to connect: 100 ms at first, then doubled after each failure, up to 5 s.
#[derive(Debug)]
pub struct Backoff {
    next: Duration,
}

impl Backoff {
    const FIRST: Duration = Duration::from_millis(100);
    const LAST: Duration = Duration::from_secs(5);
    const FLAPPING: Duration = Duration::from_millis(400);

    /// Creates a back-off that starts at 100 ms.
    pub fn new() -> Self {
        Self { next: Self::FIRST }
    }

    /// Returns the delay before the next attempt. `worked` is how long the last session worked, or zero if it was never established.
    ///
    /// After a session that worked for more than a second, the delay starts at 100 ms again. After a shorter session, the delay
    /// is at most [`Self::FLAPPING`]. That is long enough not to overload the store with listings, and short enough to recover
    /// quickly on a flapping network.
    pub fn after(&mut self, worked: Duration) -> Duration {
        if worked > Duration::from_secs(1) {
            self.next = Self::FIRST;
        } else if !worked.is_zero() {
            self.next = self.next.min(Self::FLAPPING);
        }
        let delay = self.next;
        self.next = (delay * 2).min(Self::LAST);
        delay
    }
}

impl Default for Backoff {
    fn default() -> Self {
        Self::new()
    }
}

async fn bounded<T>(
    endpoint: &str,
    action: &'static str,
    call: impl Future<Output = Result<T, etcd_client::Error>>,
) -> Result<T, StoreError> {
    match tokio::time::timeout(CALL_TIMEOUT, call).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(StoreError::from_client(endpoint, action, &error)),
        Err(_) => Err(StoreError::from_code(
            endpoint,
            action,
            Code::DeadlineExceeded,
            "no response within 10 s".to_owned(),
        )),
    }
}

/// Returns the first key after all keys with `prefix`. `\0` means "to the end" (see `range_end` in etcd's `rpc.proto`).
fn prefix_end(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < 0xff {
            end.push(last + 1);
            return end;
        }
    }
    vec![0]
}

/// Returns the smallest key greater than `key`.
fn successor(mut key: Vec<u8>) -> Vec<u8> {
    key.push(0);
    key
}

fn endpoint_url(endpoint: &str, tls: bool) -> Result<String, StoreError> {
    let endpoint = endpoint.trim();
    let url = match endpoint.split_once("://") {
        Some(("http" | "https", _)) => endpoint.to_owned(),
        Some(_) => {
            return Err(StoreError::configuration(
                format!("etcd endpoint {endpoint:?}"),
                "only http:// and https:// are supported",
            ));
        }
        None if tls => format!("https://{endpoint}"),
        None => format!("http://{endpoint}"),
    };
    if url.starts_with("https://") && !tls {
        return Err(StoreError::configuration(
            format!("etcd endpoint {endpoint:?}"),
            "https requires a CA certificate file (--etcd-ca); for a public CA, use /etc/ssl/certs/ca-certificates.crt",
        ));
    }
    Ok(url)
}

fn check_endpoint(url: &str, tls: Option<&TlsOptions>) -> Result<(), StoreError> {
    let wrong = |words: &dyn fmt::Display| {
        StoreError::configuration(
            format!("etcd endpoint {url:?}"),
            format!("{words}; write the endpoint as http://host:2379"),
        )
    };
    let endpoint = tonic::transport::Endpoint::from_shared(url.to_owned()).map_err(|e| wrong(&e))?;
    let uri = endpoint.uri();
    if uri.host().is_none_or(str::is_empty) || uri.port_u16().is_none() {
        return Err(wrong(&"host or port is missing"));
    }
    if !matches!(uri.path(), "" | "/") || uri.query().is_some() || uri.authority().is_some_and(|a| a.as_str().contains('@')) {
        return Err(wrong(&"only scheme, host and port are allowed"));
    }
    if let Some(tls) = tls.filter(|_| url.starts_with("https://")) {
        endpoint.tls_config(tls.clone()).map_err(|e| wrong(&error::with_causes(&e)))?;
    }
    Ok(())
}

fn read_tls(files: Option<&TlsFiles>) -> Result<Option<TlsOptions>, StoreError> {
    let Some(files) = files else { return Ok(None) };
    let mut tls = TlsOptions::new().ca_certificate(Certificate::from_pem(read_pem(&files.ca, "CERTIFICATE")?));
    if let Some((certificate, key)) = &files.identity {
        tls = tls.identity(Identity::from_pem(
            read_pem(certificate, "CERTIFICATE")?,
            read_pem(key, "PRIVATE KEY")?,
        ));
    }
    Ok(Some(tls))
}

fn read_pem(path: &PathBuf, label: &str) -> Result<Vec<u8>, StoreError> {
    let what = || format!("TLS file {}", path.display());
    let text = std::fs::read(path).map_err(|error| StoreError::configuration(what(), error.to_string()))?;
    let is_label = |line: &[u8]| line.starts_with(b"-----BEGIN ") && line.windows(label.len()).any(|part| part == label.as_bytes());
    if !text.split(|&byte| byte == b'\n').any(is_label) {
        return Err(StoreError::configuration(
            what(),
            format!("the file contains no PEM block \"{label}\""),
        ));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefix_end_is_the_next_sibling() {
        assert_eq!(prefix_end(b"/a/"), b"/a0");
        assert_eq!(prefix_end(b"a\xff\xff"), b"b");
        assert_eq!(prefix_end(b"\xff"), b"\0");
        assert_eq!(prefix_end(b""), b"\0");
    }

    #[test]
    fn backoff_doubles_up_to_five_seconds_and_resets_after_a_working_session() {
        let mut backoff = Backoff::new();
        let delays: Vec<u64> = (0..8).map(|_| backoff.after(Duration::ZERO).as_millis() as u64).collect();
        assert_eq!(delays, [100, 200, 400, 800, 1600, 3200, 5000, 5000]);
        assert_eq!(backoff.after(Duration::from_millis(5)), Duration::from_millis(400));
        assert_eq!(backoff.after(Duration::from_millis(1_001)), Duration::from_millis(100));
    }

    #[test]
    fn invalid_endpoints_are_refused_before_connecting() {
        for (endpoint, words) in [
            ("ftp://a:1", "only http:// and https://"),
            ("https://a:2379", "--etcd-ca"),
            ("a", "port is missing"),
            ("http://a:1/x", "only scheme, host and port"),
            ("", "write the endpoint as http://host:2379"),
            ("http://user:pw@a:1", "only scheme, host and port"),
        ] {
            let error = Connector::new(StoreConfig::plain([endpoint])).expect_err(endpoint);
            assert!(error.to_string().contains(words), "{endpoint}: {error}");
            assert_eq!(error.kind(), StoreErrorKind::Configuration);
        }
        Connector::new(StoreConfig::plain(["127.0.0.1:2379", "http://[::1]:2379"])).expect("both endpoints must be valid");
        Connector::new(StoreConfig::plain(Vec::<String>::new())).expect_err("an empty list must be refused");
    }

    #[test]
    fn debug_output_hides_the_password() {
        let credentials = Credentials {
            user: "agent".into(),
            password: Password::new("s3cret"),
        };
        assert!(!format!("{credentials:?}").contains("s3cret"));
    }
}
