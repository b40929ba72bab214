//! Checks the kernel independently of the agent: reads both namespaces, deletes a link, and sends pings.

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

/// Timeout for the expected objects to appear in the kernel.
const TIME_LIMIT: Duration = Duration::from_secs(10);
/// Timeout for a ping reply.
const PING_TIME_LIMIT: Duration = Duration::from_secs(1);
/// Pause between pings.
const PING_INTERVAL: Duration = Duration::from_millis(5);
/// Value of `operstate` for an operational link (IF_OPER_UP: RFC 2863, linux/if.h).
const OPER_UP: u8 = 6;

/// Reads and changes the two namespaces of the demo independently of the agent.
pub struct Checker {
    executor: Executor,
    events: UnboundedReceiver<NetnsId>,
    namespaces: [(NamespaceRef, NetnsId); 2],
}

/// Contents of both namespaces of the demo, as sorted lines of text.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Network {
    /// One line per link, address, route and neighbour, with its settings.
    pub objects: Vec<String>,
    /// One line per link, with its index and MAC address. Both change when a link is re-created.
    pub links: Vec<String>,
}

impl Checker {
    /// Opens the two namespaces, which must exist.
    pub async fn open() -> anyhow::Result<Self> {
        let (sender, events) = unbounded_channel();
        let executor = Executor::start(ExecutorConfig::new(sender)).context("cannot start the executor that reads the namespaces")?;
        let process = i32::try_from(WORKLOAD_PID).context("the PID is too large")?;
        let mut namespaces = Vec::new();
        for reference in [NamespaceRef::Named(NAMESPACE.to_owned()), NamespaceRef::Process(process)] {
            let open = KernelOp::OpenNamespace {
                reference: reference.clone(),
                mark: None,
            };
            match perform(&executor, open).await? {
                Reply::Opened { netns, .. } => namespaces.push((reference, netns)),
                other => bail!("expected an open namespace, observed: {other:?}"),
            }
        }
        let namespaces = namespaces.try_into().map_err(|_| anyhow!("expected two namespaces"))?;
        Ok(Checker {
            executor,
            events,
            namespaces,
        })
    }

    /// Reads the current network from both namespaces.
    pub async fn network(&self) -> anyhow::Result<Network> {
        let mut network = Network {
            objects: Vec::new(),
            links: Vec::new(),
        };
        for (place, (_, netns)) in ["web", "db"].into_iter().zip(&self.namespaces) {
            match perform(&self.executor, KernelOp::DumpNamespace { netns: *netns }).await? {
                Reply::Contents(snapshot) => network.add(place, &snapshot),
                other => bail!("expected the contents of a namespace, observed: {other:?}"),
            }
        }
        network.objects.sort();
        network.links.sort();
        Ok(network)
    }

    /// Waits for kernel events until the network satisfies `condition`.
    pub async fn until(&mut self, expected: &str, condition: impl Fn(&Network) -> bool) -> anyhow::Result<Network> {
        let deadline = Instant::now() + TIME_LIMIT;
        loop {
            // Rearm the notifications before reading, so that no change is missed.
            self.namespaces.iter().for_each(|(_, netns)| self.executor.rearm(*netns));
            let network = self.network().await?;
            if condition(&network) {
                return Ok(network);
            }
            if timeout_at(deadline, self.events.recv()).await.is_err() {
                bail!(
                    "expected within {} s: {expected}\nobserved in the kernel:\n  {}",
                    TIME_LIMIT.as_secs(),
                    network.objects.join("\n  ")
                );
            }
        }
    }

    /// Deletes a link without involving the agent, like `ip -n web link del eth0`.
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
        .context("the kernel executor returned no result")?;
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
        // Skip IPv6 addresses, because the kernel adds link-local addresses by itself.
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

/// Sends one ICMP echo request from `web` to [`FAR_ADDRESS`], and returns the round-trip time.
pub fn ping() -> anyhow::Result<Duration> {
    let requested = Echo::open(Path::new(NAMESPACE_FILE), FAR_ADDRESS).and_then(|mut echo| echo.ask(PING_TIME_LIMIT));
    requested.with_context(|| format!("expected: a reply to a ping of {FAR_ADDRESS} from namespace {NAMESPACE}; observed: none"))
}

/// Background thread that sends pings until it is stopped.
pub struct Pings {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<(u32, u32)>,
}

impl Pings {
    /// Starts a thread that pings [`FAR_ADDRESS`] until it is stopped.
    pub fn start() -> anyhow::Result<Self> {
        let mut echo = Echo::open(Path::new(NAMESPACE_FILE), FAR_ADDRESS).context("cannot ping")?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::Builder::new().name("pings".to_owned()).spawn(move || {
            let (mut sent, mut lost) = (0, 0);
            while !stopped.load(Ordering::Relaxed) {
                sent += 1;
                lost += u32::from(echo.ask(PING_TIME_LIMIT).is_err());
                thread::sleep(PING_INTERVAL);
            }
            (sent, lost)
        });
        Ok(Pings {
            stop,
            thread: thread.context("cannot start a thread for pings")?,
        })
    }

    /// Stops the pings. Returns the number of pings sent and the number of pings that received no reply.
    pub fn stop(self) -> anyhow::Result<(u32, u32)> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow!("the ping thread panicked"))
    }
}
