//! The certificates that clients are shown, the last reloads, and the foot of the page.

use maud::{Markup, html};

use super::attention::is_due;
use super::table::Column::Text;
use super::table::Table;
use super::{Page, State, units};
use crate::view::{CertificateView, ReloadView};

/// So many names of a certificate are shown.
const NAMES_SHOWN: usize = 4;

pub(super) fn certificates(page: &Page<'_>) -> Markup {
    Table {
        name: "Certificates",
        note: &units::count(page.certificates.len()),
        columns: [
            Text("Names"),
            Text("Expires"),
            Text("Issuer"),
            Text("File"),
            Text("Fingerprint"),
        ],
        rows: page
            .certificates
            .iter()
            .map(|one| certificate(page, one))
            .collect(),
        empty: "There is none.",
    }
    .render()
}

fn certificate(page: &Page<'_>, certificate: &CertificateView) -> [Markup; 5] {
    let names = match certificate.names.as_slice() {
        [] => &certificate.subject,
        names => &units::list(names, NAMES_SHOWN),
    };
    let left = certificate.days_left;
    let expires = match left {
        ..0 => State::Bad.shown(&units::expires(left)),
        _ if is_due(page.now, certificate) => State::Warning.shown(&units::days_left(left)),
        _ => html! { (units::days_left(left)) },
    };
    [
        html! { (names) },
        html! { (expires) span.more { (units::moment(certificate.not_after)) } },
        html! { (certificate.issuer) },
        html! { code { (certificate.file) } },
        html! { code.fingerprint { (certificate.fingerprint) } },
    ]
}

pub(super) fn reloads(page: &Page<'_>) -> Markup {
    Table {
        name: "Last reloads",
        note: "",
        columns: [Text("When"), Text("What"), Text("Result")],
        rows: page
            .overview
            .reloads
            .iter()
            .map(|reload| self::reload(page, reload))
            .collect(),
        empty: "None since the start.",
    }
    .render()
}

fn reload(page: &Page<'_>, reload: &ReloadView) -> [Markup; 3] {
    let result = match &reload.refused {
        None => State::Good.shown("in use"),
        Some(reason) => html! {
            @if reload.stands {
                (State::Warning.shown("refused")) span.more { "the former one is in use" }
            } @else {
                (State::Idle.shown("refused")) span.more { "corrected since" }
            }
            pre { (reason) }
        },
    };
    [
        html! { (units::ago(page.now, reload.at)) },
        html! { (reload.subject) },
        result,
    ]
}

pub(super) fn footer(page: &Page<'_>) -> Markup {
    let overview = page.overview;
    html! {
        footer {
            dl {
                (fact("Version", html! { (overview.version) }))
                (fact("Up", html! {
                    (units::seconds(overview.uptime_seconds)) ", since " (units::moment(overview.started))
                }))
                (fact("Configuration", html! { code { (overview.config) } }))
                (fact("Listeners", html! {
                    @for (place, listener) in overview.listeners.iter().enumerate() {
                        @if place > 0 { ", " }
                        (listener.address) " " (listener.tls)
                    }
                }))
                (fact("Passive ports", html! { (units::count(overview.passive_ports)) }))
            }
            nav aria-label="For programs" {
                a href="metrics" { "Metrics" }
                @for list in ["sessions", "transfers", "sites", "backends", "certificates", "guard", "config"] {
                    " " a href={ "api/v1/" (list) } { (list) }
                }
            }
            p {
                "A new page every " (super::REFRESH_SECONDS) " seconds. Logins and transfers are counted since the start."
            }
        }
    }
}

fn fact(name: &str, value: Markup) -> Markup {
    html! { div { dt { (name) } " " dd { (value) } } }
}
