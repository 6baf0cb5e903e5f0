//! Advice what to do about each problem that needs attention.

use std::borrow::Cow;
use std::fmt;

use super::words::{Words, code, words};
use super::{Attention, ProcessView};
use crate::outcome::CheckStage;
use crate::view::{BackendView, CheckLoginView, DrainedBy, OrdersView, units};

impl Attention<'_> {
    /// Advice what to do about the problem.
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
            Self::ChainNotYetValid(certificate, ..) if certificate.ordered => words![
                "Clients that verify it refuse it until then. The authority has issued it so: check this machine's clock, or ask the \
                 authority."
            ],
            Self::ChainNotYetValid(certificate, ..) => words![
                "Clients that verify it refuse it until then. Get the chain anew from the issuer, put it into ",
                code(&certificate.file),
                ", or check this machine's clock.",
            ],
            Self::BackendClientCertificate(one) => words![
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
                words![
                    "The certificates loaded from it remain in use. It is read again as soon as it can be."
                ]
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
                ". Once the cause is mended, a reload begins an order at once.",
            ],
            Self::Refused(refused) => match refused.subject {
                "configuration" => words![
                    "The former one is in use. Correct it, and reload. To try it first: ",
                    code(format!("portcullis check --config {config}")),
                ],
                "passive_address" => words![
                    "The last address is still announced. It is looked up every 30 s: see whether its name server answers.",
                ],
                _ => words![
                    "The former one is in use. Correct the file: it is read again when it changes.",
                ],
            },
            Self::Stalled(_) => words![
                "One of them can't be read to its end, as on a mount that hangs. What is in use stays, and no new one of the kind is loaded until then.",
            ],
            Self::MisplacedLog(_) => words![
                "Its lines go to the renamed file, or are dropped and counted if it was removed. It is tried again each second: the user that runs Portcullis needs permission to write there.",
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
                "Set by an operator. Back in service: ",
                code(format!("portcullis maintenance {} off", site.site)),
            ],
            Self::Maintenance(_) => words![
                "Set in the configuration. Back in service: take ",
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
                "Until it is there, TLS handshakes fail for clients that name no other certificate. Portcullis orders it. ",
                next_order(process.overview.acme.as_ref()),
                code(format!("portcullis check --config {config}")),
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
}

/// The time of the next order, in front of a command that shows more.
fn next_order(orders: Option<&OrdersView>) -> String {
    let is_begun =
        |orders: &OrdersView| matches!(orders.activity, "ordering" | "ordering_elsewhere");
    let begins = match orders.and_then(|orders| orders.next_attempt) {
        _ if orders.is_some_and(is_begun) => "An order is under way. ".to_owned(),
        Some(at) => format!("The next order begins {}. ", units::moment(at)),
        None => "No order can begin; the log says why. ".to_owned(),
    };
    format!("{begins}To see what this machine can tell: ")
}

/// The reason why the backends of a site get no logins, if all that aren't out are drained; the one that is ended most easily.
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
