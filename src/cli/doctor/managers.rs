//! Checks for other programs that configure networking on this machine and may interfere with the agent.
//!
//! These programs act only in the network namespace of the host and do not affect links in other namespaces.

use std::fs;

use super::{Finding, Verdict, machine::Machine};

/// Directories with the configuration of NetworkManager, in ascending order of precedence.
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

/// Files of `packaging/` that keep network managers away from the links of the agent, each in all directories that may contain it.
const UDEV_RULES: [&str; 2] = ["etc/udev/rules.d/70-netns-agent.rules", "usr/lib/udev/rules.d/70-netns-agent.rules"];
const NETWORK_FILE: [&str; 2] = [
    "etc/systemd/network/10-netns-agent.network",
    "usr/lib/systemd/network/10-netns-agent.network",
];
const LINK_FILE: [&str; 2] = [
    "etc/systemd/network/10-netns-agent.link",
    "usr/lib/systemd/network/10-netns-agent.link",
];

/// Programs that configure addresses and routes on every link, each with a remedy.
const GREEDY: [(&str, &str); 2] = [
    (
        "dhcpcd",
        "list the links that dhcpcd may configure: allowinterfaces in /etc/dhcpcd.conf",
    ),
    (
        "connmand",
        "exclude the links of the agent: NetworkInterfaceBlacklist in /etc/connman/main.conf",
    ),
];

/// Checks which network managers are running.
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
                "running, and configures every link in the host namespace",
            )
            .remedy(remedy),
        );
    }
    if findings.is_empty() {
        findings.push(Finding::ok("network managers", "none running"));
    }
    findings
}

fn network_manager(machine: &Machine) -> Option<Finding> {
    if !machine.runs("NetworkManager") {
        return None;
    }
    let name = "NetworkManager";
    if has_file(machine, &UDEV_RULES) {
        return Some(Finding::ok(
            name,
            "running, and ignores the links that the agent creates (70-netns-agent.rules)",
        ));
    }
    let left_alone = lines(machine, &NETWORK_MANAGER).any(|line| line.starts_with("unmanaged-devices"));
    Some(match left_alone {
        true => Finding::ok(name, "running, and configured to ignore some devices (unmanaged-devices)"),
        false => Finding::new(
            name,
            Verdict::Warning,
            "running, and may configure links that the agent creates in the host namespace",
        )
        .remedy(
            "install packaging/70-netns-agent.rules into /usr/lib/udev/rules.d; or add unmanaged-devices=type:veth;type:dummy;type:vrf to \
             section [keyfile] of /etc/NetworkManager/conf.d/netns-agent.conf, then run: systemctl reload NetworkManager",
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
    if keeps_routes {
        return Some(Finding::ok(name, "running, and keeps foreign routes (ManageForeignRoutes)"));
    }
    let remedy = "add ManageForeignRoutes=no to section [Network] of /etc/systemd/networkd.conf.d/netns-agent.conf, then run: systemctl \
                  restart systemd-networkd";
    let ignores_links = has_file(machine, &UDEV_RULES) && has_file(machine, &NETWORK_FILE);
    Some(match ignores_links {
        true => Finding::new(
            name,
            Verdict::Note,
            "running, and ignores the links that the agent creates (10-netns-agent.network), but removes foreign routes from its own links",
        )
        .remedy(format!("only if the agent has routes through EXISTING interfaces: {remedy}")),
        false => Finding::new(
            name,
            Verdict::Warning,
            "running, and removes foreign routes, such as those of the agent, from links that it manages",
        )
        .remedy(remedy),
    })
}

/// Checks whether udev changes the MAC address of a new link shortly after its creation. The default policy of systemd does this.
fn udev(machine: &Machine) -> Option<Finding> {
    if !machine.runs("systemd-udevd") || (has_file(machine, &UDEV_RULES) && has_file(machine, &LINK_FILE)) {
        return None;
    }
    let default = machine
        .read("etc/systemd/network/99-default.link")
        .or_else(|| machine.read("usr/lib/systemd/network/99-default.link"))?;
    default.lines().any(|line| line.trim() == "MACAddressPolicy=persistent").then(|| {
        Finding::new(
            "systemd-udevd",
            Verdict::Note,
            "changes the MAC addresses of new links in the host namespace (99-default.link)",
        )
        .remedy(
            "no action needed: the agent restores the MAC address of interfaces with phys_address, and links in other namespaces are not \
             affected",
        )
    })
}

/// Returns whether one of these files exists.
fn has_file(machine: &Machine, paths: &[&str]) -> bool {
    paths.iter().any(|path| machine.read(path).is_some())
}

/// Returns all lines of the `.conf` files in these directories.
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
    fn a_running_manager_is_a_warning_unless_it_is_configured_to_ignore_links() {
        assert_eq!(verdicts(&[]), [("network managers".to_owned(), Verdict::Ok)]);
        let manager = ("proc/7/comm", "NetworkManager\n");
        let found = verdicts(&[manager]);
        assert_eq!(found, [("NetworkManager".to_owned(), Verdict::Warning)]);
        let rules = ("usr/lib/udev/rules.d/70-netns-agent.rules", "# rules\n");
        assert_eq!(verdicts(&[manager, rules]), [("NetworkManager".to_owned(), Verdict::Ok)]);
        let reported = ("etc/NetworkManager/conf.d/x.conf", "[keyfile]\nunmanaged-devices=type:veth\n");
        assert_eq!(verdicts(&[manager, reported]), [("NetworkManager".to_owned(), Verdict::Ok)]);
    }

    #[test]
    fn networkd_is_a_warning_unless_it_keeps_foreign_routes() {
        // The kernel truncates process names to 15 bytes.
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
    fn networkd_that_ignores_the_links_of_the_agent_is_a_note() {
        let files = [
            ("proc/9/comm", "systemd-network\n"),
            ("usr/lib/udev/rules.d/70-netns-agent.rules", "# rules\n"),
            ("usr/lib/systemd/network/10-netns-agent.network", "[Match]\n"),
        ];
        assert_eq!(verdicts(&files), [("systemd-networkd".to_owned(), Verdict::Note)]);
        assert_eq!(verdicts(&files[..2]), [("systemd-networkd".to_owned(), Verdict::Warning)]);
    }

    #[test]
    fn mac_address_policy_of_udev_is_a_note() {
        let files = [
            ("proc/3/comm", "systemd-udevd\n"),
            ("usr/lib/systemd/network/99-default.link", "[Link]\nMACAddressPolicy=persistent\n"),
        ];
        assert_eq!(verdicts(&files), [("systemd-udevd".to_owned(), Verdict::Note)]);
        let packaged = [
            ("usr/lib/udev/rules.d/70-netns-agent.rules", "# rules\n"),
            ("usr/lib/systemd/network/10-netns-agent.link", "[Match]\n"),
        ];
        assert_eq!(
            verdicts(&[&files[..], &packaged].concat()),
            [("network managers".to_owned(), Verdict::Ok)]
        );
    }
}
