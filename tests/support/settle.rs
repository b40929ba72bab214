//! Waiting until the kernel itself has nothing left to say about fresh links.
//!
//! After a link comes up, the kernel goes on by itself: the carrier event (up to a second later), duplicate address detection of
//! IPv6. Owns waiting for their end, so that a monitor opened afterwards hears the agent alone; must never change anything.
//! Start reading at [`until_quiet`].

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::Value;

use super::command;

/// Carrier events take up to 1 s, duplicate address detection up to 2 s; more is an error.
const PATIENCE: Duration = Duration::from_secs(15);

/// Waits until in these namespaces no link that is set up lacks a carrier state and no address is tentative.
pub async fn until_quiet(namespaces: &[PathBuf]) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let unsettled: Vec<String> = namespaces.iter().flat_map(|netns| unsettled(netns)).collect();
        if unsettled.is_empty() {
            return;
        }
        assert!(
            tokio::time::Instant::now() < deadline,
            "after {PATIENCE:?} still unsettled: {unsettled:?}"
        );
        // The end of both is notified, but only to sockets opened before; looking again is simpler and just as bounded.
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// What in this namespace is still to change by itself.
fn unsettled(netns: &Path) -> Vec<String> {
    let answers = command::ip_batch_json(netns, "address show\n").unwrap_or_else(|error| panic!("{error}"));
    let links = answers.iter().filter_map(Value::as_array).flatten();
    links
        .flat_map(|link| {
            let has_flag = |name: &str| link["flags"].as_array().is_some_and(|flags| flags.iter().any(|flag| flag == name));
            let without_state = has_flag("LOWER_UP") && !has_flag("LOOPBACK") && link["operstate"] != "UP";
            let tentative = link["addr_info"]
                .as_array()
                .is_some_and(|addresses| addresses.iter().any(|address| address["tentative"] == true));
            (without_state || tentative).then(|| format!("{} in {}", link["ifname"], netns.display()))
        })
        .collect()
}
