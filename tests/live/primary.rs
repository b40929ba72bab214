//! Live test of the order of addresses. The first address of a subnet in the value must be the primary one, because the kernel
//! uses it as the source address of packets.

use std::path::{Path, PathBuf};

use crate::{
    on_both_stores,
    support::{
        bench::{Bench, Revisions},
        command::{ip_in, run},
        config::{Interface, Reference, Route},
        monitor::Monitor,
        settle,
    },
};

/// Namespace of the test.
fn place() -> Reference {
    Reference::named("primary")
}

/// Returns the IPv4 addresses of `left` in the kernel's order. Secondary addresses are followed by `secondary`.
fn order(path: &Path) -> Vec<String> {
    let lines = ip_in(path, "-4 -o address show dev left");
    let describe = |line: &str| {
        let address = line.split_whitespace().nth(3).unwrap_or_default().to_owned();
        let kind = if line.contains(" secondary ") { " secondary" } else { "" };
        format!("{address}{kind}")
    };
    lines.lines().map(describe).collect()
}

fn source(path: &Path) -> String {
    let answer = ip_in(path, "route get 10.1.1.2");
    let mut words = answer.split_whitespace().skip_while(|word| *word != "src");
    words.nth(1).unwrap_or_default().to_owned()
}

fn left(addresses: &[&str]) -> Interface {
    let end = Interface::veth("left", "right", place());
    addresses.iter().fold(end, |end, address| end.address(address))
}

fn expected(addresses: &[&str]) -> Vec<String> {
    let kinds = ["", " secondary", " secondary", " secondary"];
    addresses
        .iter()
        .zip(kinds)
        .map(|(address, kind)| format!("{address}{kind}"))
        .collect()
}

async fn put(bench: &Bench, revisions: &mut Revisions, addresses: &[&str]) {
    let value = left(addresses);
    revisions.insert(value.key(), bench.put(&value.key(), value.json().to_string()).await);
    bench.until_configured(revisions).await;
}

/// Addresses are added in the order in which the value lists them.
///
/// The agent corrects a wrong order and a wrong primary address without losing a route.
async fn the_first_address_of_a_subnet_is_the_primary_one(mut bench: Bench) {
    bench.start_agent().await;
    let path: PathBuf = place().path();
    let far = Interface::veth("right", "left", place()).address("10.9.9.1/24");
    let route = Route::new("left", "10.7.0.0/16", "10.1.1.2");
    let mut revisions = Revisions::new();
    revisions.insert(far.key(), bench.put(&far.key(), far.json().to_string()).await);
    revisions.insert(route.key(), bench.put(&route.key(), route.json().to_string()).await);
    put(&bench, &mut revisions, &["10.1.1.9/24", "10.1.1.10/24", "10.2.0.1/16"]).await;
    assert_eq!(order(&path), ["10.1.1.9/24", "10.2.0.1/16", "10.1.1.10/24 secondary"]);
    assert_eq!(source(&path), "10.1.1.9");

    settle::until_quiet(std::slice::from_ref(&path)).await;
    let mut monitor = Monitor::open(&path);
    for _ in 0..2 {
        bench.kill_agent().await;
        let before = bench.start_agent().await;
        bench.until_configured_since(&revisions, before).await;
        monitor.assert_silent("restart with several addresses of one subnet");
    }

    for addresses in [
        // Apply these lists in turn. They change the order, add a new first address, remove that address, and add it again. The
        // agent must not remove the first address alone, because the kernel would then also delete the other addresses of the
        // subnet.
        &["10.1.1.10/24", "10.1.1.9/24"][..],
        &["10.1.1.8/24", "10.1.1.10/24", "10.1.1.9/24"],
        &["10.1.1.10/24", "10.1.1.9/24"],
        &["10.1.1.8/24", "10.1.1.10/24", "10.1.1.9/24"],
    ] {
        put(&bench, &mut revisions, addresses).await;
        assert_eq!(order(&path), expected(addresses));
        assert_eq!(source(&path), addresses[0].trim_end_matches("/24"));
    }
    settle::until_quiet(std::slice::from_ref(&path)).await;
    let lost = |change: &String| change.contains("DelRoute") && change.contains("10.7.0.0");
    let changes = monitor.changes();
    assert!(!changes.iter().any(lost), "the route must not be interrupted: {changes:#?}");

    // Remove the primary address by hand. The kernel then promotes another one.
    let netns = format!("--net={}", path.display());
    run("nsenter", &[&netns, "sysctl", "-qw", "net.ipv4.conf.left.promote_secondaries=1"]);
    ip_in(&path, "address del 10.1.1.8/24 dev left");
    let wanted = expected(&["10.1.1.8/24", "10.1.1.10/24", "10.1.1.9/24"]);
    bench.until_true("the order is as desired", || order(&path) == wanted).await;

    // Start the agent while another address is the primary one.
    bench.until_configured(&revisions).await;
    bench.stop_agent().await;
    ip_in(&path, "address del 10.1.1.8/24 dev left");
    assert_eq!(order(&path), expected(&["10.1.1.10/24", "10.1.1.9/24"]));
    let before = bench.start_agent().await;
    bench.until_configured_since(&revisions, before).await;
    bench.until_true("the order is as desired", || order(&path) == wanted).await;

    // The agent keeps the current order while the subnet contains a foreign address, because a change of the order could make the
    // kernel delete the foreign address.
    ip_in(&path, "address add 10.1.1.77/24 dev left");
    let now = ["10.1.1.9/24", "10.1.1.8/24", "10.1.1.10/24"];
    put(&bench, &mut revisions, &now).await;
    settle::until_quiet(std::slice::from_ref(&path)).await;
    let left = order(&path);
    assert_eq!(left.first(), wanted.first());
    assert!(left.contains(&"10.1.1.77/24 secondary".to_owned()), "{left:?}");
    bench.until_configured(&revisions).await;
    ip_in(&path, "address del 10.1.1.77/24 dev left");
    bench.until_true("the order is as desired", || order(&path) == expected(&now)).await;
    bench.stop_agent().await;
}
on_both_stores!(the_first_address_of_a_subnet_is_the_primary_one);
