//! The Auth service, which reports that authentication is not available.
//!
//! The service matches paths instead of implementing the generated trait, because the client crate does not export all types that the
//! trait needs.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::task::{Context, Poll};

use tonic::Status;
use tonic::body::Body;
use tonic::codegen::{Service, http};
use tonic::server::NamedService;

use crate::error::Refusal;

/// Answers all calls to the Auth service with an error.
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

/// Returns the error for a gRPC path. A login request gets etcd's error for disabled authentication, because client libraries recognize it.
fn refusal(path: &str) -> Refusal {
    match path.rsplit('/').next() {
        Some("Authenticate") => Refusal::AuthNotEnabled,
        _ => Refusal::Unsupported("authentication"),
    }
}
