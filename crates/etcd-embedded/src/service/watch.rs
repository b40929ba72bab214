//! The Watch service. Each call runs a [`WatchStream`], which handles client requests, reads new revisions once they are durable, and sends
//! responses.
//!
//! While a watch task waits for the client to read responses, it keeps reading requests, so that it notices a cancel request.

use std::sync::Arc;
use std::time::Duration;

use etcd_client::proto::{PbWatchRequest, PbWatchResponse, PbWatchService};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::Service;
use crate::shared::Shared;
use crate::watch::WatchStream;

/// Capacity of the channel from a watch task to its connection. While it is full, no further events are read from the log.
const RESPONSES_IN_FLIGHT: usize = 4;
/// Number of queued responses at which the service stops reading client requests.
const OUTGOING_MAX: usize = 4096;
/// Interval of progress notifications for watches with `progress_notify`, as in etcd.
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

/// Runs a watch stream until the client disconnects or the store stops.
async fn drive(shared: Arc<Shared>, mut requests: Streaming<PbWatchRequest>, responses: mpsc::Sender<Result<PbWatchResponse, Status>>) {
    let mut stream = WatchStream::new(Arc::clone(&shared));
    let mut committed = shared.committed.subscribe();
    let mut progress = tokio::time::interval_at(tokio::time::Instant::now() + PROGRESS_INTERVAL, PROGRESS_INTERVAL);
    let mut listening = true;
    let stopped = shared.stopped();
    tokio::pin!(stopped);
    loop {
        // Mark the revision as seen before reading the log, so that a change in between wakes the loop again.
        committed.borrow_and_update();
        let idle = !stream.has_outgoing() && !stream.fill();
        tokio::select! {
            () = &mut stopped => return,
            () = responses.closed() => return,
            request = requests.message(), if listening && stream.outgoing() < OUTGOING_MAX => match request {
                Ok(Some(request)) => stream.handle(request),
                // As in etcd, a client still receives events after it has closed its request stream.
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
            // The log contains more revisions, but the last read found no events for this client. Let other tasks run before the next read.
            () = tokio::task::yield_now(), if !idle && !stream.has_outgoing() => {}
        }
    }
}
