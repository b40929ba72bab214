//! The six steps of the demo. Each step performs an action, waits for the expected result, and prints the time that it took.
//!
//! The demo fails at the first unexpected result.

use std::{process::Child, time::Instant};

use anyhow::{Context, anyhow, ensure};

use netns_kernel::sandbox;

use super::{
    agent::{self, Agent},
    checker::{self, Checker, Network, Pings},
    narration::{Narration, milliseconds},
    observer::Observer,
    topology::{CONFIG, DESIRED, FAR_ADDRESS, LINK_STATE, NAMESPACE_FILE, NAMESPACE_STATUS, STATUS, WORKLOAD_PID},
    workload_command,
};

/// State of the demo between its steps.
pub struct Script<'a> {
    narration: &'a Narration,
    agent: Option<Agent>,
    observer: Observer,
    /// Process whose namespace contains one end of the veth pair. Dropping this value closes the standard input of the process,
    /// which then exits.
    workload: Option<Child>,
    /// Store revision of each put, in the order of [`DESIRED`].
    revisions: Vec<i64>,
}

impl<'a> Script<'a> {
    /// Prints the introduction and starts the agent.
    pub async fn begin(narration: &'a Narration) -> anyhow::Result<Self> {
        narration.line("netns-agent demo: a real agent in temporary namespaces; nothing on this machine is changed.");
        narration.line(&format!("Below, … stands for {CONFIG}, the prefix of the desired values."));
        narration.command(&agent::shown_command());
        let started = begin_agent(0).await;
        let (agent, observer, began) =
            started.map_err(|error| anyhow!("{error:#}\n\nThe agent's log ends with:\n{}", agent::log_tail()))?;
        narration.result(
            "IN SYNC",
            began.elapsed(),
            "the agent started with an empty embedded store, which serves the etcd v3 API",
        );
        Ok(Script {
            narration,
            agent: Some(agent),
            observer,
            workload: None,
            revisions: Vec::new(),
        })
    }

    /// Returns the end of the agent's log, for error messages.
    pub fn log_tail(&self) -> String {
        agent::log_tail()
    }

    /// Runs all steps, except the last one if `keep` is set.
    pub async fn run(&mut self, keep: bool) -> anyhow::Result<()> {
        self.ask_for_what_cannot_be().await?;
        self.let_it_appear().await?;
        self.ping()?;
        let mut checker = Checker::open().await?;
        let whole = self.break_a_link(&mut checker).await?;
        self.kill_the_agent(&checker, &whole).await?;
        // Close the namespaces that the checker has open, because an open namespace continues to exist after its name is deleted.
        drop(checker);
        if keep { Ok(()) } else { self.delete_everything().await }
    }

    async fn ask_for_what_cannot_be(&mut self) -> anyhow::Result<()> {
        self.narration.step(
            1,
            "Put values in the wrong order: each one is PENDING, and its status says what it is waiting for",
        );
        for desired in &DESIRED {
            self.narration.remark(&format!("{}:", desired.title));
            self.narration.command(&format!("etcdctl put …{} '{}'", desired.key, desired.value));
            let began = Instant::now();
            let revision = self.observer.put(desired.key, desired.value).await?;
            self.revisions.push(revision);
            let expected = format!("{STATUS}{} is PENDING at revision {revision} and has a message", desired.key);
            let pending = self.observer.until(&expected, |observer| {
                observer
                    .status(desired.key, revision)
                    .filter(|status| status.state == "PENDING" && !status.message.is_empty())
            });
            let status = pending.await?;
            self.narration.result(&status.state, began.elapsed(), &status.message);
        }
        Ok(())
    }

    async fn let_it_appear(&mut self) -> anyhow::Result<()> {
        self.narration.step(
            2,
            &format!("Start a process with PID {WORKLOAD_PID} and a network namespace of its own: the agent configures all pending values"),
        );
        let began = Instant::now();
        let workload = sandbox::start_with_pid(WORKLOAD_PID, workload_command);
        self.workload = Some(workload.with_context(|| format!("cannot start a process with PID {WORKLOAD_PID}"))?);
        let started = began.elapsed();
        for (desired, revision) in DESIRED.iter().zip(&self.revisions).rev() {
            let expected = format!("{STATUS}{} is CONFIGURED at revision {revision}", desired.key);
            let configured = self.observer.until(&expected, |observer| {
                observer
                    .status(desired.key, *revision)
                    .filter(|status| status.state == "CONFIGURED")
            });
            let status = configured.await?;
            self.narration
                .result(&status.state, began.elapsed(), desired.key.trim_start_matches('/'));
        }
        self.narration.remark(&format!(
            "(the times include starting the process, which took {})",
            milliseconds(started)
        ));
        Ok(())
    }

    fn ping(&self) -> anyhow::Result<()> {
        self.narration.step(
            3,
            "Test connectivity: ping from one namespace to the other, through the veth pair, the route and the ARP entry",
        );
        self.narration.command(&format!("ip netns exec web ping -c 1 {FAR_ADDRESS}"));
        self.narration.result("REPLY", checker::ping()?, &format!("from {FAR_ADDRESS}"));
        Ok(())
    }

    /// Deletes a link, waits for the repair, and returns the repaired network.
    async fn break_a_link(&mut self, checker: &mut Checker) -> anyhow::Result<Network> {
        self.narration.step(
            4,
            "Break the network: delete one end of the pair; the kernel then also deletes the other end, the addresses, the route and the \
             ARP entry",
        );
        let before = checker.network().await?;
        let index_of = |observer: &Observer| observer.number(LINK_STATE, "if_index");
        let index = self.observer.until(&format!("{LINK_STATE} has an if_index"), index_of).await?;
        self.narration.command("ip -n web link del eth0");
        let began = Instant::now();
        checker.delete_link().await?;
        let repaired = checker.until("the links, addresses, route and ARP entry exist again", |network| {
            network.objects == before.objects && network.links != before.links
        });
        let after = repaired.await?;
        self.narration.result(
            "REPAIRED",
            began.elapsed(),
            "all objects exist again in the kernel (measured from the deletion)",
        );
        let expected = format!("{LINK_STATE} has an if_index other than {index}");
        let new_index = self
            .observer
            .until(&expected, |observer| index_of(observer).filter(|new| *new != index))
            .await?;
        for (desired, revision) in DESIRED.iter().zip(&self.revisions) {
            let expected = format!("{STATUS}{} is CONFIGURED", desired.key);
            let configured = |observer: &Observer| {
                observer
                    .status(desired.key, *revision)
                    .filter(|status| status.state == "CONFIGURED")
            };
            self.observer.until(&expected, configured).await?;
        }
        let shown = format!("all four values are configured again; if_index in the status was {index} and is now {new_index}");
        self.narration.result("CONFIGURED", began.elapsed(), &shown);
        self.narration.result("REPLY", checker::ping()?, &format!("from {FAR_ADDRESS}"));
        Ok(after)
    }

    async fn kill_the_agent(&mut self, checker: &Checker, before: &Network) -> anyhow::Result<()> {
        self.narration.step(
            5,
            "Kill and restart the agent during continuous pings: the network stays in place, and nothing needs to be changed",
        );
        let pings = Pings::start()?;
        let last = self.observer.revision;
        self.narration.command("kill -KILL AGENT");
        self.agent.take().context("the agent is not running")?.kill().await?;
        let down = checker.network().await?;
        ensure!(
            &down == before,
            "expected: the network outlives the agent\nobserved: {down:#?}\ninstead of: {before:#?}"
        );
        self.narration.command(&agent::shown_command());
        let (agent, observer, began) = begin_agent(last).await?;
        (self.agent, self.observer) = (Some(agent), observer);
        self.narration
            .result("IN SYNC", began.elapsed(), "after the restart, the agent found everything in place");
        for (desired, revision) in DESIRED.iter().zip(&self.revisions) {
            let expected = format!("{STATUS}{} is CONFIGURED by the new agent", desired.key);
            let found = self.observer.until(&expected, |observer| {
                let fresh = observer.status_revision(desired.key).is_some_and(|written| written > last);
                observer
                    .status(desired.key, *revision)
                    .filter(|status| fresh && status.state == "CONFIGURED")
            });
            let status = found.await?;
            let operation = status.last_operation;
            ensure!(
                operation.is_empty(),
                "expected: no operation for {}\nobserved: last_operation {operation}",
                desired.key
            );
        }
        let after = checker.network().await?;
        ensure!(
            &after == before,
            "expected: the same links as before\nobserved: {after:#?}\ninstead of: {before:#?}"
        );
        let shown = "all four values are configured, without any operation: the links are the same, and no status has a last_operation";
        self.narration.result("CONFIGURED", began.elapsed(), shown);
        let (sent, lost) = pings.stop()?;
        ensure!(lost == 0, "expected: every ping has a reply\nobserved: {lost} of {sent} have none");
        self.narration.remark(&format!("pings: {sent} sent in the meantime, none lost"));
        Ok(())
    }

    async fn delete_everything(&mut self) -> anyhow::Result<()> {
        self.narration.step(
            6,
            "Delete the values: the agent deletes everything that it created, including the named namespace, but not the namespace of the \
             process",
        );
        self.narration.command("etcdctl del --prefix …/");
        let began = Instant::now();
        self.observer.delete_all().await?;
        let statuses = format!("{STATUS}/");
        self.observer
            .until(&format!("no status below {statuses}"), |observer| {
                observer.is_gone(&statuses).then_some(())
            })
            .await?;
        self.narration.result("REMOVED", began.elapsed(), "all four values are deleted");
        self.observer
            .until(&format!("{NAMESPACE_STATUS} is deleted"), |observer| {
                observer.is_gone(NAMESPACE_STATUS).then_some(())
            })
            .await?;
        let left = std::path::Path::new(NAMESPACE_FILE).exists();
        ensure!(
            !left,
            "expected: {NAMESPACE_FILE} is deleted with the last value in it\nobserved: the file still exists"
        );
        self.narration.result(
            "REMOVED",
            began.elapsed(),
            &format!("namespace web, which the agent had created, was deleted ({NAMESPACE_FILE})"),
        );
        let workload = self.workload.as_mut().context("the workload is not running")?;
        let ended = workload.try_wait().context("cannot read the exit status of the workload")?;
        ensure!(
            ended.is_none(),
            "expected: the process with PID {WORKLOAD_PID} keeps running\nobserved: it exited ({ended:?})"
        );
        Ok(())
    }
}

/// Starts an agent and waits until it is in sync. Returns the agent, its observer, and the start time.
///
/// Ignores health reports with revisions up to `last`, because an earlier agent published them.
async fn begin_agent(last: i64) -> anyhow::Result<(Agent, Observer, Instant)> {
    let began = Instant::now();
    let agent = Agent::start().await?;
    let mut observer = Observer::connect().await?;
    observer.until_in_sync(last).await?;
    Ok((agent, observer, began))
}
