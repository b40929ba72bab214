//! The Watch service: the loop that drives one [`WatchStream`] between a client's requests, new revisions and a client that reads.
//!
//! Owns the task of a stream. It must never wait for the client without also listening to it, or a cancel would not be heard. Start
//! reading at [`drive`].

use std::sync::Arc;
use std::time::Duration;

use etcd_client::proto::{PbWatchRequest, PbWatchResponse, PbWatchService};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::Service;
use crate::shared::Shared;
use crate::watch::WatchStream;

/// Responses between the task and the connection; what is beyond waits in the log.
const RESPONSES_IN_FLIGHT: usize = 4;
/// Answers that may wait before a client's further requests are left unread.
const OUTGOING_MAX: usize = 4096;
/// How often a watch with `progress_notify` hears at least something: etcd's interval.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(600);

#[tonic::async_trait]
impl PbWatchService for Service {
    type WatchStream = ReceiverStream<Result<PbWatchResponse, Status>>;

    async fn watch(&self, request: Request<Streaming<PbWatchRequest>>) -> Result<Response<Self::WatchStream>, Status> {
        let (responses, stream) = mpsc::channel(RESPONSES_IN_FLIGHT);
        tokio::spawn(drive(Arc::clone(&self.shared), request.into_inner(), responses));
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

/// Everything that can wake a stream. Ends when the client no longer reads or the store stops.
async fn drive(shared: Arc<Shared>, mut requests: Streaming<PbWatchRequest>, responses: mpsc::Sender<Result<PbWatchResponse, Status>>) {
    let mut stream = WatchStream::new(Arc::clone(&shared));
    let mut committed = shared.committed.subscribe();
    let mut progress = tokio::time::interval_at(tokio::time::Instant::now() + PROGRESS_INTERVAL, PROGRESS_INTERVAL);
    let mut listening = true;
    let stopped = shared.stopped();
    tokio::pin!(stopped);
    loop {
        // Marked as seen before it is read: what comes in between wakes us again.
        committed.borrow_and_update();
        let idle = !stream.has_outgoing() && !stream.fill();
        tokio::select! {
            () = &mut stopped => return,
            () = responses.closed() => return,
            request = requests.message(), if listening && stream.outgoing() < OUTGOING_MAX => match request {
                Ok(Some(request)) => stream.handle(request),
                // A client that has sent its last request still wants events, as with etcd.
                Ok(None) => listening = false,
                Err(_) => return,
            },
            permit = responses.reserve(), if stream.has_outgoing() => match (permit, stream.take()) {
                (Ok(permit), Some(response)) => permit.send(Ok(response)),
                (Ok(_), None) => {}
                (Err(_), _) => return,
            },
            changed = committed.changed(), if idle => if changed.is_err() { return },
            _ = progress.tick(), if stream.wants_progress() => stream.progress_due(),
            // More history to read, but none of it was for this client: let others run in between.
            () = tokio::task::yield_now(), if !idle && !stream.has_outgoing() => {}
        }
    }
}
