//! Numbers, sizes, times and lists, as people read them.

use std::time::Duration;

use super::Moment;

/// Stands between groups of three digits, and before units: narrow, and no place to break a line.
pub const THIN: char = '\u{202f}';

const BINARY: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];

/// `1 234 567`.
pub fn count<T: ToString>(number: T) -> String {
    let digits = number.to_string();
    let mut grouped = String::with_capacity(digits.len() * 2);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            grouped.push(THIN);
        }
        grouped.push(digit);
    }
    grouped
}

/// `3 of 10`.
pub fn of(some: usize, all: usize) -> String {
    format!("{} of {}", count(some), count(all))
}

/// `1 session is`, `2 sessions are`.
pub fn plural(number: usize, one: &str, several: &str) -> String {
    let what = if number == 1 { one } else { several };
    format!("{} {what}", count(number))
}

/// The first ones, and how many more there are.
pub fn list(all: &[String], shown: usize) -> String {
    match all.len().saturating_sub(shown) {
        0 => all.join(", "),
        more => format!("{} and {} more", all[..shown].join(", "), count(more)),
    }
}

/// In three digits: `1.46 GiB`.
pub fn bytes(number: u64) -> String {
    size(number as f64)
}

/// In three digits: `12.3 MiB/s`.
pub fn rate(bytes_per_second: f64) -> String {
    format!("{}/s", size(bytes_per_second))
}

fn size(bytes: f64) -> String {
    let mut value = bytes.max(0.0);
    let mut unit = 0;
    // 999.5 would be shown as 1000.
    while value >= 999.5 && unit + 1 < BINARY.len() {
        value /= 1024.0;
        unit += 1;
    }
    let decimals = match value {
        _ if unit == 0 => 0,
        ..9.995 => 2,
        ..99.95 => 1,
        _ => 0,
    };
    format!("{value:.decimals$}{THIN}{}", BINARY[unit])
}

/// How long: `45 s`, `3 min 20 s`, `3 h 12 min`, `5 d 3 h`.
pub fn age(time: Duration) -> String {
    let seconds = time.as_secs();
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86400);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}{THIN}s"),
        (0, 0, _) => format!("{minutes}{THIN}min {}{THIN}s", seconds % 60),
        (0, _, _) => format!("{hours}{THIN}h {}{THIN}min", minutes % 60),
        _ => format!("{}{THIN}d {}{THIN}h", count(days), hours % 24),
    }
}

/// As [`age`], for a number of seconds.
pub fn seconds(seconds: f64) -> String {
    // Nothing but a fault makes it negative or no number, and what is too long is shown as the longest.
    let longest = Duration::from_secs(u64::from(u32::MAX));
    let time = Duration::try_from_secs_f64(seconds.max(0.0));
    age(time.unwrap_or(longest).min(longest))
}

/// How long something short took: `4 ms`, `1.3 s`.
pub fn short(seconds: f64) -> String {
    match seconds {
        ..0.9995 => format!("{:.0}{THIN}ms", seconds * 1000.0),
        _ => format!("{seconds:.1}{THIN}s"),
    }
}

/// `2026-11-30 14:52:14 UTC`.
pub fn moment(moment: Moment) -> String {
    moment.to_string().replace('T', " ").replace('Z', " UTC")
}

/// `41 days left`.
pub fn days_left(days: i64) -> String {
    match days {
        ..0 => "expired".to_owned(),
        0 => "less than a day left".to_owned(),
        1 => "1 day left".to_owned(),
        _ => format!("{} days left", count(days)),
    }
}

/// As the end of a sentence: `expires in 9 days`.
pub fn expires(days: i64) -> String {
    match days {
        ..-2 => format!("expired {} days ago", count(days.unsigned_abs() - 1)),
        -2 => "expired a day ago".to_owned(),
        -1 => "expired less than a day ago".to_owned(),
        0 => "expires within a day".to_owned(),
        1 => "expires in 1 day".to_owned(),
        _ => format!("expires in {} days", count(days)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// With blanks that a keyboard has.
    fn plain(text: &str) -> String {
        text.replace(THIN, " ")
    }

    #[test]
    fn numbers_are_in_groups_of_three_digits() {
        for (number, expected) in [
            (0, "0"),
            (999, "999"),
            (1_000, "1 000"),
            (1_234_567, "1 234 567"),
            (u64::MAX, "18 446 744 073 709 551 615"),
        ] {
            assert_eq!(plain(&count(number)), expected);
        }
    }

    #[test]
    fn sizes_have_three_digits() {
        for (number, expected) in [
            (0, "0 B"),
            (999, "999 B"),
            (1_000, "0.98 KiB"),
            (1_024, "1.00 KiB"),
            (12_595, "12.3 KiB"),
            (102_300, "99.9 KiB"),
            (102_399, "100 KiB"),
            (1_023_000, "999 KiB"),
            (1_023_999, "0.98 MiB"),
            (734_003_200, "700 MiB"),
            (48_318_382_080, "45.0 GiB"),
            (u64::MAX, "16384 PiB"),
        ] {
            assert_eq!(plain(&bytes(number)), expected, "{number}");
        }
    }

    #[test]
    fn times_have_two_units() {
        for (seconds, expected) in [
            (0, "0 s"),
            (59, "59 s"),
            (60, "1 min 0 s"),
            (200, "3 min 20 s"),
            (3_599, "59 min 59 s"),
            (11_520, "3 h 12 min"),
            (86_399, "23 h 59 min"),
            (442_800, "5 d 3 h"),
            (86_400_000, "1 000 d 0 h"),
        ] {
            assert_eq!(plain(&age(Duration::from_secs(seconds))), expected);
        }
    }

    #[test]
    fn a_number_of_seconds_may_be_anything() {
        for (number, expected) in [
            (0.9, "0 s"),
            (-1.0, "0 s"),
            (f64::NAN, "0 s"),
            (f64::INFINITY, "49 710 d 6 h"),
            (1e300, "49 710 d 6 h"),
        ] {
            assert_eq!(plain(&seconds(number)), expected, "{number}");
        }
        assert_eq!(plain(&rate(f64::NAN)), "0 B/s");
        assert_eq!(plain(&short(0.0042)), "4 ms");
        assert_eq!(plain(&short(10.04)), "10.0 s");
    }

    #[test]
    fn days_are_said_on_both_sides_of_the_end() {
        for (days, left, sentence) in [
            (41, "41 days left", "expires in 41 days"),
            (1, "1 day left", "expires in 1 day"),
            (0, "less than a day left", "expires within a day"),
            (-1, "expired", "expired less than a day ago"),
            (-2, "expired", "expired a day ago"),
            (-3, "expired", "expired 2 days ago"),
        ] {
            assert_eq!(days_left(days), left);
            assert_eq!(expires(days), sentence);
        }
        assert!(expires(i64::MIN).ends_with("days ago"));
    }

    #[test]
    fn a_long_list_is_cut() {
        let all = ["a", "b", "c"].map(str::to_owned);
        assert_eq!(list(&all, 3), "a, b, c");
        assert_eq!(list(&all, 2), "a, b and 1 more");
        assert_eq!(list(&[], 2), "");
    }
}
