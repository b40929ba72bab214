//! Live tests of an agent that uses a configuration file in addition to its store. The agent applies changes to the file, but the
//! store has priority.

use std::{fs, path::Path};

use crate::{
    on_both_stores,
    support::{
        bench::Bench,
        command::ip_in,
        config::{Interface, Reference},
        status::ValueStatus,
    },
};

fn end(name: &str, peer: &str) -> Interface {
    Interface::veth(name, peer, Reference::named("in-file")).host_name(name)
}

/// Returns a document that describes a veth pair. `mtu` is the MTU of the first end.
fn document(mtu: u32) -> String {
    let end = |name: &str, peer: &str, mtu: u32| {
        format!(
            "    - name: {name}\n      type: VETH\n      enabled: true\n      hostIfName: {name}\n      mtu: {mtu}\n      \
             namespace: {{type: NSID, reference: in-file}}\n      veth: {{peerIfName: {peer}}}\n"
        )
    };
    format!("linuxConfig:\n  interfaces:\n{}{}", end("one", "two", mtu), end("two", "one", 1500))
}

/// Replaces a file by renaming, as editors do.
fn replace(path: &Path, text: &str) {
    let new = path.with_extension("new");
    fs::write(&new, text).expect("write the file");
    fs::rename(&new, path).expect("replace the file");
}

/// Waits until the kernel shows this MTU. Checks the MTU whenever the agent publishes something, which happens after each
/// change.
async fn until_mtu(bench: &Bench, mtu: u32) {
    let path = end("one", "two").netns.path();
    let shown =
        || path.exists() && ip_in(&path, "-o link show").contains(&format!(": one@two: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu {mtu} "));
    bench.until(&format!("`one` has MTU {mtu}"), |_| shown()).await;
}

async fn store_has_priority_over_the_followed_file(mut bench: Bench) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("initial-config.yaml");
    fs::write(&path, document(1400)).expect("write the file");
    bench.agent_arguments = vec!["--initial-config".to_owned(), path.display().to_string()];
    bench.start_agent().await;
    let key = end("one", "two").key();
    bench.until_state(&key, "CONFIGURED").await;
    until_mtu(&bench, 1400).await;

    replace(&path, &document(1300));
    until_mtu(&bench, 1300).await;

    // A value in the store has priority over the same value in the file.
    let mut value = end("one", "two").json();
    value["mtu"] = 1200.into();
    bench.put(&key, value.to_string()).await;
    until_mtu(&bench, 1200).await;
    bench.delete(&key).await;
    until_mtu(&bench, 1300).await;

    // An invalid file changes nothing. The valid file that follows is applied.
    replace(&path, "linuxConfig: [");
    replace(&path, "linuxConfig:\n  interfaces: []\n");
    let gone = |status: Option<&ValueStatus>| status.is_none();
    bench
        .until("the value from the file is deleted", |publication| gone(publication.of(&key)))
        .await;
    bench.stop_agent().await;
}
on_both_stores!(store_has_priority_over_the_followed_file);
