//! The gRPC API of the contract: generic manager, meta, configurator, health and reflection.
//!
//! Owns the server's start and end, and who may call what. Must never decide anything about the network. Start reading at
//! [`Server::start`], then [`manager`].

mod configurator;
mod generated;
mod items;
mod manager;
mod meta;
mod notifications;

use std::{io, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration, time::SystemTime};

use models::FILE_DESCRIPTOR_SET;
use tokio::{net::TcpListener, sync::watch, task::JoinHandle};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{
    Request, Status,
    metadata::MetadataMap,
    service::InterceptorLayer,
    transport::{Certificate, Identity, Server as Transport, ServerTlsConfig},
};
use tracing::{error, info};

use self::{
    configurator::Configurator,
    generated::{
        configurator_service_server::ConfiguratorServiceServer, manager_service_server::ManagerServiceServer,
        meta_service_server::MetaServiceServer,
    },
    manager::Manager,
    meta::Meta,
    notifications::Notifications,
};
use super::{
    Api,
    security::{Access, Role, bearer, tokens::TokenError},
};
use crate::config::HttpSettings;

/// Longest message that is taken, in bytes; the default of the contract.
const MESSAGE_MAX: usize = 4 << 20;
/// Streams of one connection at a time.
const STREAMS_MAX: u32 = 256;
/// A peer that does not answer pings for this long is gone.
const KEEPALIVE: Duration = Duration::from_secs(20);

/// Why the server does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address cannot be used.
    #[error("cannot listen on {address}: {error}; give another --grpc-listen, or off")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The system's words.
        error: io::Error,
    },
    /// The tokens cannot be used.
    #[error(transparent)]
    Tokens(#[from] TokenError),
    /// A certificate or key cannot be read.
    #[error("{}: {error}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The system's words.
        error: io::Error,
    },
    /// What tonic refuses.
    #[error("the gRPC server cannot be set up: {0}")]
    Setup(String),
}

/// The running server. Dropping it ends it at once.
pub struct Server {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Server {
    /// Listens on an address (port 0: any free port). Certificates and tokens are those of the REST API.
    ///
    /// # Errors
    /// The address, the tokens or the certificates cannot be used.
    pub async fn start(api: Api, listen: SocketAddr, settings: &HttpSettings) -> Result<Self, StartError> {
        let gate = Gate(Arc::new(Access::new(settings.tokens.clone())?));
        let failed = |error| StartError::Listen { address: listen, error };
        let socket = TcpListener::bind(listen).await.map_err(failed)?;
        let address = socket.local_addr().map_err(failed)?;
        let mut server = Transport::builder()
            .http2_keepalive_interval(Some(KEEPALIVE))
            .http2_keepalive_timeout(Some(KEEPALIVE))
            .max_concurrent_streams(STREAMS_MAX);
        if let Some(tls) = tls(settings)? {
            server = server.tls_config(tls).map_err(|error| StartError::Setup(error.to_string()))?;
        }
        let (stop, mut stopped) = watch::channel(false);
        let notifications = Notifications::start(&api, stop.subscribe());
        let configurator = Configurator {
            api: api.clone(),
            gate: gate.clone(),
            notifications,
            stopped: stop.subscribe(),
        };
        let manager = Manager {
            api,
            gate: gate.clone(),
            stopped: stop.subscribe(),
        };
        let (health, health_service) = tonic_health::server::health_reporter();
        health.set_serving::<ManagerServiceServer<Manager>>().await;
        health.set_serving::<ConfiguratorServiceServer<Configurator>>().await;
        let setup = |error: tonic_reflection::server::Error| StartError::Setup(error.to_string());
        let reading = gate.clone();
        let router = server
            .layer(InterceptorLayer::new(move |request: Request<()>| {
                // What changes something asks for more by itself.
                reading.admit(request.metadata(), Role::Read).map(|()| request)
            }))
            .add_service(health_service)
            .add_service(reflection().build_v1().map_err(setup)?)
            .add_service(reflection().build_v1alpha().map_err(setup)?)
            .add_service(MetaServiceServer::new(Meta))
            .add_service(ManagerServiceServer::new(manager).max_decoding_message_size(MESSAGE_MAX))
            .add_service(ConfiguratorServiceServer::new(configurator).max_decoding_message_size(MESSAGE_MAX));
        info!(
            tokens = gate.0.needs_token(),
            tls = settings.identity.is_some(),
            "gRPC API: {address}"
        );
        let task = tokio::spawn(async move {
            // It fails only if the sender is gone, and then it has ended, too.
            let end = async move { drop(stopped.wait_for(|stop| *stop).await) };
            if let Err(error) = router.serve_with_incoming_shutdown(TcpListenerStream::new(socket), end).await {
                error!("the gRPC API ended: {error}");
            }
        });
        Ok(Server { address, stop, task })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends streams, takes no further calls, and lets those under way finish for a short time.
    pub async fn shutdown(mut self) {
        self.stop.send_replace(true);
        // A client that does not read must not hold up the end.
        let _ = tokio::time::timeout(Duration::from_secs(1), &mut self.task).await;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn reflection() -> tonic_reflection::server::Builder<'static> {
    tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
}

fn tls(settings: &HttpSettings) -> Result<Option<ServerTlsConfig>, StartError> {
    let Some((certificate, key)) = &settings.identity else {
        return Ok(None);
    };
    let read = |path: &PathBuf| std::fs::read(path).map_err(|error| StartError::File { path: path.clone(), error });
    let mut tls = ServerTlsConfig::new().identity(Identity::from_pem(read(certificate)?, read(key)?));
    if let Some(ca) = &settings.client_ca {
        tls = tls.client_ca_root(Certificate::from_pem(read(ca)?));
    }
    Ok(Some(tls))
}

/// Who may call what.
#[derive(Clone)]
pub(crate) struct Gate(Arc<Access>);

impl Gate {
    /// Lets a call pass whose token has a role.
    // A status is large; it is what tonic wants.
    #[allow(clippy::result_large_err)]
    pub fn admit(&self, metadata: &MetadataMap, needs: Role) -> Result<(), Status> {
        let header = metadata.get("authorization").and_then(|value| value.to_str().ok());
        let admitted = self.0.admit(header.and_then(bearer), needs, SystemTime::now());
        admitted.map(drop).map_err(|denied| match denied.is_unauthenticated() {
            true => Status::unauthenticated(denied.to_string()),
            false => Status::permission_denied(denied.to_string()),
        })
    }
}
