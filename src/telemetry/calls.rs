//! Metrics of gRPC calls. They have the same names as in most gRPC servers, including ligato vpp-agent.
//!
//! Only calls of existing methods are counted, so clients cannot create arbitrary label values.

use std::{collections::BTreeMap, time::Duration};

use prometheus::{Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, Opts, Registry, core::Collector};

/// Metric labels that identify a method.
const METHOD: [&str; 3] = ["grpc_type", "grpc_service", "grpc_method"];
/// Metric labels of a completed call, which include the gRPC status code.
const CODE: [&str; 4] = ["grpc_type", "grpc_service", "grpc_method", "grpc_code"];
/// Bucket upper bounds for the call duration in seconds: the Prometheus defaults, as in ligato vpp-agent.
const BOUNDS: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// Label values of a method: call type (`unary` or the kind of stream), service and method.
pub type MethodLabels<'a> = [&'a str; 3];

/// Metrics of all gRPC calls.
pub struct Calls {
    started: IntCounterVec,
    handled: IntCounterVec,
    received: IntCounterVec,
    sent: IntCounterVec,
    handling: HistogramVec,
}

impl Calls {
    /// Creates the metrics and registers them.
    ///
    /// # Panics
    /// Panics if called twice with the same registry.
    pub fn register(registry: &Registry) -> Self {
        let valid = "the names are valid, and each is registered once";
        let counter = |name: &str, help: &str, labels: &[&str]| {
            let counter = IntCounterVec::new(Opts::new(name, help), labels).expect(valid);
            registry.register(Box::new(counter.clone())).expect(valid);
            counter
        };
        let handling = HistogramOpts::new("grpc_server_handling_seconds", "Duration of calls");
        let handling = HistogramVec::new(handling.buckets(BOUNDS.to_vec()), &METHOD).expect(valid);
        registry.register(Box::new(handling.clone())).expect(valid);
        Calls {
            started: counter("grpc_server_started_total", "Started calls", &METHOD),
            handled: counter("grpc_server_handled_total", "Completed calls, by status code", &CODE),
            received: counter("grpc_server_msg_received_total", "Messages received from clients", &METHOD),
            sent: counter("grpc_server_msg_sent_total", "Messages sent to clients", &METHOD),
            handling,
        }
    }

    /// Counts the start of a call.
    pub fn begin(&self, method: MethodLabels<'_>) -> Call {
        self.started.with_label_values(&method).inc();
        Call {
            received: self.received.with_label_values(&method),
            sent: self.sent.with_label_values(&method),
            handling: self.handling.with_label_values(&method),
        }
    }

    /// Returns the number and duration of the completed calls of a service, by method name.
    pub fn handled(&self, service: &str) -> BTreeMap<String, Handled> {
        let families = self.handling.collect();
        let metrics = families.iter().flat_map(|family| family.get_metric());
        let of_service = metrics.filter_map(|metric| {
            let label = |name: &str| {
                metric
                    .get_label()
                    .iter()
                    .find(|label| label.name() == name)
                    .map(|label| label.value())
            };
            let method = label("grpc_method").filter(|_| label("grpc_service") == Some(service))?;
            let histogram = metric.get_histogram();
            let handled = Handled {
                count: histogram.get_sample_count(),
                seconds: histogram.get_sample_sum(),
            };
            Some((method.to_owned(), handled)).filter(|_| handled.count > 0)
        });
        of_service.collect()
    }

    /// Counts a completed call and its duration. `code` is the name of the call's gRPC status code.
    pub fn end(&self, [kind, service, name]: MethodLabels<'_>, call: &Call, code: &str, lasted: Duration) {
        self.handled.with_label_values(&[kind, service, name, code]).inc();
        call.handling.observe(lasted.as_secs_f64());
    }
}

/// Number and duration of the completed calls of one method.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Handled {
    /// Number of completed calls.
    pub count: u64,
    /// Total duration of all completed calls, in seconds.
    pub seconds: f64,
}

/// Metrics to update during one call.
pub struct Call {
    /// Counter of messages received from the client.
    pub received: IntCounter,
    /// Counter of messages sent to the client.
    pub sent: IntCounter,
    handling: Histogram,
}
