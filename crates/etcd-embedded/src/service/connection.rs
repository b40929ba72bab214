//! Client connections to the embedded store: gRPC over HTTP/2, and the few paths that etcd serves over HTTP/1.1.
//!
//! This module limits the resources that clients can use: connections, calls, memory for large responses, and time.

use std::{convert::Infallible, net::SocketAddr, sync::Arc};

use http_body_util::BodyExt;
use hyper::{
    Request, Response,
    body::Incoming,
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::{Semaphore, watch},
    time::timeout,
};
use tonic::{Code, Status, body::Body, service::Routes};
use tower::Service;
use tracing::debug;

use super::{Reserved, gateway};
use crate::{error::Refusal, shared::Shared};
use listener::{
    Activity, Limits, Prefixed, Protocol, TimeLimited,
    connection_state::{beginning, serve_until},
    refusal::{self, PREFACE},
};

/// Maximum number of concurrent calls per connection. Some client libraries open a stream for each watch.
const STREAMS_MAX: u32 = 1024;
/// Number of concurrent calls for each allowed connection. All connections share the resulting limit.
const CALLS_PER_CONNECTION: usize = 32;
/// Maximum size of a call's headers in bytes.
const HEADER_BYTES: u32 = 16 * 1024;
/// Size of each call's send buffer in bytes.
const SEND_BUFFER_BYTES: usize = 64 * 1024;
/// HTTP/2 flow control window of a call in bytes.
const STREAM_WINDOW: u32 = 512 * 1024;
/// HTTP/2 flow control window of a connection in bytes.
const CONNECTION_WINDOW: u32 = 2 * 1024 * 1024;
/// Maximum number of reset streams per connection. The server treats more resets as an attack. The limit is high, because a normal client can drop
/// a thousand watches at once.
const RESETS_MAX: usize = 100_000;
/// Path of the Txn call. Messages of other calls cannot exceed the decoder's nesting limit.
const TXN: &str = "/etcdserverpb.KV/Txn";
/// Text in the decoder's error message for a message that is nested too deeply. No other error message contains this text.
const TOO_DEEP: &str = "recursion limit reached";

/// gRPC services, with permits that limit the number of concurrent calls.
pub(super) struct Calls {
    routes: Routes,
    places: Arc<Semaphore>,
}

impl Calls {
    pub(super) fn new(routes: Routes, limits: &Limits) -> Self {
        let places = limits.connections_max.saturating_mul(CALLS_PER_CONNECTION);
        Calls {
            routes,
            places: Arc::new(Semaphore::new(places.min(Semaphore::MAX_PERMITS))),
        }
    }

    /// Handles a call, or rejects it if too many calls are in flight.
    ///
    /// A call holds a permit until the client has received the response.
    async fn answer(self: Arc<Self>, request: Request<Incoming>, activity: Arc<Activity>) -> Result<Response<Body>, Infallible> {
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            return Ok(Status::from(Refusal::TooManyRequests).into_http());
        };
        let busy = activity.busy();
        let is_txn = request.uri().path() == TXN;
        let mut response = self.routes.clone().call(request.map(Body::new)).await?;
        if is_txn && is_too_deep(&response) {
            response = Status::from(Refusal::TooManyOperations).into_http();
        }
        let reserved = response.extensions_mut().remove::<Reserved>();
        let kept = (place, busy, reserved);
        Ok(response.map(|body| {
            Body::new(body.map_frame(move |frame| {
                // Move `kept` into the closure, so that it is dropped together with the body.
                let _kept = &kept;
                frame
            }))
        }))
    }
}

/// Returns true if a transaction was rejected because it is nested too deeply to be decoded.
fn is_too_deep(response: &Response<Body>) -> bool {
    Status::from_header_map(response.headers()).is_some_and(|status| status.code() == Code::Internal && status.message().contains(TOO_DEEP))
}

/// Server protocol on the store's port: gRPC over HTTP/2, and a few paths over HTTP/1.1.
#[derive(Clone)]
pub(super) struct StoreProtocol {
    pub(super) calls: Arc<Calls>,
    pub(super) shared: Arc<Shared>,
    pub(super) limits: Limits,
}

impl Protocol for StoreProtocol {
    const NAME: &'static str = "embedded store";
    const TOO_MANY: &'static str = "embedded store: too many connections; close some";

    async fn serve<S>(self, mut stream: TimeLimited<S>, peer: SocketAddr, mut stop: watch::Receiver<bool>)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let beginning = match timeout(self.limits.step, beginning(&mut stream)).await {
            Ok(Ok(read)) => read,
            Ok(Err(error)) => return debug!(%peer, "embedded store: {error}"),
            Err(_) => return debug!(%peer, "embedded store: the client sent no request"),
        };
        let is_http2 = beginning == PREFACE;
        let stream = Prefixed::new(beginning, stream);
        let stop = async move { stop.wait_for(|stop| *stop).await.map(drop) };
        let ended = match is_http2 {
            true => self.serve_http2(stream, stop).await,
            false => self.serve_http1(stream, stop).await,
        };
        if let Err(error) = ended {
            debug!(%peer, "embedded store: {error}");
        }
    }

    fn refusal(&self, beginning: &[u8], status: &str, words: &str) -> Vec<u8> {
        refusal::as_begun(beginning, status, words)
    }
}

impl StoreProtocol {
    async fn serve_http2<S>(self, stream: S, stop: impl Future) -> hyper::Result<()>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let StoreProtocol { calls, limits, .. } = self;
        let activity = Activity::begin();
        let answering = Arc::clone(&activity);
        let answer = move |request: Request<Incoming>| Arc::clone(&calls).answer(request, Arc::clone(&answering));
        let connection = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(limits.step * 2)
            .keep_alive_timeout(limits.step * 2)
            .max_concurrent_streams(STREAMS_MAX)
            .max_header_list_size(HEADER_BYTES)
            .max_send_buf_size(SEND_BUFFER_BYTES)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_pending_accept_reset_streams(RESETS_MAX)
            .max_local_error_reset_streams(RESETS_MAX)
            .serve_connection(TokioIo::new(stream), service_fn(answer));
        serve_until(connection, stop, activity.idle(limits.idle()), limits.step).await
    }

    async fn serve_http1<S>(self, stream: S, stop: impl Future) -> hyper::Result<()>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let StoreProtocol { shared, limits, .. } = self;
        let answer = move |request: Request<Incoming>| {
            let answer = gateway::answer(&shared, request.method(), request.uri().path());
            async move { Ok::<_, Infallible>(answer) }
        };
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(limits.step)
            .max_buf_size(HEADER_BYTES as usize)
            .serve_connection(TokioIo::new(stream), service_fn(answer));
        serve_until(connection, stop, std::future::pending::<()>(), limits.step).await
    }
}
