//! Measures how long it takes to restore an interface after its container is restarted.
//!
//! Each measurement starts with Docker's event `start` and stops when the namespace of the container has all desired objects. The
//! namespace is checked every 100 µs as soon as the PID of the container is known. Getting the PID takes one or two milliseconds,
//! so a result can be too large by this amount, but is never too small. The test asserts no times. See [`measure`].

use std::{
    collections::HashMap,
    fs::File,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use bollard::{
    API_DEFAULT_VERSION, Docker,
    query_parameters::{EventsOptions, RestartContainerOptions},
};
use futures::{StreamExt, stream::BoxStream};
use nix::{net::if_::InterfaceFlags, sched::CloneFlags};

use super::{
    bench::Bench,
    config::{Arp, Config, Interface, Reference, Route},
    docker::{Daemon, Survival},
    ping,
    store::StoreKind,
};

/// Time limit for one restart of a container, and for restoring its interface.
const TIME_LIMIT: Duration = Duration::from_secs(60);
/// Time limit for a request to the daemon, in seconds.
const ANSWER_SECONDS: u64 = 60;

/// Returns a veth pair between two containers, with addresses, a route and an ARP entry.
fn pair() -> Config {
    let end = |name: &str, peer: &str, container: &str, host: usize| {
        Interface::veth(name, peer, Reference::Microservice(container.to_owned()))
            .host_name("net0")
            .address(&format!("10.91.0.{host}/24"))
    };
    Config {
        interfaces: vec![end("app", "app-peer", "left", 1), end("app-peer", "app", "right", 2)],
        routes: vec![Route::new("app", "10.92.0.0/16", "10.91.0.2")],
        arps: vec![Arp::new("app", "10.91.0.9", "02:00:00:00:91:09")],
    }
}

/// Restarts a container several times. Returns the time from each restart until the interface was complete again.
pub async fn measure(restarts: u64) -> Vec<Duration> {
    let mut bench = Bench::new(StoreKind::Etcd).await;
    bench.agent_log = "info".to_owned();
    let daemon = Daemon::start(Survival::TakenOver).expect("start dockerd");
    bench.docker_host = daemon.host();
    bench.start_agent().await;
    let config = pair();
    let revisions = bench.put_together(&config).await;
    let run_container = |name: &str| {
        let variable = format!("MICROSERVICE_LABEL={name}");
        daemon
            .run_idle(&["--name", name, "--env", &variable])
            .unwrap_or_else(|error| panic!("{error}"))
    };
    let (left, _right) = (run_container("left"), run_container("right"));
    bench.until_configured(&revisions).await;
    let netns = |name: &str| {
        PathBuf::from(format!(
            "/proc/{}/ns/net",
            daemon.pid(name).unwrap_or_else(|error| panic!("{error}"))
        ))
    };
    let right_netns = netns("right");

    let socket = daemon.socket();
    let docker = Docker::connect_with_unix(&socket.to_string_lossy(), ANSWER_SECONDS, API_DEFAULT_VERSION).expect("connect to Docker");
    let mut events = events(&docker);
    // Wait for the answer to another request, because the subscription is active by then.
    docker.version().await.expect("get the version of the daemon");
    let mut samples = Vec::new();
    for _ in 0..restarts {
        let at_once = RestartContainerOptions {
            t: Some(0),
            ..RestartContainerOptions::default()
        };
        let (restarted, sample) = tokio::join!(docker.restart_container(&left, Some(at_once)), downtime(&docker, &mut events));
        restarted.unwrap_or_else(|error| panic!("restarting the container: {error}"));
        samples.push(sample);
        bench.until_configured(&revisions).await;
        ping::reaches(&right_netns, "10.91.0.1");
    }
    bench.stop_agent().await;
    samples
}

/// Returns a stream of `start` events. Each item contains the ID of the container and the time of the event.
fn events(docker: &Docker) -> BoxStream<'static, (String, Duration)> {
    let filters = HashMap::from([
        ("type".to_owned(), vec!["container".to_owned()]),
        ("event".to_owned(), vec!["start".to_owned()]),
    ]);
    let options = EventsOptions {
        filters: Some(filters),
        ..EventsOptions::default()
    };
    let events = docker.events(Some(options)).map(|event| {
        let event = event.expect("read an event");
        let time = event
            .time_nano
            .and_then(|time| u64::try_from(time).ok())
            .expect("an event has a time");
        let id = event.actor.and_then(|actor| actor.id).expect("an event has an actor");
        (id, Duration::from_nanos(time))
    });
    events.boxed()
}

/// Returns the time from the next start of a container until its interface is complete.
async fn downtime(docker: &Docker, events: &mut BoxStream<'static, (String, Duration)>) -> Duration {
    let (id, started) = tokio::time::timeout(TIME_LIMIT, events.next())
        .await
        .expect("the container starts in time")
        .expect("the stream of events ended");
    let state = docker
        .inspect_container(&id, None)
        .await
        .expect("inspect the started container")
        .state;
    let pid = state.and_then(|state| state.pid).expect("the container is running");
    let complete = complete_at(PathBuf::from(format!("/proc/{pid}/ns/net")));
    complete.saturating_sub(started)
}

/// Waits until `net0` is complete in this namespace. Returns the current time, measured from the Unix epoch.
fn complete_at(netns: PathBuf) -> Duration {
    let file = File::open(&netns).unwrap_or_else(|error| panic!("{}: {error}", netns.display()));
    let looking = std::thread::spawn(move || {
        nix::sched::setns(&file, CloneFlags::CLONE_NEWNET).expect("enter the namespace of the container");
        let deadline = SystemTime::now() + TIME_LIMIT;
        while !is_complete() {
            assert!(SystemTime::now() < deadline, "the interface must be restored within {TIME_LIMIT:?}");
            // Poll, because the kernel sends notifications only to sockets that were open before the change.
            std::thread::sleep(Duration::from_micros(100));
        }
        SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .expect("the clock is after 1970")
    });
    looking.join().expect("the thread that looks into the container")
}

/// Returns true if this thread's namespace contains `net0` with its address, route and ARP entry, and the peer of `net0` is up.
fn is_complete() -> bool {
    let has_address = nix::ifaddrs::getifaddrs().is_ok_and(|mut found| {
        found.any(|found| {
            let address = found
                .address
                .and_then(|address| address.as_sockaddr_in().map(nix::sys::socket::SockaddrIn::ip));
            found.interface_name == "net0"
                && found.flags.contains(InterfaceFlags::IFF_UP | InterfaceFlags::IFF_RUNNING)
                && address.is_some_and(|address| address.octets() == [10, 91, 0, 1])
        })
    });
    let tells = |file: &str, word: &str| {
        std::fs::read_to_string(Path::new("/proc/thread-self/net").join(file)).is_ok_and(|text| text.contains(word))
    };
    // `/proc/net/route` shows 10.92.0.0 as a hexadecimal number. The kernel reads the four bytes in host byte order, although
    // they are in network order.
    let network = format!("{:08X}", u32::from_ne_bytes([10, 92, 0, 0]));
    has_address && tells("route", &network) && tells("arp", "02:00:00:00:91:09")
}
