//! Live tests of drift with special handling: contention, the policy REPORT, and foreign addresses.

use serde_json::json;

use crate::{
    on_both_stores,
    support::{
        bench::Bench,
        command::{ip, ip_in},
        config::{Config, Reference},
        monitor::Monitor,
        settle,
    },
    veth::two_namespaces,
};

const LEFT: &str = "linux/interfaces/v2/interface/left";

async fn applied(bench: &mut Bench) -> Config {
    bench.start_agent().await;
    let config = two_namespaces();
    bench.until_configured(&bench.put_together(&config).await).await;
    config
}

/// If an address is removed each time it is restored, the agent backs off and reports contention. If the value is put again, it
/// is applied at once.
async fn contention_is_reported_and_backed_off(mut bench: Bench) {
    let config = applied(&mut bench).await;
    let netns = Reference::named("pair-left").path();
    for _ in 0..4 {
        bench
            .until_true("the address exists", || ip_in(&netns, "address").contains("10.11.0.1/24"))
            .await;
        ip_in(&netns, "address del 10.11.0.1/24 dev eth0");
    }
    let status = bench.until_state(LEFT, "RETRYING").await;
    assert_eq!(status.reason, "Contended", "{status:?}");
    for words in [
        "10.11.0.1/24",
        "another program keeps changing",
        "4 times",
        "does not report which program",
    ] {
        assert!(status.message.contains(words), "{words} in {status:?}");
    }
    assert!(!status.next_retry.is_empty());
    // The agent retries when its back-off has passed.
    bench.until_state(LEFT, "CONFIGURED").await;
    ip_in(&netns, "address del 10.11.0.1/24 dev eth0");
    bench.until_state(LEFT, "RETRYING").await;
    bench.until_configured(&bench.put_together(&config).await).await;
    bench.check(&config);
    bench.stop_agent().await;
}
on_both_stores!(contention_is_reported_and_backed_off);

/// If a namespace is deleted repeatedly, as by a container that keeps restarting, the agent does not report contention.
async fn repeated_namespace_deletion_is_not_contention(mut bench: Bench) {
    let config = applied(&mut bench).await;
    for _ in 0..8 {
        ip("netns del pair-right");
        bench.until_true("all is restored", || config.check(&bench.label).is_ok()).await;
        let contended = bench.published().keys.values().any(|entry| entry.text.contains("Contended"));
        assert!(!contended, "{}", bench.report());
    }
    bench.stop_agent().await;
}
on_both_stores!(repeated_namespace_deletion_is_not_contention);

/// With `--drift-policy report`, the agent reports drift without repairing it. A value can still select REPAIR, and a value that
/// is put again is applied.
async fn policy_report_reports_drift_without_repair(mut bench: Bench) {
    bench.agent_arguments = ["--drift-policy", "report"].map(str::to_owned).to_vec();
    let config = applied(&mut bench).await;
    let (left, right) = (Reference::named("pair-left").path(), Reference::named("pair-right").path());
    let arp = "linux/l3/v2/arp/left/10.11.0.2";
    let mut repaired = config.arps[0].json();
    repaired["drift_policy"] = json!("REPAIR");
    bench.put(arp, repaired.to_string()).await;
    settle::until_quiet(&[left.clone(), right.clone()]).await;

    ip_in(&left, "link set eth0 mtu 1400");
    let status = bench.until_state(LEFT, "FAILED").await;
    assert_eq!(status.reason, "Drifted", "{status:?}");
    assert!(status.message.contains("MTU is 1400 instead of 1500"), "{status:?}");
    ip_in(&left, "route del 10.12.0.0/16");
    let route = &config.routes[0].key();
    let status = bench.until_state(route, "FAILED").await;
    assert!(status.message.contains("deleted from the kernel"), "{status:?}");
    ip_in(&left, "neighbour del 10.11.0.2 dev eth0");
    bench
        .until_true("the neighbour with drift_policy REPAIR is restored", || {
            ip_in(&left, "neighbour").contains("10.11.0.2 dev eth0 lladdr 02:00:00:00:11:02 PERMANENT")
        })
        .await;
    assert!(ip_in(&left, "link show eth0").contains("mtu 1400"), "the MTU must not be repaired");

    // Undo the change of the MTU by hand, and put the value of the route again.
    ip_in(&left, "link set eth0 mtu 1500");
    bench.until_state(LEFT, "CONFIGURED").await;
    bench.put(route, config.routes[0].json().to_string()).await;
    bench.until_state(route, "CONFIGURED").await;
    bench.check(&config);

    // With the policy REPORT, the agent does not restore a deleted link either.
    settle::until_quiet(&[left.clone(), right.clone()]).await;
    ip_in(&left, "link del eth0");
    bench.until_state(LEFT, "FAILED").await;
    bench.until_state("linux/interfaces/v2/interface/right", "FAILED").await;
    let mut monitors = [Monitor::open(&left), Monitor::open(&right)];
    let other = "linux/l3/v2/arp/right/10.11.0.77";
    let value = json!({"interface": "right", "ip_address": "10.11.0.77", "hw_address": "02:00:00:00:11:77"});
    bench.put(other, value.to_string()).await;
    bench.until_state(other, "PENDING").await;
    monitors
        .iter_mut()
        .for_each(|monitor| monitor.assert_silent("while a deleted link was only reported"));
    bench.delete(other).await;
    bench.until_configured(&bench.put_together(&config).await).await;
    bench.check(&config);
    bench.stop_agent().await;
}
on_both_stores!(policy_report_reports_drift_without_repair);

/// With `--foreign-addresses strict`, a resync removes foreign addresses, but only from links that belong to the agent.
async fn strict_removes_foreign_addresses_from_own_links(mut bench: Bench) {
    let config = applied(&mut bench).await;
    let left = Reference::named("pair-left").path();
    ip("link add ext0 type veth peer name ext1");
    ip("address add 10.60.0.1/24 dev ext0");
    for line in [
        "address add 10.60.0.1/24 dev eth0",
        "address add fd60::1/64 dev eth0 nodad",
        "address add 10.60.0.2/32 dev lo",
    ] {
        ip_in(&left, line);
    }
    bench.kill_agent().await;
    let before = bench.start_agent().await;
    bench
        .until("the agent answers again", |publication| {
            publication.is_configured_since(LEFT, before)
        })
        .await;
    assert!(
        ip_in(&left, "address show dev eth0").contains("10.60.0.1/24"),
        "foreign addresses must be kept by default"
    );
    bench.kill_agent().await;
    bench.agent_arguments = ["--foreign-addresses", "strict"].map(str::to_owned).to_vec();
    bench.start_agent().await;
    bench
        .until_true("the foreign addresses are removed", || {
            let text = ip_in(&left, "address show dev eth0");
            !text.contains("10.60.0.1/24") && !text.contains("fd60::1/64")
        })
        .await;
    assert!(ip_in(&left, "address show dev eth0").contains("fe80::"), "fe80:: must stay");
    assert!(
        ip_in(&left, "address show dev lo").contains("10.60.0.2/32"),
        "foreign addresses on `lo` must be kept"
    );
    ip_in(&left, "address del 10.60.0.2/32 dev lo");
    bench.check(&config);
    assert!(ip("address show dev ext0").contains("10.60.0.1/24"), "ext0 must not be changed");
    bench.stop_agent().await;
}
on_both_stores!(strict_removes_foreign_addresses_from_own_links);
