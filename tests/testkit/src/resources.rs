//! What a running program holds of the machine, as the kernel counts it: memory, file descriptors.

use std::fs;
use std::process::Command;

use super::poll::poll;
use super::programs::program;
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
    poll(|| match descriptors(proxy) {
        open if open <= most => Ok(()),
        open => Err(format!("{open} are open, not {most}")),
    });
}

/// Waits until the program has more file descriptors open than `before`.
///
/// # Panics
/// If it opens none in time.
pub fn wait_for_further_descriptors(proxy: &Proxy, before: usize) {
    poll(|| match descriptors(proxy) {
        open if open > before => Ok(()),
        open => Err(format!("{open} are open, not more than {before}")),
    });
}

fn read(proxy: &Proxy, file: &str) -> String {
    fs::read_to_string(format!("/proc/{}/{file}", proxy.pid())).expect("the program runs")
}

/// Has the program open nothing further for as long as `during` takes: neither files nor connections.
pub fn without_descriptors<T>(proxy: &Proxy, during: impl FnOnce() -> T) -> T {
    let limits = read(proxy, "limits");
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"));
    let before = line.and_then(|rest| rest.split_whitespace().next());
    limit_descriptors(proxy, "0");
    let done = during();
    limit_descriptors(proxy, before.expect("Linux tells it"));
    done
}

/// The soft limit: the hard one stays.
fn limit_descriptors(proxy: &Proxy, soft: &str) {
    let status = Command::new(program("prlimit"))
        .args([
            "--pid",
            &proxy.pid().to_string(),
            &format!("--nofile={soft}:"),
        ])
        .status();
    assert!(status.expect("it runs").success());
}
