//! Accept loop, TLS and time limits shared by all of the agent's servers.
//!
//! A [`Listener`] accepts connections and hands them to a [`Protocol`], which reads the requests. Each step that a client takes has a time
//! limit ([`Limits`]), so a client occupies a connection only while it makes progress. The number of connections is also limited.
//! Connections above the limit are closed. Without TLS, the client receives an error message first.

mod activity;
pub mod connection_state;
pub mod refusal;
mod stream;

use std::{
    future::Future,
    io,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    task::{JoinHandle, JoinSet},
    time::{sleep, timeout},
};
use tokio_rustls::{TlsAcceptor, rustls::ServerConfig};
use tracing::{debug, warn};

pub use self::{
    activity::{Activity, Busy},
    stream::{Prefixed, TimeLimited},
};

/// Maximum time to wait for open connections to finish their requests when the agent stops.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);
/// Maximum number of rejected clients (above the connection limit) to which an error message is sent at the same time.
///
/// The connections of further clients are closed without an error message.
const REFUSALS_MAX: usize = 32;
/// Pause after a failed accept, for example if the process has run out of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Minimum interval between log messages about failed accepts.
const ACCEPT_LOG_INTERVAL: Duration = Duration::from_secs(60);
/// First byte of a TLS handshake record (RFC 8446 §5.1).
const TLS_HANDSHAKE: u8 = 22;

/// Limits on the number of connections, on message sizes, and on the time that a client may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Maximum number of concurrent connections.
    pub connections_max: usize,
    /// Maximum size of a body or message, in bytes.
    pub body_max: usize,
    /// Time limit for one step of a client: the TLS handshake, or the headers of a request.
    pub step: Duration,
}

impl Limits {
    /// Returns the time limit for an entire request body.
    pub fn body(&self) -> Duration {
        3 * self.step
    }

    /// Returns the time after which a client that does not read its response is disconnected.
    pub fn stall(&self) -> Duration {
        3 * self.step
    }

    /// Returns the time after which a connection without requests is closed, if the protocol supports idle detection.
    pub fn idle(&self) -> Duration {
        6 * self.step
    }
}

/// The application protocol of a connection.
pub trait Protocol: Clone + Send + Sync + 'static {
    /// Protocol name for log messages.
    const NAME: &'static str;
    /// Error message for clients above the connection limit.
    const TOO_MANY: &'static str = "too many connections; close some, or raise --http-connections-max";

    /// Serves a connection until it ends. Once `stop` becomes true, requests in flight can still finish, but no new ones are
    /// accepted.
    fn serve<S>(self, stream: TimeLimited<S>, peer: SocketAddr, stop: watch::Receiver<bool>) -> impl Future<Output = ()> + Send
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// Encodes an error for a client that is rejected. `beginning` contains the first bytes that the client sent.
    fn refusal(&self, beginning: &[u8], status: &str, words: &str) -> Vec<u8>;
}

/// Accept loop of a server. Serves each connection in its own task.
pub struct Listener<P> {
    /// Listening socket.
    pub socket: TcpListener,
    /// TLS configuration; `None` for plain text.
    pub tls: Option<Arc<ServerConfig>>,
    /// Protocol that serves the connections.
    pub protocol: P,
    /// Limits on message sizes, connections and the time that a client may take.
    pub limits: Limits,
    /// Value that becomes true when the listener must stop.
    pub stop: watch::Receiver<bool>,
}

impl<P: Protocol> Listener<P> {
    /// Serves until `stop` becomes true. Open connections then have a short time to finish their requests.
    pub async fn run(mut self) {
        let places = Arc::new(Semaphore::new(self.limits.connections_max.min(Semaphore::MAX_PERMITS)));
        let refusals = Arc::new(Semaphore::new(REFUSALS_MAX));
        let mut connections = JoinSet::new();
        let mut failures = AcceptFailures::default();
        loop {
            let accepted = tokio::select! {
                accepted = self.socket.accept() => accepted,
                Some(_) = connections.join_next() => continue,
                _ = self.stop.wait_for(|stop| *stop) => break,
            };
            let (stream, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    failures.report(P::NAME, &error);
                    sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            match places.clone().try_acquire_owned() {
                Ok(place) => drop(connections.spawn(self.connection(stream, peer, place))),
                Err(_) => {
                    debug!(%peer, "{}: connection refused: too many connections", P::NAME);
                    // With TLS, sending the error would require a handshake first.
                    if let (None, Ok(place)) = (&self.tls, refusals.clone().try_acquire_owned()) {
                        connections.spawn(self.too_many(stream, place));
                    }
                }
            }
        }
        drop(self.socket);
        let finished = timeout(DRAIN_TIMEOUT, async { while connections.join_next().await.is_some() {} });
        if finished.await.is_err() {
            connections.shutdown().await;
        }
    }

    fn connection(&self, stream: TcpStream, peer: SocketAddr, place: OwnedSemaphorePermit) -> impl Future<Output = ()> + use<P> {
        let (tls, protocol, limits, stop) = (self.tls.clone(), self.protocol.clone(), self.limits, self.stop.clone());
        async move {
            // Each response is written in one piece, so Nagle's algorithm would only delay it.
            let _ = stream.set_nodelay(true);
            match tls {
                None => protocol.serve(TimeLimited::new(stream, limits.stall()), peer, stop).await,
                Some(config) => match timeout(limits.step, handshake(&protocol, config, stream)).await {
                    Ok(Ok(stream)) => protocol.serve(TimeLimited::new(stream, limits.stall()), peer, stop).await,
                    Ok(Err(error)) => debug!(%peer, "{}: TLS handshake: {error}", P::NAME),
                    Err(_) => debug!(%peer, "{}: TLS handshake timed out", P::NAME),
                },
            }
            drop(place);
        }
    }

    fn too_many(&self, stream: TcpStream, place: OwnedSemaphorePermit) -> impl Future<Output = ()> + use<P> {
        let protocol = self.protocol.clone();
        async move {
            refusal::tell(stream, &protocol.refusal(&[], "503 Service Unavailable", P::TOO_MANY)).await;
            drop(place);
        }
    }
}

/// Limits how often failed accepts are logged. Counts the failures since the last log message.
#[derive(Default)]
struct AcceptFailures {
    logged: Option<Instant>,
    unlogged: u64,
}

impl AcceptFailures {
    /// Logs a failure, unless another one was logged recently.
    fn report(&mut self, name: &str, error: &io::Error) {
        if self.is_due(Instant::now()) {
            let earlier = std::mem::take(&mut self.unlogged);
            warn!(
                earlier,
                "{name}: cannot accept a connection: {error}; raise LimitNOFILE= of the service, or ulimit -n"
            );
        }
    }

    fn is_due(&mut self, now: Instant) -> bool {
        let due = self.logged.is_none_or(|logged| now.duration_since(logged) >= ACCEPT_LOG_INTERVAL);
        if due {
            self.logged = Some(now);
        } else {
            self.unlogged += 1;
        }
        due
    }
}

type TlsStream = tokio_rustls::server::TlsStream<TcpStream>;

/// Performs the TLS handshake. A client that does not use TLS receives a plain-text error, which contains nothing confidential.
async fn handshake<P: Protocol>(protocol: &P, config: Arc<ServerConfig>, stream: TcpStream) -> io::Result<TlsStream> {
    let mut beginning = [0; 4];
    let length = stream.peek(&mut beginning).await?;
    let beginning = &beginning[..length];
    if beginning.first().is_some_and(|first| *first != TLS_HANDSHAKE) {
        let words = "this port requires TLS; use https (the netns-agent command needs --tls, or --ca with the agent's CA certificate)";
        refusal::tell(stream, &protocol.refusal(beginning, "400 Bad Request", words)).await;
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the client does not speak TLS"));
    }
    match TlsAcceptor::from(config).accept(stream).into_fallible().await {
        Ok(stream) => Ok(stream),
        Err((error, stream)) => {
            // Closing a socket with unread data would reset the connection, and the client would not receive the TLS alert with
            // the reason.
            refusal::tell(stream, &[]).await;
            Err(error)
        }
    }
}

/// A running listener. Dropping it aborts the listener immediately.
pub struct Serving {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Serving {
    /// Starts a listener. `stop` must be the sending half of the channel in [`Listener::stop`].
    pub fn start<P: Protocol>(listener: Listener<P>, stop: watch::Sender<bool>) -> io::Result<Self> {
        let address = listener.socket.local_addr()?;
        let task = tokio::spawn(listener.run());
        Ok(Serving { address, stop, task })
    }

    /// Returns the address on which the listener accepts connections.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops accepting requests, and gives those in flight a short time to finish.
    pub async fn shutdown(mut self) {
        self.stop.send_replace(true);
        // An error only means that the task was cancelled. The task has ended in either case.
        let _ = (&mut self.task).await;
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failed_accepts_are_logged_once_a_minute() {
        let (mut failures, start) = (AcceptFailures::default(), Instant::now());
        let logged: Vec<u32> = (0..1200_u32).filter(|tick| failures.is_due(start + *tick * ACCEPT_PAUSE)).collect();
        assert_eq!(logged, [0, 600]);
        assert_eq!(failures.unlogged, 1198);
    }
}

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadMe;
