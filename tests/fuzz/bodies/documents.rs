//! Fuzz target that reads, writes, validates and plans any text as a configuration document. See [`run`].

use std::cell::OnceCell;

use models::document::Item;
use netns_agent::scheduler::{Change, Scheduler, Transaction, ValueState};
use netns_agent::{
    descriptors::{
        Network,
        convert::value_of,
        value::{Namespace, NamespaceName, Value},
    },
    sources::document::{parse, write, write_value},
};
use netns_kernel::NetnsId;

thread_local! {
    /// Scheduler for all plans of this thread. Each plan works on a copy, so the scheduler itself never changes.
    static SCHEDULER: OnceCell<Scheduler<Network>> = const { OnceCell::new() };
}

/// Parses the bytes as the body of a request to `/configuration`, or as an initial configuration file. Ignores bytes that are not
/// UTF-8.
///
/// # Panics
/// Panics if an invariant is violated.
pub fn run(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let items = match parse(text) {
        Ok(items) => items,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return;
        }
    };
    let written = write(items.iter().map(|item| &item.model)).expect("what was read can be written");
    let again = parse(&written).unwrap_or_else(|error| panic!("its own text cannot be read: {error}\n{written}"));
    assert_eq!(again, items, "{written}");
    for item in &items {
        write_value(&item.model).expect("what was read can be written");
    }
    if !items.is_empty() {
        plan(&items);
    }
}

/// Plans all valid values, and checks that each value would be applied if the agent handles its model.
fn plan(items: &[Item]) {
    let changes: Vec<Change<Value>> = items
        .iter()
        .filter(|item| item.model.validate().is_ok())
        .map(|item| Change {
            key: item.model.key(),
            revision: 0,
            value: Some(value_of(&item.model)),
        })
        .collect();
    let planned = SCHEDULER.with(|scheduler| {
        let scheduler = scheduler.get_or_init(scheduler_with_own_namespace);
        scheduler.simulate(Transaction::of(changes.clone())).expect("acceptable")
    });
    for change in &changes {
        let last = planned
            .iter()
            .map(|planned| &planned.operation)
            .rfind(|operation| operation.key == change.key);
        let unhandled = matches!(change.value, Some(Ok(Value::Unhandled)));
        let state = last.map(|operation| operation.after.state);
        assert!(
            unhandled || state.is_some_and(|state| state != ValueState::Nonexistent),
            "{}: {planned:?}",
            change.key
        );
    }
}

fn scheduler_with_own_namespace() -> Scheduler<Network> {
    let mut scheduler = Scheduler::new(Network::new("test"));
    let own = Value::AppliedNamespace(Namespace::own(NetnsId(1)));
    scheduler.fact(&NamespaceName::Own.key(), Some(own));
    scheduler.complete_facts();
    scheduler
}
