//! Amounts as people read them: bytes, rates, shares, spans of time.

use jiff::Timestamp;

/// The units of bytes, each 1024 of the one before.
const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// The longest time left that is shown, in seconds.
const MOST_LEFT: f64 = 100.0 * DAY as f64;

/// A number of bytes, such as `1.5 MiB`.
pub fn bytes(count: u64) -> String {
    let mut unit = 0;
    let mut shown = count as f64;
    // A value that would be rounded to 1024.0 is 1.0 of the next unit.
    while shown >= 1023.95 && unit + 1 < UNITS.len() {
        shown /= 1024.0;
        unit += 1;
    }
    match unit {
        0 => format!("{count} B"),
        _ => format!("{shown:.1} {}", UNITS[unit]),
    }
}

/// A number of bytes a second.
pub fn rate(bytes_per_second: f64) -> String {
    // A negative one is none, and one beyond all numbers the largest.
    format!("{}/s", bytes(bytes_per_second.round() as u64))
}

/// The share of the expected bytes, if there aren't more already. It is 100% only when all have come.
pub fn share(bytes: u64, size: Option<u64>) -> Option<String> {
    let size = size.filter(|size| bytes <= *size)?;
    let percent = match size {
        0 => 100,
        _ => u128::from(bytes) * 100 / u128::from(size),
    };
    Some(format!("{percent}%"))
}

/// How long the rest takes at this rate, in seconds.
pub fn time_left(bytes: u64, size: Option<u64>, bytes_per_second: f64) -> Option<f64> {
    let rest = size?.checked_sub(bytes)?;
    let left = (bytes_per_second > 0.0).then(|| rest as f64 / bytes_per_second);
    // A longer time is no forecast, or the size is none.
    left.filter(|left| *left < MOST_LEFT)
}

/// A span of time in its two largest units, such as `3m20s`.
pub fn span(seconds: f64) -> String {
    // A negative one is none, and one beyond all numbers the longest.
    let seconds = seconds as u64;
    match seconds {
        0..MINUTE => format!("{seconds}s"),
        MINUTE..HOUR => format!("{}m{:02}s", seconds / MINUTE, seconds % MINUTE),
        HOUR..DAY => format!("{}h{:02}m", seconds / HOUR, seconds % HOUR / MINUTE),
        _ => format!("{}d{:02}h", seconds / DAY, seconds % DAY / HOUR),
    }
}

/// How long ago a moment is that is written as RFC 3339 has it.
pub fn since(moment: &str, now: Timestamp) -> Option<String> {
    let moment: Timestamp = moment.parse().ok()?;
    Some(span(now.duration_since(moment).as_secs_f64()))
}

/// A number of things, such as `1 day`, `2 days`.
pub fn count(number: i64, thing: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {thing}{plural}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_shown_in_the_unit_that_keeps_them_short() {
        for (count, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1536, "1.5 KiB"),
            (1_048_575, "1.0 MiB"),
            (5 << 30, "5.0 GiB"),
            (u64::MAX, "16777216.0 TiB"),
        ] {
            assert_eq!(bytes(count), text);
        }
        assert_eq!(rate(1536.4), "1.5 KiB/s");
        assert_eq!(rate(-1.0), "0 B/s");
    }

    #[test]
    fn a_share_is_whole_only_when_all_is_there() {
        assert_eq!(share(999, Some(1000)).as_deref(), Some("99%"));
        assert_eq!(share(1000, Some(1000)).as_deref(), Some("100%"));
        assert_eq!(share(0, Some(0)).as_deref(), Some("100%"));
        assert_eq!(share(u64::MAX, Some(u64::MAX)).as_deref(), Some("100%"));
        assert_eq!(share(1001, Some(1000)), None);
        assert_eq!(share(1, None), None);
    }

    #[test]
    fn the_time_left_needs_a_size_and_a_rate() {
        assert_eq!(time_left(500, Some(1000), 100.0), Some(5.0));
        assert_eq!(time_left(500, Some(1000), 0.0), None);
        assert_eq!(time_left(500, None, 100.0), None);
        assert_eq!(time_left(1001, Some(1000), 100.0), None);
    }

    #[test]
    fn a_span_is_shown_in_two_units() {
        for (seconds, text) in [
            (-5.0, "0s"),
            (59.9, "59s"),
            (60.0, "1m00s"),
            (7325.0, "2h02m"),
            (86_400.0 * 3.0 + 4.0 * 3600.0, "3d04h"),
        ] {
            assert_eq!(span(seconds), text);
        }
        let now = "2026-11-30T12:03:20Z".parse().expect("a moment");
        assert_eq!(since("2026-11-30T12:00:00Z", now).as_deref(), Some("3m20s"));
        assert_eq!(since("yesterday", now), None);
    }
}
