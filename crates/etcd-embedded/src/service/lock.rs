//! The Lock service of etcd (`v3lockpb`).

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::{
    Service,
    generated::{LockRequest, LockResponse, UnlockRequest, UnlockResponse, lock_server::Lock},
    passed_on,
};
use crate::{check, turn::Place, writer::Command};

#[tonic::async_trait]
impl Lock for Service {
    async fn lock(&self, request: Request<LockRequest>) -> Result<Response<LockResponse>, Status> {
        check::size(request.get_ref())?;
        let LockRequest { name, lease } = request.into_inner();
        let place = Place::take(&self.shared, &name, lease, b"").await.map_err(passed_on)?;
        let revision = place.turn(&name).await?;
        let (key, ..) = place.keep();
        let header = self.shared.header(revision);
        Ok(Response::new(LockResponse { header, key }))
    }

    async fn unlock(&self, request: Request<UnlockRequest>) -> Result<Response<UnlockResponse>, Status> {
        let request = etcd_client::proto::PbDeleteRequest {
            key: request.into_inner().key,
            ..Default::default()
        };
        check::delete(&request)?;
        check::size(&request)?;
        let shared = Arc::clone(&self.shared);
        let mut response = shared.submit(|reply| Command::Delete(request, reply)).await?;
        self.shared.complete(&mut response.header);
        Ok(Response::new(UnlockResponse { header: response.header }))
    }
}
