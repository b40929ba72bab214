//! `ConfiguratorService`: the whole configuration in one typed message.
//!
//! The message has no field for rule chains, which are available only through `ManagerService`. A client that stops reading
//! notifications does not delay the agent.

use std::{pin::Pin, sync::Arc};

use futures::{Stream, StreamExt, stream};
use models::{
    Model,
    key::Key,
    proto::ligato::{
        configurator::{
            Config, DeleteRequest, DeleteResponse, DumpRequest, DumpResponse, GetRequest, GetResponse, NotifyRequest, NotifyResponse,
            UpdateRequest, UpdateResponse,
        },
        linux, netalloc,
    },
};
use tokio::sync::watch;
use tonic::{Request, Response, Status, metadata::MetadataMap};

use super::{
    Admission,
    generated::configurator_service_server::ConfiguratorService,
    items::{commit, stopping},
    manager::source_of,
    notifications::{Notifications, matches},
};
use crate::scheduler::ValueState;
use crate::{
    api::{Api, retrieval::Retrieval, security::Role, threads::run_in_background},
    desired::ClientRequest,
    engine::watch::Selector,
    publish::Published,
    sources::clients::{ClientItem, Labels},
};

/// Implementation of `ConfiguratorService`.
pub(super) struct Configurator {
    pub(super) api: Api,
    pub(super) admission: Admission,
    pub(super) notifications: Notifications,
    pub(super) stopped: watch::Receiver<bool>,
}

#[tonic::async_trait]
impl ConfiguratorService for Configurator {
    type NotifyStream = Pin<Box<dyn Stream<Item = Result<NotifyResponse, Status>> + Send>>;

    async fn get(&self, _: Request<GetRequest>) -> Result<Response<GetResponse>, Status> {
        let items = self.api.desired.items();
        let made = run_in_background(move || config_of(items.into_iter().filter_map(|item| item.model)));
        Ok(Response::new(GetResponse {
            config: Some(made.await.map_err(|error| Status::internal(error.to_string()))?),
        }))
    }

    async fn update(&self, request: Request<UpdateRequest>) -> Result<Response<UpdateResponse>, Status> {
        self.admission.admit(request.metadata(), Role::Write)?;
        let source = source_of(request.metadata());
        let UpdateRequest {
            update,
            full_resync,
            wait_done,
        } = request.into_inner();
        let changes = models_of(update.unwrap_or_default())?.map(|model| {
            let labels = Labels::new();
            (model.key(), Some(ClientItem { model, labels }))
        });
        let request = ClientRequest {
            replace: full_resync,
            description: "gRPC Update".to_owned(),
            ..ClientRequest::of(source, changes.collect())
        };
        let metadata = self.carry_out(request, wait_done).await?;
        Ok(Response::from_parts(metadata, UpdateResponse {}, tonic::Extensions::default()))
    }

    async fn delete(&self, request: Request<DeleteRequest>) -> Result<Response<DeleteResponse>, Status> {
        self.admission.admit(request.metadata(), Role::Write)?;
        let source = source_of(request.metadata());
        let DeleteRequest { delete, wait_done } = request.into_inner();
        let changes = models_of(delete.unwrap_or_default())?.map(|model| (model.key(), None));
        let request = ClientRequest {
            description: "gRPC Delete".to_owned(),
            ..ClientRequest::of(source, changes.collect())
        };
        let metadata = self.carry_out(request, wait_done).await?;
        Ok(Response::from_parts(metadata, DeleteResponse {}, tonic::Extensions::default()))
    }

    async fn dump(&self, _: Request<DumpRequest>) -> Result<Response<DumpResponse>, Status> {
        let unavailable = |error: crate::api::retrieval::RetrievalError| Status::unavailable(error.to_string());
        let retrieval = Retrieval::of(&self.api).await.map_err(unavailable)?;
        let linux = linux::ConfigData {
            interfaces: retrieval.interfaces.into_iter().map(|one| one.message).collect(),
            arp_entries: retrieval.arps.into_iter().map(|one| one.message).collect(),
            routes: retrieval.routes.into_iter().map(|one| one.message).collect(),
        };
        Ok(Response::new(DumpResponse {
            dump: Some(Config {
                vpp_config: None,
                linux_config: Some(linux),
                netalloc_config: None,
            }),
        }))
    }

    async fn notify(&self, request: Request<NotifyRequest>) -> Result<Response<Self::NotifyStream>, Status> {
        let NotifyRequest { idx, filters } = request.into_inner();
        let begin = (idx.max(1), filters, self.notifications.clone(), self.stopped.clone());
        // Read the next notifications only after the client has taken the previous ones.
        let reported = stream::unfold(begin, |(next, filters, mut notifications, mut stopped)| async move {
            let reported = tokio::select! {
                reported = notifications.from(next) => reported?,
                _ = stopped.wait_for(|stop| *stop) => return None,
            };
            let next = reported.last().map_or(next, |last| last.next_idx);
            let desired = |answer: &NotifyResponse| {
                let reported = answer.notification.as_ref();
                reported.is_some_and(|reported| filters.is_empty() || filters.iter().any(|filter| matches(reported, filter)))
            };
            let reported: Vec<Result<NotifyResponse, Status>> = reported.into_iter().filter(desired).map(Ok).collect();
            Some((stream::iter(reported), (next, filters, notifications, stopped)))
        });
        Ok(Response::new(Box::pin(reported.flatten())))
    }
}

impl Configurator {
    /// Commits a request, and returns response metadata with the transaction number.
    ///
    /// If `wait_done` is true, also waits until no changed value is PENDING.
    async fn carry_out(&self, request: ClientRequest, wait_done: bool) -> Result<MetadataMap, Status> {
        let keys: Vec<Key> = request.changes.iter().map(|(key, _)| key.clone()).collect();
        // Start watching before the request is committed, so that no status change is missed.
        let watcher = wait_done.then(|| self.api.statuses.watch(Selector::Keys(keys.iter().map(status_key).collect())));
        let result = commit(&self.api, request).await?;
        if let Some(watcher) = watcher {
            until_none_waits(watcher).await?;
        }
        let mut metadata = MetadataMap::new();
        if let Some(result) = result {
            metadata.insert("seqnum", result.seq.into());
        }
        Ok(metadata)
    }
}

fn status_key(key: &Key) -> Key {
    Key::from(key.as_str().replacen("config/", "config-status/", 1))
}

/// Waits until none of the watched values is PENDING. No timeout is needed here, because the future is dropped when the deadline
/// of the call passes.
async fn until_none_waits(mut watcher: crate::engine::watch::Watcher<Arc<Published>>) -> Result<(), Status> {
    let mut pending = std::collections::BTreeSet::new();
    let waits = |published: &Published| match published {
        Published::Value(status) => status.state().as_str_name() == ValueState::Pending.text(),
        _ => false,
    };
    loop {
        let news = watcher.next().await.ok_or_else(stopping)?;
        for (key, published) in news.items {
            match published.as_deref().is_some_and(waits) {
                true => pending.insert(key),
                false => pending.remove(&key),
            };
        }
        if news.complete && pending.is_empty() {
            return Ok(());
        }
    }
}

/// Returns the values in a configuration message.
///
/// # Errors
/// Fails if the message contains configuration for VPP.
#[allow(clippy::result_large_err, reason = "tonic requires this type")]
fn models_of(config: Config) -> Result<impl Iterator<Item = Model>, Status> {
    if config.vpp_config.is_some_and(|vpp| !vpp.is_empty()) {
        let words = "vpp_config is not empty, but this agent manages Linux networking only; omit vpp_config";
        return Err(Status::invalid_argument(words));
    }
    let linux::ConfigData {
        interfaces,
        arp_entries,
        routes,
    } = config.linux_config.unwrap_or_default();
    let addresses = config.netalloc_config.unwrap_or_default().ip_addresses;
    let linux = interfaces
        .into_iter()
        .map(Model::from)
        .chain(arp_entries.into_iter().map(Model::from));
    Ok(linux
        .chain(routes.into_iter().map(Model::from))
        .chain(addresses.into_iter().map(Model::from)))
}

fn config_of(models: impl Iterator<Item = Model>) -> Config {
    let (mut linux, mut netalloc) = (linux::ConfigData::default(), netalloc::ConfigData::default());
    for model in models {
        match model {
            Model::Interface(message) => linux.interfaces.push((*message).clone()),
            Model::Arp(message) => linux.arp_entries.push((*message).clone()),
            Model::Route(message) => linux.routes.push((*message).clone()),
            Model::IpAllocation(message) => netalloc.ip_addresses.push((*message).clone()),
            Model::RuleChain(_) => {}
        }
    }
    Config {
        vpp_config: None,
        linux_config: Some(linux),
        netalloc_config: Some(netalloc),
    }
}
