//! Moments, with what a browser knows of them.

use maud::{Markup, html};

use crate::view::Moment;
pub(super) use crate::view::units::*;

/// `3 h 12 min ago`; the moment itself where one points at it.
pub(super) fn ago(now: Moment, then: Moment) -> Markup {
    html! {
        time datetime=(then) title=(then) { (age(now.since(then))) " ago" }
    }
}

/// `2026-11-30 14:52:14 UTC`.
pub(super) fn at(then: Moment) -> Markup {
    html! {
        time datetime=(then) { (moment(then)) }
    }
}
