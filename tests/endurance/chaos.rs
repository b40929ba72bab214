//! Causes random faults for a long time. After each round of faults, everything must reach the desired state.
//!
//! Runs the faults and the checkpoints, and reports what is wrong. One seed determines all random choices, but the timing differs
//! between runs, so a seed does not always reproduce a failure. A run stops at the first failed checkpoint. See [`run`].

mod changes;
mod expectation;
mod faults;
mod places;
mod tampering;
mod values;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    time::Duration,
};

use testbed::random::Random;
use tokio::time::Instant;

use crate::{
    figures::{Figures, stretch},
    number,
    support::{
        agent,
        bench::Bench,
        command::{self, ip},
        config::{Config, Interface, Reference},
        docker::{Daemon, Survival},
        foreign::found_namespaces,
        isolation, ping,
        process::tail,
        store::Store,
    },
};
use expectation::{Expectation, foreign_processes_unchanged};
use places::{Count, Kind, Places};
use values::Catalogue;

/// Time limit for a checkpoint, measured from the last fault. It is extended on a loaded machine.
const LIMIT: Duration = Duration::from_secs(10);
/// Maximum number of namespaces that the agent watches. The agent reads further namespaces only every ten seconds, so the time
/// limit is doubled if there are any.
const WATCHED: usize = 300;
/// Maximum pause between two faults, in milliseconds.
const PAUSE_MS: usize = 300;
/// Number of file descriptors by which the agent may exceed its count at the first checkpoint. Connections come and go, so the
/// count varies.
const DESCRIPTOR_SLACK: usize = 24;
/// Maximum number of threads. The agent usually has a dozen, but starts up to 64 more for some seconds when it opens many
/// namespace files.
const THREADS_MAX: usize = 96;

/// Maximum number of report lines to print. The saved report has all lines.
const SHOWN_MAX: usize = 60;

/// State of a run.
struct Chaos {
    bench: Bench,
    random: Random,
    places: Places,
    catalogue: Catalogue,
    /// A veth pair that no fault affects, and the store revision at which it was put.
    steady: (Config, i64),
    foreign_processes: Vec<String>,
    kernel_has_dummies: bool,
    /// Time at which to start the agent again, or `None` while it is running.
    agent_returns: Option<Instant>,
    agent_thaws: Option<Instant>,
    etcd_returns: Option<Instant>,
    docker_returns: Option<Instant>,
    /// IDs of paused containers.
    paused: BTreeSet<String>,
    counts: BTreeMap<&'static str, usize>,
    began: Instant,
    /// Faults since the last checkpoint.
    done: Vec<String>,
}

/// Returns the veth pair that no fault affects.
fn steady_pair() -> Config {
    let end = |name: &str, peer: &str, host: usize| {
        Interface::veth(name, peer, Reference::named(name))
            .host_name("eth0")
            .address(&format!("10.250.250.{host}/24"))
    };
    Config {
        interfaces: vec![end("steady-a", "steady-b", 1), end("steady-b", "steady-a", 2)],
        ..Config::default()
    }
}

#[test]
fn chaos_leaves_everything_in_the_desired_state() {
    let limit = Duration::from_secs(2 * number("ENDURANCE_SECONDS", 15) + 900);
    isolation::run(
        isolation::test_name(concat!(module_path!(), "::chaos_leaves_everything_in_the_desired_state")),
        limit,
        run,
    );
}

/// Causes faults and checks the state after each round of faults, until the configured time has passed.
async fn run() {
    let random = Random::from_environment(1);
    let duration = Duration::from_secs(number("ENDURANCE_SECONDS", 15));
    let count = Count {
        namespaces: number("ENDURANCE_NAMESPACES", 16) as usize,
        containers: number("ENDURANCE_CONTAINERS", 3) as usize,
    };
    let interval = Duration::from_secs(number("ENDURANCE_CHECKPOINT_SECONDS", 6));
    // Prevent the reuse of PIDs. Otherwise, a reference to a process that ended before the agent saw it would refer to the next
    // process with the same PID.
    let _ = std::fs::write("/proc/sys/kernel/pid_max", "4194304");
    let mut chaos = Chaos::set_up(random, count).await;
    let first = chaos.checkpoint("at the beginning", None).await;
    let stream = ping::Stream::start_every("0.1", Path::new("/run/netns/steady-a"), "10.250.250.2", "steady");
    let foreign_processes = foreign_processes_unchanged(&chaos.foreign_processes);
    let (began, mut rounds) = (Instant::now(), 0);
    while began.elapsed() < duration {
        // In every second round, and in the last third of the run, leave the agent alive, so that any leaks accumulate.
        let spared = rounds % 2 == 1 || began.elapsed() > duration * 2 / 3;
        let until = Instant::now() + interval;
        while Instant::now() < until {
            chaos.fault(!spared).await;
            // Sleep, because the pause between two faults is one of the random choices.
            let pause = chaos.random.below(4) * chaos.random.below(PAUSE_MS) / 3;
            tokio::time::sleep(Duration::from_millis(pause as u64)).await;
            chaos.start_what_is_due(false).await;
        }
        rounds += 1;
        chaos.start_what_is_due(true).await;
        chaos.checkpoint(&format!("checkpoint {rounds}"), Some(&first)).await;
        assert_eq!(
            foreign_processes,
            foreign_processes_unchanged(&chaos.foreign_processes),
            "the foreign namespaces must not have changed"
        );
        println!(
            "    ping between untouched namespaces: {} answers, none lost",
            stream.answers_without_loss()
        );
    }
    assert!(rounds > 0 && !chaos.counts.is_empty(), "at least one round of faults must have run");
    let answers = stream.finish_without_loss().await;
    println!(
        "{} of faults, {rounds} checkpoints, {answers} pings answered and none lost; faults by kind:",
        seconds(began.elapsed())
    );
    for (name, count) in &chaos.counts {
        println!("    {count:6}  {name}");
    }
    chaos.finish(&foreign_processes).await;
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

impl Chaos {
    async fn set_up(mut random: Random, count: Count) -> Self {
        let began = Instant::now();
        let store = Store::start_etcd(&["--auto-compaction-mode=revision", "--auto-compaction-retention=2000"]).await;
        let mut bench = Bench::with_store(store);
        bench.agent_log = std::env::var("ENDURANCE_AGENT_LOG").unwrap_or_else(|_| "debug".to_owned());
        let mut docker = Daemon::prepare(Survival::TakenOver).expect("prepare dockerd's directory");
        docker.launch().expect("start dockerd");
        docker.import_image().expect("import the image");
        bench.docker_host = docker.host();
        let foreign_processes = found_namespaces("stranger", &bench.label).await;
        let places = Places::make(count, docker).expect("create the places");
        let catalogue = Catalogue::make(&mut random, &places);
        let kernel_has_dummies = command::output("ip", &["link", "add", "probe", "type", "dummy"]).status.success();
        if kernel_has_dummies {
            ip("link del probe");
        }
        let steady = steady_pair();
        bench.start_agent().await;
        let revisions = bench.put_together(&steady).await;
        let steady = (steady, revisions.into_values().max().unwrap_or(0));
        let mut chaos = Self {
            bench,
            random,
            places,
            catalogue,
            steady,
            foreign_processes,
            kernel_has_dummies,
            agent_returns: None,
            agent_thaws: None,
            etcd_returns: None,
            docker_returns: None,
            paused: BTreeSet::new(),
            counts: BTreeMap::new(),
            began,
            done: Vec::new(),
        };
        let slots = chaos.catalogue.slots.clone();
        let drawn = slots
            .iter()
            .map(|slot| (*slot, Some(slot.draw(&mut chaos.random, &chaos.places, true))));
        let drawn = drawn.collect();
        chaos.write(drawn).await;
        println!(
            "{} namespaces, {} containers, {} values (links of kind dummy: {}); set up in {}",
            count.namespaces,
            count.containers,
            slots.len(),
            if kernel_has_dummies { "yes" } else { "this kernel has none" },
            seconds(began.elapsed())
        );
        chaos
    }

    /// Records a fault for the report.
    fn tell(&mut self, what: String) {
        self.done.push(format!("{:9.3} {what}", self.began.elapsed().as_secs_f64()));
    }

    /// Restarts or resumes each stopped process whose pause is over. If `all` is true, ends all pauses now.
    async fn start_what_is_due(&mut self, all: bool) {
        let now = Instant::now();
        let due = |at: &mut Option<Instant>| at.take_if(|at| all || *at <= now).is_some();
        if due(&mut self.etcd_returns) {
            self.bench.store.etcd().restart().await;
            self.tell("etcd answers again".to_owned());
        }
        if due(&mut self.docker_returns) {
            self.places.docker.launch().unwrap_or_else(|error| panic!("{error}"));
            self.places.docker_runs = true;
            self.places.look_at_containers();
            self.tell("dockerd answers again".to_owned());
        }
        if due(&mut self.agent_thaws) {
            self.bench.agent().thaw();
            self.tell("agent resumed".to_owned());
        }
        if due(&mut self.agent_returns) {
            self.bench.launch_agent_now();
            self.tell("agent started again".to_owned());
        }
    }

    /// Waits until everything is in the desired state, and panics after a time limit. Also checks that the agent's use of
    /// resources has not grown too much since `before`.
    async fn checkpoint(&mut self, name: &str, before: Option<&Figures>) -> Figures {
        let began = Instant::now();
        self.places.look_at_containers();
        let managed = self.places.all.len() + self.steady.0.interfaces.len();
        let limit = if managed > WATCHED { LIMIT * 2 } else { LIMIT };
        let mut right: BTreeSet<u64> = BTreeSet::new();
        let expectation = loop {
            // The agent may still be creating and removing namespaces, so compute the expectation again in each iteration.
            let expectation = self.expectation();
            // Read the clock before the checks, so that the time spent on checking is not counted.
            let stretched = limit.mul_f64(stretch());
            let in_time = began.elapsed() < stretched;
            let statuses = expectation.wrong_statuses(&self.bench.published());
            let names = expectation.wrong_names();
            let left: Vec<u64> = expectation.namespaces().filter(|inode| !right.contains(inode)).collect();
            let are_reported = statuses.is_empty() && names.is_empty();
            let contents = if are_reported || !in_time {
                expectation.wrong_contents(&left)
            } else {
                BTreeMap::new()
            };
            if are_reported && contents.is_empty() {
                if right.is_empty() {
                    break expectation;
                }
                // Check all namespaces once more, because those that were correct in an earlier iteration may have changed since.
                right.clear();
                continue;
            }
            if !in_time {
                let statuses = statuses.iter().map(|(key, wrong)| format!("{key}: {wrong}"));
                let wrong: Vec<String> = statuses.chain(names).chain(contents.into_values()).collect();
                self.fail(name, stretched, &wrong);
            }
            if are_reported {
                right.extend(left.iter().filter(|inode| !contents.contains_key(inode)));
            }
            // The kernel sends no event when everything is in the desired state, so poll. Pause between checks, because each
            // check starts one process per namespace.
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        let figures = Figures::of(self.bench.agent().pid());
        let (values, configured) = expectation.counts();
        println!(
            "{:8.1} s: {name}: {} things done; {configured} of {values} values CONFIGURED and all else right after {} (limit {} × {:.1} for the load)\n    {figures}",
            self.began.elapsed().as_secs_f64(),
            self.done.len(),
            seconds(began.elapsed()),
            seconds(limit),
            stretch(),
        );
        if let Some(before) = before {
            self.judge_figures(name, before, &figures);
        }
        self.done.clear();
        // Truncate the log, because only the log of a failed round is needed.
        let _ = std::fs::File::options().write(true).open(agent::LOG).and_then(|log| log.set_len(0));
        figures
    }

    fn expectation(&self) -> Expectation {
        Expectation::of(
            &self.catalogue,
            &self.places,
            &self.steady,
            &self.foreign_processes,
            &self.bench.label,
            self.kernel_has_dummies,
        )
    }

    /// Checks the resources that the agent uses. They depend on the number of managed namespaces, which hardly changes during a
    /// run.
    fn judge_figures(&self, name: &str, before: &Figures, now: &Figures) {
        let places = self.places.all.len();
        let fewer = |what: &str, now: usize, bound: usize| {
            if now > bound {
                self.fail(
                    name,
                    Duration::ZERO,
                    &[format!(
                        "the agent leaks {what}: {now}, at most {bound} expected; at the beginning: {before}"
                    )],
                );
            }
        };
        fewer("descriptors", now.descriptors, before.descriptors + DESCRIPTOR_SLACK);
        fewer("threads", now.threads as usize, THREADS_MAX);
        fewer("links in its own namespace", now.links, before.links + places);
        fewer("namespace numbers", now.nsids, 2 * places + 16);
        fewer(
            "memory (KiB)",
            now.resident_kib as usize,
            2 * before.resident_kib as usize + 64 * 1024,
        );
    }

    /// Reports what is wrong, and ends the run with a panic.
    fn fail(&self, name: &str, limit: Duration, wrong: &[String]) -> ! {
        let mut report = format!("{name}: {} things wrong after {}:\n", wrong.len(), seconds(limit));
        wrong.iter().for_each(|line| report.push_str(&format!("  {}\n", line.trim_end())));
        let mut shown: String = report.split_inclusive('\n').take(SHOWN_MAX).collect();
        let done: String = self.done.iter().map(|line| format!("  {line}\n")).collect();
        for text in [&mut report, &mut shown] {
            text.push_str(&format!("done since the last checkpoint:\n{done}"));
        }
        let kept = match std::env::var("ENDURANCE_KEEP") {
            Ok(folder) => {
                let kept = std::fs::create_dir_all(&folder)
                    .and_then(|()| std::fs::write(format!("{folder}/report"), &report))
                    .and_then(|()| std::fs::write(format!("{folder}/published"), self.bench.published().describe()))
                    .and_then(|()| std::fs::copy(agent::LOG, format!("{folder}/agent.log")));
                format!("report, published values and log of the agent: {folder} ({kept:?})")
            }
            Err(_) => format!("log of the agent:\n{}", tail(Path::new(agent::LOG), 60)),
        };
        panic!("{shown}{kept}");
    }

    /// Deletes all values, and checks that only objects that existed before the run remain.
    async fn finish(mut self, foreign_processes: &[String]) {
        let figures = Figures::of(self.bench.agent().pid());
        println!("before the end: {figures}");
        self.bench.delete_all().await;
        self.catalogue.wanted.clear();
        self.steady.0 = Config::default();
        self.tell("everything deleted".to_owned());
        let last = self.checkpoint("after the deletion of everything", None).await;
        assert_eq!(
            foreign_processes,
            foreign_processes_unchanged(&self.foreign_processes),
            "the foreign namespaces must not have changed"
        );
        println!("at the end: {last}");
        for number in self.places.which(|kind| matches!(kind, Kind::File { mounted: true, .. })) {
            if let Kind::File { path, .. } = &self.places.all[number].kind {
                places::unmount(path);
            }
        }
        self.bench.stop_agent().await;
    }
}
