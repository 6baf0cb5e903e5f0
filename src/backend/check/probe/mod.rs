//! A check for people to read: of everything that a session does at a backend, with what each stage has found.
//!
//! The stages are those of the active checks, by the same code, and those that a check can do without: the certificate,
//! FEAT, each way to ask for a data connection, whether it resumes the TLS session of the control connection.

mod record;
mod stages;
mod targets;
mod walk;

pub use record::{
    AgreedTls, AskedPort, DataPeer, Finding, FoundCertificate, PortAnswer, ProbeOutcome,
    ProbeRecord, ProbedStage, Skipped, Trust,
};
pub use targets::{Target, targets};

use std::sync::Arc;

use self::stages::Stages;
use self::targets::{Server, Undiscovered};
use super::Check;
use super::advice::ASK_NAME_SERVERS;
use crate::config::{Probe, Timeouts};
use crate::net::resolve::Resolver;
use crate::outcome::ProbeStage;

/// How far a probe goes.
#[derive(Debug, Clone)]
pub enum Goal {
    /// As far as a login before USER, and FEAT.
    Ready,
    /// A login, and the reply to EPSV and PASV.
    Login(Probe),
    /// As [`Self::Login`], with a listing over a data connection.
    List {
        /// The account of the login.
        account: Probe,
        /// The directory to list; `None` for the one that the login leads to.
        directory: Option<String>,
    },
}

/// Probes a backend, and takes leave of it. Takes [`LONGEST`](super::LONGEST) at most, and a few seconds for leaving.
pub async fn probe(
    target: Target,
    resolver: &Arc<Resolver>,
    timeouts: &Timeouts,
    goal: &Goal,
) -> ProbeRecord {
    let backend = match target.server {
        Server::Known(backend) => backend,
        Server::Unknown(entry) => return ProbeRecord::of_undiscovered(*entry, goal),
    };
    let check = Check {
        backend: &backend,
        passive_mode: target.site.passive_mode,
        resolver,
        timeouts,
        logins: &target.logins,
    };
    let mut stages = Stages::new(&backend.settings);
    let began = stages.began;
    check.probe_stages(goal, &mut stages).await;
    ProbeRecord {
        tls: stages.tls(),
        stages: stages.in_order(goal),
        took: began.elapsed(),
    }
}

impl ProbeRecord {
    fn of_undiscovered(entry: Undiscovered, goal: &Goal) -> Self {
        let mut stages = Stages::new(&entry.settings);
        stages.made.push(ProbedStage {
            stage: ProbeStage::Dns,
            took: Some(entry.took),
            outcome: ProbeOutcome::Failed {
                error: entry.error,
                remedy: ASK_NAME_SERVERS.to_owned(),
            },
        });
        Self {
            tls: stages.tls(),
            stages: stages.in_order(goal),
            took: entry.took,
        }
    }
}

impl Goal {
    fn account(&self) -> Option<&Probe> {
        match self {
            Self::Ready => None,
            Self::Login(account) | Self::List { account, .. } => Some(account),
        }
    }

    /// Whether this stage is part of the probe.
    fn includes(&self, stage: ProbeStage) -> bool {
        match self {
            Self::Ready => !needs_login(stage),
            Self::Login(_) => !is_of_data(stage),
            Self::List { .. } => true,
        }
    }
}

/// Whether a stage needs a login.
fn needs_login(stage: ProbeStage) -> bool {
    matches!(stage, ProbeStage::Login | ProbeStage::Passive) || is_of_data(stage)
}

/// Whether a stage is one of a data connection.
fn is_of_data(stage: ProbeStage) -> bool {
    matches!(
        stage,
        ProbeStage::Data | ProbeStage::DataHandshake | ProbeStage::List
    )
}
