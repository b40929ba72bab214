//! Live tests of PID and FD references. The namespace may appear late or disappear, but another namespace must never replace it
//! unnoticed.

use std::path::Path;

use nix::mount::{MntFlags, MsFlags};

use crate::{
    on_both_stores,
    support::{
        bench::{Bench, Revisions},
        config::{Arp, Config, Interface, Reference, Route},
        netns_state::fingerprint,
        ping,
        process::Holder,
    },
};

/// A PID so high that no other process in the test's PID namespace has it.
const PID: i32 = 20_000;

/// Returns a veth pair with one end in the namespace `inside`, and a route and an ARP entry on that end.
fn pair(inside: Reference) -> Config {
    let near = Interface::veth("outside", "inside", Reference::named("proc-outside"))
        .host_name("eth0")
        .address("10.41.0.1/24");
    let far = Interface::veth("inside", "outside", inside)
        .host_name("agent0")
        .address("10.41.0.2/24")
        .mac("02:00:00:00:41:02");
    Config {
        interfaces: vec![near, far],
        routes: vec![Route::new("inside", "10.42.0.0/16", "10.41.0.1")],
        arps: vec![Arp::new("inside", "10.41.0.9", "02:00:00:00:41:09")],
    }
}

/// Key of the end that depends on the process.
const INSIDE: &str = "linux/interfaces/v2/interface/inside";

/// Waits until the end in the namespace of the process is configured, and pings its address.
async fn until_it_works(bench: &Bench, config: &Config, revisions: &Revisions) {
    bench.until_configured(revisions).await;
    bench.check(config);
    ping::reaches(&Reference::named("proc-outside").path(), "10.41.0.2");
}

/// Puts ten other veth pairs one by one, and deletes them again. This gives a bug enough time and transactions to appear.
async fn let_other_things_happen(bench: &Bench) {
    for number in 0..10 {
        let names = (format!("other{number}"), format!("other{number}-peer"));
        let near = Interface::veth(&names.0, &names.1, Reference::named("proc-other")).host_name(&format!("o{number}"));
        let far = Interface::veth(&names.1, &names.0, Reference::named("proc-outside")).host_name(&format!("p{number}"));
        let config = Config {
            interfaces: vec![near, far],
            ..Config::default()
        };
        bench.until_configured(&bench.put_together(&config).await).await;
    }
    for number in 0..10 {
        bench.delete(&format!("linux/interfaces/v2/interface/other{number}")).await;
        bench.delete(&format!("linux/interfaces/v2/interface/other{number}-peer")).await;
    }
}

/// The value is put before its process exists. The process starts and ends, and then a foreign process gets its PID.
async fn pid_reference_never_refers_to_a_later_process(bench: Bench) {
    live_and_die(bench, Reference::Pid(PID)).await;
}
on_both_stores!(pid_reference_never_refers_to_a_later_process);

/// A namespace file below `/proc` is tied to its process in the same way as a PID.
async fn process_namespace_file_never_refers_to_a_later_process(bench: Bench) {
    live_and_die(bench, Reference::File(format!("/proc/{PID}/ns/net"))).await;
}
on_both_stores!(process_namespace_file_never_refers_to_a_later_process);

/// Starts a process to which this reference refers, ends it, and starts a foreign process with the same PID.
async fn live_and_die(mut bench: Bench, reference: Reference) {
    bench.start_agent().await;
    let config = pair(reference);
    let revisions = bench.put_together(&config).await;
    let waiting = bench.until_state(INSIDE, "PENDING").await;
    assert!(
        waiting.explanation().contains(&PID.to_string()),
        "the status must name the missing process: {waiting:?}"
    );

    let mut holder = Holder::start(Some(PID));
    until_it_works(&bench, &config, &revisions).await;
    holder.end();
    bench.until_state(INSIDE, "PENDING").await;

    let stranger = Holder::start(Some(PID));
    let before = fingerprint(&stranger.netns());
    let_other_things_happen(&bench).await;
    let status = bench.until_state(INSIDE, "PENDING").await;
    println!("a foreign process with the same PID: {}", status.explanation());
    assert_eq!(before, fingerprint(&stranger.netns()), "the foreign namespace must not be touched");

    // Deleting the values releases the reference. Values that are put afterwards refer to the process that has the PID now.
    for rest in config.entries().into_keys() {
        bench.delete(&rest).await;
    }
    bench
        .until(&format!("{INSIDE} is deleted"), |publication| publication.of(INSIDE).is_none())
        .await;
    assert_eq!(
        before,
        fingerprint(&stranger.netns()),
        "a deletion must not touch the foreign namespace"
    );
    let revisions = bench.put_together(&config).await;
    until_it_works(&bench, &config, &revisions).await;
    bench.stop_agent().await;
}

/// One value refers to a running process by PID, and another value by the namespace file of the same process.
async fn two_names_of_one_process_lead_to_one_namespace(mut bench: Bench) {
    bench.start_agent().await;
    let holder = Holder::start(None);
    let file = Reference::File(format!("/proc/{}/ns/net", holder.pid()));
    let by_pid = pair(Reference::Pid(holder.pid()));
    let second = Config {
        interfaces: vec![
            Interface::veth("second", "second-peer", file).host_name("agent1"),
            Interface::veth("second-peer", "second", Reference::named("proc-outside")).host_name("eth1"),
        ],
        ..Config::default()
    };
    let mut revisions = bench.put_together(&by_pid).await;
    revisions.extend(bench.put_together(&second).await);
    bench.until_configured(&revisions).await;
    ping::reaches(&holder.netns(), "10.41.0.1");
    let seen = fingerprint(&holder.netns());
    assert!(
        seen.contains("agent0") && seen.contains("agent1"),
        "both ends must be in the same namespace: {seen}"
    );
    bench.delete_all().await;
    bench.until_nothing_is_published().await;
    let left = fingerprint(&holder.netns());
    assert!(
        !left.contains("agent0") && !left.contains("agent1"),
        "no links may be left in the foreign namespace: {left}"
    );
    bench.stop_agent().await;
}
on_both_stores!(two_names_of_one_process_lead_to_one_namespace);

/// A namespace file appears, is unmounted, and appears again with another namespace mounted on it.
async fn namespace_file_may_return_with_another_namespace(mut bench: Bench) {
    bench.start_agent().await;
    let path = Path::new("/run/live/late-namespace");
    let config = pair(Reference::File(path.display().to_string()));
    let revisions = bench.put_together(&config).await;
    bench.until_state(INSIDE, "PENDING").await;
    for life in 1..=2 {
        let holder = Holder::start(None);
        bind(&holder.netns(), path);
        until_it_works(&bench, &config, &revisions).await;
        println!("life {life} of {}", path.display());
        nix::mount::umount2(path, MntFlags::MNT_DETACH).expect("unmount the namespace file");
        std::fs::remove_file(path).expect("remove the namespace file");
        drop(holder);
        bench.until_state(INSIDE, "PENDING").await;
    }
    bench.stop_agent().await;
}
on_both_stores!(namespace_file_may_return_with_another_namespace);

/// Deletes a named namespace and adds it again with `ip`. Retries if the agent, which needs the namespace, creates it first.
fn replace_by_hand(name: &str) {
    for _ in 0..100 {
        crate::support::command::ip(&format!("netns del {name}"));
        if crate::support::command::output("ip", &["netns", "add", name]).status.success() {
            return;
        }
    }
    panic!("the agent created namespace {name} before `ip` a hundred times");
}

/// If a named namespace is deleted and added again by hand, the agent restores its links in the new one.
async fn named_namespace_deleted_and_added_again_is_restored(mut bench: Bench) {
    bench.start_agent().await;
    crate::support::command::ip("netns add proc-named");
    let config = pair(Reference::named("proc-named"));
    let revisions = bench.put_together(&config).await;
    until_it_works(&bench, &config, &revisions).await;
    for _ in 0..3 {
        replace_by_hand("proc-named");
        bench
            .until_true("both ends are restored", || config.check(&bench.label).is_ok())
            .await;
        bench.until_configured(&revisions).await;
        ping::reaches(&Reference::named("proc-outside").path(), "10.41.0.2");
    }
    bench.stop_agent().await;
}
on_both_stores!(named_namespace_deleted_and_added_again_is_restored);

/// Mounts a namespace on a new file, as `ip netns attach` does.
fn bind(netns: &Path, path: &Path) {
    std::fs::write(path, "").expect("create the file to mount on");
    nix::mount::mount(Some(netns), path, None::<&str>, MsFlags::MS_BIND, None::<&str>).expect("mount the namespace on the file");
}

/// A name in `/run/netns` can be a symbolic link to the namespace of a process. A value in this namespace is PENDING before the
/// process starts and after the process ends. No other value is affected.
async fn dangling_symbolic_link_is_pending_and_blocks_nothing(mut bench: Bench) {
    bench.start_agent().await;
    let name = Path::new("/run/netns/proc-link");
    std::fs::create_dir_all("/run/netns").expect("create /run/netns");
    std::os::unix::fs::symlink(format!("/proc/{PID}/ns/net"), name).expect("create the link");
    let config = pair(Reference::named("proc-link"));
    let revisions = bench.put_together(&config).await;
    let waiting = bench.until_state(INSIDE, "PENDING").await;
    assert!(
        waiting
            .message
            .contains("/run/netns/proc-link is a symbolic link to /proc/20000/ns/net, which does not exist"),
        "{waiting:?}"
    );
    let_other_things_happen(&bench).await;

    let mut holder = Holder::start(Some(PID));
    until_it_works(&bench, &config, &revisions).await;
    holder.end();
    bench.until_state(INSIDE, "PENDING").await;
    let_other_things_happen(&bench).await;
    bench.delete_all().await;
    bench.until_nothing_is_published().await;
    assert!(name.is_symlink(), "the agent must not delete a foreign symbolic link");
    bench.stop_agent().await;
}
on_both_stores!(dangling_symbolic_link_is_pending_and_blocks_nothing);
