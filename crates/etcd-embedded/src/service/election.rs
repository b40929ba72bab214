//! The Election service of etcd (`v3electionpb`).

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::{
    Service,
    generated::{
        CampaignRequest, CampaignResponse, LeaderKey, LeaderRequest, LeaderResponse, ProclaimRequest, ProclaimResponse, ResignRequest,
        ResignResponse, election_server::Election,
    },
    passed_on,
};
use crate::{
    check,
    error::Refusal,
    shared::Shared,
    turn::{self, Place},
};

impl Service {
    fn place(&self, leader: Option<LeaderKey>) -> Result<Place, Refusal> {
        let LeaderKey { key, rev, lease, .. } = leader.ok_or(Refusal::MissingLeader)?;
        if key.is_empty() {
            return Err(Refusal::EmptyKey);
        }
        Ok(Place::named(&self.shared, key, rev, lease))
    }
}

#[tonic::async_trait]
impl Election for Service {
    async fn campaign(&self, request: Request<CampaignRequest>) -> Result<Response<CampaignResponse>, Status> {
        check::size(request.get_ref())?;
        let CampaignRequest { name, lease, value } = request.into_inner();
        let place = Place::take(&self.shared, &name, lease, &value).await.map_err(passed_on)?;
        let revision = place.turn(&name).await?;
        let (key, rev, lease) = place.keep();
        Ok(Response::new(CampaignResponse {
            header: self.shared.header(revision),
            leader: Some(LeaderKey { name, key, rev, lease }),
        }))
    }

    async fn proclaim(&self, request: Request<ProclaimRequest>) -> Result<Response<ProclaimResponse>, Status> {
        check::size(request.get_ref())?;
        let ProclaimRequest { leader, value } = request.into_inner();
        let revision = self.place(leader)?.proclaim(&value).await?;
        Ok(Response::new(ProclaimResponse {
            header: self.shared.header(revision),
        }))
    }

    async fn leader(&self, request: Request<LeaderRequest>) -> Result<Response<LeaderResponse>, Status> {
        let (leader, current) = turn::first(&self.shared, &request.into_inner().name);
        let leader = leader.ok_or(Refusal::NoLeader)?;
        Ok(Response::new(LeaderResponse {
            header: self.shared.header(current),
            kv: Some(leader.kv.clone()),
        }))
    }

    type ObserveStream = ReceiverStream<Result<LeaderResponse, Status>>;

    async fn observe(&self, request: Request<LeaderRequest>) -> Result<Response<Self::ObserveStream>, Status> {
        let (sender, stream) = mpsc::channel(1);
        tokio::spawn(observe(Arc::clone(&self.shared), request.into_inner().name, sender));
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn resign(&self, request: Request<ResignRequest>) -> Result<Response<ResignResponse>, Status> {
        check::size(request.get_ref())?;
        let revision = self.place(request.into_inner().leader)?.resign().await?;
        Ok(Response::new(ResignResponse {
            header: self.shared.header(revision),
        }))
    }
}

/// Sends the leader whenever the leader or its value changes. A slow client receives only the latest change.
async fn observe(shared: Arc<Shared>, name: Vec<u8>, leaders: mpsc::Sender<Result<LeaderResponse, Status>>) {
    let mut committed = shared.committed.subscribe();
    let mut sent = 0;
    loop {
        committed.borrow_and_update();
        let (leader, current) = turn::first(&shared, &name);
        if let Some(leader) = leader.filter(|leader| leader.kv.mod_revision != sent) {
            sent = leader.kv.mod_revision;
            let response = LeaderResponse {
                header: shared.header(current),
                kv: Some(leader.kv.clone()),
            };
            if leaders.send(Ok(response)).await.is_err() {
                return;
            }
        }
        tokio::select! {
            changed = committed.changed() => if changed.is_err() { return },
            () = leaders.closed() => return,
            () = shared.stopped() => return,
        }
    }
}
