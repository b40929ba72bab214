//! `/scheduler/stats` and `/stats/configurator`: statistics about the scheduler and the configurator service.
//!
//! Ligato vpp-agent also reports how long individual calls take. This agent does not, because its scheduler has no clock.
//! Counts by descriptor cover only the transactions in the history.

use std::collections::BTreeMap;

use axum::{extract::State, routing::get};
use serde::Serialize;

use super::{
    answer::{self, Answer, ApiError},
    endpoint::Endpoint,
};
use crate::scheduler::{
    Domain, ValueState, Verb,
    history::extract::{Extract, Scope},
    statistics::Statistics,
};
use crate::{api::Api, descriptors::Network, telemetry::calls::Handled};

pub(super) const ENDPOINTS: &[Endpoint] = &[
    Endpoint {
        example: r#"{"TxnStats":{"TotalProcessed":3,"OperationCount":{"CREATE":5,"UPDATE":0,"DELETE":0},"ValueStateCount":{"CONFIGURED":5,"PENDING":0},"ErrorCount":0,"Methods":[]},"GraphMethods":[],"AllDescriptors":[{"name":"Create","count":5}],"Descriptors":{"linux-interface":[{"name":"Create","count":5}]}}"#,
        ..Endpoint::get("/scheduler/stats", "Scheduler statistics", || get(stats))
    },
    Endpoint {
        example: r#"{"AllOperations":{"name":"AllOperations","count":3,"total":0.012,"avg":0.004},"Operations":{"Update":{"name":"Update","count":3,"total":0.012,"avg":0.004}}}"#,
        ..Endpoint::get("/stats/configurator", "Completed calls of the gRPC configurator service", || {
            get(configurator)
        })
    },
];

/// Name of the gRPC service to which the statistics of `/stats/configurator` refer.
const CONFIGURATOR: &str = "ligato.configurator.ConfiguratorService";

/// All states of a value, in numerical order.
pub(super) const STATES: [ValueState; 11] = [
    ValueState::Nonexistent,
    ValueState::Missing,
    ValueState::Unimplemented,
    ValueState::Removed,
    ValueState::Configured,
    ValueState::Obtained,
    ValueState::Discovered,
    ValueState::Pending,
    ValueState::Invalid,
    ValueState::Failed,
    ValueState::Retrying,
];

/// Operations that are counted, with their method names in the response.
const OPERATIONS: [(Verb, &str); 3] = [(Verb::Create, "Create"), (Verb::Update, "Update"), (Verb::Delete, "Delete")];

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Stats {
    txn_stats: TxnStats,
    graph_methods: Vec<Method>,
    all_descriptors: Vec<Method>,
    descriptors: BTreeMap<&'static str, Vec<Method>>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct TxnStats {
    total_processed: u64,
    operation_count: BTreeMap<&'static str, u64>,
    value_state_count: BTreeMap<&'static str, u64>,
    error_count: u64,
    methods: Vec<Method>,
}

/// Number of calls of one method.
#[derive(Serialize)]
struct Method {
    name: &'static str,
    count: u64,
}

/// Statistics of the configurator service.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct ConfiguratorStats {
    all_operations: CallStats,
    operations: BTreeMap<String, CallStats>,
}

/// Statistics of one method, with times in seconds. The durations of the shortest and the longest call are not recorded.
#[derive(Serialize, PartialEq, Debug)]
struct CallStats {
    name: String,
    count: u64,
    #[serde(skip_serializing_if = "is_zero")]
    total: f64,
    #[serde(skip_serializing_if = "is_zero")]
    avg: f64,
}

impl CallStats {
    fn new(name: &str, handled: Handled) -> Self {
        let Handled { count, seconds } = handled;
        // The number of calls stays far below 2^53, so its conversion to `f64` is exact.
        let avg = if count == 0 { 0.0 } else { seconds / count as f64 };
        CallStats {
            name: name.to_owned(),
            count,
            total: seconds,
            avg,
        }
    }
}

fn is_zero(number: &f64) -> bool {
    *number == 0.0
}

async fn configurator(State(api): State<Api>) -> Answer {
    let handled = api.metrics.calls.handled(CONFIGURATOR);
    let all = handled.values().fold(Handled::default(), |all, one| Handled {
        count: all.count + one.count,
        seconds: all.seconds + one.seconds,
    });
    answer::json(&ConfiguratorStats {
        all_operations: CallStats::new("AllOperations", all),
        operations: handled
            .into_iter()
            .map(|(name, one)| (name.clone(), CallStats::new(&name, one)))
            .collect(),
    })
}

async fn stats(State(api): State<Api>) -> Answer {
    let known = api.extract_with(Scope::All, |scheduler, _| scheduler.statistics());
    let (extract, statistics) = known.await.ok_or_else(ApiError::stopping)?;
    answer::elsewhere(move || answer::json(&of(&statistics, &extract))).await
}

fn of(statistics: &Statistics, extract: &Extract<Network>) -> Stats {
    let count = |verb| statistics.operations.get(&verb).copied().unwrap_or_default();
    let mut counts: BTreeMap<&'static str, BTreeMap<Verb, u64>> = BTreeMap::new();
    for operation in extract.records().iter().flat_map(|record| record.executed()) {
        if let Some(descriptor) = extract.domain().descriptor(&operation.key) {
            *counts.entry(descriptor.name()).or_default().entry(operation.verb).or_default() += 1;
        }
    }
    let states = STATES.map(|state| (state.text(), statistics.states.get(&state).copied().unwrap_or_default()));
    Stats {
        txn_stats: TxnStats {
            total_processed: statistics.transactions,
            operation_count: OPERATIONS.map(|(verb, _)| (verb.text(), count(verb))).into(),
            value_state_count: states.into(),
            error_count: statistics.errors,
            methods: Vec::new(),
        },
        graph_methods: Vec::new(),
        all_descriptors: methods(&statistics.operations),
        descriptors: counts.iter().map(|(name, counts)| (*name, methods(counts))).collect(),
    }
}

/// Returns the number of operations for each method, highest number first.
fn methods(counts: &BTreeMap<Verb, u64>) -> Vec<Method> {
    let named = OPERATIONS.iter().filter_map(|(verb, name)| {
        let count = counts.get(verb).copied()?;
        Some(Method { name, count })
    });
    let mut methods: Vec<Method> = named.collect();
    methods.sort_by_key(|method| std::cmp::Reverse(method.count));
    methods
}
