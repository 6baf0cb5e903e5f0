//! What is said of each thing that needs attention, and what to do about it.

use maud::{Markup, html};

use super::{Attention, Severity};
use crate::admin::page::{Page, State, units};
use crate::view::BackendView;

impl Severity {
    pub(in crate::admin::page) fn shown(self) -> Markup {
        match self {
            Self::Failing => State::Bad.shown("failing"),
            Self::Warning => State::Warning.shown("warning"),
            Self::Note => State::Idle.shown("note"),
        }
    }
}

impl Attention<'_> {
    /// What it is.
    pub(in crate::admin::page) fn what(&self, page: &Page<'_>) -> Markup {
        match self {
            Self::CertificateExpired(certificate) | Self::CertificateExpires(certificate) => {
                html! {
                    "The certificate for " strong { (units::list(&certificate.names, 2)) } " "
                    (units::expires(certificate.days_left))
                }
            }
            Self::Refused(reload) => html! {
                "The new " strong { (reload.subject) } " file was refused "
                (units::ago(page.now, reload.at))
            },
            Self::NoBackend(site) if site.backends == 0 => html! {
                "Site " strong { (site.site) } " has no backend: its name servers tell of none"
            },
            Self::NoBackend(site) if site.backends == 1 => html! {
                "The one backend of site " strong { (site.site) } " takes no logins"
            },
            Self::NoBackend(site) => html! {
                "None of the " (units::count(site.backends)) " backends of site " strong { (site.site) }
                " takes logins"
            },
            Self::BackendOut(backend) => html! {
                "Backend " (named(backend)) " is " (backend.state)
                @if let Some(since) = backend.out_since { " for " (units::age(page.now.since(since))) }
                @if let Some(stage) = backend.check.as_ref().and_then(|check| check.failed_at) {
                    ": its check fails at " strong { (stage) }
                }
            },
            Self::BackendCertificate(backend) => html! {
                "The certificate of backend " (named(backend)) " "
                (units::expires(backend.certificate_days_left.unwrap_or_default()))
            },
            Self::Maintenance(site) => html! {
                "Site " strong { (site.site) } " is out of service for maintenance"
            },
            Self::Drained(backend) => html! {
                "Backend " (named(backend)) " was drained by an operator: "
                (units::plural(backend.sessions, "session is", "sessions are")) " left"
            },
            Self::SiteNearlyFull(site) => html! {
                "Site " strong { (site.site) } " is nearly full: "
                (units::of(site.sessions, site.max_sessions)) " sessions"
            },
            Self::ProcessNearlyFull => html! {
                "Portcullis is nearly full: "
                (units::of(page.overview.sessions, page.overview.max_sessions)) " sessions"
            },
            Self::Starting => html! { "Portcullis is starting" },
            Self::Draining => html! {
                "Portcullis is draining: " (units::plural(page.overview.sessions, "session is", "sessions are")) " left"
            },
        }
    }

    /// What to do about it.
    pub(in crate::admin::page) fn remedy(&self, page: &Page<'_>) -> Markup {
        match self {
            Self::CertificateExpired(certificate) => html! {
                "Clients refuse it. Put a new one into " code { (certificate.file) }
                ": it is in use within seconds, without a restart."
            },
            Self::CertificateExpires(certificate) => html! {
                "Renew it, and put the new one into " code { (certificate.file) }
                ": it is in use within seconds, without a restart."
            },
            Self::Refused(reload) => match reload.subject {
                "configuration" => html! {
                    "The former one is in use. Correct it, and reload. To try it first: "
                    code { "portcullis check --config " (page.overview.config) }
                },
                _ => html! {
                    "The former one is in use. Correct the file: it is read again when it changes."
                },
            },
            Self::NoBackend(site) => html! {
                "Until one answers, logins fail. To see what is wrong: "
                code { "portcullis probe --config " (page.overview.config) " --site " (site.site) }
            },
            Self::BackendOut(backend) => html! {
                "Logins go to the others of the site while one is up. To see what is wrong: "
                code {
                    "portcullis probe --config " (page.overview.config)
                    " --site " (backend.site) " --backend " (backend.backend)
                }
            },
            Self::BackendCertificate(_) => html! {
                "Renew it on the server. Where it is verified, logins fail once it has expired."
            },
            Self::Maintenance(site) if site.maintenance == Some("operator") => html! {
                "An operator wants it so. Back in service: "
                code { "portcullis maintenance " (site.site) " off" }
            },
            Self::Maintenance(_) => html! {
                "The configuration says so. Back in service: take " code { "maintenance" }
                " out of it, and reload."
            },
            Self::Drained(backend) => html! {
                "Back in service: "
                code { "portcullis ready " (backend.site) " " (backend.backend) }
            },
            Self::SiteNearlyFull(_) => html! {
                "Further logins are refused with 421. Raise " code { "limits.sessions_per_site" }
                ", or see who has so many."
            },
            Self::ProcessNearlyFull => html! {
                "Further clients are refused with 421. Raise " code { "limits.sessions" }
                ", or see who has so many."
            },
            Self::Starting => html! { "It accepts clients as soon as every listener is open." },
            Self::Draining => html! {
                "Running transfers finish, new clients are refused, and then the process ends."
            },
        }
    }

    /// The words of whatever refused or failed, as they are.
    pub(in crate::admin::page) fn reason(&self) -> Option<&str> {
        match self {
            Self::Refused(reload) => reload.refused.as_deref(),
            _ => None,
        }
    }
}

fn named(backend: &BackendView) -> Markup {
    html! {
        strong { (backend.backend) } " of site " strong { (backend.site) }
    }
}
