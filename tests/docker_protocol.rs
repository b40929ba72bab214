//! What the Docker tracker says to a daemon, and how it takes answers that a real daemon gives only rarely.
//!
//! A stand-in speaks just enough HTTP on a Unix socket; the "containers" are processes of the test. Needs no privilege.

use std::{
    path::PathBuf,
    process::{Child, Command},
    sync::{Arc, Mutex},
    time::Duration,
};

use netns_agent::signals::docker::{Microservice, MicroserviceChange, Tracker, TrackerConfig};
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader},
    net::{TcpListener, UnixListener},
    sync::{
        mpsc::{UnboundedReceiver, unbounded_channel},
        watch,
    },
    task::JoinHandle,
    time::timeout,
};

type TestResult<T = ()> = Result<T, Box<dyn std::error::Error>>;

/// How long a change may take; only waited for in full when a test fails.
const PATIENCE: Duration = Duration::from_secs(20);
/// The only container there is.
const CONTAINER: &str = "c0ffee";
/// When its last event happened: 2026-11-24, in seconds after the epoch.
const EVENT_TIME: i64 = 1_795_492_182;

/// What the stand-in answers, and what it was asked.
struct Script {
    newest_version: &'static str,
    /// PID in each inspection, in order; the last one is repeated.
    pids: Vec<i32>,
    /// Status and body of the answer to a list.
    list: (u16, String),
    requests: Vec<String>,
}

impl Script {
    fn with_container(pids: Vec<i32>) -> Self {
        let list = (200, format!(r#"[{{"Id":"{CONTAINER}","Names":["/web"]}}]"#));
        Self {
            newest_version: "1.41",
            pids,
            list,
            requests: Vec::new(),
        }
    }

    fn answer(&mut self, path: &str) -> (u16, String) {
        let path = path.split('?').next().unwrap_or_default();
        if path.ends_with("/version") {
            (200, format!(r#"{{"ApiVersion":"{}","MinAPIVersion":"1.12"}}"#, self.newest_version))
        } else if path.ends_with("/containers/json") {
            self.list.clone()
        } else {
            let pid = if self.pids.len() > 1 {
                self.pids.remove(0)
            } else {
                self.pids.first().copied().unwrap_or(0)
            };
            (200, inspection(pid))
        }
    }
}

fn inspection(pid: i32) -> String {
    let started = "2026-11-24T03:49:21.65Z";
    let state = format!(r#"{{"Status":"running","Running":true,"Paused":false,"Restarting":false,"Pid":{pid},"StartedAt":"{started}"}}"#);
    let config = r#"{"Env":["MICROSERVICE_LABEL=web"],"Labels":null}"#;
    format!(r#"{{"Id":"{CONTAINER}","Created":"2026-11-24T03:49:21.491547589Z","Name":"/web","State":{state},"Config":{config}}}"#)
}

/// A stand-in for a daemon.
struct StandIn {
    directory: tempfile::TempDir,
    script: Arc<Mutex<Script>>,
    /// Each change of the number ends all event streams.
    cut: watch::Sender<u32>,
    task: JoinHandle<()>,
}

impl StandIn {
    fn start(script: Script) -> TestResult<Self> {
        let directory = tempfile::tempdir()?;
        let listener = UnixListener::bind(directory.path().join("docker.sock"))?;
        let script = Arc::new(Mutex::new(script));
        let (cut, cuts) = watch::channel(0);
        let shared = Arc::clone(&script);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&shared), cuts.clone()));
            }
        });
        Ok(Self {
            directory,
            script,
            cut,
            task,
        })
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("docker.sock")
    }

    fn requests(&self) -> Vec<String> {
        self.script.lock().map(|script| script.requests.clone()).unwrap_or_default()
    }

    fn change(&self, change: impl FnOnce(&mut Script)) {
        if let Ok(mut script) = self.script.lock() {
            change(&mut script);
        }
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Answers one request and closes the connection; an answer to `/events` is one event, and lasts until it is cut.
async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin, script: Arc<Mutex<Script>>, mut cuts: watch::Receiver<u32>) -> Option<()> {
    cuts.mark_unchanged();
    let mut stream = BufReader::new(stream);
    let mut request = String::new();
    stream.read_line(&mut request).await.ok()?;
    let mut header = String::new();
    while stream.read_line(&mut header).await.ok()? > 2 {
        header.clear();
    }
    let path = request.split(' ').nth(1)?.to_owned();
    script.lock().ok()?.requests.push(path.clone());
    if path.contains("/events") {
        let event = format!(
            r#"{{"Type":"container","Action":"start","Actor":{{"ID":"{CONTAINER}"}},"time":{EVENT_TIME},"timeNano":{EVENT_TIME}000000007}}"#
        );
        let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n";
        stream.write_all(format!("{head}{event}\n").as_bytes()).await.ok()?;
        cuts.changed().await.ok()
    } else {
        let (status, body) = script.lock().ok()?.answer(&path);
        let length = body.len();
        let head =
            format!("HTTP/1.1 {status} Status\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
        stream.write_all(format!("{head}{body}").as_bytes()).await.ok()
    }
}

/// A process that stands for a container, ended with the test.
struct Process(Child);

impl Process {
    fn start() -> TestResult<Self> {
        Ok(Self(Command::new("sleep").arg("3600").spawn()?))
    }

    fn pid(&self) -> i32 {
        i32::try_from(self.0.id()).unwrap_or(-1)
    }

    fn end(&mut self) -> TestResult {
        self.0.kill()?;
        self.0.wait()?;
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have been ended by the test.
        let _ = self.end();
    }
}

/// Starts a tracker. No namespace has the number 0, so that processes in the test's own namespace count as containers.
fn track(stand_in: &StandIn) -> TestResult<(Tracker, UnboundedReceiver<MicroserviceChange>)> {
    let docker_host = format!("unix://{}", stand_in.socket().display());
    let (sender, changes) = unbounded_channel();
    Ok((
        Tracker::start(
            TrackerConfig {
                docker_host,
                own_netns_inode: 0,
            },
            sender,
        )?,
        changes,
    ))
}

async fn next(changes: &mut UnboundedReceiver<MicroserviceChange>) -> TestResult<MicroserviceChange> {
    Ok(timeout(PATIENCE, changes.recv()).await?.ok_or("the tracker ended")?)
}

async fn next_available(changes: &mut UnboundedReceiver<MicroserviceChange>) -> TestResult<Microservice> {
    match next(changes).await? {
        MicroserviceChange::Available(found) => Ok(found),
        change => Err(format!("expected a microservice, got {change:?}").into()),
    }
}

#[tokio::test]
async fn every_request_after_the_first_carries_the_newest_version_that_both_sides_speak() -> TestResult {
    let process = Process::start()?;
    for (newest_version, prefix) in [("1.41", "/v1.41/"), ("1.44", "/v1.44/"), ("9.99", "/v1.53/")] {
        let stand_in = StandIn::start(Script {
            newest_version,
            ..Script::with_container(vec![process.pid()])
        })?;
        let (_tracker, mut changes) = track(&stand_in)?;
        next_available(&mut changes).await?;
        assert_eq!(next(&mut changes).await?, MicroserviceChange::Synced);
        let requests = stand_in.requests();
        assert_eq!(requests.first().map(String::as_str), Some("/version"));
        for request in &requests[1..] {
            assert!(request.starts_with(prefix), "{request} does not carry the version {prefix}");
        }
        for part in ["events?since=", "containers/json", &format!("containers/{CONTAINER}/json")] {
            assert!(
                requests.iter().any(|request| request.contains(part)),
                "{part} is not among {requests:?}"
            );
        }
    }
    Ok(())
}

#[tokio::test]
async fn after_a_cut_stream_events_are_asked_for_from_just_before_the_last_one_and_nothing_is_told_twice() -> TestResult {
    let mut process = Process::start()?;
    let stand_in = StandIn::start(Script::with_container(vec![process.pid()]))?;
    let (_tracker, mut changes) = track(&stand_in)?;
    assert_eq!(next_available(&mut changes).await?.pid, process.pid());
    assert_eq!(next(&mut changes).await?, MicroserviceChange::Synced);

    stand_in.cut.send_modify(|cut| *cut += 1);
    assert!(matches!(next(&mut changes).await?, MicroserviceChange::Disconnected { .. }));
    assert_eq!(next(&mut changes).await?, MicroserviceChange::Synced);
    let since = format!("since={}.000000007", EVENT_TIME - 1);
    let requests = stand_in.requests();
    let asked = requests.iter().rfind(|request| request.contains("/events"));
    assert!(asked.is_some_and(|asked| asked.contains(&since)), "{asked:?}");

    stand_in.change(|script| script.pids = vec![0]);
    process.end()?;
    assert!(matches!(next(&mut changes).await?, MicroserviceChange::Gone { .. }));
    Ok(())
}

#[tokio::test]
async fn a_process_that_ended_before_it_could_be_pinned_leads_to_another_inspection() -> TestResult {
    let (mut ended, alive) = (Process::start()?, Process::start()?);
    let gone = ended.pid();
    ended.end()?;
    let stand_in = StandIn::start(Script::with_container(vec![gone, gone, gone, alive.pid()]))?;
    let (_tracker, mut changes) = track(&stand_in)?;
    // The list is processed after the first inspection; the repetitions come later.
    assert_eq!(next(&mut changes).await?, MicroserviceChange::Synced);
    assert_eq!(next_available(&mut changes).await?.pid, alive.pid());
    Ok(())
}

#[tokio::test]
async fn a_process_that_is_not_in_the_containers_control_group_counts_only_when_the_daemon_says_so_twice() -> TestResult {
    let (stranger, main) = (Process::start()?, Process::start()?);
    let stand_in = StandIn::start(Script::with_container(vec![stranger.pid(), main.pid()]))?;
    let (_tracker, mut changes) = track(&stand_in)?;
    assert_eq!(next(&mut changes).await?, MicroserviceChange::Synced);
    assert_eq!(next_available(&mut changes).await?.pid, main.pid());
    Ok(())
}

#[tokio::test]
async fn a_refusal_is_passed_on_in_the_daemons_words_and_the_daemon_is_tried_again() -> TestResult {
    let process = Process::start()?;
    let stand_in = StandIn::start(Script::with_container(vec![process.pid()]))?;
    stand_in.change(|script| script.list = (403, r#"{"message":"listing is forbidden here"}"#.to_owned()));
    let (_tracker, mut changes) = track(&stand_in)?;
    let MicroserviceChange::Disconnected { message } = next(&mut changes).await? else {
        return Err("expected a refusal".into());
    };
    for words in [
        "listing is forbidden here",
        "list containers",
        &stand_in.socket().display().to_string(),
    ] {
        assert!(message.contains(words), "{message:?} does not say {words:?}");
    }
    stand_in.change(|script| script.list = Script::with_container(Vec::new()).list);
    loop {
        match next(&mut changes).await? {
            MicroserviceChange::Disconnected { .. } => {}
            MicroserviceChange::Available(found) => {
                assert_eq!(found.pid, process.pid());
                return Ok(());
            }
            change => return Err(format!("expected the container, got {change:?}").into()),
        }
    }
}

#[tokio::test]
async fn a_daemon_on_a_tcp_port_is_followed_as_one_on_a_socket() -> TestResult {
    let process = Process::start()?;
    let stand_in = StandIn::start(Script::with_container(vec![process.pid()]))?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let docker_host = format!("tcp://{}", listener.local_addr()?);
    let (script, cuts) = (Arc::clone(&stand_in.script), stand_in.cut.subscribe());
    let port = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, Arc::clone(&script), cuts.clone()));
        }
    });
    let (sender, mut changes) = unbounded_channel();
    let tracker = Tracker::start(
        TrackerConfig {
            docker_host,
            own_netns_inode: 0,
        },
        sender,
    )?;
    assert_eq!(next_available(&mut changes).await?.pid, process.pid());
    assert_eq!(next(&mut changes).await?, MicroserviceChange::Synced);
    drop(tracker);
    assert_eq!(timeout(PATIENCE, changes.recv()).await?, None, "a dropped tracker stops");
    port.abort();
    Ok(())
}

#[tokio::test]
async fn a_host_that_cannot_be_used_is_refused_with_the_forms_that_can() -> TestResult {
    let (sender, _changes) = unbounded_channel();
    let config = TrackerConfig {
        docker_host: "https://localhost:2376".to_owned(),
        own_netns_inode: 0,
    };
    let Err(error) = Tracker::start(config, sender) else {
        return Err("TLS was accepted".into());
    };
    let message = error.to_string();
    assert!(
        message.contains("https://localhost:2376") && message.contains("TLS") && message.contains("unix:///"),
        "{message}"
    );
    Ok(())
}
