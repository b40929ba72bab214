//! The descriptor contract: everything the scheduler needs to know about a kind of value.
//!
//! # Flow
//! [`Descriptor::compare`] decides whether a value needs [`Descriptor::create`], [`Descriptor::update`] or [`Descriptor::delete`].
//! All three are pure: they return an [`Effect`], the engine performs it, and the outcome is passed back to the scheduler.
//!
//! # Guarantees
//! `create` is called only while every dependency is available and no other value holds any of the claims. `delete` is called only
//! after all dependents and all derived values have been deleted.
//!
//! # Assumptions
//! Every method is a pure function of its arguments.
//!
//! # Caveats
//! After a failed `create`, part of the object may exist. The next attempt starts with the effect of [`Descriptor::recover`].
//! Until then, the dependencies of the failed attempt are not deleted.

use std::{borrow::Borrow, fmt, hash::Hash, ops::Deref, sync::Arc};

use super::{comparison::Comparison, effect::Effect, explanation::Suggestion, status::Verb, view::View};

/// Name of a value. Keys are ordered, compared and hashed by their text.
///
/// Implemented for every type that meets the bounds, such as `String`.
pub trait Key: Clone + Ord + Hash + fmt::Debug + fmt::Display + Borrow<str> + 'static {
    /// Returns the text of the key.
    fn text(&self) -> &str {
        self.borrow()
    }
}

impl<K: Clone + Ord + Hash + fmt::Debug + fmt::Display + Borrow<str> + 'static> Key for K {}

/// The key, value and operation types of a scheduler, and the lookup of its descriptors.
pub trait Domain: Sized + Clone + 'static {
    /// Name of a value. A dependency can refer to all keys with a common prefix.
    type Key: Key;
    /// Desired or applied value. Must be cheap to clone.
    type Value: Clone + fmt::Debug + Send;
    /// One step of an effect, performed by the caller.
    type Operation: Clone + fmt::Debug;

    /// Returns the descriptor that handles the value under `key`.
    ///
    /// Returns `None` for properties, facts and unknown kinds, which have no descriptor.
    fn descriptor(&self, key: &Self::Key) -> Option<&dyn Descriptor<Self>>;

    /// Returns whether `key` is a fact that may be reported late.
    ///
    /// Until [`super::Scheduler::complete_facts`] is called, a missing late fact does not cause the deletion of a value that was
    /// observed in the kernel.
    fn is_late_fact(&self, _key: &Self::Key) -> bool {
        false
    }

    /// Predicts the value that will be applied if an operation succeeds (see [`super::Scheduler::simulate`]).
    fn supposed(&self, _key: &Self::Key, desired: &Self::Value, _view: &View<'_, Self>) -> Self::Value {
        desired.clone()
    }

    /// Returns the keys of values that use the same object as `value` without depending on `value`.
    ///
    /// These values are evaluated again when `value` is applied or deleted, and when the desired value under `key` changes.
    fn concerned(&self, _key: &Self::Key, _value: &Self::Value, _view: &View<'_, Self>) -> Vec<Self::Key> {
        Vec::new()
    }

    /// Returns metadata that an applied value has in addition to the desired value, such as the inode of a namespace.
    ///
    /// Each entry has a name and a list of texts. The timeline of the key shows the entries.
    fn metadata(&self, _key: &Self::Key, _applied: &Self::Value) -> Vec<(&'static str, Vec<String>)> {
        Vec::new()
    }

    /// Returns whether the scheduler repairs changes that other programs make to this value or to values derived from it.
    ///
    /// If this returns `false`, the scheduler only reports such changes.
    fn is_repaired(&self, _key: &Self::Key, _desired: &Self::Value) -> bool {
        true
    }

    /// Returns the display name of a value, such as `interface web-eth0`. Some messages begin with this name.
    fn name(&self, key: &Self::Key) -> String {
        key.to_string()
    }

    /// Returns the key of the provider, which is the value that creates `key` when it is applied.
    ///
    /// For example, the provider of an address is its interface. If `key` is a prefix, the provider is the value that creates the
    /// keys with that prefix. The explanation of an unmet dependency mentions the provider.
    fn provider(&self, _key: &Self::Key) -> Option<Self::Key> {
        None
    }

    /// Returns suggestions for an unmet dependency, nearest first.
    ///
    /// A suggestion refers either to an existing value with a similar name or to the provider. The text for a provider says what
    /// is missing from it. The scheduler itself adds suggestions for an any-of dependency, which are values below its prefixes.
    ///
    /// This method can be called for very many values, so it must use only a few lookups and must not iterate over all values. It
    /// is called again when a value named in its last result changes.
    fn suggestions(&self, _unmet: &Dependency<Self::Key>, _view: &View<'_, Self>) -> Vec<Suggestion<Self::Key>> {
        Vec::new()
    }
}

/// A kind of value. See the [module documentation](self) for the order of calls.
pub trait Descriptor<D: Domain>: Send + Sync {
    /// Returns the stable name of the kind, as in ligato vpp-agent (`linux-interface`).
    fn name(&self) -> &'static str;

    /// Returns a short display name of a value, which need not be unique.
    fn label(&self, key: &D::Key) -> String {
        key.to_string()
    }

    /// Compares `applied` with `desired`, and returns the differences, each with its remedy.
    ///
    /// This method is called very often, mostly for equal values.
    fn compare(&self, key: &D::Key, applied: &D::Value, desired: &D::Value) -> Comparison;

    /// Returns the value to remember as applied.
    ///
    /// This method is called after `desired` was created (`former` is `None`), after `former` was changed into `desired`, and
    /// after a comparison found both equal. An applied value may contain more information than a desired one, such as the state
    /// of the object before the agent changed it. Methods that accept both applied and desired values must return the same result
    /// for both.
    fn as_applied(&self, _key: &D::Key, _former: Option<&D::Value>, desired: &D::Value) -> D::Value {
        desired.clone()
    }

    /// Returns the dependencies that must be available while the value is applied.
    fn dependencies(&self, _key: &D::Key, _value: &D::Value) -> Vec<Dependency<D::Key>> {
        Vec::new()
    }

    /// Returns the position of a value in a group of values that are created in a fixed order. `None` means that the value is
    /// created in key order.
    fn place(&self, _key: &D::Key, _value: &D::Value) -> Option<Place> {
        None
    }

    /// Returns the derived values, which exist only while this value is applied.
    fn derived(&self, _key: &D::Key, _value: &D::Value) -> Vec<(D::Key, D::Value)> {
        Vec::new()
    }

    /// Returns the implied values, which are desired while at least one value implies them.
    ///
    /// For example, an interface implies the namespace that it names. Several interfaces can imply the same namespace.
    fn implied(&self, _key: &D::Key, _value: &D::Value) -> Vec<(D::Key, D::Value)> {
        Vec::new()
    }

    /// Returns the claims of a value.
    ///
    /// A claim is a name that only one value can hold at a time, such as the kernel name of a link within a namespace.
    fn claims(&self, _key: &D::Key, _value: &D::Value, _view: &View<'_, D>) -> Vec<Claim> {
        Vec::new()
    }

    /// Returns whether an object that has not been read yet might hold one of the value's claims.
    ///
    /// If so, the value is created only after that object has been read. This method is called again in every step until it
    /// returns `false`.
    fn claims_may_be_held(&self, _key: &D::Key, _value: &D::Value, _view: &View<'_, D>) -> bool {
        false
    }

    /// Returns the effect that creates the value.
    ///
    /// # Errors
    /// Returns a [`Refusal`] if the value conflicts with another one. The call is repeated as soon as a dependency of the value
    /// changes.
    fn create(&self, key: &D::Key, value: &D::Value, view: &View<'_, D>) -> Result<Effect<D::Operation>, Refusal>;

    /// Returns the other values that are created together with this one, such as the other end of a veth pair.
    ///
    /// Each value is returned in the state that it has after the creation. If this state differs from the desired value, the
    /// value is updated afterwards.
    fn co_creates(&self, _key: &D::Key, _value: &D::Value, _view: &View<'_, D>) -> Vec<(D::Key, D::Value)> {
        Vec::new()
    }

    /// Returns the effect that removes what a failed [`Self::create`] may have left behind.
    ///
    /// `value` is the value that the failed creation was meant to apply.
    fn recover(&self, _key: &D::Key, _value: &D::Value, _view: &View<'_, D>) -> Effect<D::Operation> {
        Effect::Noop("a failed creation leaves nothing behind")
    }

    /// Returns whether [`Self::recover`], called with `desired`, also removes the remains of a failed creation of `attempted`.
    fn recovers_alike(&self, _attempted: &D::Value, _desired: &D::Value) -> bool {
        true
    }

    /// Returns the effect that changes `applied` into `desired`.
    ///
    /// This is called only if all differences can be removed in place.
    ///
    /// # Errors
    /// Returns the same errors as [`Self::create`].
    fn update(&self, key: &D::Key, _applied: &D::Value, _desired: &D::Value, _view: &View<'_, D>) -> Result<Effect<D::Operation>, Refusal> {
        let what = format!("{key} needs an update, but {} values cannot be updated in place", self.name());
        Ok(Effect::Impossible(what))
    }

    /// Returns the effect that deletes the value.
    fn delete(&self, key: &D::Key, applied: &D::Value, cause: DeleteCause, view: &View<'_, D>) -> Effect<D::Operation>;

    /// Returns the other values that the kernel removes during the operation `verb` on this value. `verb` is a creation or a
    /// deletion.
    ///
    /// This method is called only if the creation or deletion requires an operation.
    fn takes_along(&self, _key: &D::Key, _value: &D::Value, _verb: Verb, _view: &View<'_, D>) -> Taken<D::Key> {
        Taken::NOTHING
    }

    /// Returns the effect that checks whether the value is unchanged since it was applied.
    fn verify(&self, _key: &D::Key, _applied: &D::Value) -> Effect<D::Operation> {
        Effect::Noop("only a full read of the kernel can check the value")
    }

    /// Returns whether a changed dependency made the applied value obsolete, so that the value must be re-created.
    ///
    /// The scheduler calls this method again after a dependency is applied again or becomes unavailable. It does not call the
    /// method when only the desired value of a dependency changes, so the result must depend on applied values only.
    fn stale(&self, _key: &D::Key, _applied: &D::Value, _view: &View<'_, D>) -> bool {
        false
    }
}

/// Other values that the kernel removes as part of an operation, such as the routes of a link when its last address is deleted.
///
/// From the start of the operation, no other value can rely on the removed values. If the operation succeeds, the removed values
/// count as deleted, and those that are still desired are created again. If the operation fails, they still count as applied.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Taken<K> {
    /// The kernel removes these values. If an operation other than a deletion is in flight on one of them, the new operation
    /// waits until that operation has completed.
    Values(Vec<K>),
    /// The set of removed values is unknown until the operation in flight on this value completes. The descriptor is then called
    /// again, and the new operation can start.
    After(K),
}

impl<K> Taken<K> {
    /// Result for an operation that removes no other values.
    pub const NOTHING: Self = Taken::Values(Vec::new());
}

/// Position of a value in a group of values that are created in a fixed order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    /// Length in bytes of the group's key prefix. All keys of the group start with this prefix, and no other key does.
    pub group: usize,
    /// Position of the value within the group.
    pub position: u32,
}

/// Reason for deleting a value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DeleteCause {
    /// The value is no longer desired.
    Unwanted,
    /// The value will be created again, now or when its dependencies are available again.
    Again,
}

/// Condition that must be met while a value is applied. All dependencies of a value must be met.
#[derive(Clone)]
pub struct Dependency<K> {
    /// Stable name shown to users, as in ligato vpp-agent (`veth-peer-exists`).
    pub label: Label,
    /// Target that satisfies the dependency.
    pub on: On<K>,
    /// True if the dependency is needed only until the value is applied, because applying the value consumes the target.
    pub only_to_create: bool,
    /// True if the kernel keeps the dependent when another program removes the target. The dependent then stays in place while
    /// the agent creates the target again.
    pub outlived: bool,
}

/// Text that is usually known at compile time. Cloning a label never copies its text.
#[derive(Clone, Debug)]
pub enum Label {
    /// Text that is known at compile time.
    Static(&'static str),
    /// Text created at run time, usually from part of a value.
    Made(Arc<str>),
}

impl Deref for Label {
    type Target = str;

    fn deref(&self) -> &str {
        match self {
            Label::Static(text) => text,
            Label::Made(text) => text,
        }
    }
}

impl PartialEq for Label {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Label::Static(text), Label::Static(other)) => std::ptr::eq(*text, *other) || text == other,
            _ => **self == **other,
        }
    }
}

impl Eq for Label {}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self)
    }
}

impl From<&'static str> for Label {
    fn from(text: &'static str) -> Self {
        Label::Static(text)
    }
}

impl From<String> for Label {
    fn from(text: String) -> Self {
        Label::Made(text.into())
    }
}

/// Function that returns whether a key under one of the prefixes can satisfy a dependency.
pub type Predicate<K> = Arc<dyn Fn(&K) -> bool + Send + Sync>;

/// Target of a dependency.
#[derive(Clone)]
pub enum On<K> {
    /// Value under this key.
    Key(K),
    /// Any available value whose key starts with one of the prefixes and satisfies the predicate.
    AnyOf {
        /// Key prefixes. Each prefix must end with `/`.
        prefixes: Vec<K>,
        /// Predicate that accepts or rejects keys under the prefixes. `None` accepts all of them.
        predicate: Option<Predicate<K>>,
        /// Description of the expected value as a noun phrase without an article, such as `IP address of interface left`.
        describe: Label,
    },
}

impl<K: fmt::Display> fmt::Debug for On<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            On::Key(key) => write!(f, "{key}"),
            On::AnyOf { describe, .. } => f.write_str(describe),
        }
    }
}

impl<K: fmt::Display> fmt::Debug for Dependency<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({:?})", self.label, self.on)
    }
}

impl<K> Dependency<K> {
    /// Creates a dependency on the value under `key`.
    pub fn key(label: impl Into<Label>, key: K) -> Self {
        Dependency {
            label: label.into(),
            on: On::Key(key),
            only_to_create: false,
            outlived: false,
        }
    }

    /// Sets `outlived`, which declares that the kernel keeps the dependent when the target disappears.
    pub fn outlived(self) -> Self {
        Dependency { outlived: true, ..self }
    }

    /// Creates a dependency on any value under `prefixes` that satisfies `predicate`. Each prefix must end with `/`.
    pub fn any_of(label: impl Into<Label>, prefixes: Vec<K>, describe: impl Into<Label>, predicate: Option<Predicate<K>>) -> Self {
        Dependency {
            label: label.into(),
            on: On::AnyOf {
                prefixes,
                predicate,
                describe: describe.into(),
            },
            only_to_create: false,
            outlived: false,
        }
    }
}

/// Name that only one applied value can hold at a time.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Claim {
    /// Name of the claim, unique across all kinds of claims.
    pub name: String,
    /// Reason reported for a second value that needs the name, such as `HostNameConflict`.
    pub reason: &'static str,
}

/// Reason why a value cannot be created even though its dependencies are available.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refusal {
    /// Stable CamelCase reason.
    pub reason: &'static str,
    /// Human-readable message that describes the problem, names the conflicting object, and says what to do.
    pub message: String,
}
