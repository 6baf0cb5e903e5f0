//! The description of each problem that needs attention, in one sentence.

use super::words::{Words, code, strong, words};
use super::{Attention, ProcessView};
use crate::view::{BackendView, units};

/// A kind of files that are read again, as metrics call it, for people.
fn noun(subject: &str) -> &str {
    match subject {
        "backend_certificate" => "backend certificate",
        "client_certificates" => "client authority or revocation list",
        other => other,
    }
}

impl Attention<'_> {
    /// The description of the problem.
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
                format!(
                    " becomes valid only in {}",
                    units::age(at.since(process.now))
                ),
            ],
            Self::BackendClientCertificate(one) => words![
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
                words!["No certificate can be ordered"]
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
                    " can't be reopened for {}",
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
                " was refused: they skip the login",
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
            Self::LameDuck => {
                words!["Portcullis is shutting down, and still accepts clients (lame duck)"]
            }
            Self::Draining => {
                let sessions = process.overview.sessions;
                let left = units::plural(sessions, "session is", "sessions are");
                words![format!("Portcullis is draining: {left} left")]
            }
        }
    }

    /// The words of whatever refused or failed, as they are.
    pub(super) fn reason<'p>(&'p self, process: &ProcessView<'p>) -> Option<&'p str> {
        match self {
            // However often it has failed: clients are affected by now.
            Self::NoCertificate => last_order(process),
            Self::CertificateExpired(one, _) | Self::CertificateExpires(one, _) if one.ordered => {
                last_order(process)
            }
            Self::OrdersFail(orders) => orders.error.as_deref(),
            Self::Refused(refused) => Some(&refused.reason),
            Self::MisplacedLog(log) => Some(&log.error),
            Self::CertificateRefused(_, reason) => Some(*reason),
            _ => None,
        }
    }
}

/// Why the last order failed, or why none can begin.
fn last_order<'p>(process: &ProcessView<'p>) -> Option<&'p str> {
    process.overview.acme.as_ref()?.error.as_deref()
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
