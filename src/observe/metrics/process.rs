//! Metrics of this process from the operating system, under the names that every Prometheus client has for them.
//!
//! Read when a scrape asks, and nowhere else. A value that can't be read is left out: no number is better than a wrong one. The
//! collector of the `prometheus` crate counts whole seconds of CPU time, in which a proxy that idles shows as one that
//! stands still.

use std::fs;
use std::time::Duration;

use prometheus::Registry;
use prometheus::proto::MetricFamily;
use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};

use super::register::Register;

/// The families that there are, for a process that started at `start_time`, in Unix time.
pub(super) fn families(start_time: i64) -> Vec<MetricFamily> {
    let registry = Registry::new();
    let register = Register(&registry);
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    if let Some(used) = cpu_time() {
        register
            .real_counter(
                "process_cpu_seconds_total",
                "CPU time spent, in user space and in the kernel.",
            )
            .inc_by(used.as_secs_f64());
    }
    for (name, help, value) in [
        (
            "process_max_fds",
            "File descriptors that may be open.",
            max_descriptors(),
        ),
        (
            "process_open_fds",
            "File descriptors open now.",
            open_descriptors(),
        ),
        (
            "process_resident_memory_bytes",
            "Memory in RAM now.",
            kibibytes(&status, "VmRSS"),
        ),
        (
            "process_start_time_seconds",
            "When the process started, in Unix time.",
            Some(start_time),
        ),
        (
            "process_threads",
            "Threads of the operating system now.",
            field(&status, "Threads"),
        ),
        (
            "process_virtual_memory_bytes",
            "Address space in use now.",
            kibibytes(&status, "VmSize"),
        ),
    ] {
        if let Some(value) = value {
            register.gauge(name, help).set(value);
        }
    }
    registry.gather()
}

fn cpu_time() -> Option<Duration> {
    Duration::try_from(clock_gettime(ClockId::ProcessCPUTime)).ok()
}

/// The soft limit; none if there is no limit.
fn max_descriptors() -> Option<i64> {
    i64::try_from(getrlimit(Resource::Nofile).current?).ok()
}

fn open_descriptors() -> Option<i64> {
    let entries = fs::read_dir("/proc/self/fd").ok()?.count();
    // Without the one by which they were counted.
    i64::try_from(entries).ok()?.checked_sub(1)
}

/// A size in `/proc/self/status`, such as `VmRSS:    8124 kB`, in bytes.
fn kibibytes(status: &str, name: &str) -> Option<i64> {
    field(status, name)?.checked_mul(1024)
}

/// A number in `/proc/self/status`.
fn field(status: &str, name: &str) -> Option<i64> {
    let value = status
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    value.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: &str = "Name:\tportcullis\nVmPeak:\t  9000 kB\nVmSize:\t  8000 kB\nVmRSS:\t    70 kB\n\
                          Threads:\t5\n";

    #[test]
    fn numbers_are_found_by_their_names() {
        assert_eq!(kibibytes(STATUS, "VmSize"), Some(8_192_000));
        assert_eq!(kibibytes(STATUS, "VmRSS"), Some(71_680));
        assert_eq!(field(STATUS, "Threads"), Some(5));
    }

    #[test]
    fn what_is_not_there_or_no_number_is_left_out() {
        assert_eq!(field(STATUS, "Vm"), None);
        assert_eq!(field(STATUS, "Name"), None);
        assert_eq!(field("", "Threads"), None);
        assert_eq!(kibibytes("VmRSS:\t9223372036854775807 kB\n", "VmRSS"), None);
    }

    #[test]
    fn an_open_file_is_counted() {
        // Other tests open and close files meanwhile, in the same process.
        let held: Vec<_> = (0..200)
            .map(|_| fs::File::open("/proc/self/status").expect("it is there"))
            .collect();
        let while_held = open_descriptors().expect("it can be read");
        assert!(while_held > 200, "{while_held}");
        assert!(max_descriptors().is_none_or(|most| most >= while_held));
        drop(held);
    }
}
