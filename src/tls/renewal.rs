//! When a certificate should have been renewed: one rule for notes, log, status page and probes.

use std::time::{Duration, SystemTime};

/// However short its life, a certificate should have been renewed so long before its end.
const LEAST_MARGIN: Duration = Duration::from_secs(4 * 3_600);

/// However long its life, so long before its end is early enough.
const MOST_MARGIN: Duration = Duration::from_secs(30 * 86_400);

/// How long before its end a certificate of this life should have been renewed: a quarter of it, as the alerts of
/// `deploy/prometheus/alerts.yaml` have it.
pub fn renewal_margin(life: Duration) -> Duration {
    (life / 4).clamp(LEAST_MARGIN, MOST_MARGIN)
}

/// Whether a certificate that is valid between these should have been renewed.
pub fn renewal_is_due(not_before: SystemTime, not_after: SystemTime, now: SystemTime) -> bool {
    let span = |from, to: SystemTime| to.duration_since(from).unwrap_or_default();
    span(now, not_after) < renewal_margin(span(not_before, not_after))
}

/// How many whole days are left until then; below 0 once it is over.
pub fn days_left(not_after: SystemTime, now: SystemTime) -> i64 {
    const DAY: u64 = 86_400;
    let days = |span: Duration| i64::try_from(span.as_secs() / DAY).unwrap_or(i64::MAX);
    match not_after.duration_since(now) {
        Ok(left) => days(left),
        Err(past) => -1 - days(past.duration()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3_600);

    #[test]
    fn a_certificate_is_due_with_a_quarter_of_its_life_left_however_short_that_is() {
        let issued = SystemTime::UNIX_EPOCH;
        for (life, margin) in [
            (8, 4),
            (24, 6),
            (6 * 24, 36),
            (90 * 24, 540),
            (398 * 24, 720),
        ] {
            let end = issued + life * HOUR;
            let is_due = |left| renewal_is_due(issued, end, end - left * HOUR);
            assert!(!is_due(life), "{life} hours, and just issued");
            assert!(!is_due(margin), "{life} hours");
            assert!(is_due(margin - 1), "{life} hours");
            assert!(renewal_is_due(issued, end, end + HOUR), "{life} hours");
        }
    }
}
