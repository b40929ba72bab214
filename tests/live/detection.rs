//! Live tests of IPv6 duplicate address detection (RFC 4862 §5.4): an interface is CONFIGURED once the kernel has checked its
//! address.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::{
    on_both_stores, on_one_store,
    support::{
        agent,
        bench::Bench,
        command::{self, ip_in},
        config::{Interface, Reference},
        status::ValueStatus,
    },
};

const ADDRESS: &str = "fd00:70::1/64";

fn left() -> Interface {
    Interface::veth("left", "right", Reference::named("dad-left")).host_name("eth0")
}

fn right() -> Interface {
    Interface::veth("right", "left", Reference::named("dad-right")).host_name("eth0")
}

/// Returns the left end with its address as JSON. `policy` is the value of `duplicate_address_detection`. An empty `policy` omits
/// this field.
fn addressed(policy: &str) -> String {
    let mut value = left().address(ADDRESS).json();
    value.as_object_mut().expect("an object").remove("duplicate_address_detection");
    if !policy.is_empty() {
        value["duplicate_address_detection"] = json!(policy);
    }
    value.to_string()
}

fn netns(end: &Interface) -> PathBuf {
    end.netns.path()
}

/// Puts both ends of the veth pair without addresses and waits until they are CONFIGURED.
async fn pair(bench: &mut Bench) {
    bench.start_agent().await;
    for end in [left(), right()] {
        bench.put(&end.key(), end.json().to_string()).await;
    }
    for end in [left(), right()] {
        bench.until_state(&end.key(), "CONFIGURED").await;
    }
}

/// Adds the address of the left end to the right end by hand, as if another machine on the link used it.
fn somebody_else_takes_the_address() {
    ip_in(&netns(&right()), &format!("address add {ADDRESS} dev eth0 nodad"));
}

/// Returns the address of the left end as `ip` shows it, or `null` if the address does not exist.
fn shown() -> Value {
    let text = ip_in(&netns(&left()), "-j -6 address show dev eth0 scope global");
    let links: Value = serde_json::from_str(&text).expect("ip prints JSON");
    links[0]["addr_info"][0].clone()
}

async fn until_reported(bench: &Bench, state: &str, reason: &str) -> ValueStatus {
    let key = left().key();
    let reported = |status: &ValueStatus| status.state == state && status.reason == reason;
    let publication = bench
        .until(&format!("{key} is {state} with reason {reason:?}"), |publication| {
            publication.of(&key).is_some_and(reported)
        })
        .await;
    publication.of(&key).cloned().unwrap_or_default()
}

/// Waits until the left end is CONFIGURED, with a status for this revision of its value.
async fn until_answered(bench: &Bench, revision: i64) {
    bench.until_configured(&[(left().key(), revision)].into()).await;
}

async fn unique_address_is_configured_after_detection(mut bench: Bench) {
    pair(&mut bench).await;
    let revision = bench.put(&left().key(), addressed("")).await;
    let waiting = until_reported(&bench, "PENDING", "AddressTentative").await;
    assert!(waiting.message.contains("fd00:70::1/64"), "{waiting:?}");
    until_answered(&bench, revision).await;
    assert_eq!(
        shown()["tentative"],
        Value::Null,
        "CONFIGURED must not be reported while the address is still tentative"
    );
    // A restarted agent does not wait for an address that has already passed detection.
    bench.stop_agent().await;
    let before = bench.start_agent().await;
    bench.until_configured_since(&[(left().key(), revision)].into(), before).await;
    bench.stop_agent().await;
}
on_both_stores!(unique_address_is_configured_after_detection);

async fn duplicate_address_fails_until_it_is_released(mut bench: Bench) {
    pair(&mut bench).await;
    somebody_else_takes_the_address();
    let revision = bench.put(&left().key(), addressed("")).await;
    let failed = until_reported(&bench, "FAILED", "DuplicateAddress").await;
    assert_eq!(failed.mod_revision, revision);
    assert!(failed.error.contains("dadfailed") && !failed.next_retry.is_empty(), "{failed:?}");
    ip_in(&netns(&right()), &format!("address del {ADDRESS} dev eth0"));
    // Put the value again, because the agent would otherwise wait for up to a minute before it retries.
    let revision = bench.put(&left().key(), addressed("")).await;
    until_answered(&bench, revision).await;
    assert_eq!(shown()["dadfailed"], Value::Null);
    bench.stop_agent().await;
}
on_both_stores!(duplicate_address_fails_until_it_is_released);

async fn detection_can_be_skipped(mut bench: Bench) {
    pair(&mut bench).await;
    somebody_else_takes_the_address();
    let revision = bench.put(&left().key(), addressed("SKIP")).await;
    until_answered(&bench, revision).await;
    assert_eq!(shown()["nodad"], json!(true), "{}", shown());
    bench.stop_agent().await;
}
on_both_stores!(detection_can_be_skipped);

async fn optimistic_address_is_configured_at_once_and_may_fail_later(mut bench: Bench) {
    pair(&mut bench).await;
    let revision = bench.put(&left().key(), addressed("OPTIMISTIC")).await;
    until_answered(&bench, revision).await;
    let until_over = bench.until_true("duplicate address detection is complete", || {
        shown()["tentative"].is_null() && shown()["optimistic"].is_null()
    });
    until_over.await;
    bench.delete(&left().key()).await;
    bench.until_waiting_for(&right().key(), &["veth-peer-exists"]).await;
    // Only an existing link can detect that an address is a duplicate. So create the pair first, add the foreign address, and
    // then put the value with the agent's address.
    bench.put(&left().key(), left().json().to_string()).await;
    bench.until_state(&left().key(), "CONFIGURED").await;
    bench.until_state(&right().key(), "CONFIGURED").await;
    somebody_else_takes_the_address();
    bench.put(&left().key(), addressed("OPTIMISTIC")).await;
    until_reported(&bench, "FAILED", "DuplicateAddress").await;
    bench.stop_agent().await;
}
on_both_stores!(optimistic_address_is_configured_at_once_and_may_fail_later);

async fn tentative_address_without_carrier_names_the_carrier(mut bench: Bench) {
    pair(&mut bench).await;
    let mut down = right();
    down.enabled = false;
    let revision = bench.put(&down.key(), down.json().to_string()).await;
    bench.until_configured(&[(down.key(), revision)].into()).await;
    let revision = bench.put(&left().key(), addressed("")).await;
    let waiting = until_reported(&bench, "PENDING", "AddressTentative").await;
    assert!(waiting.message.contains("carrier"), "{waiting:?}");
    bench.put(&right().key(), right().json().to_string()).await;
    until_answered(&bench, revision).await;
    bench.stop_agent().await;
}
on_both_stores!(tentative_address_without_carrier_names_the_carrier);

/// Runs `apply --atomic` with the value of the left end and its address. Returns the exit code and the output.
fn apply_atomically() -> (Option<i32>, String) {
    let left: Value = serde_json::from_str(&addressed("")).expect("JSON");
    // JSON is a subset of YAML.
    let document = json!({"linuxConfig": {"interfaces": [left]}});
    std::fs::write("/run/live/left.yaml", document.to_string()).expect("write the document");
    let output = command::output(&agent::program(), &["apply", "--atomic", "-f", "/run/live/left.yaml"]);
    let text = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    (output.status.code(), text.concat())
}

async fn an_atomic_request_with_a_duplicate_address_is_rolled_back(mut bench: Bench) {
    pair(&mut bench).await;
    somebody_else_takes_the_address();
    let (code, said) = apply_atomically();
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains(ADDRESS), "{said}");
    bench.until_true("the address is removed", || shown().is_null()).await;
    bench.until_state(&left().key(), "CONFIGURED").await;

    ip_in(&netns(&right()), &format!("address del {ADDRESS} dev eth0"));
    let (code, said) = apply_atomically();
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("CONFIGURED") && !said.contains("PENDING"), "{said}");
    assert_eq!(shown()["tentative"], Value::Null);
    bench.stop_agent().await;
}
on_one_store!(an_atomic_request_with_a_duplicate_address_is_rolled_back, Embedded, 120);
