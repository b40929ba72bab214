//! Live tests of the label. Only one agent per label can run on a machine, even in different namespaces, and only
//! one agent per label can use a store.

use std::net::Ipv4Addr;

use crate::{
    on_one_store,
    support::{
        agent::{LOG, program},
        bench::{Bench, Revisions},
        command,
        config::{Config, Interface, Reference},
        etcd::CuttingProxy,
        monitor::Monitor,
        process::Process,
        settle,
        status::Publication,
    },
};

/// Tries to start another agent with this label in other namespaces, and returns its exit code and output.
fn second(label: &str, unshared: &[&str]) -> (Option<i32>, String) {
    let program = program();
    let agent = format!(
        "mount -t tmpfs none /run 2>/dev/null; exec timeout 20 {program} run --microservice-label {label} --data-dir /tmp/second-$$ \
         --embedded-listen 127.0.0.1:0 --http-listen off --grpc-listen off --docker-host unix:///nowhere"
    );
    let shared_run = format!("exec {}", agent.split_once("exec ").map_or("", |(_, agent)| agent));
    let script = if unshared.contains(&"--mount") { agent } else { shared_run };
    let words = [unshared, &["sh", "-c", &script]].concat();
    let output = command::output("unshare", &words);
    let text = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    (output.status.code(), text.concat())
}

fn pair(netns: &Reference) -> Config {
    Config {
        interfaces: vec![
            Interface::veth("one", "two", netns.clone()),
            Interface::veth("two", "one", netns.clone()),
        ],
        ..Config::default()
    }
}

/// A second agent with the same label is refused in the same namespaces, in another network namespace, and in another mount
/// namespace with its own `/run`. After the first agent is killed, the next one starts at once.
async fn a_second_agent_with_the_label_is_refused(mut bench: Bench) {
    bench.start_agent().await;
    let config = pair(&Reference::Own);
    let revisions = bench.put_together(&config).await;
    bench.until_configured(&revisions).await;
    let pid = bench.agent().pid();
    let namespaces: [&[&str]; 3] = [&["--uts"], &["--net"], &["--net", "--mount"]];
    for unshared in namespaces {
        let (code, text) = second(&bench.label, unshared);
        assert_eq!(code, Some(1), "{unshared:?}: {text}");
        let holder = format!("another agent with label {} runs on this machine: PID {pid} (", bench.label);
        assert!(text.contains(&holder) && text.contains("netns-agent run"), "{unshared:?}: {text}");
        assert!(
            text.contains("since 20") && text.contains("--microservice-label"),
            "{unshared:?}: {text}"
        );
    }
    bench.check(&config);
    bench.kill_agent().await;
    bench.start_agent().await;
    bench.check(&config);
    bench.stop_agent().await;
}
on_one_store!(a_second_agent_with_the_label_is_refused, Etcd, 120);

/// A second agent that shares only the store with the first one, as if it ran on another machine.
struct Elsewhere {
    proxy: CuttingProxy,
    label: String,
}

impl Elsewhere {
    async fn new(bench: &Bench) -> Self {
        for line in [
            "netns add elsewhere",
            "link add to-elsewhere type veth peer name uplink netns elsewhere",
            "address add 10.254.0.1/30 dev to-elsewhere",
            "link set to-elsewhere up",
            "-n elsewhere address add 10.254.0.2/30 dev uplink",
            "-n elsewhere link set uplink up",
            "-n elsewhere link set lo up",
        ] {
            command::ip(line);
        }
        let store = bench.store.endpoint().parse().expect("the address of the store");
        Elsewhere {
            proxy: CuttingProxy::start_on(Ipv4Addr::new(10, 254, 0, 1), store).await,
            label: bench.label.clone(),
        }
    }

    /// Starts the second agent in its own PID, mount and network namespaces.
    fn start(&self, log: &str) -> Process {
        let agent = format!(
            "mount -t tmpfs none /run; exec {} run --microservice-label {} --data-dir /run/data \
             --etcd-endpoints {} --http-listen off --grpc-listen off --docker-host unix:///nowhere",
            program(),
            self.label,
            self.proxy.url()
        );
        let words = [
            "--net=/run/netns/elsewhere",
            "unshare",
            "--pid",
            "--fork",
            "--kill-child",
            "--mount",
            "--mount-proc",
        ];
        Process::start("nsenter", &[&words[..], &["sh", "-c", &agent]].concat(), log)
    }
}

/// Returns the contents and the revision of the key `holder`, which identifies the agent that has claimed the label.
fn holder(publication: &Publication) -> Option<(serde_json::Value, i64)> {
    let entry = publication.keys.get("holder")?;
    Some((serde_json::from_str(&entry.text).ok()?, entry.revision))
}

/// Waits until the revision of the holder key differs from `before`. Returns the new contents and revision.
async fn until_claimed_again(bench: &Bench, before: i64) -> (serde_json::Value, i64) {
    let publication = bench
        .until("the label is claimed again", |publication| {
            holder(publication).is_some_and(|(_, revision)| revision != before)
        })
        .await;
    holder(&publication).expect("the label has a holder")
}

/// Starts the agent and configures a veth pair. Returns the configuration, a monitor opened after the last change, and the
/// revisions of the puts.
async fn with_a_pair(bench: &mut Bench) -> (Config, Monitor, Revisions) {
    bench.start_agent().await;
    let netns = Reference::named("pair");
    let config = pair(&netns);
    let revisions = bench.put_together(&config).await;
    bench.until_configured(&revisions).await;
    settle::until_quiet(&[netns.path()]).await;
    (config, Monitor::open(&netns.path()), revisions)
}

/// A second agent on the same store is refused without disturbing the first one, even if it seems to run on another machine. If
/// the holder is killed, its successor takes over the label at once. Losing the lease or the key changes nothing.
async fn a_second_agent_on_the_store_is_refused(mut bench: Bench) {
    let elsewhere = Elsewhere::new(&bench).await;
    let (config, mut monitor, revisions) = with_a_pair(&mut bench).await;
    let statuses = |publication: &Publication| -> Vec<(String, i64)> {
        // Skip the health keys, because they are written every ten seconds.
        let keys = publication.keys.iter().filter(|(key, _)| !key.starts_with("check/"));
        keys.map(|(key, entry)| (key.clone(), entry.revision)).collect()
    };
    let before = statuses(&bench.published());
    let mut second = elsewhere.start("/run/live/second.log");
    let status = second.ended().await;
    let said = second.log_tail(5);
    assert_eq!(status.code(), Some(1), "{said}");
    let (host, pid) = (command::run("uname", &["-n"]), bench.agent().pid());
    let words = format!(
        "another agent with label {} uses this store: PID {pid} on host {}, since 20",
        bench.label,
        host.trim()
    );
    assert!(said.contains(&words) && said.contains("--microservice-label"), "{said}");
    assert_eq!(statuses(&bench.published()), before);
    monitor.assert_silent("while a second agent was refused");

    let created = |bench: &Bench| -> i64 {
        let stored = bench
            .store
            .etcdctl(&["get", &format!("/vnf-agent/{}/holder", bench.label), "-w", "json"]);
        let stored: serde_json::Value = serde_json::from_str(&stored).expect("etcdctl prints JSON");
        stored["kvs"][0]["create_revision"].as_i64().expect("the key exists")
    };
    let (_, first) = holder(&bench.published()).expect("the label has a holder");
    let created_before = created(&bench);
    bench.kill_agent().await;
    let started = bench.start_agent().await;
    bench.until_configured_since(&revisions, started).await;
    let (content, again) = until_claimed_again(&bench, first).await;
    assert_eq!(content["pid"], bench.agent().pid());
    assert_eq!(created(&bench), created_before, "the agent waited for the lease of the killed one");

    let leases = bench.store.etcdctl(&["lease", "list"]);
    for lease in leases.lines().filter(|line| line.len() == 16) {
        bench.store.etcdctl(&["lease", "revoke", lease]);
    }
    let (content, again) = until_claimed_again(&bench, again).await;
    assert_eq!(content["pid"], bench.agent().pid());
    bench.store.etcdctl(&["del", &format!("/vnf-agent/{}/holder", bench.label)]);
    let (content, _) = until_claimed_again(&bench, again).await;
    assert_eq!(content["pid"], bench.agent().pid());
    monitor.assert_silent("while the lease and the key were deleted");
    bench.until_configured(&revisions).await;
    bench.check(&config);
    bench.stop_agent().await;
    bench
        .until("the claim is deleted with its agent", |publication| holder(publication).is_none())
        .await;
}
on_one_store!(a_second_agent_on_the_store_is_refused, Etcd, 120);

/// A second agent that cannot reach the store at startup must change nothing before it has read which agent has claimed the
/// label.
async fn a_second_agent_that_reaches_the_store_late_is_refused(mut bench: Bench) {
    let elsewhere = Elsewhere::new(&bench).await;
    let (config, mut monitor, _) = with_a_pair(&mut bench).await;
    elsewhere.proxy.close();
    let log = "/run/live/second.log";
    let mut second = elsewhere.start(log);
    // Wait until the second agent runs. An agent starts even if it cannot reach its store.
    let started = || std::fs::read_to_string(log).is_ok_and(|log| log.contains("the last desired state stays"));
    bench.until_true("the second agent has started", started).await;
    elsewhere.proxy.open();
    let (status, pid) = (second.ended().await, bench.agent().pid());
    let said = std::fs::read_to_string(log).expect("read the log");
    assert_eq!(status.code(), Some(1), "{said}");
    let words = format!("another agent with label {} uses this store: PID {pid}", bench.label);
    assert!(said.contains(&words), "{said}");
    assert!(!said.contains("namespace opened"), "the second agent must not act:\n{said}");
    monitor.assert_silent("while a second agent was refused");
    bench.check(&config);
    bench.stop_agent().await;
}
on_one_store!(a_second_agent_that_reaches_the_store_late_is_refused, Etcd, 120);

/// If an agent is cut off for longer than its lease, another one can take over the label. The first agent then stops, and leaves
/// its network as it is.
async fn an_agent_that_lost_the_label_ends_and_keeps_the_network(mut bench: Bench) {
    let elsewhere = Elsewhere::new(&bench).await;
    let (config, mut monitor, _) = with_a_pair(&mut bench).await;
    let (_, first) = holder(&bench.published()).expect("the label has a holder");
    bench.agent().freeze();
    let second = elsewhere.start("/run/live/second.log");
    until_claimed_again(&bench, first).await;
    bench.agent().thaw();
    let status = bench.agent().ended().await;
    let said = crate::support::process::tail(LOG.as_ref(), 5);
    assert_eq!(status.code(), Some(1), "{said}");
    let words = format!("another agent with label {} uses this store: PID 1 on host", bench.label);
    assert!(said.contains(&words) && said.contains("the network stays as it is"), "{said}");
    monitor.assert_silent("while another agent took over the label");
    bench.check(&config);
    second.kill().await;
}
on_one_store!(an_agent_that_lost_the_label_ends_and_keeps_the_network, Etcd, 120);
