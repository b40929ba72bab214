//! Converts values and their states to and from the messages of the generic API.

use models::{
    Model,
    key::Key,
    model::key_of_item,
    proto::ligato::generic::{Data, Item, ItemStatus, UpdateItem, data::Union, item::Id},
    registry::{MODELS, model_by_name, model_of_key},
};
use tonic::Status;

use crate::scheduler::{
    TransactionResult,
    history::extract::{Extract, Scope},
};
use crate::{
    api::{Api, Known},
    descriptors::Network,
    desired::{ClientRequest, Committed, RequestError},
    engine::CommitError,
    sources::clients::{ClientItem, any_of},
};

/// Returns the change that an item requests: a new value, or the deletion of a key.
#[allow(clippy::result_large_err, reason = "tonic requires this type")]
pub(super) fn change_of(update: UpdateItem) -> Result<(Key, Option<ClientItem>), Status> {
    let item = update.item.ok_or_else(|| Status::invalid_argument("change item is nil"))?;
    if let Some(Union::Any(any)) = item.data.and_then(|data| data.union) {
        let name = any.type_url.rsplit('/').next().unwrap_or_default();
        let info = MODELS.iter().find(|model| model.proto_name == name);
        let info =
            info.ok_or_else(|| Status::invalid_argument(format!("no model has the message {name:?}; KnownModels lists all models")))?;
        if let Some(id) = item.id.filter(|id| !id.model.is_empty() && id.model != info.name) {
            let message = format!(
                "the item names model {:?}, but contains a {name}, which belongs to model {:?}",
                id.model, info.name
            );
            return Err(Status::invalid_argument(message));
        }
        let model = Model::from_protobuf(info.kind, &any.value)
            .map_err(|error| Status::invalid_argument(format!("cannot decode {name}: {}", error.message)))?;
        let labels = update.labels.into_iter().collect();
        return Ok((model.key(), Some(ClientItem { model, labels })));
    }
    match item.id {
        Some(id) => Ok((key_of(&id)?, None)),
        None => Err(Status::invalid_argument("ProtoItem has no key or val defined.")),
    }
}

/// Returns the key of the item with this id. Fails if the model is unknown.
#[allow(clippy::result_large_err, reason = "tonic requires this type")]
pub(super) fn key_of(id: &Id) -> Result<Key, Status> {
    let unknown = || Status::invalid_argument(format!("unknown model {:?}; KnownModels lists all models", id.model));
    key_of_item(&id.model, &id.name).ok_or_else(unknown)
}

/// Returns the id of the item with this key, or `None` if the key belongs to no model.
pub(super) fn id_of(key: &Key) -> Option<Id> {
    let info = model_of_key(key.as_str())?;
    Some(Id {
        model: info.name.to_owned(),
        name: key.as_str().strip_prefix(info.key_prefix)?.to_owned(),
    })
}

/// Creates an item from a value.
pub(super) fn item_of(key: &Key, model: &Model) -> Item {
    Item {
        id: id_of(key),
        data: Some(Data {
            union: Some(Union::Any(any_of(model))),
        }),
    }
}

/// Returns whether the ids select the item with this key.
///
/// An empty list selects all items. An id without a name selects all items of its model.
pub(super) fn is_named(ids: &[Id], key: &Key) -> bool {
    let matches = |id: &Id| {
        let Some(info) = model_by_name(&id.model) else { return false };
        key.as_str()
            .strip_prefix(info.key_prefix)
            .is_some_and(|name| id.name.is_empty() || id.name == name)
    };
    ids.is_empty() || ids.iter().any(matches)
}

/// Returns the status of a value. As in ligato vpp-agent, the message contains the error or the details.
pub(super) fn status_of(extract: &Extract<Network>, key: &Key) -> ItemStatus {
    match extract.value(key).and_then(|value| value.status.as_ref()) {
        None => ItemStatus {
            status: "NONEXISTENT".to_owned(),
            message: String::new(),
        },
        Some(status) => ItemStatus {
            status: status.state.text().to_owned(),
            message: match status.error.is_empty() {
                true => status.details.join(", "),
                false => status.error.clone(),
            },
        },
    }
}

/// Returns a copy of the values in this scope. Fails if the agent is stopping.
pub(super) async fn values(api: &Api, scope: Scope) -> Result<Known, Status> {
    api.extract(scope).await.ok_or_else(stopping)
}

/// Commits a client request.
///
/// # Errors
/// Fails if the request is rejected or a value fails. If a value fails, the agent has still accepted the request, and retries the
/// value.
pub(super) async fn commit(api: &Api, request: ClientRequest) -> Result<Option<TransactionResult>, Status> {
    match api.desired.commit(request).await {
        Ok(Committed::Kept) => Ok(None),
        Ok(Committed::Applied(result) | Committed::Unconfirmed(result)) if result.errors.is_empty() => Ok(Some(result)),
        Ok(Committed::Applied(result) | Committed::Unconfirmed(result)) => Err(Status::failed_precondition(result.to_string())),
        Err(RequestError::NotCommitted(CommitError::Closed)) => Err(stopping()),
        Err(RequestError::ReservedSource(name)) => Err(Status::invalid_argument(RequestError::ReservedSource(name).to_string())),
        Err(error) => Err(Status::internal(error.to_string())),
    }
}

/// Returns the gRPC status for an agent that is stopping.
pub(super) fn stopping() -> Status {
    Status::unavailable("the agent is stopping; try again when it is running")
}
