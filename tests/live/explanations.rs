//! Live tests of the status of values that are not CONFIGURED: structured data and messages.

use serde_json::Value;

use crate::{
    on_both_stores,
    support::{
        bench::Bench,
        command::{ip, ip_in},
        config::{Interface, Kind, Reference, Route},
        status::ValueStatus,
    },
    veth::two_namespaces,
};

/// Returns the unmet dependency with this label.
fn unmet<'a>(status: &'a ValueStatus, label: &str) -> &'a Value {
    let found = status.unmet.iter().find(|unmet| unmet["label"] == label);
    found.unwrap_or_else(|| panic!("no unmet dependency {label}: {status:?}"))
}

fn suggestions(status: &ValueStatus, label: &str) -> Vec<String> {
    let suggestions = unmet(status, label)["suggestions"].as_array().cloned().unwrap_or_default();
    let text = |suggestion: &Value| suggestion["text"].as_str().unwrap_or_default().to_owned();
    suggestions.iter().map(text).collect()
}

/// The status of a pending value names each unmet dependency, how long it has been unmet, and the most similar existing object.
/// The status is updated with each change.
async fn pending_value_names_the_most_similar_object(mut bench: Bench) {
    bench.start_agent().await;
    let netns = Reference::named("explained");
    let route = Route::new("uplink-left", "10.32.0.0/16", "10.31.0.9");
    bench.put(&route.key(), route.json().to_string()).await;
    let labels = ["outgoing-interface-is-up", "gw-reachable", "outgoing-interface-has-ip-address"];
    let first = bench.until_waiting_for(&route.key(), &labels).await;
    let expected = "waiting for outgoing-interface-is-up, gw-reachable and outgoing-interface-has-ip-address: \
                    interface uplink-left does not exist";
    assert_eq!(first.message, expected);
    let up = unmet(&first, "outgoing-interface-is-up");
    assert_eq!(up["expected"], "linux/interface/state/uplink-left/UP", "{up}");
    assert_eq!(up["state"], "interface uplink-left does not exist", "{up}");

    // Put an interface with a misspelt name. Then put an interface with the correct name: first down, and then up with an address
    // in another subnet.
    let misspelt = Interface::new("uplink-letf", Kind::Loopback, netns.clone());
    bench
        .until_configured(&[(misspelt.key(), bench.put(&misspelt.key(), misspelt.json().to_string()).await)].into())
        .await;
    bench.put(&route.key(), route.json().to_string()).await;
    let similar = "interface uplink-letf has a similar name".to_owned();
    let reported = |label: &'static str, text: String| {
        let key = route.key();
        move |publication: &crate::support::status::Publication| {
            publication.of(&key).is_some_and(|status| {
                status.unmet.iter().any(|unmet| unmet["label"] == label) && suggestions(status, label).contains(&text)
            })
        }
    };
    bench
        .until("the similar name is reported", reported("outgoing-interface-is-up", similar))
        .await;
    bench.delete(&misspelt.key()).await;

    let mut right = Interface::new("uplink-left", Kind::Loopback, netns.clone());
    right.enabled = false;
    bench.put(&right.key(), right.json().to_string()).await;
    let down = "interface uplink-left exists but is DOWN".to_owned();
    let published = bench
        .until(
            "the interface is reported as DOWN",
            reported("outgoing-interface-is-up", down.clone()),
        )
        .await;
    let status = published.of(&route.key()).cloned().unwrap_or_default();
    assert!(status.message.contains(&down), "{status:?}");
    assert_eq!(
        unmet(&status, "outgoing-interface-is-up")["since"],
        up["since"],
        "the dependency must have been unmet all the time"
    );

    right.enabled = true;
    let right = right.address("10.33.0.1/24");
    bench.put(&right.key(), right.json().to_string()).await;
    let status = bench.until_waiting_for(&route.key(), &["gw-reachable"]).await;
    assert_eq!(
        suggestions(&status, "gw-reachable"),
        ["address 10.33.0.1/24 of interface uplink-left exists"]
    );
    let right = right.address("10.31.0.1/24");
    bench.put(&right.key(), right.json().to_string()).await;
    let status = bench.until_state(&route.key(), "CONFIGURED").await;
    assert_eq!((status.unmet.len(), status.message.as_str()), (0, ""));
    bench.stop_agent().await;
}
on_both_stores!(pending_value_names_the_most_similar_object);

/// A failed value reports the number of attempts, the kernel's error, and the time of the next attempt.
async fn failed_value_reports_the_kernel_error_and_next_attempt(mut bench: Bench) {
    bench.start_agent().await;
    ip("netns add failing");
    let netns = Reference::named("failing");
    ip_in(&netns.path(), "link add taken type veth peer name other");
    let [left, right] = [("left", "right", "taken"), ("right", "left", "free")]
        .map(|(name, peer, host_name)| Interface::veth(name, peer, netns.clone()).host_name(host_name));
    bench.put(&right.key(), right.json().to_string()).await;
    bench.put(&left.key(), left.json().to_string()).await;
    let status = bench.until_state(&left.key(), "RETRYING").await;
    assert!(status.attempts >= 1 && !status.next_retry.is_empty(), "{status:?}");
    assert_eq!(status.last_error["errno"], 17, "{status:?}");
    assert_eq!(status.last_error["kernel_text"], "File exists", "{status:?}");
    assert_eq!(status.last_error["message"], status.message, "{status:?}");
    ip_in(&netns.path(), "link del taken");
    let status = bench.until_state(&left.key(), "CONFIGURED").await;
    assert_eq!((status.attempts, status.last_error), (0, Value::Null));
    bench.stop_agent().await;
}
on_both_stores!(failed_value_reports_the_kernel_error_and_next_attempt);

/// After a repair, the status reports the time of the repair and the lost objects.
async fn repair_is_recorded_in_the_status(mut bench: Bench) {
    bench.start_agent().await;
    let config = two_namespaces();
    bench.until_configured(&bench.put_together(&config).await).await;
    let key = crate::support::config::interface_key("left");
    assert_eq!(
        bench.published().of(&key).map(|status| status.last_repair.clone()),
        Some(Value::Null)
    );
    ip_in(&Reference::named("pair-left").path(), "address del 10.11.0.1/24 dev eth0");
    let published = bench
        .until("the repair is reported", |publication| {
            publication.of(&key).is_some_and(|status| status.last_repair != Value::Null)
        })
        .await;
    let status = published.of(&key).cloned().unwrap_or_default();
    assert_eq!(status.state, "CONFIGURED", "{status:?}");
    assert_eq!(
        status.last_repair["lost"],
        serde_json::json!(["address 10.11.0.1/24 of interface left"]),
        "{status:?}"
    );
    bench.check(&config);
    bench.stop_agent().await;
}
on_both_stores!(repair_is_recorded_in_the_status);
