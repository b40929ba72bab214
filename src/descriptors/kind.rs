//! Typed descriptors. They allow the implementation of each kind of value to use its own Rust types.
//!
//! [`Typed`] converts between these types and scheduler values. A value of the wrong kind is reported as a defect, because it could
//! otherwise be mistaken for a value that needs no operation.

use models::key::Key;

use super::{Effect, Network, value::Value};
use crate::{
    scheduler::{Claim, Comparison, DeleteCause, Dependency, Descriptor, Difference, Place, Refusal, Taken, Verb, View},
    telemetry::defect,
};

/// Kind of value. [`Typed`] turns it into a [`Descriptor`], which documents the methods.
pub trait Kind: Send + Sync {
    /// Type of desired values.
    type Desired: 'static;
    /// Type of applied values, which describe objects in the kernel.
    type Applied: 'static;
    /// Properties that desired and applied values have in common, for code that accepts either.
    type Common<'a>;

    /// Stable name of the descriptor, as in ligato vpp-agent (for example `linux-interface`).
    const NAME: &'static str;

    /// Returns the desired value contained in a scheduler value, if it is of this kind.
    fn desired(value: &Value) -> Option<&Self::Desired>;

    /// Returns the applied value contained in a scheduler value, if it is of this kind.
    fn applied(value: &Value) -> Option<&Self::Applied>;

    /// Returns the common properties of a desired or applied scheduler value, if it is of this kind.
    fn common(value: &Value) -> Option<Self::Common<'_>>;

    /// Wraps an applied value in a scheduler value.
    fn value(applied: Self::Applied) -> Value;

    /// See [`Descriptor::label`].
    fn label(&self, key: &Key) -> String {
        key.to_string()
    }

    /// See [`Descriptor::compare`].
    fn compare(&self, applied: &Self::Applied, desired: &Self::Desired) -> Comparison;

    /// See [`Descriptor::as_applied`].
    fn as_applied(&self, former: Option<&Self::Applied>, desired: &Self::Desired) -> Self::Applied;

    /// See [`Descriptor::dependencies`].
    fn dependencies(&self, _value: Self::Common<'_>) -> Vec<Dependency> {
        Vec::new()
    }

    /// See [`Descriptor::place`].
    fn place(&self, _key: &Key, _value: Self::Common<'_>) -> Option<Place> {
        None
    }

    /// See [`Descriptor::derived`].
    fn derived(&self, _value: Self::Common<'_>) -> Vec<(Key, Value)> {
        Vec::new()
    }

    /// See [`Descriptor::implied`].
    fn implied(&self, _value: Self::Common<'_>) -> Vec<(Key, Value)> {
        Vec::new()
    }

    /// See [`Descriptor::claims`].
    fn claims(&self, _value: Self::Common<'_>, _view: &View<'_, Network>) -> Vec<Claim> {
        Vec::new()
    }

    /// See [`Descriptor::claims_may_be_held`].
    fn claims_may_be_held(&self, _desired: &Self::Desired, _view: &View<'_, Network>) -> bool {
        false
    }

    /// See [`Descriptor::create`].
    ///
    /// # Errors
    /// Fails if the value conflicts with another value.
    fn create(&self, desired: &Self::Desired, view: &View<'_, Network>) -> Result<Effect, Refusal>;

    /// See [`Descriptor::co_creates`].
    fn co_creates(&self, _desired: &Self::Desired, _view: &View<'_, Network>) -> Vec<(Key, Value)> {
        Vec::new()
    }

    /// See [`Descriptor::recover`].
    fn recover(&self, _attempted: &Self::Applied, _view: &View<'_, Network>) -> Effect {
        Effect::Noop("a single request creates the object, so a failed creation leaves nothing behind")
    }

    /// See [`Descriptor::recovers_alike`].
    fn recovers_alike(&self, _attempted: &Self::Applied, _desired: &Self::Desired) -> bool {
        true
    }

    /// See [`Descriptor::update`].
    ///
    /// # Errors
    /// Fails if the value conflicts with another value.
    fn update(&self, _applied: &Self::Applied, _desired: &Self::Desired, _view: &View<'_, Network>) -> Result<Effect, Refusal> {
        Ok(Effect::Impossible(format!("{} values cannot be changed in place", Self::NAME)))
    }

    /// See [`Descriptor::delete`].
    fn delete(&self, applied: &Self::Applied, cause: DeleteCause, view: &View<'_, Network>) -> Effect;

    /// See [`Descriptor::takes_along`].
    fn takes_along(&self, _key: &Key, _value: &Self::Applied, _verb: Verb, _view: &View<'_, Network>) -> Taken {
        Taken::NOTHING
    }

    /// See [`Descriptor::verify`].
    fn verify(&self, _applied: &Self::Applied) -> Effect {
        Effect::Noop("the agent must read the namespace to determine whether the object exists")
    }

    /// See [`Descriptor::stale`].
    fn stale(&self, _applied: &Self::Applied, _view: &View<'_, Network>) -> bool {
        false
    }
}

/// Implements members of [`Kind`] for a kind that uses one type and one variant of [`Value`] for desired and applied values.
macro_rules! of_one_type {
    ($variant:ident, $type:ty) => {
        type Desired = $type;
        type Applied = $type;
        type Common<'a> = &'a $type;

        fn desired(value: &Value) -> Option<&$type> {
            match value {
                Value::$variant(value) => Some(value),
                _ => None,
            }
        }

        fn applied(value: &Value) -> Option<&$type> {
            Self::desired(value)
        }

        fn common(value: &Value) -> Option<&$type> {
            Self::desired(value)
        }

        fn value(applied: $type) -> Value {
            Value::$variant(applied)
        }

        /// An applied value of this kind has the same contents as the desired value.
        fn as_applied(&self, _: Option<&$type>, desired: &$type) -> $type {
            desired.clone()
        }
    };
}
pub(super) use of_one_type;

/// Implements members of [`Kind`] for a kind that uses different types and variants of [`Value`] for desired and applied values.
/// A method of [`Value`] returns the properties that desired and applied values have in common.
macro_rules! of_two_types {
    ($desired:ident($desired_type:ty), $applied:ident($applied_type:ty), $common:ident($common_type:ty)) => {
        type Desired = $desired_type;
        type Applied = $applied_type;
        type Common<'a> = &'a $common_type;

        fn desired(value: &Value) -> Option<&$desired_type> {
            match value {
                Value::$desired(desired) => Some(desired),
                _ => None,
            }
        }

        fn applied(value: &Value) -> Option<&$applied_type> {
            match value {
                Value::$applied(applied) => Some(applied),
                _ => None,
            }
        }

        fn common(value: &Value) -> Option<&$common_type> {
            value.$common()
        }

        fn value(applied: $applied_type) -> Value {
            Value::$applied(applied)
        }
    };
}
pub(super) use of_two_types;

/// Descriptor that is implemented by a [`Kind`].
#[derive(Clone)]
pub struct Typed<K>(pub K);

impl<K: Kind> Typed<K> {
    fn is_not(key: &Key, value: &Value) -> String {
        format!("the value of {key} is not of kind {}: {value:?}", K::NAME)
    }

    /// Extracts a value of this kind, for methods that cannot return an error. A value of the wrong kind is reported as a defect.
    fn expected<'a, T>(key: &Key, value: &'a Value, of_kind: impl FnOnce(&'a Value) -> Option<T>) -> Option<T> {
        let found = of_kind(value);
        if found.is_none() {
            defect(&Self::is_not(key, value));
        }
        found
    }

    fn common<'a>(key: &Key, value: &'a Value) -> Option<K::Common<'a>> {
        Self::expected(key, value, K::common)
    }

    fn applied<'a>(key: &Key, value: &'a Value) -> Option<&'a K::Applied> {
        Self::expected(key, value, K::applied)
    }

    fn impossible(key: &Key, value: &Value) -> Effect {
        Effect::Impossible(Self::is_not(key, value))
    }
}

impl<K: Kind> Descriptor<Network> for Typed<K> {
    fn name(&self) -> &'static str {
        K::NAME
    }

    fn label(&self, key: &Key) -> String {
        self.0.label(key)
    }

    fn compare(&self, key: &Key, applied: &Value, desired: &Value) -> Comparison {
        match (Self::applied(key, applied), Self::expected(key, desired, K::desired)) {
            (Some(applied), Some(desired)) => self.0.compare(applied, desired),
            _ => Difference::again("the value is of another kind").into(),
        }
    }

    fn as_applied(&self, key: &Key, former: Option<&Value>, desired: &Value) -> Value {
        let former = former.and_then(|former| Self::applied(key, former));
        match Self::expected(key, desired, K::desired) {
            Some(desired) => K::value(self.0.as_applied(former, desired)),
            None => desired.clone(),
        }
    }

    fn dependencies(&self, key: &Key, value: &Value) -> Vec<Dependency> {
        let value = Self::common(key, value);
        value.map(|value| self.0.dependencies(value)).unwrap_or_default()
    }

    fn place(&self, key: &Key, value: &Value) -> Option<Place> {
        self.0.place(key, Self::common(key, value)?)
    }

    fn derived(&self, key: &Key, value: &Value) -> Vec<(Key, Value)> {
        let value = Self::common(key, value);
        value.map(|value| self.0.derived(value)).unwrap_or_default()
    }

    fn implied(&self, key: &Key, value: &Value) -> Vec<(Key, Value)> {
        let value = Self::common(key, value);
        value.map(|value| self.0.implied(value)).unwrap_or_default()
    }

    fn claims(&self, key: &Key, value: &Value, view: &View<'_, Network>) -> Vec<Claim> {
        let value = Self::common(key, value);
        value.map(|value| self.0.claims(value, view)).unwrap_or_default()
    }

    fn claims_may_be_held(&self, key: &Key, value: &Value, view: &View<'_, Network>) -> bool {
        let desired = Self::expected(key, value, K::desired);
        desired.is_some_and(|desired| self.0.claims_may_be_held(desired, view))
    }

    fn create(&self, key: &Key, value: &Value, view: &View<'_, Network>) -> Result<Effect, Refusal> {
        match K::desired(value) {
            Some(desired) => self.0.create(desired, view),
            None => Ok(Self::impossible(key, value)),
        }
    }

    fn co_creates(&self, key: &Key, value: &Value, view: &View<'_, Network>) -> Vec<(Key, Value)> {
        let desired = Self::expected(key, value, K::desired);
        desired.map(|desired| self.0.co_creates(desired, view)).unwrap_or_default()
    }

    fn recover(&self, key: &Key, value: &Value, view: &View<'_, Network>) -> Effect {
        match K::applied(value) {
            Some(attempted) => self.0.recover(attempted, view),
            None => Self::impossible(key, value),
        }
    }

    fn recovers_alike(&self, attempted: &Value, desired: &Value) -> bool {
        let both = K::applied(attempted).zip(K::desired(desired));
        both.is_some_and(|(attempted, desired)| self.0.recovers_alike(attempted, desired))
    }

    fn update(&self, key: &Key, applied: &Value, desired: &Value, view: &View<'_, Network>) -> Result<Effect, Refusal> {
        match (K::applied(applied), K::desired(desired)) {
            (Some(applied), Some(desired)) => self.0.update(applied, desired, view),
            (None, _) => Ok(Self::impossible(key, applied)),
            (_, None) => Ok(Self::impossible(key, desired)),
        }
    }

    fn delete(&self, key: &Key, applied: &Value, cause: DeleteCause, view: &View<'_, Network>) -> Effect {
        match K::applied(applied) {
            Some(applied) => self.0.delete(applied, cause, view),
            None => Self::impossible(key, applied),
        }
    }

    fn takes_along(&self, key: &Key, value: &Value, verb: Verb, view: &View<'_, Network>) -> Taken {
        let applied = Self::applied(key, value);
        applied.map_or(Taken::NOTHING, |applied| self.0.takes_along(key, applied, verb, view))
    }

    fn verify(&self, key: &Key, applied: &Value) -> Effect {
        match K::applied(applied) {
            Some(applied) => self.0.verify(applied),
            None => Self::impossible(key, applied),
        }
    }

    fn stale(&self, key: &Key, applied: &Value, view: &View<'_, Network>) -> bool {
        Self::applied(key, applied).is_some_and(|applied| self.0.stale(applied, view))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{descriptors::value::NamespaceName, scheduler::Scheduler};

    fn wrong() -> (Key, Value) {
        (Key::new("config/linux/l3/v2/arp/a/10.1.0.9"), Value::Present)
    }

    #[test]
    fn value_of_another_kind_gets_only_impossible_effects() {
        let network = Network::new("test");
        let scheduler = Scheduler::new(network.clone());
        let view = scheduler.view();
        let keys = [
            "config/linux/interfaces/v2/interface/a",
            "config/linux/l3/v2/arp/a/10.1.0.9",
            "config/linux/l3/v2/route/10.1.0.0/16/a",
            "linux/interface/a/address/static/10.1.0.1/24",
            "linux/address-detection/a/fd00::1/64",
            "linux/interface/a/vrf/b",
            "linux/interface/a//vlan/7",
            "linux/orphan/1/link/a",
            NamespaceName::Named("red".to_owned()).key().as_str(),
        ]
        .map(Key::new);
        for key in keys {
            let descriptor = crate::scheduler::Domain::descriptor(&network, &key).expect("key has a descriptor");
            let effects = [
                descriptor.create(&key, &Value::Present, &view).expect("no refusal"),
                descriptor
                    .update(&key, &Value::Present, &Value::Present, &view)
                    .expect("no refusal"),
                descriptor.delete(&key, &Value::Present, DeleteCause::Unwanted, &view),
                descriptor.recover(&key, &Value::Present, &view),
                descriptor.verify(&key, &Value::Present),
            ];
            for effect in effects {
                assert!(matches!(effect, Effect::Impossible(_)), "{key}: {effect:?}");
            }
        }
    }

    #[test]
    #[should_panic(expected = "defect")]
    fn dependencies_of_a_value_of_another_kind_are_a_defect() {
        let network = Network::new("test");
        let (key, value) = wrong();
        if let Some(descriptor) = crate::scheduler::Domain::descriptor(&network, &key) {
            descriptor.dependencies(&key, &value);
        }
    }
}
