//! The kernel as somebody else sees it: what is really there, whoever says what.
//!
//! Owns a view of the two namespaces that does not depend on the agent, the damage that is done by hand, and the pings. Must never
//! repair anything. Start reading at [`Witness::network`].

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context, anyhow, bail};
use tokio::{
    sync::mpsc::{UnboundedReceiver, unbounded_channel},
    time::{Instant, timeout_at},
};

use netns_kernel::{Executor, ExecutorConfig, Guard, KernelOp, NamespaceRef, NetnsId, Reply, Snapshot, Task, sandbox::Echo};

use super::topology::{FAR_ADDRESS, LINK, NAMESPACE, NAMESPACE_FILE, WORKLOAD_PID};

/// How long the kernel may take to look as expected.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a reply to a ping may take.
const PING_PATIENCE: Duration = Duration::from_secs(1);
/// Pause between pings that go on.
const PING_INTERVAL: Duration = Duration::from_millis(5);
/// `operstate` of a link that carries packets (RFC 2863, linux/if.h).
const OPER_UP: u8 = 6;

/// See the [module documentation](self).
pub struct Witness {
    executor: Executor,
    events: UnboundedReceiver<NetnsId>,
    namespaces: [(NamespaceRef, NetnsId); 2],
}

/// What makes up the network of the demo, one line for each object, sorted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Network {
    /// What is asked for: links, addresses, routes, neighbours.
    pub objects: Vec<String>,
    /// What tells these very links from others made in their place.
    pub links: Vec<String>,
}

impl Witness {
    /// Looks into the two namespaces, which must exist.
    pub async fn open() -> anyhow::Result<Self> {
        let (sender, events) = unbounded_channel();
        let executor = Executor::start(ExecutorConfig::new(sender)).context("cannot look into the namespaces")?;
        let process = i32::try_from(WORKLOAD_PID).context("a PID")?;
        let mut namespaces = Vec::new();
        for reference in [NamespaceRef::Named(NAMESPACE.to_owned()), NamespaceRef::Process(process)] {
            let open = KernelOp::OpenNamespace {
                reference: reference.clone(),
                mark: None,
            };
            match perform(&executor, open).await? {
                Reply::Opened { netns, .. } => namespaces.push((reference, netns)),
                other => bail!("expected an open namespace, seen: {other:?}"),
            }
        }
        let namespaces = namespaces.try_into().map_err(|_| anyhow!("two namespaces were expected"))?;
        Ok(Witness {
            executor,
            events,
            namespaces,
        })
    }

    /// What is there now.
    pub async fn network(&self) -> anyhow::Result<Network> {
        let mut network = Network {
            objects: Vec::new(),
            links: Vec::new(),
        };
        for (place, (_, netns)) in ["web", "db"].into_iter().zip(&self.namespaces) {
            match perform(&self.executor, KernelOp::DumpNamespace { netns: *netns }).await? {
                Reply::Contents(snapshot) => network.add(place, &snapshot),
                other => bail!("expected the contents of a namespace, seen: {other:?}"),
            }
        }
        network.objects.sort();
        network.links.sort();
        Ok(network)
    }

    /// Waits for kernel events until the network satisfies `condition`.
    pub async fn until(&mut self, expected: &str, condition: impl Fn(&Network) -> bool) -> anyhow::Result<Network> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            // Armed before the look, so that nothing falls between.
            self.namespaces.iter().for_each(|(_, netns)| self.executor.rearm(*netns));
            let network = self.network().await?;
            if condition(&network) {
                return Ok(network);
            }
            if timeout_at(deadline, self.events.recv()).await.is_err() {
                bail!(
                    "expected within {} s: {expected}\nseen in the kernel:\n  {}",
                    PATIENCE.as_secs(),
                    network.objects.join("\n  ")
                );
            }
        }
    }

    /// `ip -n web link del eth0`, by somebody who owes the agent no explanation.
    pub async fn delete_link(&self) -> anyhow::Result<()> {
        let netns = self.namespaces[0].1;
        let delete = KernelOp::DeleteLink {
            netns,
            name: LINK.to_owned(),
            guard: Guard::Any,
        };
        perform(&self.executor, delete).await.map(drop)
    }
}

async fn perform(executor: &Executor, op: KernelOp) -> anyhow::Result<Reply> {
    let task = Task {
        id: 0,
        key: "demo".to_owned(),
        ops: vec![op],
    };
    let outcome = executor
        .perform(vec![task])
        .await
        .pop()
        .context("the kernel executor gave no answer")?;
    Ok(outcome.result?)
}

impl Network {
    fn add(&mut self, place: &str, snapshot: &Snapshot) {
        let name = |index: u32| {
            snapshot
                .links
                .iter()
                .find(|link| link.index == index)
                .map_or("?", |link| link.name.as_str())
        };
        for link in snapshot.links.iter().filter(|link| link.name == LINK) {
            let state = if link.up && link.oper_state == OPER_UP { "up" } else { "down" };
            self.objects
                .push(format!("{place}: link {} {state} mtu {} {}", link.name, link.mtu, link.alias));
            self.links
                .push(format!("{place}: link {} index {} mac {:02x?}", link.name, link.index, link.mac));
        }
        // IPv6 link-local addresses are the kernel's own doing.
        for address in snapshot.addresses.iter().filter(|address| address.address.address.is_ipv4()) {
            let spec = address.address;
            self.objects.push(format!(
                "{place}: address {}/{} on {}",
                spec.address,
                spec.prefix_len,
                name(address.link)
            ));
        }
        for route in &snapshot.routes {
            self.objects
                .push(format!("{place}: route {:?} on {}", route.route, name(route.link)));
        }
        for neighbour in &snapshot.neighbours {
            self.objects.push(format!(
                "{place}: neighbour {} {:02x?} on {}",
                neighbour.address,
                neighbour.mac,
                name(neighbour.link)
            ));
        }
    }
}

/// One ICMP echo from `web` to the far address; answers how long it took.
pub fn ping() -> anyhow::Result<Duration> {
    let asked = Echo::open(Path::new(NAMESPACE_FILE), FAR_ADDRESS).and_then(|mut echo| echo.ask(PING_PATIENCE));
    asked.with_context(|| format!("expected: a reply to a ping of {FAR_ADDRESS} from namespace {NAMESPACE}; seen: none"))
}

/// Pings that go on while something else happens.
pub struct Pings {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<(u32, u32)>,
}

impl Pings {
    /// Starts to ping.
    pub fn start() -> anyhow::Result<Self> {
        let mut echo = Echo::open(Path::new(NAMESPACE_FILE), FAR_ADDRESS).context("cannot ping")?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::Builder::new().name("pings".to_owned()).spawn(move || {
            let (mut sent, mut lost) = (0, 0);
            while !stopped.load(Ordering::Relaxed) {
                sent += 1;
                lost += u32::from(echo.ask(PING_PATIENCE).is_err());
                thread::sleep(PING_INTERVAL);
            }
            (sent, lost)
        });
        Ok(Pings {
            stop,
            thread: thread.context("cannot start a thread for pings")?,
        })
    }

    /// Stops, and answers how many were sent and how many of them had no reply.
    pub fn stop(self) -> anyhow::Result<(u32, u32)> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow!("the thread of the pings ended"))
    }
}
