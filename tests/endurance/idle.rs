//! Measures what an idle agent costs: CPU time, wake-ups, memory, and how much it slows down netlink writes by other programs.
//!
//! Times are printed and not asserted, because machines differ. The test asserts that an idle agent publishes nothing but its own
//! health. See [`run`].

use std::{
    collections::BTreeMap,
    fs::File,
    net::Ipv4Addr,
    path::Path,
    time::{Duration, Instant},
};

use nix::sched::CloneFlags;
use rtnetlink::packet_core::{NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REQUEST, NetlinkMessage};
use rtnetlink::packet_route::{
    AddressFamily, RouteNetlinkMessage,
    address::{AddressAttribute, AddressMessage},
};
use rtnetlink::sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

use crate::{
    figures::{Figures, effort},
    number,
    support::{
        bench::Bench,
        command::{self, ip},
        config::{Config, Interface, Reference},
        isolation, settle,
        status::Publication,
        store::{Change, StoreKind},
    },
};

/// A namespace that the agent does not use.
const BYSTANDER: &str = "/run/netns/bystander";
/// Number of addresses that one measurement adds and deletes.
const ADDRESSES: u16 = 1000;

#[test]
fn idle_agents_cost_little() {
    let limit = Duration::from_secs(600 + 2 * number("ENDURANCE_IDLE_SECONDS", 3));
    isolation::run(
        isolation::test_name(concat!(module_path!(), "::idle_agents_cost_little")),
        limit,
        run,
    );
}

/// Returns a configuration in which veth pairs connect namespaces in a ring.
fn ring(count: usize) -> Config {
    let end = |pair: usize, side: usize| {
        let netns = Reference::named(&format!("ring{}", (pair + side) % count));
        let names = [format!("r{pair}a"), format!("r{pair}b")];
        Interface::veth(&names[side], &names[1 - side], netns).address(&format!("10.{}.{}.{}/24", pair / 256, pair % 256, side + 1))
    };
    Config {
        interfaces: (0..count).flat_map(|pair| [end(pair, 0), end(pair, 1)]).collect(),
        ..Config::default()
    }
}

async fn run() {
    let seconds = number("ENDURANCE_IDLE_SECONDS", 3);
    let rounds = number("ENDURANCE_IDLE_ROUNDS", 3) as usize;
    let count = number("ENDURANCE_IDLE_NAMESPACES", 300) as usize;
    let mut bench = Bench::new(StoreKind::Etcd).await;
    bench.agent_log = "info".to_owned();
    ip("netns add bystander");
    command::ip_in(Path::new(BYSTANDER), "link set lo up");
    let config = ring(count);
    bench.start_agent().await;
    let mut changes: Vec<Change> = Vec::new();
    for (rest, value) in config.entries() {
        changes.push(Change::Put(bench.key(&rest), value.into_bytes()));
    }
    for part in changes.chunks(100) {
        bench.store.transact(part.to_vec()).await;
    }
    let keys: Vec<String> = config.entries().into_keys().collect();
    let all_configured = |since: i64| {
        let keys = keys.clone();
        move |publication: &Publication| keys.iter().all(|key| publication.is_configured_since(key, since))
    };
    bench.until("all values are CONFIGURED", all_configured(0)).await;
    let paths: Vec<_> = config.namespaces().iter().map(Reference::path).collect();
    settle::until_quiet(&paths).await;
    let is_reported = |config: &Config, published: &Publication| {
        config.interfaces.iter().all(|interface| {
            let key = format!("status/linux/interfaces/v2/interface/{}", interface.name);
            published
                .keys
                .get(&key)
                .is_some_and(|entry| entry.text.contains(r#""oper_status":"UP""#))
        })
    };
    bench
        .until("all links are reported as UP", |published| is_reported(&config, published))
        .await;

    println!("{count} namespaces, {} values", keys.len());
    rest(&mut bench, seconds).await;
    let (mut raw, mut batch) = ([Vec::new(), Vec::new()], [Vec::new(), Vec::new()]);
    for _ in 0..rounds {
        for runs in [true, false] {
            if !runs {
                bench.stop_agent().await;
            }
            raw[usize::from(runs)].push(netlink_writes());
            batch[usize::from(runs)].push(ip_batch());
            if !runs {
                let since = bench.start_agent().await;
                bench.until("all values are CONFIGURED again", all_configured(since)).await;
            }
        }
    }
    for (what, times) in [("raw netlink", &mut raw), ("ip -batch", &mut batch)] {
        let [without, with] = times.each_mut().map(|times| {
            times.sort_by(f64::total_cmp);
            times[times.len() / 2]
        });
        println!(
            "an address added or deleted in a foreign namespace, {what}, median of {rounds} interleaved runs: \
             {with:.2} µs with the agent, {without:.2} µs without: {:.2} ×",
            with / without
        );
    }
    bench.stop_agent().await;
}

/// Leaves the agent idle for this many seconds, and prints the resources that it used in that time.
async fn rest(bench: &mut Bench, seconds: u64) {
    let pid = bench.agent().pid();
    let before_idle = statuses(bench);
    println!("converged; {}", Figures::of(pid));
    let (before, began) = (effort(pid), Instant::now());
    // Sleep, because the length of the idle time is part of the measurement.
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    let (after, elapsed) = (effort(pid), began.elapsed().as_secs_f64());
    println!(
        "idle for {elapsed:.1} s: {} ms of processor time ({:.3} %), {:.1} voluntary and {:.1} involuntary context switches a second; {}",
        (after.0 - before.0) * 10,
        (after.0 - before.0) as f64 / elapsed,
        (after.1 - before.1) as f64 / elapsed,
        (after.2 - before.2) as f64 / elapsed,
        Figures::of(pid)
    );
    let after_idle = statuses(bench);
    let news: Vec<_> = after_idle
        .iter()
        .filter(|(key, published)| before_idle.get(*key) != Some(published))
        .collect();
    let before: Vec<_> = news.iter().map(|(key, _)| before_idle.get(*key)).collect();
    assert!(
        news.is_empty(),
        "an idle agent published: {news:#?}
before: {before:#?}"
    );
}

/// Returns everything published except for the agent's health, which is written regularly.
fn statuses(bench: &Bench) -> BTreeMap<String, String> {
    let published = bench.published();
    let about_values = published.keys.iter().filter(|(key, _)| !key.starts_with("check/"));
    about_values
        .map(|(key, entry)| (key.clone(), format!("revision {}: {}", entry.revision, entry.text)))
        .collect()
}

fn addresses() -> impl Iterator<Item = Ipv4Addr> {
    (0..ADDRESSES).map(|number| Ipv4Addr::new(10, 77, (number >> 8) as u8, (number & 0xff) as u8))
}

/// Adds and deletes all addresses with one netlink request each. Returns the time per request in µs.
///
/// The requests are built before the clock starts.
fn netlink_writes() -> f64 {
    let netns = File::open(BYSTANDER).expect("open the namespace");
    let requests: Vec<Vec<u8>> = [true, false]
        .iter()
        .flat_map(|add| addresses().map(|address| request(address, *add)))
        .collect();
    let writer = std::thread::spawn(move || {
        nix::sched::setns(&netns, CloneFlags::CLONE_NEWNET).expect("enter the namespace");
        let mut socket = Socket::new(NETLINK_ROUTE).expect("open a netlink socket");
        socket.bind(&SocketAddr::new(0, 0)).expect("bind the socket");
        let mut answer = Vec::with_capacity(4096);
        let began = Instant::now();
        for request in &requests {
            socket.send(request, 0).expect("send the request");
            answer.clear();
            socket.recv(&mut answer, 0).expect("receive the answer");
            // The error code follows the 16-byte header; 0 means success.
            assert_eq!(answer.get(16..20), Some(&[0; 4][..]), "the kernel refused {request:?}");
        }
        began.elapsed().as_secs_f64() * 1e6 / requests.len() as f64
    });
    writer.join().expect("join the writing thread")
}

/// Returns the request to add or delete an address of `lo`.
fn request(address: Ipv4Addr, add: bool) -> Vec<u8> {
    let mut message = AddressMessage::default();
    message.header.family = AddressFamily::Inet;
    message.header.prefix_len = 32;
    message.header.index = 1;
    message.attributes = vec![AddressAttribute::Local(address.into()), AddressAttribute::Address(address.into())];
    let (message, flags) = match add {
        true => (RouteNetlinkMessage::NewAddress(message), NLM_F_CREATE | NLM_F_EXCL),
        false => (RouteNetlinkMessage::DelAddress(message), 0),
    };
    let mut message = NetlinkMessage::from(message);
    message.header.flags = NLM_F_REQUEST | NLM_F_ACK | flags;
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    bytes
}

/// Adds and deletes the same addresses as [`netlink_writes`], but with a single `ip` process. Returns the time per request in µs.
fn ip_batch() -> f64 {
    let line = |verb: &str| {
        addresses()
            .map(move |address| format!("address {verb} {address}/32 dev lo\n"))
            .collect::<String>()
    };
    let file = "/run/live/bystander.batch";
    std::fs::write(file, line("add") + &line("del")).expect("write the file for ip -batch");
    let began = Instant::now();
    command::run("nsenter", &[&format!("--net={BYSTANDER}"), "ip", "-batch", file]);
    began.elapsed().as_secs_f64() * 1e6 / f64::from(2 * ADDRESSES)
}
