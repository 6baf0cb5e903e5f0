//! Processes that are measured: started on a CPU of their own, asked what they used, ended by pid.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// A process and all it has started.
#[derive(Debug)]
pub struct Process {
    child: Child,
}

impl Process {
    /// Starts a program on one CPU, with its output in `log`.
    pub fn start(
        program: &Path,
        cpu: usize,
        log: &Path,
        set_up: impl FnOnce(&mut Command),
    ) -> io::Result<Self> {
        let mut command = on_cpu(program, cpu);
        let log = File::create(log)?;
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        set_up(&mut command);
        Ok(Self {
            child: command.spawn()?,
        })
    }

    /// Waits until something listens, or the process is over.
    pub fn wait_for(&mut self, address: SocketAddr) -> io::Result<()> {
        let began = Instant::now();
        while TcpStream::connect(address).is_err() {
            if let Some(status) = self.child.try_wait()? {
                return Err(io::Error::other(format!("ended at once: {status}")));
            }
            if began.elapsed() > START_PATIENCE {
                return Err(io::ErrorKind::TimedOut.into());
            }
            sleep(POLL);
        }
        Ok(())
    }

    /// User and system time of the process, of its children, and of those that it had.
    pub fn cpu_time(&self) -> io::Result<Duration> {
        let mut ticks = 0;
        for pid in self.family()? {
            if let Some(stat) = Stat::of(pid) {
                ticks += stat.ticks;
            }
        }
        Ok(Duration::from_secs(ticks) / TICKS_PER_SECOND)
    }

    /// Memory that is this process's and its children's alone, in bytes.
    pub fn private_memory(&self) -> io::Result<u64> {
        let mut kib = 0;
        for pid in self.family()? {
            // A process of a session that is over may go while it is looked at, and has no memory then.
            let Ok(rollup) = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")) else {
                continue;
            };
            kib += rollup
                .lines()
                .filter(|line| line.starts_with("Private_"))
                .filter_map(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok())
                .sum::<u64>();
        }
        Ok(kib * 1024)
    }

    /// How many file descriptors this process and its children have.
    pub fn descriptors(&self) -> io::Result<u64> {
        let mut count = 0;
        for pid in self.family()? {
            if let Ok(open) = fs::read_dir(format!("/proc/{pid}/fd")) {
                count += open.count() as u64;
            }
        }
        Ok(count)
    }

    fn family(&self) -> io::Result<Vec<u32>> {
        let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
        for entry in fs::read_dir("/proc")? {
            let name = entry?.file_name();
            let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            if let Some(stat) = Stat::of(pid) {
                children.entry(stat.parent).or_default().push(pid);
            }
        }
        let mut family = vec![self.child.id()];
        let mut next = 0;
        while let Some(&pid) = family.get(next) {
            family.extend(children.remove(&pid).unwrap_or_default());
            next += 1;
        }
        Ok(family)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let family = self.family().unwrap_or_default();
        // In order first: nginx's and ProFTPD's children outlive a master that is killed.
        signal("-TERM", &family[..family.len().min(1)]);
        let began = Instant::now();
        while began.elapsed() < END_PATIENCE {
            if let Ok(Some(_)) = self.child.try_wait() {
                break;
            }
            sleep(POLL);
        }
        signal("-KILL", &family);
        let _ = self.child.wait();
    }
}

fn signal(name: &str, family: &[u32]) {
    let mut command = Command::new("kill");
    command.arg(name).stderr(Stdio::null());
    for pid in family.iter().filter(|&&pid| Stat::of(pid).is_some()) {
        command.arg(pid.to_string());
    }
    let _ = command.status();
}

/// A command that runs a program on one CPU.
pub fn on_cpu(program: &Path, cpu: usize) -> Command {
    let mut command = Command::new("taskset");
    command.arg("--cpu-list").arg(cpu.to_string()).arg(program);
    command
}

/// Moves this process to one CPU; threads that it starts later follow.
pub fn move_to_cpu(cpu: usize) -> io::Result<()> {
    let status = Command::new("taskset")
        .args(["--pid", "--cpu-list", &cpu.to_string()])
        .arg(std::process::id().to_string())
        .stdout(Stdio::null())
        .status()?;
    status
        .success()
        .then_some(())
        .ok_or_else(|| io::Error::other("taskset failed"))
}

/// What proc(5) says of a process.
struct Stat {
    parent: u32,
    /// utime, stime, cutime and cstime.
    ticks: u64,
}

impl Stat {
    fn of(pid: u32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The second field is a name in parentheses, with anything in it.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let number = |field: usize| fields.get(field)?.parse::<u64>().ok();
        Some(Self {
            parent: u32::try_from(number(1)?).ok()?,
            ticks: number(11)? + number(12)? + number(13)? + number(14)?,
        })
    }
}

/// USER_HZ, the same on every Linux that this runs on.
const TICKS_PER_SECOND: u32 = 100;
const START_PATIENCE: Duration = Duration::from_secs(20);
const END_PATIENCE: Duration = Duration::from_secs(3);
const POLL: Duration = Duration::from_millis(10);
