//! Options for the handling of desired values, and generic types for desired and applied neighbours and routes.
//!
//! An applied value describes the object in the kernel and keeps the desired version that was applied.

use std::sync::Arc;

use models::Model;
use prost::Message;

/// Reaction of the agent when others change or delete a value in the kernel.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum DriftPolicy {
    /// The agent restores the desired state.
    #[default]
    Repair,
    /// The agent changes nothing, but reports the difference in the status.
    Report,
}

/// Protobuf encoding of the message from which a value was converted. It allows clients to see the value as it was written.
///
/// Comparisons ignore the message, so two spellings of the same value are equal.
#[derive(Clone, Default)]
pub struct Original(Option<Arc<[u8]>>);

impl Original {
    /// Encodes a model.
    pub fn of(model: &Model) -> Self {
        Original(Some(model.to_protobuf().into()))
    }

    /// Returns the protobuf encoding of the message, or `None` if the value was not converted from a message.
    pub fn bytes(&self) -> Option<&Arc<[u8]>> {
        self.0.as_ref()
    }

    /// Decodes the message. Returns `None` if the value was not converted from a message of this type.
    pub fn message<M: Message + Default>(&self) -> Option<M> {
        M::decode(self.0.as_deref()?).ok()
    }
}

impl PartialEq for Original {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Original {}

impl std::fmt::Debug for Original {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Original")
    }
}

/// Options for the handling of a desired value. They are not part of the kernel state.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Terms {
    /// True if the agent adopts an existing foreign object instead of creating a new one.
    pub adopt: bool,
    /// Reaction to drift; `None` for the drift policy of the agent.
    pub drift_policy: Option<DriftPolicy>,
    /// Message from which the value was converted.
    pub original: Original,
}

/// Desired neighbour or route.
#[derive(Clone, PartialEq, Debug)]
pub struct Desired<T> {
    /// Desired neighbour or route, without its terms.
    pub value: T,
    /// Options for the handling of the value.
    pub terms: Terms,
}

/// Applied neighbour or route: the last known state in the kernel.
#[derive(Clone, PartialEq, Debug)]
pub struct Applied<T> {
    form: Form<T>,
    /// True if the object is known to have been adopted.
    pub adopted: bool,
}

/// State of an applied value.
#[derive(Clone, PartialEq, Debug)]
enum Form<T> {
    /// The object equals this desired version.
    Desired(Arc<Desired<T>>),
    /// The object differs from the desired version that was applied. Contains the observed state, and that desired version if it
    /// is known.
    Found(Arc<T>, Option<Arc<Desired<T>>>),
}

impl<T: PartialEq + Clone> Applied<T> {
    /// Returns the applied state of a desired value that has just been applied.
    ///
    /// `former` is the previous applied value, if there was one.
    pub fn of(desired: &Arc<Desired<T>>, former: Option<&Self>) -> Self {
        Applied {
            form: Form::Desired(desired.clone()),
            adopted: former.is_some_and(|former| former.adopted),
        }
    }

    /// Returns the applied state of an observed value for which no valid desired version is known.
    pub fn unasked(value: T) -> Self {
        Applied {
            form: Form::Found(value.into(), None),
            adopted: false,
        }
    }

    /// Returns a copy of the applied value with a newly observed state.
    pub fn found(&self, value: T) -> Self {
        let form = match self.desired() {
            Some(desired) if desired.value == value => Form::Desired(desired.clone()),
            desired => Form::Found(value.into(), desired.cloned()),
        };
        Applied {
            form,
            adopted: self.adopted,
        }
    }

    /// Returns the state of the object in the kernel.
    pub fn value(&self) -> &T {
        match &self.form {
            Form::Desired(desired) => &desired.value,
            Form::Found(value, _) => value,
        }
    }

    /// Returns the desired version that was applied, if one is known.
    pub fn desired(&self) -> Option<&Arc<Desired<T>>> {
        match &self.form {
            Form::Desired(desired) => Some(desired),
            Form::Found(_, desired) => desired.as_ref(),
        }
    }

    /// Returns the desired version, if the object in the kernel equals it.
    pub fn as_desired(&self) -> Option<&Desired<T>> {
        match &self.form {
            Form::Desired(desired) => Some(desired),
            Form::Found(..) => None,
        }
    }
}
