//! Live tests of pending values. A pending value is not a failure, so `apply` and the APIs report it without an error.

use std::process::Output;

use crate::{
    on_one_store,
    support::{self, bench::Bench, command},
};

/// A veth pair with an IPv6 address. The kernel takes a second or two to check whether the address is a duplicate.
const TENTATIVE: &str = r#"linuxConfig:
  interfaces:
    - {name: left, type: VETH, enabled: true, hostIfName: eth0, ipAddresses: ["fd00:71::1/64"],
       namespace: {type: NSID, reference: wait-left}, veth: {peerIfName: right}}
    - {name: right, type: VETH, enabled: true, hostIfName: eth0,
       namespace: {type: NSID, reference: wait-right}, veth: {peerIfName: left}}
"#;

/// A link in the namespace of a process that does not exist.
const ABSENT: &str = r#"linuxConfig:
  interfaces:
    - {name: absent, type: DUMMY, enabled: true, hostIfName: absent0, namespace: {type: PID, reference: "999999"}}
"#;

/// A document that is invalid, because one VETH names no peer.
const REFUSED: &str = r#"linuxConfig:
  interfaces:
    - {name: absent, type: DUMMY, enabled: true, hostIfName: absent0, namespace: {type: PID, reference: "999999"}}
    - {name: lonely, type: VETH, enabled: true, hostIfName: lonely0}
"#;

/// Runs a `netns-agent` subcommand. If a document is given, passes it to the subcommand as a file.
fn agent(arguments: &[&str], document: Option<&str>) -> Output {
    let mut arguments = arguments.to_vec();
    if let Some(document) = document {
        std::fs::write("/run/live/values.yaml", document).expect("write the document");
        arguments.extend(["-f", "/run/live/values.yaml"]);
    }
    let output = command::output(&support::agent::program(), &arguments);
    println!("$ netns-agent {}\n{}", arguments.join(" "), shown(&output));
    output
}

fn shown(output: &Output) -> String {
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    format!("{out}{err}({})", output.status)
}

/// Runs a subcommand that must succeed, and returns its output.
fn succeeds(arguments: &[&str], document: Option<&str>) -> String {
    let output = agent(arguments, document);
    assert!(output.status.success(), "{arguments:?}: {}", shown(&output));
    shown(&output)
}

/// Asserts that the table of `history` shows no failure.
///
/// Each row ends with the number of failures, because no transaction in these tests has a description.
fn no_transaction_has_failures() {
    let output = agent(&["history"], None);
    let table = String::from_utf8_lossy(&output.stdout);
    let mut rows = table.lines();
    assert!(rows.next().is_some_and(|header| header.ends_with("FAILED  DESCRIPTION")), "{table}");
    assert!(
        table.lines().count() > 3 && rows.all(|row| row.trim_end().ends_with(" 0")),
        "{table}"
    );
}

async fn tentative_address_is_not_a_failure(mut bench: Bench) {
    bench.start_agent().await;
    for options in [&["apply"][..], &["apply"], &["apply", "--confirm-within", "60s"]] {
        let said = succeeds(options, Some(TENTATIVE));
        assert!(
            said.contains("PENDING") && said.contains("waiting for IPv6 duplicate address detection of fd00:71::1/64"),
            "{said}"
        );
        assert!(said.contains("1 of 2 PENDING, none failed"), "{said}");
        succeeds(&["delete", "interface/left", "interface/right", "--wait"], None);
    }
    // An atomic request returns only when duplicate address detection is complete.
    let said = succeeds(&["apply", "--atomic"], Some(TENTATIVE));
    assert!(said.contains("CONFIGURED") && !said.contains("PENDING"), "{said}");
    succeeds(&["delete", "interface/left", "interface/right", "--wait"], None);
    for options in [
        &["apply", "--wait"][..],
        &["apply", "--wait", "--atomic"],
        &["apply", "--wait", "--confirm-within", "60s"],
    ] {
        let said = succeeds(options, Some(TENTATIVE));
        assert!(said.contains("2 of 2 CONFIGURED"), "{said}");
        succeeds(&["delete", "interface/left", "interface/right", "--wait"], None);
    }
    no_transaction_has_failures();
    bench.stop_agent().await;
}
on_one_store!(tentative_address_is_not_a_failure, Embedded, 120);

async fn missing_process_is_not_a_failure(mut bench: Bench) {
    bench.start_agent().await;
    for options in [&["apply"][..], &["apply"], &["apply", "--atomic"]] {
        let said = succeeds(options, Some(ABSENT));
        assert!(said.contains("PENDING") && said.contains("PID 999999 does not exist"), "{said}");
        succeeds(&["resync"], None);
    }
    let late = agent(&["apply", "--wait", "--timeout", "300ms"], Some(ABSENT));
    assert_eq!(late.status.code(), Some(3), "{}", shown(&late));
    no_transaction_has_failures();

    let refused = agent(&["apply", "--atomic"], Some(REFUSED));
    assert_eq!(refused.status.code(), Some(1), "{}", shown(&refused));
    let said = shown(&refused);
    assert!(
        said.contains("interface/lonely") && !said.contains("CREATE of interface/absent"),
        "{said}"
    );
    bench.stop_agent().await;
}
on_one_store!(missing_process_is_not_a_failure, Embedded, 60);
