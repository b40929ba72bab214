//! The KV service: Range, Put, DeleteRange, Txn, Compact.
//!
//! Each call is checked, then either served from memory or passed to the writer. Reads see only durable revisions.

use std::sync::Arc;

use etcd_client::proto::{
    PbCompactionRequest, PbCompactionResponse, PbDeleteRequest, PbDeleteResponse, PbKvService, PbPutRequest, PbPutResponse, PbRangeRequest,
    PbRangeResponse, PbRangeStreamResponse, PbTxnRequest, PbTxnResponse,
};
use tonic::{Request, Response, Status};

use super::{Reserved, Service};
use crate::error::Refusal;
use crate::writer::Command;
use crate::{apply, check};

#[tonic::async_trait]
impl PbKvService for Service {
    async fn range(&self, request: Request<PbRangeRequest>) -> Result<Response<PbRangeResponse>, Status> {
        let request = request.into_inner();
        check::range(&request)?;
        let bytes = self
            .shared
            .read(|state, current| apply::range_bytes(&state.mvcc, &request, current));
        let room = self.shared.reserve_answer(bytes).await;
        let mut response = self.shared.read(|state, current| apply::range(&state.mvcc, &request, current))?;
        self.shared.complete(&mut response.header);
        let mut response = Response::new(response);
        if let Some(room) = room {
            response.extensions_mut().insert(Reserved { _room: Arc::new(room) });
        }
        Ok(response)
    }

    type RangeStreamStream = tokio_stream::Empty<Result<PbRangeStreamResponse, Status>>;

    /// Returns an error, because the store implements API version 3.4. RangeStream was added in etcd 3.7.
    async fn range_stream(&self, _: Request<PbRangeRequest>) -> Result<Response<Self::RangeStreamStream>, Status> {
        Err(Refusal::Unsupported("RangeStream").into())
    }

    async fn put(&self, request: Request<PbPutRequest>) -> Result<Response<PbPutResponse>, Status> {
        let request = request.into_inner();
        check::put(&request)?;
        check::size(&request)?;
        let mut response = self.shared.submit(|reply| Command::Put(request, reply)).await?;
        self.shared.complete(&mut response.header);
        Ok(Response::new(response))
    }

    async fn delete_range(&self, request: Request<PbDeleteRequest>) -> Result<Response<PbDeleteResponse>, Status> {
        let request = request.into_inner();
        check::delete(&request)?;
        check::size(&request)?;
        let mut response = self.shared.submit(|reply| Command::Delete(request, reply)).await?;
        self.shared.complete(&mut response.header);
        Ok(Response::new(response))
    }

    async fn txn(&self, request: Request<PbTxnRequest>) -> Result<Response<PbTxnResponse>, Status> {
        let request = request.into_inner();
        check::txn(&request)?;
        let mut response = if apply::is_read_only(&request) {
            self.shared.read(|state, current| apply::read_txn(&state.mvcc, &request, current))?
        } else {
            check::size(&request)?;
            self.shared.submit(|reply| Command::Txn(request, reply)).await?
        };
        self.shared.complete(&mut response.header);
        Ok(Response::new(response))
    }

    /// Always performs a physical compaction: old versions are deleted from memory and from the file before the response is sent.
    async fn compact(&self, request: Request<PbCompactionRequest>) -> Result<Response<PbCompactionResponse>, Status> {
        let request = request.into_inner();
        let mut response = self.shared.submit(|reply| Command::Compact(request, reply)).await?;
        self.shared.complete(&mut response.header);
        Ok(Response::new(response))
    }
}
