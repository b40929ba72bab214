//! The Auth service: there is no authentication, and it says so.
//!
//! Owns nothing. It must never accept a password. It answers by path instead of through the generated trait, because the client crate
//! does not export all types of that trait. Start reading at [`refusal`].

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::task::{Context, Poll};

use tonic::Status;
use tonic::body::Body;
use tonic::codegen::{Service, http};
use tonic::server::NamedService;

use crate::error::Refusal;

/// All calls of the service, answered alike.
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

/// A log-in is refused in the words of an etcd without authentication, which client libraries understand; all else is not there.
fn refusal(path: &str) -> Refusal {
    match path.rsplit('/').next() {
        Some("Authenticate") => Refusal::AuthNotEnabled,
        _ => Refusal::Unsupported("authentication"),
    }
}
