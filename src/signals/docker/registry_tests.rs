//! Tests of the container registry, without Docker and without a clock.

use proptest::prelude::*;

use super::*;

/// Returns a microservice. `run` is the number of the container's current run.
fn microservice(label: &str, container_id: &str, created: u64, run: i32) -> Microservice {
    Microservice {
        label: label.to_owned(),
        container_id: container_id.to_owned(),
        container_name: format!("name-of-{container_id}"),
        pid: 1000 + run,
        process_start_time: 10,
        created: SystemTime::UNIX_EPOCH + Duration::from_secs(created),
        started_at: SystemTime::UNIX_EPOCH + Duration::from_secs(created),
    }
}

fn listed(container_ids: &[&str]) -> Input {
    let container = |&id: &&str| ListedContainer {
        container_id: id.to_owned(),
        name: None,
    };
    Input::Listed(container_ids.iter().map(container).collect())
}

fn hint(container_id: &str) -> Input {
    Input::Hint {
        container_id: container_id.to_owned(),
    }
}

fn inspected(container_id: &str, found: Inspection) -> Input {
    Input::Inspected {
        container_id: container_id.to_owned(),
        found,
    }
}

fn running(microservice: &Microservice) -> Input {
    inspected(&microservice.container_id, Inspection::Running(microservice.clone()))
}

fn ended(microservice: &Microservice) -> Input {
    Input::ProcessEnded {
        container_id: microservice.container_id.clone(),
        process: ProcessIdentity::of(microservice),
    }
}

fn disconnected(message: &str) -> Input {
    Input::Disconnected {
        message: message.to_owned(),
    }
}

/// Passes `inputs` to the registry, and returns the resulting actions in a short notation.
fn updates(registry: &mut ContainerRegistry, inputs: impl IntoIterator<Item = Input>) -> Vec<String> {
    inputs
        .into_iter()
        .flat_map(|input| registry.step(input))
        .map(|action| notation(&action))
        .collect()
}

fn notation(action: &Action) -> String {
    match action {
        Action::Announce(MicroserviceChange::Available(microservice)) => {
            format!("+{} {} {}", microservice.label, microservice.container_id, microservice.pid)
        }
        Action::Announce(MicroserviceChange::Gone {
            label,
            container_id,
            reason,
        }) => match reason {
            GoneReason::ProcessEnded => format!("-{label} {container_id} ended"),
            GoneReason::NotRunning => format!("-{label} {container_id} not running"),
            GoneReason::Superseded { by } => format!("-{label} {container_id} superseded by {by}"),
        },
        Action::Announce(MicroserviceChange::Synced) => "synced".to_owned(),
        Action::Announce(MicroserviceChange::Disconnected { message }) => format!("disconnected {message}"),
        Action::Inspect { container_id, pause } if pause.is_zero() => format!("inspect {container_id}"),
        Action::Inspect { container_id, pause } => format!("inspect {container_id} after {} ms", pause.as_millis()),
        Action::GiveUp { container_id, .. } => format!("give up {container_id}"),
    }
}

/// Returns a registry that has processed an empty list.
fn synced() -> ContainerRegistry {
    let mut registry = ContainerRegistry::default();
    assert_eq!(updates(&mut registry, [Input::Connected, listed(&[])]), ["synced"]);
    registry
}

#[test]
fn first_list_reports_newest_container_of_each_label() {
    let mut registry = ContainerRegistry::default();
    let (old, new) = (microservice("web", "a", 1, 0), microservice("web", "b", 2, 1));
    assert_eq!(
        updates(&mut registry, [Input::Connected, listed(&["a", "b"])]),
        ["inspect a", "inspect b"]
    );
    assert_eq!(updates(&mut registry, [running(&old)]), [""; 0]);
    assert_eq!(updates(&mut registry, [running(&new)]), ["+web b 1001", "synced"]);
}

#[test]
fn start_and_end_of_a_container_are_reported() {
    let mut registry = synced();
    let web = microservice("web", "a", 1, 0);
    assert_eq!(updates(&mut registry, [hint("a"), running(&web)]), ["inspect a", "+web a 1000"]);
    assert_eq!(updates(&mut registry, [ended(&web)]), ["-web a ended", "inspect a"]);
    assert_eq!(
        updates(&mut registry, [hint("a"), inspected("a", Inspection::NotRunning)]),
        ["inspect a"]
    );
    assert_eq!(updates(&mut registry, [inspected("a", Inspection::NotRunning)]), [""; 0]);
}

#[test]
fn hints_during_an_inspection_lead_to_one_more() {
    let mut registry = synced();
    assert_eq!(updates(&mut registry, [hint("a"), hint("a"), hint("a")]), ["inspect a"]);
    assert_eq!(updates(&mut registry, [inspected("a", Inspection::NotRunning)]), ["inspect a"]);
    assert_eq!(updates(&mut registry, [inspected("a", Inspection::NotRunning)]), [""; 0]);
}

#[test]
fn same_result_twice_is_reported_once() {
    let mut registry = synced();
    let web = microservice("web", "a", 1, 0);
    assert_eq!(
        updates(&mut registry, [running(&web), running(&web), hint("a"), running(&web)]),
        ["+web a 1000", "inspect a"]
    );
}

#[test]
fn unnoticed_restart_is_reported_as_gone_and_available() {
    let mut registry = synced();
    let (first, second) = (microservice("web", "a", 1, 0), microservice("web", "a", 1, 1));
    assert_eq!(
        updates(&mut registry, [running(&first), running(&second)]),
        ["+web a 1000", "-web a ended", "+web a 1001"]
    );
    // A late notification about the end of the first process does not affect the second one.
    assert_eq!(updates(&mut registry, [ended(&first)]), ["inspect a"]);
    assert!(registry.runs("a"));
}

#[test]
fn reused_pid_is_another_process() {
    let mut registry = synced();
    let first = microservice("web", "a", 1, 0);
    let second = Microservice {
        process_start_time: 99,
        ..first.clone()
    };
    assert_eq!(
        updates(&mut registry, [running(&first), running(&second)]),
        ["+web a 1000", "-web a ended", "+web a 1000"]
    );
}

#[test]
fn newest_container_has_label_and_next_newest_inherits_it() {
    let mut registry = synced();
    let (oldest, middle, newest) = (
        microservice("web", "c", 1, 0),
        microservice("web", "b", 2, 1),
        microservice("web", "a", 3, 2),
    );
    assert_eq!(updates(&mut registry, [running(&middle), running(&oldest)]), ["+web b 1001"]);
    assert_eq!(
        updates(&mut registry, [running(&newest)]),
        ["-web b superseded by a", "+web a 1002"]
    );
    assert_eq!(
        updates(&mut registry, [ended(&middle)]),
        ["inspect b"],
        "the end of a container without the label is not reported"
    );
    assert_eq!(
        updates(&mut registry, [ended(&newest)]),
        ["-web a ended", "+web c 1000", "inspect a"]
    );
}

#[test]
fn greater_id_wins_if_creation_times_are_equal() {
    for order in [["a", "b"], ["b", "a"]] {
        let mut registry = ContainerRegistry::default();
        updates(&mut registry, [Input::Connected, listed(&["a", "b"])]);
        let actions = updates(&mut registry, order.map(|id| running(&microservice("web", id, 1, 0))));
        assert_eq!(actions, ["+web b 1000", "synced"]);
    }
}

#[test]
fn failed_inspection_is_retried_with_growing_pauses() {
    let mut registry = synced();
    let failed = || inspected("a", Inspection::Failed("ended meanwhile".to_owned()));
    let pauses = [
        "inspect a",
        "inspect a after 10 ms",
        "inspect a after 20 ms",
        "inspect a after 40 ms",
        "inspect a after 80 ms",
    ];
    let mut actions = updates(&mut registry, [hint("a")]);
    actions.extend(updates(&mut registry, (0..6).map(|_| failed())));
    assert_eq!(actions[..5], pauses);
    assert_eq!(actions[5..], ["inspect a after 160 ms", "give up a"]);
    assert_eq!(
        updates(&mut registry, [hint("a"), running(&microservice("web", "a", 1, 0))]),
        ["inspect a", "+web a 1000"]
    );
}

#[test]
fn failed_inspection_does_not_affect_running_container() {
    let mut registry = synced();
    updates(&mut registry, [running(&microservice("web", "a", 1, 0)), hint("a")]);
    let actions = updates(&mut registry, [inspected("a", Inspection::Failed("no answer".to_owned()))]);
    assert_eq!(actions, ["inspect a after 10 ms"]);
}

#[test]
fn failed_inspection_does_not_block_first_list() {
    let mut registry = ContainerRegistry::default();
    updates(
        &mut registry,
        [Input::Connected, listed(&["a", "b"]), running(&microservice("web", "b", 1, 0))],
    );
    let actions = updates(&mut registry, [inspected("a", Inspection::Failed("no answer".to_owned()))]);
    assert_eq!(actions, ["inspect a after 10 ms", "+web b 1000", "synced"]);
}

#[test]
fn outage_keeps_running_containers() {
    let mut registry = synced();
    let (web, db) = (microservice("web", "a", 1, 0), microservice("db", "b", 1, 1));
    updates(&mut registry, [running(&web), running(&db)]);
    assert_eq!(
        updates(&mut registry, [disconnected("refused"), disconnected("refused")]),
        ["disconnected refused"]
    );
    assert_eq!(
        updates(&mut registry, [disconnected("no such file")]),
        ["disconnected no such file"]
    );
    assert_eq!(
        updates(&mut registry, [ended(&db)]),
        ["-db b ended"],
        "nothing is inspected without a daemon"
    );
    assert_eq!(updates(&mut registry, [Input::Connected, listed(&["a"])]), ["synced"]);
}

#[test]
fn container_missing_in_list_is_inspected_first() {
    let mut registry = synced();
    updates(&mut registry, [running(&microservice("web", "a", 1, 0)), disconnected("refused")]);
    assert_eq!(updates(&mut registry, [Input::Connected, listed(&[])]), ["inspect a"]);
    assert_eq!(
        updates(&mut registry, [inspected("a", Inspection::NotRunning)]),
        ["-web a not running", "synced"]
    );
}

#[test]
fn takeover_after_outage_waits_for_whole_list() {
    let mut registry = synced();
    let (old, middle, new) = (
        microservice("web", "a", 1, 0),
        microservice("web", "b", 2, 1),
        microservice("web", "c", 3, 2),
    );
    updates(&mut registry, [running(&old), disconnected("refused")]);
    assert_eq!(
        updates(&mut registry, [Input::Connected, listed(&["a", "b", "c"])]),
        ["inspect b", "inspect c"]
    );
    assert_eq!(updates(&mut registry, [running(&middle)]), [""; 0]);
    assert_eq!(updates(&mut registry, [ended(&old)]), ["-web a ended", "inspect a"]);
    assert_eq!(updates(&mut registry, [running(&new)]), ["+web c 1002", "synced"]);
}

#[test]
fn connection_lost_during_comparison_reports_known_state() {
    let mut registry = synced();
    updates(
        &mut registry,
        [Input::Connected, listed(&["a", "b"]), running(&microservice("web", "a", 1, 0))],
    );
    assert_eq!(
        updates(&mut registry, [disconnected("reset")]),
        ["+web a 1000", "disconnected reset"]
    );
}

#[test]
fn connection_lost_during_first_comparison_reports_nothing() {
    let mut registry = ContainerRegistry::default();
    updates(
        &mut registry,
        [Input::Connected, listed(&["a", "b"]), running(&microservice("web", "a", 1, 0))],
    );
    assert_eq!(updates(&mut registry, [disconnected("reset")]), ["disconnected reset"]);
    assert_eq!(
        updates(&mut registry, [Input::Connected, listed(&["a"])]),
        ["+web a 1000", "synced"]
    );
}

#[test]
fn other_container_is_inspected_again_only_after_an_event() {
    let mut registry = ContainerRegistry::default();
    updates(&mut registry, [Input::Connected, listed(&["a"])]);
    assert_eq!(updates(&mut registry, [inspected("a", Inspection::NotMicroservice)]), ["synced"]);
    assert_eq!(updates(&mut registry, [listed(&["a"])]), [""; 0]);
    assert_eq!(updates(&mut registry, [hint("a")]), ["inspect a"]);
    assert_eq!(
        updates(
            &mut registry,
            [inspected("a", Inspection::NotMicroservice), listed(&[]), listed(&["a"])]
        ),
        ["inspect a"]
    );
}

#[test]
fn periodic_list_detects_missed_events() {
    let mut registry = synced();
    assert_eq!(updates(&mut registry, [listed(&["a"])]), ["inspect a"]);
    assert_eq!(
        updates(&mut registry, [running(&microservice("web", "a", 1, 0))]),
        ["+web a 1000"],
        "no new comparison is reported"
    );
}

#[test]
fn renamed_container_is_recorded_without_a_report() {
    let mut registry = synced();
    let web = microservice("web", "a", 1, 0);
    let renamed = Microservice {
        container_name: "renamed".to_owned(),
        ..web.clone()
    };
    updates(&mut registry, [running(&web), hint("a")]);
    assert_eq!(updates(&mut registry, [running(&renamed)]), [""; 0]);
    assert_eq!(registry.running["a"].container_name, "renamed");
}

/// Generates an input about one of three containers. Two of the containers have the same label.
fn any_input() -> impl Strategy<Value = Input> {
    let container = (0..3_usize, 0..3_i32).prop_map(|(index, run)| {
        let label = if index == 2 { "db" } else { "web" };
        microservice(label, ["a", "b", "c"][index], index as u64, run)
    });
    let finding = |microservice: Microservice, kind: u8| match kind {
        0 => Inspection::NotRunning,
        1 => Inspection::NotMicroservice,
        2 => Inspection::Failed("no answer".to_owned()),
        _ => Inspection::Running(microservice),
    };
    prop_oneof![
        1 => Just(Input::Connected),
        1 => Just(disconnected("refused")),
        2 => proptest::sample::subsequence(vec!["a", "b", "c"], 0..=3).prop_map(|ids| listed(&ids)),
        2 => container.clone().prop_map(|microservice| hint(&microservice.container_id)),
        3 => container.clone().prop_map(|microservice| ended(&microservice)),
        6 => (container, 0..6_u8).prop_map(move |(microservice, kind)| inspected(&microservice.container_id.clone(), finding(microservice, kind))),
    ]
}

proptest! {
    /// Checks that each label alternates between available and gone for any sequence of inputs. In the end, the label must refer
    /// to the newest running container.
    #[test]
    fn available_and_gone_alternate_for_each_label(inputs in proptest::collection::vec(any_input(), 0..80)) {
        let mut registry = ContainerRegistry::default();
        let mut holders: BTreeMap<String, String> = BTreeMap::new();
        let finish = [Input::Connected, listed(&[]), disconnected("over")];
        for input in inputs.into_iter().chain(finish) {
            for action in registry.step(input) {
                match action {
                    Action::Announce(MicroserviceChange::Available(found)) => {
                        prop_assert_eq!(holders.insert(found.label, found.container_id), None);
                    }
                    Action::Announce(MicroserviceChange::Gone { label, container_id, .. }) => {
                        prop_assert_eq!(holders.remove(&label), Some(container_id));
                    }
                    _ => {}
                }
            }
        }
        let newest = |label: &str| registry.running.values().filter(|one| one.label == label).max_by_key(|one| (one.created, &one.container_id));
        for label in ["web", "db"] {
            let expected = if registry.synced_once { newest(label).map(|one| &one.container_id) } else { None };
            prop_assert_eq!(holders.get(label), expected);
        }
    }
}
