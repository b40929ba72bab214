//! Tests of the requests in each state of the connection.

use super::*;

/// Returns the requests that may be sent now, as text and batch.
fn requests(course: &mut Course, state: &mut State) -> Vec<(String, Batch)> {
    let mut requests = Vec::new();
    while let Some(request) = course.next(state) {
        requests.push(match request {
            Request::Renew(lease) => (format!("renew {lease}"), Batch::new()),
            Request::Grant => ("grant".to_owned(), Batch::new()),
            Request::List => ("list".to_owned(), Batch::new()),
            Request::Write(batch) => (format!("write {}", batch.len()), batch),
            Request::Revoke(lease) => (format!("revoke {lease}"), Batch::new()),
        });
    }
    requests
}

fn words(course: &mut Course, state: &mut State) -> Vec<String> {
    requests(course, state).into_iter().map(|(words, _)| words).collect()
}

fn batch(course: &mut Course, state: &mut State) -> Batch {
    let mut requests = requests(course, state);
    assert_eq!(requests.len(), 1, "{requests:?}");
    requests.remove(0).1
}

fn set(state: &mut State, key: &str) {
    state.set(key, "text".to_owned().into());
}

/// Returns a course under lease 1, with an empty store.
fn writing() -> (Course, State) {
    let (mut course, mut state) = (Course::default(), State::default());
    course.connected();
    assert_eq!(words(&mut course, &mut state), ["grant"]);
    course.granted(1);
    assert_eq!(words(&mut course, &mut state), ["list"]);
    course.listed(&mut state, []);
    (course, state)
}

#[test]
fn missing_lease_is_replaced_before_listing() {
    let (mut course, mut state) = writing();
    course.interrupted(&mut state);
    course.connected();
    assert_eq!(words(&mut course, &mut state), ["renew 1"]);
    course.lease_gone();
    assert_eq!(words(&mut course, &mut state), ["grant"]);
    course.granted(2);
    assert_eq!((words(&mut course, &mut state), course.lease()), (vec!["list".to_owned()], Some(2)));
}

#[test]
fn audit_waits_for_transactions_in_flight_and_delays_others() {
    let (mut course, mut state) = writing();
    set(&mut state, "a");
    let first = batch(&mut course, &mut state);
    course.audit();
    set(&mut state, "b");
    assert!(words(&mut course, &mut state).is_empty());
    course.landed(&mut state, first, Landed::Written(5));
    assert_eq!(words(&mut course, &mut state), ["list"]);
    course.audit();
    course.listed(&mut state, []);
    assert_eq!(words(&mut course, &mut state), ["write 2"], "the listing is the audit");
}

#[test]
fn former_leases_are_revoked_after_rewrite_and_before_listing() {
    let (mut course, mut state) = writing();
    course.former = vec![7, 8];
    set(&mut state, "a");
    course.interrupted(&mut state);
    course.connected();
    course.next(&mut state);
    course.renewed();
    course.next(&mut state);
    course.listed(&mut state, []);
    let last = batch(&mut course, &mut state);
    assert!(!course.is_fenced());
    course.landed(&mut state, last, Landed::Written(5));
    for lease in ["revoke 8", "revoke 7"] {
        assert_eq!(words(&mut course, &mut state), [lease]);
        course.revoked();
    }
    assert_eq!(words(&mut course, &mut state), ["list"]);
    assert!(course.is_fenced());
}

#[test]
fn rejected_transaction_is_sent_in_parts() {
    let (mut course, mut state) = writing();
    ["a", "b"].iter().for_each(|key| set(&mut state, key));
    let both = batch(&mut course, &mut state);
    course.landed(&mut state, both, Landed::Refused);
    let one = batch(&mut course, &mut state);
    assert_eq!(one.len(), 1);
    course.landed(&mut state, one, Landed::Refused);
    let other = batch(&mut course, &mut state);
    course.landed(&mut state, other, Landed::Written(5));
    assert!(words(&mut course, &mut state).is_empty());
}

#[test]
#[should_panic(expected = "completed transaction in state Unleased")]
fn unexpected_answer_is_a_defect() {
    Course::default().landed(&mut State::default(), Batch::new(), Landed::Written(1));
}
