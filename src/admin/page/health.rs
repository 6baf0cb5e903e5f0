//! The top of the page: whether all is well, or else what needs attention; and the process in a few numbers.

use maud::{Markup, html};

use super::{Page, State, units};
use crate::view::{AttentionView, Severity, Word, Words};

/// In a few words: the title of the page, and its first heading.
pub(super) fn headline(attention: &[AttentionView]) -> String {
    match attention.len() {
        0 => "All is well".to_owned(),
        1 => "One thing needs attention".to_owned(),
        count => format!("{} things need attention", units::count(count)),
    }
}

pub(super) fn section(attention: &[AttentionView]) -> Markup {
    // The worst comes first.
    let class = match attention.first().map(|worst| worst.severity) {
        None => "good",
        Some(Severity::Failing) => "bad",
        Some(Severity::Warning) => "warning",
        Some(Severity::Note) => "idle",
    };
    html! {
        section.health.(class) {
            h1 { (headline(attention)) }
            @if attention.is_empty() {
                p {
                    "No certificate expires soon, no backend is out, no reload stands refused, and no limit is near."
                }
            } @else {
                ul {
                    @for one in attention {
                        li {
                            p.what { (severity(one.severity)) " " (words(&one.what)) }
                            @if let Some(reason) = &one.reason { pre { (reason) } }
                            p.remedy { (words(&one.remedy)) }
                        }
                    }
                }
            }
        }
    }
}

fn severity(severity: Severity) -> Markup {
    match severity {
        Severity::Failing => State::Bad.shown("failing"),
        Severity::Warning => State::Warning.shown("warning"),
        Severity::Note => State::Idle.shown("note"),
    }
}

fn words(words: &Words) -> Markup {
    html! {
        @for word in words.parts() {
            @match word {
                Word::Plain(text) => (text),
                Word::Strong(text) => strong { (text) },
                Word::Code(text) => code { (text) },
            }
        }
    }
}

/// The key figures.
pub(super) fn figures(page: &Page<'_>) -> Markup {
    let overview = page.process.overview;
    let sum =
        |of: fn(&crate::view::SiteView) -> u64| page.process.sites.iter().map(of).sum::<u64>();
    let backends_up = page
        .process
        .sites
        .iter()
        .map(|site| site.backends_up)
        .sum::<usize>();
    let backends = page
        .process
        .sites
        .iter()
        .map(|site| site.backends)
        .sum::<usize>();
    let pairs = page
        .process
        .certificates
        .iter()
        .filter_map(|one| one.pair.as_ref());
    let days_left = pairs.map(|pair| pair.days_left).min();
    html! {
        dl.figures {
            (figure("Sessions", &units::count(overview.sessions), &format!("of {}", units::count(overview.max_sessions))))
            (figure("Transfers", &units::count(page.transfers_total), &rate(page)))
            (figure("Backends up", &units::count(backends_up), &format!("of {}", units::count(backends))))
            (figure("Logins", &units::count(sum(|site| site.logins)), &format!("{} failed", units::count(sum(|site| site.failed_logins)))))
            @match days_left {
                Some(..0) => (figure("Certificate", "expired", "")),
                Some(days) => (figure("Certificate", &units::count(days), "days left")),
                None => {},
            }
        }
    }
}

fn figure(name: &str, value: &str, more: &str) -> Markup {
    html! {
        div {
            dt { (name) }
            dd { span.value { (value) } " " span.more { (more) } }
        }
    }
}

/// The total rate; shown only if the page lists all transfers, as that of a part of them would be wrong.
fn rate(page: &Page<'_>) -> String {
    let all = page.transfers.len() == page.transfers_total;
    let sum: f64 = page.transfers.iter().map(|one| one.bytes_per_second).sum();
    match all && !page.transfers.is_empty() {
        true => units::rate(sum),
        false => "running".to_owned(),
    }
}
