//! The table of running transfers. Users and files are in it where they may be named.

use maud::{Markup, html};

use super::table::Column::{Number, Text};
use super::table::Table;
use super::{Page, units};
use crate::view::{Disclosure, TransferView};

pub(super) fn section(page: &Page<'_>) -> Markup {
    let shown = page.transfers.len();
    let note = match page.transfers_total > shown {
        true => format!(
            "{} of {}; all of them are at /api/v1/transfers",
            units::count(shown),
            units::count(page.transfers_total)
        ),
        false => units::count(shown),
    };
    Table {
        name: "Running transfers",
        note: &note,
        columns: [
            Text("Transfer"),
            Text("Site"),
            Text("Client"),
            Text("Progress"),
            Number("Rate"),
            Number("Running for"),
            Number("Time left"),
        ],
        rows: page
            .transfers
            .iter()
            .map(|transfer| row(page.disclosure, transfer))
            .collect(),
        empty: "None at the moment.",
    }
    .render()
}

fn row(disclosure: Disclosure, transfer: &TransferView) -> [Markup; 7] {
    let (user, path) = match disclosure {
        Disclosure::Full => (transfer.user.as_deref(), transfer.path.as_deref()),
        Disclosure::Summary => (None, None),
    };
    let name = html! {
        @match path {
            Some(path) => { bdi.path { (path) } },
            None => { (transfer.direction) },
        }
        span.more {
            @if path.is_some() { (transfer.direction) ", " }
            (transfer.command) ", session " (transfer.session)
        }
    };
    let client = html! {
        @if let Some(user) = user { bdi { (user) } }
        span.(if user.is_some() { "more" } else { "address" }) { (transfer.client.ip()) }
    };
    let site = match &transfer.site {
        Some(site) => html! { (site) },
        None => html! { span.none { "–" } },
    };
    let left = match time_left(transfer) {
        Some(seconds) => html! { (units::seconds(seconds)) },
        None => html! { span.none { "–" } },
    };
    [
        name,
        site,
        client,
        progress(transfer),
        html! { (units::rate(transfer.bytes_per_second)) },
        html! { (units::seconds(transfer.seconds)) },
        left,
    ]
}

/// The announced size, unless more has gone already: then it was no size of this transfer.
fn size(transfer: &TransferView) -> Option<u64> {
    transfer
        .size
        .filter(|size| *size > 0 && *size >= transfer.bytes)
}

fn progress(transfer: &TransferView) -> Markup {
    let Some(size) = size(transfer) else {
        return html! { (units::bytes(transfer.bytes)) };
    };
    let percent = u128::from(transfer.bytes) * 100 / u128::from(size);
    html! {
        progress max=(size) value=(transfer.bytes) aria-label="Progress" {}
        span.more {
            (percent) " %, " (units::bytes(transfer.bytes)) " of " (units::bytes(size))
        }
    }
}

/// The time left at the rate so far, in seconds.
fn time_left(transfer: &TransferView) -> Option<f64> {
    let left = size(transfer)? - transfer.bytes;
    (transfer.bytes_per_second > 0.0).then(|| left as f64 / transfer.bytes_per_second)
}
