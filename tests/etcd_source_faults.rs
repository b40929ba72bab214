//! Tests how the etcd source handles faults that a real etcd rarely or never causes. A fake server loses an event, repeats an old
//! event, or cancels a watch.

use std::{
    collections::VecDeque,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex},
    time::Duration,
};

use etcd_client::proto::{
    PbCompactionRequest, PbCompactionResponse, PbDeleteRequest, PbDeleteResponse, PbEvent, PbKeyValue, PbKvServer, PbKvService,
    PbPutRequest, PbPutResponse, PbRangeRequest, PbRangeResponse, PbRangeStreamResponse, PbResponseHeader, PbTxnRequest, PbTxnResponse,
    PbWatchRequest, PbWatchResponse, PbWatchServer, PbWatchService,
};
use netns_agent::{
    sources::etcd::{RawChange, SnapshotReason, Source, SourceEvent, SourceOptions},
    store::StoreConfig,
};
use tokio::{net::TcpListener, sync::mpsc, task::JoinHandle, time::timeout};
use tokio_stream::wrappers::{TcpListenerStream, UnboundedReceiverStream};
use tonic::{Request, Response, Status, Streaming, transport::Server};

const PREFIX: &str = "/p/";
type Answer = Result<PbWatchResponse, Status>;

/// Contents of the fake server, and its scripted responses.
///
/// Each new watch sends the next list of responses, and then stays open without sending anything.
#[derive(Default)]
struct Script {
    revision: i64,
    items: Vec<PbKeyValue>,
    /// Items at earlier revisions, oldest first. The number is the last revision at which the items were current.
    past: Vec<(i64, Vec<PbKeyValue>)>,
    watches: VecDeque<Vec<PbWatchResponse>>,
    open: Vec<mpsc::UnboundedSender<Answer>>,
}

impl Script {
    /// Returns the items at a revision; 0 means the newest revision.
    fn items_at(&self, revision: i64) -> &Vec<PbKeyValue> {
        let past = self.past.iter().find(|(last, _)| revision != 0 && revision <= *last);
        past.map_or(&self.items, |(_, items)| items)
    }

    fn advance_to(&mut self, revision: i64, items: Vec<PbKeyValue>) {
        self.past.push((revision - 1, std::mem::replace(&mut self.items, items)));
        self.revision = revision;
    }
}

#[derive(Clone, Default)]
struct ScriptedStore(Arc<Mutex<Script>>);

impl ScriptedStore {
    fn change(&self, change: impl FnOnce(&mut Script)) {
        change(&mut self.0.lock().expect("not poisoned"));
    }
}

#[tonic::async_trait]
impl PbKvService for ScriptedStore {
    type RangeStreamStream = tokio_stream::Empty<Result<PbRangeStreamResponse, Status>>;

    async fn range(&self, request: Request<PbRangeRequest>) -> Result<Response<PbRangeResponse>, Status> {
        let PbRangeRequest { keys_only, revision, .. } = request.into_inner();
        let script = self.0.lock().expect("not poisoned");
        let mut kvs = script.items_at(revision).clone();
        if keys_only {
            kvs.iter_mut().for_each(|kv| kv.value.clear());
        }
        let header = Some(PbResponseHeader {
            revision: script.revision,
            ..Default::default()
        });
        Ok(Response::new(PbRangeResponse {
            header,
            count: kvs.len() as i64,
            kvs,
            more: false,
        }))
    }

    async fn range_stream(&self, _: Request<PbRangeRequest>) -> Result<Response<Self::RangeStreamStream>, Status> {
        Err(Status::unimplemented("not scripted"))
    }

    async fn put(&self, _: Request<PbPutRequest>) -> Result<Response<PbPutResponse>, Status> {
        Err(Status::unimplemented("not scripted"))
    }

    async fn delete_range(&self, _: Request<PbDeleteRequest>) -> Result<Response<PbDeleteResponse>, Status> {
        Err(Status::unimplemented("not scripted"))
    }

    async fn txn(&self, _: Request<PbTxnRequest>) -> Result<Response<PbTxnResponse>, Status> {
        Err(Status::unimplemented("not scripted"))
    }

    async fn compact(&self, _: Request<PbCompactionRequest>) -> Result<Response<PbCompactionResponse>, Status> {
        Err(Status::unimplemented("not scripted"))
    }
}

#[tonic::async_trait]
impl PbWatchService for ScriptedStore {
    type WatchStream = UnboundedReceiverStream<Answer>;

    async fn watch(&self, _: Request<Streaming<PbWatchRequest>>) -> Result<Response<Self::WatchStream>, Status> {
        let (sender, receiver) = mpsc::unbounded_channel();
        let created = PbWatchResponse {
            created: true,
            ..Default::default()
        };
        self.change(|script| {
            for answer in [created].into_iter().chain(script.watches.pop_front().unwrap_or_default()) {
                // The receiver exists, so sending cannot fail.
                let _ = sender.send(Ok(answer));
            }
            script.open.push(sender);
        });
        Ok(Response::new(UnboundedReceiverStream::new(receiver)))
    }
}

fn item(key: &str, value: &str, mod_revision: i64) -> PbKeyValue {
    let key = format!("{PREFIX}{key}").into_bytes();
    PbKeyValue {
        key,
        value: value.into(),
        mod_revision,
        create_revision: 1,
        version: 1,
        lease: 0,
    }
}

fn events(kvs: Vec<PbKeyValue>) -> PbWatchResponse {
    let events = kvs
        .into_iter()
        .map(|kv| PbEvent {
            r#type: 0,
            kv: Some(kv),
            prev_kv: None,
        })
        .collect();
    PbWatchResponse {
        events,
        ..Default::default()
    }
}

struct Run {
    store: ScriptedStore,
    source: Source,
    server: JoinHandle<()>,
}

impl Drop for Run {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Run {
    async fn start(script: Script) -> Self {
        let store = ScriptedStore(Arc::new(Mutex::new(script)));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a loopback port");
        let address: SocketAddr = listener.local_addr().expect("a bound address");
        let router = Server::builder()
            .add_service(PbKvServer::new(store.clone()))
            .add_service(PbWatchServer::new(store.clone()));
        let server = tokio::spawn(async move {
            // Ignore the result: the server runs until its task is aborted.
            let _ = router.serve_with_incoming(TcpListenerStream::new(listener)).await;
        });
        let options = SourceOptions {
            compare_interval: Duration::from_millis(200),
            ..SourceOptions::default()
        };
        let config = StoreConfig::plain([format!("http://{address}")]);
        let source = Source::start_with(config, PREFIX.to_owned(), options).expect("a valid configuration");
        Self { store, source, server }
    }

    async fn next(&mut self) -> SourceEvent {
        timeout(Duration::from_secs(20), self.source.recv())
            .await
            .expect("an event in time")
            .expect("the source runs")
    }

    async fn snapshot(&mut self) -> (SnapshotReason, Vec<String>) {
        match self.next().await {
            SourceEvent::Snapshot { reason, items, .. } => {
                let show = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
                (
                    reason,
                    items.iter().map(|item| format!("{}={}", item.key, show(&item.value))).collect(),
                )
            }
            other => panic!("expected a snapshot: {other:?}"),
        }
    }

    fn send(&self, response: &PbWatchResponse) {
        self.store
            .change(|script| script.open.retain(|watch| watch.send(Ok(response.clone())).is_ok()));
    }
}

fn script(items: Vec<PbKeyValue>) -> Script {
    Script {
        revision: 10,
        items,
        ..Default::default()
    }
}

#[tokio::test]
async fn comparison_finds_an_event_that_the_watch_has_lost() {
    let mut run = Run::start(script(vec![item("a", "1", 5), item("b", "1", 6)])).await;
    assert_eq!(run.snapshot().await.0, SnapshotReason::Initial);
    run.store.change(|script| script.advance_to(12, vec![item("a", "2", 12)]));
    let want = ["a=2".to_owned()].to_vec();
    assert_eq!(run.snapshot().await, (SnapshotReason::Difference, want));
}

#[tokio::test]
async fn watch_behind_a_compaction_gets_a_snapshot() {
    let mut script = script(vec![item("a", "1", 5)]);
    script.watches.push_back(vec![PbWatchResponse {
        canceled: true,
        compact_revision: 20,
        ..Default::default()
    }]);
    let mut run = Run::start(script).await;
    let first = run.snapshot().await;
    let second = run.snapshot().await;
    assert_eq!((first.0, second.0), (SnapshotReason::Initial, SnapshotReason::Compacted));
    assert_eq!(first.1, second.1);
}

#[tokio::test]
async fn cancelled_watch_is_reported_with_its_reason_and_opened_again() {
    let mut script = script(vec![item("a", "1", 5)]);
    let cancel_reason = "etcdserver: permission denied".to_owned();
    script.watches.push_back(vec![PbWatchResponse {
        canceled: true,
        cancel_reason,
        ..Default::default()
    }]);
    let mut run = Run::start(script).await;
    run.snapshot().await;
    let SourceEvent::Disconnected { message } = run.next().await else {
        panic!("the loss must be reported")
    };
    assert!(message.contains("etcdserver: permission denied"), "{message}");
    assert_eq!(run.next().await, SourceEvent::Reconnected);
    run.send(&events(vec![item("a", "2", 11)]));
    assert!(
        matches!(run.next().await, SourceEvent::Changes { revision: 11, .. }),
        "nothing else may be delivered"
    );
}

#[tokio::test]
async fn old_events_unknown_kinds_and_foreign_keys_are_ignored() {
    let mut run = Run::start(script(vec![item("a", "1", 5)])).await;
    run.snapshot().await;
    let old = item("a", "older", 4);
    let unknown = PbEvent {
        r#type: 77,
        kv: Some(item("b", "1", 11)),
        prev_kv: None,
    };
    let foreign = PbEvent {
        r#type: 0,
        kv: Some(PbKeyValue {
            key: b"/other".to_vec(),
            ..item("", "", 11)
        }),
        prev_kv: None,
    };
    let empty = PbEvent {
        r#type: 0,
        kv: None,
        prev_kv: None,
    };
    run.send(&events(vec![old]));
    run.send(&PbWatchResponse {
        events: vec![unknown, foreign, empty],
        ..Default::default()
    });
    let SourceEvent::Changes { revision, items } = run.next().await else {
        panic!("expected changes")
    };
    let keys: Vec<String> = items.iter().map(|change: &RawChange| change.key.to_string()).collect();
    assert_eq!((revision, keys), (11, vec!["b".to_owned()]));
}
