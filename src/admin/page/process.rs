//! The certificates that clients are shown, the last reloads, and the foot of the page.

use maud::{Markup, html};

use super::table::Column::Text;
use super::table::Table;
use super::{Page, State, units};
use crate::tls::DEFAULT_NAME;
use crate::view::{CertificateView, PairView, ReloadView, RevocationListView, is_due};

/// Number of names of a certificate that are shown.
const NAMES_SHOWN: usize = 4;

pub(super) fn certificates(page: &Page<'_>) -> Markup {
    Table {
        name: "Certificates",
        note: &units::count(page.process.certificates.len()),
        columns: [
            Text("Names"),
            Text("Expires"),
            Text("Issuer"),
            Text("Key"),
            Text("File"),
            Text("Fingerprint"),
        ],
        rows: page
            .process
            .certificates
            .iter()
            .map(|one| certificate(page, one))
            .collect(),
        empty: "There is none.",
    }
    .render()
}

fn certificate(page: &Page<'_>, certificate: &CertificateView) -> [Markup; 6] {
    let file = html! {
        code { (certificate.file) }
        @if let Some(reason) = &certificate.refused {
            (State::Warning.shown("refused"))
            pre { (reason) }
        }
    };
    let Some(pair) = &certificate.pair else {
        return [
            html! { "" },
            State::Idle.shown("not served"),
            html! {},
            html! {},
            file,
            html! {},
        ];
    };
    let names = match pair.names.as_slice() {
        [] => &pair.subject,
        names => &units::list(names, NAMES_SHOWN),
    };
    [
        html! { (names) @if certificate.name == DEFAULT_NAME { span.more { "default" } } },
        expires(page, pair),
        html! { (pair.issuer) },
        html! { (pair.key) },
        file,
        html! { code.fingerprint { (pair.fingerprint) } },
    ]
}

fn expires(page: &Page<'_>, pair: &PairView) -> Markup {
    let left = pair.days_left;
    let expires = match left {
        ..0 => State::Bad.shown(&units::expires(left)),
        _ if is_due(page.process.now, pair) => State::Warning.shown(&units::days_left(left)),
        _ => html! { (units::days_left(left)) },
    };
    html! {
        (expires) span.more { (units::at(pair.not_after)) }
        @if let Some(position) = pair.ends_by_issuer {
            span.more { "certificate " (position) " of its chain" }
        }
    }
}

/// The certificates that backends are shown; nothing where none is.
pub(super) fn backend_client_certificates(page: &Page<'_>) -> Markup {
    let own = &page.process.overview.backend_client_certificates;
    if own.is_empty() {
        return html! {};
    }
    Table {
        name: "Shown to backends",
        note: &units::count(own.len()),
        columns: [
            Text("Subject"),
            Text("Expires"),
            Text("Issuer"),
            Text("File"),
        ],
        rows: own
            .iter()
            .map(|one| {
                [
                    html! { (one.pair.subject) },
                    expires(page, &one.pair),
                    html! { (one.pair.issuer) },
                    html! { code { (one.file) } },
                ]
            })
            .collect(),
        empty: "There is none.",
    }
    .render()
}

/// The revocation lists of clients' certificates; nothing where there is none.
pub(super) fn revocation_lists(page: &Page<'_>) -> Markup {
    let lists = &page.process.overview.revocation_lists;
    if lists.is_empty() {
        return html! {};
    }
    let next_update = |list: &RevocationListView| match list.next_update {
        Some(at) if at <= page.process.now => {
            html! { (State::Bad.shown("ended")) span.more { (units::at(at)) } }
        }
        Some(at) => html! {
            "in " (units::age(at.since(page.process.now))) span.more { (units::at(at)) }
        },
        None => html! { "not said" },
    };
    Table {
        name: "Revocation lists",
        note: &units::count(lists.len()),
        columns: [Text("Issuer"), Text("Next update"), Text("File")],
        rows: lists
            .iter()
            .map(|list| {
                [
                    html! { (list.issuer) },
                    next_update(list),
                    html! { code { (list.file) } },
                ]
            })
            .collect(),
        empty: "There is none.",
    }
    .render()
}

/// The orders of the certificate; nothing where none is ordered.
pub(super) fn orders(page: &Page<'_>) -> Markup {
    let Some(orders) = &page.process.overview.acme else {
        return html! {};
    };
    let state = match (orders.activity, orders.failures) {
        (word @ "unusable", _) => State::Bad.shown(word),
        (word @ "ordering_elsewhere", _) => State::Idle.shown(word),
        (word, 0) => State::Good.shown(word),
        (word, _) => State::Warning.shown(word),
    };
    let next = match orders.next_attempt {
        Some(at) => units::at(at),
        None => html! { "none" },
    };
    let last = match (&orders.failed_at, &orders.error) {
        (Some(stage), Some(error)) => html! {
            "failed at " strong { (stage) } span.more { (units::plural(orders.failures as usize, "failure", "failures in a row")) }
            pre { (error) }
        },
        _ => html! { "none has failed" },
    };
    Table {
        name: "Ordered certificate",
        note: "",
        columns: [
            Text("Names"),
            Text("State"),
            Text("Next order"),
            Text("Last order"),
        ],
        rows: vec![[html! { (orders.names) }, state, next, last]],
        empty: "There is none.",
    }
    .render()
}

pub(super) fn reloads(page: &Page<'_>) -> Markup {
    Table {
        name: "Last reloads",
        note: "",
        columns: [Text("When"), Text("What"), Text("Result")],
        rows: page
            .process
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
        html! { (units::ago(page.process.now, reload.at)) },
        html! { (reload.subject) },
        result,
    ]
}

pub(super) fn footer(page: &Page<'_>) -> Markup {
    let overview = page.process.overview;
    html! {
        footer {
            dl {
                (fact("Version", html! { (overview.version) }))
                (fact("Up", html! {
                    (units::seconds(overview.uptime_seconds)) ", since " (units::at(overview.started))
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
                @for list in ["attention", "sessions", "transfers", "sites", "backends", "certificates", "guard", "config"] {
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
