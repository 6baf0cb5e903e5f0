//! The table of backends.

use maud::{Markup, html};

use super::table::Column::{Number, Text};
use super::table::Table;
use super::{Page, State, units};
use crate::view::{BackendView, DrainedBy};

pub(super) fn section(page: &Page<'_>) -> Markup {
    Table {
        name: "Backends",
        note: &units::count(page.process.backends.len()),
        columns: [
            Text("Backend"),
            Text("Site"),
            Text("State"),
            Number("Sessions"),
            Text("Last check"),
            Text("Certificate"),
        ],
        rows: page
            .process
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
    [
        name,
        site,
        state(page, backend),
        sessions(backend),
        check(page, backend),
        certificate(page, backend),
    ]
}

/// The sessions, with the limit. Where other sites have sessions at the backend, its limit is no limit of this site's.
fn sessions(backend: &BackendView) -> Markup {
    let own = units::count(backend.sessions);
    match backend.max_sessions {
        None => html! { (own) },
        Some(max) if backend.all_sessions == backend.sessions => html! {
            (units::of(backend.sessions, max))
        },
        Some(max) => html! {
            (own)
            span.more { "all sites " (units::of(backend.all_sessions, max)) }
        },
    }
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
            span.more { "for " (units::age(page.process.now.since(since))) }
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
        @if check.login_refused { span.more { "its password was refused" } }
        span.more { (units::ago(page.process.now, check.at)) }
    }
}

fn certificate(page: &Page<'_>, backend: &BackendView) -> Markup {
    match backend.certificate_days_left {
        None => html! { span.none { "–" } },
        Some(days @ ..0) => State::Bad.shown(&units::expires(days)),
        Some(days) if backend.certificate_is_due(page.process.now) => {
            State::Warning.shown(&units::days_left(days))
        }
        Some(days) => html! { (units::days_left(days)) },
    }
}
