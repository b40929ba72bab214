//! Tests of transactions that pass through the core: replies, queries, and reads for a resync. A map simulates the kernel.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use super::*;
use crate::scheduler::{
    Change, Comparison, DeleteCause, Descriptor, Difference, Effect, Fault, FaultKind, Options, Outcome, Refusal, Unacceptable, Verb, View,
};

/// Scheduler domain with numbers as values. An operation writes a number under a key, or removes the key.
#[derive(Clone)]
struct Numbers;

type Write = (Key, Option<u32>);

impl Domain for Numbers {
    type Key = Key;
    type Value = u32;
    type Operation = Write;
    fn descriptor(&self, _: &Key) -> Option<&dyn Descriptor<Self>> {
        Some(self)
    }
}

impl Descriptor<Numbers> for Numbers {
    fn name(&self) -> &'static str {
        "numbers"
    }
    fn compare(&self, _: &Key, applied: &u32, desired: &u32) -> Comparison {
        let differs = applied != desired;
        differs.then(|| Difference::in_place("changed in the kernel")).into_iter().collect()
    }
    fn create(&self, key: &Key, value: &u32, _: &View<'_, Numbers>) -> Result<Effect<Write>, Refusal> {
        Ok(Effect::one((key.clone(), Some(*value))))
    }
    fn update(&self, key: &Key, _: &u32, desired: &u32, _: &View<'_, Numbers>) -> Result<Effect<Write>, Refusal> {
        Ok(Effect::one((key.clone(), Some(*desired))))
    }
    fn delete(&self, key: &Key, _: &u32, _: DeleteCause, _: &View<'_, Numbers>) -> Effect<Write> {
        Effect::one((key.clone(), None))
    }
}

/// Effects that act on a map. A read returns the whole map.
#[derive(Default)]
struct MapEffects {
    suspected: bool,
    scans: usize,
}

type Kernel = BTreeMap<Key, u32>;

impl Effects for MapEffects {
    type Domain = Numbers;
    type Signal = ();
    type Task = (u64, Verb, Vec<Write>);
    type Outcome = (u64, bool);
    type ReadRequest = ();
    type Seen = Option<Kernel>;
    type Place = u8;

    /// Uses the first letter of the key as the place in which the operation acts.
    fn places(operation: &Operation<Write>) -> Vec<u8> {
        operation.key.as_str().bytes().take(1).collect()
    }
    fn goes_together(operation: &Operation<Write>) -> bool {
        operation.key.as_str().starts_with("together")
    }
    fn prepare(&mut self, operations: Vec<Operation<Write>>, _: Duration) -> Vec<Self::Task> {
        operations
            .into_iter()
            .map(|operation| (operation.id, operation.verb, operation.steps))
            .collect()
    }
    fn operation_of(outcome: &Self::Outcome) -> u64 {
        outcome.0
    }
    fn is_plain(operation: &Operation<Write>) -> bool {
        operation.verb != Verb::Delete
    }
    fn is_success(outcome: &Self::Outcome) -> bool {
        outcome.1
    }
    fn performed(&mut self, scheduler: &mut Scheduler<Numbers>, outcomes: Vec<Self::Outcome>) {
        for (id, done) in outcomes {
            let fault = Fault {
                kind: FaultKind::Transient,
                reason: "Odd",
                message: "odd".into(),
                kernel: None,
            };
            scheduler.outcome(id, if done { Outcome::Done } else { Outcome::Failed(fault) });
        }
    }
    fn signal(&mut self, _: &mut Scheduler<Numbers>, (): (), _: Duration) {}
    fn startup_scan(&mut self, _: &Scheduler<Numbers>) -> Option<()> {
        self.scans += 1;
        Some(())
    }
    fn mark_all_dirty(&mut self, _: Duration) {
        self.suspected = true;
    }
    fn refresh(&mut self, _: Duration) -> Option<()> {
        std::mem::take(&mut self.suspected).then_some(())
    }
    fn refresh_deadline(&self) -> Option<Duration> {
        None
    }
    fn seen(&mut self, scheduler: &mut Scheduler<Numbers>, seen: Self::Seen) {
        // A failed read reports nothing.
        let Some(kernel) = seen else { return };
        let lost: Vec<Key> = scheduler
            .view()
            .applied_under("")
            .map(|(key, _)| key.clone())
            .filter(|key| !kernel.contains_key(key))
            .collect();
        let found = kernel
            .into_iter()
            .filter(|(key, value)| scheduler.view().applied(key) != Some(value))
            .collect();
        scheduler.lost(&lost);
        scheduler.found(found);
    }
    fn publish(&mut self, _: &Scheduler<Numbers>, _: Vec<StatusChange>) {}
    fn desired_changed(&mut self) {}

    fn settled(&mut self) {}
}

struct Drive {
    core: Core<MapEffects>,
    kernel: Kernel,
    /// True if kernel reads fail.
    blind: bool,
    reads: usize,
}

type Answers = Arc<Mutex<Vec<Result<TransactionResult, Unacceptable>>>>;

impl Drive {
    fn new() -> Self {
        let mut core = Core::new(Numbers, MapEffects::default());
        core.take(Event::FactsSettled, Duration::ZERO);
        Drive {
            core,
            kernel: Kernel::new(),
            blind: false,
            reads: 0,
        }
    }

    fn take(&mut self, transaction: Transaction<u32>) -> Answers {
        let answers = Answers::default();
        let sink = answers.clone();
        let reply: Reply<TransactionResult> = Box::new(move |answer| sink.lock().expect("not poisoned").push(answer));
        let reply = Some(reply);
        self.core.take(Event::Desired { transaction, reply }, Duration::from_secs(1));
        answers
    }

    fn commit(&mut self, transaction: Transaction<u32>) -> TransactionResult {
        let answers = self.take(transaction);
        self.run();
        let mut answers = answers.lock().expect("not poisoned");
        assert_eq!(answers.len(), 1, "the reply must be called exactly once");
        answers.remove(0).expect("acceptable")
    }

    /// Performs work until there is none left. Writing the number 13 fails.
    fn run(&mut self) {
        while let Some(work) = self.core.advance(Duration::from_secs(1)) {
            let done = match work {
                Work::Perform(tasks) => Done::Performed(tasks.into_iter().map(|task| self.write(task)).collect()),
                Work::ReadRequest(()) => {
                    self.reads += 1;
                    Done::Seen((!self.blind).then(|| self.kernel.clone()))
                }
            };
            self.core.done(done);
        }
    }

    fn write(&mut self, (id, _, steps): (u64, Verb, Vec<Write>)) -> (u64, bool) {
        for step in steps {
            match step {
                (_, Some(13)) => return (id, false),
                (key, Some(value)) => self.kernel.insert(key, value),
                (key, None) => self.kernel.remove(&key),
            };
        }
        (id, true)
    }

    fn value(&self, text: &str) -> Option<u32> {
        self.kernel.get(&Key::new(text)).copied()
    }
}

fn put(text: &str, value: u32) -> Change<u32> {
    Change {
        key: Key::new(text),
        revision: 1,
        value: Some(Ok(value)),
    }
}

fn begun() -> Drive {
    let mut drive = Drive::new();
    drive.commit(Transaction::resync(Resync::Full, vec![put("a", 1)]));
    drive
}

#[test]
fn no_operation_before_the_first_full_desired_state() {
    let mut drive = Drive::new();
    let early = drive.take(Transaction::of(vec![put("b", 1)]));
    drive.run();
    assert!(drive.kernel.is_empty() && early.lock().expect("not poisoned").is_empty());
    drive.commit(Transaction::resync(Resync::Upstream, vec![put("a", 1), put("b", 1)]));
    assert_eq!((drive.kernel.len(), early.lock().expect("not poisoned").len()), (2, 1));
}

#[test]
fn startup_scan_serves_as_the_read_of_the_first_resync() {
    let drive = begun();
    assert_eq!((drive.reads, drive.core.effects().scans, drive.value("a")), (1, 1, Some(1)));
}

#[test]
fn value_that_exists_as_desired_at_startup_is_not_written() {
    let mut drive = Drive::new();
    drive.kernel.insert(Key::new("a"), 1);
    let result = drive.commit(Transaction::resync(Resync::Full, vec![put("a", 1)]));
    let record = drive.core.scheduler().history().get(result.seq).expect("recorded");
    assert_eq!(record.executed().count(), 0);
}

#[test]
fn failures_are_in_the_reply_and_in_the_history() {
    let mut drive = begun();
    let result = drive.commit(Transaction::of(vec![put("b", 13)]));
    assert_eq!(result.to_string(), "KeyErrors: [b (CREATE): odd]");
    let transaction = Transaction::of(vec![put("c", 13)]);
    drive.core.take(Event::Desired { transaction, reply: None }, Duration::ZERO);
    drive.run();
    let last = drive.core.scheduler().history().records().next_back().expect("recorded");
    assert_eq!((last.errors.len(), last.errors[0].key.as_str()), (1, "c"));
}

#[test]
fn rejected_transaction_is_answered_immediately() {
    let mut drive = begun();
    let answers = drive.take(Transaction::resync(Resync::Downstream, vec![put("b", 1)]));
    let answer = answers.lock().expect("not poisoned").pop();
    assert_eq!(answer, Some(Err(Unacceptable::DownstreamWithChanges)));
}

#[test]
fn downstream_resync_reads_everything_before_any_operation() {
    let mut drive = begun();
    drive.kernel.clear();
    drive.kernel.insert(Key::new("left"), 7);
    let reads = drive.reads;
    let result = drive.commit(Transaction::resync(Resync::Downstream, vec![]));
    assert_eq!((drive.value("a"), drive.value("left"), drive.reads), (Some(1), None, reads + 1));
    let record = drive.core.scheduler().history().get(result.seq).expect("recorded");
    assert_eq!(record.executed().count(), 2, "repairs must belong to the resync");
}

#[test]
fn failed_read_never_causes_a_deletion() {
    let mut drive = begun();
    drive.blind = true;
    let result = drive.commit(Transaction::resync(Resync::Downstream, vec![]));
    assert!(result.errors.is_empty());
    assert_eq!(drive.value("a"), Some(1));
    assert_eq!(drive.core.scheduler().view().applied(&Key::new("a")), Some(&1));
}

#[test]
fn verified_transaction_reads_after_its_last_operation() {
    let mut drive = begun();
    let reads = drive.reads;
    let options = Options {
        verify: true,
        ..Options::default()
    };
    let changes = vec![put("b", 2)];
    let result = drive.commit(Transaction { changes, options });
    assert!(result.errors.is_empty());
    assert_eq!(drive.reads, reads + 1);
}

#[test]
fn question_is_answered_immediately_and_dry_run_changes_nothing() {
    let mut drive = begun();
    let planned = Arc::new(Mutex::new(0));
    let sink = planned.clone();
    let reply: Reply<Vec<Planned<u32>>> = Box::new(move |answer| *sink.lock().expect("not poisoned") = answer.expect("acceptable").len());
    let transaction = Transaction::of(vec![put("a", 2), put("b", 1)]);
    drive.core.take(Event::Simulate { transaction, reply }, Duration::ZERO);
    let requested = Arc::new(Mutex::new(None));
    let sink = requested.clone();
    let question: Question<Numbers> =
        Box::new(move |scheduler| *sink.lock().expect("not poisoned") = scheduler.view().applied(&Key::new("a")).copied());
    drive.core.take(Event::Ask(question), Duration::ZERO);
    assert_eq!(
        (*planned.lock().expect("not poisoned"), *requested.lock().expect("not poisoned")),
        (2, Some(1))
    );
    drive.run();
    assert_eq!((drive.value("a"), drive.value("b")), (Some(1), None));
}

/// Performer that is never called.
struct NoPerformer;

impl crate::engine::Performer<MapEffects> for NoPerformer {
    fn start(&self, _: Work<MapEffects>, _: &crate::engine::DoneSender<MapEffects>) {}
}

#[tokio::test]
async fn transaction_fails_when_the_engine_has_stopped() {
    let core = Core::new(Numbers, MapEffects::default());
    let (engine, handle) = crate::engine::Engine::new(core, NoPerformer, crate::engine::Clock::with_clock(|| Duration::ZERO));
    drop(engine);
    let client = handle.client();
    let error = client
        .commit(Transaction::of(vec![put("a", 1)]))
        .await
        .expect_err("engine has stopped");
    assert_eq!(error.to_string(), "the engine has stopped");
    assert_eq!(client.ask(|scheduler| scheduler.idle()).await, None);
}

impl Drive {
    /// Returns a driver that starts two operations at a time and has one applied value.
    fn in_portions() -> Self {
        let mut drive = Drive::new();
        drive.core = Core::new(Numbers, MapEffects::default()).with_portion(2);
        drive.core.take(Event::FactsSettled, Duration::ZERO);
        drive.commit(Transaction::resync(Resync::Full, vec![put("x", 1)]));
        drive
    }

    /// Starts all work that can be started. Returns one string for each portion of operations: the keys that it writes, separated
    /// by spaces.
    fn start(&mut self, under_way: &mut Vec<Vec<(u64, Verb, Vec<Write>)>>) -> Vec<String> {
        let mut portions = Vec::new();
        while let Some(work) = self.core.advance(Duration::from_secs(1)) {
            let Work::Perform(tasks) = work else {
                panic!("unexpected kernel read")
            };
            let keys = tasks.iter().flat_map(|(_, _, steps)| steps).map(|(key, _)| key.to_string());
            portions.push(keys.collect::<Vec<_>>().join(" "));
            under_way.push(tasks);
        }
        portions
    }

    /// Performs the oldest portion in flight.
    fn finish_first(&mut self, under_way: &mut Vec<Vec<(u64, Verb, Vec<Write>)>>) {
        let outcomes = under_way.remove(0).into_iter().map(|task| self.write(task)).collect();
        self.core.done(Done::Performed(outcomes));
    }
}

fn puts(keys: &[&str]) -> Transaction<u32> {
    Transaction::of(keys.iter().map(|key| put(key, 2)).collect())
}

#[test]
fn later_operations_in_other_places_overtake_a_large_change() {
    let (mut drive, mut under_way) = (Drive::in_portions(), Vec::new());
    drive.take(puts(&["a1", "a2", "a3", "a4", "a5", "a6", "a7"]));
    assert_eq!(
        drive.start(&mut under_way),
        ["a1 a2", "a3 a4"],
        "the next portion must start before the first one completes"
    );
    drive.take(puts(&["a9", "b"]));
    drive.finish_first(&mut under_way);
    assert!(
        drive.start(&mut under_way).is_empty(),
        "new changes must be decided only after all operations have completed"
    );
    drive.finish_first(&mut under_way);
    assert_eq!(drive.start(&mut under_way), ["b a5", "a6 a7"]);
    drive.finish_first(&mut under_way);
    assert_eq!(drive.start(&mut under_way), ["a9"]);
    while !under_way.is_empty() {
        drive.finish_first(&mut under_way);
        assert!(drive.start(&mut under_way).is_empty());
    }
    assert_eq!(drive.kernel.len(), 10);
    assert_eq!(drive.core.in_flight().count(), 0);
}

#[test]
fn operations_that_go_together_are_in_one_portion() {
    let (mut drive, mut under_way) = (Drive::in_portions(), Vec::new());
    drive.take(puts(&["a1", "a2", "a3", "a4", "a5"]));
    assert_eq!(drive.start(&mut under_way), ["a1 a2", "a3 a4"]);
    drive.take(puts(&["together1", "together2", "together3"]));
    drive.finish_first(&mut under_way);
    drive.finish_first(&mut under_way);
    assert_eq!(drive.start(&mut under_way), ["together1 together2 together3", "a5"]);
}

#[test]
fn read_waits_for_the_end_of_a_large_change() {
    let (mut drive, mut under_way) = (Drive::in_portions(), Vec::new());
    drive.take(puts(&["a1", "a2", "a3", "a4", "a5"]));
    assert_eq!(drive.start(&mut under_way), ["a1 a2", "a3 a4"]);
    drive.take(Transaction::resync(Resync::Downstream, vec![]));
    drive.take(puts(&["b"]));
    drive.finish_first(&mut under_way);
    drive.finish_first(&mut under_way);
    assert_eq!(drive.start(&mut under_way), ["a5"], "decisions after the read must wait too");
    drive.finish_first(&mut under_way);
    let reads = drive.reads;
    drive.run();
    assert_eq!((drive.reads, drive.value("b")), (reads + 1, Some(2)));
}
