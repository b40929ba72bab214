//! The APIs of the agent: REST ([`http`]) and gRPC ([`grpc`]), and the code they share.
//!
//! An API changes state only through engine transactions. It takes cheap copies of the state from the engine and formats them on
//! other threads, so that clients do not delay the engine.

pub mod build;
pub mod grpc;
pub mod history;
pub mod http;
pub mod retrieval;
pub mod security;
mod show;
pub mod threads;

use std::{ops::Deref, sync::Arc, time::Duration};

use serde::Serialize;
use tokio::sync::OwnedSemaphorePermit;

use self::retrieval::KernelReader;
use crate::scheduler::{
    Scheduler,
    history::extract::{Extract, Pick, Scope},
};
use crate::{
    config::HttpSettings,
    descriptors::Network,
    desired::Desired,
    engine::{Client, Clock, watch::Updates},
    publish::Published,
    telemetry::{LogFilter, metrics::Metrics},
};
use listener::Limits;

/// Returns the connection limits of an API.
fn limits(settings: &HttpSettings) -> Limits {
    Limits {
        connections_max: settings.connections_max,
        body_max: settings.body_max,
        step: settings.time_limit,
    }
}

/// State that all APIs share. Cheap to clone.
#[derive(Clone)]
pub struct Api(Arc<Parts>);

/// Components of the agent that the APIs use.
pub struct Parts {
    /// Client of the engine, for queries and transactions.
    pub engine: Client<Network>,
    /// Merged desired state of all sources. Clients change their own values through it.
    pub desired: Arc<Desired>,
    /// Latest published messages: the states of values, of their dependencies, and of the agent.
    pub statuses: Updates<Arc<Published>>,
    /// Clock from which the agent reads the current time.
    pub clock: Clock,
    /// Start time of the agent, as the time since the Unix epoch.
    pub started: Duration,
    /// Microservice label of the agent.
    pub label: String,
    /// Store from which the agent reads the desired values.
    pub store: StoreAddress,
    /// Reader for the contents of the namespaces that the agent has opened.
    pub kernel: Arc<dyn KernelReader>,
    /// Counters and histograms of the agent.
    pub metrics: Arc<Metrics>,
    /// Log levels, which clients can read and change.
    pub log: LogFilter,
}

/// Address of the store, for clients that write to the store directly.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StoreAddress {
    /// URLs or `host:port`, without user and password.
    pub endpoints: Vec<String>,
    /// True if the store is embedded in the agent.
    pub embedded: bool,
}

impl StoreAddress {
    /// Creates an address from endpoints and removes user and password from them.
    pub fn new<'a>(endpoints: impl IntoIterator<Item = &'a str>, embedded: bool) -> Self {
        let without_user = |url: &str| match (url.split_once("://"), url.rsplit_once('@')) {
            (Some((scheme, _)), Some((_, host))) => format!("{scheme}://{host}"),
            (None, Some((_, host))) => host.to_owned(),
            (_, None) => url.to_owned(),
        };
        let endpoints = endpoints.into_iter().map(without_user).collect();
        StoreAddress { endpoints, embedded }
    }
}

/// Minimum size of a large copy, as a number of keys in `Scope::Exactly`. Large copies are completed in the background pool, and
/// smaller copies on the calling thread.
const FEW: usize = 100;

impl Api {
    /// Creates the state that all APIs share.
    pub fn new(parts: Parts) -> Self {
        Api(Arc::new(parts))
    }

    /// Returns a copy of the scheduler's state in this scope, or `None` if the agent is stopping.
    pub async fn extract(&self, scope: Scope) -> Option<Known> {
        let (extract, ()) = self.extract_with(scope, |_, _| ()).await?;
        Some(extract)
    }

    /// Like [`Self::extract`], but also calls `also` on the engine's thread. `also` must return quickly.
    pub async fn extract_with<T: Send + 'static>(
        &self,
        scope: Scope,
        also: impl FnOnce(&Scheduler<Network>, &Pick<Network>) -> T + Send + 'static,
    ) -> Option<(Known, T)> {
        let whole = !matches!(scope, Scope::Keys(_)) && !matches!(&scope, Scope::Exactly(keys) if keys.len() < FEW);
        let place = if whole { threads::place().await } else { None };
        let question = move |scheduler: &Scheduler<Network>| {
            let picked = scheduler.pick(&scope);
            let also = also(scheduler, &picked);
            (picked, also)
        };
        let (picked, also) = self.engine.ask(question).await?;
        let extract = match whole {
            // Only `pick` has to run on the engine's thread, so the copy is completed in the background pool.
            true => threads::run_in_background(|| picked.into_extract()).await.ok()?,
            false => picked.into_extract(),
        };
        Some((Known { extract, _place: place }, also))
    }
}

/// Copy of the scheduler's state. A large copy holds a permit of the background pool until the copy is dropped.
pub struct Known {
    extract: Extract<Network>,
    _place: Option<OwnedSemaphorePermit>,
}

impl Deref for Known {
    type Target = Extract<Network>;

    fn deref(&self) -> &Extract<Network> {
        &self.extract
    }
}

impl Deref for Api {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn store_address_contains_no_credentials() {
        let urls = ["https://anna:secret@10.0.0.1:2379", "bob@10.0.0.2:2379", "10.0.0.3:2379"];
        let address = StoreAddress::new(urls, false);
        assert_eq!(address.endpoints, ["https://10.0.0.1:2379", "10.0.0.2:2379", "10.0.0.3:2379"]);
    }
}
