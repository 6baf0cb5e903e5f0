//! Clients, backends and the proxy itself killed with SIGKILL at random moments of many transfers, with real servers
//! and clients: nothing truncated is ever called complete.
//!
//! Each round runs some transfers side by side and kills some of those who take part, each at the moment when a random
//! number of bytes has moved. Then what everybody believes is held against the bytes on the server's disk and in the
//! client's file: the client (a 2xx, an exit code of 0, an orderly end of a download), the server (its own transfer
//! log), and the proxy (its log). Whoever was spared must have got through.
//!
//! Every run of the tests kills a few dozen; `make soak` kills a thousand. `PORTCULLIS_KILLS` says how many, and
//! `PORTCULLIS_SEED` repeats the choices of an earlier run, though not its timing.

mod client;
mod dice;
mod witness;

use std::env;
use std::fs;
use std::sync::Arc;
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use testkit::certs::Authority;
use testkit::config::{Config, Site};
use testkit::content;
use testkit::front::Front;
use testkit::process::send_signal;
use testkit::proxy::{Proxy, Signal};
use testkit::server::{Reuse, Security, Server};
use testkit::{proftpd, pureftpd, vsftpd};

use crate::program::Start;

use client::{Kind, Way};
use dice::Dice;
use witness::Tally;

/// Who is killed when so many bytes of a transfer have moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Victim {
    Nobody,
    Client,
    Backend,
    Proxy,
}

/// A transfer, and what is going to happen in it.
#[derive(Debug, Clone)]
struct Plan {
    number: u64,
    backend: usize,
    kind: Kind,
    way: Way,
    content: Arc<Vec<u8>>,
    victim: Victim,
    /// How many bytes move before that. One more than there are: after the end, before the reply.
    after: usize,
    /// How often the processor is yielded on top of it.
    spins: u64,
    /// A raw client that dies loses its data connection before its control connection.
    data_first: bool,
}

impl Plan {
    /// The file's name on the server.
    fn name(&self) -> String {
        match self.way {
            Way::Upload => format!("up-{}", self.number),
            Way::Download => format!("down-{}", self.content.len()),
        }
    }
}

/// Real servers, and the configuration with which the proxy is started again and again.
struct Deployment {
    front: Front,
    config: Arc<Config>,
    servers: Vec<(&'static str, Server)>,
    downloads: Vec<Arc<Vec<u8>>>,
}

impl Deployment {
    fn new() -> Self {
        let front = Front::new(&[]);
        let pair = Authority::new("authority of the servers").issue(&["ftp.test"]);
        let tls = Security::Explicit(&pair, Reuse::Required);
        let servers = vec![
            ("vsftpd", vsftpd::start(Security::Plain)),
            ("vsftpdtls", vsftpd::start(tls)),
            ("proftpd", proftpd::start(Security::Plain)),
            ("proftpdtls", proftpd::start(tls)),
            ("pureftpd", pureftpd::start(Security::Plain)),
        ];
        let sizes = [40_000, 400_000, 1_500_000];
        let downloads: Vec<_> = (1..)
            .zip(sizes)
            .map(|(seed, size)| Arc::new(content::bytes(seed, size)))
            .collect();
        let mut config = front
            .config()
            .tls("required", "false")
            .passive_ports("50000-50255");
        for (name, server) in &servers {
            for file in &downloads {
                let path = server.root().join(format!("down-{}", file.len()));
                fs::write(path, &**file).expect("the server's directory is writable");
            }
            let site = Site::hosts(name, &[&format!("{name}.test")], server.address());
            config = config.site(&if name.ends_with("tls") {
                site.backend_tls("explicit", None)
            } else {
                site
            });
        }
        Self {
            front,
            config: Arc::new(config),
            servers,
            downloads,
        }
    }

    /// Draws the transfers of a round.
    fn plans(&self, dice: &mut Dice, first: u64) -> Vec<Plan> {
        let mut plans: Vec<Plan> = (first..)
            .take(AT_ONCE)
            .map(|number| self.plan(dice, number))
            .collect();
        if dice.below(3) == 0 {
            // Nobody else's death is of interest when all die.
            let chosen = dice.below(plans.len());
            for (index, plan) in plans.iter_mut().enumerate() {
                plan.victim = if index == chosen {
                    Victim::Proxy
                } else {
                    Victim::Nobody
                };
            }
        }
        plans
    }

    fn plan(&self, dice: &mut Dice, number: u64) -> Plan {
        let way = *dice.one_of(&[Way::Upload, Way::Download]);
        let content = match way {
            Way::Upload => Arc::new(content::bytes(number, 20_000 + dice.below(1_200_000))),
            Way::Download => Arc::clone(dice.one_of(&self.downloads)),
        };
        use Victim::{Backend, Client, Nobody};
        let victim = *dice.one_of(&[Nobody, Client, Client, Client, Backend, Backend]);
        // As often at the very beginning and at the very end as anywhere between.
        let after = match dice.below(4) {
            0 => 0,
            1 => content.len() + dice.below(2),
            _ => dice.below(content.len()),
        };
        Plan {
            number,
            backend: dice.below(self.servers.len()),
            kind: *dice.one_of(&Kind::ALL),
            way,
            content,
            victim,
            after,
            spins: dice.below(200) as u64,
            data_first: dice.below(2) == 0,
        }
    }

    /// Runs transfers side by side; gives what their clients believe.
    fn run(&self, plans: &[Plan], proxy: &Proxy, dice: &mut Dice) -> Vec<witness::Belief> {
        thread::scope(|scope| {
            let running: Vec<_> = plans
                .iter()
                .map(|plan| {
                    let choice = dice.below(usize::MAX);
                    scope.spawn(move || {
                        let (_, server) = &self.servers[plan.backend];
                        client::run(plan, self, proxy, || match plan.victim {
                            Victim::Backend => kill_a_session(server, choice),
                            Victim::Proxy => {
                                proxy.signal(Signal::Kill);
                                true
                            }
                            Victim::Nobody | Victim::Client => false,
                        })
                    })
                })
                .collect();
            let running = running.into_iter();
            running
                .map(|transfer| transfer.join().expect("a client has its deadlines"))
                .collect()
        })
    }
}

/// Kills one of the processes that serve this server's sessions; false if there is none.
fn kill_a_session(server: &Server, choice: usize) -> bool {
    let sessions = server.sessions();
    let Some(chosen) = choice.checked_rem(sessions.len()) else {
        return false;
    };
    send_signal("KILL", &sessions[chosen].to_string());
    true
}

/// A number from the environment.
fn wanted(name: &str) -> Option<u64> {
    let text = env::var(name).ok()?;
    let number = text.parse();
    Some(number.unwrap_or_else(|_| panic!("{name} has to be a number, not {text:?}")))
}

/// How many transfers run side by side.
const AT_ONCE: usize = 6;

/// How many kills a run has if nobody says how many.
const KILLS: u64 = 60;

#[test]
fn whoever_is_killed_nothing_truncated_is_called_complete() {
    let seed = wanted("PORTCULLIS_SEED").unwrap_or_else(|| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        now.expect("it's after 1970").subsec_nanos().into()
    });
    let kills = wanted("PORTCULLIS_KILLS").unwrap_or(KILLS);
    println!("PORTCULLIS_SEED={seed} PORTCULLIS_KILLS={kills}");
    let deployment = Deployment::new();
    let mut dice = Dice::new(seed);
    let mut tally = Tally::default();
    let mut proxy = Proxy::start(Arc::clone(&deployment.config));
    while tally.kills() < kills {
        let plans = deployment.plans(&mut dice, tally.transfers());
        let beliefs = deployment.run(&plans, &proxy, &mut dice);
        tally.hold_against_the_truth(&deployment, &proxy, &plans, &beliefs);
        if plans.iter().any(|plan| plan.victim == Victim::Proxy) {
            // What has not been killed in time is killed now.
            drop(proxy);
            proxy = Proxy::start(Arc::clone(&deployment.config));
        }
    }
    println!("{tally}");
    tally.assert_it_was_worth_it();
}
