//! Dates and spans of time as operators read them in messages about certificates.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use x509_parser::time::ASN1Time;

/// A point in time, shown as its UTC date: `2026-01-02`.
#[derive(Debug, Clone, Copy)]
pub struct Date(pub SystemTime);

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match ASN1Time::from_timestamp(seconds_since_1970(self.0)) {
            Ok(time) => write!(f, "{}", time.to_datetime().date()),
            Err(_) => f.write_str("an invalid date"),
        }
    }
}

/// A length of time, shown in its largest unit: `12 days`, `1 hour`.
pub(super) struct Span(pub Duration);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        let (count, unit) = match seconds {
            0..60 => (seconds, "second"),
            60..3600 => (seconds / 60, "minute"),
            3600..86_400 => (seconds / 3600, "hour"),
            _ => (seconds / 86_400, "day"),
        };
        let plural = if count == 1 { "" } else { "s" };
        write!(f, "{count} {unit}{plural}")
    }
}

/// The time that an X.509 field holds. Years before 1970 become 1970: no certificate in use has them, and all that
/// is asked of them is whether they are past.
pub(super) fn system_time(time: &ASN1Time) -> SystemTime {
    let seconds = u64::try_from(time.timestamp()).unwrap_or(0);
    UNIX_EPOCH
        .checked_add(Duration::from_secs(seconds))
        .unwrap_or(UNIX_EPOCH)
}

fn seconds_since_1970(time: SystemTime) -> i64 {
    match time.duration_since(UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
        Err(_) => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_is_shown_in_utc() {
        let time = UNIX_EPOCH + Duration::from_secs(1_767_312_000);
        assert_eq!(Date(time).to_string(), "2026-01-02");
    }

    #[test]
    fn a_date_beyond_the_calendar_is_no_panic() {
        let time = UNIX_EPOCH + Duration::from_secs(1 << 60);
        assert_eq!(Date(time).to_string(), "an invalid date");
    }

    #[test]
    fn a_span_is_shown_in_its_largest_unit() {
        let shown = |seconds| Span(Duration::from_secs(seconds)).to_string();
        assert_eq!(shown(0), "0 seconds");
        assert_eq!(shown(61), "1 minute");
        assert_eq!(shown(7_200), "2 hours");
        assert_eq!(shown(86_400 * 12 + 5), "12 days");
    }
}
