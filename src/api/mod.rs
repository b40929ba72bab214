//! The agent's APIs: what they share, and one folder for each way to speak to it.
//!
//! Owns the view of the agent from outside. Must never change anything but by a transaction of the engine, and never hold it up: what
//! is asked of the engine is a cheap copy, which is turned into text elsewhere. Start reading at [`Api`], then [`http`].

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
    engine::{Client, Clock, watch::Feed},
    publish::Published,
    telemetry::{LogFilter, metrics::Metrics},
};
use listener::Limits;

/// Limits of the connections of an API.
fn limits(settings: &HttpSettings) -> Limits {
    Limits {
        connections_max: settings.connections_max,
        body_max: settings.body_max,
        step: settings.time_limit,
    }
}

/// What every API works with; cheap to clone.
#[derive(Clone)]
pub struct Api(Arc<Parts>);

/// The parts of the agent that an API may use.
pub struct Parts {
    /// The engine: to be asked, and to be given transactions.
    pub engine: Client<Network>,
    /// What all sources ask for; those of clients are changed through it.
    pub desired: Arc<Desired>,
    /// The newest of all published messages: statuses of values, of what they need, and of the agent.
    pub statuses: Feed<Arc<Published>>,
    /// The clock of the agent.
    pub clock: Clock,
    /// When the agent was started (since the Unix epoch).
    pub started: Duration,
    /// Microservice label of the agent.
    pub label: String,
    /// The store that the agent follows.
    pub store: StoreAddress,
    /// Reads the namespaces that the agent has opened.
    pub kernel: Arc<dyn KernelReader>,
    /// What is counted while it happens.
    pub metrics: Arc<Metrics>,
    /// Levels of the log.
    pub log: LogFilter,
}

/// Address of the store, for clients that write to it themselves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StoreAddress {
    /// URLs, or `host:port`; without user and password.
    pub endpoints: Vec<String>,
    /// The store is a part of the agent.
    pub embedded: bool,
}

impl StoreAddress {
    /// An address of these endpoints, from which user and password are removed.
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

/// So many values are put in order at once.
const FEW: usize = 100;

impl Api {
    /// An API of these parts.
    pub fn new(parts: Parts) -> Self {
        Api(Arc::new(parts))
    }

    /// A copy of what the scheduler knows; `None` when the agent is stopping.
    pub async fn extract(&self, scope: Scope) -> Option<Known> {
        let (extract, ()) = self.extract_with(scope, |_, _| ()).await?;
        Some(extract)
    }

    /// As [`Self::extract`], together with something else that the engine answers; that is to be short.
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
            // The rest of the work is not the engine's.
            true => threads::give_way(|| picked.into_extract()).await.ok()?,
            false => picked.into_extract(),
        };
        Some((Known { extract, _place: place }, also))
    }
}

/// A copy of what the scheduler knows, and the place that it takes until it is dropped.
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
    fn the_address_of_the_store_has_no_password() {
        let urls = ["https://anna:secret@10.0.0.1:2379", "bob@10.0.0.2:2379", "10.0.0.3:2379"];
        let address = StoreAddress::new(urls, false);
        assert_eq!(address.endpoints, ["https://10.0.0.1:2379", "10.0.0.2:2379", "10.0.0.3:2379"]);
    }
}
