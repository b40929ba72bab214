//! API clients in a separate process. Many idle clients only keep a connection open, and some busy clients send requests at a fixed rate.
//!
//! The process reads one command per line from standard input, and answers each command with one line of JSON. See [`Generator`] and [`generate`].
//!
//! Half of the [`IDLE`] idle clients keep a REST connection open. Each client in the other half subscribes to the state of one link over its own
//! connection. If the environment contains `W1_FOLLOW=all`, each of these clients subscribes to all states instead. The agent then sends about two
//! million messages per run of W1.
//!
//! Each of the [`BUSY`] busy clients starts at a different moment and sends [`RATE`] requests per second, taken in turn from
//! [`MIX`]. A client never exceeds this rate, no matter how fast the agent responds. Most requests are cheap, but one in twenty
//! reads all metrics, one in twenty lists all desired values, and one in twenty dumps all cached links.

use std::{
    process::Stdio,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use http_body_util::{BodyExt, Empty};
use hyper::{Request, body::Bytes, client::conn::http1};
use hyper_util::rt::TokioIo;
use models::proto::ligato::generic::{GetConfigRequest, GetConfigResponse, SubscribeRequest, SubscribeResponse, Subscription, item::Id};
use rustix::{
    process::{Resource, Rlimit, getrlimit, nice, setrlimit},
    time::{ClockId, clock_gettime},
};
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    net::TcpStream,
    process::{Child, ChildStdin, ChildStdout, Command},
    sync::mpsc,
    task::JoinSet,
    time::{MissedTickBehavior, interval_at},
};
use tonic::{client::Grpc, codegen::http::uri::PathAndQuery, transport::Channel};
use tonic_prost::ProstCodec;

/// Number of idle clients.
pub const IDLE: usize = 1000;
/// Number of busy clients.
pub const BUSY: usize = 50;
/// Requests per second of each busy client.
pub const RATE: u32 = 10;

/// Environment variable that makes the program run the clients instead of the benchmark.
const PART: &str = "W1_CLIENTS";
const REST: &str = "127.0.0.1:9191";
const GRPC: &str = "http://127.0.0.1:9111";
/// Time limit for connecting all clients, and for receiving the last responses.
const TIME_LIMIT: Duration = Duration::from_secs(120);

/// REST paths that a busy client requests in turn. The empty path stands for a `GetConfig` call over gRPC.
const MIX: [&str; 20] = [
    "/liveness",
    "/readiness",
    STATUS,
    "/liveness",
    "/metrics",
    "/liveness",
    "/readiness",
    STATUS,
    "/liveness",
    "/info/version",
    "",
    "/liveness",
    "/readiness",
    STATUS,
    "/liveness",
    "/scheduler/dump?descriptor=linux-interface&view=cached",
    "/liveness",
    "/readiness",
    STATUS,
    "/liveness",
];
const STATUS: &str = "/scheduler/status?key=config/linux/interfaces/v2/interface/l1";

/// Results of all busy clients since the command `begin`.
#[derive(Default, Clone, Serialize, Deserialize)]
pub struct Load {
    /// Number of successful requests.
    pub served: usize,
    /// Number of failed requests.
    pub failed: usize,
    /// Error message of the last failed request; empty if no request failed.
    pub words: String,
    /// 99th percentile of the response time, in milliseconds.
    pub latency_ms: f64,
    /// CPU time of the client process, in milliseconds.
    pub processor_ms: f64,
}

/// Handle to the client process, used by the benchmark.
pub struct Generator {
    child: Child,
    commands: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
    load: Option<Load>,
}

impl Generator {
    /// Starts the client process, without connecting any client yet.
    pub fn start() -> Self {
        let mut child = Command::new(std::env::current_exe().expect("get the path of the benchmark"))
            .env(PART, "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("start the clients");
        Generator {
            commands: child.stdin.take().expect("a pipe"),
            answers: BufReader::new(child.stdout.take().expect("a pipe")).lines(),
            child,
            load: None,
        }
    }

    async fn command(&mut self, command: &str) -> Load {
        self.commands.write_all(command.as_bytes()).await.expect("send a command");
        let answer = tokio::time::timeout(TIME_LIMIT, self.answers.next_line())
            .await
            .expect("receive an answer in time");
        let answer = answer.expect("read the answer").expect("the client process is still running");
        serde_json::from_str(&answer).unwrap_or_else(|error| panic!("{error}: {answer}"))
    }

    /// Connects all clients. The busy clients then start to send requests.
    pub async fn connect(&mut self) {
        let load = self.command("connect\n").await;
        assert_eq!(load.failed, 0, "a client failed to connect: {}", load.words);
    }

    /// Resets all counters of the client process.
    pub async fn begin(&mut self) {
        self.command("begin\n").await;
    }

    /// Fetches the results since [`Self::begin`], and stores them for [`Self::end`].
    pub async fn measure(&mut self) {
        self.load = Some(self.command("measure\n").await);
    }

    /// Kills the process and returns the results that [`Self::measure`] has stored.
    pub async fn end(mut self) -> Load {
        self.child.kill().await.expect("kill the clients");
        self.load.expect("`measure` was called first")
    }
}

/// Counters inside the client process.
#[derive(Default)]
struct Counted {
    load: Load,
    latencies: Vec<Duration>,
    processor: f64,
}

type Counter = Arc<Mutex<Counted>>;

fn processor_ms() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 * 1e3 + time.tv_nsec as f64 / 1e6
}

/// Returns true if this process was started to run the clients.
pub fn is_wanted() -> bool {
    std::env::var_os(PART).is_some()
}

/// Runs the client process until the benchmark ends it.
pub fn generate() {
    // Lower the priority, so that the measured agent has priority over the clients.
    nice(19).expect("lower the priority");
    let limit = getrlimit(Resource::Nofile);
    let current = limit.maximum;
    setrlimit(Resource::Nofile, Rlimit { current, ..limit }).expect("raise the limit to the hard limit");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("build the runtime").block_on(obey());
}

async fn obey() {
    let (sender, mut commands) = mpsc::unbounded_channel();
    // When the benchmark exits, the pipe to standard input is closed, and the client process exits as well.
    std::thread::spawn(move || {
        std::io::stdin()
            .lines()
            .map_while(Result::ok)
            .try_for_each(|line| sender.send(line))
    });
    let counter = Counter::default();
    let (mut idle, mut busy) = (JoinSet::new(), JoinSet::new());
    while let Some(command) = commands.recv().await {
        match command.as_str() {
            "connect" => {
                for number in 0..IDLE {
                    match number % 2 {
                        0 => drop(idle.spawn(keep_open(rest().await))),
                        _ => drop(idle.spawn(follow(number, grpc().await))),
                    }
                }
                for number in 0..BUSY {
                    busy.spawn(ask(number, counter.clone()));
                }
            }
            "begin" => {
                let processor = processor_ms();
                *counter.lock().expect("no panic") = Counted {
                    processor,
                    ..Counted::default()
                };
            }
            _ => {}
        }
        let load = {
            let counted = &mut *counter.lock().expect("no panic");
            counted.latencies.sort();
            let last = counted.latencies.len().saturating_sub(1);
            let latency = counted.latencies.get(last * 99 / 100).copied().unwrap_or_default();
            Load {
                latency_ms: latency.as_secs_f64() * 1e3,
                processor_ms: processor_ms() - counted.processor,
                ..counted.load.clone()
            }
        };
        println!("{}", serde_json::to_string(&load).expect("JSON"));
    }
}

type Rest = http1::SendRequest<Empty<Bytes>>;

async fn rest() -> Rest {
    let stream = TcpStream::connect(REST).await.expect("connect to the REST API");
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.expect("HTTP");
    tokio::spawn(connection);
    sender
}

async fn grpc() -> Grpc<Channel> {
    Grpc::new(Channel::from_static(GRPC).connect().await.expect("connect to the gRPC API"))
}

async fn get(sender: &mut Rest, path: &str) -> Result<(), String> {
    sender.ready().await.map_err(|error| error.to_string())?;
    let request = Request::get(path).header("host", REST).body(Empty::new()).expect("a request");
    let answer = sender.send_request(request).await.map_err(|error| error.to_string())?;
    let status = answer.status();
    answer.into_body().collect().await.map_err(|error| error.to_string())?;
    // A 404 for a value that does not exist yet counts as success.
    match status.is_success() || path == STATUS {
        true => Ok(()),
        false => Err(format!("{path}: {status}")),
    }
}

/// Sends one request, then keeps the connection open.
async fn keep_open(mut sender: Rest) {
    get(&mut sender, "/liveness").await.expect("send a request");
    std::future::pending::<()>().await;
    drop(sender);
}

/// Subscribes to the state of one link, or to all states if `W1_FOLLOW=all` is set.
async fn follow(number: usize, mut client: Grpc<Channel>) {
    let id = Id {
        model: "linux.interfaces.interface".to_owned(),
        name: format!("l{number}"),
    };
    let one = vec![Subscription { id: Some(id) }];
    let follows_all = std::env::var("W1_FOLLOW").is_ok_and(|what| what == "all");
    let request = SubscribeRequest {
        subscriptions: if follows_all { Vec::new() } else { one },
    };
    client.ready().await.expect("wait for the connection");
    let path = PathAndQuery::from_static("/ligato.generic.ManagerService/Subscribe");
    let codec = ProstCodec::<SubscribeRequest, SubscribeResponse>::default();
    let stream = client.server_streaming(tonic::Request::new(request), path, codec).await;
    let mut stream = stream.expect("subscribe to states").into_inner();
    while let Ok(Some(_)) = stream.message().await {}
}

async fn get_config(client: &mut Grpc<Channel>) -> Result<(), String> {
    client.ready().await.map_err(|error| error.to_string())?;
    let path = PathAndQuery::from_static("/ligato.generic.ManagerService/GetConfig");
    // `ask` sets a higher message limit, because the response contains all of W1 and exceeds tonic's default limit.
    let codec = ProstCodec::<GetConfigRequest, GetConfigResponse>::default();
    let answer = client.unary(tonic::Request::new(GetConfigRequest::default()), path, codec).await;
    answer.map(drop).map_err(|status| status.to_string())
}

/// Runs a busy client, which sends a request at each tick and skips ticks if it is late.
async fn ask(number: usize, counter: Counter) {
    let (mut sender, client) = (rest().await, grpc().await);
    let mut client = client.max_decoding_message_size(64 << 20);
    let pause = Duration::from_secs(1) / RATE;
    let first = tokio::time::Instant::now() + pause * u32::try_from(number).unwrap_or(0) / u32::try_from(BUSY).unwrap_or(1);
    let mut ticks = interval_at(first, pause);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    for path in MIX.iter().cycle().skip(number) {
        ticks.tick().await;
        let start = Instant::now();
        let answer = match *path {
            "" => get_config(&mut client).await,
            path => get(&mut sender, path).await,
        };
        let counted = &mut *counter.lock().expect("no panic");
        match answer {
            Ok(()) => {
                counted.load.served += 1;
                counted.latencies.push(start.elapsed());
            }
            Err(words) => {
                counted.load.failed += 1;
                counted.load.words = words;
            }
        }
    }
}
