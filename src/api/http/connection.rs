//! Serves HTTP/1.1 on a connection, one request at a time.

use std::{future::poll_fn, net::SocketAddr};

use axum::{Router, body::Body};
use hyper::{Request, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::watch,
};
use tower::Service;
use tracing::debug;

use listener::{Limits, Protocol, TimeLimited, refusal};

/// Maximum size of the read buffer. The request line and all headers must fit into it together.
const BUFFER_BYTES: usize = 64 * 1024;

/// Start of the HTTP/2 preface (RFC 9113 §3.4). If a client sends it, hyper closes the connection without a response.
const HTTP2: &[u8] = b"PRI * HTTP/2.0";

/// Address of the client that sent a request.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub SocketAddr);

/// Protocol implementation with which the `listener` crate serves the REST API.
#[derive(Clone)]
pub struct Rest {
    /// Router that handles all requests.
    pub router: Router,
    /// Limits for connections and requests of clients.
    pub limits: Limits,
}

impl Protocol for Rest {
    const NAME: &'static str = "REST";

    async fn serve<S>(self, stream: TimeLimited<S>, peer: SocketAddr, mut stop: watch::Receiver<bool>)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let Rest { router, limits } = self;
        let answer = move |request: Request<Incoming>| {
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(Peer(peer));
            Box::pin(router.clone().call(request))
        };
        let mut connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(limits.step)
            .max_buf_size(BUFFER_BYTES)
            .serve_connection(TokioIo::new(stream), service_fn(answer));
        // Immediately drop the guard that `wait_for` returns, because the guard locks the channel.
        let reported = async move { stop.wait_for(|stop| *stop).await.map(drop) };
        let ended = tokio::select! {
            ended = poll_fn(|context| connection.poll_without_shutdown(context)) => ended,
            _ = reported => {
                std::pin::Pin::new(&mut connection).graceful_shutdown();
                poll_fn(|context| connection.poll_without_shutdown(context)).await
            }
        };
        let parts = connection.into_parts();
        let mut last_words = Vec::new();
        if let Err(error) = ended {
            debug!(%peer, "REST: {error}");
            // Close an idle connection without a response if the client has sent nothing.
            if parts.read_buf.starts_with(HTTP2) {
                last_words = refusal::http2("this port serves HTTP/1.1; the gRPC API has its own address (--grpc-listen)");
            } else if error.is_timeout() && !parts.read_buf.is_empty() {
                let words = format!(
                    "the headers did not arrive within {} s; see --http-time-limit",
                    limits.step.as_secs()
                );
                last_words = refusal::http1("408 Request Timeout", &words);
            }
        }
        refusal::tell(parts.io.into_inner(), &last_words).await;
    }

    fn refusal(&self, _: &[u8], status: &str, words: &str) -> Vec<u8> {
        refusal::http1(status, words)
    }
}
