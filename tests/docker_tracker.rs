//! Tests the Docker tracker with a real daemon. Each test starts its own daemon.
//!
//! The tests need root and the programs that `support::docker` lists. If any of these is missing, a test prints a message and
//! passes, or fails if `REQUIRE_DOCKER_TESTS` is set.

mod support;

use std::{
    os::unix::fs::MetadataExt,
    time::{Duration, Instant, SystemTime},
};

use netns_agent::signals::{
    docker::{GoneReason, Microservice, MicroserviceChange, Tracker, TrackerConfig},
    process,
};
use support::docker::{Daemon, Survival, TestResult, missing_requirement};
use tokio::{
    sync::mpsc::{UnboundedReceiver, unbounded_channel},
    time::timeout,
};

/// Time limit for a change to arrive. A passing test needs far less.
const TIME_LIMIT: Duration = Duration::from_secs(30);
/// Time to wait for a change before a test concludes that none arrives.
const SILENCE: Duration = Duration::from_millis(300);
/// Number of container starts and ends to measure.
const ROUNDS: usize = 20;

/// Returns true if the test can run; otherwise prints why not.
fn ready() -> bool {
    let Some(missing) = missing_requirement() else { return true };
    assert!(
        std::env::var_os("REQUIRE_DOCKER_TESTS").is_none(),
        "a Docker daemon cannot be started: {missing} is missing"
    );
    eprintln!("SKIPPED: a Docker daemon cannot be started: {missing} is missing");
    false
}

/// A tracker and the changes that it reports.
struct Tracked {
    _tracker: Tracker,
    changes: UnboundedReceiver<MicroserviceChange>,
}

impl Tracked {
    fn start(daemon: &Daemon) -> TestResult<Self> {
        let own_netns_inode = std::fs::metadata("/proc/self/ns/net")?.ino();
        let (sender, changes) = unbounded_channel();
        let tracker = Tracker::start(
            TrackerConfig {
                docker_host: daemon.host(),
                own_netns_inode,
            },
            sender,
        )?;
        Ok(Self {
            _tracker: tracker,
            changes,
        })
    }

    /// Starts a tracker with a daemon that has no microservices, and waits until it has processed the daemon's container list.
    async fn synced(daemon: &Daemon) -> TestResult<Self> {
        let mut tracked = Self::start(daemon)?;
        tracked.expect_synced().await?;
        Ok(tracked)
    }

    async fn next(&mut self) -> TestResult<MicroserviceChange> {
        let change = timeout(TIME_LIMIT, self.changes.recv())
            .await
            .map_err(|_| "timed out without a change")?;
        Ok(change.ok_or("the tracker ended")?)
    }

    /// Returns the next change that affects a container. Skips `Synced` and `Disconnected`.
    async fn next_about_labels(&mut self) -> TestResult<MicroserviceChange> {
        loop {
            match self.next().await? {
                MicroserviceChange::Synced | MicroserviceChange::Disconnected { .. } => {}
                change => return Ok(change),
            }
        }
    }

    /// Expects a container to become available, and checks the reported data against the kernel.
    async fn expect_available(&mut self, label: &str, container_id: &str) -> TestResult<Microservice> {
        let change = self.next_about_labels().await?;
        let MicroserviceChange::Available(found) = change else {
            return Err(format!("expected {label} available, got {change:?}").into());
        };
        assert_eq!((found.label.as_str(), found.container_id.as_str()), (label, container_id));
        assert_eq!(process::start_time(found.pid)?, found.process_start_time);
        assert!(found.created <= found.started_at);
        Ok(found)
    }

    async fn expect_gone(&mut self, label: &str, container_id: &str) -> TestResult<GoneReason> {
        match self.next_about_labels().await? {
            MicroserviceChange::Gone {
                label: gone,
                container_id: id,
                reason,
            } if gone == label && id == container_id => Ok(reason),
            change => Err(format!("expected {label} gone from {container_id}, got {change:?}").into()),
        }
    }

    async fn expect_synced(&mut self) -> TestResult {
        match self.next().await? {
            MicroserviceChange::Synced => Ok(()),
            change => Err(format!("expected the list to be processed, got {change:?}").into()),
        }
    }

    async fn expect_disconnected(&mut self) -> TestResult<String> {
        match self.next().await? {
            MicroserviceChange::Disconnected { message } => Ok(message),
            change => Err(format!("expected a lost connection, got {change:?}").into()),
        }
    }

    /// Waits for the next `Synced`. Skips `Disconnected`, and fails on any other change.
    async fn expect_reconnected(&mut self) -> TestResult {
        loop {
            match self.next().await? {
                MicroserviceChange::Synced => return Ok(()),
                MicroserviceChange::Disconnected { .. } => {}
                change => return Err(format!("expected only the connection to come back, got {change:?}").into()),
            }
        }
    }

    async fn expect_silence(&mut self) -> TestResult {
        match timeout(SILENCE, self.changes.recv()).await {
            Err(_) => Ok(()),
            Ok(change) => Err(format!("expected nothing, got {change:?}").into()),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn containers_started_before_or_after_the_tracker_are_found() -> TestResult {
    if !ready() {
        return Ok(());
    }
    let daemon = Daemon::start(Survival::EndedAtStart)?;
    let before = daemon.run_idle(&["--env", "MICROSERVICE_LABEL=before", "--name", "the-first"])?;
    daemon.run_idle(&["--name", "without-label"])?;
    daemon.run_idle(&["--env", "MICROSERVICE_LABEL="])?;
    let mut tracked = Tracked::start(&daemon)?;
    let found = tracked.expect_available("before", &before).await?;
    assert_eq!((found.container_name.as_str(), found.pid), ("the-first", daemon.pid(&before)?));
    tracked.expect_synced().await?;

    let after = daemon.run_idle(&["--env", "MICROSERVICE_LABEL=after"])?;
    assert_eq!(tracked.expect_available("after", &after).await?.pid, daemon.pid(&after)?);
    let labelled = daemon.run_idle(&["--label", "io.ligato.microservice-label=by-label"])?;
    tracked.expect_available("by-label", &labelled).await?;
    let both = daemon.run_idle(&[
        "--label",
        "io.ligato.microservice-label=ignored",
        "--env",
        "MICROSERVICE_LABEL=by-env",
    ])?;
    tracked.expect_available("by-env", &both).await?;

    daemon.docker(&["pause", &after])?;
    daemon.docker(&["rename", &after, "renamed"])?;
    daemon.docker(&["unpause", &after])?;
    tracked.expect_silence().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn every_kind_of_end_of_a_container_is_reported() -> TestResult {
    if !ready() {
        return Ok(());
    }
    let daemon = Daemon::start(Survival::EndedAtStart)?;
    let mut tracked = Tracked::synced(&daemon).await?;
    let label = ["--env", "MICROSERVICE_LABEL=web"];

    let killed = daemon.run_idle(&label)?;
    let first = tracked.expect_available("web", &killed).await?;
    daemon.docker(&["kill", &killed])?;
    assert_eq!(tracked.expect_gone("web", &killed).await?, GoneReason::ProcessEnded);

    daemon.docker(&["start", &killed])?;
    let second = tracked.expect_available("web", &killed).await?;
    assert_ne!((first.pid, first.process_start_time), (second.pid, second.process_start_time));
    assert!(first.started_at < second.started_at && first.created == second.created);

    daemon.docker(&["restart", "--time", "0", &killed])?;
    tracked.expect_gone("web", &killed).await?;
    tracked.expect_available("web", &killed).await?;

    daemon.docker(&["rm", "--force", &killed])?;
    tracked.expect_gone("web", &killed).await?;
    tracked.expect_silence().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn newest_container_has_the_label_and_the_next_newest_inherits_it() -> TestResult {
    if !ready() {
        return Ok(());
    }
    let daemon = Daemon::start(Survival::EndedAtStart)?;
    let mut tracked = Tracked::synced(&daemon).await?;
    let label = ["--env", "MICROSERVICE_LABEL=web"];
    let older = daemon.run_idle(&label)?;
    tracked.expect_available("web", &older).await?;
    let newer = daemon.run_idle(&label)?;
    assert_eq!(
        tracked.expect_gone("web", &older).await?,
        GoneReason::Superseded { by: newer.clone() }
    );
    tracked.expect_available("web", &newer).await?;

    daemon.docker(&["restart", "--time", "0", &older])?;
    tracked.expect_silence().await?;

    daemon.docker(&["kill", &newer])?;
    tracked.expect_gone("web", &newer).await?;
    tracked.expect_available("web", &older).await?;

    let mut late = Tracked::start(&daemon)?;
    late.expect_available("web", &older).await?;
    late.expect_synced().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn container_in_the_own_namespace_is_no_microservice() -> TestResult {
    if !ready() {
        return Ok(());
    }
    let daemon = Daemon::start(Survival::EndedAtStart)?;
    let mut tracked = Tracked::synced(&daemon).await?;
    daemon.docker(&[
        "run",
        "--detach",
        "--network",
        "host",
        "--env",
        "MICROSERVICE_LABEL=web",
        support::docker::IMAGE,
        "/bin/busybox",
        "sleep",
        "3600",
    ])?;
    tracked.expect_silence().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn daemon_started_after_the_tracker_is_found_at_once() -> TestResult {
    if !ready() {
        return Ok(());
    }
    let mut daemon = Daemon::prepare(Survival::EndedAtStart)?;
    let mut tracked = Tracked::start(&daemon)?;
    let message = tracked.expect_disconnected().await?;
    assert!(message.contains(&daemon.host()), "{message}");
    // Wait until the tracker makes long pauses between its attempts to connect, so that only the new socket can end a pause
    // early.
    tracked.expect_silence().await?;
    daemon.launch()?;
    tracked.expect_reconnected().await?;
    daemon.import_image()?;
    let web = daemon.run_idle(&["--env", "MICROSERVICE_LABEL=web"])?;
    tracked.expect_available("web", &web).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn containers_taken_over_after_a_daemon_crash_stay_available() -> TestResult {
    if !ready() {
        return Ok(());
    }
    let mut daemon = Daemon::start(Survival::TakenOver)?;
    let mut tracked = Tracked::synced(&daemon).await?;
    let stays = daemon.run_idle(&["--env", "MICROSERVICE_LABEL=stays"])?;
    tracked.expect_available("stays", &stays).await?;
    let dies = daemon.run_idle(&["--env", "MICROSERVICE_LABEL=dies"])?;
    let dying = tracked.expect_available("dies", &dies).await?;

    daemon.crash()?;
    tracked.expect_disconnected().await?;
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(dying.pid), nix::sys::signal::Signal::SIGKILL)?;
    assert_eq!(
        tracked.expect_gone("dies", &dies).await?,
        GoneReason::ProcessEnded,
        "only the pidfd can report it"
    );
    daemon.launch()?;
    tracked.expect_reconnected().await?;
    tracked.expect_silence().await?;

    daemon.docker(&["kill", &stays])?;
    tracked.expect_gone("stays", &stays).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn containers_ended_by_a_restarted_daemon_return_when_started() -> TestResult {
    if !ready() {
        return Ok(());
    }
    let mut daemon = Daemon::start(Survival::EndedAtStart)?;
    let mut tracked = Tracked::synced(&daemon).await?;
    let web = daemon.run_idle(&["--env", "MICROSERVICE_LABEL=web"])?;
    tracked.expect_available("web", &web).await?;
    let restarts = daemon.run_idle(&["--env", "MICROSERVICE_LABEL=again", "--restart", "always"])?;
    tracked.expect_available("again", &restarts).await?;

    daemon.crash()?;
    daemon.launch()?;
    // The two containers end in any order, and one of them restarts. Only the changes of one label arrive in a known order.
    let mut reported = Vec::new();
    while reported.len() < 3 {
        reported.push(match tracked.next_about_labels().await? {
            MicroserviceChange::Gone { label, container_id, .. } => (label, container_id, false),
            MicroserviceChange::Available(found) => (found.label, found.container_id, true),
            _ => continue,
        });
    }
    let about = |label: &str| {
        reported
            .iter()
            .filter(|(reported, ..)| reported == label)
            .map(|(_, id, available)| (id.clone(), *available))
            .collect::<Vec<_>>()
    };
    assert_eq!(about("web"), [(web.clone(), false)]);
    assert_eq!(about("again"), [(restarts.clone(), false), (restarts, true)]);

    daemon.docker(&["start", &web])?;
    tracked.expect_available("web", &web).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn restart_of_an_idle_daemon_changes_no_label() -> TestResult {
    if !ready() {
        return Ok(());
    }
    let mut daemon = Daemon::start(Survival::EndedAtStart)?;
    let mut tracked = Tracked::synced(&daemon).await?;
    daemon.stop()?;
    tracked.expect_disconnected().await?;
    daemon.launch()?;
    tracked.expect_reconnected().await?;
    tracked.expect_silence().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn starts_and_ends_are_reported_within_milliseconds() -> TestResult {
    if !ready() {
        return Ok(());
    }
    let daemon = Daemon::start(Survival::EndedAtStart)?;
    let mut tracked = Tracked::synced(&daemon).await?;
    let (mut availables, mut ends) = (Vec::new(), Vec::new());
    let container = daemon.run_idle(&["--env", "MICROSERVICE_LABEL=web"])?;
    for round in 0..ROUNDS {
        if round > 0 {
            daemon.docker(&["start", &container])?;
        }
        let found = match tracked.next().await? {
            MicroserviceChange::Available(found) => found,
            change => return Err(format!("expected web available, got {change:?}").into()),
        };
        availables.push(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?);
        let killed = Instant::now();
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(found.pid), nix::sys::signal::Signal::SIGKILL)?;
        tracked.expect_gone("web", &container).await?;
        ends.push(killed.elapsed());
        daemon.docker(&["wait", &container])?;
    }
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
    // Use an absolute time, because the Docker client truncates a relative one to whole seconds.
    let until = format!("--until={}.{:09}", now.as_secs(), now.subsec_nanos());
    let events = daemon.docker(&["events", "--since=1h", &until, "--filter=event=start", "--format={{.TimeNano}}"])?;
    let events: Vec<Duration> = events
        .lines()
        .map(|line| line.parse().map(Duration::from_nanos))
        .collect::<Result<_, _>>()?;
    let mut starts: Vec<Duration> = events
        .iter()
        .zip(&availables)
        .map(|(event, available)| available.saturating_sub(*event))
        .collect();
    assert_eq!(starts.len(), ROUNDS);
    starts.sort();
    ends.sort();
    let (median, worst) = (ROUNDS / 2, ROUNDS - 1);
    eprintln!("start event to available: median {:?}, worst {:?}", starts[median], starts[worst]);
    eprintln!("kill to gone: median {:?}, worst {:?}", ends[median], ends[worst]);
    // The limits are generous, because a machine that runs tests is busy.
    assert!(starts[median] < Duration::from_millis(500), "{starts:?}");
    assert!(ends[median] < Duration::from_millis(500), "{ends:?}");
    Ok(())
}
