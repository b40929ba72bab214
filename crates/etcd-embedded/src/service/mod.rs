//! The gRPC services. Each service has its own module. All changes to the store go through the writer.

mod auth;
mod cluster;
mod connection;
mod election;
mod gateway;
mod generated;
mod kv;
mod lease;
mod lock;
mod maintenance;
mod watch;

use std::sync::Arc;

use etcd_client::proto::{PbClusterServer, PbKvServer, PbLeaseServer, PbMaintenanceServer, PbWatchServer};
use tokio::{net::TcpListener, sync::OwnedSemaphorePermit};
use tonic::{Status, service::Routes};

use self::connection::{Calls, StoreProtocol};
use self::generated::{election_server::ElectionServer, lock_server::LockServer};
use super::StoreLimits;
use super::check::REQUEST_BYTES_MAX;
use super::error::Refusal;
use super::shared::Shared;
use listener::{Limits, Listener};

/// Maximum size of a gRPC message in bytes.
///
/// As in etcd, this limit is half a MiB above the request size limit. A slightly too large request is therefore decoded and then gets the error for
/// the request size.
const MESSAGE_BYTES_MAX: usize = REQUEST_BYTES_MAX + (512 << 10);
/// Memory reserved for a response until the client has received it. The service attaches the reservation to the response as an
/// extension.
#[derive(Clone)]
struct Reserved {
    _room: Arc<OwnedSemaphorePermit>,
}

/// State shared by all services.
#[derive(Clone)]
pub(super) struct Service {
    pub(super) shared: Arc<Shared>,
}

/// Converts an error of a lock or election call to a gRPC status. As in etcd, these calls report a missing lease with the code Unknown.
fn passed_on(refusal: Refusal) -> Status {
    match refusal {
        Refusal::LeaseNotFound => Status::unknown(refusal.to_string()),
        other => other.into(),
    }
}

/// Serves clients until the store stops. Open calls then have a short time to end.
pub(super) async fn serve(socket: TcpListener, shared: Arc<Shared>, limits: StoreLimits) {
    let limits = Limits {
        connections_max: limits.connections,
        body_max: MESSAGE_BYTES_MAX,
        step: limits.step,
    };
    let calls = Arc::new(Calls::new(routes(&shared), &limits));
    let stop = shared.stopping.subscribe();
    let protocol = StoreProtocol { calls, shared, limits };
    let listener = Listener {
        socket,
        tls: None,
        protocol,
        limits,
        stop,
    };
    listener.run().await;
}

fn routes(shared: &Arc<Shared>) -> Routes {
    let service = Service {
        shared: Arc::clone(shared),
    };
    Routes::default()
        .add_service(PbKvServer::new(service.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX))
        .add_service(PbWatchServer::new(service.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX))
        .add_service(PbLeaseServer::new(service.clone()))
        .add_service(PbClusterServer::new(service.clone()))
        .add_service(LockServer::new(service.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX))
        .add_service(ElectionServer::new(service.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX))
        .add_service(PbMaintenanceServer::new(service))
        .add_service(auth::NoAuth)
        .prepare()
}
