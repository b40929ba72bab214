//! The descriptor contract: what the scheduler must know of a kind of value, and nothing else.
//!
//! Owns the traits and the plain types between scheduler and descriptors. Must never mention a concrete kind of value. Start reading at [`Descriptor`].
//!
//! # Expected flow
//! A wanted value becomes an operation by [`Descriptor::create`], [`Descriptor::update`] or [`Descriptor::delete`]. All three
//! are pure: they return an [`Effect`], the engine has it performed, and the outcome comes back to the scheduler. Which of them is called
//! follows from [`Descriptor::compare`].
//!
//! # Guarantees
//! `create` is called only while every dependency is available and no other value holds one of the claims; `delete` only after
//! everything that depends on the value, and every value derived from it, is gone.
//!
//! # Assumptions
//! Every method is a function of its arguments: the same arguments give the same answer.
//!
//! # Caveats
//! After a failed `create` the object may exist in part. The next attempt starts with the effect of [`Descriptor::recover`], and
//! nothing that the failed one depended on is taken away before.

use std::{borrow::Borrow, fmt, hash::Hash, ops::Deref, sync::Arc};

use super::{comparison::Comparison, effect::Effect, explanation::Relative, status::Verb, view::View};

/// The name of a value: ordered, compared and hashed as its text is. Implemented by every type that fits, such as `String`.
pub trait Key: Clone + Ord + Hash + fmt::Debug + fmt::Display + Borrow<str> + 'static {
    /// The text.
    fn text(&self) -> &str {
        self.borrow()
    }
}

impl<K: Clone + Ord + Hash + fmt::Debug + fmt::Display + Borrow<str> + 'static> Key for K {}

/// The types a scheduler works with, and the look-up of descriptors. Implemented once for the product and once for tests.
pub trait Domain: Sized + Clone + 'static {
    /// The name of a value. What starts with the same text may be depended on together.
    type Key: Key;
    /// A value, desired or applied; cheap to clone.
    type Value: Clone + fmt::Debug + Send;
    /// One step of what a descriptor wants done.
    type Operation: Clone + fmt::Debug;

    /// The descriptor of the kind that `key` belongs to; `None` when the agent has none (properties, facts, unknown kinds).
    fn descriptor(&self, key: &Self::Key) -> Option<&dyn Descriptor<Self>>;

    /// Whether the key is that of a fact which may be told late: until [`super::Scheduler::settle_facts`] nothing that was found
    /// in the kernel is taken down for want of it.
    fn is_late_fact(&self, _key: &Self::Key) -> bool {
        false
    }

    /// The value that is applied when an operation succeeds, as far as it can be told beforehand (see [`super::Scheduler::simulate`]).
    fn supposed(&self, _key: &Self::Key, wanted: &Self::Value, _view: &View<'_, Self>) -> Self::Value {
        wanted.clone()
    }

    /// Values to evaluate again when `value` is applied or deleted, or is applied and another version of it is desired, although they do
    /// not depend on it: they use the same object.
    fn concerned(&self, _key: &Self::Key, _value: &Self::Value, _view: &View<'_, Self>) -> Vec<Self::Key> {
        Vec::new()
    }

    /// What is known of an applied value besides what was asked for, such as the inode of a namespace: names and texts for the
    /// timeline of its key.
    fn metadata(&self, _key: &Self::Key, _applied: &Self::Value) -> Vec<(&'static str, Vec<String>)> {
        Vec::new()
    }

    /// Whether what others do to a value, or to what is derived from it, is repaired. Otherwise it is only told.
    fn is_repaired(&self, _key: &Self::Key, _wanted: &Self::Value) -> bool {
        true
    }

    /// What a person calls the value under `key`, to begin a sentence with: `interface web-eth0`.
    fn name(&self, key: &Self::Key) -> String {
        key.to_string()
    }

    /// The key of the value that would bring `key`, or any key that starts with it, about by being applied: the interface of an
    /// address. An unmet dependency is explained by it.
    fn bearer(&self, _key: &Self::Key) -> Option<Self::Key> {
        None
    }

    /// What exists and is nearly what an unmet dependency expects, the nearest first: something with a similar name, or the bearer
    /// with what it lacks. Asked for reported values only, of which there may be very many: a few look-ups, no walk over all values.
    /// Asked again when something named in the last answer changes. Values below the prefixes of a dependency on any of several
    /// need not be named.
    fn relatives(&self, _unmet: &Dependency<Self::Key>, _view: &View<'_, Self>) -> Vec<Relative<Self::Key>> {
        Vec::new()
    }
}

/// One kind of value. See the [module documentation](self) for the order of calls.
pub trait Descriptor<D: Domain>: Send + Sync {
    /// Stable name, as in the reference (`linux-interface`).
    fn name(&self) -> &'static str;

    /// Short name of a value, for people; need not be unique.
    fn label(&self, key: &D::Key) -> String {
        key.to_string()
    }

    /// How `applied` differs from `desired`, and what removes each difference. Asked very often, mostly of what is the same.
    fn compare(&self, key: &D::Key, applied: &D::Value, desired: &D::Value) -> Comparison;

    /// What to remember as applied when `desired` was created (`former`: `None`), when `former` was changed into it, or was found to be the
    /// same. So an applied value may know more than a desired one, such as what its object was before; the methods that are not told which
    /// of the two they get must answer alike for both.
    fn as_applied(&self, _key: &D::Key, _former: Option<&D::Value>, desired: &D::Value) -> D::Value {
        desired.clone()
    }

    /// What must be available while the value is applied.
    fn dependencies(&self, _key: &D::Key, _value: &D::Value) -> Vec<Dependency<D::Key>> {
        Vec::new()
    }

    /// Place of a value among those that are created in a given order; `None`: the order of the keys.
    fn place(&self, _key: &D::Key, _value: &D::Value) -> Option<Place> {
        None
    }

    /// Values that live exactly as long as this one is applied.
    fn derived(&self, _key: &D::Key, _value: &D::Value) -> Vec<(D::Key, D::Value)> {
        Vec::new()
    }

    /// Values that are wanted as long as at least one value implies them, such as the namespace that several interfaces name.
    fn implied(&self, _key: &D::Key, _value: &D::Value) -> Vec<(D::Key, D::Value)> {
        Vec::new()
    }

    /// Names that only one value may hold at a time, such as a host name within a namespace.
    fn claims(&self, _key: &D::Key, _value: &D::Value, _view: &View<'_, D>) -> Vec<Claim> {
        Vec::new()
    }

    /// Whether something that has not been looked at yet may hold a claim of the value. The value is created after that was looked at: the
    /// question is asked again in every step.
    fn claims_may_be_held(&self, _key: &D::Key, _value: &D::Value, _view: &View<'_, D>) -> bool {
        false
    }

    /// The effect that brings the value into being.
    ///
    /// # Errors
    /// A [`Refusal`] when another value is in the way; asked again as soon as anything it depends on changes.
    fn create(&self, key: &D::Key, value: &D::Value, view: &View<'_, D>) -> Result<Effect<D::Operation>, Refusal>;

    /// Other values that creating this one brings into being, as they will then be: the other end of a veth pair. What they lack
    /// is made up for by an update.
    fn brings(&self, _key: &D::Key, _value: &D::Value, _view: &View<'_, D>) -> Vec<(D::Key, D::Value)> {
        Vec::new()
    }

    /// The effect that clears away what a failed [`Self::create`] may have left; `value` is what would have been applied.
    fn recover(&self, _key: &D::Key, _value: &D::Value, _view: &View<'_, D>) -> Effect<D::Operation> {
        Effect::Noop("a failed creation leaves nothing behind")
    }

    /// Whether [`Self::recover`] of `desired` clears away what a failed creation of `attempted` may have left.
    fn recovers_alike(&self, _attempted: &D::Value, _desired: &D::Value) -> bool {
        true
    }

    /// The effect that changes `applied` into `desired`. Called only where all differences can be removed in place.
    ///
    /// # Errors
    /// As for [`Self::create`].
    fn update(&self, key: &D::Key, _applied: &D::Value, _desired: &D::Value, _view: &View<'_, D>) -> Result<Effect<D::Operation>, Refusal> {
        let what = format!("{key} differs in place, but {} values are not changed in place", self.name());
        Ok(Effect::Impossible(what))
    }

    /// The effect that removes the value.
    fn delete(&self, key: &D::Key, applied: &D::Value, cause: DeleteCause, view: &View<'_, D>) -> Effect<D::Operation>;

    /// Returns the other values that the kernel removes when it deletes or (`verb`) creates this one. Called only if that takes an
    /// operation.
    fn takes_along(&self, _key: &D::Key, _value: &D::Value, _verb: Verb, _view: &View<'_, D>) -> Taken<D::Key> {
        Taken::NOTHING
    }

    /// The effect that finds out whether the value is still what was applied.
    fn verify(&self, _key: &D::Key, _applied: &D::Value) -> Effect<D::Operation> {
        Effect::Noop("there is no way to tell but to read everything")
    }

    /// Whether a change in something it depends on made the applied value obsolete, so that it must be created anew.
    ///
    /// It is asked again when what it depends on was applied anew or is no longer available, not when that is only wanted differently: so
    /// it must go by what is applied.
    fn stale(&self, _key: &D::Key, _applied: &D::Value, _view: &View<'_, D>) -> bool {
        false
    }
}

/// Other values that the kernel removes by an operation, such as the routes of a link with its last address.
///
/// From the start of the operation no other value can rely on them. If it succeeds they count as deleted, and those that are still desired
/// are created again. If it fails they count as applied.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Taken<K> {
    /// These values. If one of them is being created, the operation waits for that.
    Values(Vec<K>),
    /// Unknown until the pending operation on this value has ended. The operation waits for that, and the question is asked again.
    After(K),
}

impl<K> Taken<K> {
    /// The operation removes no other value.
    pub const NOTHING: Self = Taken::Values(Vec::new());
}

/// Place of a value among values that are created together and in a given order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    /// Bytes at the beginning of the key that all of them share, and no other value has.
    pub group: usize,
    /// Position among them.
    pub position: u32,
}

/// Why a value is being deleted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DeleteCause {
    /// Nobody wants it any more.
    Unwanted,
    /// It is to be created again, now or when its dependencies are back.
    Again,
}

/// A condition for a value to be applied. Several are AND-ed.
#[derive(Clone)]
pub struct Dependency<K> {
    /// Stable name shown to users, as in the reference (`veth-peer-exists`).
    pub label: Label,
    /// What satisfies it.
    pub on: On<K>,
    /// Needed only until the value is applied: taking it over consumes the target.
    pub only_to_create: bool,
    /// When the target vanishes without the agent's doing, the kernel keeps what depends on it: while the target is made again, that is
    /// left in place.
    pub outlived: bool,
}

/// A text that mostly stands in the program itself. A clone never copies it.
#[derive(Clone, Debug)]
pub enum Label {
    /// One of the program's own.
    Static(&'static str),
    /// One with something of a value in it.
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

/// Which of the keys under a prefix count.
pub type Predicate<K> = Arc<dyn Fn(&K) -> bool + Send + Sync>;

/// The target of a dependency.
#[derive(Clone)]
pub enum On<K> {
    /// The value under this key.
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
    /// A dependency on the value under `key`.
    pub fn key(label: impl Into<Label>, key: K) -> Self {
        Dependency {
            label: label.into(),
            on: On::Key(key),
            only_to_create: false,
            outlived: false,
        }
    }

    /// The same, for what the kernel keeps when the target vanishes.
    pub fn outlived(self) -> Self {
        Dependency { outlived: true, ..self }
    }

    /// A dependency on any value under one of `prefixes` (each ends with `/`) that passes `predicate`.
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

/// A name that only one applied value may hold.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Claim {
    /// The name, unique over all kinds of claims.
    pub name: String,
    /// Reason given to the value that comes second, such as `HostNameConflict`.
    pub reason: &'static str,
}

/// Why a value cannot be created now although its dependencies are available.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refusal {
    /// Stable CamelCase reason.
    pub reason: &'static str,
    /// What is wrong, with what, and what to do.
    pub message: String,
}
