//! The REST API: an HTTP/1.1 server for users, the command line and monitoring.
//!
//! Most submodules contain endpoints and their handlers. [`ENDPOINTS`] lists all endpoints.

mod answer;
mod configuration;
mod connection;
mod dump;
mod endpoint;
mod explain;
mod graph;
mod guard;
mod history;
mod index;
mod info;
mod linux;
mod logs;
mod metrics;
mod openapi;
mod pages;
mod probes;
mod query;
mod removals;
mod resync;
mod stats;
mod status;

use std::{io, net::SocketAddr, sync::Arc};

use axum::{
    Router,
    extract::DefaultBodyLimit,
    http::{Method, StatusCode, Uri},
    middleware::from_fn_with_state,
};
use tokio::{net::TcpListener, sync::watch};
use tracing::info;

use self::{answer::ApiError, connection::Rest, endpoint::Endpoint, guard::Guard};
use super::{
    Api,
    security::{
        Gate,
        tls::{self, TlsError},
    },
    threads,
};
use crate::config::HttpSettings;
use listener::{Listener, Serving};

/// All endpoints, by topic.
pub(crate) const ENDPOINTS: &[&[Endpoint]] = &[
    index::ENDPOINTS,
    status::ENDPOINTS,
    configuration::ENDPOINTS,
    explain::ENDPOINTS,
    dump::ENDPOINTS,
    history::ENDPOINTS,
    resync::ENDPOINTS,
    removals::ENDPOINTS,
    graph::ENDPOINTS,
    stats::ENDPOINTS,
    linux::ENDPOINTS,
    info::ENDPOINTS,
    logs::ENDPOINTS,
    probes::ENDPOINTS,
    metrics::ENDPOINTS,
    openapi::ENDPOINTS,
];

/// Returns the OpenAPI document of all endpoints.
pub fn openapi_document() -> String {
    openapi::document()
}

/// Error that prevents the server from starting.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The agent cannot listen on the address.
    #[error("cannot listen on {address}: {error}; set --http-listen to another address or to off")]
    Listen {
        /// Address on which the agent should listen.
        address: SocketAddr,
        /// Error of the system call.
        error: io::Error,
    },
    /// A certificate or the private key cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// Listens on an address, and serves requests on the API threads until the server is stopped. Port 0 selects any free port.
///
/// # Errors
/// Fails if the address or the certificates cannot be used.
pub async fn start(api: Api, listen: SocketAddr, settings: &HttpSettings, gate: Arc<Gate>) -> Result<Serving, StartError> {
    let settings = settings.clone();
    let started = threads::serve(async move { start_here(api, listen, &settings, gate).await }).await;
    started.unwrap_or_else(|error| {
        Err(StartError::Listen {
            address: listen,
            error: error.into(),
        })
    })
}

async fn start_here(api: Api, listen: SocketAddr, settings: &HttpSettings, gate: Arc<Gate>) -> Result<Serving, StartError> {
    let client_ca = settings.client_ca.as_deref();
    let tls = match &settings.identity {
        Some((certificate, key)) => Some(tls::server(certificate, key, client_ca, &["http/1.1"])?),
        None => None,
    };
    let limits = super::limits(settings);
    let failed = |error| StartError::Listen { address: listen, error };
    let socket = TcpListener::bind(listen).await.map_err(failed)?;
    let (stop, stopped) = watch::channel(false);
    let tokens = gate.access.needs_token();
    let guard = Guard {
        gate,
        limits,
        client_certificates: client_ca.is_some(),
    };
    let router = router(api, guard);
    let scheme = if tls.is_some() { "https" } else { "http" };
    let listener = Listener {
        socket,
        tls,
        protocol: Rest { router, limits },
        limits,
        stop: stopped,
    };
    let serving = Serving::start(listener, stop).map_err(failed)?;
    info!(tokens, "REST API: {scheme}://{}/", serving.address());
    Ok(serving)
}

fn router(api: Api, guard: Guard) -> Router {
    endpoint::router(ENDPOINTS)
        .fallback(no_such_path)
        .method_not_allowed_fallback(no_such_method)
        .with_state(api)
        // The guard enforces --http-body-max instead of axum's own limit of 2 MiB.
        .layer(DefaultBodyLimit::disable())
        .layer(from_fn_with_state(Arc::new(guard), guard::pass))
}

async fn no_such_path(uri: Uri) -> ApiError {
    ApiError::not_found(format!("no endpoint {}; GET / lists all endpoints", uri.path()))
}

async fn no_such_method(method: Method, uri: Uri) -> ApiError {
    let mut methods: Vec<&str> = ENDPOINTS
        .iter()
        .copied()
        .flatten()
        .filter(|endpoint| endpoint.matches(uri.path()))
        .map(|endpoint| endpoint.method.text())
        .collect();
    methods.dedup();
    let message = format!("{} does not support {method}; use {}", uri.path(), methods.join(" or "));
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, message)
}
