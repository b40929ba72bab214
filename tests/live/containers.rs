//! Live tests of MICROSERVICE references: containers start, die, restart and are replaced, and the agent restores their
//! interfaces.

use std::path::PathBuf;

use crate::{
    on_both_stores,
    support::{
        agent,
        bench::{Bench, Revisions},
        command,
        config::{Config, Interface, Reference, Route},
        docker::{Daemon, Survival},
        monitor::Monitor,
        netns_state::NetnsState,
        ping, settle,
    },
};

/// Key (after `config/`) of the end inside the container.
const INSIDE: &str = "linux/interfaces/v2/interface/app";

/// Returns a veth pair between a container and a named namespace, with a route in the container.
fn to_container(label: &str) -> Config {
    let inside = Interface::veth("app", "app-peer", Reference::Microservice(label.to_owned()))
        .host_name("net0")
        .address("10.91.0.1/24");
    let outside = Interface::veth("app-peer", "app", Reference::named("container-outside"))
        .host_name("eth0")
        .address("10.91.0.2/24");
    Config {
        interfaces: vec![inside, outside],
        routes: vec![Route::new("app", "10.92.0.0/16", "10.91.0.2")],
        ..Config::default()
    }
}

/// A Docker daemon for one test. The methods panic if an operation fails.
struct Docker(Daemon);

impl Docker {
    /// Prepares a daemon without starting it, and makes the bench pass the daemon's address to the agent.
    fn announced_to(bench: &mut Bench) -> Self {
        let daemon = Daemon::prepare(Survival::TakenOver).expect("prepare dockerd's directory");
        bench.docker_host = daemon.host();
        Self(daemon)
    }

    /// Starts the daemon for the first time.
    fn start(&mut self) {
        self.0.launch().expect("start dockerd");
        self.0.import_image().expect("import the image");
    }

    /// Runs `docker` with these arguments and returns its output.
    fn run(&self, arguments: &[&str]) -> String {
        self.0.docker(arguments).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Starts a new container with this microservice label.
    fn run_container(&self, name: &str, label: &str) {
        let variable = format!("MICROSERVICE_LABEL={label}");
        self.0
            .run_idle(&["--name", name, "--env", &variable])
            .unwrap_or_else(|error| panic!("container {name}: {error}"));
    }

    /// Returns the PID of a running container's main process.
    fn pid(&self, name: &str) -> i32 {
        let pid = self.0.pid(name).unwrap_or_else(|error| panic!("container {name}: {error}"));
        assert_ne!(pid, 0, "container {name} is not running");
        pid
    }

    /// Returns the path of a running container's network namespace.
    fn netns(&self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/ns/net", self.pid(name)))
    }
}

/// Waits until the veth pair works in this container: interface, address and route exist, and the peer answers.
async fn until_it_works_in(bench: &Bench, docker: &Docker, container: &str, revisions: &Revisions) {
    let netns = docker.netns(container);
    let wanted = [
        "address net0 10.91.0.1/24",
        "route 10.92.0.0/16 via 10.91.0.2 dev net0 metric 0 scope global table main protocol 158",
    ];
    let complete = || NetnsState::read(&netns).is_ok_and(|state| wanted.iter().all(|line| state.lines.contains(*line)));
    bench
        .until_true(&format!("the interface is complete in {container}"), complete)
        .await;
    bench.until_configured(revisions).await;
    ping::reaches(&netns, "10.91.0.2");
    ping::reaches(&Reference::named("container-outside").path(), "10.91.0.1");
}

/// Waits until the veth end inside the container is PENDING because the container is missing.
async fn until_it_waits(bench: &Bench) {
    bench
        .until("the interface waits for its container", |publication| {
            publication
                .of(INSIDE)
                .is_some_and(|status| status.state == "PENDING" && status.labels().contains(&"microservice-available".to_owned()))
        })
        .await;
}

/// An interface follows its container: it is PENDING while the container does not run, and restored whenever the container is
/// started, restarted or replaced.
async fn a_containers_interface_follows_it_through_its_lives(mut bench: Bench) {
    // When the agent starts, neither the Docker daemon nor the container exists.
    let mut docker = Docker::announced_to(&mut bench);
    bench.start_agent().await;
    let revisions = bench.put_together(&to_container("front")).await;
    until_it_waits(&bench).await;
    docker.start();
    docker.run_container("first", "front");
    until_it_works_in(&bench, &docker, "first", &revisions).await;
    let published = bench.until("the microservice is published", |publication| {
        publication.keys.contains_key("status/linux/microservice/front")
    });
    println!("{}", published.await.keys["status/linux/microservice/front"].text);

    docker.run(&["kill", "first"]);
    until_it_waits(&bench).await;
    bench
        .until("the microservice is no longer published", |publication| {
            !publication.keys.contains_key("status/linux/microservice/front")
        })
        .await;
    docker.run(&["start", "first"]);
    until_it_works_in(&bench, &docker, "first", &revisions).await;
    docker.run(&["restart", "--time", "0", "first"]);
    until_it_works_in(&bench, &docker, "first", &revisions).await;
    docker.run(&["rm", "--force", "first"]);
    until_it_waits(&bench).await;
    docker.run_container("second", "front");
    until_it_works_in(&bench, &docker, "second", &revisions).await;

    // If several containers have the same label, the newest one gets the interface. When the newest container is removed, the
    // interface returns to the remaining container.
    docker.run_container("third", "front");
    until_it_works_in(&bench, &docker, "third", &revisions).await;
    docker.run(&["rm", "--force", "third"]);
    until_it_works_in(&bench, &docker, "second", &revisions).await;

    bench.delete_all().await;
    bench.until_nothing_is_published().await;
    let left = NetnsState::read(&docker.netns("second")).unwrap_or_else(|error| panic!("{error}"));
    assert!(left.lines.is_empty(), "left behind in the container: {left:?}");
    bench.stop_agent().await;
}
on_both_stores!(a_containers_interface_follows_it_through_its_lives, 240);

/// If the daemon stops or crashes while its containers keep running, nothing changes. The agent notices later events once the
/// daemon is back.
async fn a_lost_docker_daemon_changes_nothing_and_is_found_again(mut bench: Bench) {
    let mut docker = Docker::announced_to(&mut bench);
    docker.start();
    docker.run_container("steady", "front");
    bench.start_agent().await;
    let revisions = bench.put_together(&to_container("front")).await;
    until_it_works_in(&bench, &docker, "steady", &revisions).await;
    let netns = docker.netns("steady");
    settle::until_quiet(std::slice::from_ref(&netns)).await;
    let mut monitor = Monitor::open(&netns);
    // When the agent restarts while the container is running, it writes nothing. The result must not depend on whether the store
    // or Docker reports first.
    for _ in 0..3 {
        bench.kill_agent().await;
        let before = bench.start_agent().await;
        bench.until_configured_since(&revisions, before).await;
        monitor.assert_silent("a restart of the agent");
    }
    for crash in [false, true] {
        if crash {
            docker.0.crash().expect("kill dockerd");
        } else {
            docker.0.stop().expect("stop dockerd");
        }
        ping::reaches(&netns, "10.91.0.2");
        docker.0.launch().expect("start dockerd again");
        assert_eq!(netns, docker.netns("steady"), "the container must outlive its daemon");
        // A container that starts now is published only if the agent is connected to the restarted daemon.
        let late = format!("late{}", u8::from(crash));
        docker.run_container(&late, &late);
        let microservice = format!("status/linux/microservice/{late}");
        bench
            .until(&format!("{microservice} is published"), |publication| {
                publication.keys.contains_key(&microservice)
            })
            .await;
        monitor.assert_silent("while the daemon was away");
        bench.until_configured(&revisions).await;
    }
    // The kernel reports that a container has died while the daemon is down. Docker reports the restart of the container once the
    // daemon is back.
    let pid = docker.pid("steady").to_string();
    docker.0.stop().expect("stop dockerd");
    crate::support::command::run("kill", &["-KILL", &pid]);
    until_it_waits(&bench).await;
    docker.0.launch().expect("start dockerd again");
    docker.run(&["start", "steady"]);
    until_it_works_in(&bench, &docker, "steady", &revisions).await;
    bench.stop_agent().await;
}
on_both_stores!(a_lost_docker_daemon_changes_nothing_and_is_found_again, 240);

/// The agent restores both ends of a veth pair between two containers when either container restarts.
async fn a_pair_between_two_containers_survives_the_restart_of_either(mut bench: Bench) {
    let mut docker = Docker::announced_to(&mut bench);
    docker.start();
    bench.start_agent().await;
    let left = Interface::veth("app", "app-peer", Reference::Microservice("left".to_owned()))
        .host_name("net0")
        .address("10.91.0.1/24");
    let right = Interface::veth("app-peer", "app", Reference::Microservice("right".to_owned()))
        .host_name("net0")
        .address("10.91.0.2/24");
    let revisions = bench
        .put_each(&Config {
            interfaces: vec![left, right],
            ..Config::default()
        })
        .await;
    docker.run_container("left", "left");
    let peer = bench.until_state("linux/interfaces/v2/interface/app-peer", "PENDING").await;
    assert!(peer.labels().contains(&"microservice-available".to_owned()), "{peer:?}");
    docker.run_container("right", "right");
    let has = |container: &str, line: &str| NetnsState::read(&docker.netns(container)).is_ok_and(|state| state.lines.contains(line));
    let both = || has("left", "address net0 10.91.0.1/24") && has("right", "address net0 10.91.0.2/24");
    for restarted in ["", "left", "right", "left"] {
        if !restarted.is_empty() {
            docker.run(&["restart", "--time", "0", restarted]);
        }
        bench
            .until_true(&format!("both ends exist again (restarted: {restarted:?})"), both)
            .await;
        bench.until_configured(&revisions).await;
        ping::reaches(&docker.netns("left"), "10.91.0.2");
        ping::reaches(&docker.netns("right"), "10.91.0.1");
    }
    bench.stop_agent().await;
}
on_both_stores!(a_pair_between_two_containers_survives_the_restart_of_either, 240);

/// Returns the keys of the desired values that were deleted, as recorded in the agent's history.
fn deleted_values(history: &str) -> Vec<String> {
    let records: Vec<serde_json::Value> = serde_json::from_str(history).expect("a list of transactions");
    assert!(records.len() > 1, "the start must be recorded: {history}");
    let operations = records
        .iter()
        .flat_map(|record| record["Executed"].as_array().cloned().unwrap_or_default());
    let deleted = operations.filter(|operation| operation["Operation"] == "DELETE");
    let keys = deleted.map(|operation| operation["Key"].as_str().unwrap_or_default().to_owned());
    keys.filter(|key| key.starts_with("config/")).collect()
}

/// After a restart of the agent, the status of a value in a container shows no operation, because the agent did not create the
/// object in this run. The agent must not delete objects before Docker has reported which containers they belong to.
async fn a_restart_shows_no_operation_for_what_it_finds_in_a_container(mut bench: Bench) {
    let mut docker = Docker::announced_to(&mut bench);
    docker.start();
    bench.start_agent().await;
    let config = to_container("front");
    let revisions = bench.put_each(&config).await;
    docker.run_container("steady", "front");
    until_it_works_in(&bench, &docker, "steady", &revisions).await;
    let netns = docker.netns("steady");
    settle::until_quiet(&[netns.clone(), Reference::named("container-outside").path()]).await;
    let mut monitor = Monitor::open(&netns);
    for daemon_is_late in [false, false, true] {
        bench.kill_agent().await;
        if daemon_is_late {
            docker.0.stop().expect("stop dockerd");
        }
        let before = bench.start_agent().await;
        if daemon_is_late {
            docker.0.launch().expect("start dockerd again");
        }
        bench.until_configured_since(&revisions, before).await;
        monitor.assert_silent("restart of the agent");
        for key in revisions.keys() {
            let status = bench.published().of(key).cloned().unwrap_or_default();
            assert!(matches!(status.last_operation.as_str(), "" | "UNDEFINED"), "{status:?}");
        }
        let history = command::run(&agent::program(), &["history", "-o", "json"]);
        assert_eq!(deleted_values(&history), Vec::<String>::new(), "{history}");
    }
    bench.stop_agent().await;
}
on_both_stores!(a_restart_shows_no_operation_for_what_it_finds_in_a_container, 240);

/// Tests the harness: a container outlives a stop and a crash of its daemon, and its namespace can be entered.
async fn containers_outlive_the_daemon_of_the_scenario(mut bench: Bench) {
    let mut docker = Docker::announced_to(&mut bench);
    docker.start();
    docker.run_container("steady", "front");
    let netns = docker.netns("steady");
    docker.0.stop().expect("stop dockerd");
    docker.0.launch().expect("start dockerd again");
    assert_eq!(netns, docker.netns("steady"));
    docker.0.crash().expect("kill dockerd");
    docker.0.launch().expect("start dockerd again");
    assert_eq!(netns, docker.netns("steady"));
    assert!(
        NetnsState::read(&netns).is_ok_and(|state| state.lines.is_empty()),
        "a new container must have only lo"
    );
    docker.run(&["restart", "--time", "0", "steady"]);
    assert_ne!(netns, docker.netns("steady"));
}
crate::on_one_store!(containers_outlive_the_daemon_of_the_scenario, Embedded, 120);
