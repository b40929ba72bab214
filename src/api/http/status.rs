//! `/scheduler/status` and `/scheduler/states`: the states of values and of their derived values.
//!
//! `/scheduler/status` returns exactly the members that ligato vpp-agent returns, because clients of ligato vpp-agent reject
//! unknown members. The state of a value reflects its derived values only if the client sets the parameter [`WHOLE`].
//! `/scheduler/explain` shows everything about one value.

use axum::{extract::State, routing::get};
use models::key::Key;
use serde::Serialize;

use super::{
    answer::{self, Answer, ApiError},
    endpoint::{Endpoint, Parameter},
    history::list,
    query::Query,
};
use crate::api::history::json::rfc3339;
use crate::scheduler::{
    Domain, ValueState, Verb,
    history::extract::{Extract, Scope, Sighting},
};
use crate::{api::Api, descriptors::Network};

/// Name of the query parameter that makes the state of a value also reflect the states of its derived values.
const WHOLE: &str = "whole";

pub(super) const ENDPOINTS: &[Endpoint] = &[
    Endpoint {
        example: r#"[{"key":"config/linux/interfaces/v2/interface/d1","state":"CONFIGURED","since":"2026-10-09T10:00:00Z"}]"#,
        ..Endpoint::get(
            "/scheduler/states",
            "State of each value and derived value, with its message and the time it entered the state",
            || get(states),
        )
    },
    Endpoint {
        parameters: &[
            Parameter::optional("key", "Only this key; the response is a single object"),
            Parameter::optional("descriptor", "Only values of this descriptor"),
            Parameter::optional("key-prefix", "Only values of the descriptor with exactly this key prefix"),
            Parameter::one_of(
                WHOLE,
                "Let the state of a value reflect the states of its derived values, as in its published status",
                &["1", "true"],
            ),
        ],
        example: r#"[{"value":{"key":"config/linux/interfaces/v2/interface/d1","state":"CONFIGURED","last_operation":"CREATE"},"derived_values":[{"key":"linux/interface/state/d1/UP","state":"CONFIGURED","last_operation":"CREATE"}]}]"#,
        single: true,
        failures: &[(500, "unknown key prefix, or a repeated parameter")],
        ..Endpoint::get("/scheduler/status", "States of values, by key", || get(status))
    },
];

/// State of a value, the time at which the value entered this state, and an explanation. `/scheduler/status` contains neither
/// times nor explanations, because ligato vpp-agent does not report them.
#[derive(Serialize)]
struct Detail {
    key: String,
    state: &'static str,
    since: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    message: String,
    /// Time at which the removal of the value was put on hold.
    #[serde(skip_serializing_if = "Option::is_none")]
    removal_held_since: Option<String>,
}

async fn states(State(api): State<Api>) -> Answer {
    let extract = api.extract(Scope::Values).await.ok_or_else(ApiError::stopping)?;
    let held = api.desired.held().borrow().values.clone();
    answer::elsewhere(move || {
        let state = |value: &Sighting<<Network as Domain>::Value>| {
            let status = value.status.as_ref();
            Detail {
                key: value.key.to_string(),
                state: status.map_or(value.state, |status| status.state).text(),
                since: rfc3339(status.map_or(value.since, |status| status.since)),
                message: status.map(|status| status.message.clone()).unwrap_or_default(),
                removal_held_since: held.get(&value.key).copied().map(rfc3339),
            }
        };
        answer::json(&extract.values().iter().map(state).collect::<Vec<_>>())
    })
    .await
}

#[derive(Serialize)]
struct Base {
    value: Status,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    derived_values: Vec<Status>,
}

/// State of a value. Members with default values are omitted.
#[derive(Serialize)]
struct Status {
    key: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<&'static str>,
    #[serde(skip_serializing_if = "String::is_empty")]
    error: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_operation: Option<&'static str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    details: Vec<String>,
}

impl Status {
    /// Returns the status of a value. If `whole` is true, the state also reflects the states of the derived values.
    fn of<V>(value: &Sighting<V>, whole: bool) -> Self {
        let reported = value.status.as_ref().filter(|reported| whole || reported.state == value.state);
        let state = reported.map_or(value.state, |reported| reported.state);
        let error = match reported {
            Some(reported) => reported.error.clone(),
            None => value.error.as_deref().unwrap_or_default().to_owned(),
        };
        let operation = reported.map_or(value.last_operation, |reported| reported.last_operation);
        Status {
            key: value.key.to_string(),
            state: (state != ValueState::Nonexistent).then(|| state.text()),
            error,
            last_operation: (operation != Verb::Undefined).then(|| operation.text()),
            details: reported.map(|reported| reported.details.clone()).unwrap_or_default(),
        }
    }
}

impl Base {
    fn of(extract: &Extract<Network>, value: &Sighting<<Network as Domain>::Value>, whole: bool) -> Self {
        // The extract contains only the value and its derived values. A derived value has no derived values of its own.
        let derived = extract
            .values()
            .iter()
            .filter(|other| other.key != value.key && value.parent.is_none());
        Base {
            value: Status::of(value, whole),
            derived_values: derived.map(|derived| Status::of(derived, false)).collect(),
        }
    }

    /// Returns the statuses of all values with keys for which `counts` returns true, and of their derived values.
    fn all(extract: &Extract<Network>, whole: bool, counts: impl Fn(&Key) -> bool) -> Vec<Self> {
        let values = extract.values().iter();
        let base = values.clone().filter(|value| value.parent.is_none() && counts(&value.key));
        let mut all: Vec<(&Key, Base)> = base
            .map(|value| {
                let base = Base {
                    value: Status::of(value, whole),
                    derived_values: Vec::new(),
                };
                (&value.key, base)
            })
            .collect();
        for value in values.filter(|value| value.parent.is_some()) {
            let base = extract.base_of(value);
            if let Ok(at) = all.binary_search_by(|(key, _)| (*key).cmp(&base.key)) {
                all[at].1.derived_values.push(Status::of(value, false));
            }
        }
        all.into_iter().map(|(_, base)| base).collect()
    }
}

async fn status(State(api): State<Api>, query: Query) -> Answer {
    let (key, descriptor, prefix) = (query.single("key")?, query.single("descriptor")?, query.single("key-prefix")?);
    if let Some(key) = key {
        return one(&api, Key::new(key), query.is_on(WHOLE)).await;
    }
    let descriptor = match (descriptor, prefix) {
        (Some(name), _) => Some(name.to_owned()),
        (None, Some(prefix)) => {
            let kind = Network::kinds().into_iter().find(|(_, known)| *known == prefix);
            let (name, _) = kind.ok_or_else(|| ApiError::internal("unknown key prefix"))?;
            Some(name.to_owned())
        }
        (None, None) => None,
    };
    let whole = query.is_on(WHOLE);
    let extract = api.extract(Scope::Values).await.ok_or_else(ApiError::stopping)?;
    answer::elsewhere(move || {
        let network = extract.domain();
        let name_of = |key: &Key| network.descriptor(key).map(|descriptor| descriptor.name());
        list(&Base::all(&extract, whole, |key| {
            descriptor.is_none() || name_of(key) == descriptor.as_deref()
        }))
    })
    .await
}

async fn one(api: &Api, key: Key, whole: bool) -> Answer {
    let extract = api.extract(Scope::Keys(vec![key.clone()])).await.ok_or_else(ApiError::stopping)?;
    match extract.value(&key) {
        Some(value) => answer::json(&Base::of(&extract, value, whole)),
        None => answer::json(&Base {
            value: Status {
                key: key.to_string(),
                state: None,
                error: String::new(),
                last_operation: None,
                details: Vec::new(),
            },
            derived_values: Vec::new(),
        }),
    }
}
