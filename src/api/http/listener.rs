//! Connections: accepting them, their TLS and time limits, and their end.
//!
//! Owns the sockets. Must never look into a request. Start reading at [`Listener::run`].
//!
//! A client costs a connection only for as long as it makes progress: the handshake, the headers of a request and each piece of an
//! answer have a time limit. (The body of a request has one, too: see `guard`.) There is a largest number of connections; one more is
//! told so and closed.

use std::{
    future::Future,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::{Router, body::Body};
use hyper::{Request, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    task::JoinSet,
    time::{Sleep, sleep, timeout},
};
use tokio_rustls::{TlsAcceptor, rustls::ServerConfig};
use tower::Service;
use tracing::{debug, warn};

/// For the TLS handshake.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(5);
/// For the line and the headers of a request, from the moment when the connection is free for it.
const HEADER_LIMIT: Duration = Duration::from_secs(10);
/// A client that takes nothing of its answer for so long is not waited for.
const STALL_LIMIT: Duration = Duration::from_secs(30);
/// Most bytes of a request's line and headers, and of what is buffered of a body.
const BUFFER_BYTES: usize = 64 * 1024;
/// How long connections may take to finish what they are doing when the agent stops.
const FAREWELL: Duration = Duration::from_secs(2);
/// How many connections above the largest number are told why they are closed, and how long that may take.
const REFUSALS_MAX: usize = 32;
const REFUSAL_LIMIT: Duration = Duration::from_secs(1);
/// After a failed accept, such as for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What a connection that is one too many is told.
const REFUSAL: &str = concat!(
    "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nconnection: close\r\nretry-after: 1\r\n\r\n",
    "{\"Error\":\"too many connections; close some, or see --http-connections-max\",",
    "\"message\":\"too many connections; close some, or see --http-connections-max\"}\n",
);

/// The address of whoever sent a request.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub SocketAddr);

/// Accepts connections and serves them.
pub struct Listener {
    /// The socket.
    pub socket: TcpListener,
    /// TLS, if there is any.
    pub tls: Option<Arc<ServerConfig>>,
    /// What answers.
    pub router: Router,
    /// Most connections at a time.
    pub connections_max: usize,
    /// Becomes true when all is to end.
    pub stop: watch::Receiver<bool>,
}

impl Listener {
    /// Serves until told to stop; then lets what is under way finish, for a short time.
    pub async fn run(mut self) {
        let places = Arc::new(Semaphore::new(self.connections_max));
        let refusals = Arc::new(Semaphore::new(REFUSALS_MAX));
        let mut connections = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                accepted = self.socket.accept() => accepted,
                Some(_) = connections.join_next() => continue,
                _ = self.stop.wait_for(|stop| *stop) => break,
            };
            let (stream, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    warn!("REST: cannot accept a connection: {error}");
                    sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            match places.clone().try_acquire_owned() {
                Ok(place) => drop(connections.spawn(self.connection(stream, peer, place))),
                Err(_) => {
                    debug!(%peer, "REST: refused, there are too many connections");
                    if let (None, Ok(place)) = (&self.tls, refusals.clone().try_acquire_owned()) {
                        connections.spawn(refuse(stream, place));
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

    fn connection(&self, stream: TcpStream, peer: SocketAddr, place: OwnedSemaphorePermit) -> impl Future<Output = ()> + use<> {
        let (tls, router, stop) = (self.tls.clone(), self.router.clone(), self.stop.clone());
        async move {
            // Answers are written at once and whole.
            let _ = stream.set_nodelay(true);
            match tls {
                None => serve(stream, peer, router, stop).await,
                Some(config) => match timeout(HANDSHAKE_LIMIT, TlsAcceptor::from(config).accept(stream)).await {
                    Ok(Ok(stream)) => serve(stream, peer, router, stop).await,
                    Ok(Err(error)) => debug!(%peer, "REST: TLS handshake: {error}"),
                    Err(_) => debug!(%peer, "REST: the TLS handshake took too long"),
                },
            }
            drop(place);
        }
    }
}

async fn serve<S>(stream: S, peer: SocketAddr, router: Router, mut stop: watch::Receiver<bool>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let answer = move |request: Request<Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(Peer(peer));
        router.clone().call(request)
    };
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_LIMIT)
        .max_buf_size(BUFFER_BYTES)
        .serve_connection(TokioIo::new(Impatient::new(stream)), service_fn(answer));
    tokio::pin!(connection);
    // What is waited for is let go at once: it is a lock.
    let told = async move { stop.wait_for(|stop| *stop).await.map(drop) };
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        _ = told => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        debug!(%peer, "REST: {error}");
    }
}

/// Tells why, and reads what was sent meanwhile: closing a connection with unread data would take the answer back.
async fn refuse(mut stream: TcpStream, place: OwnedSemaphorePermit) {
    let telling = async {
        stream.write_all(REFUSAL.as_bytes()).await?;
        stream.shutdown().await?;
        let mut scratch = [0; 1024];
        while stream.read(&mut scratch).await? > 0 {}
        io::Result::Ok(())
    };
    // Whoever does not listen is not waited for.
    let _ = timeout(REFUSAL_LIMIT, telling).await;
    drop(place);
}

/// A stream that fails when the other side takes nothing for [`STALL_LIMIT`].
struct Impatient<S> {
    stream: S,
    limit: Option<Pin<Box<Sleep>>>,
}

impl<S> Impatient<S> {
    fn new(stream: S) -> Self {
        Impatient { stream, limit: None }
    }

    fn limited<T>(&mut self, progress: Poll<io::Result<T>>, context: &mut Context<'_>) -> Poll<io::Result<T>> {
        if progress.is_ready() {
            self.limit = None;
            return progress;
        }
        let limit = self.limit.get_or_insert_with(|| Box::pin(sleep(STALL_LIMIT)));
        limit
            .as_mut()
            .poll(context)
            .map(|()| Err(io::Error::new(io::ErrorKind::TimedOut, "the client takes nothing of its answer")))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Impatient<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Impatient<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let progress = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.limited(progress, context)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let progress = Pin::new(&mut self.stream).poll_flush(context);
        self.limited(progress, context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let progress = Pin::new(&mut self.stream).poll_shutdown(context);
        self.limited(progress, context)
    }
}
