//! The URLs that the authority names in its directory and its resources: each is looked at before the library goes there, which
//! would not report which one is wrong, and panics at one of them.

use std::str::FromStr;

use hyper::Uri;
use serde::Deserialize;

use super::failure::shown;
use crate::config::https_port;

/// A URL of the authority's that can't be asked.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{member} of {resource} is {}, which isn't an https URL", quoted(url))]
pub(super) struct BadUrl {
    member: &'static str,
    /// The resource that the URL was found in.
    resource: String,
    url: String,
}

/// The members that the library makes requests of: of a directory (RFC 8555 §7.1.1, RFC 9773 §4.1), an order (§7.1.3) and an
/// authorization (§7.1.4). No resource has all of them.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Resource {
    new_nonce: Option<String>,
    new_account: Option<String>,
    new_order: Option<String>,
    renewal_info: Option<String>,
    finalize: Option<String>,
    certificate: Option<String>,
    authorizations: Vec<String>,
    challenges: Vec<Challenge>,
}

#[derive(Deserialize)]
struct Challenge {
    url: String,
}

/// Refuses a resource with a URL that is none of https. What can't be read as one is left to the library.
pub(super) fn refuse_bad_urls(resource: &Uri, body: &[u8]) -> Result<(), BadUrl> {
    let Ok(read) = serde_json::from_slice::<Resource>(body) else {
        return Ok(());
    };
    let single = [
        ("newNonce", read.new_nonce),
        ("newAccount", read.new_account),
        ("newOrder", read.new_order),
        ("renewalInfo", read.renewal_info),
        ("finalize", read.finalize),
        ("certificate", read.certificate),
    ];
    let single = single
        .into_iter()
        .filter_map(|(member, url)| Some((member, url?)));
    let authorizations = read.authorizations.into_iter();
    let authorizations = authorizations.map(|url| ("authorizations", url));
    let challenges = read.challenges.into_iter();
    let challenges = challenges.map(|challenge| ("challenges", challenge.url));
    let mut all = single.chain(authorizations).chain(challenges);
    match all.find(|(_, url)| !is_good(url)) {
        Some((member, url)) => Err(BadUrl {
            member,
            resource: resource.to_string(),
            url,
        }),
        None => Ok(()),
    }
}

fn is_good(url: &str) -> bool {
    let parsed = Uri::from_str(url).ok();
    parsed.as_ref().and_then(https_port).is_some()
}

fn quoted(url: &str) -> String {
    format!("\"{}\"", shown(url))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(body: &str) -> String {
        let resource = Uri::from_static("https://ca.test/dir");
        match refuse_bad_urls(&resource, body.as_bytes()) {
            Ok(()) => String::new(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn a_url_that_is_none_is_told_with_the_member_that_has_it() {
        assert_eq!(
            refused(r#"{"newNonce": "", "newOrder": "https://ca.test/order"}"#),
            "newNonce of https://ca.test/dir is \"\", which isn't an https URL"
        );
        for member in [
            "newNonce",
            "newAccount",
            "newOrder",
            "renewalInfo",
            "finalize",
            "certificate",
        ] {
            for url in [
                "file:///etc/passwd",
                "https:///x",
                "http://ca.test/x",
                "/x",
                "https://ca.test:99999/",
                "a b",
            ] {
                let text = refused(&format!("{{{member:?}: {url:?}}}"));
                assert!(text.starts_with(member) && text.contains(url), "{text}");
            }
        }
        let lists = r#"{"authorizations": ["https://ca.test/1", "https:///2"]}"#;
        assert!(refused(lists).starts_with("authorizations of "));
        let lists = r#"{"challenges": [{"type": "dns-01", "url": "nowhere"}]}"#;
        assert!(refused(lists).contains("\"nowhere\""));
        assert!(!refused("{\"newNonce\": \"a\\n\\u001b[2J\"}").contains(['\n', '\u{1b}']));
    }

    #[test]
    fn what_has_none_or_is_no_resource_is_left_to_the_library() {
        for body in [
            r#"{"newNonce": "https://ca.test/nonce", "revokeCert": "", "certificate": null}"#,
            r#"{"newNonce": 1}"#,
            "-----BEGIN CERTIFICATE-----",
            "",
        ] {
            assert_eq!(refused(body), "", "{body}");
        }
    }
}
