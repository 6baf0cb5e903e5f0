//! The parts of an authority's last refusal that the ACME library leaves out: when to come again, and the page that explains it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use hyper::StatusCode;
use hyper::header::HeaderMap;
use serde::Deserialize;

use super::retry_after::retry_after;
use super::schedule::{ASK_EVERY, MAX_RETRY_AFTER};

/// The longest time that anything but a rate limit can put off an order by Retry-After: as long as the ladder's last step.
const MAX_OUTAGE: Duration = ASK_EVERY;

/// The type of a problem by which the authority limits the rate of requests (RFC 8555 §6.6).
const RATE_LIMITED: &str = "urn:ietf:params:acme:error:rateLimited";

/// Whether an answer with this status is a refusal.
pub(super) fn is_refusal(status: StatusCode) -> bool {
    status.is_client_error() || status.is_server_error()
}

/// The parts that the library leaves out of the last refusal; they belong to that request, and no other.
#[derive(Debug, Clone, Default)]
pub(super) struct LastRefusal(Arc<Mutex<Refusal>>);

/// The content of a refusal.
#[derive(Debug, Default)]
pub(super) struct Refusal {
    retry_after: Option<SystemTime>,
    page: Option<String>,
}

/// The members that are read here of a problem document (RFC 7807 §3.1).
#[derive(Default, Deserialize)]
#[serde(default)]
struct ProblemDocument {
    r#type: Option<String>,
    instance: Option<String>,
}

/// The longest time that a refusal can put off an order: a rate limit has its reasons, a server that is away may well be back
/// long before a page says so.
fn longest_break(status: StatusCode, problem: &ProblemDocument) -> Duration {
    let kind = problem.r#type.as_deref();
    match status == StatusCode::TOO_MANY_REQUESTS || kind == Some(RATE_LIMITED) {
        true => MAX_RETRY_AFTER,
        false => MAX_OUTAGE,
    }
}

impl LastRefusal {
    /// When to come again, if the refusal tells.
    pub fn retry_after(&self) -> Option<SystemTime> {
        self.lock().retry_after
    }

    /// The page that it refers to.
    pub fn page(&self) -> Option<String> {
        self.lock().page.clone()
    }

    /// Forgets the refusal: another request begins, or an order, to which it doesn't apply.
    pub fn forget(&self) {
        *self.lock() = Refusal::default();
    }

    /// Notes an answer, whether a refusal or not.
    pub fn note(&self, status: StatusCode, headers: &HeaderMap, body: &[u8], now: SystemTime) {
        if !is_refusal(status) {
            return self.forget();
        }
        let problem: ProblemDocument = serde_json::from_slice(body).unwrap_or_default();
        let latest = now + longest_break(status, &problem);
        let at = retry_after(headers, now);
        *self.lock() = Refusal {
            retry_after: at.map(|at| at.min(latest)),
            page: problem.instance,
        };
    }

    /// Takes the refusal noted so far, to be put back after answers to further questions, which don't replace it.
    pub fn take(&self) -> Refusal {
        std::mem::take(&mut *self.lock())
    }

    /// Notes a refusal again that was [taken](Self::take).
    pub fn put_back(&self, refusal: Refusal) {
        *self.lock() = refusal;
    }

    fn lock(&self) -> MutexGuard<'_, Refusal> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use hyper::header::{HeaderValue, RETRY_AFTER};

    use super::*;

    #[test]
    fn when_to_come_again_is_what_the_last_refusal_said_and_not_one_before() {
        let now = UNIX_EPOCH + Duration::from_secs(1_000);
        let mut later = HeaderMap::new();
        later.insert(RETRY_AFTER, HeaderValue::from_static("60"));
        let last = LastRefusal::default();
        let after = |status, headers: &HeaderMap| {
            last.note(status, headers, b"", now);
            last.retry_after()
        };
        let minute = Some(now + Duration::from_secs(60));
        assert_eq!(after(StatusCode::TOO_MANY_REQUESTS, &later), minute);
        assert_eq!(
            after(StatusCode::INTERNAL_SERVER_ERROR, &HeaderMap::new()),
            None
        );
        assert_eq!(after(StatusCode::SERVICE_UNAVAILABLE, &later), minute);
        assert_eq!(after(StatusCode::OK, &later), None);
        assert_eq!(after(StatusCode::SERVICE_UNAVAILABLE, &later), minute);
        last.forget();
        assert_eq!(last.retry_after(), None);
    }

    #[test]
    fn a_rate_limit_puts_off_an_order_for_a_week_at_most_and_an_outage_for_hours() {
        let (last, now) = (LastRefusal::default(), UNIX_EPOCH);
        let mut month = HeaderMap::new();
        month.insert(RETRY_AFTER, HeaderValue::from_static("2592000"));
        let put_off = |status, body: &[u8]| {
            last.note(status, &month, body, now);
            let at = last.retry_after().expect("it says when");
            at.duration_since(now).unwrap()
        };
        let limit = br#"{"type": "urn:ietf:params:acme:error:rateLimited"}"#;
        let (week, hours) = (MAX_RETRY_AFTER, Duration::from_secs(6 * 3_600));
        assert_eq!(put_off(StatusCode::TOO_MANY_REQUESTS, b""), week);
        assert_eq!(put_off(StatusCode::FORBIDDEN, limit), week);
        assert_eq!(put_off(StatusCode::SERVICE_UNAVAILABLE, limit), week);
        assert_eq!(put_off(StatusCode::SERVICE_UNAVAILABLE, b"<html>"), hours);
        assert_eq!(put_off(StatusCode::BAD_GATEWAY, b"{}"), hours);
    }

    #[test]
    fn what_a_refusal_says_outlasts_the_questions_about_it() {
        let (last, now) = (LastRefusal::default(), UNIX_EPOCH);
        let mut minute = HeaderMap::new();
        minute.insert(RETRY_AFTER, HeaderValue::from_static("60"));
        last.note(StatusCode::TOO_MANY_REQUESTS, &minute, b"", now);
        let refusal = last.take();
        assert_eq!(last.retry_after(), None);
        last.note(StatusCode::OK, &HeaderMap::new(), b"{}", now);
        last.put_back(refusal);
        assert_eq!(last.retry_after(), Some(now + Duration::from_secs(60)));
    }

    #[test]
    fn the_page_that_a_refusal_refers_to_is_kept_until_the_next_answer() {
        let (last, now) = (LastRefusal::default(), UNIX_EPOCH);
        let body = br#"{"type": "urn:ietf:params:acme:error:userActionRequired", "instance": "https://ca.test/agree"}"#;
        last.note(StatusCode::FORBIDDEN, &HeaderMap::new(), body, now);
        assert_eq!(last.page().as_deref(), Some("https://ca.test/agree"));
        last.note(StatusCode::FORBIDDEN, &HeaderMap::new(), b"<html>", now);
        assert_eq!(last.page(), None);
        last.note(StatusCode::FORBIDDEN, &HeaderMap::new(), body, now);
        last.note(StatusCode::OK, &HeaderMap::new(), body, now);
        assert_eq!(last.page(), None);
    }
}
