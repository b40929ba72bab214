//! Random sequences of puts, deletions, facts, failures and losses: the end state must be what a naive model says.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

const KEYS: usize = 12;

fn name(index: usize) -> String {
    format!("v/{index:02}")
}

#[derive(Clone, Debug)]
enum Step {
    Put(usize, Toy),
    Reject(usize),
    Delete(usize),
    Fact(usize, bool),
    /// The object disappears from the kernel and the scheduler is told.
    Lose(usize),
    FailNext(u8),
    Rounds(u8),
    Time,
}

/// Dependencies point to facts, to lower pairs, or to the partner in the pair, so that cycles have two members.
fn value(index: usize) -> impl Strategy<Value = Toy> {
    let lower = prop::collection::vec(0..KEYS, 0..2);
    (
        0..3u32,
        0..2u32,
        lower,
        any::<bool>(),
        prop::option::of(0..3usize),
        0..3usize,
        any::<bool>(),
    )
        .prop_map(move |(content, shape, lower, partner, fact, derives, any)| {
            let mut needs: Vec<String> = lower.into_iter().filter(|other| other / 2 < index / 2).map(name).collect();
            if partner {
                needs.push(name(index ^ 1));
            }
            needs.extend(fact.map(|fact| format!("fact/{fact}")));
            let needs_any = if any && index / 2 > 0 {
                vec![format!("d/{:02}/", (index / 2 - 1) * 2)]
            } else {
                vec![]
            };
            let derives = (0..derives).map(|derived| format!("d/{index:02}/{derived}")).collect();
            Toy {
                content,
                shape,
                needs,
                needs_any,
                derives,
                implies: vec!["shared".into()],
                claims: vec![],
            }
        })
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..KEYS).prop_flat_map(|index| value(index).prop_map(move |value| Step::Put(index, value))),
        1 => (0..KEYS).prop_map(Step::Reject),
        2 => (0..KEYS).prop_map(Step::Delete),
        2 => (0..3usize, any::<bool>()).prop_map(|(fact, present)| Step::Fact(fact, present)),
        1 => (0..KEYS).prop_map(Step::Lose),
        1 => (1..4u8).prop_map(Step::FailNext),
        3 => (1..3u8).prop_map(Step::Rounds),
        1 => Just(Step::Time),
    ]
}

/// The greatest set of wanted values whose needs are all in the set: remove what lacks something until nothing does.
fn model(wanted: &BTreeMap<String, Toy>, facts: &BTreeMap<String, ()>) -> BTreeMap<String, u32> {
    let mut alive: BTreeMap<String, &Toy> = wanted.iter().map(|(key, value)| (key.clone(), value)).collect();
    loop {
        let mut present: BTreeSet<String> = facts.keys().cloned().collect();
        for (key, value) in &alive {
            present.insert(key.clone());
            present.extend(value.derives.iter().cloned());
        }
        let met = |value: &Toy| {
            value.needs.iter().all(|need| present.contains(need))
                && value
                    .needs_any
                    .iter()
                    .all(|prefix| present.iter().any(|key| key.starts_with(prefix.as_str())))
        };
        let before = alive.len();
        alive.retain(|_, value| met(value));
        if alive.len() == before {
            let mut kernel: BTreeMap<String, u32> = alive.iter().map(|(key, value)| (key.clone(), value.content)).collect();
            kernel.extend(
                alive
                    .values()
                    .flat_map(|value| value.derives.iter().map(|derived| (derived.clone(), 0))),
            );
            if !wanted.is_empty() {
                kernel.insert("shared".into(), 0);
            }
            return kernel;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: std::env::var("SCHEDULER_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(2000), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_sequence_ends_where_the_model_says(steps in prop::collection::vec(step(), 1..60)) {
        let mut world = World::new();
        let mut wanted: BTreeMap<String, Toy> = BTreeMap::new();
        for step in steps {
            match step {
                Step::Put(index, value) => {
                    wanted.insert(name(index), value.clone());
                    world.put(&name(index), value);
                }
                Step::Reject(index) => {
                    // Rejected values keep what is applied, which depends on timing: the model forgets them, so a deletion follows.
                    let rejection = Rejection { state: ValueState::Invalid, reason: "Bad", message: "bad".into(), fields: vec![] };
                    world.change(&name(index), Some(Err(rejection)));
                    world.round();
                    wanted.remove(&name(index));
                    world.delete(&name(index));
                }
                Step::Delete(index) => {
                    wanted.remove(&name(index));
                    world.delete(&name(index));
                }
                Step::Fact(fact, present) => world.fact(&format!("fact/{fact}"), present),
                Step::Lose(index) => {
                    if world.kernel.remove(&name(index)).is_some() {
                        world.scheduler.lost(&[key(&name(index))]);
                    }
                }
                Step::FailNext(count) => {
                    let mut left = count;
                    world.fail = Box::new(move |_, _| {
                        left = left.checked_sub(1)?;
                        Some(transient("injected"))
                    });
                }
                Step::Rounds(count) => (0..count).for_each(|_| { world.round(); }),
                Step::Time => world.now += Duration::from_secs(3),
            }
        }
        world.fail = Box::new(|_, _| None);
        world.run_out_retries();
        let expected = model(&wanted, &world.facts);
        let kernel: BTreeMap<String, u32> = world.kernel.iter().map(|(key, value)| (key.clone(), value.content)).collect();
        prop_assert_eq!(&kernel, &expected);
        for key in wanted.keys() {
            let state = if expected.contains_key(key) { ValueState::Configured } else { ValueState::Pending };
            prop_assert_eq!(world.state(key), Some(state), "{}: {:?}", key, world.statuses.get(key));
        }
        prop_assert_eq!(world.statuses.len(), wanted.len());
    }
}
