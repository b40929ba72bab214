//! HTTP/1.1 on a connection: one request after the other.
//!
//! Owns the limits of hyper. Must never look into a request. Start reading at [`Rest`].

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

use listener::{Impatient, Limits, Protocol, refusal};

/// Most bytes of a request's line and headers, and of what is buffered of a body.
const BUFFER_BYTES: usize = 64 * 1024;

/// What HTTP/2 begins with (RFC 9113 §3.4); hyper closes without a word then.
const HTTP2: &[u8] = b"PRI * HTTP/2.0";

/// The address of whoever sent a request.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub SocketAddr);

/// The protocol of the REST API.
#[derive(Clone)]
pub struct Rest {
    /// What answers.
    pub router: Router,
    /// How long a client may take.
    pub limits: Limits,
}

impl Protocol for Rest {
    const NAME: &'static str = "REST";

    async fn serve<S>(self, stream: Impatient<S>, peer: SocketAddr, mut stop: watch::Receiver<bool>)
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
        // What is waited for is let go at once: it is a lock.
        let told = async move { stop.wait_for(|stop| *stop).await.map(drop) };
        let ended = tokio::select! {
            ended = poll_fn(|context| connection.poll_without_shutdown(context)) => ended,
            _ = told => {
                std::pin::Pin::new(&mut connection).graceful_shutdown();
                poll_fn(|context| connection.poll_without_shutdown(context)).await
            }
        };
        let parts = connection.into_parts();
        let mut last_words = Vec::new();
        if let Err(error) = ended {
            debug!(%peer, "REST: {error}");
            // Whoever has asked nothing is not answered: a connection that was merely kept open is closed without a word.
            if parts.read_buf.starts_with(HTTP2) {
                last_words = refusal::http2("this port speaks HTTP/1.1; gRPC is at --grpc-listen");
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
