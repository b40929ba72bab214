//! Scheduler tests with a toy domain. The toy kernel in [`World`] checks that every operation is safe.
//!
//! The modules `rules`, `states`, `transactions` and `contract` test the rules, `waiting` tests waiting values, and `drift` tests
//! changes made by other programs. `history` and `explanations` test what is reported, and `effects` tests the effects returned
//! by descriptors. `random` compares random sequences with a simple model.

mod contract;
mod drift;
mod effects;
mod explanations;
mod history;
mod random;
mod rules;
mod states;
mod transactions;
mod waiting;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use super::*;

type Key = String;

/// Test value with dependencies, derived values and two kinds of content. A change of `shape` requires re-creation.
#[derive(Clone, PartialEq, Debug, Default)]
struct Toy {
    content: u32,
    shape: u32,
    needs: Vec<String>,
    needs_any: Vec<String>,
    derives: Vec<String>,
    implies: Vec<String>,
    claims: Vec<String>,
    /// Values that the toy kernel removes along with this one.
    takes: Vec<String>,
}

/// Shape of a value that is re-created on every change, like most derived values.
const FIXED: u32 = u32::MAX;

/// Content of a value that is not repaired after another program has changed it.
const REPORT_ONLY: u32 = 777;

#[derive(Clone, Debug, PartialEq)]
enum Do {
    Create(String, Toy),
    Update(String, Toy),
    Delete(String),
    Recover(String),
}

/// Test domain with a descriptor for all keys except `fact/…` and `unknown/…`. If `knows_all` is set, the descriptor also handles
/// `unknown/…`.
#[derive(Clone, Default)]
struct ToyDomain {
    knows_all: Arc<AtomicBool>,
}

fn key(text: &str) -> Key {
    text.to_owned()
}

fn never_settles(key: &Key) -> bool {
    key.as_str().starts_with("restless/")
}

impl Domain for ToyDomain {
    type Key = Key;
    type Value = Toy;
    type Operation = Do;
    fn descriptor(&self, key: &Key) -> Option<&dyn Descriptor<Self>> {
        let known = !key.as_str().starts_with("unknown/") || self.knows_all.load(Ordering::Relaxed);
        (!key.as_str().starts_with("fact/") && known).then_some(self)
    }
    fn is_late_fact(&self, key: &Key) -> bool {
        key.as_str().starts_with("fact/container")
    }
    fn is_repaired(&self, _: &Key, desired: &Toy) -> bool {
        desired.content != REPORT_ONLY
    }
    /// The provider of `x/state` is `x`.
    fn provider(&self, key: &Key) -> Option<Key> {
        key.strip_suffix("/state").map(str::to_owned)
    }
    fn suggestions(&self, unmet: &Dependency<Key>, view: &View<'_, Self>) -> Vec<Suggestion<Key>> {
        let On::Key(key) = &unmet.on else { return vec![] };
        let reported = |key: &Key, what: &str| Suggestion {
            key: key.clone(),
            text: format!("{key} {what}"),
        };
        match self.provider(key) {
            Some(provider) if view.applied(&provider).is_some() => vec![reported(&provider, "exists in another state")],
            Some(_) => vec![],
            None => view
                .near("typo-", key.as_str(), 1)
                .map(|near| reported(near, "is similar"))
                .collect(),
        }
    }
}

impl Descriptor<ToyDomain> for ToyDomain {
    fn name(&self) -> &'static str {
        "toy"
    }
    fn compare(&self, _: &Key, applied: &Toy, desired: &Toy) -> Comparison {
        let rest = |value: &Toy| (value.needs.clone(), value.needs_any.clone(), value.takes.clone());
        let is_fixed = desired.shape == FIXED;
        let as_usual = |text| {
            if is_fixed {
                Difference::again(text)
            } else {
                Difference::in_place(text)
            }
        };
        [
            (applied.shape != desired.shape).then(|| Difference::again("its shape was changed")),
            (applied.content != desired.content).then(|| as_usual("its content was changed")),
            (rest(applied) != rest(desired)).then(|| as_usual("its dependencies were changed")),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
    fn dependencies(&self, _: &Key, value: &Toy) -> Vec<Dependency<Key>> {
        let named = value.needs.iter().map(|need| Dependency::key(format!("needs-{need}"), key(need)));
        let any = value
            .needs_any
            .iter()
            .map(|prefix| Dependency::any_of(format!("any-{prefix}"), vec![key(prefix)], "any", None));
        named.chain(any).collect()
    }
    fn derived(&self, _: &Key, value: &Toy) -> Vec<(Key, Toy)> {
        value.derives.iter().map(|text| (key(text), Toy::default())).collect()
    }
    fn implied(&self, _: &Key, value: &Toy) -> Vec<(Key, Toy)> {
        value.implies.iter().map(|text| (key(text), Toy::default())).collect()
    }
    fn claims(&self, _: &Key, value: &Toy, _: &View<'_, Self>) -> Vec<Claim> {
        value
            .claims
            .iter()
            .map(|name| Claim {
                name: name.clone(),
                reason: "Conflict",
            })
            .collect()
    }
    /// A value under `place/…` represents a namespace. The objects inside are unknown until the value has been created.
    fn claims_may_be_held(&self, key: &Key, value: &Toy, view: &View<'_, Self>) -> bool {
        let inside = view.untried_under("place/").flat_map(|place| view.dependents(place));
        let mut others = inside.filter(|other| *other != key).filter_map(|other| view.desired(other));
        others.any(|other| other.claims.iter().any(|claim| value.claims.contains(claim)))
    }
    /// Values under `restless/…` are always stale. The scheduler therefore re-creates them again and again, without an operation.
    fn stale(&self, key: &Key, _: &Toy, _: &View<'_, Self>) -> bool {
        never_settles(key)
    }
    fn create(&self, key: &Key, value: &Toy, _: &View<'_, Self>) -> Result<Effect<Do>, Refusal> {
        if never_settles(key) {
            return Ok(Effect::Noop("always re-created without an operation"));
        }
        Ok(Effect::one(Do::Create(key.to_string(), value.clone())))
    }
    fn recover(&self, key: &Key, _: &Toy, _: &View<'_, Self>) -> Effect<Do> {
        Effect::one(Do::Recover(key.to_string()))
    }
    fn update(&self, key: &Key, _: &Toy, desired: &Toy, _: &View<'_, Self>) -> Result<Effect<Do>, Refusal> {
        Ok(Effect::one(Do::Update(key.to_string(), desired.clone())))
    }
    fn delete(&self, key: &Key, _: &Toy, _: DeleteCause, _: &View<'_, Self>) -> Effect<Do> {
        if never_settles(key) {
            return Effect::Noop("always re-created without an operation");
        }
        Effect::one(Do::Delete(key.to_string()))
    }
    /// Deleting any value also removes the values in `takes`. Creating a value removes them only if its key starts with `enter/`.
    fn takes_along(&self, key_of_it: &Key, value: &Toy, verb: Verb, _: &View<'_, Self>) -> Taken<Key> {
        let takes = verb == Verb::Delete || key_of_it.as_str().starts_with("enter/");
        let taken = value.takes.iter().filter(|_| takes);
        Taken::Values(taken.map(|text| key(text)).collect())
    }
}

/// Function that returns a fault if the given operation is to fail.
type Sabotage = Box<dyn FnMut(&str, Verb) -> Option<Fault>>;

/// Function that returns a reason if the given operation has to wait.
type Missing = Box<dyn FnMut(&str, Verb) -> Option<Wait>>;

/// Test environment: a scheduler on top of a toy kernel.
struct World {
    scheduler: Scheduler<ToyDomain>,
    kernel: BTreeMap<String, Toy>,
    /// Values that the kernel removed along with another value.
    taken: BTreeSet<String>,
    facts: BTreeMap<String, ()>,
    /// Returns a fault if the operation is to fail.
    fail: Sabotage,
    /// Returns a wait if the operation has to wait.
    waits: Missing,
    /// Operations that were started but have not been completed.
    under_way: VecDeque<Operation<Key, Do>>,
    log: Vec<Do>,
    now: Duration,
    statuses: BTreeMap<String, Status<Key>>,
}

fn transient(message: &str) -> Fault {
    Fault {
        kind: FaultKind::Transient,
        reason: "Toy",
        message: message.into(),
        kernel: None,
    }
}

fn wait(message: &str) -> Wait {
    Wait {
        reason: "Unavailable",
        message: message.into(),
    }
}

impl World {
    fn new() -> Self {
        let mut scheduler = Scheduler::new(ToyDomain::default());
        scheduler.complete_facts();
        let now = Duration::from_secs(1_000_000);
        World {
            scheduler,
            kernel: BTreeMap::new(),
            taken: BTreeSet::new(),
            facts: BTreeMap::new(),
            fail: Box::new(|_, _| None),
            waits: Box::new(|_, _| None),
            under_way: VecDeque::new(),
            log: vec![],
            now,
            statuses: BTreeMap::new(),
        }
    }

    fn put(&mut self, text: &str, value: Toy) {
        self.change(text, Some(Ok(value)));
    }

    fn delete(&mut self, text: &str) {
        self.change(text, None);
    }

    fn change(&mut self, text: &str, value: Option<Result<Toy, Rejection>>) {
        self.scheduler.transaction(
            vec![Change {
                key: key(text),
                revision: 1,
                value,
            }],
            false,
        );
    }

    /// Submits a transaction, runs until nothing is left to do, and returns the result.
    fn commit(&mut self, changes: Vec<Change<Key, Toy>>, options: Options) -> TransactionResult<Key> {
        let options = Options { awaited: true, ..options };
        let seq = self.scheduler.transact(Transaction { changes, options }).expect("acceptable");
        self.run();
        let mut finished = self.scheduler.take_finished();
        assert_eq!(finished.iter().map(|result| result.seq).collect::<Vec<_>>(), [seq]);
        finished.remove(0)
    }

    fn record(&self, seq: u64) -> &crate::history::record::TransactionRecord<Key, Toy> {
        self.scheduler.history().get(seq).expect("recorded")
    }

    /// Formats the operations of a transaction: verb, key, state before, and state after.
    fn account(&self, seq: u64) -> Vec<String> {
        let words = |operation: &crate::history::record::OperationRecord<Key, Toy>| {
            let noop = if operation.flags.noop { " NOOP" } else { "" };
            let (before, after) = (operation.before.state, operation.after.state);
            format!("{} {}{noop} {before} -> {after}", operation.verb, operation.key)
        };
        self.record(seq).executed().map(words).collect()
    }

    fn fact(&mut self, text: &str, present: bool) {
        if present {
            self.facts.insert(text.into(), ());
        } else {
            self.facts.remove(text);
        }
        self.scheduler.fact(&key(text), present.then(Toy::default));
    }

    /// Runs one step and performs all its operations.
    fn round(&mut self) -> bool {
        self.round_of(usize::MAX)
    }

    /// Runs one step and performs the first `count` operations in flight.
    fn round_of(&mut self, count: usize) -> bool {
        if self.under_way.is_empty() {
            // As in the engine, a requested read of the kernel takes place before any operation is started.
            self.serve_reading();
        }
        let operations = self.scheduler.step(self.now);
        self.under_way.extend(operations);
        let some = !self.under_way.is_empty();
        self.perform_first(count);
        for change in self.scheduler.take_status_changes() {
            match change.status {
                Some(status) => self.statuses.insert(change.key.to_string(), status),
                None => self.statuses.remove(change.key.as_str()),
            };
        }
        some
    }

    fn perform_first(&mut self, count: usize) {
        for operation in self.under_way.drain(..count.min(self.under_way.len())).collect::<Vec<_>>() {
            let outcome = self.perform(operation.key.as_str(), operation.verb, operation.steps);
            self.scheduler.outcome(operation.id, outcome);
        }
    }

    /// Passes the contents of the kernel to the scheduler if a transaction has requested a read. Called while no operation is in
    /// flight.
    fn serve_reading(&mut self) {
        if !self.scheduler.take_reading() {
            return;
        }
        let (found, lost) = {
            let view = self.scheduler.view();
            let differs = |(text, value): &(&String, &Toy)| view.applied(&key(text)) != Some(*value);
            let found: Vec<(Key, Toy)> = self
                .kernel
                .iter()
                .filter(differs)
                .map(|(text, value)| (key(text), value.clone()))
                .collect();
            let gone = |key: &&Key| self.scheduler.domain().descriptor(key).is_some() && !self.kernel.contains_key(key.as_str());
            let lost: Vec<Key> = view.applied_under("").map(|(key, _)| key).filter(gone).cloned().collect();
            (found, lost)
        };
        self.scheduler.lost(&lost);
        self.scheduler.found(found);
        self.scheduler.read_again();
    }

    /// Runs until nothing is left to do at the current time. The number of rounds is bounded, so an endless loop fails the test.
    fn run(&mut self) {
        for _ in 0..10_000 {
            if !self.round() && self.scheduler.idle() && !self.scheduler.is_reading_requested() {
                return;
            }
        }
        panic!(
            "the scheduler must become idle; last operations: {:?}",
            &self.log[self.log.len().saturating_sub(20)..]
        );
    }

    /// Advances the time from deadline to deadline until no retries are left.
    fn run_out_retries(&mut self) {
        self.run();
        for _ in 0..200 {
            let Some(deadline) = self.scheduler.next_deadline() else { return };
            self.now = self.now.max(deadline);
            self.run();
        }
        panic!("retries do not stop");
    }

    fn perform(&mut self, key: &str, verb: Verb, steps: Vec<Do>) -> Outcome<Toy> {
        if let Some(fault) = (self.fail)(key, verb) {
            return Outcome::Failed(fault);
        }
        if let Some(wait) = (self.waits)(key, verb) {
            return Outcome::Waiting(wait);
        }
        for step in steps {
            self.log.push(step.clone());
            match step {
                Do::Create(key, value) => {
                    self.assert_needs_met(&key, &value);
                    assert!(self.kernel.insert(key.clone(), value).is_none(), "{key} is created twice");
                }
                Do::Update(key, value) => {
                    let was_taken = self.taken.remove(&key);
                    let existed = self.kernel.insert(key.clone(), value).is_some();
                    assert!(existed || was_taken, "{key} is updated but does not exist");
                }
                Do::Delete(key) => {
                    self.vanish(&key);
                    self.assert_nothing_left_hanging(&key);
                }
                Do::Recover(_) => {}
            }
        }
        Outcome::Done
    }

    /// Removes a value from the kernel, together with the values that the kernel removes along with it. Returns the removed keys.
    fn vanish(&mut self, text: &str) -> Vec<Key> {
        let Some(gone) = self.kernel.remove(text) else { return vec![] };
        let taken = gone.takes.iter().filter(|taken| self.kernel.remove(*taken).is_some());
        let taken: Vec<Key> = taken.map(|text| key(text)).collect();
        self.taken.extend(taken.iter().map(Key::to_string));
        [key(text)].into_iter().chain(taken).collect()
    }

    fn exists(&self, text: &str) -> bool {
        self.kernel.contains_key(text) || self.facts.contains_key(text)
    }

    fn assert_needs_met(&self, text: &str, value: &Toy) {
        for need in &value.needs {
            let in_cycle = self
                .scheduler
                .view()
                .desired(&key(need))
                .is_some_and(|other| other.needs.iter().any(|back| back == text));
            // The dependency may have changed after the scheduler chose the operation. Therefore, two values that can depend on
            // each other are always accepted.
            let in_cycle = in_cycle || random::are_partners(text, need);
            assert!(self.exists(need) || in_cycle, "{text} is created before {need}");
        }
        for prefix in &value.needs_any {
            let any = self
                .kernel
                .keys()
                .chain(self.facts.keys())
                .any(|existing| existing.starts_with(prefix.as_str()));
            assert!(any, "{text} is created before any value with the prefix {prefix}");
        }
    }

    fn assert_nothing_left_hanging(&self, gone: &str) {
        for (text, value) in &self.kernel {
            let cyclic = value.needs.iter().any(|need| need == gone)
                && self
                    .scheduler
                    .view()
                    .applied(&key(gone))
                    .is_some_and(|applied| applied.needs.contains(text));
            assert!(
                cyclic || !value.needs.iter().any(|need| need == gone),
                "{gone} is deleted while {text} needs it"
            );
        }
    }

    fn state(&self, text: &str) -> Option<ValueState> {
        self.statuses.get(text).map(|status| status.state)
    }
}

fn toy(content: u32) -> Toy {
    Toy { content, ..Toy::default() }
}

fn put(text: &str, value: Toy) -> Change<Key, Toy> {
    Change {
        key: key(text),
        revision: 1,
        value: Some(Ok(value)),
    }
}

fn remove(text: &str) -> Change<Key, Toy> {
    Change {
        key: key(text),
        revision: 1,
        value: None,
    }
}

fn unusable(text: &str, message: &str) -> Change<Key, Toy> {
    let rejection = Rejection {
        state: ValueState::Invalid,
        reason: "Bad",
        message: message.into(),
        fields: vec!["f".into()],
    };
    Change {
        key: key(text),
        revision: 1,
        value: Some(Err(rejection)),
    }
}

fn needing(needs: &[&str]) -> Toy {
    Toy {
        needs: needs.iter().map(|need| (*need).to_owned()).collect(),
        ..Toy::default()
    }
}

/// Predicates must be `Send + Sync`, so that dependencies can be shared between threads.
#[test]
fn descriptors_can_be_shared_between_threads() {
    fn shared<T: Send + Sync>(_: &T) {}
    let predicate: Arc<dyn Fn(&Key) -> bool + Send + Sync> = Arc::new(|_| true);
    shared(&Dependency::any_of("any", vec![key("a/")], "any", Some(predicate)));
}
