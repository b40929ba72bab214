//! What every desired value has besides what it asks of the kernel, and the general form of desired and applied values.
//!
//! Owns the difference between the two: an applied value is what is there, and only remembers the desired version that it was applied as.
//! Must never know what a value asks for. Start reading at [`Desired`] and [`Applied`].

use std::sync::Arc;

use models::Model;
use prost::Message;

/// What is done about a value that somebody else changed or removed in the kernel.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum DriftPolicy {
    /// It is made again as it is wanted.
    #[default]
    Repair,
    /// It is left as it is, and its status says so.
    Report,
}

/// Message that a value was made from, in binary form, so that people and clients see the value as it was written. It does not take part
/// in comparisons: two spellings of one value are equal.
#[derive(Clone, Default)]
pub struct Original(Option<Arc<[u8]>>);

impl Original {
    /// Remembers a model.
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

/// How the agent is to treat what is desired; nothing that a kernel has.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Terms {
    /// Something foreign in the way is to be taken over.
    pub adopt: bool,
    /// What is done about drift; `None`: as the agent was told.
    pub drift_policy: Option<DriftPolicy>,
    /// Message that the value was made from.
    pub original: Original,
}

/// A neighbour or a route as it is desired.
#[derive(Clone, PartialEq, Debug)]
pub struct Desired<T> {
    /// What is asked for.
    pub value: T,
    /// How to treat it.
    pub terms: Terms,
}

/// A neighbour or a route as the agent last knew it in the kernel.
#[derive(Clone, PartialEq, Debug)]
pub struct Applied<T> {
    form: Form<T>,
    /// It was somebody else's before, as far as is remembered.
    pub adopted: bool,
}

/// As what a value is there.
#[derive(Clone, PartialEq, Debug)]
enum Form<T> {
    /// As this version asks.
    Desired(Arc<Desired<T>>),
    /// As it was found, in place of a desired version if one is known.
    Found(Arc<T>, Option<Arc<Desired<T>>>),
}

impl<T: PartialEq + Clone> Applied<T> {
    /// A desired value after it was applied, perhaps in place of a former one.
    pub fn of(desired: &Arc<Desired<T>>, former: Option<&Self>) -> Self {
        Applied {
            form: Form::Desired(desired.clone()),
            adopted: former.is_some_and(|former| former.adopted),
        }
    }

    /// A value that was found, and of which no usable desired version is known.
    pub fn unasked(value: T) -> Self {
        Applied {
            form: Form::Found(value.into(), None),
            adopted: false,
        }
    }

    /// The same value, found as it is now.
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

    /// As it is there.
    pub fn value(&self) -> &T {
        match &self.form {
            Form::Desired(desired) => &desired.value,
            Form::Found(value, _) => value,
        }
    }

    /// The desired version that it was applied as, if one is known.
    pub fn desired(&self) -> Option<&Arc<Desired<T>>> {
        match &self.form {
            Form::Desired(desired) => Some(desired),
            Form::Found(_, desired) => desired.as_ref(),
        }
    }

    /// The desired version that it is as.
    pub fn as_desired(&self) -> Option<&Desired<T>> {
        match &self.form {
            Form::Desired(desired) => Some(desired),
            Form::Found(..) => None,
        }
    }
}
