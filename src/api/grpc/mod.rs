//! The gRPC API, compatible with ligato vpp-agent: the services manager, meta, configurator, health and reflection.

mod body;
mod call;
mod configurator;
mod connection;
mod generated;
mod items;
mod manager;
mod meta;
mod methods;
mod notifications;

use std::{io, net::SocketAddr, sync::Arc, time::SystemTime};

use models::FILE_DESCRIPTOR_SET;
use tokio::{net::TcpListener, sync::watch};
use tonic::{Status, metadata::MetadataMap, service::Routes};
use tracing::info;

use self::{
    call::Calls,
    configurator::Configurator,
    connection::GrpcProtocol,
    generated::{
        configurator_service_server::ConfiguratorServiceServer, manager_service_server::ManagerServiceServer,
        meta_service_server::MetaServiceServer,
    },
    manager::Manager,
    meta::Meta,
    methods::Methods,
    notifications::Notifications,
};
use super::{
    Api,
    security::{
        Gate, Role, provider,
        tls::{self, TlsError},
    },
    threads,
};
use crate::config::HttpSettings;
use listener::{Limits, Listener, Serving};

/// Error that prevents the server from starting.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The agent cannot listen on the address.
    #[error("cannot listen on {address}: {error}; set --grpc-listen to another address or to off")]
    Listen {
        /// Address on which the agent should listen.
        address: SocketAddr,
        /// Error of the system call.
        error: io::Error,
    },
    /// A certificate or the private key cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The gRPC server cannot be set up. The text contains the reason.
    #[error("cannot set up the gRPC server: {0}")]
    Setup(String),
}

/// Listens on an address, and serves calls on the API threads until the server is stopped. Port 0 selects any free port.
///
/// Uses the certificates, tokens and limits of the REST API.
///
/// # Errors
/// Fails if the address or the certificates cannot be used.
pub async fn start(api: Api, listen: SocketAddr, settings: &HttpSettings, gate: Arc<Gate>) -> Result<Serving, StartError> {
    let settings = settings.clone();
    let (stop, stopped) = watch::channel(false);
    // Run this task in the runtime of the engine, because each link state that the engine publishes wakes the task. Waking an API
    // thread would take longer than the task needs to record the link state.
    let notifications = Notifications::start(&api, stopped);
    let started = threads::serve(async move { start_here(api, listen, &settings, gate, notifications, stop).await }).await;
    started.unwrap_or_else(|error| Err(StartError::Setup(error.to_string())))
}

async fn start_here(
    api: Api,
    listen: SocketAddr,
    settings: &HttpSettings,
    gate: Arc<Gate>,
    notifications: Notifications,
    stop: watch::Sender<bool>,
) -> Result<Serving, StartError> {
    let tls = match &settings.identity {
        Some((certificate, key)) => Some(tls::server(certificate, key, settings.client_ca.as_deref(), &["h2"])?),
        None => None,
    };
    let limits = super::limits(settings);
    let stopped = stop.subscribe();
    let routes = routes(&api, &Admission(gate.clone()), &limits, notifications, &stopped).await?;
    let (tokens, has_tls) = (gate.access.needs_token(), tls.is_some());
    let calls = Calls {
        routes,
        gate,
        methods: Methods::new().map_err(|error| StartError::Setup(error.to_string()))?,
        metrics: api.metrics.clone(),
        limits,
        places: Calls::places(&limits),
    };
    let failed = |error| StartError::Listen { address: listen, error };
    let socket = TcpListener::bind(listen).await.map_err(failed)?;
    let listener = Listener {
        socket,
        tls,
        protocol: GrpcProtocol {
            calls: Arc::new(calls),
            limits,
        },
        limits,
        stop: stopped,
    };
    let serving = Serving::start(listener, stop).map_err(failed)?;
    info!(tokens, tls = has_tls, "gRPC API: {}", serving.address());
    Ok(serving)
}

/// Builds the routes of all services.
async fn routes(
    api: &Api,
    admission: &Admission,
    limits: &Limits,
    notifications: Notifications,
    stopped: &watch::Receiver<bool>,
) -> Result<Routes, StartError> {
    let configurator = Configurator {
        api: api.clone(),
        admission: admission.clone(),
        notifications,
        stopped: stopped.clone(),
    };
    let manager = Manager {
        api: api.clone(),
        admission: admission.clone(),
        stopped: stopped.clone(),
    };
    let (health, health_service) = tonic_health::server::health_reporter();
    health.set_serving::<ManagerServiceServer<Manager>>().await;
    health.set_serving::<ConfiguratorServiceServer<Configurator>>().await;
    let setup = |error: tonic_reflection::server::Error| StartError::Setup(error.to_string());
    let longest = limits.body_max;
    Ok(Routes::default()
        .add_service(health_service)
        .add_service(reflection().build_v1().map_err(setup)?)
        .add_service(reflection().build_v1alpha().map_err(setup)?)
        .add_service(MetaServiceServer::new(Meta).max_decoding_message_size(longest))
        .add_service(ManagerServiceServer::new(manager).max_decoding_message_size(longest))
        .add_service(ConfiguratorServiceServer::new(configurator).max_decoding_message_size(longest))
        .prepare())
}

fn reflection() -> tonic_reflection::server::Builder<'static> {
    tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
}

/// Access control for gRPC calls.
#[derive(Clone)]
pub(crate) struct Admission(Arc<Gate>);

impl Admission {
    /// Admits a call if its token has the required role.
    // `Status` is a large error type, but tonic requires it.
    #[allow(clippy::result_large_err)]
    pub fn admit(&self, metadata: &MetadataMap, needs: Role) -> Result<(), Status> {
        let header = metadata.get("authorization").and_then(|value| value.to_str().ok());
        let admitted = self.0.access.admit(header.and_then(provider), needs, SystemTime::now());
        admitted.map(drop).map_err(|denied| match denied.is_unauthenticated() {
            true => Status::unauthenticated(denied.to_string()),
            false => Status::permission_denied(denied.to_string()),
        })
    }
}
