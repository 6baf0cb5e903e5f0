//! What everybody believes of the transfers, held against the bytes.

use std::collections::BTreeMap;
use std::fmt::{self, Display};
use std::fs;

use testkit::content::sha256;
use testkit::proxy::Proxy;

use super::client::Way;
use super::{Deployment, Plan, Victim};

/// What a client believes of its transfer, and has of it.
#[derive(Debug, Default)]
pub struct Belief {
    /// A 2xx came, or the client exited with 0.
    pub complete: bool,
    /// A download's data connection ended as a complete one does.
    pub ended_in_order: bool,
    /// What was downloaded.
    pub content: Vec<u8>,
    /// How many bytes had moved when the victim was killed; none if nobody was.
    pub killed_at: Option<usize>,
    /// What the client said or was told.
    pub says: String,
}

/// What has been seen so far.
#[derive(Debug, Default)]
pub struct Tally {
    transfers: u64,
    complete: BTreeMap<Way, u64>,
    /// By victim and, in that order: before the first byte, in the first half, in the second, after the last.
    kills: BTreeMap<&'static str, [u64; 4]>,
    /// How many lines of each server's transfer log, and claims of the proxy's log, were looked at.
    server_claims: u64,
    proxy_claims: u64,
    read_of_logs: BTreeMap<&'static str, usize>,
}

impl Tally {
    pub fn kills(&self) -> u64 {
        self.kills.values().flatten().sum()
    }

    pub fn transfers(&self) -> u64 {
        self.transfers
    }

    /// Looks at a round.
    ///
    /// # Panics
    /// If anybody believes that a file is whole that isn't, or if a transfer failed that nobody touched.
    pub fn hold_against_the_truth(
        &mut self,
        deployment: &Deployment,
        proxy: &Proxy,
        plans: &[Plan],
        beliefs: &[Belief],
    ) {
        let struck = |backend: usize| {
            plans.iter().any(|plan| match plan.victim {
                Victim::Proxy => true,
                Victim::Backend => plan.backend == backend,
                Victim::Nobody | Victim::Client => false,
            })
        };
        for (plan, belief) in plans.iter().zip(beliefs) {
            self.transfers += 1;
            let spared = plan.victim == Victim::Nobody && !struck(plan.backend);
            assert!(
                belief.complete || !spared,
                "{plan}: failed: {}",
                belief.says
            );
            if belief.complete {
                *self.complete.entry(plan.way).or_default() += 1;
            }
            if belief.complete || belief.ended_in_order {
                let there = match plan.way {
                    Way::Upload => stored(deployment, plan),
                    Way::Download => belief.content.clone(),
                };
                assert_whole(plan, "the client", &there);
            }
            if let Some(moved) = belief.killed_at {
                self.count_kill(plan, moved);
            }
        }
        self.ask_servers(deployment, plans);
        self.ask_proxy(deployment, proxy, plans);
    }

    fn count_kill(&mut self, plan: &Plan, moved: usize) {
        let victim = match plan.victim {
            Victim::Nobody => return,
            Victim::Client => "client",
            Victim::Backend => "backend",
            Victim::Proxy => "proxy",
        };
        let length = plan.content.len();
        let phase = match moved {
            0 => 0,
            _ if moved >= length => 3,
            _ if moved >= length / 2 => 2,
            _ => 1,
        };
        self.kills.entry(victim).or_default()[phase] += 1;
    }

    /// Uploads that a server's transfer log calls complete.
    fn ask_servers(&mut self, deployment: &Deployment, plans: &[Plan]) {
        for (index, (name, server)) in deployment.servers.iter().enumerate() {
            let log = server.transfer_log();
            let read = self.read_of_logs.entry(name).or_default();
            let news = log.get(*read..).unwrap_or_default().to_owned();
            *read = log.len();
            for plan in plans.iter().filter(|plan| plan.backend == index) {
                if plan.way == Way::Upload && news.lines().any(|line| claims(line, plan)) {
                    self.server_claims += 1;
                    assert_whole(plan, "the server", &stored(deployment, plan));
                }
            }
        }
    }

    /// Transfers that the proxy's log calls complete.
    fn ask_proxy(&mut self, deployment: &Deployment, proxy: &Proxy, plans: &[Plan]) {
        let lines = proxy.log_lines();
        for plan in plans.iter().filter(|plan| plan.way == Way::Upload) {
            // Only what may be the line is worth being read as JSON.
            let quoted = format!("\"{}\"", plan.name());
            let mut of_plan = lines.iter().filter(|line| line.text.contains(&quoted));
            if of_plan.any(|line| line.message() == "transfer complete") {
                self.proxy_claims += 1;
                assert_whole(plan, "the proxy", &stored(deployment, plan));
            }
        }
    }

    /// Fails unless everybody was killed at all moments, and enough got through to be believed.
    pub fn assert_it_was_worth_it(&self) {
        assert_eq!(self.kills.len(), 3, "somebody was never killed");
        for way in [Way::Upload, Way::Download] {
            assert!(self.complete.contains_key(&way), "no {way:?} got through");
        }
        assert!(self.server_claims > 0, "no server's log was understood");
        assert!(self.proxy_claims > 0, "the proxy's log was not understood");
    }
}

impl Display for Tally {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            formatter,
            "{} kills in {} transfers; complete: {:?}; called complete by servers' logs: {}, by the proxy's: {}",
            self.kills(),
            self.transfers,
            self.complete,
            self.server_claims,
            self.proxy_claims,
        )?;
        writeln!(formatter, "killed      before    1st half  2nd half  after")?;
        for (victim, [before, first, second, after]) in &self.kills {
            writeln!(
                formatter,
                "{victim:<12}{before:<10}{first:<10}{second:<10}{after}"
            )?;
        }
        Ok(())
    }
}

impl Display for Plan {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{:?} {} by {:?}, {:?} killed after {} of {} bytes",
            self.way,
            self.name(),
            self.kind,
            self.victim,
            self.after,
            self.content.len()
        )
    }
}

fn stored(deployment: &Deployment, plan: &Plan) -> Vec<u8> {
    let (_, server) = &deployment.servers[plan.backend];
    fs::read(server.root().join(plan.name())).unwrap_or_default()
}

#[track_caller]
fn assert_whole(plan: &Plan, who: &str, there: &[u8]) {
    assert!(
        sha256(there) == sha256(&plan.content),
        "{plan}: {who} calls it complete, but {} bytes are there",
        there.len()
    );
}

/// Whether a line of a server's transfer log, in the form of xferlog(5), says that an upload is complete. vsftpd and
/// ProFTPD say so by a `c` at its end; Pure-FTPd's log doesn't tell what it has answered with 226 from the rest.
fn claims(line: &str, plan: &Plan) -> bool {
    let name = format!("/{}", plan.name());
    line.ends_with(" c") && line.split(' ').any(|word| word.ends_with(&name))
}
