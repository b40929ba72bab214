//! Private namespaces for a test, an executor in these namespaces, and shorthand functions for using the executor and `ip`.

use std::{
    io::{Read, Write},
    net::IpAddr,
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use netns_kernel::{
    AddressSpec, Attr, CreateLink, Executor, ExecutorConfig, Failure, Guard, KernelOp, LinkChanges, NamespaceRef, NetnsId, NewLink,
    NewPeer, Reply, RouteSpec, Snapshot, Task, provisional_group,
};
use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

/// Alias prefix of owned links.
pub const PREFIX: &str = "/vnf-agent/test/";
/// Alias of `lo` in namespaces that the tests create.
pub const MARK: &str = "netns-agent:test";
/// Time limit for an event to arrive. A passing test does not wait that long.
pub const TIME_LIMIT: Duration = Duration::from_secs(5);

/// An executor in private namespaces, and a runtime on which the test waits for the executor.
pub struct World {
    /// The executor under test.
    pub executor: Executor,
    /// Namespaces that the executor reports as changed.
    pub events: UnboundedReceiver<NetnsId>,
    runtime: tokio::runtime::Runtime,
}

/// Runs a test in private namespaces.
pub fn in_private_namespaces(test: impl FnOnce(&mut World) + Send + 'static) {
    let run = thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET).expect("these tests need root (CAP_SYS_ADMIN)");
        let none = None::<&str>;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).expect("make all mounts private");
        mount(Some("run"), "/run", Some("tmpfs"), MsFlags::empty(), none).expect("mount an empty /run");
        test(&mut World::start(300, 4096));
    });
    if let Err(panic) = run.join() {
        std::panic::resume_unwind(panic);
    }
}

impl World {
    /// Starts an executor in the calling thread's namespace.
    pub fn start(watched_max: usize, awake_max: usize) -> Self {
        Self::start_with(|config| ExecutorConfig {
            watched_max,
            awake_max,
            ..config
        })
    }

    /// Starts an executor with changed settings in the calling thread's namespace.
    pub fn start_with(change: impl FnOnce(ExecutorConfig) -> ExecutorConfig) -> Self {
        let (event_sender, events) = unbounded_channel();
        let executor = Executor::start(change(ExecutorConfig::new(event_sender))).expect("start the executor");
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        Self { executor, events, runtime }
    }

    /// Performs one task per list of operations, and returns the results in the same order.
    pub fn tasks(&self, lists: Vec<Vec<KernelOp>>) -> Vec<Result<Reply, Failure>> {
        let task = |(id, ops)| Task {
            id,
            key: format!("config/test/{id}"),
            ops,
        };
        let tasks: Vec<Task> = (0..).zip(lists).map(task).collect();
        let ids: Vec<u64> = tasks.iter().map(|task| task.id).collect();
        let outcomes = self.runtime.block_on(self.executor.perform(tasks));
        assert_eq!(
            outcomes.iter().map(|outcome| outcome.id).collect::<Vec<_>>(),
            ids,
            "there must be one outcome per task"
        );
        outcomes.into_iter().map(|outcome| outcome.result).collect()
    }

    /// Performs one operation.
    pub fn try_op(&self, op: KernelOp) -> Result<Reply, Failure> {
        self.tasks(vec![vec![op]]).remove(0)
    }

    /// Performs one operation that must succeed.
    #[track_caller]
    pub fn op(&self, op: KernelOp) -> Reply {
        self.try_op(op.clone()).unwrap_or_else(|failure| panic!("{op:?} failed: {failure}"))
    }

    /// Performs one operation that must fail.
    #[track_caller]
    pub fn refused(&self, op: KernelOp) -> Failure {
        self.try_op(op).expect_err("the operation must fail")
    }

    /// Opens the namespace of a reference. Returns its ID, true if the namespace was created, and its contents.
    pub fn try_open(&self, reference: NamespaceRef) -> Result<(NetnsId, bool, Snapshot), Failure> {
        match self.try_op(KernelOp::OpenNamespace {
            reference,
            mark: Some(MARK.to_owned()),
        })? {
            Reply::Opened { netns, created, contents } => Ok((netns, created, *contents)),
            other => panic!("expected an opened namespace, got {other:?}"),
        }
    }

    /// Opens a named namespace.
    #[track_caller]
    pub fn open(&self, name: &str) -> NetnsId {
        self.try_open(NamespaceRef::Named(name.to_owned()))
            .unwrap_or_else(|failure| panic!("cannot open {name}: {failure}"))
            .0
    }

    /// Reads a namespace.
    pub fn dump(&self, netns: NetnsId) -> Snapshot {
        match self.op(KernelOp::DumpNamespace { netns }) {
            Reply::Contents(contents) => *contents,
            other => panic!("expected a snapshot, got {other:?}"),
        }
    }

    /// Returns the next event, or `None` after `time_limit`.
    pub fn event(&mut self, time_limit: Duration) -> Option<NetnsId> {
        self.runtime
            .block_on(async { tokio::time::timeout(time_limit, self.events.recv()).await.ok().flatten() })
    }

    /// Creates a veth pair `a` and `b`. Both ends are up and owned.
    pub fn veth(&self, a: (NetnsId, &str), b: (NetnsId, &str)) {
        self.op(create_veth(a, b));
        for (netns, name) in [a, b] {
            let changes = LinkChanges {
                alias: Some(format!("{PREFIX}{name}")),
                group: Some(0),
                up: Some(true),
                ..LinkChanges::default()
            };
            self.op(set_link(netns, name, changes));
        }
    }
}

/// Returns the guard that allows an operation only on links with the test's ownership mark.
pub fn owned() -> Guard {
    Guard::Owned {
        alias_prefix: PREFIX.to_owned(),
    }
}

/// Returns a link to create, without MTU and MAC.
pub fn new_link(netns: NetnsId, name: &str) -> NewLink {
    NewLink {
        netns,
        name: name.to_owned(),
        mtu: None,
        mac: None,
        group: provisional_group(PREFIX),
        adopt: None,
    }
}

/// Returns the operation that creates a veth pair.
pub fn create_veth(a: (NetnsId, &str), b: (NetnsId, &str)) -> KernelOp {
    create_pair(new_link(a.0, a.1), new_link(b.0, b.1))
}

/// Returns the operation that creates a veth pair with these ends. The attribute number of the peer is VETH_INFO_PEER (1).
pub fn create_pair(a: NewLink, b: NewLink) -> KernelOp {
    KernelOp::CreateLink(Box::new(CreateLink {
        peer: Some(NewPeer { attribute: 1, end: b }),
        ..CreateLink::new(a, "veth")
    }))
}

/// Returns the operation that creates a link of this kind without a peer.
pub fn create_link(end: NewLink, kind: &'static str, data: &[(u16, &[u8])]) -> KernelOp {
    let mut create = CreateLink::new(end, kind);
    let attribute = |(number, value): &(u16, &[u8])| Attr {
        number: *number,
        name: "attribute",
        value: value.to_vec(),
        immutable: true,
    };
    create.info.data = data.iter().map(attribute).collect();
    KernelOp::CreateLink(Box::new(create))
}

/// Returns the operation that changes an owned link.
pub fn set_link(netns: NetnsId, name: &str, changes: LinkChanges) -> KernelOp {
    KernelOp::SetLink {
        netns,
        name: name.to_owned(),
        guard: owned(),
        changes: Box::new(changes),
    }
}

/// Returns the operation that deletes an owned link.
pub fn delete_link(netns: NetnsId, name: &str) -> KernelOp {
    KernelOp::DeleteLink {
        netns,
        name: name.to_owned(),
        guard: owned(),
    }
}

/// Parses an address with prefix length, such as `10.0.0.1/24`.
pub fn address(text: &str) -> AddressSpec {
    let (address, prefix_len) = text.split_once('/').expect("address/length");
    AddressSpec {
        address: ip_address(address),
        prefix_len: prefix_len.parse().expect("a length"),
    }
}

/// Parses an IP address.
pub fn ip_address(text: &str) -> IpAddr {
    text.parse().expect("an IP address")
}

/// Returns a route in the main table. Its scope is universe if the route has a gateway or is for IPv6, and link otherwise.
pub fn route(destination: &str, gateway: Option<&str>) -> RouteSpec {
    let AddressSpec {
        address: destination,
        prefix_len,
    } = address(destination);
    let scope = if gateway.is_some() || destination.is_ipv6() { 0 } else { 253 };
    RouteSpec {
        destination,
        prefix_len,
        gateway: gateway.map(ip_address),
        table: 254,
        scope,
        metric: 0,
    }
}

/// Runs a program that must succeed, and returns its output.
#[track_caller]
pub fn run(program: &str, arguments: &str) -> String {
    let output = Command::new(program)
        .args(arguments.split_whitespace())
        .output()
        .expect("start the program");
    assert!(
        output.status.success(),
        "{program} {arguments}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).expect("text")
}

/// Runs `ip -d -j` with these arguments, and returns its JSON output.
#[track_caller]
pub fn ip(arguments: &str) -> serde_json::Value {
    let text = run("ip", &format!("-d -j {arguments}"));
    if text.trim().is_empty() {
        serde_json::Value::Array(Vec::new())
    } else {
        serde_json::from_str(&text).expect("JSON")
    }
}

/// Returns the names of the links that `ip` shows in a named namespace, or in the current one.
pub fn link_names(namespace: Option<&str>) -> Vec<String> {
    let links = ip(&namespace.map_or("link show".to_owned(), |name| format!("-n {name} link show")));
    links
        .as_array()
        .expect("a list")
        .iter()
        .map(|link| link["ifname"].as_str().expect("a name").to_owned())
        .collect()
}

/// A child process that is killed on drop.
pub struct Process(pub Child);

impl Process {
    /// Starts a program.
    pub fn start(program: &str, arguments: &str) -> Self {
        let child = Command::new(program)
            .args(arguments.split_whitespace())
            .stdin(Stdio::null())
            .spawn()
            .expect("start the program");
        Self(child)
    }

    /// Starts `cat` in a new network namespace. Returns when `cat` has echoed its input, which shows that it is running there.
    pub fn in_new_namespace() -> Self {
        let mut child = Command::new("unshare")
            .args(["--net", "cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("start unshare (util-linux)");
        let (input, output) = (child.stdin.as_mut().expect("a pipe"), child.stdout.as_mut().expect("a pipe"));
        input.write_all(b"\n").expect("write to cat");
        output.read_exact(&mut [0]).expect("read the echo");
        Self(child)
    }

    /// Returns the PID.
    pub fn pid(&self) -> i32 {
        i32::try_from(self.0.id()).expect("a PID")
    }

    /// Kills the process. It stays a zombie until `self` is dropped.
    pub fn kill(&mut self) {
        self.0.kill().expect("kill the process");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Returns the path of a named namespace.
pub fn named(name: &str) -> PathBuf {
    PathBuf::from("/run/netns").join(name)
}
