//! Tests of `/configuration`: reading and writing documents, atomic changes, changes that must be confirmed, and persistence
//! across restarts.

use serde_json::{Value, json};

use crate::{
    client::{ADDRESS, Answer, Request},
    golden, on_one_store,
    support::{bench::Bench, command::ip_in, config::Reference},
};

const ONE: &str = "linux/interfaces/v2/interface/one";

/// Returns a YAML document that describes a veth pair. `mtu` is the MTU of the first end.
fn document(mtu: u32) -> String {
    format!(
        "linuxConfig:\n  interfaces:\n\
         \x20   - {{name: one, type: VETH, enabled: true, hostIfName: one, mtu: {mtu}, namespace: {{type: NSID, reference: put}}, \
         veth: {{peerIfName: two}}}}\n\
         \x20   - {{name: two, type: VETH, enabled: true, hostIfName: two, namespace: {{type: NSID, reference: put}}, \
         veth: {{peerIfName: one}}}}\n"
    )
}

/// Returns the MTU that the kernel reports for the first end of the veth pair.
fn mtu() -> String {
    let shown = ip_in(&Reference::named("put").path(), "-o link show one");
    let mut words = shown.split_whitespace();
    words
        .find(|word| *word == "mtu")
        .and_then(|_| words.next().map(str::to_owned))
        .unwrap_or(shown)
}

async fn send(method: &str, target: &str, body: &str) -> Answer {
    Request::new(method, target).body(body).send().await
}

fn parsed(answer: &Answer) -> Value {
    serde_json::from_str(&answer.body).unwrap_or_else(|error| panic!("{error}: {answer:?}"))
}

async fn values_are_put_read_planned_and_deleted(mut bench: Bench) {
    bench.start_agent().await;
    golden::check("configuration-empty.yaml", &Request::get("/configuration").send().await);
    golden::check("plan.json", &send("POST", "/configuration/plan", &document(1400)).await);
    golden::check("configuration-put.json", &send("PUT", "/configuration", &document(1400)).await);
    // The response is sent only after all operations have completed.
    assert_eq!(mtu(), "1400");
    golden::check("configuration.yaml", &Request::get("/configuration").send().await);
    golden::check("plan-nothing.json", &send("POST", "/configuration/plan", &document(1400)).await);
    golden::check(
        "plan-replace.json",
        &send("POST", "/configuration/plan?replace", "linuxConfig: {}").await,
    );
    golden::check(
        "configuration-delete.json",
        &send("DELETE", "/configuration?verbose", &document(1400)).await,
    );
    golden::check("configuration-empty.yaml", &Request::get("/configuration").send().await);
    bench.stop_agent().await;
}
on_one_store!(values_are_put_read_planned_and_deleted, Embedded, 120);

async fn unusable_input_is_reported_with_its_location(mut bench: Bench) {
    bench.start_agent().await;
    golden::check(
        "configuration-not-yaml.json",
        &send("PUT", "/configuration", "linuxConfig: [").await,
    );
    golden::check(
        "configuration-unknown.json",
        &send("PUT", "/configuration", "linuxConfig:\n  routs: []\n").await,
    );
    let invalid = "linuxConfig:\n  interfaces: [{name: v1, type: VRF_DEVICE, physAddress: '12:21:21:11:11:11'}]\n  \
                   arpEntries: [{interface: veth1, ipAddress: 10.0.0.2}]\n";
    golden::check("validate.json", &send("POST", "/configuration/validate", invalid).await);
    golden::check(
        "validate-good.json",
        &send("POST", "/configuration/validate", &document(1400)).await,
    );
    golden::check("configuration-invalid.json", &send("PUT", "/configuration", invalid).await);
    golden::check(
        "configuration-source.json",
        &send("PUT", "/configuration?source=datasync", &document(1400)).await,
    );
    golden::check("confirm-unknown.json", &send("POST", "/configuration/confirm?id=4711", "").await);
    bench.stop_agent().await;
}
on_one_store!(unusable_input_is_reported_with_its_location, Embedded, 120);

async fn failed_atomic_change_leaves_values_unchanged(mut bench: Bench) {
    bench.start_agent().await;
    assert_eq!(send("PUT", "/configuration", &document(1400)).await.status, 200);
    // The second value can never be configured, because its kernel name is too long.
    let wrong = document(1300).replace("hostIfName: two", "hostIfName: a-name-of-more-than-15-bytes");
    let answer = send("PUT", "/configuration?atomic", &wrong).await;
    assert_eq!((answer.status, &parsed(&answer)["reverted"]), (422, &json!(true)), "{answer:?}");
    assert_eq!(mtu(), "1400");
    let desired = Request::get("/configuration").send().await;
    assert!(
        desired.body.contains("mtu: 1400") && !desired.body.contains("more-than"),
        "{desired:?}"
    );
    bench.stop_agent().await;
}
on_one_store!(failed_atomic_change_leaves_values_unchanged, Embedded, 120);

/// A pending value does not cause a change or a resync to fail, even if the value is put repeatedly.
async fn pending_values_are_listed_and_are_not_failures(mut bench: Bench) {
    bench.start_agent().await;
    let absent = "linuxConfig:\n  interfaces:\n    \
                  - {name: absent, type: DUMMY, enabled: true, hostIfName: absent0, namespace: {type: PID, reference: '999999'}}\n";
    for target in [
        "/configuration",
        "/configuration?atomic",
        "/configuration?atomic&verbose",
        "/configuration?verbose",
    ] {
        let answer = send("PUT", target, absent).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        if target.contains("verbose") {
            let reported = parsed(&answer);
            assert_eq!(
                (&reported["reverted"], &reported["errors"]),
                (&json!(false), &json!([])),
                "{reported}"
            );
            let waiting = &reported["waiting"][0];
            assert_eq!(waiting["key"], "config/linux/interfaces/v2/interface/absent", "{reported}");
            assert_eq!(waiting["reason"], "DependencyUnmet", "{reported}");
            assert!(
                waiting["message"]
                    .as_str()
                    .is_some_and(|message| message.contains("PID 999999 does not exist")),
                "{reported}"
            );
            assert_eq!(reported["values"][0]["state"], "PENDING", "{reported}");
        }
        let answer = send("POST", "/scheduler/downstream-resync", "").await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    bench.stop_agent().await;
}
on_one_store!(pending_values_are_listed_and_are_not_failures, Embedded, 120);

async fn unconfirmed_change_is_rolled_back(mut bench: Bench) {
    bench.start_agent().await;
    assert_eq!(send("PUT", "/configuration", &document(1400)).await.status, 200);
    let id = |answer: &Answer| parsed(answer)["confirm"]["id"].as_str().expect("an id").to_owned();

    let waiting = send("PUT", "/configuration?confirm-within=1", &document(1300)).await;
    let state = format!("/configuration/confirm?id={}", id(&waiting));
    bench.until_true("the MTU is reverted", || mtu() == "1400").await;
    let mut reported = Value::Null;
    for _ in 0..100 {
        reported = parsed(&Request::get(&state).send().await)["state"].clone();
        if reported != "WAITING" {
            break;
        }
    }
    assert_eq!(reported, "ROLLED_BACK");
    assert_eq!(send("POST", &state, "").await.status, 409, "confirmed too late");

    // Neither of these overlapping changes is confirmed, so the agent restores the MTU that was set before the first change.
    send("PUT", "/configuration?confirm-within=1", &document(1300)).await;
    send("PUT", "/configuration?confirm-within=2", &document(1200)).await;
    bench.until_true("the MTU is that before both changes", || mtu() == "1400").await;

    let waiting = send("PUT", "/configuration?confirm-within=600&description=smaller", &document(1200)).await;
    let unconfirmed = async || parsed(&Request::get("/configuration/unconfirmed").send().await);
    let listed = unconfirmed().await;
    assert_eq!(listed.as_array().map(Vec::len), Some(1), "{listed}");
    assert_eq!(listed[0]["id"], parsed(&waiting)["seq_num"].to_string());
    assert_eq!(
        (&listed[0]["description"], &listed[0]["source"]),
        (&json!("smaller"), &json!("grpc"))
    );
    assert_eq!(listed[0]["keys"][0], format!("config/{ONE}"));
    assert!(
        listed[0]["seconds_left"].as_u64().is_some_and(|left| (1..=600).contains(&left)),
        "{listed}"
    );
    let state = format!("/configuration/confirm?id={}", id(&waiting));
    assert_eq!(send("POST", &state, "").await.status, 200);
    assert_eq!(parsed(&Request::get(&state).send().await)["state"], "CONFIRMED");
    assert_eq!(unconfirmed().await, json!([]));

    // A restart drops an unconfirmed change and keeps the confirmed one.
    let waiting = send("PUT", "/configuration?confirm-within=600", &document(1100)).await;
    assert_eq!((waiting.status, mtu()), (200, "1100".to_owned()));
    bench.kill_agent().await;
    bench.start_agent().await;
    bench.until_state(ONE, "CONFIGURED").await;
    bench.until_true("the MTU has the confirmed value", || mtu() == "1200").await;
    bench.stop_agent().await;
}
on_one_store!(unconfirmed_change_is_rolled_back, Embedded, 120);

async fn changes_that_may_need_a_rollback_are_rejected_until_the_store_is_read(mut bench: Bench) {
    // Nothing listens at this endpoint, so the agent cannot read its store.
    bench.endpoint = "http://127.0.0.1:1".to_owned();
    bench.launch_agent_now();
    bench
        .until_true("the agent serves REST", || std::net::TcpStream::connect(ADDRESS).is_ok())
        .await;
    for target in ["/configuration?atomic", "/configuration?confirm-within=60"] {
        let answer = send("PUT", target, &document(1400)).await;
        assert_eq!(answer.status, 503, "{answer:?}");
    }
    assert_eq!(Request::get("/configuration").send().await.body.trim(), "{}");
    let answer = send("PUT", "/configuration?verbose", &document(1400)).await;
    assert_eq!((answer.status, &parsed(&answer)["kept"]), (200, &json!(true)), "{answer:?}");
    bench.stop_agent().await;
}
on_one_store!(changes_that_may_need_a_rollback_are_rejected_until_the_store_is_read, Etcd, 120);

async fn the_schema_knows_every_model(mut bench: Bench) {
    bench.start_agent().await;
    let schema = parsed(&Request::get("/info/configuration/jsonschema").send().await);
    let groups = &schema["definitions"]["ligato.configurator.Dynamic_config"]["properties"];
    assert!(
        groups.get("linuxConfig").is_some() && groups.get("netallocConfig").is_some(),
        "{schema}"
    );
    golden::check(
        "jsonschema-wrong.json",
        &Request::get("/info/configuration/jsonschema?fieldnames=all").send().await,
    );
    bench.stop_agent().await;
}
on_one_store!(the_schema_knows_every_model, Embedded, 120);
