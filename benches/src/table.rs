//! From samples to the tables of the page.

use std::fmt::Write;
use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use crate::Results;
use crate::measure::{BULK, Crowd, Part, Sample};
use crate::peers::Peer;

/// All tables.
pub fn markdown(results: &Results, peers: &Path) -> io::Result<String> {
    let mut text = format!("{}\n{}\n", machine()?, packages(peers)?);
    if !results.samples.is_empty() {
        costs(&mut text, results);
        speed(&mut text, results);
    }
    if !results.crowds.is_empty() {
        crowds(&mut text, results);
    }
    Ok(text)
}

/// What the numbers were measured on.
pub fn machine() -> io::Result<String> {
    let info = fs::read_to_string("/proc/cpuinfo")?;
    let models: Vec<&str> = info
        .lines()
        .filter_map(|line| line.strip_prefix("model name")?.split_once(": "))
        .map(|(_, model)| model)
        .collect();
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let kernel: Vec<&str> = kernel.split(['.', '-']).take(2).collect();
    Ok(format!(
        "Machine: {}, {} cores, Linux {}.\n",
        models.first().unwrap_or(&"unknown CPU"),
        models.len(),
        kernel.join(".")
    ))
}

/// Whom Portcullis was measured beside.
fn packages(peers: &Path) -> io::Result<String> {
    let mut packages = Vec::new();
    for peer in ["nginx", "haproxy", "proftpd"] {
        let list = fs::read_to_string(peers.join(peer).join("packages"))?;
        packages.extend(
            list.lines()
                .filter(|package| !package.starts_with("lib"))
                .map(str::to_owned),
        );
    }
    Ok(format!("Peers: {}.\n", packages.join(", ")))
}

/// How many sessions a process can have here, of the 10,000 that are wanted: each takes two file descriptors, and
/// transfers take some more.
pub fn most_sessions() -> io::Result<usize> {
    let limits = fs::read_to_string("/proc/self/limits")?;
    let files = limits
        .lines()
        .find_map(|line| {
            line.strip_prefix("Max open files")?
                .split_whitespace()
                .next()?
                .parse()
                .ok()
        })
        .unwrap_or(1024_usize);
    Ok((files.saturating_sub(500) / 2).min(10_000) / 100 * 100)
}

/// One column: how a part's cost is called and counted.
struct Cost {
    part: Part,
    heading: &'static str,
    /// From seconds for each unit of work to what the heading says.
    scale: f64,
}

const COSTS: [Cost; 5] = [
    Cost {
        part: Part::Down,
        heading: "s / GiB down",
        scale: (1u64 << 30) as f64 / BULK as f64,
    },
    Cost {
        part: Part::Up,
        heading: "s / GiB up",
        scale: (1u64 << 30) as f64 / BULK as f64,
    },
    Cost {
        part: Part::Logins,
        heading: "ms / login",
        scale: 1e3,
    },
    Cost {
        part: Part::Files,
        heading: "ms / 4 KiB file",
        scale: 1e3,
    },
    Cost {
        part: Part::Commands,
        heading: "µs / command",
        scale: 1e6,
    },
];

fn costs(text: &mut String, results: &Results) {
    text.push_str(
        "The proxy's CPU time: median (lowest – highest), and as a multiple of nginx's.\n\n|",
    );
    for cost in &COSTS {
        let _ = write!(text, " | {}", cost.heading);
    }
    let _ = writeln!(text, " |\n|---{}|", "|---".repeat(COSTS.len()));
    for peer in Peer::ALL {
        if peer == Peer::Direct || !results.samples.iter().any(|(_, by, _)| *by == peer) {
            continue;
        }
        let _ = write!(text, "| {}", peer.name());
        for cost in &COSTS {
            let _ = write!(text, " | {}", cost.cell(results, peer));
        }
        text.push_str(" |\n");
    }
    text.push('\n');
}

impl Cost {
    fn of(&self, results: &Results, peer: Peer) -> Option<Spread> {
        let samples = results.of(self.part, peer)?;
        Spread::of(
            samples
                .iter()
                .filter_map(|sample| Some(sample.cpu?.as_secs_f64() * self.scale)),
        )
    }

    fn cell(&self, results: &Results, peer: Peer) -> String {
        let Some(own) = self.of(results, peer) else {
            return "".to_owned();
        };
        let mut cell = format!(
            "**{}** ({} – {})",
            short(own.median),
            short(own.lowest),
            short(own.highest)
        );
        if let Some(nginx) = self.of(results, Peer::Nginx)
            && peer != Peer::Nginx
        {
            let _ = write!(cell, " ×{}", short(own.median / nginx.median));
        }
        cell
    }
}

fn speed(text: &mut String, results: &Results) {
    text.push_str(
        "Speed as the load client sees it, eight sessions at a time for logins, files and commands, one for bulk. Client \
         and backend share one CPU, and often are what limits it.\n\n\
         | | MiB/s down | MiB/s up | logins/s | p50 / p99 ms | files/s | p50 / p99 ms | commands/s | p50 / p99 ms |\n\
         |---|---|---|---|---|---|---|---|---|\n",
    );
    for peer in Peer::ALL {
        let Some(_) = results.samples.iter().find(|(_, by, _)| *by == peer) else {
            continue;
        };
        let _ = write!(text, "| {}", peer.name());
        for part in [Part::Down, Part::Up] {
            let rate = results
                .rate(part, peer)
                .map(|rate| rate * (BULK >> 20) as f64);
            let _ = write!(
                text,
                " | {}",
                rate.map_or(String::new(), |rate| format!("{rate:.0}"))
            );
        }
        for part in [Part::Logins, Part::Files, Part::Commands] {
            let rate = results.rate(part, peer);
            let _ = write!(
                text,
                " | {}",
                rate.map_or(String::new(), |rate| format!("{rate:.0}"))
            );
            let _ = match results.of(part, peer) {
                Some(samples) => write!(
                    text,
                    " | {} / {}",
                    short(percentile(
                        samples.iter().flat_map(|sample| &sample.took),
                        0.5
                    )),
                    short(percentile(
                        samples.iter().flat_map(|sample| &sample.took),
                        0.99
                    ))
                ),
                None => write!(text, " | "),
            };
        }
        text.push_str(" |\n");
    }
    text.push('\n');
}

fn crowds(text: &mut String, results: &Results) {
    text.push_str(
        "In a growing crowd of sessions: private memory of the proxy's processes for each idle session, kernel memory \
         aside, and CPU time for each login, command and small file with so many sessions open.\n\n\
         | | sessions | KiB / session | ms / login | µs / command | ms / 4 KiB file |\n|---|---|---|---|---|---|\n",
    );
    for (peer, crowds) in &results.crowds {
        for Crowd {
            sessions,
            memory,
            login,
            command,
            file,
        } in crowds
        {
            // One session's memory is lost in what the process has anyway, and one login in the clock's resolution.
            let of_many = |value: String| if *sessions < 10 { String::new() } else { value };
            let _ = writeln!(
                text,
                "| {} | {sessions} | {} | {} | {} | {} |",
                peer.name(),
                of_many(format!("{:.1}", memory / 1024.0)),
                of_many(short(login.as_secs_f64() * 1e3)),
                short(command.as_secs_f64() * 1e6),
                short(file.as_secs_f64() * 1e3),
            );
        }
    }
    text.push('\n');
}

impl Results {
    fn of(&self, part: Part, peer: Peer) -> Option<&[Sample]> {
        self.samples
            .iter()
            .find(|(of, by, _)| (*of, *by) == (part, peer))
            .map(|(_, _, samples)| samples.as_slice())
    }

    fn rate(&self, part: Part, peer: Peer) -> Option<f64> {
        let samples = self.of(part, peer)?;
        Spread::of(samples.iter().map(|sample| sample.rate)).map(|spread| spread.median)
    }
}

/// What came of several measurements.
#[derive(Debug, Clone, Copy)]
pub struct Spread {
    /// The least.
    pub lowest: f64,
    /// What lies in the middle.
    pub median: f64,
    /// The most.
    pub highest: f64,
}

impl Spread {
    /// None without a measurement.
    pub fn of(values: impl Iterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.collect();
        values.sort_by(f64::total_cmp);
        let middle = values.len() / 2;
        Some(Self {
            lowest: *values.first()?,
            median: (values.get(middle)? + values.get((values.len() - 1) / 2)?) / 2.0,
            highest: *values.last()?,
        })
    }
}

/// How long it takes at most for this part of them, in milliseconds.
pub fn percentile<'a>(took: impl IntoIterator<Item = &'a Duration>, part: f64) -> f64 {
    let mut all: Vec<&Duration> = took.into_iter().collect();
    all.sort_unstable();
    let index = ((all.len() as f64 * part) as usize).min(all.len().saturating_sub(1));
    all.get(index).map_or(0.0, |took| took.as_secs_f64() * 1e3)
}

/// Three digits.
pub fn short(value: f64) -> String {
    if value >= 100.0 {
        format!("{value:.0}")
    } else if value >= 10.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.2}")
    }
}

/// Replaces what stands between the marks of a page.
pub fn replace(page: &Path, text: &str) -> io::Result<()> {
    let old = fs::read_to_string(page)?;
    let (before, rest) = old
        .split_once(BEGIN)
        .ok_or_else(|| io::Error::other(format!("{} has no mark {BEGIN}", page.display())))?;
    let (_, after) = rest
        .split_once(END)
        .ok_or_else(|| io::Error::other(format!("{} has no mark {END}", page.display())))?;
    fs::write(page, format!("{before}{BEGIN}\n{text}{END}{after}"))
}

const BEGIN: &str = "<!-- bench: begin -->";
const END: &str = "<!-- bench: end -->";
