//! The Cluster service, with a single member. Membership changes are not supported.

use etcd_client::proto::{
    PbClusterService, PbMember, PbMemberAddRequest, PbMemberAddResponse, PbMemberListRequest, PbMemberListResponse, PbMemberPromoteRequest,
    PbMemberPromoteResponse, PbMemberRemoveRequest, PbMemberRemoveResponse, PbMemberUpdateRequest, PbMemberUpdateResponse,
};
use tonic::{Request, Response, Status};

use super::Service;
use crate::error::Refusal;

#[tonic::async_trait]
impl PbClusterService for Service {
    async fn member_list(&self, _: Request<PbMemberListRequest>) -> Result<Response<PbMemberListResponse>, Status> {
        let member = PbMember {
            id: self.shared.identity.member,
            name: "netns-agent".to_owned(),
            peer_ur_ls: Vec::new(),
            client_ur_ls: vec![format!("http://{}", self.shared.listen)],
            is_learner: false,
        };
        Ok(Response::new(PbMemberListResponse {
            header: self.shared.header(self.shared.current()),
            members: vec![member],
        }))
    }

    async fn member_add(&self, _: Request<PbMemberAddRequest>) -> Result<Response<PbMemberAddResponse>, Status> {
        Err(Refusal::Unsupported("adding members").into())
    }

    async fn member_remove(&self, _: Request<PbMemberRemoveRequest>) -> Result<Response<PbMemberRemoveResponse>, Status> {
        Err(Refusal::Unsupported("removing members").into())
    }

    async fn member_update(&self, _: Request<PbMemberUpdateRequest>) -> Result<Response<PbMemberUpdateResponse>, Status> {
        Err(Refusal::Unsupported("updating members").into())
    }

    async fn member_promote(&self, _: Request<PbMemberPromoteRequest>) -> Result<Response<PbMemberPromoteResponse>, Status> {
        Err(Refusal::Unsupported("promoting members").into())
    }
}
