//! Live tests of interface kinds that every kernel has (EXISTING, LOOPBACK, TAP_TO_VPP), and of kinds that this kernel
//! lacks.

use std::path::Path;

use crate::{
    on_both_stores,
    support::{
        bench::Bench,
        command::{ip, ip_in},
        config::{Config, Interface, Kind, Reference},
        monitor::Monitor,
        netns_state::NetnsState,
    },
};

/// The agent's own namespace.
const OWN: &str = "/proc/self/ns/net";

/// Returns the lines of a namespace's state that mention a link.
fn lines_about(netns: &str, link: &str) -> Vec<String> {
    let state = NetnsState::read(Path::new(netns)).unwrap_or_else(|error| panic!("{error}"));
    state
        .lines
        .into_iter()
        .filter(|line| line.split(' ').any(|word| word == link))
        .collect()
}

/// An EXISTING interface waits for its link, and then adds its addresses. If the value is deleted, the agent removes only these
/// addresses.
async fn existing_interface_waits_for_its_link_and_releases_it(mut bench: Bench) {
    bench.start_agent().await;
    let existing = Interface::new("uplink", Kind::Existing, Reference::Own)
        .host_name("ext0")
        .address("10.51.0.1/24");
    let key = existing.key();
    let revision = bench.put(&key, existing.json().to_string()).await;
    bench.until_waiting_for(&key, &["host-interface-exists"]).await;
    ip("link add ext0 type veth peer name ext1");
    ip("address add 10.52.0.1/24 dev ext0");
    bench.until_waiting_for(&key, &["host-interface-exists"]).await;
    ip("link set ext1 up");
    ip("link set ext0 up");
    bench
        .until("the existing interface is configured", |publication| {
            publication.is_configured_at(&key, revision)
        })
        .await;
    bench
        .until_true("its address exists", || {
            lines_about(OWN, "ext0").contains(&"address ext0 10.51.0.1/24".to_owned())
        })
        .await;
    bench.delete(&key).await;
    bench.until_nothing_is_published().await;
    let left = lines_about(OWN, "ext0");
    assert!(
        left.contains(&"address ext0 10.52.0.1/24".to_owned()),
        "foreign addresses must be kept: {left:?}"
    );
    assert!(
        !left.contains(&"address ext0 10.51.0.1/24".to_owned()),
        "the agent's address must be removed: {left:?}"
    );
    assert!(
        left.iter().any(|line| line.starts_with("link ext0 kind veth up")),
        "the link must not be changed: {left:?}"
    );
    bench.stop_agent().await;
}
on_both_stores!(existing_interface_waits_for_its_link_and_releases_it);

/// A LOOPBACK configures `lo` and keeps 127.0.0.1. If the value is deleted, the agent restores the earlier state of `lo`.
async fn loopback_keeps_the_kernel_addresses(mut bench: Bench) {
    ip("netns add kinds-lo");
    let path = Path::new("/run/netns/kinds-lo");
    ip_in(path, "link set lo up");
    bench.start_agent().await;
    let loopback = Interface::new("inner", Kind::Loopback, Reference::named("kinds-lo"))
        .address("10.53.0.1/32")
        .address("fd53::1/128");
    let config = Config {
        interfaces: vec![loopback.clone()],
        ..Config::default()
    };
    let revisions = bench.put_each(&config).await;
    bench.until_configured(&revisions).await;
    bench.check(&config);
    assert!(ip_in(path, "address show dev lo").contains("127.0.0.1/8"));
    let mut monitor = Monitor::open(path);
    bench.stop_agent().await;
    let before = bench.start_agent().await;
    bench.until_configured_since(&revisions, before).await;
    monitor.assert_silent("restart with a LOOPBACK");
    bench.delete(&loopback.key()).await;
    bench.until_nothing_is_published().await;
    let left = ip_in(path, "address show dev lo");
    assert!(
        left.contains("127.0.0.1/8") && left.contains("::1/128") && !left.contains("10.53.0.1") && !left.contains("fd53::1"),
        "{left}"
    );
    bench.stop_agent().await;
}
on_both_stores!(loopback_keeps_the_kernel_addresses);

/// A LOOPBACK without `enabled` is INVALID in the agent's own namespace. If `lo` were down, the agent could not reach its store,
/// and clients could not reach its API to undo the change.
async fn the_loopback_of_the_agents_own_namespace_is_never_taken_down(mut bench: Bench) {
    bench.start_agent().await;
    let up = Interface::new("own-lo", Kind::Loopback, Reference::Own).address("10.53.0.1/32");
    let down = Interface {
        enabled: false,
        ..up.clone()
    };
    let key = up.key();
    let is_up = || ip("link show dev lo up").contains("lo:");
    for desired in [&down, &up, &down] {
        bench.put(&key, desired.json().to_string()).await;
        let state = if desired.enabled { "CONFIGURED" } else { "INVALID" };
        let status = bench.until_state(&key, state).await;
        assert_eq!(status.reason, if desired.enabled { "" } else { "OwnLoopback" });
        assert!(is_up());
    }
    bench.delete(&key).await;
    bench.until_nothing_is_published().await;
    assert!(is_up());
}
on_both_stores!(the_loopback_of_the_agents_own_namespace_is_never_taken_down);

/// A TAP_TO_VPP interface moves and renames a foreign TAP. If the value is deleted, the agent moves the TAP back and restores its
/// old name.
async fn tap_is_moved_renamed_and_returned(mut bench: Bench) {
    bench.start_agent().await;
    let tap = Interface::new("tap-app", Kind::Tap("tap7".to_owned()), Reference::named("kinds-tap"))
        .host_name("app0")
        .address("10.54.0.1/24");
    let key = tap.key();
    let revision = bench.put(&key, tap.json().to_string()).await;
    bench.until_waiting_for(&key, &["vpp-tap-interface-exists"]).await;
    ip("tuntap add mode tap name tap7");
    bench
        .until("the TAP is configured", |publication| publication.is_configured_at(&key, revision))
        .await;
    let inside = lines_about("/run/netns/kinds-tap", "app0");
    assert!(
        inside.contains(&"address app0 10.54.0.1/24".to_owned()),
        "{inside:?}\n{}",
        bench.report()
    );
    assert!(lines_about(OWN, "tap7").is_empty(), "the TAP must have left its old namespace");
    bench.delete(&key).await;
    bench.until_nothing_is_published().await;
    let back = lines_about(OWN, "tap7");
    assert!(
        back.iter().any(|line| line.starts_with("link tap7")),
        "the TAP must be moved back: {back:?}\n{}",
        bench.report()
    );
    assert!(
        !back.contains(&"address tap7 10.54.0.1/24".to_owned()),
        "the TAP must be moved back without the agent's address: {back:?}"
    );
    bench.stop_agent().await;
}
on_both_stores!(tap_is_moved_renamed_and_returned);

/// A value of a link kind that the kernel lacks is FAILED, and its status names the kernel module. If the kernel has the module,
/// the value is CONFIGURED.
async fn unsupported_link_kind_names_its_module(mut bench: Bench) {
    ip("netns add kinds-probe");
    let probe = std::process::Command::new("ip")
        .args(["-n", "kinds-probe", "link", "add", "probe0", "type", "dummy"])
        .output();
    let has_dummy = probe.is_ok_and(|output| output.status.success());
    ip("netns del kinds-probe");
    bench.start_agent().await;
    let dummy = Interface::new("dummy-app", Kind::Dummy, Reference::named("kinds-dummy"))
        .host_name("dum0")
        .address("10.55.0.1/32");
    bench.put(&dummy.key(), dummy.json().to_string()).await;
    if has_dummy {
        bench.until_state(&dummy.key(), "CONFIGURED").await;
    } else {
        let status = bench.until("the missing module is named", |publication| {
            publication
                .of(&dummy.key())
                .is_some_and(|status| status.state == "FAILED" && status.explanation().contains("dummy"))
        });
        let status = status.await.of(&dummy.key()).cloned().unwrap_or_default();
        println!("without the module: {}", status.explanation());
        assert!(status.explanation().contains("module"), "{status:?}");
    }
    bench.delete(&dummy.key()).await;
    bench.until_nothing_is_published().await;
    bench.until_namespaces_are(&[]).await;
    bench.stop_agent().await;
}
on_both_stores!(unsupported_link_kind_names_its_module);
