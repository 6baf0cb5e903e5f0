//! The table of backends.

use maud::{Markup, html};

use super::attention::DAYS_TO_RENEW;
use super::table::Column::{Number, Text};
use super::table::Table;
use super::{Page, State, units};
use crate::view::{BackendView, DrainedBy};

pub(super) fn section(page: &Page<'_>) -> Markup {
    Table {
        name: "Backends",
        note: &units::count(page.backends.len()),
        columns: [
            Text("Backend"),
            Text("Site"),
            Text("State"),
            Number("Sessions"),
            Text("Last check"),
            Text("Certificate"),
        ],
        rows: page
            .backends
            .iter()
            .map(|backend| row(page, backend))
            .collect(),
        empty: "There is none.",
    }
    .render()
}

fn row(page: &Page<'_>, backend: &BackendView) -> [Markup; 6] {
    let name = html! {
        (backend.backend)
        @if backend.backup { " " span.tag { "backup" } }
        @if backend.address != backend.backend { span.more { (backend.address) } }
    };
    let site = html! {
        (backend.site)
        @if let Some(group) = &backend.group { span.more { "group " (group) } }
    };
    let sessions = match backend.max_sessions {
        Some(max) => units::of(backend.sessions, max),
        None => units::count(backend.sessions),
    };
    [
        name,
        site,
        state(page, backend),
        html! { (sessions) },
        check(page, backend),
        certificate(backend),
    ]
}

fn state(page: &Page<'_>, backend: &BackendView) -> Markup {
    let state = match backend.state {
        "up" => State::Good,
        "full" => State::Warning,
        "drain" => State::Idle,
        _ => State::Bad,
    };
    let drained_by = backend.drained_by.map(|by| match by {
        DrainedBy::Configuration => "by configuration",
        DrainedBy::Operator => "by operator",
    });
    html! {
        (state.shown(backend.state))
        @if let Some(since) = backend.out_since {
            span.more { "for " (units::age(page.now.since(since))) }
        }
        @if let Some(by) = drained_by { span.more { (by) } }
    }
}

fn check(page: &Page<'_>, backend: &BackendView) -> Markup {
    let Some(check) = &backend.check else {
        return html! { span.none { "not checked" } };
    };
    html! {
        @match check.failed_at {
            Some(stage) => { "failed at " strong { (stage) } },
            None => { "passed in " (units::short(check.seconds)) },
        }
        span.more { (units::ago(page.now, check.at)) }
    }
}

fn certificate(backend: &BackendView) -> Markup {
    match backend.certificate_days_left {
        None => html! { span.none { "–" } },
        Some(days @ ..0) => State::Bad.shown(&units::expires(days)),
        Some(days @ 0..DAYS_TO_RENEW) => State::Warning.shown(&units::days_left(days)),
        Some(days) => html! { (units::days_left(days)) },
    }
}
