//! Checks the request rate, the token and the number of concurrent calls before passing a call on to its service. Counts each
//! call.
//!
//! Metadata and messages are never logged. A [`Running`] represents a call until its last message is sent or the client
//! disconnects.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use hyper::{HeaderMap, Request, Response, body::Incoming};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::{Code, Status, body::Body, metadata::MetadataMap, service::Routes};
use tower::Service;
use tracing::debug;

use super::{
    Admission,
    body::{Answering, Arriving},
    methods::{Method, Methods},
};
use crate::{
    api::security::{Gate, Role},
    telemetry::{calls, metrics::Metrics},
};
use listener::{Activity, Busy, Limits};

/// Maximum number of concurrent calls, as a multiple of the maximum number of connections. Most calls are idle streams.
const CALLS_PER_CONNECTION: usize = 4;

/// Handler of gRPC calls: checks, counts and routes them.
pub(super) struct Calls {
    pub routes: Routes,
    pub gate: Arc<Gate>,
    pub methods: Methods,
    pub metrics: Arc<Metrics>,
    pub limits: Limits,
    /// Semaphore that limits the number of concurrent calls.
    pub places: Arc<Semaphore>,
}

impl Calls {
    /// Creates a semaphore with one permit for each concurrent call that these limits allow.
    pub fn places(limits: &Limits) -> Arc<Semaphore> {
        let places = limits.connections_max.saturating_mul(CALLS_PER_CONNECTION);
        Arc::new(Semaphore::new(places.min(Semaphore::MAX_PERMITS)))
    }

    /// Checks a call and passes it on to its service.
    pub async fn answer(
        self: Arc<Self>,
        request: Request<Incoming>,
        peer: SocketAddr,
        activity: Arc<Activity>,
    ) -> Result<Response<Body>, Infallible> {
        let path = request.uri().path().to_owned();
        let method = self.methods.get(&path).cloned();
        let mut running = Running {
            counted: method.as_ref().map(|method| self.metrics.calls.begin(method.labels())),
            method,
            metrics: self.metrics.clone(),
            start: Instant::now(),
            code: Code::Cancelled,
            _place: None,
            _busy: None,
        };
        let place = match self.admit(&request, peer) {
            Ok(place) => place,
            Err(status) => {
                running.code = status.code();
                debug!(path, code = code_name(status.code()), "gRPC call rejected");
                return Ok(status.into_http());
            }
        };
        (running._place, running._busy) = (Some(place), Some(activity.busy()));
        let time_limit = time_limit(request.headers());
        let client_streams = running.method.as_ref().is_some_and(|method| method.client_streams);
        let received = running.counted.as_ref().map(|counted| counted.received.clone());
        let request = request.map(|body| Body::new(Arriving::new(body, &self.limits, client_streams, received)));
        let answer = self.routes.clone().call(request);
        let response = match time_limit {
            None => answer.await?,
            Some(time_limit) => match tokio::time::timeout(time_limit, answer).await {
                Ok(response) => response?,
                Err(_) => Status::deadline_exceeded("the deadline set by the client has passed").into_http(),
            },
        };
        // A response without messages has its status in the headers instead of the trailers.
        running.see(response.headers());
        Ok(response.map(|body| Body::new(Answering::new(body, running))))
    }

    // `Status` is a large error type, but tonic requires it.
    #[allow(clippy::result_large_err)]
    fn admit(&self, request: &Request<Incoming>, peer: SocketAddr) -> Result<OwnedSemaphorePermit, Status> {
        self.gate.count(peer.ip(), Instant::now()).map_err(|refused| {
            let mut status = Status::resource_exhausted(refused.to_string());
            status.metadata_mut().insert("retry-after", refused.seconds().into());
            status
        })?;
        let metadata = MetadataMap::from_headers(request.headers().clone());
        // Every call requires the role `read`. Methods that change state also require the role `write`, which they check
        // themselves.
        Admission(self.gate.clone()).admit(&metadata, Role::Read)?;
        self.places
            .clone()
            .try_acquire_owned()
            .map_err(|_| Status::resource_exhausted("too many concurrent calls; end some or raise --http-connections-max"))
    }
}

/// A call in progress. Dropping it records the result in the metrics.
pub(super) struct Running {
    /// Metrics of the called method. `None` if the method is unknown.
    pub counted: Option<calls::Call>,
    method: Option<Method>,
    metrics: Arc<Metrics>,
    start: Instant,
    code: Code,
    _place: Option<OwnedSemaphorePermit>,
    _busy: Option<Busy>,
}

impl Running {
    /// Records the status code from headers or trailers.
    pub fn see(&mut self, headers: &HeaderMap) {
        if let Some(status) = Status::from_header_map(headers) {
            self.code = status.code();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let (Some(method), Some(counted)) = (&self.method, &self.counted) {
            let code = code_name(self.code);
            self.metrics.calls.end(method.labels(), counted, code, self.start.elapsed());
        }
    }
}

/// Returns the timeout set by the client (gRPC over HTTP/2, `Timeout`), or `None` if it is absent or malformed.
fn time_limit(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("grpc-timeout")?.to_str().ok()?;
    let unit = text.chars().last()?;
    let digits = text.strip_suffix(unit).filter(|digits| digits.len() <= 8)?;
    let number: u64 = digits.parse().ok()?;
    match unit {
        'H' => Some(Duration::from_secs(number * 3600)),
        'M' => Some(Duration::from_secs(number * 60)),
        'S' => Some(Duration::from_secs(number)),
        'm' => Some(Duration::from_millis(number)),
        'u' => Some(Duration::from_micros(number)),
        'n' => Some(Duration::from_nanos(number)),
        _ => None,
    }
}

/// Returns the name of a status code, as used for metric labels.
fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "Canceled",
        Code::Unknown => "Unknown",
        Code::InvalidArgument => "InvalidArgument",
        Code::DeadlineExceeded => "DeadlineExceeded",
        Code::NotFound => "NotFound",
        Code::AlreadyExists => "AlreadyExists",
        Code::PermissionDenied => "PermissionDenied",
        Code::ResourceExhausted => "ResourceExhausted",
        Code::FailedPrecondition => "FailedPrecondition",
        Code::Aborted => "Aborted",
        Code::OutOfRange => "OutOfRange",
        Code::Unimplemented => "Unimplemented",
        Code::Internal => "Internal",
        Code::Unavailable => "Unavailable",
        Code::DataLoss => "DataLoss",
        Code::Unauthenticated => "Unauthenticated",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn client_timeout_is_parsed_or_ignored_if_malformed() {
        let limit = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("grpc-timeout", text.parse().expect("a header"));
            time_limit(&headers)
        };
        assert_eq!(limit("2S"), Some(Duration::from_secs(2)));
        assert_eq!(limit("99999999H"), Some(Duration::from_secs(99_999_999 * 3600)));
        assert_eq!(limit("15m"), Some(Duration::from_millis(15)));
        for nonsense in ["", "S", "2", "123456789S", "1.5S", "2X", "-1S"] {
            assert_eq!(limit(nonsense), None, "{nonsense}");
        }
    }
}
