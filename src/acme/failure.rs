//! Why orders fail, in words. A part of them are the authority's own, which is cut and made harmless.

use std::time::SystemTime;

use instant_acme::Problem;

use super::PATIENCE_TIME;
use super::challenge::ChallengeError;
use super::state::{PairError, StateError};
use crate::base::text::escape_whole;
use crate::outcome::AcmeStage;
use crate::tls::BackendTlsError;

/// The types of refusals (RFC 8555 §6.7) begin with this.
const TYPES: &str = "urn:ietf:params:acme:error:";

/// The longest text of the authority that is shown, in bytes.
const MAX_TEXT: usize = 1024;

/// A question about a certificate's renewal without an answer.
#[derive(Debug)]
pub(super) struct QuestionError {
    pub cause: Cause,
    /// The earliest time for another attempt, as the authority has asked.
    pub retry_after: Option<SystemTime>,
}

/// A failed order.
#[derive(Debug)]
pub(super) struct OrderError {
    pub stage: AcmeStage,
    pub cause: Cause,
    /// The earliest time for another attempt, as the authority has asked.
    pub retry_after: Option<SystemTime>,
}

/// Why an order fails.
#[derive(Debug, thiserror::Error)]
pub(super) enum Cause {
    #[error("{}", error_text(.0))]
    Authority(#[from] instant_acme::Error),
    #[error("{}", refused(.0))]
    Refused(Box<Problem>),
    /// With the page at which the operator is to do something about it (RFC 8555 §7.3.3, §6.7).
    #[error("{cause}; the authority refers to {}", shown(page))]
    Referred { cause: Box<Cause>, page: String },
    #[error(transparent)]
    Challenge(#[from] ChallengeError),
    #[error(transparent)]
    State(#[from] StateError),
    #[error(transparent)]
    Pair(#[from] PairError),
    /// The authority's own server can't be verified.
    #[error("`tls.acme.ca`: {0}")]
    Roots(#[from] BackendTlsError),
    #[error("the authority has no profile {wanted}{}", listed(.offered))]
    Profile {
        wanted: String,
        offered: Vec<String>,
    },
    #[error("the authority doesn't offer the challenge {kind} for {name}")]
    NotOffered { kind: &'static str, name: String },
    #[error("the authority requests authorization of a name that was not ordered: {0}")]
    NotOrdered(String),
    #[error("the authority wants {wanted} proofs for {ordered} names")]
    TooManyProofs { wanted: usize, ordered: usize },
    #[error("the request can't be made: {0}")]
    Request(#[from] rcgen::Error),
    #[error("the order was not done within 30 minutes")]
    TimedOut,
    #[error("broken off")]
    Stopped,
    #[error("{0}")]
    Internal(String),
}

impl Cause {
    /// As the cause itself, with the page that the authority refers to, if this is its refusal.
    pub fn referred(self, page: Option<String>) -> Self {
        match (self, page) {
            (
                cause @ (Self::Refused(_) | Self::Authority(instant_acme::Error::Api(_))),
                Some(page),
            ) => Self::Referred {
                cause: Box::new(cause),
                page,
            },
            (cause, _) => cause,
        }
    }
}

fn listed(names: &[String]) -> String {
    if names.is_empty() {
        return ": it offers none".to_owned();
    }
    let names = names.iter().map(|name| shown(name));
    format!(", but {}", names.collect::<Vec<_>>().join(", "))
}

/// The library's error, a part of which the authority may have written.
pub(super) fn error_text(error: &instant_acme::Error) -> String {
    match error {
        instant_acme::Error::Api(problem) => refused(problem),
        instant_acme::Error::Json(error) => shown(&format!(
            "the authority returned invalid ACME JSON: {error}"
        )),
        instant_acme::Error::Timeout(_) => format!(
            "the authority was not done within {} minutes",
            PATIENCE_TIME.as_secs() / 60
        ),
        instant_acme::Error::Http(error) => shown(&format!(
            "the authority names a URL to which nothing can be sent: {error}"
        )),
        other => shown(&other.to_string()),
    }
}

fn refused(problem: &Problem) -> String {
    let mut text = problem.detail.clone().unwrap_or_default();
    for part in &problem.subproblems {
        text += &format!("; {part}");
    }
    if let Some(kind) = &problem.r#type {
        let kind = kind.strip_prefix(TYPES);
        text += &format!(
            " ({})",
            kind.or(problem.r#type.as_deref()).unwrap_or_default()
        );
    }
    let status = || {
        problem
            .status
            .map(|status| format!("refused with status {status}"))
    };
    match text.trim_start() {
        "" => status().unwrap_or_else(|| "refused without a reason".to_owned()),
        text => shown(text),
    }
}

pub(super) fn shown(text: &str) -> String {
    let bytes = text.as_bytes();
    escape_whole(&bytes[..bytes.len().min(MAX_TEXT)])
}

/// Whether an error is the authority's refusal of this type (RFC 8555 §6.7).
pub(super) fn is(error: &instant_acme::Error, kind: &str) -> bool {
    let instant_acme::Error::Api(problem) = error else {
        return false;
    };
    let full = problem.r#type.as_deref();
    full.and_then(|full| full.strip_prefix(TYPES)) == Some(kind)
}

/// Whether the authority has refused the request for what it asks for, so that another one may be granted at once: not where it has
/// no time for any, fails, or can't be understood.
pub(super) fn refuses_request(error: &instant_acme::Error) -> bool {
    let instant_acme::Error::Api(problem) = error else {
        return false;
    };
    let is_final = |status| (400..500).contains(&status) && status != 429;
    problem.status.is_some_and(is_final) && !is(error, "rateLimited")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_authority_says_is_shown_with_its_type_and_can_not_act_on_a_terminal() {
        let problem = |text: &str| {
            let problem: Problem = serde_json::from_str(text).unwrap();
            error_text(&problem.into())
        };
        assert_eq!(
            problem(
                r#"{"type": "urn:ietf:params:acme:error:dns", "detail": "no such name\u001b[2J"}"#
            ),
            "no such name\\x1b[2J (dns)"
        );
        assert_eq!(problem(r#"{"type": "about:blank"}"#), "(about:blank)");
        assert_eq!(problem(r#"{"status": 429}"#), "refused with status 429");
        assert_eq!(problem("{}"), "refused without a reason");
        let long = format!(r#"{{"detail": "{}"}}"#, "a".repeat(5_000));
        assert_eq!(problem(&long).len(), MAX_TEXT);
    }

    #[test]
    fn an_authority_without_the_profile_is_told_with_those_that_it_has() {
        let error = |offered: &[&str]| {
            let offered = offered.iter().map(|&name| name.to_owned()).collect();
            let wanted = "nope".to_owned();
            Cause::Profile { wanted, offered }.to_string()
        };
        assert_eq!(
            error(&[]),
            "the authority has no profile nope: it offers none"
        );
        assert_eq!(
            error(&["a", "b"]),
            "the authority has no profile nope, but a, b"
        );
    }

    #[test]
    fn what_is_refused_for_what_it_asks_for_is_told_from_what_is_refused_for_now() {
        for (text, expected) in [
            (
                r#"{"status": 409, "type": "urn:ietf:params:acme:error:alreadyReplaced"}"#,
                true,
            ),
            (
                r#"{"status": 400, "type": "urn:ietf:params:acme:error:malformed"}"#,
                true,
            ),
            (
                r#"{"status": 403, "type": "urn:ietf:params:acme:error:rateLimited"}"#,
                false,
            ),
            (r#"{"status": 429}"#, false),
            (r#"{"status": 503}"#, false),
        ] {
            let problem: Problem = serde_json::from_str(text).unwrap();
            assert_eq!(refuses_request(&problem.into()), expected, "{text}");
        }
        assert!(!refuses_request(&instant_acme::Error::Crypto));
    }

    #[test]
    fn a_refusal_is_known_by_its_type() {
        let text = r#"{"type": "urn:ietf:params:acme:error:badNonce"}"#;
        let problem: Problem = serde_json::from_str(text).unwrap();
        assert!(is(&problem.clone().into(), "badNonce"));
        assert!(!is(&problem.into(), "rateLimited"));
        assert!(!is(&instant_acme::Error::Crypto, "badNonce"));
    }
}
