//! Tests the embedded store with an unmodified `etcdctl` from etcd 3.4, and prints a transcript.

use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::Command;

use super::{fixture, installed, within};

struct Etcdctl {
    endpoint: String,
}

impl Etcdctl {
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("etcdctl");
        command
            .env("ETCDCTL_API", "3")
            .env("ETCDCTL_ENDPOINTS", &self.endpoint)
            .args(arguments);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    /// Runs `etcdctl`. Returns its output and errors, and true if it succeeded.
    async fn call(&self, arguments: &[&str], input: &str) -> (String, bool) {
        let mut child = self.command(arguments).spawn().expect("start etcdctl");
        let mut stdin = child.stdin.take().expect("a pipe");
        stdin.write_all(input.as_bytes()).await.expect("write to etcdctl");
        drop(stdin);
        let output = within(child.wait_with_output()).await.expect("wait for etcdctl");
        let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        println!("$ etcdctl {}\n{text}", arguments.join(" "));
        (text, output.status.success())
    }

    async fn run(&self, arguments: &[&str]) -> String {
        let (text, success) = self.call(arguments, "").await;
        assert!(success, "etcdctl {arguments:?}: {text}");
        text
    }

    async fn fail(&self, arguments: &[&str]) -> String {
        let (text, success) = self.call(arguments, "").await;
        assert!(!success, "etcdctl {arguments:?} must fail: {text}");
        text
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn etcdctl_works_as_with_etcd() {
    if !installed("etcdctl") {
        return;
    }
    let running = fixture().await;
    let ctl = Etcdctl {
        endpoint: running.store.local_addr().to_string(),
    };

    assert_eq!(ctl.run(&["put", "greeting", "hello"]).await, "OK\n");
    assert_eq!(
        ctl.run(&["put", "--prev-kv", "greeting", "hello again"]).await,
        "OK\ngreeting\nhello\n"
    );
    assert_eq!(ctl.run(&["get", "greeting"]).await, "greeting\nhello again\n");
    assert_eq!(ctl.run(&["get", "greeting", "--rev=2", "--print-value-only"]).await, "hello\n");
    ctl.run(&["put", "greeting/2", "x"]).await;
    assert_eq!(
        ctl.run(&["get", "--prefix", "--keys-only", "greeting"]).await,
        "greeting\n\ngreeting/2\n\n"
    );
    assert_eq!(ctl.run(&["del", "greeting/2"]).await, "1\n");

    let compare_and_put = "value(\"greeting\") = \"hello again\"\n\nput greeting bye\nget greeting\n\nget greeting\n\n";
    let (text, success) = ctl.call(&["txn"], compare_and_put).await;
    assert!(success && text == "SUCCESS\n\nOK\n\ngreeting\nbye\n", "{text}");

    assert_eq!(ctl.run(&["compaction", "--physical", "5"]).await, "compacted revision 5\n");
    assert!(
        ctl.fail(&["compaction", "5"])
            .await
            .contains("etcdserver: mvcc: required revision has been compacted")
    );
    assert!(
        ctl.fail(&["get", "greeting", "--rev=2"])
            .await
            .contains("etcdserver: mvcc: required revision has been compacted")
    );
    assert!(
        ctl.fail(&["get", "greeting", "--rev=1000"])
            .await
            .contains("etcdserver: mvcc: required revision is a future revision")
    );

    leases(&ctl).await;
    endpoint(&ctl).await;
    running.store.shutdown().await;
}

async fn leases(ctl: &Etcdctl) {
    let granted = ctl.run(&["lease", "grant", "600"]).await;
    let id = granted.split_whitespace().nth(1).expect("lease ID granted with …").to_owned();
    assert_eq!(ctl.run(&["put", "--lease", &id, "leased", "x"]).await, "OK\n");
    let time_to_live = ctl.run(&["lease", "timetolive", "--keys", &id]).await;
    assert!(
        time_to_live.contains("granted with TTL(600s)") && time_to_live.contains("attached keys([leased])"),
        "{time_to_live}"
    );
    assert!(ctl.run(&["lease", "list"]).await.contains(&id));
    assert!(
        ctl.run(&["lease", "keep-alive", "--once", &id])
            .await
            .contains("keepalived with TTL(600)")
    );
    assert_eq!(ctl.run(&["lease", "revoke", &id]).await, format!("lease {id} revoked\n"));
    assert_eq!(ctl.run(&["get", "leased"]).await, "");
    assert!(
        ctl.fail(&["lease", "revoke", &id])
            .await
            .contains("etcdserver: requested lease not found")
    );
    assert!(
        ctl.fail(&["put", "--lease", &id, "leased", "x"])
            .await
            .contains("etcdserver: requested lease not found")
    );
}

async fn endpoint(ctl: &Etcdctl) {
    assert!(ctl.run(&["endpoint", "health"]).await.contains("is healthy"));
    let status = ctl.run(&["endpoint", "status"]).await;
    assert!(status.contains("3.4.0-netns-agent") && status.contains(", true, "), "{status}");
    assert!(
        ctl.run(&["member", "list"])
            .await
            .contains(&format!("started, netns-agent, , http://{}", ctl.endpoint))
    );
    assert_eq!(ctl.run(&["alarm", "list"]).await, "");
    assert!(ctl.run(&["defrag"]).await.starts_with("Finished defragmenting etcd member"));
    assert!(ctl.fail(&["user", "list"]).await.contains("authentication is not supported"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn etcdctl_watch_follows_a_prefix_from_the_past_on() {
    if !installed("etcdctl") {
        return;
    }
    let mut running = fixture().await;
    let ctl = Etcdctl {
        endpoint: running.store.local_addr().to_string(),
    };
    running.client.put("w/1", "past", None).await.expect("a put");
    let mut watch = ctl
        .command(&["watch", "--prefix", "--rev=1", "--prev-kv", "w/"])
        .spawn()
        .expect("start etcdctl");
    let mut lines = BufReader::new(watch.stdout.take().expect("a pipe")).lines();
    let mut expect = async |expected: &[&str]| {
        for line in expected {
            assert_eq!(within(lines.next_line()).await.expect("output").expect("a line"), *line);
        }
    };
    expect(&["PUT", "w/1", "past"]).await;
    running.client.put("w/1", "now", None).await.expect("a put");
    expect(&["PUT", "w/1", "past", "w/1", "now"]).await;
    running.client.delete("w/1", None).await.expect("a delete");
    expect(&["DELETE", "w/1", "now", "w/1", ""]).await;
    watch.kill().await.expect("kill etcdctl");
    running.store.shutdown().await;
}
