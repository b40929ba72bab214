//! One agent per label on a machine, whatever namespaces it is in; and signals that must not end it.

use crate::{
    on_one_store,
    support::{
        agent::LOG,
        bench::Bench,
        command,
        config::{Config, Interface, Reference},
    },
};

const AGENT: &str = env!("CARGO_BIN_EXE_netns-agent");

/// Tries to start another agent with this label, in other namespaces: exit code and what it said.
fn second(label: &str, unshared: &[&str]) -> (Option<i32>, String) {
    let agent = format!(
        "mount -t tmpfs none /run 2>/dev/null; exec timeout 20 {AGENT} run --microservice-label {label} --data-dir /tmp/second-$$ \
         --embedded-listen 127.0.0.1:0 --http-listen off --grpc-listen off --docker-host unix:///nowhere"
    );
    let shared_run = format!("exec {}", agent.split_once("exec ").map_or("", |(_, agent)| agent));
    let script = if unshared.contains(&"--mount") { agent } else { shared_run };
    let words = [unshared, &["sh", "-c", &script]].concat();
    let output = command::output("unshare", &words);
    let text = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    (output.status.code(), text.concat())
}

/// Refused in the same namespaces, in another network namespace, and in another mount namespace with a `/run` of its own; a killed holder is
/// no obstacle.
async fn a_second_agent_with_the_label_is_refused(mut bench: Bench) {
    bench.start_agent().await;
    let config = Config {
        interfaces: vec![
            Interface::veth("one", "two", Reference::Own),
            Interface::veth("two", "one", Reference::Own),
        ],
        ..Config::default()
    };
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

/// SIGHUP, as from a closed terminal or an administrator who expects a reload, ends nothing.
async fn a_hangup_is_survived_and_logged(mut bench: Bench) {
    bench.start_agent().await;
    let pid = bench.agent().pid().to_string();
    command::run("kill", &["-HUP", &pid]);
    let logged = || std::fs::read_to_string(LOG).is_ok_and(|log| log.contains("SIGHUP ignored"));
    bench.until_true("the signal is logged", logged).await;
    assert!(bench.agent().runs());
    bench.stop_agent().await;
}
on_one_store!(a_hangup_is_survived_and_logged, Embedded, 60);
