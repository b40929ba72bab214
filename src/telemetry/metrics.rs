//! Metrics of the agent that are updated as events happen.
//!
//! Updates never block for long, because each update is a lookup and an addition. Numbers that the scheduler can provide at any
//! time are not stored here. The API reads them from the scheduler when a client requests metrics.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, Instant},
};

use models::{
    proto::{
        ligato::kvscheduler::{ValueState, ValueStatus},
        netns_agent::Repair,
    },
    registry::model_of_key,
};
use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, proto::MetricFamily};

use super::{calls::Calls, defects};

/// Bucket upper bounds for the apply latency, in seconds.
const LATENCY_BOUNDS: [f64; 14] = [0.001, 0.002, 0.003, 0.005, 0.01, 0.015, 0.03, 0.05, 0.1, 0.3, 1.0, 3.0, 10.0, 60.0];

/// Maximum number of store revisions for which the read time is stored. The oldest revisions are dropped first.
const REVISIONS_KEPT: usize = 16_384;

/// Metrics of one agent.
pub struct Metrics {
    /// Metrics of gRPC API calls.
    pub calls: Calls,
    registry: Registry,
    apply: HistogramVec,
    repairs: IntCounterVec,
    values: IntGaugeVec,
    connected: IntGauge,
    lag: IntGauge,
    /// Latest store revision that the agent has read.
    read: AtomicI64,
    /// Time at which each store revision was read. A std mutex suffices, because it is locked only for map operations.
    revisions: Mutex<BTreeMap<i64, Instant>>,
}

impl Default for Metrics {
    fn default() -> Self {
        Metrics::new()
    }
}

impl Metrics {
    /// Creates the metrics with all values at zero.
    ///
    /// # Panics
    /// Never panics, because the metric names are constant and each is registered once.
    pub fn new() -> Self {
        let registry = Registry::new();
        let latency = HistogramOpts::new(
            "netns_agent_apply_seconds",
            "Time from reading a store revision to the first CONFIGURED status for it, by kind of value",
        );
        let apply = HistogramVec::new(latency.buckets(LATENCY_BOUNDS.to_vec()), &["kind"]);
        let repairs = Opts::new(
            "netns_agent_drift_repairs",
            "Repairs of values that another program had changed or deleted, by kind of value",
        );
        let repairs = IntCounterVec::new(repairs, &["kind"]);
        let values = IntGaugeVec::new(Opts::new("netns_agent_values", "Desired values, by state"), &["state"]);
        let connected = IntGauge::new("netns_agent_etcd_connected", "1 while status can be written to the store");
        let lag = IntGauge::new("netns_agent_etcd_lag_revisions", "Store revisions read but not yet processed");
        let names = "the names of metrics are valid";
        let metrics = Metrics {
            calls: Calls::register(&registry),
            registry,
            apply: apply.expect(names),
            repairs: repairs.expect(names),
            values: values.expect(names),
            connected: connected.expect(names),
            lag: lag.expect(names),
            read: AtomicI64::new(0),
            revisions: Mutex::new(BTreeMap::new()),
        };
        for collector in [
            Box::new(metrics.apply.clone()) as Box<dyn prometheus::core::Collector>,
            Box::new(metrics.repairs.clone()),
            Box::new(metrics.values.clone()),
            Box::new(metrics.connected.clone()),
            Box::new(metrics.lag.clone()),
            Box::new(defects::counter()),
        ] {
            metrics.registry.register(collector).expect("each name is registered once");
        }
        metrics
    }

    /// Returns all metrics, grouped into Prometheus metric families.
    pub fn gather(&self) -> Vec<MetricFamily> {
        self.registry.gather()
    }

    /// Returns the number of desired values in each state, by the name of the state. Omits states without values.
    pub fn values(&self) -> BTreeMap<String, i64> {
        let families = prometheus::core::Collector::collect(&self.values);
        let counts = families.iter().flat_map(MetricFamily::get_metric).filter_map(|metric| {
            let state = metric.get_label().first()?.value().to_owned();
            // The gauge counts values, so it is a whole number.
            let count = metric.get_gauge().get_value() as i64;
            (count > 0).then_some((state, count))
        });
        counts.collect()
    }

    /// Sets the metric that shows whether the agent can write status to the store.
    pub fn set_connected(&self, connected: bool) {
        self.connected.set(i64::from(connected));
    }

    /// Records that the complete desired state was read at a store revision.
    pub fn read_all(&self, revision: i64) {
        self.read.fetch_max(revision, Ordering::Relaxed);
    }

    /// Records that changes up to `revision` were read. `changed` contains the revision of each change.
    pub fn read_changes(&self, revision: i64, changed: impl Iterator<Item = i64>) {
        let now = Instant::now();
        let mut revisions = self.revisions.lock().unwrap_or_else(PoisonError::into_inner);
        for one in changed {
            revisions.entry(one).or_insert(now);
        }
        while revisions.len() > REVISIONS_KEPT {
            revisions.pop_first();
        }
        drop(revisions);
        let before = self.read.fetch_max(revision, Ordering::Relaxed);
        if revision > before {
            self.lag.add(revision - before);
        }
    }

    /// Records that all store revisions read so far have been processed.
    pub fn settled(&self) {
        self.lag.set(0);
    }

    /// Records that the published status of a value has changed from `before` to `now`. `None` means that there is no status.
    pub fn reported(&self, before: Option<&ValueStatus>, now: Option<&ValueStatus>) {
        let (state_before, state_now) = (before.map(ValueStatus::state), now.map(ValueStatus::state));
        if state_before != state_now {
            for (state, change) in [(state_before, -1), (state_now, 1)] {
                if let Some(state) = state {
                    self.values.with_label_values(&[state.as_str_name()]).add(change);
                }
            }
        }
        let Some(now) = now else { return };
        let kind = kind_of(&now.key);
        let repaired = |status: &ValueStatus| status.last_repair.as_ref().map(|repair: &Repair| repair.time);
        if repaired(now).is_some() && before.and_then(repaired) != repaired(now) {
            self.repairs.with_label_values(&[kind]).inc();
        }
        let answered = |status: &ValueStatus| status.state() == ValueState::Configured && status.mod_revision == now.mod_revision;
        if answered(now)
            && !before.is_some_and(answered)
            && let Some(waited) = self.since_read(now.mod_revision)
        {
            self.apply.with_label_values(&[kind]).observe(waited.as_secs_f64());
        }
    }

    fn since_read(&self, revision: i64) -> Option<Duration> {
        let revisions = self.revisions.lock().unwrap_or_else(PoisonError::into_inner);
        revisions.get(&revision).map(Instant::elapsed)
    }
}

/// Returns the name of the model that a key belongs to.
fn kind_of(key: &str) -> &'static str {
    model_of_key(key).map_or("unknown", |model| model.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(state: ValueState, mod_revision: i64) -> ValueStatus {
        ValueStatus {
            key: "config/linux/l3/v2/arp/a/10.0.0.1".to_owned(),
            state: state as i32,
            mod_revision,
            ..ValueStatus::default()
        }
    }

    fn value(metrics: &Metrics, name: &str) -> Vec<(String, f64)> {
        let families = metrics.gather();
        let family = families.iter().find(|family| family.name() == name);
        let metrics = family.map(|family| family.get_metric().to_vec()).unwrap_or_default();
        let read = metrics.iter().map(|metric| {
            let label = metric.get_label().first().map(|label| label.value().to_owned()).unwrap_or_default();
            let number =
                metric.get_gauge().get_value() + metric.get_counter().get_value() + metric.get_histogram().get_sample_count() as f64;
            (label, number)
        });
        read.collect()
    }

    #[test]
    fn apply_latency_is_observed_once_for_each_changed_revision() {
        let metrics = Metrics::new();
        metrics.read_all(5);
        metrics.reported(None, Some(&status(ValueState::Configured, 4)));
        assert_eq!(value(&metrics, "netns_agent_apply_seconds"), []);
        metrics.read_changes(7, [6, 7].into_iter());
        assert_eq!(value(&metrics, "netns_agent_etcd_lag_revisions"), [(String::new(), 2.0)]);
        let (pending, configured) = (status(ValueState::Pending, 7), status(ValueState::Configured, 7));
        metrics.reported(None, Some(&pending));
        metrics.reported(Some(&pending), Some(&configured));
        metrics.reported(Some(&configured), Some(&configured));
        metrics.settled();
        assert_eq!(value(&metrics, "netns_agent_apply_seconds"), [("linux.l3.arp".to_owned(), 1.0)]);
        assert_eq!(value(&metrics, "netns_agent_etcd_lag_revisions"), [(String::new(), 0.0)]);
    }

    #[test]
    fn values_are_counted_by_state_and_repairs_once() {
        let metrics = Metrics::new();
        let (pending, configured) = (status(ValueState::Pending, 1), status(ValueState::Configured, 1));
        let repaired = ValueStatus {
            last_repair: Some(Repair::default()),
            ..configured.clone()
        };
        metrics.reported(None, Some(&pending));
        metrics.reported(None, Some(&pending));
        metrics.reported(Some(&pending), Some(&configured));
        metrics.reported(Some(&configured), Some(&repaired));
        metrics.reported(Some(&repaired), Some(&repaired));
        metrics.reported(Some(&pending), None);
        let values = value(&metrics, "netns_agent_values");
        assert_eq!(values, [("CONFIGURED".to_owned(), 1.0), ("PENDING".to_owned(), 0.0)]);
        assert_eq!(value(&metrics, "netns_agent_drift_repairs"), [("linux.l3.arp".to_owned(), 1.0)]);
    }
}
