//! Tests the Docker tracker's requests, and how it handles responses that a real daemon rarely sends.
//!
//! A fake daemon on a Unix socket implements only the part of HTTP that the tests need. Processes that the tests start represent
//! the containers. The tests need no privileges.

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

/// Time limit for a change to arrive. A passing test never reaches it.
const TIME_LIMIT: Duration = Duration::from_secs(20);
/// ID of the only container.
const CONTAINER: &str = "c0ffee";
/// Time of the container's last event: 2026-11-24, in seconds since the epoch.
const EVENT_TIME: i64 = 1_795_492_182;

/// Responses of the fake daemon, and the requests that it received.
struct Script {
    newest_version: &'static str,
    /// PIDs to report in successive inspections. The last PID is reported in all further inspections.
    pids: Vec<i32>,
    /// Status and body of the response to a list request.
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

/// A fake Docker daemon that answers from a script.
struct StandIn {
    directory: tempfile::TempDir,
    script: Arc<Mutex<Script>>,
    /// Counter that ends all open event streams when it changes.
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

/// Answers one request and closes the connection.
///
/// The response to `/events` contains one event. Its stream stays open until `StandIn::cut` changes.
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

/// A process that represents a container, killed on drop.
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
        // Ignore errors, because the test may have ended the process already.
        let _ = self.end();
    }
}

/// Starts a tracker that accepts processes in the test's network namespace. It uses inode 0 for the agent's own namespace,
/// because no namespace has this inode.
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
    Ok(timeout(TIME_LIMIT, changes.recv()).await?.ok_or("the tracker ended")?)
}

async fn next_available(changes: &mut UnboundedReceiver<MicroserviceChange>) -> TestResult<Microservice> {
    match next(changes).await? {
        MicroserviceChange::Available(found) => Ok(found),
        change => Err(format!("expected a microservice, got {change:?}").into()),
    }
}

#[tokio::test]
async fn requests_after_the_first_have_the_newest_common_version() -> TestResult {
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
            assert!(request.starts_with(prefix), "{request} must contain the version {prefix}");
        }
        for part in ["events?since=", "containers/json", &format!("containers/{CONTAINER}/json")] {
            assert!(
                requests.iter().any(|request| request.contains(part)),
                "no request for {part} in {requests:?}"
            );
        }
    }
    Ok(())
}

#[tokio::test]
async fn events_resume_after_a_cut_without_duplicates() -> TestResult {
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
    let requested = requests.iter().rfind(|request| request.contains("/events"));
    assert!(requested.is_some_and(|requested| requested.contains(&since)), "{requested:?}");

    stand_in.change(|script| script.pids = vec![0]);
    process.end()?;
    assert!(matches!(next(&mut changes).await?, MicroserviceChange::Gone { .. }));
    Ok(())
}

#[tokio::test]
async fn process_that_ends_before_it_is_pinned_is_inspected_again() -> TestResult {
    let (mut ended, alive) = (Process::start()?, Process::start()?);
    let gone = ended.pid();
    ended.end()?;
    let stand_in = StandIn::start(Script::with_container(vec![gone, gone, gone, alive.pid()]))?;
    let (_tracker, mut changes) = track(&stand_in)?;
    // `Synced` arrives after the first inspection, which finds a process that has ended. A later inspection finds the live one.
    assert_eq!(next(&mut changes).await?, MicroserviceChange::Synced);
    assert_eq!(next_available(&mut changes).await?.pid, alive.pid());
    Ok(())
}

#[tokio::test]
async fn process_outside_the_container_cgroup_must_be_confirmed() -> TestResult {
    let (stranger, main) = (Process::start()?, Process::start()?);
    let stand_in = StandIn::start(Script::with_container(vec![stranger.pid(), main.pid()]))?;
    let (_tracker, mut changes) = track(&stand_in)?;
    assert_eq!(next(&mut changes).await?, MicroserviceChange::Synced);
    assert_eq!(next_available(&mut changes).await?.pid, main.pid());
    Ok(())
}

#[tokio::test]
async fn error_of_the_daemon_is_passed_on_and_retried() -> TestResult {
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
        assert!(message.contains(words), "{message:?} does not contain {words:?}");
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
async fn daemon_on_a_tcp_port_is_followed() -> TestResult {
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
    assert_eq!(timeout(TIME_LIMIT, changes.recv()).await?, None, "a dropped tracker must stop");
    port.abort();
    Ok(())
}

#[tokio::test]
async fn unsupported_host_fails_with_the_supported_forms() -> TestResult {
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
