//! Other programs that configure networking on this machine, and what they would do to the agent's work.
//!
//! Owns what is known of each. They act in the host's namespace only; what the agent makes in others is none of their business. Start
//! reading at [`findings`].

use std::fs;

use super::{Finding, Verdict, machine::Machine};

/// Where the configuration of NetworkManager is; the last ones count most.
const NETWORK_MANAGER: [&str; 4] = [
    "usr/lib/NetworkManager/conf.d",
    "run/NetworkManager/conf.d",
    "etc/NetworkManager/conf.d",
    "etc/NetworkManager",
];
const NETWORKD: [&str; 4] = [
    "usr/lib/systemd/networkd.conf.d",
    "run/systemd/networkd.conf.d",
    "etc/systemd/networkd.conf.d",
    "etc/systemd",
];

/// Programs that give addresses and routes to every link that they see, and what keeps them from it.
const GREEDY: [(&str, &str); 2] = [
    ("dhcpcd", "name the links that it may have: allowinterfaces in /etc/dhcpcd.conf"),
    (
        "connmand",
        "NetworkInterfaceBlacklist in /etc/connman/main.conf keeps it from links of the agent",
    ),
];

/// What is running beside the agent.
pub(super) fn findings(machine: &Machine) -> Vec<Finding> {
    let mut findings = Vec::new();
    findings.extend(network_manager(machine));
    findings.extend(networkd(machine));
    findings.extend(udev(machine));
    for (program, remedy) in GREEDY.into_iter().filter(|(program, _)| machine.runs(program)) {
        findings.push(
            Finding::new(
                program,
                Verdict::Warning,
                "runs, and configures every link in the namespace of the host",
            )
            .remedy(remedy),
        );
    }
    if findings.is_empty() {
        findings.push(Finding::ok("network managers", "none runs"));
    }
    findings
}

fn network_manager(machine: &Machine) -> Option<Finding> {
    if !machine.runs("NetworkManager") {
        return None;
    }
    let name = "NetworkManager";
    let left_alone = lines(machine, &NETWORK_MANAGER).any(|line| line.starts_with("unmanaged-devices"));
    Some(match left_alone {
        true => Finding::ok(name, "runs, and is told to leave some devices alone (unmanaged-devices)"),
        false => Finding::new(
            name,
            Verdict::Warning,
            "runs; it may configure links that the agent makes in the namespace of the host",
        )
        .remedy(
            "write to /etc/NetworkManager/conf.d/netns-agent.conf: [keyfile], and below it \
             unmanaged-devices=type:veth;type:dummy;type:vrf, then systemctl reload NetworkManager",
        ),
    })
}

fn networkd(machine: &Machine) -> Option<Finding> {
    if !machine.runs("systemd-networkd") {
        return None;
    }
    let name = "systemd-networkd";
    let keeps_routes = lines(machine, &NETWORKD).any(|line| {
        let value = line
            .strip_prefix("ManageForeignRoutes")
            .map(|rest| rest.trim_start_matches([' ', '=']).to_lowercase());
        value.is_some_and(|value| ["no", "false", "off", "0"].contains(&value.as_str()))
    });
    Some(match keeps_routes {
        true => Finding::ok(name, "runs, and leaves routes of others alone (ManageForeignRoutes)"),
        false => Finding::new(
            name,
            Verdict::Warning,
            "runs; on links that it manages it removes routes that it did not make, so the agent's there",
        )
        .remedy(
            "write to /etc/systemd/networkd.conf.d/netns-agent.conf: [Network], and below it ManageForeignRoutes=no, then \
             systemctl restart systemd-networkd",
        ),
    })
}

/// systemd's default gives new links a MAC address of their own, shortly after the agent has made them.
fn udev(machine: &Machine) -> Option<Finding> {
    if !machine.runs("systemd-udevd") {
        return None;
    }
    let default = machine
        .read("etc/systemd/network/99-default.link")
        .or_else(|| machine.read("usr/lib/systemd/network/99-default.link"))?;
    default.lines().any(|line| line.trim() == "MACAddressPolicy=persistent").then(|| {
        Finding::new(
            "systemd-udevd",
            Verdict::Note,
            "gives links in the namespace of the host another MAC address after they were made (99-default.link)",
        )
        .remedy("values whose phys_address says which one are repaired; nothing needs to be done for links in other namespaces")
    })
}

/// All lines of the files with settings in these folders.
fn lines<'a>(machine: &'a Machine, folders: &'a [&'a str]) -> impl Iterator<Item = String> + 'a {
    let files = folders.iter().flat_map(|folder| machine.list(folder));
    let files = files.filter(|path| path.extension().is_some_and(|extension| extension == "conf"));
    files.flat_map(|path| {
        let text = fs::read_to_string(path).unwrap_or_default();
        text.lines().map(|line| line.trim().to_owned()).collect::<Vec<_>>()
    })
}

#[cfg(test)]
mod tests {
    use super::{super::machine::tests::machine, *};

    fn verdicts(files: &[(&str, &str)]) -> Vec<(String, Verdict)> {
        let (_folder, machine) = machine(files);
        findings(&machine)
            .into_iter()
            .map(|finding| (finding.check, finding.verdict))
            .collect()
    }

    #[test]
    fn a_manager_counts_only_while_it_runs_and_until_it_is_told_to_keep_away() {
        assert_eq!(verdicts(&[]), [("network managers".to_owned(), Verdict::Ok)]);
        let manager = ("proc/7/comm", "NetworkManager\n");
        let found = verdicts(&[manager]);
        assert_eq!(found, [("NetworkManager".to_owned(), Verdict::Warning)]);
        let told = ("etc/NetworkManager/conf.d/x.conf", "[keyfile]\nunmanaged-devices=type:veth\n");
        assert_eq!(verdicts(&[manager, told]), [("NetworkManager".to_owned(), Verdict::Ok)]);
    }

    #[test]
    fn networkd_must_be_told_to_keep_foreign_routes() {
        // The kernel keeps 15 bytes of a name.
        let networkd = ("proc/9/comm", "systemd-network\n");
        assert_eq!(verdicts(&[networkd]), [("systemd-networkd".to_owned(), Verdict::Warning)]);
        for (text, verdict) in [
            ("ManageForeignRoutes=no", Verdict::Ok),
            ("ManageForeignRoutes = yes", Verdict::Warning),
            ("#ManageForeignRoutes=no", Verdict::Warning),
        ] {
            let found = verdicts(&[networkd, ("etc/systemd/networkd.conf", text)]);
            assert_eq!(found, [("systemd-networkd".to_owned(), verdict)], "{text}");
        }
    }

    #[test]
    fn the_mac_policy_of_udev_is_worth_a_note() {
        let files = [
            ("proc/3/comm", "systemd-udevd\n"),
            ("usr/lib/systemd/network/99-default.link", "[Link]\nMACAddressPolicy=persistent\n"),
        ];
        assert_eq!(verdicts(&files), [("systemd-udevd".to_owned(), Verdict::Note)]);
    }
}
