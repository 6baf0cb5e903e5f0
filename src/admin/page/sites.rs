//! The table of sites.

use maud::{Markup, html};

use super::table::Column::{Number, Text};
use super::table::Table;
use super::{Page, State, units};
use crate::view::SiteView;

/// Number of hosts of a site that are named.
const HOSTS_SHOWN: usize = 3;

pub(super) fn section(page: &Page<'_>) -> Markup {
    Table {
        name: "Sites",
        note: &units::count(page.process.sites.len()),
        columns: [
            Text("Site"),
            Text("State"),
            Number("Sessions"),
            Number("Backends up"),
            Number("Logins"),
            Number("Failed logins"),
            Number("Transfers"),
            Number("Not complete"),
        ],
        rows: page.process.sites.iter().map(row).collect(),
        empty: "There is none.",
    }
    .render()
}

fn row(site: &SiteView) -> [Markup; 8] {
    let name = html! {
        (site.site)
        @if site.default { " " span.tag { "default" } }
        @if !site.hosts.is_empty() { span.more { (units::list(&site.hosts, HOSTS_SHOWN)) } }
    };
    [
        name,
        state(site),
        html! { (units::of(site.sessions, site.max_sessions)) },
        html! { (units::of(site.backends_up, site.backends)) },
        html! { (units::count(site.logins)) },
        html! { (units::count(site.failed_logins)) },
        html! { (units::count(site.complete_transfers)) },
        html! { (units::count(site.incomplete_transfers)) },
    ]
}

fn state(site: &SiteView) -> Markup {
    if let Some(by) = site.maintenance {
        return html! { (State::Idle.shown("maintenance")) span.more { "by " (by) } };
    }
    match site.backends_up {
        0 => State::Bad.shown("no backend"),
        _ if site.is_full() => State::Warning.shown("full"),
        _ => State::Good.shown("serving"),
    }
}
