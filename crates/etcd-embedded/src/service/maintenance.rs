//! The Maintenance service: status, defragmentation, the NOSPACE alarm, hashes and snapshots.
//!
//! The hashes are equal to the hashes of an etcd server with the same history. A snapshot is an etcd database file.

use std::pin::Pin;
use std::sync::Arc;

use etcd_client::proto::{
    PbAlarmMember, PbAlarmRequest, PbAlarmResponse, PbDefragmentRequest, PbDefragmentResponse, PbDowngradeRequest, PbDowngradeResponse,
    PbHashKvRequest, PbHashKvResponse, PbHashRequest, PbHashResponse, PbMaintenanceService, PbMoveLeaderRequest, PbMoveLeaderResponse,
    PbSnapshotRequest, PbSnapshotResponse, PbStatusRequest, PbStatusResponse,
};
use futures::Stream;
use ring::digest;
use tonic::{Request, Response, Status};

use super::Service;
use crate::backup::Backup;
use crate::error::Refusal;
use crate::hash;
use crate::writer::Command;

/// Server version. Clients parse it as etcd 3.4. The suffix shows users that the server is not etcd.
pub(super) const VERSION: &str = "3.4.0-netns-agent";
/// Number of bytes after which a snapshot message is sent. A message contains whole pages of the backup, so it can be larger.
const SNAPSHOT_CHUNK_BYTES: usize = 32 * 1024;
/// Values of the etcd enum `AlarmRequest.AlarmAction`.
const ALARM_GET: i32 = 0;
const ALARM_ACTIVATE: i32 = 1;
const ALARM_DEACTIVATE: i32 = 2;
/// Values of the etcd enum `AlarmType`.
const ALARM_NO_SPACE: i32 = 1;
const ALARM_CORRUPT: i32 = 2;

#[tonic::async_trait]
impl PbMaintenanceService for Service {
    async fn status(&self, _: Request<PbStatusRequest>) -> Result<Response<PbStatusResponse>, Status> {
        let size = std::fs::metadata(&self.shared.path).map_or(0, |metadata| metadata.len());
        let size = i64::try_from(size).unwrap_or(i64::MAX);
        let (revision, used, alarm) = self.shared.read(|state, current| (current, state.bytes(), state.quota.alarm));
        // The store does not use raft. It reports the revision as both raft indexes, so tools that compare the indexes see no lag.
        let index = u64::try_from(revision).unwrap_or(0);
        Ok(Response::new(PbStatusResponse {
            header: self.shared.header(revision),
            version: VERSION.to_owned(),
            db_size: size,
            db_size_in_use: i64::try_from(used).unwrap_or(i64::MAX),
            leader: self.shared.identity.member,
            raft_index: index,
            raft_applied_index: index,
            raft_term: self.shared.identity.term,
            errors: if alarm {
                vec![format!("memberID:{} alarm:NOSPACE ", self.shared.identity.member)]
            } else {
                Vec::new()
            },
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
        let PbAlarmRequest { action, member_id, alarm } = request.into_inner();
        let member = self.shared.identity.member;
        let concerned = match action {
            ALARM_GET => alarm != ALARM_CORRUPT && self.shared.read(|state, _| state.quota.alarm),
            _ if alarm == ALARM_CORRUPT && action == ALARM_ACTIVATE => {
                return Err(Refusal::Unsupported("raising the CORRUPT alarm").into());
            }
            ALARM_ACTIVATE => {
                self.shared.submit(|reply| Command::Alarm(true, reply)).await?;
                true
            }
            // Disarm only the alarm that the request names. `etcdctl alarm disarm` names each alarm that the server has reported.
            ALARM_DEACTIVATE if alarm == ALARM_NO_SPACE && (member_id == member || member_id == 0) => {
                self.shared.submit(|reply| Command::Alarm(false, reply)).await?
            }
            _ => false,
        };
        let raised = PbAlarmMember {
            member_id: member,
            alarm: ALARM_NO_SPACE,
        };
        Ok(Response::new(PbAlarmResponse {
            header: self.shared.header(self.shared.current()),
            alarms: if concerned { vec![raised] } else { Vec::new() },
        }))
    }

    async fn hash(&self, _: Request<PbHashRequest>) -> Result<Response<PbHashResponse>, Status> {
        let (hash, current) = self.shared.read(|state, current| (hash::hash_kv(&state.mvcc, current), current));
        Ok(Response::new(PbHashResponse {
            header: self.shared.header(current),
            hash,
        }))
    }

    async fn hash_kv(&self, request: Request<PbHashKvRequest>) -> Result<Response<PbHashKvResponse>, Status> {
        let wanted = request.into_inner().revision;
        let (hash, hash_revision, compact_revision, current) = self.shared.read(|state, current| {
            let revision = state.mvcc.readable(wanted, current)?;
            let hash = hash::hash_kv(&state.mvcc, revision);
            Ok::<_, Refusal>((hash, revision, state.mvcc.compacted(), current))
        })?;
        Ok(Response::new(PbHashKvResponse {
            header: self.shared.header(current),
            hash,
            compact_revision,
            hash_revision,
        }))
    }

    type SnapshotStream = Pin<Box<dyn Stream<Item = Result<PbSnapshotResponse, Status>> + Send>>;

    async fn snapshot(&self, _: Request<PbSnapshotRequest>) -> Result<Response<Self::SnapshotStream>, Status> {
        // Concurrent snapshots are limited, because a slow client keeps old versions in memory.
        let Ok(place) = Arc::clone(&self.shared.snapshots).try_acquire_owned() else {
            return Err(Refusal::TooManyRequests.into());
        };
        let (backup, current) = self.shared.read(|state, current| (Backup::new(state, current), current));
        tracing::info!(
            bytes = backup.bytes(),
            revision = current,
            "embedded store: sending a backup to a client"
        );
        let header = self.shared.header(current);
        let (mut remaining, mut checksum) = (backup.bytes(), digest::Context::new(&digest::SHA256));
        let mut pages = backup.into_pages();
        let mut ended = false;
        let responses = std::iter::from_fn(move || {
            let _place = &place;
            if ended {
                return None;
            }
            let mut blob = Vec::new();
            while blob.len() < SNAPSHOT_CHUNK_BYTES
                && let Some(page) = pages.next()
            {
                blob.extend(page);
            }
            checksum.update(&blob);
            remaining -= blob.len() as u64;
            if blob.is_empty() {
                // As in etcd, the last message contains the SHA-256 hash of the file.
                ended = true;
                blob = checksum.clone().finish().as_ref().to_vec();
            }
            Some(Ok(PbSnapshotResponse {
                header,
                remaining_bytes: remaining,
                blob,
                ..PbSnapshotResponse::default()
            }))
        });
        Ok(Response::new(Box::pin(futures::stream::iter(responses))))
    }

    async fn move_leader(&self, _: Request<PbMoveLeaderRequest>) -> Result<Response<PbMoveLeaderResponse>, Status> {
        Err(Refusal::Unsupported("transferring leadership (MoveLeader)").into())
    }

    async fn downgrade(&self, _: Request<PbDowngradeRequest>) -> Result<Response<PbDowngradeResponse>, Status> {
        Err(Refusal::Unsupported("Downgrade").into())
    }
}
