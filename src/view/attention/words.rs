//! What is said of each thing that needs attention, and what to do about it.

use std::borrow::Cow;
use std::fmt;

use serde::{Serialize, Serializer};

use super::{Attention, ProcessView};
use crate::outcome::CheckStage;
use crate::view::{BackendView, CheckLoginView, DrainedBy, OrdersView, units};

/// A sentence or two, with what is a name in it, and what is typed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Words(Vec<Word>);

/// A part of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Word {
    /// As it is.
    Plain(String),
    /// A name, or what matters most.
    Strong(String),
    /// A file, a key of the configuration, or a command.
    Code(String),
}

impl Words {
    /// Its parts, one behind the other without anything between them.
    pub fn parts(&self) -> &[Word] {
        &self.0
    }
}

/// As plain text: what is typed stands between backquotes, and blanks are what a keyboard has.
impl fmt::Display for Words {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|word| match word {
            Word::Plain(text) | Word::Strong(text) => f.write_str(&text.replace(units::THIN, " ")),
            Word::Code(text) => write!(f, "`{text}`"),
        })
    }
}

impl Serialize for Words {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl From<&str> for Word {
    fn from(text: &str) -> Self {
        Self::Plain(text.to_owned())
    }
}

impl From<String> for Word {
    fn from(text: String) -> Self {
        Self::Plain(text)
    }
}

/// When it begins, in front of a command that tells more.
fn next_order(orders: Option<&OrdersView>) -> String {
    let begins = match orders.and_then(|orders| orders.next_attempt) {
        Some(at) => format!("The next order begins {}. ", units::moment(at)),
        None => "No order can begin; the log says why. ".to_owned(),
    };
    format!("{begins}To see what this machine can tell: ")
}

fn strong(text: impl Into<String>) -> Word {
    Word::Strong(text.into())
}

fn code(text: impl Into<String>) -> Word {
    Word::Code(text.into())
}

/// A kind of files that are read again, as metrics call it, for people.
fn noun(subject: &str) -> &str {
    match subject {
        "backend_certificate" => "backend certificate",
        "client_certificates" => "client authority or revocation list",
        other => other,
    }
}

macro_rules! words {
    ($($word:expr),* $(,)?) => { Words(vec![$(Word::from($word)),*]) };
}

impl Attention<'_> {
    /// What it is.
    pub(super) fn what(&self, process: &ProcessView<'_>) -> Words {
        match self {
            Self::CertificateExpired(_, pair) | Self::CertificateExpires(_, pair) => {
                let what = match pair.ends_by_issuer {
                    Some(position) => format!("Certificate {position} in the chain of that for "),
                    None => "The certificate for ".to_owned(),
                };
                words![
                    what,
                    strong(units::list(&pair.names, 2)),
                    " ",
                    units::expires(pair.days_left),
                ]
            }
            Self::ChainNotYetValid(_, pair, (position, at)) => words![
                format!("Certificate {position} in the chain of that for "),
                strong(units::list(&pair.names, 2)),
                format!(" is valid in {} only", units::age(at.since(process.now))),
            ],
            Self::OwnCertificate(one) => words![
                "The certificate ",
                code(&one.file),
                " that backends are shown ",
                units::expires(one.pair.days_left),
            ],
            Self::RevocationListEnded(list, at) => words![
                "The revocation list of ",
                strong(&list.issuer),
                format!(" ended {} ago", units::age(process.now.since(*at))),
            ],
            Self::RevocationListEnds(list, at) => words![
                "The revocation list of ",
                strong(&list.issuer),
                format!(" ends in {}", units::age(at.since(process.now))),
            ],
            Self::OrdersOverdue(at) => {
                let late = units::age(process.now.since(*at));
                words![format!(
                    "The order of the certificate is overdue for {late}"
                )]
            }
            Self::CertificateRefused(certificate, _) if certificate.directory => words![
                "The directory of certificates ",
                code(&certificate.file),
                " can't be used",
            ],
            Self::CertificateRefused(certificate, _) => words![
                "The new certificate ",
                code(&certificate.file),
                " was refused",
            ],
            Self::OrdersFail(orders) if orders.activity == "unusable" => {
                words!["No certificate can be ordered: the directory for it can't be used"]
            }
            Self::OrdersFail(orders) => {
                let failed = format!(
                    "The order of the certificate has failed {} times in a row",
                    units::count(orders.failures)
                );
                match &orders.failed_at {
                    Some(stage) => words![failed, ", at ", strong(stage)],
                    None => words![failed],
                }
            }
            Self::Refused(refused) => {
                let age = units::age(process.now.since(refused.at));
                match (refused.subject, &refused.name) {
                    ("passive_address", Some(name)) => words![
                        "The address of ",
                        strong(name),
                        format!(" could not be looked up again {age} ago"),
                    ],
                    (subject, Some(name)) => words![
                        "The new ",
                        strong(noun(subject)),
                        " file ",
                        code(name),
                        format!(" was refused {age} ago"),
                    ],
                    (subject, None) => words![
                        "The new ",
                        strong(noun(subject)),
                        format!(" file was refused {age} ago"),
                    ],
                }
            }
            Self::Stalled(stalled) => words![
                "New ",
                strong(stalled.subject),
                format!(
                    " files have not been read for {}",
                    units::age(process.now.since(stalled.at))
                ),
            ],
            Self::MisplacedLog(log) => words![
                "Transfer log ",
                code(&log.file),
                format!(
                    " can't be opened anew for {}",
                    units::age(process.now.since(log.since))
                ),
            ],
            Self::NoBackend(site) if site.backends == 0 => words![
                "Site ",
                strong(&site.site),
                " has no backend: its name servers tell of none",
            ],
            Self::NoBackend(site) if site.backends == 1 => {
                words!["The one backend of site ", strong(&site.site), " is not up",]
            }
            Self::NoBackend(site) => words![
                format!(
                    "None of the {} backends of site ",
                    units::count(site.backends)
                ),
                strong(&site.site),
                " is up",
            ],
            Self::BackendsFull(site) => {
                let (backends, verb) = match site.backends_up {
                    1 if site.backends == 1 => ("The one backend of site ", "is"),
                    1 => ("The one backend that is up at site ", "is"),
                    _ if site.backends_up == site.backends => ("All backends of site ", "are"),
                    _ => ("All backends that are up at site ", "are"),
                };
                let allowed = units::plural(
                    room_of_full(process.backends, &site.site),
                    "session",
                    "sessions",
                );
                words![
                    backends,
                    strong(&site.site),
                    format!(" {verb} full, with the {allowed} of "),
                    code("max_sessions"),
                ]
            }
            Self::BackendOut(backend) => {
                let mut words = named("Backend", backend);
                words.0.push(format!(" is {}", backend.state).into());
                if let Some(since) = backend.out_since {
                    let age = units::age(process.now.since(since));
                    words.0.push(format!(" for {age}").into());
                }
                if let Some(stage) = backend.check.as_ref().and_then(|check| check.failed_at) {
                    words
                        .0
                        .extend([": its check fails at ".into(), strong(stage)]);
                }
                words
            }
            Self::CheckLoginRefused(backend, _) => words![
                "The password of the checks of site ",
                strong(&backend.site),
                " was refused: they end before USER",
            ],
            Self::BackendCertificate(backend) => {
                let days = backend.certificate_days_left.unwrap_or_default();
                let mut words = named("The certificate of backend", backend);
                words.0.push(format!(" {}", units::expires(days)).into());
                words
            }
            Self::Maintenance(site) => words![
                "Site ",
                strong(&site.site),
                " is out of service for maintenance",
            ],
            Self::Drained(backend) => {
                let left = units::plural(backend.sessions, "session is", "sessions are");
                let mut words = named("Backend", backend);
                words
                    .0
                    .push(format!(" was drained by an operator: {left} left").into());
                words
            }
            Self::SiteNearlyFull(site) => words![
                "Site ",
                strong(&site.site),
                format!(
                    " is nearly full: {} sessions",
                    units::of(site.sessions, site.max_sessions)
                ),
            ],
            Self::ProcessNearlyFull => {
                let overview = process.overview;
                let sessions = units::of(overview.sessions, overview.max_sessions);
                words![format!("Portcullis is nearly full: {sessions} sessions")]
            }
            Self::NoCertificate => words!["The central certificate is not there yet"],
            Self::Starting => words!["Portcullis is starting"],
            Self::LameDuck => words!["Portcullis is about to end, and serves on"],
            Self::Draining => {
                let sessions = process.overview.sessions;
                let left = units::plural(sessions, "session is", "sessions are");
                words![format!("Portcullis is draining: {left} left")]
            }
        }
    }

    /// What to do about it.
    pub(super) fn remedy(&self, process: &ProcessView<'_>) -> Words {
        let config = &process.overview.config;
        match self {
            Self::CertificateExpired(certificate, _) if certificate.ordered => words![
                "Clients that verify it refuse it. Portcullis orders a new one. ",
                next_order(process.overview.acme.as_ref()),
                code(format!("portcullis check --config {config}")),
            ],
            Self::CertificateExpires(certificate, _) if certificate.ordered => words![
                "Portcullis orders a new one. ",
                next_order(process.overview.acme.as_ref()),
                code(format!("portcullis check --config {config}")),
            ],
            Self::CertificateExpired(certificate, _) => words![
                "Clients that verify it refuse it. Put a new one into ",
                code(&certificate.file),
                ": it is in use within seconds, without a restart.",
            ],
            Self::CertificateExpires(certificate, _) => words![
                "Renew it, and put the new one into ",
                code(&certificate.file),
                ": it is in use within seconds, without a restart.",
            ],
            Self::ChainNotYetValid(certificate, ..) => words![
                "Clients that verify it refuse it until then. Get the chain anew from the issuer, put it into ",
                code(&certificate.file),
                ", or check this machine's clock.",
            ],
            Self::OwnCertificate(one) => words![
                "Renew it, and put the new one into ",
                code(&one.file),
                ": it is shown from the next login on, without a restart.",
            ],
            Self::RevocationListEnded(list, _) => words![
                match list.then_refused {
                    true => "Each client certificate of that issuer is refused. ",
                    false => "What has been revoked since is not known. ",
                },
                "Put a new list into ",
                code(&list.file),
                ": it is in use within seconds, without a restart.",
            ],
            Self::RevocationListEnds(list, _) => words![
                match list.then_refused {
                    true => "Then each client certificate of that issuer is refused. ",
                    false => "What is revoked from then on will not be known. ",
                },
                "Put a new list into ",
                code(&list.file),
                ": it is in use within seconds, without a restart.",
            ],
            Self::OrdersOverdue(_) => words![
                "Another instance may hold the lock in ",
                code("tls.acme.state"),
                " without ordering anything. The log says more.",
            ],
            Self::CertificateRefused(certificate, _) if certificate.directory => {
                words!["What was in use of it stays. It is read again as soon as it can be."]
            }
            Self::CertificateRefused(certificate, _) => words![
                match certificate.pair {
                    Some(_) => "The former one is in use.",
                    None => "Clients that name one of its names are shown another one.",
                },
                " Correct the file: it is read again when it changes.",
            ],
            Self::OrdersFail(orders) => words![
                next_order(Some(orders)),
                code(format!("portcullis check --config {config}")),
            ],
            Self::Refused(refused) => match refused.subject {
                "configuration" => words![
                    "The former one is in use. Correct it, and reload. To try it first: ",
                    code(format!("portcullis check --config {config}")),
                ],
                "passive_address" => words![
                    "Clients are told the former one. It is looked up every 30 s: see whether its name server answers.",
                ],
                _ => words![
                    "The former one is in use. Correct the file: it is read again when it changes.",
                ],
            },
            Self::Stalled(_) => words![
                "One of them can't be read to its end, as on a mount that hangs. What is in use stays, and no new one of the kind is loaded until then.",
            ],
            Self::MisplacedLog(_) => words![
                "Its lines go to the file that had the name before; they are lost, and counted, where that was removed. It is tried again each second: let the user that Portcullis runs as write there.",
            ],
            Self::NoBackend(site) => match drained_by(process.backends, &site.site) {
                Some(DrainedBy::Operator) => words![
                    "An operator has drained what could serve. Back in service: ",
                    code(format!("portcullis ready {} BACKEND", site.site)),
                ],
                Some(DrainedBy::Configuration) => words![
                    "The configuration drains what could serve: take ",
                    code("drain"),
                    " or ",
                    code("weight: 0"),
                    " out of it, and reload.",
                ],
                None if site.backends == 0 => words![
                    "Until there is one, logins fail. To see what is wrong: ",
                    code(Probe::of_site(process, &site.site)),
                ],
                None => words![
                    "Logins try those that are out all the same, and probably fail. To see what is wrong: ",
                    code(Probe::of_site(process, &site.site)),
                ],
            },
            Self::BackendsFull(site) => words![
                "Further logins wait as long as the site's ",
                code("queue"),
                ", then they are refused with 421. Raise ",
                code("max_sessions"),
                ", add a backend, or see which clients have so many: ",
                code(format!("portcullis sessions --site {}", site.site)),
            ],
            Self::BackendOut(backend) => words![
                "Logins go to the others of the site while one is up. To see what is wrong: ",
                code(Probe::of_backend(process, backend)),
            ],
            Self::CheckLoginRefused(backend, login) => words![
                "What needs a login is not checked, but for one attempt every 10 minutes. Put the right password into ",
                code(&login.password_file),
                ", and reload. To try it first: ",
                code(
                    Probe {
                        backend: Some(&backend.backend),
                        login: Some(login),
                        ..Probe::of(process, &backend.site)
                    }
                    .to_string(),
                ),
            ],
            Self::BackendCertificate(_) => words![
                "Renew it on the server. Where it is verified, logins fail once it has expired.",
            ],
            Self::Maintenance(site) if site.maintenance == Some("operator") => words![
                "An operator wants it so. Back in service: ",
                code(format!("portcullis maintenance {} off", site.site)),
            ],
            Self::Maintenance(_) => words![
                "The configuration says so. Back in service: take ",
                code("maintenance"),
                " out of it, and reload.",
            ],
            Self::Drained(backend) => words![
                "Back in service: ",
                code(format!(
                    "portcullis ready {} {}",
                    backend.site, backend.backend
                )),
            ],
            Self::SiteNearlyFull(_) => words![
                "Further logins are refused with 421. Raise ",
                code("limits.sessions_per_site"),
                ", or see which clients have so many.",
            ],
            Self::ProcessNearlyFull => words![
                "Further clients are refused with 421. Raise ",
                code("limits.sessions"),
                ", or see which clients have so many.",
            ],
            Self::NoCertificate => words![
                "It is ordered. Until it is there, clients that name no other certificate can't begin TLS.",
            ],
            Self::LameDuck => words![
                "New clients are served for ",
                code("timeouts.lame_duck"),
                ", in which load balancers learn that it is not ready; then it drains.",
            ],
            Self::Starting => words!["It accepts clients as soon as every listener is open."],
            Self::Draining => words![
                "Running transfers finish, new clients are refused, and then the process ends.",
            ],
        }
    }

    /// The words of whatever refused or failed, as they are.
    pub(super) fn reason(&self) -> Option<&str> {
        match self {
            Self::OrdersFail(orders) => orders.error.as_deref(),
            Self::Refused(refused) => Some(&refused.reason),
            Self::MisplacedLog(log) => Some(&log.error),
            Self::CertificateRefused(_, reason) => Some(*reason),
            _ => None,
        }
    }
}

/// What keeps logins from the backends of a site, if all that aren't out are drained; the one that is ended most easily.
fn drained_by(backends: &[BackendView], site: &str) -> Option<DrainedBy> {
    let of_site = backends.iter().filter(|backend| backend.site == site);
    let others = of_site.filter(|backend| !matches!(backend.state, "down" | "ejected"));
    let drained: Option<Vec<DrainedBy>> = others.map(|backend| backend.drained_by).collect();
    let drained = drained?;
    let by_operator = drained.contains(&DrainedBy::Operator);
    by_operator
        .then_some(DrainedBy::Operator)
        .or(drained.first().copied())
}

/// The command that shows what a check of a backend, or of those of a site, fails at.
struct Probe<'a> {
    config: &'a str,
    site: &'a str,
    backend: Option<&'a str>,
    login: Option<&'a CheckLoginView>,
}

impl<'a> Probe<'a> {
    fn of(process: &ProcessView<'a>, site: &'a str) -> Self {
        Self {
            config: &process.overview.config,
            site,
            backend: None,
            login: None,
        }
    }

    fn of_backend(process: &ProcessView<'a>, backend: &'a BackendView) -> String {
        let probe = Self {
            backend: Some(&backend.backend),
            login: login_to_see_fault(backend),
            ..Self::of(process, &backend.site)
        };
        probe.to_string()
    }

    fn of_site(process: &ProcessView<'a>, site: &'a str) -> String {
        let mut backends = process.backends.iter().filter(|it| it.site == site);
        let probe = Self {
            login: backends.find_map(login_to_see_fault),
            ..Self::of(process, site)
        };
        probe.to_string()
    }
}

impl fmt::Display for Probe<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "portcullis probe --config {} --site {}",
            self.config, self.site
        )?;
        if let Some(backend) = self.backend {
            write!(f, " --backend {backend}")?;
        }
        let Some(login) = self.login else {
            return Ok(());
        };
        let (user, file) = (shell_word(&login.user), shell_word(&login.password_file));
        write!(f, " --user {user} --password-file {file}")?;
        match &login.listed {
            Some(path) => write!(f, " --list --path {}", shell_word(path)),
            None => Ok(()),
        }
    }
}

/// The login of the checks, where they fail at or behind it: without one, `probe` ends before that.
fn login_to_see_fault(backend: &BackendView) -> Option<&CheckLoginView> {
    let failed_at = backend.check.as_ref()?.failed_at?;
    let login = backend.check_login.as_ref()?;
    let stages = [CheckStage::Login, CheckStage::Data, CheckStage::List];
    stages
        .iter()
        .any(|stage| stage.as_str() == failed_at)
        .then_some(login)
}

/// As a shell takes it for one word: users may have blanks and `|` in them.
fn shell_word(text: &str) -> Cow<'_, str> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_-./:@%+,=".contains(c);
    match text.chars().all(is_plain) {
        true => text.into(),
        false => format!("'{}'", text.replace('\'', r"'\''")).into(),
    }
}

/// How many sessions the full backends of a site may have together.
fn room_of_full(backends: &[BackendView], site: &str) -> usize {
    let of_site = backends.iter().filter(|backend| backend.site == site);
    let full = of_site.filter(|backend| backend.state == "full");
    full.filter_map(|backend| backend.max_sessions).sum()
}

fn named(what: &str, backend: &BackendView) -> Words {
    words![
        format!("{what} "),
        strong(&backend.backend),
        " of site ",
        strong(&backend.site),
    ]
}
