//! Load to hold: a good client's login on an idle proxy and under attack, in turn, and a crowd of idle sessions.
//!
//! The proxy has one CPU, and its limits and timeouts are the defaults. All else shares another CPU: the good client, the
//! backend, and the [attackers](crate::hostile), who have to stand behind there.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep};

use crate::Ground;
use crate::client::{DataRoute, Route, Session};
use crate::hostile;
use crate::peers::free_port;
use crate::process::Process;
use crate::table;

/// What `load` may be told.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// The binary of Portcullis.
    pub portcullis: PathBuf,
    /// The page in which to replace the table; without it the table goes to stdout.
    #[arg(long)]
    pub page: Option<PathBuf>,
    /// The command that runs the attackers, so that the good client doesn't wait for them on their common CPU.
    #[arg(long, default_value = "nice -n 19")]
    pub attackers: String,
    /// A tenth of the work, once: to see whether it works.
    #[arg(long)]
    pub quick: bool,
}

/// Measures, and gives the tables.
pub async fn measure(options: &Options, ground: &Ground) -> io::Result<String> {
    let (rounds, logins) = if options.quick { (1, 100) } else { (3, 1_000) };
    let proxy = Proxy::start(options, ground, "")?;
    let mut idle = Vec::new();
    let mut attacked = Vec::new();
    let mut pressure = Vec::new();
    for round in 1..=rounds {
        eprintln!("round {round}: idle");
        proxy.wait_for_sessions(|sessions| sessions == 0).await?;
        idle.extend(log_in(&proxy.route, logins).await?);
        eprintln!("round {round}: under attack");
        let attackers = Attackers::start(&proxy, &options.attackers)?;
        let all = hostile::CROWD as u64;
        proxy.wait_for_sessions(|sessions| sessions >= all).await?;
        let before = proxy.look().await?;
        attacked.extend(log_in(&proxy.route, logins).await?);
        pressure.push(before.until(&proxy.look().await?).sufficient()?);
        drop(attackers);
    }
    drop(proxy);

    eprintln!("idle sessions");
    let most = if options.quick {
        500
    } else {
        table::most_sessions()?
    };
    let limits = "limits: {allow: [127.0.0.1]}\n";
    let crowd = crowd(&Proxy::start(options, ground, limits)?, most, logins).await?;
    Ok(format!(
        "{}\n{}\n{}",
        table::machine()?,
        under_attack(&idle, &attacked, &pressure),
        of_crowd(&crowd)
    ))
}

/// A proxy that runs.
struct Proxy {
    process: Process,
    explicit: SocketAddr,
    route: Route,
    admin: SocketAddr,
}

impl Proxy {
    fn start(options: &Options, ground: &Ground, more: &str) -> io::Result<Self> {
        let [explicit, implicit, passive, admin] =
            [free_port()?, free_port()?, free_port()?, free_port()?];
        let config = format!(
            "listeners:\n  - {{address: 127.0.0.1:{explicit}, tls: explicit}}\n  - {{address: 127.0.0.1:{implicit}, tls: implicit}}\n\
             tls: {{certificate: {certificate}, private_key: {key}}}\n\
             passive: {{ports: {passive}}}\n\
             sites:\n  - {{name: bench, default: true, backends: [{{address: 127.0.0.1:{backend}}}]}}\n\
             admin: {{address: 127.0.0.1:{admin}}}\n{more}",
            certificate = ground.certificate.chain.display(),
            key = ground.certificate.key.display(),
            backend = ground.backend.ports.0,
        );
        let file = ground.folder.path().join("load.yaml");
        fs::write(&file, config)?;
        let log = ground.folder.path().join("load.log");
        let mut process = Process::start(&options.portcullis, ground.cpu, &log, |command| {
            command.arg("run").arg("--config").arg(file);
        })?;
        let local = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        process.wait_for(local(admin))?;
        Ok(Self {
            process,
            explicit: local(explicit),
            route: Route {
                control: local(implicit),
                data: DataRoute::Ftp,
                tls: Some(ground.certificate.client(&rustls::version::TLS13)),
            },
            admin: local(admin),
        })
    }

    /// What the proxy says of itself, and the system of it.
    async fn look(&self) -> io::Result<Look> {
        let answer = get(self.admin, "/metrics").await?;
        let sum = |name: &str| {
            let values = answer.lines().filter_map(|line| {
                let value = line.strip_prefix(name)?.rsplit(' ').next()?;
                value.parse::<f64>().ok()
            });
            values.sum::<f64>() as u64
        };
        Ok(Look {
            at: Instant::now(),
            cpu: self.process.cpu_time()?,
            memory: self.process.private_memory()?,
            sessions: sum("portcullis_sessions "),
            begun: sum("portcullis_sessions_total{"),
            handshakes: sum("portcullis_tls_handshakes_total{result=\"ok\""),
        })
    }

    async fn wait_for_sessions(&self, wanted: impl Fn(u64) -> bool) -> io::Result<()> {
        let began = Instant::now();
        while !wanted(self.look().await?.sessions) {
            if began.elapsed() > PATIENCE {
                return Err(io::Error::other("the number of sessions is never reached"));
            }
            sleep(Duration::from_millis(200)).await;
        }
        Ok(())
    }
}

/// The answer of the admin endpoint, with its head.
async fn get(admin: SocketAddr, path: &str) -> io::Result<String> {
    let mut socket = TcpStream::connect(admin).await?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {admin}\r\nConnection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await?;
    Ok(answer)
}

/// Lists every live session, once and for as long as this is polled, and how long each list took.
async fn list_sessions(
    admin: SocketAddr,
    sessions: usize,
    took: &mut Vec<Duration>,
) -> io::Result<()> {
    loop {
        let began = Instant::now();
        let answer = get(admin, "/api/v1/sessions?limit=10000").await?;
        took.push(began.elapsed());
        let listed = answer.matches("\"id\":").count();
        if listed < sessions {
            return Err(io::Error::other(format!("{listed} sessions are listed")));
        }
        sleep(BETWEEN_LISTS).await;
    }
}

struct Look {
    at: Instant,
    cpu: Duration,
    memory: u64,
    sessions: u64,
    begun: u64,
    handshakes: u64,
}

/// What the attackers did to the proxy while the good client was measured.
struct Pressure {
    /// Open at the beginning and at the end, the fewer of both.
    sessions: u64,
    /// In a second.
    begun: f64,
    /// In a second, those of the good client included.
    handshakes: f64,
    /// The proxy's, of one CPU.
    cpu: f64,
    /// The proxy's private bytes, all of them.
    memory: u64,
}

impl Look {
    fn until(&self, later: &Self) -> Pressure {
        let seconds = (later.at - self.at).as_secs_f64();
        Pressure {
            sessions: self.sessions.min(later.sessions),
            begun: (later.begun - self.begun) as f64 / seconds,
            handshakes: (later.handshakes - self.handshakes) as f64 / seconds,
            cpu: (later.cpu - self.cpu).as_secs_f64() / seconds,
            memory: self.memory.max(later.memory),
        }
    }
}

impl Pressure {
    /// Attackers who get no CPU time attack nobody.
    fn sufficient(self) -> io::Result<Self> {
        if self.sessions >= hostile::CROWD as u64
            && self.handshakes >= f64::from(hostile::HANDSHAKES_A_SECOND)
        {
            return Ok(self);
        }
        Err(io::Error::other(format!(
            "the machine is too busy to attack: {} sessions, {:.0} handshakes a second",
            self.sessions, self.handshakes
        )))
    }
}

/// The process of the attackers, which ends with this.
struct Attackers(Child);

impl Attackers {
    /// `behind` is the command that gives them their priority.
    fn start(proxy: &Proxy, behind: &str) -> io::Result<Self> {
        let mut words = behind.split_whitespace();
        let child = Command::new(words.next().unwrap_or("nice"))
            .args(words)
            .arg(std::env::current_exe()?)
            .arg("attack")
            .arg(proxy.explicit.to_string())
            .arg(proxy.route.control.to_string())
            .stdin(Stdio::null())
            .spawn()?;
        Ok(Self(child))
    }
}

impl Drop for Attackers {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// So many logins, one after the other, and how long each took from TCP's handshake to the 230.
async fn log_in(route: &Route, count: usize) -> io::Result<Vec<Duration>> {
    let mut pace = interval(PACE);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut took = Vec::new();
    for _ in 0..count {
        pace.tick().await;
        let began = Instant::now();
        let session = Session::login(route).await?;
        took.push(began.elapsed());
        session.quit().await?;
    }
    Ok(took)
}

struct Crowd {
    sessions: usize,
    /// Bytes for each session.
    private: f64,
    alone: Vec<Duration>,
    among: Vec<Duration>,
    /// While they are listed, over and over.
    listed: Vec<Duration>,
    /// Of those lists.
    lists: Vec<Duration>,
}

/// Logs so many sessions in, leaves them idle, and sees that each one still answers.
async fn crowd(proxy: &Proxy, size: usize, logins: usize) -> io::Result<Crowd> {
    let alone = log_in(&proxy.route, logins).await?;
    let before = proxy.process.private_memory()?;
    let mut sessions = Vec::new();
    while sessions.len() < size {
        let mut batch = JoinSet::new();
        for _ in 0..(size - sessions.len()).min(AT_ONCE) {
            let route = proxy.route.clone();
            batch.spawn(async move { Session::login(&route).await });
        }
        while let Some(session) = batch.join_next().await {
            sessions.push(session.map_err(io::Error::other)??);
        }
    }
    let private = proxy.process.private_memory()?.saturating_sub(before) as f64 / size as f64;
    let among = log_in(&proxy.route, logins).await?;
    let mut lists = Vec::new();
    let listed = tokio::select! {
        listed = log_in(&proxy.route, logins) => listed?,
        failed = list_sessions(proxy.admin, size, &mut lists) => {
            return Err(failed.err().unwrap_or_else(|| io::Error::other("the lists have ended")));
        }
    };
    for session in &mut sessions {
        session.command("NOOP", 200).await?;
    }
    Ok(Crowd {
        sessions: size,
        private,
        alone,
        among,
        listed,
        lists,
    })
}

fn under_attack(idle: &[Duration], attacked: &[Duration], pressure: &[Pressure]) -> String {
    let least = |of: fn(&Pressure) -> f64| pressure.iter().map(of).fold(f64::INFINITY, f64::min);
    let most = |of: fn(&Pressure) -> f64| pressure.iter().map(of).fold(0.0, f64::max);
    format!(
        "Under attack there were at least {:.0} sessions open, {:.0} begun and {:.0} handshakes done a second. The proxy \
         had {:.0} MiB of private memory at most, and used {:.0} % of its CPU at most.\n\n{}",
        least(|pressure| pressure.sessions as f64),
        least(|pressure| pressure.begun),
        least(|pressure| pressure.handshakes),
        most(|pressure| pressure.memory as f64) / f64::from(1 << 20),
        most(|pressure| pressure.cpu) * 100.0,
        compared("on an idle proxy", idle, "under attack", attacked),
    )
}

fn of_crowd(crowd: &Crowd) -> String {
    format!(
        "{} sessions, logged in under TLS and idle, each of which answered in the end: {:.1} KiB of the proxy's private \
         memory for each.\n\n{}\nAll of them are listed (`/api/v1/sessions`) in {:.0} ms in the median, and in {:.0} ms at most; the \
         next list began a second after the end of the one before.\n\n{}",
        crowd.sessions,
        crowd.private / 1024.0,
        compared("on an idle proxy", &crowd.alone, "among them", &crowd.among),
        table::percentile(&crowd.lists, 0.5),
        table::percentile(&crowd.lists, 1.0),
        compared(
            "among them",
            &crowd.among,
            "while they are listed",
            &crowd.listed
        ),
    )
}

fn compared(one: &str, ones: &[Duration], other: &str, others: &[Duration]) -> String {
    let mut text = format!("| login | {one} | {other} | ratio |\n|---|---|---|---|\n");
    for (name, part) in [("median", 0.5), ("p99", 0.99)] {
        let (one, other) = (
            table::percentile(ones, part),
            table::percentile(others, part),
        );
        text += &format!(
            "| {name} | {one:.2} ms | {other:.2} ms | {:.2} |\n",
            other / one
        );
    }
    text
}

/// Between two logins of the good client, or none if they take longer.
const PACE: Duration = Duration::from_millis(20);

/// From the end of one list of all sessions to the next.
const BETWEEN_LISTS: Duration = Duration::from_secs(1);

/// How many sessions of the idle crowd log in at once.
const AT_ONCE: usize = 50;

/// Longer than the longest that a hostile connection may stay.
const PATIENCE: Duration = Duration::from_secs(60);
