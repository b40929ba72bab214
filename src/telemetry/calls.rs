//! Numbers about gRPC calls, under the names that the reference's server has (those of the gRPC ecosystem).
//!
//! Owns the counters and their names. Must never count what names itself: methods are those that are served, so that nobody can make
//! the numbers grow without end. Start reading at [`Calls`].

use std::{collections::BTreeMap, time::Duration};

use prometheus::{Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, Opts, Registry, core::Collector};

/// What the counters of a method begin with; a call has one more label for its code.
const METHOD: [&str; 3] = ["grpc_type", "grpc_service", "grpc_method"];
const CODE: [&str; 4] = ["grpc_type", "grpc_service", "grpc_method", "grpc_code"];
/// Upper bounds of the handling time in seconds: the usual ones of Prometheus, as in the reference.
const BOUNDS: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// A method, by the names of its labels: `unary` or a kind of stream, service, method.
pub type MethodLabels<'a> = [&'a str; 3];

/// All calls.
pub struct Calls {
    started: IntCounterVec,
    handled: IntCounterVec,
    received: IntCounterVec,
    sent: IntCounterVec,
    handling: HistogramVec,
}

impl Calls {
    /// All zero, in this registry.
    ///
    /// # Panics
    /// If it is done twice with one registry.
    pub fn register(registry: &Registry) -> Self {
        let valid = "the names are valid, and each is registered once";
        let counter = |name: &str, help: &str, labels: &[&str]| {
            let counter = IntCounterVec::new(Opts::new(name, help), labels).expect(valid);
            registry.register(Box::new(counter.clone())).expect(valid);
            counter
        };
        let handling = HistogramOpts::new("grpc_server_handling_seconds", "From the start of a call to its end");
        let handling = HistogramVec::new(handling.buckets(BOUNDS.to_vec()), &METHOD).expect(valid);
        registry.register(Box::new(handling.clone())).expect(valid);
        Calls {
            started: counter("grpc_server_started_total", "Calls that were begun", &METHOD),
            handled: counter(
                "grpc_server_handled_total",
                "Calls that have ended, by the code that they ended with",
                &CODE,
            ),
            received: counter("grpc_server_msg_received_total", "Messages that clients have sent", &METHOD),
            sent: counter("grpc_server_msg_sent_total", "Messages that were sent to clients", &METHOD),
            handling,
        }
    }

    /// A call of a method begins.
    pub fn begin(&self, method: MethodLabels<'_>) -> Call {
        self.started.with_label_values(&method).inc();
        Call {
            received: self.received.with_label_values(&method),
            sent: self.sent.with_label_values(&method),
            handling: self.handling.with_label_values(&method),
        }
    }

    /// Returns the calls of a service that have ended, by the name of the method.
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

    /// A call has ended; `code` is the name of its code.
    pub fn end(&self, [kind, service, name]: MethodLabels<'_>, call: &Call, code: &str, lasted: Duration) {
        self.handled.with_label_values(&[kind, service, name, code]).inc();
        call.handling.observe(lasted.as_secs_f64());
    }
}

/// Calls of one method that have ended.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Handled {
    /// Number of calls.
    pub count: u64,
    /// Time that they took together, in seconds.
    pub seconds: f64,
}

/// What is counted during one call.
pub struct Call {
    /// Messages of the client.
    pub received: IntCounter,
    /// Messages to the client.
    pub sent: IntCounter,
    handling: Histogram,
}
