//! Terms of desired values, and the general form of desired and applied values.
//!
//! An applied value describes the object in the kernel, and remembers the desired version that it was applied as.

use std::sync::Arc;

use models::Model;
use prost::Message;

/// Reaction to a value that others changed or deleted in the kernel.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum DriftPolicy {
    /// The agent restores the desired state.
    #[default]
    Repair,
    /// The agent changes nothing and reports the difference in the status.
    Report,
}

/// Message from which a value was made, in binary form, so that clients see the value as it was written.
///
/// It does not take part in comparisons: two spellings of one value are equal.
#[derive(Clone, Default)]
pub struct Original(Option<Arc<[u8]>>);

impl Original {
    /// Encodes a model.
    pub fn of(model: &Model) -> Self {
        Original(Some(model.to_protobuf().into()))
    }

    /// Returns the message in binary form, if the value was made from one.
    pub fn bytes(&self) -> Option<&Arc<[u8]>> {
        self.0.as_ref()
    }

    /// Returns the message, if the value was made from one of this type.
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

/// Rules by which the agent treats a desired value. They are not part of the kernel state.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Terms {
    /// The agent takes over a foreign object that has the place of the value.
    pub adopt: bool,
    /// Reaction to drift; `None`: as configured for the agent.
    pub drift_policy: Option<DriftPolicy>,
    /// Message from which the value was made.
    pub original: Original,
}

/// Desired neighbour or route.
#[derive(Clone, PartialEq, Debug)]
pub struct Desired<T> {
    /// The value itself.
    pub value: T,
    /// How the agent treats it.
    pub terms: Terms,
}

/// Applied neighbour or route: the last known state in the kernel.
#[derive(Clone, PartialEq, Debug)]
pub struct Applied<T> {
    form: Form<T>,
    /// The object was adopted from others, as far as the agent remembers.
    pub adopted: bool,
}

/// State of an applied value.
#[derive(Clone, PartialEq, Debug)]
enum Form<T> {
    /// As desired by this version.
    Desired(Arc<Desired<T>>),
    /// As observed, with the desired version that it replaces if one is known.
    Found(Arc<T>, Option<Arc<Desired<T>>>),
}

impl<T: PartialEq + Clone> Applied<T> {
    /// Returns the applied state of a value that was just applied.
    ///
    /// `former`: the applied value before, if there was one.
    pub fn of(desired: &Arc<Desired<T>>, former: Option<&Self>) -> Self {
        Applied {
            form: Form::Desired(desired.clone()),
            adopted: former.is_some_and(|former| former.adopted),
        }
    }

    /// Returns the applied state of an observed value for which no usable desired version is known.
    pub fn unasked(value: T) -> Self {
        Applied {
            form: Form::Found(value.into(), None),
            adopted: false,
        }
    }

    /// Returns the same applied value with the state that was observed now.
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

    /// Returns the value as it is in the kernel.
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

    /// Returns the desired version, if the value equals it.
    pub fn as_desired(&self) -> Option<&Desired<T>> {
        match &self.form {
            Form::Desired(desired) => Some(desired),
            Form::Found(..) => None,
        }
    }
}
