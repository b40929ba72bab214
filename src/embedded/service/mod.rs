//! The gRPC edge: one file for each service of the API.
//!
//! Owns the translation between gRPC calls and commands, reads and streams, and completes headers. It must never change the store except
//! through the writer. Start reading at [`serve`], then `kv`.

mod auth;
mod cluster;
mod kv;
mod lease;
mod maintenance;
mod watch;

use std::sync::Arc;

use etcd_client::proto::{PbClusterServer, PbKvServer, PbLeaseServer, PbMaintenanceServer, PbWatchServer};
use tokio::net::TcpListener;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;

use super::check::REQUEST_BYTES_MAX;
use super::shared::Shared;

/// Largest gRPC message that is read at all: etcd leaves half a MiB above its request limit, so that the limit itself answers.
const MESSAGE_BYTES_MAX: usize = REQUEST_BYTES_MAX + (512 << 10);
/// How many streams of one connection may be reset before the client is thought malicious: a client that drops a thousand watches at
/// once is an ordinary one.
const RESETS_MAX: usize = 100_000;

/// What every service needs.
#[derive(Clone)]
pub(super) struct Service {
    pub(super) shared: Arc<Shared>,
}

/// Serves until the store stops and the open calls have ended.
pub(super) async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let service = Service {
        shared: Arc::clone(&shared),
    };
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    let served = Server::builder()
        .max_concurrent_streams(u32::MAX)
        .http2_max_pending_accept_reset_streams(Some(RESETS_MAX))
        .http2_max_local_error_reset_streams(Some(RESETS_MAX))
        .add_service(PbKvServer::new(service.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX))
        .add_service(PbWatchServer::new(service.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX))
        .add_service(PbLeaseServer::new(service.clone()))
        .add_service(PbClusterServer::new(service.clone()))
        .add_service(PbMaintenanceServer::new(service))
        .add_service(auth::NoAuth)
        .serve_with_incoming_shutdown(incoming, async move { shared.stopped().await })
        .await;
    if let Err(error) = served {
        tracing::error!(%error, "embedded store: the server ended");
    }
}
