//! The Lease service: grant, revoke, keep-alive, time to live, list.
//!
//! Grants and revocations go through the writer. Renewals change only the state in memory. As in etcd, the response to a keep-alive for an unknown
//! lease has TTL 0, and the stream stays open.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use etcd_client::proto::{
    PbLeaseGrantRequest, PbLeaseGrantResponse, PbLeaseKeepAliveRequest, PbLeaseKeepAliveResponse, PbLeaseLeasesRequest,
    PbLeaseLeasesResponse, PbLeaseRevokeRequest, PbLeaseRevokeResponse, PbLeaseService, PbLeaseStatus, PbLeaseTimeToLiveRequest,
    PbLeaseTimeToLiveResponse,
};
use futures::{Stream, StreamExt};
use tonic::{Request, Response, Status, Streaming};

use super::Service;
use crate::writer::Command;

#[tonic::async_trait]
impl PbLeaseService for Service {
    async fn lease_grant(&self, request: Request<PbLeaseGrantRequest>) -> Result<Response<PbLeaseGrantResponse>, Status> {
        let request = request.into_inner();
        let mut response = self.shared.submit(|reply| Command::Grant(request, reply)).await?;
        self.shared.complete(&mut response.header);
        Ok(Response::new(response))
    }

    async fn lease_revoke(&self, request: Request<PbLeaseRevokeRequest>) -> Result<Response<PbLeaseRevokeResponse>, Status> {
        let id = request.into_inner().id;
        let mut response = self.shared.submit(|reply| Command::Revoke(id, reply)).await?;
        self.shared.complete(&mut response.header);
        Ok(Response::new(response))
    }

    type LeaseKeepAliveStream = Pin<Box<dyn Stream<Item = Result<PbLeaseKeepAliveResponse, Status>> + Send>>;

    async fn lease_keep_alive(
        &self,
        request: Request<Streaming<PbLeaseKeepAliveRequest>>,
    ) -> Result<Response<Self::LeaseKeepAliveStream>, Status> {
        let shared = Arc::clone(&self.shared);
        let stopping = Arc::clone(&self.shared);
        let answers = request.into_inner().map(move |request| {
            let id = request?.id;
            let ttl = shared.renew_lease(id).unwrap_or(0);
            Ok(PbLeaseKeepAliveResponse {
                header: shared.header(shared.current()),
                id,
                ttl,
            })
        });
        Ok(Response::new(Box::pin(
            answers.take_until(Box::pin(async move { stopping.stopped().await })),
        )))
    }

    async fn lease_time_to_live(&self, request: Request<PbLeaseTimeToLiveRequest>) -> Result<Response<PbLeaseTimeToLiveResponse>, Status> {
        let PbLeaseTimeToLiveRequest { id, keys } = request.into_inner();
        let mut response = self.shared.read(|state, _| match state.lessor.get(id) {
            Some(lease) => PbLeaseTimeToLiveResponse {
                header: None,
                id,
                ttl: lease.remaining(Instant::now()),
                granted_ttl: lease.ttl,
                keys: if keys { lease.keys.iter().cloned().collect() } else { Vec::new() },
            },
            None => PbLeaseTimeToLiveResponse {
                header: None,
                id,
                ttl: -1,
                granted_ttl: 0,
                keys: Vec::new(),
            },
        });
        self.shared.complete(&mut response.header);
        Ok(Response::new(response))
    }

    async fn lease_leases(&self, _: Request<PbLeaseLeasesRequest>) -> Result<Response<PbLeaseLeasesResponse>, Status> {
        let ids = self.shared.read(|state, _| state.lessor.ids());
        let leases = ids.into_iter().map(|id| PbLeaseStatus { id }).collect();
        Ok(Response::new(PbLeaseLeasesResponse {
            header: self.shared.header(self.shared.current()),
            leases,
        }))
    }
}
