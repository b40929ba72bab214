//! Measures how long it takes to read and inspect an interface with a very large number of routes.
//!
//! ```text
//! cargo bench --bench layer3                  # 20,000 routes
//! cargo bench --bench layer3 -- --routes 8000
//! ```
//!
//! Prints how long the kernel takes to list the routes, and how long the agent takes to compare them with the applied state. For
//! 20,000 routes, the sum of both times must stay below 100 ms, because the agent does nothing else in the meantime.
//!
//! The first line of the output shows both times for a namespace with 20 links. The namespace is read and inspected 100 times, because the W1
//! benchmark has 100 namespaces of about this size. The second line shows how long the executor was busy adding the routes. During that time, the
//! agent applies no other values. Needs root.

#[path = "../../tests/support/mod.rs"]
mod support;

use std::{
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use models::{Model, key::Key};
use netns_agent::descriptors::{
    Network,
    convert::value_of,
    inspect::{Background, KnownLinks, inspect},
    value::{Namespace, NamespaceName, Value},
};
use netns_agent::scheduler::{Change, Outcome, Scheduler};
use netns_kernel::{Executor, ExecutorConfig, KernelOp, NamespaceRef, NetnsId, Outcome as KernelOutcome, Reply, Snapshot, Task};

/// Time limit for the whole run.
const LIMIT: Duration = Duration::from_secs(600);
/// Maximum time for reading and inspecting [`ROUTES`] routes.
const TARGET: Duration = Duration::from_millis(100);
/// Default number of routes on one interface.
const ROUTES: u32 = 20_000;
/// Number of rounds. The benchmark prints the median of all rounds.
const ROUNDS: usize = 11;

fn main() {
    support::isolation::run_program("layer3", LIMIT, run);
}

/// Measured components of the agent: the scheduler, which contains the applied state, and the executor.
struct Parts {
    network: Network,
    scheduler: Scheduler<Network>,
    executor: Executor,
    next_task: u64,
}

impl Parts {
    fn new() -> Self {
        let (events, _) = tokio::sync::mpsc::unbounded_channel();
        let network = Network::new("bench");
        Parts {
            scheduler: Scheduler::new(network.clone()),
            network,
            executor: Executor::start(ExecutorConfig::new(events)).expect("start the executor"),
            next_task: 0,
        }
    }

    async fn perform(&mut self, lists: Vec<Vec<KernelOp>>) -> Vec<KernelOutcome> {
        let first = self.next_task;
        self.next_task += lists.len() as u64;
        let task = |(id, ops)| Task {
            id,
            key: "bench".to_owned(),
            ops,
        };
        self.executor.perform((first..).zip(lists).map(task).collect()).await
    }

    async fn read(&mut self, netns: NetnsId) -> Snapshot {
        let outcome = self.perform(vec![vec![KernelOp::DumpNamespace { netns }]]).await.remove(0);
        match outcome.result {
            Ok(Reply::Contents(contents)) => *contents,
            other => panic!("expected a snapshot, got {other:?}"),
        }
    }

    async fn own_namespace(&mut self) -> NetnsId {
        let open = KernelOp::OpenNamespace {
            reference: NamespaceRef::Own,
            mark: None,
        };
        let netns = match self.perform(vec![vec![open]]).await.remove(0).result {
            Ok(Reply::Opened { netns, .. }) => netns,
            other => panic!("expected an opened namespace, got {other:?}"),
        };
        let own = Value::AppliedNamespace(Namespace::own(netns));
        self.scheduler.fact(&NamespaceName::Own.key(), Some(own));
        self.scheduler.complete_facts();
        netns
    }

    /// Applies the values and returns how long the executor was busy.
    async fn apply(&mut self, values: Vec<(String, String)>) -> Duration {
        let change = |(key, json): (String, String)| {
            let model = Model::decode(&key, json.as_bytes()).expect("decode the value");
            Change {
                key: Key::new(&key),
                revision: 1,
                value: Some(value_of(&model)),
            }
        };
        self.scheduler.transaction(values.into_iter().map(change).collect(), false);
        let mut busy = Duration::ZERO;
        loop {
            let operations = self.scheduler.step(Duration::from_secs(1));
            if operations.is_empty() {
                return busy;
            }
            let ids: Vec<u64> = operations.iter().map(|operation| operation.id).collect();
            let began = Instant::now();
            let outcomes = self
                .perform(operations.into_iter().map(|operation| operation.steps).collect())
                .await;
            busy += began.elapsed();
            for (id, outcome) in ids.into_iter().zip(outcomes) {
                outcome.result.unwrap_or_else(|failure| panic!("{failure}"));
                self.scheduler.outcome(id, Outcome::Done);
            }
        }
    }
}

fn interface(name: &str, peer: &str, address: &str) -> (String, String) {
    let key = format!("config/linux/interfaces/v2/interface/{name}");
    let json =
        format!(r#"{{"name":"{name}","type":"VETH","enabled":true,"veth":{{"peer_if_name":"{peer}"}},"ip_addresses":["{address}"]}}"#);
    (key, json)
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

async fn run() {
    let mut words = std::env::args().skip(1).skip_while(|word| word != "--routes").skip(1);
    let routes = words.next().map_or(ROUTES, |text| text.parse().expect("--routes takes a number"));
    let mut parts = Parts::new();
    let netns = parts.own_namespace().await;
    let mut pairs = Vec::new();
    for number in 0..10 {
        let (left, right) = (format!("l{number}"), format!("r{number}"));
        pairs.push(interface(&left, &right, &format!("10.{number}.0.1/24")));
        pairs.push(interface(&right, &left, &format!("10.{number}.1.1/24")));
    }
    parts.apply(pairs).await;
    let took = measure(&mut parts, netns, 100).await;
    println!(
        "10 pairs, 100 times:              read {:>9.3?}  inspected {:>9.3?}",
        took.0, took.1
    );

    let mut values = Vec::new();
    for number in 0..routes {
        let to = Ipv4Addr::from_bits(0x1400_0000 + (number << 8));
        values.push((
            format!("config/linux/l3/v2/route/{to}/24/l0"),
            format!(r#"{{"outgoing_interface":"l0","scope":"GLOBAL","dst_network":"{to}/24","gw_addr":"10.0.0.2"}}"#),
        ));
    }
    let began = Instant::now();
    let busy = parts.apply(values).await;
    println!(
        "{routes} routes added:                {:>9.3?}  of which the executor was busy {busy:.3?}",
        began.elapsed()
    );
    let took = measure(&mut parts, netns, 1).await;
    let sum = took.0 + took.1;
    println!(
        "{routes} routes:                      read {:>9.3?}  inspected {:>9.3?}  together {sum:.3?}",
        took.0, took.1
    );
    if routes <= ROUTES {
        assert!(sum < TARGET, "{sum:?} is more than {TARGET:?}");
    }
}

/// Reads the namespace `times` times and then inspects it `times` times in each round. Returns the median reading time and the median inspection time
/// of all rounds.
async fn measure(parts: &mut Parts, netns: NetnsId, times: usize) -> (Duration, Duration) {
    let (mut read, mut inspected) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let began = Instant::now();
        let mut snapshot = Snapshot::default();
        for _ in 0..times {
            snapshot = parts.read(netns).await;
        }
        read.push(began.elapsed());
        let began = Instant::now();
        for _ in 0..times {
            let background = Background {
                known: &KnownLinks::default(),
                strict: false,
                holding: false,
            };
            let findings = inspect(
                &parts.scheduler.view(),
                parts.network.marks(),
                &NamespaceName::Own,
                netns,
                &snapshot,
                &background,
            );
            assert!(findings.lost.is_empty() && findings.found.is_empty(), "{findings:?}");
        }
        inspected.push(began.elapsed());
    }
    (median(read), median(inspected))
}
