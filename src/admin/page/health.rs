//! The top of the page: whether all is well, or else what needs attention; and the process in a few numbers.

use maud::{Markup, html};

use super::attention::{Attention, Severity};
use super::{Page, units};

/// In a few words: the title of the page, and its first heading.
pub(super) fn headline(attention: &[Attention<'_>]) -> String {
    match attention.len() {
        0 => "All is well".to_owned(),
        1 => "One thing needs attention".to_owned(),
        count => format!("{} things need attention", units::count(count)),
    }
}

pub(super) fn section(page: &Page<'_>, attention: &[Attention<'_>]) -> Markup {
    // The worst comes first.
    let class = match attention.first().map(Attention::severity) {
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
                            p.what { (one.severity().shown()) " " (one.what(page)) }
                            @if let Some(reason) = one.reason() { pre { (reason) } }
                            p.remedy { (one.remedy(page)) }
                        }
                    }
                }
            }
        }
    }
}

/// What one looks for first.
pub(super) fn figures(page: &Page<'_>) -> Markup {
    let overview = page.overview;
    let sum = |of: fn(&crate::view::SiteView) -> u64| page.sites.iter().map(of).sum::<u64>();
    let backends_up = page
        .sites
        .iter()
        .map(|site| site.backends_up)
        .sum::<usize>();
    let backends = page.sites.iter().map(|site| site.backends).sum::<usize>();
    let days_left = page.certificates.iter().map(|one| one.days_left).min();
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

/// Of all transfers; of a part of them it would be a wrong number.
fn rate(page: &Page<'_>) -> String {
    let all = page.transfers.len() == page.transfers_total;
    let sum: f64 = page.transfers.iter().map(|one| one.bytes_per_second).sum();
    match all && !page.transfers.is_empty() {
        true => units::rate(sum),
        false => "running".to_owned(),
    }
}
