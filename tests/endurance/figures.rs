//! Resources that a running agent uses. They are read from `/proc`. See [`Figures::of`].

use std::{collections::BTreeSet, fmt, fs};

use netns_kernel::ProcessStat;

use crate::support::command;

/// Resources that a process uses, and the links and namespace IDs in the agent's own namespace, at one point in time.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    /// Number of open file descriptors.
    pub descriptors: usize,
    /// Resident memory in KiB.
    pub resident_kib: u64,
    /// Number of threads.
    pub threads: u64,
    /// Number of namespaces to which the agent's own namespace has assigned an ID (`ip netns list-id`).
    pub nsids: usize,
    /// Number of links in the agent's own namespace.
    pub links: usize,
    /// Inodes of the namespaces that the process keeps open with file descriptors.
    pub held: BTreeSet<u64>,
}

impl Figures {
    /// Reads the resources of the process with this PID.
    pub fn of(pid: i32) -> Self {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_else(|error| panic!("status of process {pid}: {error}"));
        let targets: Vec<String> = fs::read_dir(format!("/proc/{pid}/fd"))
            .unwrap_or_else(|error| panic!("descriptors of process {pid}: {error}"))
            .filter_map(|entry| Some(fs::read_link(entry.ok()?.path()).ok()?.to_string_lossy().into_owned()))
            .collect();
        Self {
            descriptors: targets.len(),
            resident_kib: status_number(&status, "VmRSS"),
            threads: status_number(&status, "Threads"),
            nsids: command::ip("netns list-id").lines().filter(|line| line.contains("nsid")).count(),
            links: command::ip("-br link").lines().count(),
            held: targets.iter().filter_map(|target| namespace_inode(target)).collect(),
        }
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} descriptors ({} of namespaces), {} threads, {:.1} MiB resident; own namespace: {} nsids, {} links",
            self.descriptors,
            self.held.len(),
            self.threads,
            self.resident_kib as f64 / 1024.0,
            self.nsids,
            self.links
        )
    }
}

/// Returns the CPU time (user and system) that a process has used so far, in clock ticks of 10 ms, and the voluntary and
/// involuntary context switches of all its threads.
pub fn effort(pid: i32) -> (u64, u64, u64) {
    let ticks = ProcessStat::of(pid).expect("stat of a running process").processor_ticks;
    let mut switches = (0, 0);
    for task in fs::read_dir(format!("/proc/{pid}/task"))
        .expect("threads of a running process")
        .flatten()
    {
        // Ignore errors, because the thread may have ended since the directory was read.
        let status = fs::read_to_string(task.path().join("status")).unwrap_or_default();
        switches.0 += status_number(&status, "voluntary_ctxt_switches");
        switches.1 += status_number(&status, "nonvoluntary_ctxt_switches");
    }
    (ticks, switches.0, switches.1)
}

fn status_number(status: &str, name: &str) -> u64 {
    status
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
        .and_then(|rest| rest.split_whitespace().next()?.parse().ok())
        .unwrap_or(0)
}

/// Parses the inode in a link target such as `net:[4026532457]`.
pub fn namespace_inode(link: &str) -> Option<u64> {
    link.strip_prefix("net:[")?.strip_suffix(']')?.parse().ok()
}

/// Returns the factor by which time limits are extended: the load per CPU, but at least 1. Callers print the factor.
pub fn stretch() -> f64 {
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load: f64 = load.split_whitespace().next().and_then(|first| first.parse().ok()).unwrap_or(1.0);
    let processors = std::thread::available_parallelism().map_or(1.0, |count| count.get() as f64);
    (load / processors).max(1.0)
}
