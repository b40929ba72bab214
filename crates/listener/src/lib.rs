//! Connections of every server of the agent: accepting them, their TLS and time limits, and their end.
//!
//! Owns the sockets, and the accept loop that all listeners of the agent share. Must never look into a request: what is spoken is up to
//! the [`Protocol`]. Start reading at [`Listener::run`].
//!
//! A client costs a connection only for as long as it makes progress: each step that is its turn has a time limit ([`Limits`]). There
//! is a largest number of connections; one more is told so and closed.

mod activity;
pub mod course;
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
    stream::{Impatient, Prefixed},
};

/// How long connections may take to finish what they are doing when the agent stops.
const FAREWELL: Duration = Duration::from_secs(2);
/// How many connections above the largest number are told why they are closed.
const REFUSALS_MAX: usize = 32;
/// After a failed accept, such as for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Failed accepts are logged at most so often.
const ACCEPT_LOG_INTERVAL: Duration = Duration::from_secs(60);
/// The first byte of a TLS record with a handshake (RFC 8446 §5.1).
const TLS_HANDSHAKE: u8 = 22;

/// How long a client may take, and how many there may be.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Most connections at a time.
    pub connections_max: usize,
    /// Longest body or message in bytes.
    pub body_max: usize,
    /// For a step: a handshake, the headers of a request.
    pub step: Duration,
}

impl Limits {
    /// For the whole body of a request.
    pub fn body(&self) -> Duration {
        3 * self.step
    }

    /// A client that takes nothing of its answer for so long is not waited for.
    pub fn stall(&self) -> Duration {
        3 * self.step
    }

    /// A connection on which nothing is asked for so long is closed, where the protocol knows such a thing.
    pub fn idle(&self) -> Duration {
        6 * self.step
    }
}

/// What is spoken on a connection.
pub trait Protocol: Clone + Send + Sync + 'static {
    /// For the log.
    const NAME: &'static str;
    /// What a client above the largest number of connections is told.
    const TOO_MANY: &'static str = "too many connections; close some, or see --http-connections-max";

    /// Serves a connection to its end. When `stop` becomes true, what is under way may be finished, and nothing more.
    fn serve<S>(self, stream: Impatient<S>, peer: SocketAddr, stop: watch::Receiver<bool>) -> impl Future<Output = ()> + Send
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// How somebody who begins with these bytes is told why nothing is done for them.
    fn refusal(&self, beginning: &[u8], status: &str, words: &str) -> Vec<u8>;
}

/// Accepts connections and serves them.
pub struct Listener<P> {
    /// The socket.
    pub socket: TcpListener,
    /// TLS, if there is any.
    pub tls: Option<Arc<ServerConfig>>,
    /// What answers.
    pub protocol: P,
    /// How much a client may take.
    pub limits: Limits,
    /// Becomes true when all is to end.
    pub stop: watch::Receiver<bool>,
}

impl<P: Protocol> Listener<P> {
    /// Serves until told to stop; then lets what is under way finish, for a short time.
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
                    debug!(%peer, "{}: refused, there are too many connections", P::NAME);
                    // Over TLS it would take a handshake to say so.
                    if let (None, Ok(place)) = (&self.tls, refusals.clone().try_acquire_owned()) {
                        connections.spawn(self.too_many(stream, place));
                    }
                }
            }
        }
        drop(self.socket);
        let finished = timeout(FAREWELL, async { while connections.join_next().await.is_some() {} });
        if finished.await.is_err() {
            connections.shutdown().await;
        }
    }

    fn connection(&self, stream: TcpStream, peer: SocketAddr, place: OwnedSemaphorePermit) -> impl Future<Output = ()> + use<P> {
        let (tls, protocol, limits, stop) = (self.tls.clone(), self.protocol.clone(), self.limits, self.stop.clone());
        async move {
            // Answers are written at once and whole.
            let _ = stream.set_nodelay(true);
            match tls {
                None => protocol.serve(Impatient::new(stream, limits.stall()), peer, stop).await,
                Some(config) => match timeout(limits.step, handshake(&protocol, config, stream)).await {
                    Ok(Ok(stream)) => protocol.serve(Impatient::new(stream, limits.stall()), peer, stop).await,
                    Ok(Err(error)) => debug!(%peer, "{}: TLS handshake: {error}", P::NAME),
                    Err(_) => debug!(%peer, "{}: the TLS handshake took too long", P::NAME),
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

/// Failed accepts since the last line in the log.
#[derive(Default)]
struct AcceptFailures {
    logged: Option<Instant>,
    unlogged: u64,
}

impl AcceptFailures {
    /// Logs a failure, unless one was logged a short time ago.
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

/// Somebody who does not speak TLS is told so in the clear; there is nothing to hide in that.
async fn handshake<P: Protocol>(protocol: &P, config: Arc<ServerConfig>, stream: TcpStream) -> io::Result<TlsStream> {
    let mut beginning = [0; 4];
    let length = stream.peek(&mut beginning).await?;
    let beginning = &beginning[..length];
    if beginning.first().is_some_and(|first| *first != TLS_HANDSHAKE) {
        let words = "this port speaks TLS; say https (to netns-agent: --tls, or --ca with its authority)";
        refusal::tell(stream, &protocol.refusal(beginning, "400 Bad Request", words)).await;
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the client does not speak TLS"));
    }
    match TlsAcceptor::from(config).accept(stream).into_fallible().await {
        Ok(stream) => Ok(stream),
        Err((error, stream)) => {
            // The alert that says why is on its way; closing with unread data would take it back.
            refusal::tell(stream, &[]).await;
            Err(error)
        }
    }
}

/// A running listener. Dropping it ends it at once.
pub struct Serving {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Serving {
    /// Runs a listener; `stop` is where it is told to end.
    pub fn start<P: Protocol>(listener: Listener<P>, stop: watch::Sender<bool>) -> io::Result<Self> {
        let address = listener.socket.local_addr()?;
        let task = tokio::spawn(listener.run());
        Ok(Serving { address, stop, task })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes no further requests, and lets those under way finish for a short time.
    pub async fn shutdown(mut self) {
        self.stop.send_replace(true);
        // It was cancelled if this fails, and has ended, too.
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
