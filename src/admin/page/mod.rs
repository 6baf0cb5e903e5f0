//! The status page, as HTML that needs no script and nothing else from anywhere: what needs attention, then sites, backends,
//! transfers, certificates and reloads. It is made of the values of [`crate::view`] alone.
//!
//! Everything that is not written here goes through maud, which escapes it: there is no other way into the page.

mod backends;
mod health;
mod process;
mod sites;
mod table;
#[cfg(test)]
mod tests;
mod transfers;
mod units;

use hyper::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, HeaderName, HeaderValue, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use maud::{DOCTYPE, Markup, PreEscaped, html};

use crate::view::{self, Disclosure, ProcessView, TransferView};

/// How many transfers the page lists; `/api/v1/transfers` has them all.
pub const TRANSFERS_SHOWN: usize = 200;

/// The headers of its response. Its own style sheet is all that the browser may use: not even an image, so that no name of a
/// file can make it ask for anything.
pub const HEADERS: [(HeaderName, HeaderValue); 5] = [
    (
        CONTENT_SECURITY_POLICY,
        HeaderValue::from_static(
            "default-src 'none'; style-src 'sha256-1V/jD2mmYb8XvrkBy+x6cryYIoaXB/PNW1YN+ZqMMS0='; \
             base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        ),
    ),
    (X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
    (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    (CACHE_CONTROL, HeaderValue::from_static("no-store")),
];

/// After how many seconds a browser loads it again.
const REFRESH_SECONDS: u32 = 10;

/// The page's style sheet; its hash is in [`HEADERS`].
const STYLE: &str = include_str!("style.css");

/// The content of the page.
#[derive(Debug, Clone, Copy)]
pub struct Page<'a> {
    /// The process, with its sites and backends.
    pub process: ProcessView<'a>,
    /// Whether users and files are named.
    pub disclosure: Disclosure,
    /// The transfers that run, no more than [`TRANSFERS_SHOWN`].
    pub transfers: &'a [TransferView],
    /// The number of all transfers, with those that are not in `transfers`.
    pub transfers_total: usize,
}

/// The whole document.
pub fn render(page: &Page<'_>) -> String {
    let attention = view::attention(&page.process);
    let document = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta http-equiv="refresh" content=(REFRESH_SECONDS);
                title { (health::headline(&attention)) " · Portcullis" }
                style { (PreEscaped(STYLE)) }
            }
            body {
                (header(page))
                main {
                    (health::section(&attention))
                    (health::figures(page))
                    (sites::section(page))
                    (backends::section(page))
                    (transfers::section(page))
                    (process::certificates(page))
                    (process::backend_client_certificates(page))
                    (process::revocation_lists(page))
                    (process::orders(page))
                    (process::reloads(page))
                }
                (process::footer(page))
            }
        }
    };
    document.into_string()
}

fn header(page: &Page<'_>) -> Markup {
    let readiness = match page.process.overview.readiness {
        "ready" => State::Good,
        _ => State::Warning,
    };
    html! {
        header {
            // A gate: the page has no other image.
            svg viewBox="0 0 16 16" aria-hidden="true" {
                path d="M2 15V7a6 6 0 0 1 12 0v8M5 3v12M8 1v14M11 3v12M2 7h12M2 11h12" {}
            }
            p.name { "Portcullis" }
            (readiness.shown(page.process.overview.readiness))
            p.moment { (units::at(page.process.now)) }
        }
    }
}

/// The condition of something that the page shows. Word and shape tell it as well as the colour does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Good,
    /// Out of service on purpose.
    Idle,
    Warning,
    Bad,
}

impl State {
    fn class(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Idle => "idle",
            Self::Warning => "warning",
            Self::Bad => "bad",
        }
    }

    fn shown(self, word: &str) -> Markup {
        html! { span.state.(self.class()) { (word) } }
    }
}
