//! What the kernel and its settings say: rights, version, kinds of links, limits, mounts.
//!
//! Owns the thresholds. Reads files below a root, so that tests can bring their own. Start reading at [`Machine::findings`].

use std::{
    fs,
    path::{Path, PathBuf},
};

use link_kinds::{KINDS, KindSpec, LifeCycle, Role};
use netns_kernel::{LinkInfo, LinkKindTrial, privileges};

use super::{Finding, Verdict};

/// pidfds, without which a process cannot be followed.
const KERNEL_MIN: (u32, u32) = (5, 3);
/// `IFA_PROTO`, by which the agent tells its own addresses from others.
const KERNEL_FULL: (u32, u32) = (5, 18);

/// Settings, the least that is well, what it is for, and how much to recommend.
const LIMITS: [(&str, u64, &str, u64); 5] = [
    ("user/max_net_namespaces", 64, "network namespaces of a user", 10_000),
    ("fs/inotify/max_user_instances", 128, "watches of folders", 512),
    ("fs/inotify/max_user_watches", 8_192, "watched folders", 65_536),
    (
        "net/ipv4/neigh/default/gc_thresh3",
        1_024,
        "neighbours of all namespaces together",
        16_384,
    ),
    (
        "net/ipv6/neigh/default/gc_thresh3",
        1_024,
        "IPv6 neighbours of all namespaces together",
        16_384,
    ),
];

/// Descriptors that the agent needs beside those for namespaces, and for the number of namespaces that it watches by default.
const DESCRIPTORS_MIN: u64 = 1_024;

/// What tries kinds of links: answers for each whether the kernel makes one, otherwise its own words.
type Trial = fn(Vec<LinkKindTrial>) -> std::io::Result<Vec<Result<(), String>>>;

/// A machine, as its files tell.
pub(super) struct Machine {
    root: PathBuf,
    /// What the kernel is tried with; `None`: it is not tried.
    trial: Option<Trial>,
}

impl Machine {
    /// This one.
    pub fn this() -> Self {
        Machine {
            root: PathBuf::from("/"),
            trial: Some(netns_kernel::try_link_kinds),
        }
    }

    /// Everything that files tell, and the kinds of links.
    pub fn findings(&self) -> Vec<Finding> {
        let mut findings = vec![self.rights(), self.version()];
        findings.extend(self.link_kinds());
        findings.push(self.ipv6());
        findings.extend(
            LIMITS
                .iter()
                .filter_map(|(setting, least, what, better)| self.limit(setting, *least, what, *better)),
        );
        findings.extend(self.descriptors());
        findings.push(self.named_namespaces());
        findings
    }

    /// The text of a file; `None` if there is none.
    pub fn read(&self, path: &str) -> Option<String> {
        fs::read_to_string(self.at(path)).ok()
    }

    /// Whether there is such a file.
    pub fn has(&self, path: &str) -> bool {
        self.at(path).exists()
    }

    /// The files of a folder.
    pub fn list(&self, folder: &str) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.at(folder)).into_iter().flatten().flatten();
        let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
        paths.sort();
        paths
    }

    /// Whether a program of this name runs (the first 15 bytes count: TASK_COMM_LEN).
    pub fn runs(&self, name: &str) -> bool {
        let name = &name[..name.len().min(15)];
        self.list("proc")
            .iter()
            .any(|process| fs::read_to_string(process.join("comm")).is_ok_and(|comm| comm.trim_end() == name))
    }

    fn at(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    fn setting(&self, name: &str) -> Option<u64> {
        self.read(&format!("proc/sys/{name}"))?.trim().parse().ok()
    }

    fn rights(&self) -> Finding {
        let status = self.read("proc/self/status").unwrap_or_default();
        let bits = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
        let bits = bits.and_then(|text| u64::from_str_radix(text.trim(), 16).ok());
        let Some(bits) = bits else {
            return Finding::new("capabilities", Verdict::Unknown, "cannot be read from /proc/self/status")
                .remedy("mount /proc, and call `sudo netns-agent doctor`");
        };
        let missing: Vec<&str> = privileges::NEEDED
            .iter()
            .filter(|capability| bits >> capability.bit & 1 == 0)
            .map(|capability| capability.name)
            .collect();
        match missing.is_empty() {
            true => Finding::ok("capabilities", "this user has all that the agent needs"),
            // Another user may run the agent, with what this one lacks.
            false => Finding::new("capabilities", Verdict::Unknown, format!("this user lacks {}", missing.join(", "))).remedy(
                "call `sudo netns-agent doctor`; run the agent as root, or with these capabilities (packaging/netns-agent.service does)",
            ),
        }
    }

    fn version(&self) -> Finding {
        let release = self.read("proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned();
        let mut numbers = release
            .split(|c: char| !c.is_ascii_digit())
            .map_while(|text| text.parse::<u32>().ok());
        let (Some(major), Some(minor)) = (numbers.next(), numbers.next()) else {
            return Finding::new("kernel", Verdict::Unknown, format!("its version is not understood: {release:?}"))
                .remedy("the agent needs Linux 5.3 or newer");
        };
        let found = format!("Linux {release}");
        if (major, minor) < KERNEL_MIN {
            return Finding::new("kernel", Verdict::Problem, found).remedy("the agent needs Linux 5.3 or newer, for pidfds");
        }
        if (major, minor) < KERNEL_FULL {
            return Finding::new("kernel", Verdict::Warning, found).remedy(
                "before Linux 5.18 addresses carry no mark (IFA_PROTO): the agent cannot tell its own from others after a restart",
            );
        }
        Finding::ok("kernel", found)
    }

    fn link_kinds(&self) -> Vec<Finding> {
        let Some(trial) = self.trial else { return Vec::new() };
        let created = KINDS.iter().map(|kind| kind.spec());
        let created: Vec<&KindSpec> = created.filter(|spec| spec.life_cycle == LifeCycle::Created).collect();
        match trial(created.iter().map(|spec| trial_of(spec)).collect()) {
            Ok(made) => created.iter().zip(made).map(|(spec, made)| self.link_kind(spec, made)).collect(),
            Err(error) => vec![
                Finding::new(
                    "link kinds",
                    Verdict::Unknown,
                    format!("not tried: no network namespace for a trial ({error})"),
                )
                .remedy("call `sudo netns-agent doctor`"),
            ],
        }
    }

    fn link_kind(&self, spec: &KindSpec, made: Result<(), String>) -> Finding {
        let module = spec.module;
        let check = format!("link kind {}", spec.info_kind);
        let Err(words) = made else {
            return Finding::ok(check, "the kernel makes it");
        };
        let verdict = if module.needed { Verdict::Problem } else { Verdict::Warning };
        let release = self.read("proc/sys/kernel/osrelease").unwrap_or_default();
        let has_modules = self.has(&format!("lib/modules/{}", release.trim()));
        Finding::new(check, verdict, words).remedy(match has_modules {
            true => format!("load the module: modprobe {}", module.name),
            false => format!("this kernel has no modules to load: one with CONFIG_{} is needed", module.option),
        })
    }

    fn ipv6(&self) -> Finding {
        match self.setting("net/ipv6/conf/all/disable_ipv6") {
            Some(0) => Finding::ok("IPv6", "enabled"),
            Some(_) => Finding::new("IPv6", Verdict::Warning, "switched off here (net.ipv6.conf.all.disable_ipv6)")
                .remedy("the agent switches it on for its own links with IPv6 addresses; in the agent's own namespace set the sysctl to 0"),
            None => Finding::new("IPv6", Verdict::Warning, "this kernel has none")
                .remedy("values with IPv6 addresses will fail; boot without ipv6.disable=1"),
        }
    }

    fn limit(&self, setting: &str, least: u64, what: &str, better: u64) -> Option<Finding> {
        let found = self.setting(setting)?;
        let name = setting.replace('/', ".");
        let text = format!("{found} {what}");
        Some(match found {
            0 if setting == "user/max_net_namespaces" => {
                Finding::new(name.clone(), Verdict::Problem, text).remedy(format!("no namespace can be made: sysctl -w {name}={better}"))
            }
            _ if found < least => Finding::new(name.clone(), Verdict::Warning, text).remedy(format!("raise it: sysctl -w {name}={better}")),
            _ => Finding::ok(name, text),
        })
    }

    fn descriptors(&self) -> Option<Finding> {
        let limits = self.read("proc/self/limits")?;
        let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
        let hard = line.split_whitespace().nth(1)?;
        let found = format!("at most {hard} open files");
        Some(match hard.parse::<u64>() {
            Ok(number) if number < DESCRIPTORS_MIN => Finding::new("open files", Verdict::Warning, found)
                .remedy("each namespace takes one or two: raise it with ulimit -n, or LimitNOFILE= of the service"),
            _ => Finding::ok("open files", found),
        })
    }

    /// Named namespaces reach other processes only when their mounts are passed on.
    fn named_namespaces(&self) -> Finding {
        let check = "/run/netns";
        let mounts = self.read("proc/self/mountinfo").unwrap_or_default();
        let nearest = mount_of(Path::new("/run/netns"), &mounts);
        match nearest {
            Some(true) => Finding::ok(check, "what is mounted there reaches all"),
            Some(false) => Finding::new(
                check,
                Verdict::Note,
                "what is mounted there stays in this mount namespace until `ip netns` or the agent shares it",
            )
            .remedy("in a container, mount the host's /run/netns with propagation: docker run -v /run/netns:/run/netns:shared"),
            None => Finding::new(check, Verdict::Unknown, "its mount cannot be found in /proc/self/mountinfo")
                .remedy("mount /proc, and call `sudo netns-agent doctor`"),
        }
    }
}

/// Whether the mount on which a path lies passes on what is mounted below it; `None` if it is not known. Lines have ID, parent, device,
/// root, mount point, options, and optional fields up to "-" (proc_pid_mountinfo(5)). A mount may hide another, so the path is followed
/// from the top.
fn mount_of(path: &Path, mounts: &str) -> Option<bool> {
    let lines: Vec<Vec<&str>> = mounts.lines().map(|line| line.split(' ').collect()).collect();
    let mut ancestors: Vec<&Path> = path.ancestors().collect();
    ancestors.reverse();
    let is_at = |line: &[&str], point: &Path| line.get(4).is_some_and(|field| Path::new(field) == point);
    let mut current = lines.iter().find(|line| is_at(line, Path::new("/")))?;
    for point in ancestors {
        while let Some(above) = lines
            .iter()
            .find(|line| line.get(1) == current.first() && line.first() != current.first() && is_at(line, point))
        {
            current = above;
        }
    }
    Some(
        current
            .iter()
            .skip(6)
            .take_while(|field| **field != "-")
            .any(|field| field.starts_with("shared:")),
    )
}

/// What is tried of a kind: the least that the kernel makes a link of.
fn trial_of(spec: &KindSpec) -> LinkKindTrial {
    let data = spec.smallest().into_iter().map(|attribute| netns_kernel::Attr {
        number: attribute.number,
        name: attribute.title,
        value: attribute.value,
        immutable: attribute.immutable,
    });
    LinkKindTrial {
        info: LinkInfo {
            kind: spec.info_kind,
            module: spec.module.name,
            data: data.collect(),
        },
        has_parent: spec.reference(|role| matches!(role, Role::Parent { .. })).is_some(),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A machine with these files; nothing is tried.
    pub fn machine(files: &[(&str, &str)]) -> (tempfile::TempDir, Machine) {
        let folder = tempfile::tempdir().expect("a folder");
        for (path, text) in files {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
            fs::write(path, text).expect("a file");
        }
        let root = folder.path().to_owned();
        (folder, Machine { root, trial: None })
    }

    fn finding(files: &[(&str, &str)], check: &str) -> Finding {
        let (_folder, machine) = machine(files);
        let all = machine.findings();
        all.iter()
            .find(|finding| finding.check == check)
            .unwrap_or_else(|| panic!("no {check} in {all:?}"))
            .clone()
    }

    #[test]
    fn missing_capabilities_are_named() {
        let all = finding(&[("proc/self/status", "Name:\tx\nCapEff:\t000001ffffffffff\n")], "capabilities");
        assert_eq!(all.verdict, Verdict::Ok);
        let few = finding(&[("proc/self/status", "CapEff:\t0000000000001000\n")], "capabilities");
        assert_eq!(
            (few.verdict, few.finding.as_str()),
            (
                Verdict::Unknown,
                "this user lacks CAP_DAC_READ_SEARCH, CAP_SYS_PTRACE, CAP_SYS_ADMIN"
            )
        );
    }

    #[test]
    fn an_old_kernel_is_told_from_one_that_is_too_old() {
        for (release, verdict) in [
            ("4.19.0-1-amd64", Verdict::Problem),
            ("5.3.0", Verdict::Warning),
            ("5.18.1", Verdict::Ok),
            ("6.18.0+x", Verdict::Ok),
            ("strange", Verdict::Unknown),
        ] {
            assert_eq!(
                finding(&[("proc/sys/kernel/osrelease", release)], "kernel").verdict,
                verdict,
                "{release}"
            );
        }
    }

    #[test]
    fn limits_that_are_too_low_come_with_the_command_that_raises_them() {
        let none = finding(&[("proc/sys/user/max_net_namespaces", "0\n")], "user.max_net_namespaces");
        assert_eq!(none.verdict, Verdict::Problem);
        let few = finding(
            &[("proc/sys/fs/inotify/max_user_instances", "8\n")],
            "fs.inotify.max_user_instances",
        );
        assert_eq!(
            (few.verdict, few.remedy.as_str()),
            (Verdict::Warning, "raise it: sysctl -w fs.inotify.max_user_instances=512")
        );
        let enough = finding(
            &[("proc/sys/fs/inotify/max_user_instances", "128\n")],
            "fs.inotify.max_user_instances",
        );
        assert_eq!(enough.verdict, Verdict::Ok);
        let open = finding(
            &[("proc/self/limits", "Max open files            256      512      files\n")],
            "open files",
        );
        assert_eq!(open.verdict, Verdict::Warning);
    }

    #[test]
    fn the_propagation_of_named_namespaces_is_that_of_the_nearest_mount() {
        let shared = "22 1 0:5 / / rw shared:1 - ext4 /dev/x rw\n23 22 0:6 / /run rw,nosuid shared:5 - tmpfs tmpfs rw\n";
        assert_eq!(finding(&[("proc/self/mountinfo", shared)], "/run/netns").verdict, Verdict::Ok);
        // What was below the mount on /run is hidden by it.
        let hidden =
            "22 1 0:5 / / rw - ext4 /dev/x rw\n24 22 0:7 / /run/netns rw - ext4 /dev/x rw\n23 22 0:6 / /run rw shared:5 - tmpfs tmpfs rw\n";
        assert_eq!(finding(&[("proc/self/mountinfo", hidden)], "/run/netns").verdict, Verdict::Ok);
        let private = "22 1 0:5 / / rw shared:1 - ext4 /dev/x rw\n23 22 0:6 / /run rw,nosuid - tmpfs tmpfs rw\n";
        assert_eq!(finding(&[("proc/self/mountinfo", private)], "/run/netns").verdict, Verdict::Note);
    }

    fn spec(type_name: &str) -> &'static KindSpec {
        link_kinds::by_type(type_name).expect("a kind").spec()
    }

    #[test]
    fn a_kind_that_the_kernel_does_not_make_tells_how_to_get_it() {
        let (_folder, machine) = machine(&[("proc/sys/kernel/osrelease", "6.1.0\n"), ("lib/modules/6.1.0/modules.dep", "")]);
        let vrf = machine.link_kind(spec("VRF_DEVICE"), Err("not supported".to_owned()));
        assert_eq!(
            (vrf.verdict, vrf.remedy.as_str()),
            (Verdict::Warning, "load the module: modprobe vrf")
        );
        assert_eq!(machine.link_kind(spec("VETH"), Err(String::new())).verdict, Verdict::Problem);
        assert_eq!(machine.link_kind(spec("VETH"), Ok(())).verdict, Verdict::Ok);
    }
}
