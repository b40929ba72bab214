//! Live tests of privileges. Every thread of the agent must have exactly the expected capabilities, and the agent must need each
//! of them.
//!
//! Reads `/proc/PID/task/*/status`. All other live tests show that these capabilities are sufficient. See
//! [`every_thread_has_exactly_the_needed_capabilities`].

use std::{collections::BTreeMap, fs, os::unix::fs::PermissionsExt};

use netns_kernel::privileges::{Capability, LOW_PORTS, NEEDED};

use crate::{
    on_one_store,
    support::{
        agent::LOG,
        bench::Bench,
        command,
        config::{Config, Interface, Reference},
        process::{Holder, Process},
        store::EMBEDDED_LISTEN,
    },
};

/// Fields of `/proc/PID/status` that contain a thread's capability sets.
const SETS: [&str; 6] = ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs"];

fn mask(capabilities: &[Capability]) -> u64 {
    capabilities.iter().fold(0, |mask, capability| mask | 1 << capability.bit)
}

fn sets(status: &str) -> [u64; 6] {
    let status = fs::read_to_string(status).unwrap_or_else(|error| panic!("{status}: {error}"));
    SETS.map(|name| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        u64::from_str_radix(line.unwrap_or_else(|| panic!("no {name}")).trim(), 16).expect("a number")
    })
}

/// Returns the capability sets of all threads. Skips threads that end before their status is read.
fn threads(pid: i32) -> BTreeMap<String, [u64; 6]> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("the agent is running").flatten();
    let statuses = tasks.map(|task| (task.file_name().to_string_lossy().into_owned(), task.path().join("status")));
    let running = statuses.filter(|(_, status)| status.exists());
    running
        .map(|(thread, status)| (thread, sets(status.to_str().expect("UTF-8"))))
        .collect()
}

/// Starts an agent with these arguments and lets it configure a veth pair, a route and an ARP entry. Asserts that all its threads
/// have these capability sets.
async fn expect(bench: &mut Bench, arguments: &[&str], expected: [u64; 6]) {
    bench.agent_arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
    bench.start_agent().await;
    let revisions = bench.put_together(&Config::between_two_namespaces()).await;
    bench.until_configured(&revisions).await;
    let threads = threads(bench.agent().pid());
    // The agent has a main thread, two runtime threads, and at least one thread that serves namespaces.
    assert!(threads.len() > 3, "{threads:?}");
    for (thread, sets) in &threads {
        assert_eq!(*sets, expected, "thread {thread}: {SETS:?}");
    }
    println!("{arguments:?}: {} threads, each with {expected:x?}", threads.len());
}

async fn every_thread_has_exactly_the_needed_capabilities(mut bench: Bench) {
    let needed = mask(&NEEDED);
    expect(&mut bench, &[], [0, needed, needed, needed, 0, 1]).await;
    bench.stop_agent().await;
    let low_ports = needed | mask(&[LOW_PORTS]);
    let listen = ["--http-listen", "127.0.0.1:80"];
    expect(&mut bench, &listen, [0, low_ports, low_ports, low_ports, 0, 1]).await;
    bench.stop_agent().await;
    expect(&mut bench, &["--keep-privileges"], sets("/proc/self/status")).await;
    bench.stop_agent().await;
}
on_one_store!(every_thread_has_exactly_the_needed_capabilities, Embedded, 120);

/// Starts an agent without this capability.
fn without(bench: &Bench, capability: &str) -> Process {
    let name = capability.trim_start_matches("CAP_").to_lowercase();
    let set = format!("-{name}");
    let arguments = [
        "--bounding-set",
        &set,
        env!("CARGO_BIN_EXE_netns-agent"),
        "run",
        "--microservice-label",
        &bench.label,
        "--data-dir",
        "/run/live/data",
        "--embedded-listen",
        EMBEDDED_LISTEN,
    ];
    Process::start("setpriv", &arguments, LOG)
}

fn log() -> String {
    fs::read_to_string(LOG).expect("read the log of the agent")
}

/// Returns a veth pair with its first end in this namespace, and the key of that end.
fn pair(inside: Reference) -> (Config, String) {
    let config = Config {
        interfaces: vec![Interface::veth("in", "out", inside), Interface::veth("out", "in", Reference::Own)],
        ..Config::default()
    };
    let key = config.interfaces[0].key();
    (config, key)
}

/// Creates a namespace whose file is in a directory that only its owner may enter.
fn hidden_namespace() -> Reference {
    command::ip("netns add hidden");
    let script = "mkdir /run/live/private && touch /run/live/private/netns && mount --bind /run/netns/hidden /run/live/private/netns";
    assert!(command::output("sh", &["-c", script]).status.success());
    fs::set_permissions("/run/live/private", fs::Permissions::from_mode(0o700)).expect("set the mode");
    std::os::unix::fs::chown("/run/live/private", Some(1000), Some(1000)).expect("set the owner");
    Reference::File("/run/live/private/netns".to_owned())
}

/// If any one of the four capabilities is missing, a value fails or the agent does not start. With all four, the same value is
/// CONFIGURED.
async fn every_capability_is_needed(mut bench: Bench) {
    let holder = Holder::start(None);
    let cases = [
        ("CAP_DAC_READ_SEARCH", pair(hidden_namespace())),
        ("CAP_NET_ADMIN", pair(Reference::named("red"))),
        ("CAP_SYS_PTRACE", pair(Reference::Pid(holder.pid()))),
    ];
    for (capability, (config, key)) in &cases {
        let before = bench.published().revision;
        let process = without(&bench, capability);
        // Wait until the agent is running, because the embedded store is part of it.
        bench
            .until("the agent is running", |publication| {
                publication
                    .keys
                    .get("check/status/v1/agent")
                    .is_some_and(|entry| entry.revision > before)
            })
            .await;
        let revisions = bench.put_together(config).await;
        bench
            .until(&format!("{key} fails without {capability}"), |publication| {
                publication
                    .of(key)
                    .is_some_and(|status| status.mod_revision >= revisions[key] && status.state != "CONFIGURED")
            })
            .await;
        let status = bench.published().of(key).cloned().unwrap_or_default();
        println!("without {capability}: {} {}{}", status.state, status.error, status.message);
        assert!(log().contains(&format!("{capability} is missing; it is needed for ")), "not logged");
        assert!(process.terminate().await.success());

        bench.start_agent().await;
        bench.until_configured(&revisions).await;
        bench.delete_all().await;
        bench.until_nothing_is_published().await;
        bench.stop_agent().await;
    }
    let mut process = without(&bench, "CAP_SYS_ADMIN");
    assert_eq!(process.ended().await.code(), Some(1));
    assert!(log().contains("the netns executor cannot start"), "{}", log());
    println!("without CAP_SYS_ADMIN: it does not start");
}
on_one_store!(every_capability_is_needed, Embedded, 240);
