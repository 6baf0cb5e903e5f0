//! The stages of a probe that is being made, and those that there are.

use tokio::time::Instant;

use super::record::{
    AgreedTls, Finding, FoundCertificate, ProbeOutcome, ProbedStage, Skipped, Trust,
};
use super::{Goal, needs_login};
use crate::backend::check::CheckError;
use crate::backend::dial::{Progress, Seen};
use crate::backend::site_backend::Backend;
use crate::config::{self, TlsMode};
use crate::outcome::{DialStage, ProbeStage};
use crate::tls::ShownCertificate;

/// The stages so far, and when the current one began.
pub(super) struct Stages<'a> {
    pub made: Vec<ProbedStage>,
    pub began: Instant,
    settings: &'a config::Backend,
    /// See [`Skipped::PasswordRefused`].
    pub password_refused: bool,
}

impl<'a> Stages<'a> {
    pub fn new(settings: &'a config::Backend) -> Self {
        Self {
            made: Vec::new(),
            began: Instant::now(),
            settings,
            password_refused: false,
        }
    }

    pub fn found(&mut self, stage: ProbeStage, finding: Finding) {
        self.end(stage, ProbeOutcome::Done(finding));
    }

    pub fn failed(&mut self, stage: ProbeStage, error: CheckError, backend: &Backend) {
        let remedy = error.remedy(backend);
        self.end(stage, ProbeOutcome::Failed { error, remedy });
    }

    pub fn end(&mut self, stage: ProbeStage, outcome: ProbeOutcome) {
        let now = Instant::now();
        // PBSZ and PROT may have been tried before the login.
        self.made.retain(|made| made.stage != stage);
        self.made.push(ProbedStage {
            stage,
            took: Some(now - self.began),
            outcome,
        });
        self.began = now;
    }

    pub fn tls(&self) -> Option<TlsMode> {
        self.settings.tls.as_ref().map(|tls| tls.start)
    }

    /// The stages for such a backend, those included that were not made.
    pub fn in_order(mut self, goal: &Goal) -> Vec<ProbedStage> {
        let stages = ProbeStage::order(self.tls());
        let stages = stages.iter().map(|stage| {
            let made = self.made.iter().position(|made| made.stage == *stage);
            made.map(|at| self.made.swap_remove(at))
                .unwrap_or(ProbedStage {
                    stage: *stage,
                    took: None,
                    outcome: ProbeOutcome::Skipped(if !goal.includes(*stage) {
                        Skipped::NotAsked
                    } else if self.password_refused && needs_login(*stage) {
                        Skipped::PasswordRefused
                    } else {
                        Skipped::Failure
                    }),
                })
        });
        stages.collect()
    }
}

impl Progress for Stages<'_> {
    fn done(&mut self, stage: DialStage, seen: Seen<'_>) {
        let finding = match seen {
            Seen::Addresses(addresses) => Finding::Addresses(addresses.to_vec()),
            Seen::Connected(to) => {
                let expected = self.settings.proxy_protocol;
                let header = expected.map(|expected| expected.version);
                Finding::Connected { to, header }
            }
            Seen::Reply(reply) => Finding::Reply(reply.clone()),
            Seen::Protection(protection) => Finding::Protection(protection),
            Seen::Handshake(stream) => {
                if let Some(tls) = AgreedTls::of(stream) {
                    self.found(ProbeStage::Handshake, Finding::Tls(tls));
                }
                let mut chain = stream.backend_chain().iter().map(ShownCertificate::read);
                let found = FoundCertificate {
                    own: chain.next().flatten(),
                    issuers: chain.flatten().collect(),
                    trust: Trust::at(self.settings),
                };
                self.made.push(ProbedStage {
                    stage: ProbeStage::Certificate,
                    took: None,
                    outcome: ProbeOutcome::Done(Finding::Certificate(found)),
                });
                return;
            }
        };
        self.found(stage.into(), finding);
    }
}

impl ProbeStage {
    /// The stages of a probe of a backend whose TLS starts so, in their order.
    fn order(tls: Option<TlsMode>) -> &'static [Self] {
        match tls {
            None => &[
                Self::Dns,
                Self::Connect,
                Self::Greeting,
                Self::Login,
                Self::Features,
                Self::Passive,
                Self::Data,
                Self::List,
            ],
            Some(TlsMode::Explicit) => Self::ALL,
            Some(TlsMode::Implicit) => &[
                Self::Dns,
                Self::Connect,
                Self::Handshake,
                Self::Certificate,
                Self::Greeting,
                Self::Protection,
                Self::Login,
                Self::Features,
                Self::Passive,
                Self::Data,
                Self::DataHandshake,
                Self::List,
            ],
        }
    }
}
