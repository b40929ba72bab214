//! Checks every request before it reaches an endpoint: origin, rate, token and body size, in this order.
//!
//! Request headers, bodies and queries are never logged.

use std::{
    sync::Arc,
    time::{Instant, SystemTime},
};

use axum::{
    body::{Body, Bytes},
    extract::{Request, State},
    http::{
        HeaderName, HeaderValue, StatusCode,
        header::{AUTHORIZATION, CONTENT_LENGTH, RETRY_AFTER, WWW_AUTHENTICATE},
    },
    middleware::Next,
    response::{IntoResponse, Response},
};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use tracing::debug;

use super::{
    answer::ApiError,
    connection::Peer,
    endpoint::role_of,
    pages::{HEADERS, check_host, check_origin},
};
use crate::api::security::{Denied, Gate, TooFast, provider};
use listener::Limits;

/// Response header with the name of the authenticated client, as in ligato vpp-agent.
const USERNAME: HeaderName = HeaderName::from_static("x-ligato-auth-username");
const RATE: HeaderName = HeaderName::from_static("x-ligato-ratelimiter-limit");
const BURST: HeaderName = HeaderName::from_static("x-ligato-ratelimiter-maxburst");
const DELAY: HeaderName = HeaderName::from_static("x-ligato-ratelimiter-waitdelay");

/// Access control and limits that apply to every request.
pub struct Guard {
    /// Access control and rate limits.
    pub gate: Arc<Gate>,
    /// Limits on the size of a body and the time to receive it.
    pub limits: Limits,
    /// True if clients must present a certificate.
    pub client_certificates: bool,
}

/// Checks a request and passes it on to its endpoint.
pub async fn pass(State(guard): State<Arc<Guard>>, request: Request, next: Next) -> Response {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let start = Instant::now();
    let mut response = match guard.admit(request).await {
        Ok((request, user)) => {
            let mut response = next.run(request).await;
            if let Some(name) = user.and_then(|name| HeaderValue::try_from(name).ok()) {
                response.headers_mut().insert(USERNAME, name);
            }
            response
        }
        Err(error) => error.into_response(),
    };
    response.headers_mut().extend(HEADERS);
    debug!(%method, path, status = response.status().as_u16(), elapsed = ?start.elapsed(), "REST request");
    response
}

impl Guard {
    async fn admit(&self, request: Request) -> Result<(Request, Option<String>), ApiError> {
        let needs = role_of(request.method());
        if !self.gate.access.needs_token() {
            check_origin(request.headers(), request.uri(), needs)?;
            if !self.client_certificates {
                check_host(request.headers(), request.uri())?;
            }
        }
        if let Some(Peer(peer)) = request.extensions().get() {
            self.gate.count(peer.ip(), Instant::now()).map_err(too_fast)?;
        }
        let token = request
            .headers()
            .get(AUTHORIZATION)
            .and_then(|value| value.to_str().ok())
            .and_then(provider);
        let user = self
            .gate
            .access
            .admit(token, needs, SystemTime::now())
            .map_err(|denied| refusal(&denied))?;
        Ok((self.with_whole_body(request).await?, user))
    }

    /// Reads the whole body before the endpoint is called, so that no endpoint has to wait for a client.
    async fn with_whole_body(&self, request: Request) -> Result<Request, ApiError> {
        let too_long = || {
            let message = format!(
                "the body is larger than {} bytes; send less or raise --http-body-max",
                self.limits.body_max
            );
            ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, message)
        };
        let (parts, body) = request.into_parts();
        let announced = parts
            .headers
            .get(CONTENT_LENGTH)
            .and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
        if announced.is_some_and(|length| length > self.limits.body_max) {
            return Err(too_long());
        }
        let read = tokio::time::timeout(self.limits.body(), Limited::new(body, self.limits.body_max).collect()).await;
        let bytes: Bytes = match read {
            Ok(Ok(collected)) => collected.to_bytes(),
            Ok(Err(error)) if error.is::<LengthLimitError>() => return Err(too_long()),
            Ok(Err(error)) => return Err(ApiError::new(StatusCode::BAD_REQUEST, format!("the body cannot be read: {error}"))),
            Err(_) => {
                let message = format!("the body did not arrive within {} s", self.limits.body().as_secs());
                return Err(ApiError::new(StatusCode::REQUEST_TIMEOUT, message));
            }
        };
        Ok(Request::from_parts(parts, Body::from(bytes)))
    }
}

fn too_fast(refused: TooFast) -> ApiError {
    let number = |text: String| HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static("1"));
    ApiError::new(StatusCode::TOO_MANY_REQUESTS, refused.to_string())
        .with_header(RETRY_AFTER, number(refused.seconds().to_string()))
        .with_header(RATE, number(refused.limit.to_string()))
        .with_header(BURST, number(refused.limit.to_string()))
        .with_header(DELAY, number(format!("{:?}", refused.wait)))
}

fn refusal(denied: &Denied) -> ApiError {
    match denied.is_unauthenticated() {
        true => ApiError::new(StatusCode::UNAUTHORIZED, denied.to_string())
            .with_header(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"netns-agent\"")),
        false => ApiError::new(StatusCode::FORBIDDEN, denied.to_string()),
    }
}
