//! Checks the kernel and its settings: capabilities, version, link kinds, limits, mounts.
//!
//! All files are read below a root directory. Tests use a temporary directory as the root.

use std::{
    fs,
    path::{Path, PathBuf},
};

use link_kinds::{KINDS, KindSpec, LifeCycle, Role};
use netns_kernel::{LinkInfo, LinkKindTrial, privileges};

use super::{Finding, Verdict};

/// First kernel version with pidfds, which the agent uses to monitor processes.
const KERNEL_MIN: (u32, u32) = (5, 3);
/// First kernel version with `IFA_PROTO`, the ownership mark of addresses.
const KERNEL_FULL: (u32, u32) = (5, 18);

/// Sysctl limits as (name, threshold, meaning, recommended value). `doctor` warns about a limit that is below its threshold.
const LIMITS: [(&str, u64, &str, u64); 5] = [
    ("user/max_net_namespaces", 64, "network namespaces per user", 10_000),
    ("fs/inotify/max_user_instances", 128, "inotify instances", 512),
    ("fs/inotify/max_user_watches", 8_192, "inotify watches", 65_536),
    (
        "net/ipv4/neigh/default/gc_thresh3",
        1_024,
        "neighbours in all namespaces combined",
        16_384,
    ),
    (
        "net/ipv6/neigh/default/gc_thresh3",
        1_024,
        "IPv6 neighbours in all namespaces combined",
        16_384,
    ),
];

/// Number of file descriptors that the agent needs to monitor the default number of namespaces.
const DESCRIPTORS_MIN: u64 = 1_024;

/// Function that tries to create the given links. For each link, it returns the kernel's error message if the creation fails.
type Trial = fn(Vec<LinkKindTrial>) -> std::io::Result<Vec<Result<(), String>>>;

/// Machine to check, represented by the files below its root directory.
pub(super) struct Machine {
    root: PathBuf,
    /// Function that tries to create links. In tests, this is `None`, and link kinds are not checked.
    trial: Option<Trial>,
}

impl Machine {
    /// Returns the machine on which this program runs.
    pub fn this() -> Self {
        Machine {
            root: PathBuf::from("/"),
            trial: Some(netns_kernel::try_link_kinds),
        }
    }

    /// Performs all checks of the machine.
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

    /// Reads a file. Returns `None` if it cannot be read.
    pub fn read(&self, path: &str) -> Option<String> {
        fs::read_to_string(self.at(path)).ok()
    }

    /// Returns whether a file exists.
    pub fn has(&self, path: &str) -> bool {
        self.at(path).exists()
    }

    /// Returns the sorted paths of all entries in a directory.
    pub fn list(&self, folder: &str) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.at(folder)).into_iter().flatten().flatten();
        let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
        paths.sort();
        paths
    }

    /// Returns whether a process with this name is running. The kernel truncates process names to 15 bytes (TASK_COMM_LEN).
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
            return Finding::new(
                "capabilities",
                Verdict::Unknown,
                "cannot read the capabilities from /proc/self/status",
            )
            .remedy("mount /proc, then run `sudo netns-agent doctor`");
        };
        let missing: Vec<&str> = privileges::NEEDED
            .iter()
            .filter(|capability| bits >> capability.bit & 1 == 0)
            .map(|capability| capability.name)
            .collect();
        match missing.is_empty() {
            true => Finding::ok("capabilities", "this user has all required capabilities"),
            // Missing capabilities are not reported as a problem, because the agent might run as another user that has them.
            false => Finding::new("capabilities", Verdict::Unknown, format!("this user lacks {}", missing.join(", "))).remedy(
                "to check as root, run `sudo netns-agent doctor`; the agent itself must run as root or with these capabilities (see \
                 packaging/netns-agent.service)",
            ),
        }
    }

    fn version(&self) -> Finding {
        let release = self.read("proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned();
        let mut numbers = release
            .split(|c: char| !c.is_ascii_digit())
            .map_while(|text| text.parse::<u32>().ok());
        let (Some(major), Some(minor)) = (numbers.next(), numbers.next()) else {
            return Finding::new("kernel", Verdict::Unknown, format!("unknown version: {release:?}"))
                .remedy("the agent requires Linux 5.3 or newer");
        };
        let found = format!("Linux {release}");
        if (major, minor) < KERNEL_MIN {
            return Finding::new("kernel", Verdict::Problem, found).remedy("the agent requires Linux 5.3 or newer, for pidfds");
        }
        if (major, minor) < KERNEL_FULL {
            return Finding::new("kernel", Verdict::Warning, found).remedy(
                "before Linux 5.18, addresses have no ownership mark (IFA_PROTO): after a restart, the agent cannot distinguish its own \
                 addresses from foreign ones",
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
                    format!("cannot create a network namespace for the check: {error}"),
                )
                .remedy("run `sudo netns-agent doctor`"),
            ],
        }
    }

    fn link_kind(&self, spec: &KindSpec, made: Result<(), String>) -> Finding {
        let module = spec.module;
        let check = format!("link kind {}", spec.info_kind);
        let Err(words) = made else {
            return Finding::ok(check, "supported by the kernel");
        };
        let verdict = if module.needed { Verdict::Problem } else { Verdict::Warning };
        let release = self.read("proc/sys/kernel/osrelease").unwrap_or_default();
        let has_modules = self.has(&format!("lib/modules/{}", release.trim()));
        Finding::new(check, verdict, words).remedy(match has_modules {
            true => format!("load the module: modprobe {}", module.name),
            false => format!("this kernel has no loadable modules: use a kernel with CONFIG_{}", module.option),
        })
    }

    fn ipv6(&self) -> Finding {
        match self.setting("net/ipv6/conf/all/disable_ipv6") {
            Some(0) => Finding::ok("IPv6", "enabled"),
            Some(_) => Finding::new("IPv6", Verdict::Warning, "disabled (net.ipv6.conf.all.disable_ipv6)").remedy(
                "the agent enables IPv6 on its own links that have IPv6 addresses; for the other links in the agent's own namespace, set \
                 the sysctl to 0",
            ),
            None => Finding::new("IPv6", Verdict::Warning, "not supported by this kernel")
                .remedy("values with IPv6 addresses will fail; boot without ipv6.disable=1"),
        }
    }

    fn limit(&self, setting: &str, least: u64, what: &str, better: u64) -> Option<Finding> {
        let found = self.setting(setting)?;
        let name = setting.replace('/', ".");
        let text = format!("{found} {what}");
        Some(match found {
            0 if setting == "user/max_net_namespaces" => Finding::new(name.clone(), Verdict::Problem, text)
                .remedy(format!("namespaces cannot be created; raise the limit: sysctl -w {name}={better}")),
            _ if found < least => {
                Finding::new(name.clone(), Verdict::Warning, text).remedy(format!("raise the limit: sysctl -w {name}={better}"))
            }
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
                .remedy("each namespace needs one or two open files; raise the limit with ulimit -n, or with LimitNOFILE= in the service"),
            _ => Finding::ok("open files", found),
        })
    }

    /// Checks mount propagation: other processes see named namespaces only if the mount of `/run/netns` is shared.
    fn named_namespaces(&self) -> Finding {
        let check = "/run/netns";
        let mounts = self.read("proc/self/mountinfo").unwrap_or_default();
        let nearest = mount_of(Path::new("/run/netns"), &mounts);
        match nearest {
            Some(true) => Finding::ok(check, "mounts are shared with other mount namespaces"),
            Some(false) => Finding::new(
                check,
                Verdict::Note,
                "mounts are private to this mount namespace until `ip netns` or the agent shares them",
            )
            .remedy("in a container, mount the host's /run/netns with propagation: docker run -v /run/netns:/run/netns:shared"),
            None => Finding::new(
                check,
                Verdict::Unknown,
                "cannot find the mount of /run/netns in /proc/self/mountinfo",
            )
            .remedy("mount /proc, then run `sudo netns-agent doctor`"),
        }
    }
}

/// Returns whether the mount that contains a path is shared, or `None` if the mount cannot be determined.
///
/// The fields of a line in `mounts` are ID, parent ID, device, root, mount point, options, and optional fields up to "-"
/// (proc_pid_mountinfo(5)). The mounts are followed from the root down to the path, because one mount can hide another.
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

/// Returns a test link of this kind, with the smallest set of attributes that the kernel accepts.
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

    /// Returns a machine with these files. Link kinds are not checked.
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
    fn missing_capabilities_are_listed() {
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
    fn old_kernels_are_distinguished_from_unsupported_ones() {
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
    fn remedy_for_a_low_limit_contains_the_sysctl_command() {
        let none = finding(&[("proc/sys/user/max_net_namespaces", "0\n")], "user.max_net_namespaces");
        assert_eq!(none.verdict, Verdict::Problem);
        let few = finding(
            &[("proc/sys/fs/inotify/max_user_instances", "8\n")],
            "fs.inotify.max_user_instances",
        );
        assert_eq!(
            (few.verdict, few.remedy.as_str()),
            (Verdict::Warning, "raise the limit: sysctl -w fs.inotify.max_user_instances=512")
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
    fn propagation_is_that_of_the_nearest_visible_mount() {
        let shared = "22 1 0:5 / / rw shared:1 - ext4 /dev/x rw\n23 22 0:6 / /run rw,nosuid shared:5 - tmpfs tmpfs rw\n";
        assert_eq!(finding(&[("proc/self/mountinfo", shared)], "/run/netns").verdict, Verdict::Ok);
        // The later mount on /run hides the earlier mount on /run/netns.
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
    fn remedy_for_an_unsupported_link_kind_names_the_module() {
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
