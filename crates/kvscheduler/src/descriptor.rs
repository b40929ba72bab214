//! The descriptor contract: everything the scheduler needs to know about a kind of value.
//!
//! # Flow
//! [`Descriptor::compare`] decides whether a value needs [`Descriptor::create`], [`Descriptor::update`] or
//! [`Descriptor::delete`]. All three are pure: they return an [`Effect`], the engine has it performed, and the outcome goes back
//! to the scheduler.
//!
//! # Guarantees
//! `create` is called only while every dependency is available and no other value holds one of the claims. `delete` is called
//! only after everything that depends on the value, and every value derived from it, is deleted.
//!
//! # Assumptions
//! Every method is a pure function of its arguments.
//!
//! # Caveats
//! After a failed `create` the object may exist in part. The next attempt starts with the effect of [`Descriptor::recover`].
//! Until then, the dependencies of the failed attempt are not deleted.

use std::{borrow::Borrow, fmt, hash::Hash, ops::Deref, sync::Arc};

use super::{comparison::Comparison, effect::Effect, explanation::Suggestion, status::Verb, view::View};

/// Name of a value, ordered, compared and hashed by its text.
///
/// Implemented by every type that fits, such as `String`.
pub trait Key: Clone + Ord + Hash + fmt::Debug + fmt::Display + Borrow<str> + 'static {
    /// Returns the text of the key.
    fn text(&self) -> &str {
        self.borrow()
    }
}

impl<K: Clone + Ord + Hash + fmt::Debug + fmt::Display + Borrow<str> + 'static> Key for K {}

/// The types that a scheduler works with, and the look-up of descriptors.
pub trait Domain: Sized + Clone + 'static {
    /// Name of a value. A dependency can refer to all keys with a common prefix.
    type Key: Key;
    /// Value, desired or applied; cheap to clone.
    type Value: Clone + fmt::Debug + Send;
    /// One step of an effect.
    type Operation: Clone + fmt::Debug;

    /// Returns the descriptor of the kind that `key` belongs to.
    ///
    /// `None` if there is none: for properties, facts and unknown kinds.
    fn descriptor(&self, key: &Self::Key) -> Option<&dyn Descriptor<Self>>;

    /// Returns whether `key` is a fact that may be reported late.
    ///
    /// Until [`super::Scheduler::complete_facts`] is called, no value observed in the kernel is deleted because such a fact is
    /// missing.
    fn is_late_fact(&self, _key: &Self::Key) -> bool {
        false
    }

    /// Predicts the value that is applied when an operation succeeds (see [`super::Scheduler::simulate`]).
    fn supposed(&self, _key: &Self::Key, desired: &Self::Value, _view: &View<'_, Self>) -> Self::Value {
        desired.clone()
    }

    /// Returns values that use the same object as `value` without depending on it.
    ///
    /// They are evaluated again when `value` is applied or deleted, and when another version of an applied `value` becomes
    /// desired.
    fn concerned(&self, _key: &Self::Key, _value: &Self::Value, _view: &View<'_, Self>) -> Vec<Self::Key> {
        Vec::new()
    }

    /// Returns what is known of an applied value beyond the desired one, such as the inode of a namespace.
    ///
    /// Pairs of a name and its texts, for the timeline of the key.
    fn metadata(&self, _key: &Self::Key, _applied: &Self::Value) -> Vec<(&'static str, Vec<String>)> {
        Vec::new()
    }

    /// Returns whether changes that others make to a value, or to values derived from it, are repaired.
    ///
    /// Otherwise they are only reported.
    fn is_repaired(&self, _key: &Self::Key, _desired: &Self::Value) -> bool {
        true
    }

    /// Returns the display name of a value, such as `interface web-eth0`. It may start a sentence.
    fn name(&self, key: &Self::Key) -> String {
        key.to_string()
    }

    /// Returns the key of the provider of `key`: the value that creates `key`, or keys with that prefix, when it is applied.
    ///
    /// For example, the provider of an address is its interface. An unmet dependency is explained by its provider.
    fn provider(&self, _key: &Self::Key) -> Option<Self::Key> {
        None
    }

    /// Returns suggestions for an unmet dependency, the nearest first.
    ///
    /// A suggestion is an existing value with a similar name, or the provider and what it lacks. This is called for reported
    /// values only, but there may be very many: use a few look-ups and do not walk over all values. It is called again when a
    /// value named in the last answer changes. Values below the prefixes of a dependency on any of several need not be returned.
    fn suggestions(&self, _unmet: &Dependency<Self::Key>, _view: &View<'_, Self>) -> Vec<Suggestion<Self::Key>> {
        Vec::new()
    }
}

/// A kind of value. See the [module documentation](self) for the order of calls.
pub trait Descriptor<D: Domain>: Send + Sync {
    /// Returns the stable name of the kind, as in the reference agent (`linux-interface`).
    fn name(&self) -> &'static str;

    /// Returns a short display name of a value; need not be unique.
    fn label(&self, key: &D::Key) -> String {
        key.to_string()
    }

    /// Compares `applied` with `desired`, and says what removes each difference.
    ///
    /// Called very often, mostly for equal values.
    fn compare(&self, key: &D::Key, applied: &D::Value, desired: &D::Value) -> Comparison;

    /// Returns the value to remember as applied.
    ///
    /// Called when `desired` was created (`former` is `None`), and when `former` was changed into `desired` or compared equal to
    /// it. An applied value may therefore contain more than a desired one, such as the state of its object before the agent
    /// changed it. Methods that take either kind of value must return the same for both.
    fn as_applied(&self, _key: &D::Key, _former: Option<&D::Value>, desired: &D::Value) -> D::Value {
        desired.clone()
    }

    /// Returns what must be available while the value is applied.
    fn dependencies(&self, _key: &D::Key, _value: &D::Value) -> Vec<Dependency<D::Key>> {
        Vec::new()
    }

    /// Returns the position of a value among those created in a given order; `None`: key order.
    fn place(&self, _key: &D::Key, _value: &D::Value) -> Option<Place> {
        None
    }

    /// Returns the values that exist exactly as long as this one is applied.
    fn derived(&self, _key: &D::Key, _value: &D::Value) -> Vec<(D::Key, D::Value)> {
        Vec::new()
    }

    /// Returns values that are desired as long as at least one value implies them.
    ///
    /// For example, several interfaces imply the namespace that they name.
    fn implied(&self, _key: &D::Key, _value: &D::Value) -> Vec<(D::Key, D::Value)> {
        Vec::new()
    }

    /// Returns the names that only one value may hold at a time, such as a host name within a namespace.
    fn claims(&self, _key: &D::Key, _value: &D::Value, _view: &View<'_, D>) -> Vec<Claim> {
        Vec::new()
    }

    /// Returns whether an object that has not been read yet may hold a claim of the value.
    ///
    /// The value is then created after that object has been read. Called again in every step.
    fn claims_may_be_held(&self, _key: &D::Key, _value: &D::Value, _view: &View<'_, D>) -> bool {
        false
    }

    /// Returns the effect that creates the value.
    ///
    /// # Errors
    /// A [`Refusal`] if another value conflicts. Called again as soon as anything the value depends on changes.
    fn create(&self, key: &D::Key, value: &D::Value, view: &View<'_, D>) -> Result<Effect<D::Operation>, Refusal>;

    /// Returns the other values that creating this one creates as well, such as the other end of a veth pair.
    ///
    /// They are returned as they are after the creation. An update then removes their differences from the desired values.
    fn co_creates(&self, _key: &D::Key, _value: &D::Value, _view: &View<'_, D>) -> Vec<(D::Key, D::Value)> {
        Vec::new()
    }

    /// Returns the effect that removes what a failed [`Self::create`] may have left.
    ///
    /// `value` is the value that would have been applied.
    fn recover(&self, _key: &D::Key, _value: &D::Value, _view: &View<'_, D>) -> Effect<D::Operation> {
        Effect::Noop("a failed creation leaves nothing behind")
    }

    /// Returns whether [`Self::recover`] of `desired` also removes what a failed creation of `attempted` may have left.
    fn recovers_alike(&self, _attempted: &D::Value, _desired: &D::Value) -> bool {
        true
    }

    /// Returns the effect that changes `applied` into `desired`.
    ///
    /// Called only if all differences can be removed in place.
    ///
    /// # Errors
    /// As for [`Self::create`].
    fn update(&self, key: &D::Key, _applied: &D::Value, _desired: &D::Value, _view: &View<'_, D>) -> Result<Effect<D::Operation>, Refusal> {
        let what = format!("{key} needs an update, but {} values cannot be updated in place", self.name());
        Ok(Effect::Impossible(what))
    }

    /// Returns the effect that deletes the value.
    fn delete(&self, key: &D::Key, applied: &D::Value, cause: DeleteCause, view: &View<'_, D>) -> Effect<D::Operation>;

    /// Returns the other values that the kernel removes when it creates or deletes (`verb`) this one.
    ///
    /// Called only if the creation or deletion takes an operation.
    fn takes_along(&self, _key: &D::Key, _value: &D::Value, _verb: Verb, _view: &View<'_, D>) -> Taken<D::Key> {
        Taken::NOTHING
    }

    /// Returns the effect that checks whether the value is still as it was applied.
    fn verify(&self, _key: &D::Key, _applied: &D::Value) -> Effect<D::Operation> {
        Effect::Noop("it can only be checked by reading everything")
    }

    /// Returns whether a change of a dependency made the applied value obsolete, so that it must be re-created.
    ///
    /// Called again when a dependency was applied again or is no longer available, but not when only its desired value changes.
    /// The answer must therefore depend on applied values only.
    fn stale(&self, _key: &D::Key, _applied: &D::Value, _view: &View<'_, D>) -> bool {
        false
    }
}

/// Other values that the kernel removes by an operation, such as the routes of a link with its last address.
///
/// From the start of the operation no other value can rely on them. If it succeeds they count as deleted, and those still desired
/// are created again. If it fails they still count as applied.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Taken<K> {
    /// These values. If one of them is being created, the operation waits for that creation.
    Values(Vec<K>),
    /// Unknown until the operation in flight on this value has completed. The operation waits for it, then the question is asked
    /// again.
    After(K),
}

impl<K> Taken<K> {
    /// No other value is removed.
    pub const NOTHING: Self = Taken::Values(Vec::new());
}

/// Position of a value among values that are created together in a given order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    /// Length in bytes of the key prefix that all values of the group share, and no other value has.
    pub group: usize,
    /// Position within the group.
    pub position: u32,
}

/// Reason for a deletion.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DeleteCause {
    /// The value is no longer desired.
    Unwanted,
    /// The value will be created again, now or when its dependencies are available again.
    Again,
}

/// Condition for a value to be applied. All conditions of a value must hold.
#[derive(Clone)]
pub struct Dependency<K> {
    /// Stable name shown to users, as in the reference agent (`veth-peer-exists`).
    pub label: Label,
    /// Target that satisfies the dependency.
    pub on: On<K>,
    /// Needed only until the value is applied, because applying it consumes the target.
    pub only_to_create: bool,
    /// The kernel keeps the dependent when the target disappears without an operation of the agent. The dependent then stays in
    /// place while the target is created again.
    pub outlived: bool,
}

/// Text that is usually a constant of the program. Cloning never copies it.
#[derive(Clone, Debug)]
pub enum Label {
    /// Constant of the program.
    Static(&'static str),
    /// Text made at run time, usually with a part of a value in it.
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

/// Selects the keys under a prefix that count.
pub type Predicate<K> = Arc<dyn Fn(&K) -> bool + Send + Sync>;

/// Target of a dependency.
#[derive(Clone)]
pub enum On<K> {
    /// Value under this key.
    Key(K),
    /// Any available value whose key starts with one of the prefixes and passes the predicate.
    AnyOf {
        /// Key prefixes; each must end with `/`.
        prefixes: Vec<K>,
        /// Which of those keys count; `None`: all.
        predicate: Option<Predicate<K>>,
        /// Noun phrase for what is expected, without an article: `IP address of interface left`.
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

    /// Sets `outlived`: the kernel keeps the dependent when the target disappears.
    pub fn outlived(self) -> Self {
        Dependency { outlived: true, ..self }
    }

    /// Creates a dependency on any value under one of `prefixes` (each ends with `/`) that passes `predicate`.
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

/// Name that only one applied value may hold.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Claim {
    /// Name, unique over all kinds of claims.
    pub name: String,
    /// Reason reported for the second value that needs the name, such as `HostNameConflict`.
    pub reason: &'static str,
}

/// Reason why a value cannot be created although its dependencies are available.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refusal {
    /// Stable CamelCase reason.
    pub reason: &'static str,
    /// Problem, the conflicting object, and what to do.
    pub message: String,
}
