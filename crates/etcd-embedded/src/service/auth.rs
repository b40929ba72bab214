//! The Auth service, which reports that authentication is not available.
//!
//! It matches paths itself instead of implementing the generated trait, because the client crate does not export all of the trait's types.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::task::{Context, Poll};

use tonic::Status;
use tonic::body::Body;
use tonic::codegen::{Service, http};
use tonic::server::NamedService;

use crate::error::Refusal;

/// Handles all calls to the service.
#[derive(Debug, Clone, Copy)]
pub(super) struct NoAuth;

impl NamedService for NoAuth {
    const NAME: &'static str = "etcdserverpb.Auth";
}

impl Service<http::Request<Body>> for NoAuth {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        ready(Ok(Status::from(refusal(request.uri().path())).into_http()))
    }
}

/// Returns the error for a path. For a login, it is the error that etcd returns if authentication is not enabled, which client libraries
/// understand.
fn refusal(path: &str) -> Refusal {
    match path.rsplit('/').next() {
        Some("Authenticate") => Refusal::AuthNotEnabled,
        _ => Refusal::Unsupported("authentication"),
    }
}
