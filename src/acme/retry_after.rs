//! Retry-After as authorities send it: read in every form, and bounded before the library or the schedule heeds it.

use std::time::{Duration, SystemTime};

use hyper::header::{HeaderMap, RETRY_AFTER};

use super::schedule::MAX_RETRY_AFTER;

/// The time to come again, if these headers tell it.
pub(super) fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<SystemTime> {
    parse(headers.get(RETRY_AFTER)?.to_str().ok()?, now)
}

/// The library adds the Retry-After to the time of day, and panics where that overflows; and where it lies behind the end of its
/// patience, it gives an order up at once.
pub(super) fn bound_retry_after(headers: &mut HeaderMap, now: SystemTime, longest: Duration) {
    let Some(value) = headers.remove(RETRY_AFTER) else {
        return;
    };
    let at = value.to_str().ok().and_then(|text| parse(text, now));
    if let Some(at) = at {
        let after = at.duration_since(now).unwrap_or_default().min(longest);
        let seconds = after.as_secs();
        headers.insert(RETRY_AFTER, seconds.into());
    }
}

/// A time as Retry-After has it (RFC 9110 §10.2.3), in seconds or as a date in one of the three forms, no later than the schedule
/// would heed.
fn parse(text: &str, now: SystemTime) -> Option<SystemTime> {
    match text.trim().parse::<u64>() {
        Ok(seconds) => Some(now + Duration::from_secs(seconds).min(MAX_RETRY_AFTER)),
        Err(_) => {
            let at = httpdate::parse_http_date(text.trim()).ok()?;
            Some(at.min(now + MAX_RETRY_AFTER))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use hyper::header::HeaderValue;

    use super::*;

    #[test]
    fn a_time_to_come_again_is_in_seconds_or_a_date() {
        let now = UNIX_EPOCH + Duration::from_secs(1_000);
        let after = |text| parse(text, now).map(|at| at.duration_since(UNIX_EPOCH).unwrap());
        assert_eq!(after("120"), Some(Duration::from_secs(1_120)));
        assert_eq!(
            after("Thu, 01 Jan 1970 01:00:00 GMT"),
            Some(Duration::from_secs(3_600))
        );
        // The forms of former standards, which have to be read as well (RFC 9110 §5.6.7).
        for date in [
            "Thursday, 01-Jan-70 01:00:00 GMT",
            "Thu Jan  1 01:00:00 1970",
        ] {
            assert_eq!(after(date), Some(Duration::from_secs(3_600)), "{date}");
        }
        for bad in ["", "soon", "-1", "99999999999999999999999999"] {
            assert_eq!(after(bad), None, "{bad}");
        }
    }

    #[test]
    fn an_order_under_way_is_looked_at_again_soon_however_long_the_authority_says() {
        let now = UNIX_EPOCH + Duration::from_secs(1_000);
        for (said, kept) in [
            ("86400", "30"),
            ("5", "5"),
            ("Fri, 01 Jan 2100 00:00:00 GMT", "30"),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, HeaderValue::from_static(said));
            bound_retry_after(&mut headers, now, Duration::from_secs(30));
            assert_eq!(headers[RETRY_AFTER], kept, "{said}");
        }
    }

    #[test]
    fn the_library_never_sees_a_time_that_it_could_not_add() {
        let now = UNIX_EPOCH + Duration::from_secs(1_000);
        let longest = MAX_RETRY_AFTER.as_secs().to_string();
        for (sent, seen) in [
            ("120", Some("120")),
            ("Thu, 01 Jan 1970 01:00:00 GMT", Some("2600")),
            ("Thu, 01 Jan 1970 00:00:00 GMT", Some("0")),
            ("18446744073709551615", Some(&*longest)),
            ("Fri, 01 Jan 9999 00:00:00 GMT", Some(&*longest)),
            ("18446744073709551616", None),
            ("soon", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.append(RETRY_AFTER, HeaderValue::from_static(sent));
            headers.append(
                RETRY_AFTER,
                HeaderValue::from_static("18446744073709551615"),
            );
            bound_retry_after(&mut headers, now, MAX_RETRY_AFTER);
            let all: Vec<_> = headers.get_all(RETRY_AFTER).iter().collect();
            assert_eq!(all, seen.into_iter().collect::<Vec<_>>(), "{sent}");
        }
    }
}
