//! Reports to the service manager that the agent is ready and that the engine is running, and updates the status line.

use std::{collections::BTreeMap, future::pending, sync::Arc, time::Duration};

use models::{key::Key, proto::status::OperationalState};
use netns_kernel::Executor;
use tokio::{
    sync::watch,
    time::{MissedTickBehavior, interval},
};

use super::statuses::Statuses;
use crate::{
    descriptors::Network,
    engine::Client,
    publish::{PART_HEALTH, Published},
    service_manager::ServiceManager,
    telemetry::metrics::Metrics,
};

/// Interval at which the status line is updated.
const STATUS_INTERVAL: Duration = Duration::from_secs(1);

/// Components of the agent from which [`report`] reads the state.
pub struct Supervised {
    /// True once everything that was desired at startup has been processed.
    pub in_sync: watch::Receiver<bool>,
    /// Published messages, which include the health of each part.
    pub statuses: Statuses,
    /// Metrics, which include the number of values in each state.
    pub metrics: Arc<Metrics>,
    /// The engine, which must answer a question before the watchdog is restarted.
    pub engine: Client<Network>,
    /// Executor, which keeps the descriptors of an earlier run until the agent is in sync.
    pub executor: Arc<Executor>,
}

/// Reports to the service manager until the engine stops.
pub async fn report(manager: ServiceManager, supervised: Supervised) {
    let Supervised {
        mut in_sync,
        statuses,
        metrics,
        engine,
        executor,
    } = supervised;
    let ready = in_sync.clone();
    let get_ready = async {
        if in_sync.wait_for(|in_sync| *in_sync).await.is_ok() {
            executor.remove_unopened_descriptors();
            manager.status(&line(true, &statuses, &metrics));
            manager.ready();
        }
        pending::<()>().await;
    };
    tokio::select! {
        () = get_ready => {}
        () = keep_status(&manager, || line(*ready.borrow(), &statuses, &metrics)) => {}
        () = feed_watchdog(&manager, &engine) => {}
    }
}

/// Restarts the watchdog of the service manager while the engine responds. Returns when the engine stops.
async fn feed_watchdog(manager: &ServiceManager, engine: &Client<Network>) {
    let Some(limit) = manager.watchdog() else { return pending().await };
    let mut ticks = interval(limit / 3);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if engine.ask(|_| ()).await.is_none() {
            return;
        }
        manager.alive();
    }
}

/// Sends the status line whenever it has changed.
async fn keep_status(manager: &ServiceManager, line: impl Fn() -> String) {
    if !manager.is_present() {
        return pending().await;
    }
    let (mut ticks, mut sent) = (interval(STATUS_INTERVAL), String::new());
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let line = line();
        if line != sent {
            manager.status(&line);
            sent = line;
        }
    }
}

/// Returns the line that `systemctl status` shows, such as `in sync: 12 CONFIGURED, 1 PENDING`.
fn line(in_sync: bool, statuses: &Statuses, metrics: &Metrics) -> String {
    let problem = statuses
        .get(&Key::new(&format!("{PART_HEALTH}etcd")))
        .and_then(|health| match &*health {
            Published::Part(part) if part.state() == OperationalState::Error => Some(part.error.clone()),
            _ => None,
        });
    let state = if in_sync {
        format!("in sync: {}", counts(&metrics.values()))
    } else {
        "not in sync yet: reading and applying the desired state".to_owned()
    };
    match problem {
        Some(problem) => format!("{state}; {problem}"),
        None => state,
    }
}

fn counts(values: &BTreeMap<String, i64>) -> String {
    if values.is_empty() {
        return "no values".to_owned();
    }
    let counts: Vec<String> = values.iter().map(|(state, count)| format!("{count} {state}")).collect();
    counts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{engine::Request, scheduler::Scheduler};

    #[tokio::test]
    async fn watchdog_is_restarted_only_when_the_engine_answers() {
        let (manager, sent) = ServiceManager::recording(Duration::from_millis(30));
        let (questions, mut asked) = tokio::sync::mpsc::unbounded_channel();
        let engine = Client::answered_by(move |request| match request {
            Request::Ask(question) => questions.send(question).is_ok(),
            _ => panic!("only a question is expected"),
        });
        let feeding = tokio::spawn(async move { feed_watchdog(&manager, &engine).await });
        let scheduler = Scheduler::new(Network::new("test"));
        for _ in 0..3 {
            let question = asked.recv().await.expect("the engine is asked");
            assert_eq!(sent.try_iter().count(), 0, "not before the answer");
            question(&scheduler);
            while sent.try_recv().is_err() {
                tokio::task::yield_now().await;
            }
        }
        // This question stays unanswered, as if the engine hung.
        let _unanswered = asked.recv().await.expect("the engine is asked again");
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(sent.try_iter().count(), 0);
        feeding.abort();
    }

    #[test]
    fn numbers_of_values_are_listed_by_state() {
        let values = BTreeMap::from([("CONFIGURED".to_owned(), 12), ("PENDING".to_owned(), 1)]);
        assert_eq!(counts(&values), "12 CONFIGURED, 1 PENDING");
        assert_eq!(counts(&BTreeMap::new()), "no values");
    }
}
