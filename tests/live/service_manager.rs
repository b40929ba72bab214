//! Live tests of the notifications to the service manager, of the watchdog, of the descriptor store, and of SIGHUP.

use std::{fs, os::unix::fs::MetadataExt, time::Duration};

use nix::sys::signal::Signal;

use crate::{
    on_one_store,
    support::{
        agent::LOG,
        bench::Bench,
        config::{Config, Interface, Reference},
        monitor::Monitor,
        netns_state::fingerprint,
        process::Holder,
        service_manager::{ServiceManager, hang_threads},
        settle,
    },
};

/// A PID so high that no other process in the test's PID namespace has it.
const PID: i32 = 20_000;
const INSIDE: &str = "linux/interfaces/v2/interface/inside";

fn pair(inside: Reference) -> Config {
    let near = Interface::veth("outside", "inside", Reference::named("managed"))
        .host_name("eth0")
        .address("10.44.0.1/24");
    let far = Interface::veth("inside", "outside", inside)
        .host_name("agent0")
        .address("10.44.0.2/24");
    Config {
        interfaces: vec![near, far],
        ..Config::default()
    }
}

fn is_ready(manager: &ServiceManager) -> bool {
    manager.lines.iter().any(|line| line == "READY=1")
}

/// Returns whether the newest status line contains `words`.
fn has_status(manager: &ServiceManager, words: &str) -> bool {
    let status = manager.lines.iter().rev().find_map(|line| line.strip_prefix("STATUS="));
    status.is_some_and(|status| status.contains(words))
}

/// READY=1 comes when everything is applied, and not before. Until then, the status line says what the agent waits for.
async fn readiness_follows_the_first_synchronisation(mut bench: Bench) {
    let config = pair(Reference::named("far"));
    let mut manager = ServiceManager::start();
    bench.put_together(&config).await;
    bench.store.etcd().kill();
    bench.agent_launcher = manager.launcher(None);
    bench.launch_agent_now();
    let limit = bench.time_limit();
    manager
        .until("the status line reports the unreachable store", limit, |manager| {
            has_status(manager, "etcd") || has_status(manager, "store")
        })
        .await;
    assert!(!is_ready(&manager), "{:?}", manager.lines);
    bench.store.etcd().restart().await;
    manager.until("the agent is ready", limit, is_ready).await;
    bench.check(&config);
    manager
        .until("the status line has the number of values", limit, |manager| {
            has_status(manager, "in sync: 2 CONFIGURED")
        })
        .await;
    bench.agent().signal(Signal::SIGTERM);
    manager
        .until("the agent reports that it stops", limit, |manager| {
            manager.lines.iter().any(|line| line == "STOPPING=1")
        })
        .await;
    assert!(bench.agent().ended().await.success());
}
on_one_store!(readiness_follows_the_first_synchronisation, Etcd, 120);

/// The watchdog is restarted while the engine runs. When the threads that run the engine hang, it is not, and the service manager
/// would end the agent.
async fn watchdog_fires_when_the_engine_hangs(mut bench: Bench) {
    let mut manager = ServiceManager::start();
    let watchdog = Duration::from_secs(2);
    bench.agent_launcher = manager.launcher(Some(watchdog));
    bench.launch_agent_now();
    let limit = bench.time_limit();
    manager
        .until("the watchdog is restarted", limit, |manager| manager.alive >= 3)
        .await;
    let hanging = hang_threads(bench.agent().pid(), "tokio-rt-worker");
    manager.until_watchdog_fires(watchdog).await;
    drop(hanging);
    let before = manager.alive;
    manager
        .until("the watchdog is restarted again", limit, |manager| manager.alive > before)
        .await;
    bench.stop_agent().await;
}
on_one_store!(watchdog_fires_when_the_engine_hangs, Embedded, 120);

/// The service manager keeps the namespaces open while no agent runs. The next agent recognises them, and takes the descriptors of
/// values that were deleted in the meantime out of the store.
async fn pinned_namespaces_survive_a_restart_in_the_descriptor_store(mut bench: Bench) {
    let mut manager = ServiceManager::start();
    let limit = bench.time_limit();
    let holder = Holder::start(Some(PID));
    let config = pair(Reference::Pid(PID));
    bench.agent_launcher = manager.launcher(None);
    let revisions = bench.put_together(&config).await;
    bench.start_agent().await;
    bench.until_configured(&revisions).await;
    let inode = |path: &std::path::Path| fs::metadata(path).expect("a namespace").ino();
    let expected = [inode(&Reference::named("managed").path()), inode(&holder.netns())];
    manager
        .until("both namespaces are stored", limit, |manager| {
            let stored = manager.stored_namespaces();
            stored.len() == 2 && expected.iter().all(|inode| stored.contains(inode))
        })
        .await;
    manager.until("the agent is ready", limit, is_ready).await;

    // After a crash, the record of the processes is lost too. The namespace and its contents are recognised all the same.
    bench.kill_agent().await;
    fs::remove_file("/run/live/data/process-bindings.json").expect("the agent recorded the process");
    settle::until_quiet(&[holder.netns()]).await;
    let mut monitor = Monitor::open(&holder.netns());
    manager.lines.clear();
    bench.agent_launcher = manager.launcher(None);
    bench.start_agent().await;
    manager.until("the restarted agent is ready", limit, is_ready).await;
    monitor.assert_silent("while the agent was restarted");
    bench.check(&config);
    assert_eq!(manager.stored.len(), 2, "the descriptors stay where they are");

    // A value that was deleted while no agent ran needs no namespace.
    bench.kill_agent().await;
    bench.delete(INSIDE).await;
    manager.lines.clear();
    bench.agent_launcher = manager.launcher(None);
    bench.start_agent().await;
    manager
        .until("only the named namespace is stored", limit, |manager| {
            manager.stored_namespaces() == [expected[0]]
        })
        .await;
    bench.stop_agent().await;
}
on_one_store!(pinned_namespaces_survive_a_restart_in_the_descriptor_store, Etcd, 120);

/// The process of a PID reference ends while no agent runs, and another process gets the PID. The namespace of the first process
/// still exists in the descriptor store, so the agent recognises that the PID leads elsewhere, even without its own record.
async fn descriptor_store_reveals_a_reused_pid(mut bench: Bench) {
    let mut manager = ServiceManager::start();
    let limit = bench.time_limit();
    let mut holder = Holder::start(Some(PID));
    let namespace = fs::metadata(holder.netns()).expect("a namespace").ino();
    let config = pair(Reference::Pid(PID));
    bench.agent_launcher = manager.launcher(None);
    let revisions = bench.put_together(&config).await;
    bench.start_agent().await;
    bench.until_configured(&revisions).await;
    manager
        .until("both namespaces are stored", limit, |manager| manager.stored.len() == 2)
        .await;

    bench.kill_agent().await;
    holder.end();
    fs::remove_file("/run/live/data/process-bindings.json").expect("the agent recorded the process");
    let survivor = manager.path_of(namespace).expect("the namespace is stored");
    assert!(
        fingerprint(&survivor).contains("agent0"),
        "the namespace and its links must exist without a process"
    );
    let stranger = Holder::start(Some(PID));
    let before = fingerprint(&stranger.netns());
    bench.agent_launcher = manager.launcher(None);
    bench.start_agent().await;
    bench
        .until("the value waits for its process", |publication| {
            publication
                .of(INSIDE)
                .is_some_and(|status| status.state == "PENDING" && status.explanation().contains("reused"))
        })
        .await;
    assert_eq!(before, fingerprint(&stranger.netns()), "the foreign namespace must not be touched");

    // Deleting the values and putting them again binds the reference to the new process.
    bench.delete_all().await;
    bench
        .until(&format!("{INSIDE} is deleted"), |publication| publication.of(INSIDE).is_none())
        .await;
    let revisions = bench.put_together(&config).await;
    bench.until_configured(&revisions).await;
    bench.check(&config);
    bench.stop_agent().await;
}
on_one_store!(descriptor_store_reveals_a_reused_pid, Etcd, 120);

/// SIGHUP makes the agent read its settings file again. It applies what can change, and names what needs a restart. An invalid file
/// changes nothing.
async fn sighup_reads_the_settings_again(mut bench: Bench) {
    const FILE: &str = "/run/live/settings.yaml";
    let mut manager = ServiceManager::start();
    let limit = bench.time_limit();
    fs::write(FILE, "sweep_interval: 10\n").expect("write the settings");
    bench.agent_launcher = manager.launcher(None);
    bench.agent_arguments.extend(["--config".to_owned(), FILE.to_owned()]);
    bench.start_agent().await;
    manager.until("the agent is ready", limit, is_ready).await;
    let settings = [
        (
            "sweep_interval: 1\nforeign_addresses: strict\nwatched_max: 7\n",
            [
                "changed: sweep_interval, foreign_addresses",
                "take effect at the next start: watched_max",
            ],
        ),
        ("sweep_interval: soon\n", ["sweep_interval", "the settings stay as they were"]),
    ];
    for (text, expected) in settings {
        fs::write(FILE, text).expect("write the settings");
        manager.lines.clear();
        bench.agent().signal(Signal::SIGHUP);
        manager.until("the reload is complete", limit, is_ready).await;
        assert_eq!(manager.lines[0], "RELOADING=1", "{:?}", manager.lines);
        assert!(manager.lines[1].starts_with("MONOTONIC_USEC="), "{:?}", manager.lines);
        let log = fs::read_to_string(LOG).expect("the agent logs");
        for words in expected {
            assert!(log.contains(words), "{words}:\n{log}");
        }
    }
    bench.stop_agent().await;
}
on_one_store!(sighup_reads_the_settings_again, Embedded, 60);
