//! `ManagerService`: sets, reads and watches values of any model. A client that stops reading updates does not delay the agent.

use std::{collections::HashMap, pin::Pin, sync::Arc, time::Duration};

use futures::{Stream, stream};
use models::{
    Model,
    key::Key,
    proto::ligato::{
        generic::{
            ConfigItem, DumpStateRequest, DumpStateResponse, GetConfigRequest, GetConfigResponse, ItemStatus, Notification,
            SetConfigRequest, SetConfigResponse, StateItem, SubscribeRequest, SubscribeResponse, UpdateResult, item::Id,
        },
        kvscheduler::ValueState as StateMessage,
    },
    registry::model_of_key,
};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};
use tonic::{Request, Response, Status, metadata::MetadataMap};

use super::{
    Admission,
    generated::manager_service_server::ManagerService,
    items::{change_of, commit, id_of, is_named, item_of, key_of, status_of, values},
};
use crate::scheduler::history::extract::Scope;
use crate::{
    api::{Api, security::Role, threads::run_in_background},
    descriptors::message::{Message, message_of},
    desired::{ClientRequest, DesiredItem},
    engine::watch::{Selector, Watcher},
    publish::Published,
    sources::{clients::Labels, merge::GRPC},
};

/// Minimum interval between updates to a subscriber. The first change after a quiet period is sent at once.
///
/// Without the interval, each subscriber could double the cost of a burst of changes.
const PACE: Duration = Duration::from_millis(50);
const CONFIG: &str = "config/";
const CONFIG_STATUS: &str = "config-status/";

/// Implementation of `ManagerService`.
pub(super) struct Manager {
    pub(super) api: Api,
    pub(super) admission: Admission,
    pub(super) stopped: watch::Receiver<bool>,
}

/// Returns the source that the client has set in the metadata (`datasrc`), or the default source.
pub(super) fn source_of(metadata: &MetadataMap) -> String {
    let named = metadata
        .get("datasrc")
        .and_then(|value| value.to_str().ok())
        .filter(|name| !name.is_empty());
    named.unwrap_or(GRPC).to_owned()
}

#[tonic::async_trait]
impl ManagerService for Manager {
    type SubscribeStream = Pin<Box<dyn Stream<Item = Result<SubscribeResponse, Status>> + Send>>;

    async fn set_config(&self, request: Request<SetConfigRequest>) -> Result<Response<SetConfigResponse>, Status> {
        self.admission.admit(request.metadata(), Role::Write)?;
        let source = source_of(request.metadata());
        let SetConfigRequest { updates, overwrite_all } = request.into_inner();
        let changes = updates.into_iter().map(change_of).collect::<Result<Vec<_>, _>>()?;
        let keys: Vec<Key> = changes.iter().map(|(key, _)| key.clone()).collect();
        let request = ClientRequest {
            replace: overwrite_all,
            description: "gRPC SetConfig".to_owned(),
            ..ClientRequest::of(source, changes)
        };
        let result = commit(&self.api, request).await?;
        let extract = values(&self.api, Scope::Exactly(keys.clone())).await?;
        let mut results: Vec<UpdateResult> = keys
            .iter()
            .map(|key| UpdateResult {
                key: key.to_string(),
                status: Some(status_of(&extract, key)),
                ..UpdateResult::default()
            })
            .collect();
        // Clients of ligato vpp-agent expect the transaction number in an additional result.
        results.extend(result.map(|result| UpdateResult {
            key: "seqnum".to_owned(),
            status: Some(ItemStatus {
                status: "NONEXISTENT".to_owned(),
                message: result.seq.to_string(),
            }),
            ..UpdateResult::default()
        }));
        Ok(Response::new(SetConfigResponse { results }))
    }

    async fn get_config(&self, request: Request<GetConfigRequest>) -> Result<Response<GetConfigResponse>, Status> {
        let GetConfigRequest { ids, labels } = request.into_inner();
        if !ids.is_empty() && !labels.is_empty() {
            return Err(Status::invalid_argument("both fields of the request are not nil!"));
        }
        let desired = self.api.desired.items().into_iter();
        let desired = desired.filter(|item| is_named(&ids, &item.key) && has_labels(&item.labels, &labels));
        let desired: Vec<DesiredItem> = desired.collect();
        let keys = desired.iter().map(|item| item.key.clone()).collect();
        let extract = values(&self.api, Scope::Exactly(keys)).await?;
        let made = run_in_background(move || {
            let items = desired.into_iter().filter_map(|DesiredItem { key, model, labels, .. }| {
                Some(ConfigItem {
                    item: Some(item_of(&key, &model?)),
                    status: Some(status_of(&extract, &key)),
                    labels: labels.into_iter().collect(),
                })
            });
            GetConfigResponse { items: items.collect() }
        });
        Ok(Response::new(made.await.map_err(|error| Status::internal(error.to_string()))?))
    }

    async fn dump_state(&self, request: Request<DumpStateRequest>) -> Result<Response<DumpStateResponse>, Status> {
        let ids = request.into_inner().ids;
        let extract = values(&self.api, Scope::Values).await?;
        let made = run_in_background(move || {
            let present = extract
                .values()
                .iter()
                .filter(|value| value.available && is_named(&ids, &value.key));
            let items = present.filter_map(|value| {
                let info = model_of_key(value.key.as_str())?;
                let model = match message_of(value.applied.as_ref()?)? {
                    Message::Interface(message) => Model::from(*message),
                    Message::Arp(message) => Model::from(message),
                    Message::Route(message) => Model::from(message),
                    Message::Empty => return None,
                };
                (model.info() == info).then(|| StateItem {
                    item: Some(item_of(&value.key, &model)),
                    metadata: HashMap::new(),
                })
            });
            DumpStateResponse { items: items.collect() }
        });
        Ok(Response::new(made.await.map_err(|error| Status::internal(error.to_string()))?))
    }

    /// Sends the current states, followed by changes. A slow client receives only the latest state of each value.
    async fn subscribe(&self, request: Request<SubscribeRequest>) -> Result<Response<Self::SubscribeStream>, Status> {
        let subscriptions = request.into_inner().subscriptions;
        let ids: Vec<Id> = subscriptions.into_iter().filter_map(|subscription| subscription.id).collect();
        let following = Following {
            watcher: self.api.statuses.watch(selector(&ids)?),
            stopped: self.stopped.clone(),
            ids,
            next_check: Instant::now(),
        };
        // Take updates from the watcher only after the client has taken the previous ones.
        let reported = stream::unfold(following, |mut following| async move {
            let notifications = following.next().await?;
            Some((Ok(SubscribeResponse { notifications }), following))
        });
        Ok(Response::new(Box::pin(reported)))
    }
}

/// Subscription of one client.
struct Following {
    watcher: Watcher<Arc<Published>>,
    stopped: watch::Receiver<bool>,
    ids: Vec<Id>,
    next_check: Instant,
}

impl Following {
    /// Returns the next changes of the selected values, or `None` if the server stops.
    async fn next(&mut self) -> Option<Vec<Notification>> {
        loop {
            let look = async {
                sleep_until(self.next_check).await;
                self.watcher.next().await
            };
            let news = tokio::select! {
                news = look => news?,
                _ = self.stopped.wait_for(|stop| *stop) => return None,
            };
            self.next_check = Instant::now() + PACE;
            let reported = news.items.iter();
            let reported = reported.filter_map(|(key, published)| notification(&self.ids, key, published.as_deref()));
            let notifications: Vec<Notification> = reported.collect();
            if !notifications.is_empty() {
                return Some(notifications);
            }
        }
    }
}

/// Returns a selector for the statuses of the items with these ids, or of all items if there are no ids.
// `Status` is a large error type, but tonic requires it.
#[allow(clippy::result_large_err)]
fn selector(ids: &[Id]) -> Result<Selector, Status> {
    let status_of = |id: &Id| key_of(id).map(|key| key.as_str().replacen(CONFIG, CONFIG_STATUS, 1));
    let keys = ids.iter().map(status_of).collect::<Result<Vec<String>, _>>()?;
    Ok(if ids.is_empty() {
        Selector::Prefixes(vec![CONFIG_STATUS.to_owned()])
    } else if ids.iter().all(|id| !id.name.is_empty()) {
        Selector::Keys(keys.into_iter().map(Key::from).collect())
    } else {
        Selector::Prefixes(keys)
    })
}

fn notification(ids: &[Id], key: &Key, published: Option<&Published>) -> Option<Notification> {
    let key = Key::from(key.as_str().replacen(CONFIG_STATUS, CONFIG, 1));
    if !is_named(ids, &key) {
        return None;
    }
    let status = match published {
        None => ItemStatus {
            status: StateMessage::Removed.as_str_name().to_owned(),
            message: String::new(),
        },
        Some(Published::Value(status)) => ItemStatus {
            status: status.state().as_str_name().to_owned(),
            message: match status.error.is_empty() {
                true => status.details.join(", "),
                false => status.error.clone(),
            },
        },
        Some(_) => return None,
    };
    let item = models::proto::ligato::generic::Item {
        id: Some(id_of(&key)?),
        data: None,
    };
    Some(Notification {
        item: Some(item),
        status: Some(status),
    })
}

/// Returns whether the labels of a value match the requested ones.
///
/// `k: v` requires the label `k` with the value `v`, or with any value if `v` is empty. `!k: v` requires that `k: v` does not
/// match.
fn has_labels(labels: &Labels, desired: &HashMap<String, String>) -> bool {
    desired.iter().all(|(name, value)| {
        let has = |name: &str| labels.get(name).is_some_and(|has| value.is_empty() || has == value);
        match name.strip_prefix('!') {
            Some(name) => !has(name),
            None => has(name),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_can_be_required_and_excluded() {
        let labels = Labels::from([("env".to_owned(), "test".to_owned())]);
        for (name, value, fits) in [
            ("env", "test", true),
            ("env", "", true),
            ("env", "live", false),
            ("other", "", false),
            ("!env", "", false),
            ("!env", "test", false),
            ("!env", "live", true),
            ("!other", "", true),
        ] {
            let desired = HashMap::from([(name.to_owned(), value.to_owned())]);
            assert_eq!(has_labels(&labels, &desired), fits, "{name}: {value:?}");
        }
    }
}
