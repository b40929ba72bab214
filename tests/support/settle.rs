//! Waits until the kernel has completed its own changes to new links.
//!
//! After a link has come up, the kernel continues to change it: the carrier event follows up to a second later, and IPv6
//! duplicate address detection takes some time. A monitor that is opened after this wait sees only changes made by the agent. See
//! [`until_quiet`].

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::Value;

use super::command;

/// Time limit for the kernel's own changes. Carrier events take up to 1 s, and duplicate address detection takes up to 2 s.
const TIME_LIMIT: Duration = Duration::from_secs(15);

/// Waits until every link that is up in these namespaces has a carrier state, and no address is tentative.
pub async fn until_quiet(namespaces: &[PathBuf]) {
    let deadline = tokio::time::Instant::now() + TIME_LIMIT;
    loop {
        let unsettled: Vec<String> = namespaces.iter().flat_map(|netns| unsettled(netns)).collect();
        if unsettled.is_empty() {
            return;
        }
        assert!(
            tokio::time::Instant::now() < deadline,
            "the kernel is still changing links after {TIME_LIMIT:?}: {unsettled:?}"
        );
        // Poll, because the kernel reports these changes only to sockets that were opened earlier.
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Returns the links in this namespace that have no carrier state yet or have a tentative address.
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
