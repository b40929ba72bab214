//! Tests of the requests that are sent in each state of the connection.

use super::*;

/// Returns all requests that can be sent now, each as text and with its batch.
fn requests(lease_state: &mut LeaseState, state: &mut State) -> Vec<(String, Batch)> {
    let mut requests = Vec::new();
    while let Some(request) = lease_state.next(state) {
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

fn words(lease_state: &mut LeaseState, state: &mut State) -> Vec<String> {
    requests(lease_state, state).into_iter().map(|(words, _)| words).collect()
}

fn batch(lease_state: &mut LeaseState, state: &mut State) -> Batch {
    let mut requests = requests(lease_state, state);
    assert_eq!(requests.len(), 1, "{requests:?}");
    requests.remove(0).1
}

fn set(state: &mut State, key: &str) {
    state.set(key, "text".to_owned().into());
}

/// Returns the state of a publisher that has lease 1 and has listed an empty store.
fn writing() -> (LeaseState, State) {
    let (mut lease_state, mut state) = (LeaseState::default(), State::default());
    lease_state.connected();
    assert_eq!(words(&mut lease_state, &mut state), ["grant"]);
    lease_state.granted(1);
    assert_eq!(words(&mut lease_state, &mut state), ["list"]);
    lease_state.listed(&mut state, []);
    (lease_state, state)
}

#[test]
fn missing_lease_is_replaced_before_listing() {
    let (mut lease_state, mut state) = writing();
    lease_state.interrupted(&mut state);
    lease_state.connected();
    assert_eq!(words(&mut lease_state, &mut state), ["renew 1"]);
    lease_state.lease_gone();
    assert_eq!(words(&mut lease_state, &mut state), ["grant"]);
    lease_state.granted(2);
    assert_eq!(
        (words(&mut lease_state, &mut state), lease_state.lease()),
        (vec!["list".to_owned()], Some(2))
    );
}

#[test]
fn audit_waits_for_transactions_in_flight_and_delays_others() {
    let (mut lease_state, mut state) = writing();
    set(&mut state, "a");
    let first = batch(&mut lease_state, &mut state);
    lease_state.audit();
    set(&mut state, "b");
    assert!(words(&mut lease_state, &mut state).is_empty());
    lease_state.completed(&mut state, first, Completion::Written(5));
    assert_eq!(words(&mut lease_state, &mut state), ["list"]);
    lease_state.audit();
    lease_state.listed(&mut state, []);
    assert_eq!(words(&mut lease_state, &mut state), ["write 2"], "the listing is the audit");
}

#[test]
fn former_leases_are_revoked_after_rewrite_and_before_listing() {
    let (mut lease_state, mut state) = writing();
    lease_state.former = vec![7, 8];
    set(&mut state, "a");
    lease_state.interrupted(&mut state);
    lease_state.connected();
    lease_state.next(&mut state);
    lease_state.renewed();
    lease_state.next(&mut state);
    lease_state.listed(&mut state, []);
    let last = batch(&mut lease_state, &mut state);
    assert!(!lease_state.is_fenced());
    lease_state.completed(&mut state, last, Completion::Written(5));
    for lease in ["revoke 8", "revoke 7"] {
        assert_eq!(words(&mut lease_state, &mut state), [lease]);
        lease_state.revoked();
    }
    assert_eq!(words(&mut lease_state, &mut state), ["list"]);
    assert!(lease_state.is_fenced());
}

#[test]
fn rejected_transaction_is_sent_in_parts() {
    let (mut lease_state, mut state) = writing();
    ["a", "b"].iter().for_each(|key| set(&mut state, key));
    let both = batch(&mut lease_state, &mut state);
    lease_state.completed(&mut state, both, Completion::Refused);
    let one = batch(&mut lease_state, &mut state);
    assert_eq!(one.len(), 1);
    lease_state.completed(&mut state, one, Completion::Refused);
    let other = batch(&mut lease_state, &mut state);
    lease_state.completed(&mut state, other, Completion::Written(5));
    assert!(words(&mut lease_state, &mut state).is_empty());
}

#[test]
#[should_panic(expected = "a transaction completed in the unexpected state Unleased")]
fn unexpected_answer_is_a_defect() {
    LeaseState::default().completed(&mut State::default(), Batch::new(), Completion::Written(1));
}
