//! Serves HTTP/2 on a connection, which can carry several calls at the same time.

use std::{net::SocketAddr, sync::Arc};

use hyper::{Request, body::Incoming, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::watch,
    time::timeout,
};
use tracing::debug;

use super::call::Calls;
use listener::{
    Activity, Limits, Prefixed, Protocol, TimeLimited,
    connection_state::{beginning, serve_until},
    refusal::{self, PREFACE},
};

/// Maximum number of concurrent streams per connection.
const STREAMS_MAX: u32 = 256;
/// Maximum total size of the headers of a call.
const HEADER_BYTES: u32 = 16 * 1024;
/// Maximum number of bytes buffered per stream for sending to the client.
const SEND_BUFFER_BYTES: usize = 64 * 1024;
/// Flow control window of a stream: maximum number of unacknowledged bytes from the client.
const STREAM_WINDOW: u32 = 256 * 1024;
/// Flow control window of a connection, shared by all its streams.
const CONNECTION_WINDOW: u32 = 1024 * 1024;

/// Protocol implementation with which the `listener` crate serves the gRPC API.
#[derive(Clone)]
pub(super) struct GrpcProtocol {
    /// Handler of all calls.
    pub calls: Arc<Calls>,
    /// Limits for connections and messages of clients.
    pub limits: Limits,
}

impl Protocol for GrpcProtocol {
    const NAME: &'static str = "gRPC";

    async fn serve<S>(self, mut stream: TimeLimited<S>, peer: SocketAddr, mut stop: watch::Receiver<bool>)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let limits = self.limits;
        let seconds = limits.step.as_secs();
        let (status, words) = match timeout(limits.step, beginning(&mut stream)).await {
            Ok(Ok(bytes)) if bytes == PREFACE => {
                let stop = async move { stop.wait_for(|stop| *stop).await.map(drop) };
                return self.serve_http2(stream, peer, stop).await;
            }
            Ok(Ok(_)) => (
                "400 Bad Request",
                "this port serves gRPC over HTTP/2; the REST API has its own address (--http-listen)".to_owned(),
            ),
            Ok(Err(error)) => return debug!(%peer, "gRPC: {error}"),
            Err(_) => (
                "408 Request Timeout",
                format!("the client did not start HTTP/2 within {seconds} s; see --http-time-limit"),
            ),
        };
        debug!(%peer, "gRPC: {words}");
        refusal::tell(stream, &refusal::http1(status, &words)).await;
    }

    fn refusal(&self, beginning: &[u8], status: &str, words: &str) -> Vec<u8> {
        refusal::as_begun(beginning, status, words)
    }
}

impl GrpcProtocol {
    async fn serve_http2<S>(self, stream: TimeLimited<S>, peer: SocketAddr, stop: impl Future)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let GrpcProtocol { calls, limits } = self;
        let activity = Activity::begin();
        let answering = activity.clone();
        let answer = move |request: Request<Incoming>| calls.clone().answer(request, peer, answering.clone());
        let connection = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            // Close the connection if the client does not respond to pings.
            .keep_alive_interval(limits.step * 2)
            .keep_alive_timeout(limits.step * 2)
            .max_concurrent_streams(STREAMS_MAX)
            .max_header_list_size(HEADER_BYTES)
            .max_send_buf_size(SEND_BUFFER_BYTES)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .serve_connection(TokioIo::new(Prefixed::new(PREFACE, stream)), service_fn(answer));
        let idle = async {
            activity.idle(limits.idle()).await;
            debug!(%peer, "gRPC: idle connection closed");
        };
        if let Err(error) = serve_until(connection, stop, idle, limits.step).await {
            debug!(%peer, "gRPC: {error}");
        }
    }
}
