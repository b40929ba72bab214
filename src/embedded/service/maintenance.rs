//! The Maintenance service: status, defragmentation, an empty list of alarms.
//!
//! Owns nothing. It must never return a hash or a snapshot that no etcd could use; those are refused. Start reading at `status`.

use etcd_client::proto::{
    PbAlarmRequest, PbAlarmResponse, PbDefragmentRequest, PbDefragmentResponse, PbDowngradeRequest, PbDowngradeResponse, PbHashKvRequest,
    PbHashKvResponse, PbHashRequest, PbHashResponse, PbMaintenanceService, PbMoveLeaderRequest, PbMoveLeaderResponse, PbSnapshotRequest,
    PbSnapshotResponse, PbStatusRequest, PbStatusResponse,
};
use tonic::{Request, Response, Status};

use super::Service;
use crate::embedded::error::Refusal;
use crate::embedded::writer::Command;

/// Clients that look at the version find an API of 3.4, and people find out whom they talk to.
const VERSION: &str = "3.4.0-netns-agent";
/// `AlarmRequest.action` GET.
const ALARM_GET: i32 = 0;

#[tonic::async_trait]
impl PbMaintenanceService for Service {
    async fn status(&self, _: Request<PbStatusRequest>) -> Result<Response<PbStatusResponse>, Status> {
        let size = std::fs::metadata(&self.shared.path).map_or(0, |metadata| metadata.len());
        let size = i64::try_from(size).unwrap_or(i64::MAX);
        let revision = self.shared.current();
        // There is no raft: the revision stands in for the index, so that tools that compare the two see nothing behind.
        let index = u64::try_from(revision).unwrap_or(0);
        Ok(Response::new(PbStatusResponse {
            header: self.shared.header(revision),
            version: VERSION.to_owned(),
            db_size: size,
            db_size_in_use: size,
            leader: self.shared.identity.member,
            raft_index: index,
            raft_applied_index: index,
            raft_term: self.shared.identity.term,
            ..PbStatusResponse::default()
        }))
    }

    async fn defragment(&self, _: Request<PbDefragmentRequest>) -> Result<Response<PbDefragmentResponse>, Status> {
        self.shared.submit(Command::Defragment).await?;
        Ok(Response::new(PbDefragmentResponse {
            header: self.shared.header(self.shared.current()),
        }))
    }

    async fn alarm(&self, request: Request<PbAlarmRequest>) -> Result<Response<PbAlarmResponse>, Status> {
        if request.into_inner().action != ALARM_GET {
            return Err(Refusal::Unsupported("raising or disarming alarms").into());
        }
        Ok(Response::new(PbAlarmResponse {
            header: self.shared.header(self.shared.current()),
            alarms: Vec::new(),
        }))
    }

    async fn hash(&self, _: Request<PbHashRequest>) -> Result<Response<PbHashResponse>, Status> {
        Err(Refusal::Unsupported("Hash").into())
    }

    async fn hash_kv(&self, _: Request<PbHashKvRequest>) -> Result<Response<PbHashKvResponse>, Status> {
        Err(Refusal::Unsupported("HashKV").into())
    }

    type SnapshotStream = tokio_stream::Empty<Result<PbSnapshotResponse, Status>>;

    async fn snapshot(&self, _: Request<PbSnapshotRequest>) -> Result<Response<Self::SnapshotStream>, Status> {
        Err(Refusal::Unsupported("Snapshot").into())
    }

    async fn move_leader(&self, _: Request<PbMoveLeaderRequest>) -> Result<Response<PbMoveLeaderResponse>, Status> {
        Err(Refusal::Unsupported("moving the leader").into())
    }

    async fn downgrade(&self, _: Request<PbDowngradeRequest>) -> Result<Response<PbDowngradeResponse>, Status> {
        Err(Refusal::Unsupported("Downgrade").into())
    }
}
