//! What a running program holds of the machine, as the kernel counts it: memory, file descriptors.

use std::fs;
use std::time::{Duration, Instant};

use super::DEADLINE;
use super::proxy::Proxy;

/// The most memory that the program has had resident so far, in bytes: what has been given back still shows.
pub fn peak_memory(proxy: &Proxy) -> u64 {
    let status = read(proxy, "status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
    kilobytes.expect("Linux tells it") * 1024
}

/// How many file descriptors the program has open.
pub fn descriptors(proxy: &Proxy) -> usize {
    let directory = format!("/proc/{}/fd", proxy.pid());
    fs::read_dir(directory)
        .expect("the program runs and is ours")
        .count()
}

/// Waits until the program has no more file descriptors open than `most`.
///
/// # Panics
/// If it doesn't close the others in time.
pub fn wait_for_descriptors(proxy: &Proxy, most: usize) {
    let deadline = Instant::now() + DEADLINE;
    loop {
        let open = descriptors(proxy);
        if open <= most {
            return;
        }
        assert!(Instant::now() < deadline, "{open} are open, not {most}");
        // Not to wait for anything, only to leave the processor to the program.
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn read(proxy: &Proxy, file: &str) -> String {
    fs::read_to_string(format!("/proc/{}/{file}", proxy.pid())).expect("the program runs")
}
