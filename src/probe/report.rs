//! The findings of a probe of a backend, in words: every format is written from them.

use std::fmt;
use std::time::{Duration, SystemTime};

use serde_json::{Map, Value, json};

use super::Health;
use crate::backend::ReplyError;
use crate::backend::check::CheckError;
use crate::backend::check::probe::{
    AgreedTls, AskedPort, DataPeer, Finding, FoundCertificate, ProbeOutcome, ProbeRecord,
    ProbedStage, Skipped, Target, Trust,
};
use crate::base::text::escape;
use crate::config::{ProxyVersion, TlsMode};
use crate::ftp::reply::Reply;
use crate::ftp::server::{BackendProtection, PortMethod};
use crate::outcome::ProbeStage;
use crate::tls::{Date, Fingerprint, ShownCertificate, Validity, days_left, renewal_margin};

/// The name of a backend.
#[derive(Debug, Clone)]
pub struct Name {
    /// The site's name.
    pub site: String,
    /// The backend's address.
    pub backend: String,
    /// The entry as configured: the address, or the name that name servers have resolved to it.
    pub entry: String,
}

const DAY: u64 = 86_400;

/// The report on one backend.
#[derive(Debug)]
pub struct Report {
    /// The backend's name.
    pub name: Name,
    /// When TLS starts, if it does.
    pub tls: Option<TlsMode>,
    /// The stages, in their order.
    pub stages: Vec<StageReport>,
    /// How long the stages took.
    pub took: Duration,
    /// The end of the backend's certificate, if it has shown one.
    pub certificate: Option<CertificateEnd>,
}

/// When a certificate ends, seen from the moment of the probe.
#[derive(Debug, Clone, Copy)]
pub struct CertificateEnd {
    /// The number of days left.
    pub days_left: i64,
    /// With how many days left it should have been renewed; `None` if its life isn't known.
    pub margin: Option<u64>,
    /// Whether the certificate should have been renewed.
    pub is_due: bool,
}

/// The report on one stage.
#[derive(Debug)]
pub struct StageReport {
    /// The stage.
    pub stage: ProbeStage,
    /// How long the stage took, if it took time of its own.
    pub took: Option<Duration>,
    /// The outcome.
    pub outcome: StageOutcome,
    /// The finding, or the error, or why the stage was skipped.
    pub detail: String,
    /// Further lines.
    pub notes: Vec<String>,
    /// The findings for programs.
    pub facts: Map<String, Value>,
}

/// The outcome of a stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StageOutcome {
    /// The stage works.
    Ok,
    /// The stage failed.
    Failed {
        /// Advice what to do about it.
        remedy: String,
        /// Whether the stage is a login that the backend has refused.
        login_refused: bool,
    },
    /// The stage was not made.
    Skipped(Skipped),
}

impl StageOutcome {
    /// The outcome's text.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Failed { .. } => "failed",
            Self::Skipped(_) => "skipped",
        }
    }
}

/// A finding in words.
#[derive(Default)]
struct Words {
    detail: String,
    notes: Vec<String>,
    facts: Map<String, Value>,
}

impl Name {
    /// The name of this target.
    pub fn of(target: &Target) -> Self {
        Self {
            site: target.site.name.clone(),
            backend: target.label(),
            entry: target.entry.clone(),
        }
    }
}

impl fmt::Display for Name {
    /// Writes the name for people.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "site {}, backend {}", self.site, self.backend)?;
        if self.entry != self.backend {
            write!(f, " ({})", self.entry)?;
        }
        Ok(())
    }
}

impl Report {
    /// The report on a probe that ended `now`.
    pub fn new(name: Name, record: &ProbeRecord, now: SystemTime) -> Self {
        let validity = record.stages.iter().find_map(|stage| match &stage.outcome {
            ProbeOutcome::Done(Finding::Certificate(found)) => Some(found.own.as_ref()?.validity()),
            ProbeOutcome::Failed { error, .. } => error.expired().map(Validity::expired),
            ProbeOutcome::Done(_) | ProbeOutcome::Skipped(_) => None,
        });
        let stages = record.stages.iter();
        Self {
            name,
            tls: record.tls,
            stages: stages.map(|stage| StageReport::of(stage, now)).collect(),
            took: record.took,
            certificate: validity.map(|validity| CertificateEnd::of(validity, now)),
        }
    }

    /// The stage that failed.
    pub fn failed(&self) -> Option<&StageReport> {
        let mut stages = self.stages.iter();
        stages.find(|stage| matches!(stage.outcome, StageOutcome::Failed { .. }))
    }

    /// Whether the backend's certificate expires soon, or has expired.
    pub fn expires_soon(&self) -> bool {
        self.certificate.is_some_and(|end| end.is_due)
    }

    /// How many days its certificate is still valid, if it has shown one.
    pub fn days_left(&self) -> Option<i64> {
        self.certificate.map(|end| end.days_left)
    }

    /// The backend's health.
    pub fn health(&self) -> Health {
        match self.failed().map(|stage| &stage.outcome) {
            Some(StageOutcome::Failed {
                login_refused: true,
                ..
            }) => Health::LoginRefused,
            Some(_) => Health::Fails,
            None if self.stages.iter().any(StageReport::is_for_a_refused_login) => {
                Health::LoginRefused
            }
            None if self.expires_soon() => Health::WorksForNow,
            None => Health::Works,
        }
    }
}

impl CertificateEnd {
    fn of(validity: Validity, now: SystemTime) -> Self {
        let Validity {
            not_before,
            not_after,
        } = validity;
        let life = not_before.and_then(|start| not_after.duration_since(start).ok());
        Self {
            days_left: days_left(not_after, now),
            margin: life.map(|life| renewal_margin(life).as_secs().div_ceil(DAY)),
            is_due: validity.renewal_is_due(now),
        }
    }
}

impl StageReport {
    fn is_for_a_refused_login(&self) -> bool {
        self.outcome == StageOutcome::Skipped(Skipped::PasswordRefused)
    }

    fn of(made: &ProbedStage, now: SystemTime) -> Self {
        let (outcome, words) = match &made.outcome {
            ProbeOutcome::Done(finding) => (StageOutcome::Ok, Words::of(finding, now)),
            ProbeOutcome::Failed { error, remedy } => {
                let outcome = StageOutcome::Failed {
                    remedy: remedy.clone(),
                    login_refused: matches!(error, CheckError::Login { .. }),
                };
                (outcome, Words::plain(error.to_string()))
            }
            ProbeOutcome::Skipped(why) => (
                StageOutcome::Skipped(*why),
                Words::plain(reason(*why).to_owned()),
            ),
        };
        Self {
            stage: made.stage,
            took: made.took,
            outcome,
            detail: words.detail,
            notes: words.notes,
            facts: words.facts,
        }
    }
}

/// Why a stage was skipped.
pub fn reason(skipped: Skipped) -> &'static str {
    match skipped {
        Skipped::NotAsked => "not asked for",
        Skipped::Failure => "another stage failed",
        Skipped::WantsLogin => "the server wants a login first",
        Skipped::PasswordRefused => {
            "another backend of the site has refused the password, and a second refusal might lock the account"
        }
    }
}

impl Words {
    fn plain(detail: String) -> Self {
        Self {
            detail,
            ..Self::default()
        }
    }

    fn fact(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.facts.insert(key.to_owned(), value.into());
        self
    }

    fn note(mut self, note: impl Into<String>) -> Self {
        self.notes.push(note.into());
        self
    }

    fn of(finding: &Finding, now: SystemTime) -> Self {
        match finding {
            Finding::Addresses(addresses) => {
                let ips: Vec<String> = addresses.iter().map(|at| at.ip().to_string()).collect();
                Self::plain(ips.join(", ")).fact("addresses", ips)
            }
            Finding::Connected { to, header } => {
                let header = header.map(|version| match version {
                    ProxyVersion::V1 => 1,
                    ProxyVersion::V2 => 2,
                });
                let detail = match header {
                    None => to.to_string(),
                    Some(version) => format!("{to}, after a PROXY header of version {version}"),
                };
                Self::plain(detail)
                    .fact("address", to.to_string())
                    .fact("proxy_header", header)
            }
            Finding::Reply(reply) => Self::plain(last_line(reply)).fact("code", reply.number()),
            Finding::Tls(tls) => Self::plain(tls_words(*tls)).tls_facts(*tls),
            Finding::Certificate(found) => Self::of_certificate(found, now),
            Finding::Protection(BackendProtection::Settled) => {
                Self::plain("PBSZ 0, PROT P".to_owned()).fact("after_login", false)
            }
            Finding::Protection(BackendProtection::AfterLogin) => Self::plain(
                "PBSZ 0, PROT P, which the server takes only after the login".to_owned(),
            )
            .fact("after_login", true),
            Finding::Login(user) => {
                let user = escape(user.as_bytes());
                Self::plain(format!("as {user}")).fact("user", user)
            }
            Finding::Features(None) => {
                Self::plain("the server has no FEAT".to_owned()).fact("features", Value::Null)
            }
            Finding::Features(Some(features)) => {
                let detail = match features[..] {
                    [] => "none".to_owned(),
                    _ => features.join(", "),
                };
                Self::plain(detail).fact("features", features.clone())
            }
            Finding::Ports(asked) => Self::of_ports(asked),
            Finding::Data(DataPeer::To(to)) => {
                Self::plain(format!("to {to}")).fact("address", to.to_string())
            }
            Finding::Data(DataPeer::From) => {
                Self::plain("the server connects once it has LIST".to_owned())
                    .fact("address", Value::Null)
            }
            Finding::DataTls { tls, resumed } => {
                let how = match resumed {
                    true => "resumed the session of the control connection",
                    false => "a full handshake",
                };
                let words = Self::plain(format!("{}, {how}", tls_words(*tls)))
                    .tls_facts(*tls)
                    .fact("resumed", *resumed);
                match resumed {
                    true => words,
                    false => words.note(
                        "not resumed, so each transfer takes a full handshake; servers that demand it would refuse this",
                    ),
                }
            }
            Finding::Listing { bytes, reply } => {
                let size = format!("{bytes} bytes");
                let detail = match reply {
                    Some(reply) => format!("{size}; {}", last_line(reply)),
                    None => format!("{size} and more, of which the rest was not read"),
                };
                Self::plain(detail)
                    .fact("bytes", *bytes)
                    .fact("whole", reply.is_some())
            }
        }
    }

    fn tls_facts(self, tls: AgreedTls) -> Self {
        self.fact("tls_version", tls.version.as_str())
            .fact("cipher", tls.cipher)
    }

    fn of_certificate(found: &FoundCertificate, now: SystemTime) -> Self {
        let trust = match found.trust {
            Trust::Verified => "verified",
            Trust::Pinned => "pinned",
            Trust::Unverified => "unverified",
        };
        let Some(own) = &found.own else {
            return Self::plain("it can't be read".to_owned()).fact("trust", trust);
        };
        let CertificateEnd {
            days_left: days,
            is_due,
            ..
        } = CertificateEnd::of(own.validity(), now);
        let validity = match days {
            ..0 => format!("expired on {}", Date(own.not_after)),
            0 => "less than a day left".to_owned(),
            1 => "1 day left".to_owned(),
            2.. => format!("{days} days left"),
        };
        let mut words = Self::plain(format!(
            "{}, issued by {}, {validity}",
            own.subject, own.issuer
        ));
        let chain: Vec<Value> = found.issuers.iter().map(chain_fact).collect();
        for issuer in &found.issuers {
            words.notes.push(format!(
                "it comes with {}, issued by {}",
                issuer.subject, issuer.issuer
            ));
        }
        words = match found.trust {
            Trust::Verified => words,
            Trust::Pinned => words.note("accepted by its fingerprint alone, as `verify` says"),
            Trust::Unverified => words.note(format!(
                "not verified (`verify: none`); it could be pinned by its fingerprint, {}",
                Fingerprint(&own.fingerprint)
            )),
        };
        if is_due {
            words = words.note(match days {
                ..0 => "renew it in the server",
                _ => "it expires soon: renew it in the server",
            });
        }
        words
            .fact("subject", own.subject.clone())
            .fact("issuer", own.issuer.clone())
            .fact("not_after", Date(own.not_after).to_string())
            .fact("days_left", days)
            .fact("fingerprint", Fingerprint(&own.fingerprint).to_string())
            .fact("trust", trust)
            .fact("chain", chain)
    }

    fn of_ports(asked: &[AskedPort]) -> Self {
        let mut words = Self::default();
        let mut parts = Vec::new();
        let mut facts = Vec::new();
        for port in asked {
            let method = match port.method {
                PortMethod::Epsv => "EPSV",
                PortMethod::Pasv => "PASV",
                PortMethod::Active => "PORT",
            };
            let mut fact = json!({"method": method, "ok": port.answer.is_ok()});
            match &port.answer {
                Ok(answer) => {
                    parts.push(match answer.to {
                        Some(to) => format!("{method}: port {}", to.port()),
                        None => format!("{method} accepted"),
                    });
                    fact["port"] = answer.to.map(|to| to.port()).into();
                    if let Some(elsewhere) = answer.announced_elsewhere {
                        fact["announced"] = elsewhere.to_string().into();
                        words.notes.push(format!(
                            "227 names {}, which is not followed: data goes where the control connection goes",
                            elsewhere.ip()
                        ));
                    }
                }
                Err(error) => {
                    parts.push(format!("{method} refused"));
                    let cause = match error {
                        CheckError::NoPort(ReplyError::Rejected(reply)) => last_line(reply),
                        other => other.to_string(),
                    };
                    fact["error"] = cause.clone().into();
                    words
                        .notes
                        .push(format!("{method}: {cause}; sessions ask by another method"));
                }
            }
            facts.push(fact);
        }
        words.detail = parts.join(", ");
        words.fact("methods", facts)
    }
}

fn tls_words(tls: AgreedTls) -> String {
    format!("TLS {} {}", tls.version.as_str(), tls.cipher)
}

fn chain_fact(certificate: &ShownCertificate) -> Value {
    json!({
        "subject": certificate.subject,
        "issuer": certificate.issuer,
        "not_after": Date(certificate.not_after).to_string(),
    })
}

/// The line of a reply that ends it, for people.
fn last_line(reply: &Reply) -> String {
    escape(reply.lines().last().unwrap_or_default().trim_ascii())
}
