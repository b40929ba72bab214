//! Process metrics, read from `/proc/self` (proc(5)) on each request.
//!
//! The metrics have the same names as in the Prometheus client libraries. Metrics that cannot be read are omitted.

use std::{fs, time::Duration};

use netns_kernel::ProcessStat;
use prometheus::proto::MetricFamily;

use super::{counter, gauge};

/// Prefix for the names of a second copy of all process metrics. Ligato vpp-agent exports this copy as well.
const OF_THE_REFERENCE: &str = "ligato_";
/// Value reported for a limit that is not set, as in ligato vpp-agent.
const UNLIMITED: f64 = u64::MAX as f64;

/// Returns all process metrics that can be read.
pub fn families(started: Duration) -> Vec<MetricFamily> {
    let common = read(started);
    let same = common.iter().map(|family| {
        let mut same = family.clone();
        same.set_name(format!("{OF_THE_REFERENCE}{}", family.name()));
        same
    });
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let threads = number_after(&status, "Threads:").map(|count| gauge("process_threads", "Threads", count));
    same.chain(common.clone()).chain(threads).collect()
}

fn read(started: Duration) -> Vec<MetricFamily> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let descriptors = fs::read_dir("/proc/self/fd").ok().map(|entries| entries.count() as f64);
    let processor = ProcessStat::of_this_process().ok().map(|stat| stat.processor_time());
    let memory_max = limits
        .contains("Max address space")
        .then(|| number_after(&limits, "Max address space").unwrap_or(UNLIMITED));
    [
        Some(gauge(
            "process_start_time_seconds",
            "Start time of the agent, in seconds since the Unix epoch",
            started.as_secs_f64(),
        )),
        kibibytes(&status, "VmRSS:").map(|bytes| gauge("process_resident_memory_bytes", "Resident memory", bytes)),
        kibibytes(&status, "VmSize:").map(|bytes| gauge("process_virtual_memory_bytes", "Virtual memory", bytes)),
        memory_max.map(|bytes| gauge("process_virtual_memory_max_bytes", "Virtual memory limit", bytes)),
        descriptors.map(|count| gauge("process_open_fds", "Open file descriptors", count)),
        number_after(&limits, "Max open files").map(|count| gauge("process_max_fds", "Maximum number of open file descriptors", count)),
        processor.map(|time| counter("process_cpu_seconds_total", "Processor time", time.as_secs_f64())),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Returns the number that follows `name` at the start of a line.
fn number_after(text: &str, name: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

fn kibibytes(status: &str, name: &str) -> Option<f64> {
    number_after(status, name).map(|count| count * 1024.0)
}
