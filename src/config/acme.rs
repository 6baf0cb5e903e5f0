//! The section on ordering certificates: from which authority (RFC 8555), for which names, and how it is shown that they are
//! ours.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use data_encoding::{BASE64URL_NOPAD, DecodeError};
use hyper::Uri;

use super::error::{Fault, quoted};
use super::location::{Location, PathStep, steps};
use super::secret_file::SecretFile;
use super::{HostPattern, file};
use crate::base::secret::Secret;

/// The most names that one certificate is ordered for: what Let's Encrypt takes.
const MAX_NAMES: usize = 100;
/// The longest URL, address of a contact, profile or id of a key, in bytes.
const MAX_TEXT: usize = 1024;

/// Which certificate is ordered, and from whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AcmeSettings {
    /// Where the authority lists what it offers; `https`.
    pub directory_url: String,
    /// Whom the authority may write to, as `mailto:` addresses.
    pub contact: Vec<String>,
    /// The directory of the account, the certificate and the schedule.
    pub state: PathBuf,
    /// What the certificate is for; never empty, no name twice.
    pub names: Vec<HostPattern>,
    /// The kind of certificate; `None` is the authority's choice.
    pub profile: Option<String>,
    /// The account that the operator has with the authority, if that wants one.
    pub external_account: Option<ExternalAccount>,
    /// How it is shown that the names are ours.
    pub challenge: AcmeChallenge,
    /// The roots by which the authority's own server is verified; `None` is the system's.
    pub ca: Option<PathBuf>,
}

/// An account by which the authority knows the operator already (RFC 8555 §7.3.4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExternalAccount {
    /// What the authority calls the key.
    pub key_id: String,
    /// The key, decoded once it has been read.
    pub hmac: SecretFile,
}

/// How it is shown that a name is ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AcmeChallenge {
    /// By a file over HTTP (RFC 8555 §8.3), at this address.
    Http(SocketAddr),
    /// By a certificate over TLS (RFC 8737), at this address.
    TlsAlpn(SocketAddr),
    /// By a TXT record (RFC 8555 §8.4), which this program makes.
    Dns(PathBuf),
}

impl AcmeSettings {
    /// The file of the ordered chain.
    pub fn certificate(&self) -> PathBuf {
        self.state.join("default.crt")
    }

    /// The file of its key.
    pub fn private_key(&self) -> PathBuf {
        self.state.join("default.key")
    }
}

impl AcmeChallenge {
    /// The key for it.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Http(_) => "http",
            Self::TlsAlpn(_) => "tls_alpn",
            Self::Dns(_) => "dns",
        }
    }

    /// Where the authority connects to.
    pub fn address(&self) -> Option<SocketAddr> {
        match self {
            Self::Http(address) | Self::TlsAlpn(address) => Some(*address),
            Self::Dns(_) => None,
        }
    }
}

/// Where in the file an address or program of the challenge stands.
pub(super) fn challenge_location(challenge: &AcmeChallenge) -> Location {
    Location::Value(steps!["tls", "acme", "challenge", challenge.as_str()])
}

/// Fills in the defaults and refuses what can't work. Relative file names count from `base`.
pub(super) fn resolve(written: file::Acme, base: &Path) -> Result<AcmeSettings, Fault> {
    let challenge = challenge(written.challenge, base)?;
    Ok(AcmeSettings {
        directory_url: directory_url(written.directory_url)?,
        contact: contact(written.contact.unwrap_or_default())?,
        state: base.join(written.state.0),
        names: names(&written.names, &challenge)?,
        profile: written.profile.map(|it| word(it, "profile")).transpose()?,
        external_account: written
            .external_account
            .map(|account| {
                Ok(ExternalAccount {
                    key_id: word(account.key_id, "external_account")?,
                    hmac: SecretFile::named(base.join(account.hmac_file.0)),
                })
            })
            .transpose()?,
        challenge,
        ca: written.ca.map(|file| base.join(file.0)),
    })
}

fn key(key: &'static str) -> Vec<PathStep> {
    steps!["tls", "acme", key]
}

fn directory_url(url: String) -> Result<String, Fault> {
    let parsed = url.parse::<Uri>().ok();
    let is_good = parsed.as_ref().and_then(https_port).is_some();
    if is_good && url.len() <= MAX_TEXT {
        return Ok(url);
    }
    Err(Fault::new(
        Location::Value(key("directory_url")),
        format!(
            "{} isn't the https URL of an authority's directory",
            quoted(&url)
        ),
        "write what the authority names, such as https://acme-v02.api.letsencrypt.org/directory",
    ))
}

/// The port of an `https` URL that names a host and no user: 443 where it has none. `None` for any other URL, so also for one
/// whose port is no number of 16 bits.
pub fn https_port(url: &Uri) -> Option<u16> {
    let authority = url.authority().filter(|it| !it.host().is_empty())?;
    if url.scheme_str() != Some("https") || authority.as_str().contains('@') {
        return None;
    }
    if authority.as_str() == authority.host() {
        return Some(443);
    }
    authority.port_u16().filter(|port| *port > 0)
}

fn contact(written: Vec<String>) -> Result<Vec<String>, Fault> {
    for (index, contact) in written.iter().enumerate() {
        let address = contact.strip_prefix("mailto:").unwrap_or_default();
        let is_plain = address.bytes().all(|byte| byte.is_ascii_graphic());
        // Authorities refuse the other parts of a mailto URL (RFC 8555 §7.3).
        let is_one = is_plain && !address.contains([',', '?', '%']);
        let has_both = address
            .split_once('@')
            .is_some_and(|(name, host)| !name.is_empty() && !host.is_empty());
        if !(is_one && has_both && contact.len() <= MAX_TEXT) {
            return Err(Fault::new(
                Location::Value(steps!["tls", "acme", "contact", index]),
                format!(
                    "{} isn't an address that the authority could write to",
                    quoted(contact)
                ),
                "write one such as mailto:ops@example.com, or leave `contact` out",
            ));
        }
    }
    Ok(written)
}

fn word(text: String, at: &'static str) -> Result<String, Fault> {
    let is_good = (1..=MAX_TEXT).contains(&text.len()) && !text.contains(char::is_control);
    is_good.then_some(text).ok_or_else(|| {
        Fault::new(
            Location::Key(key(at)),
            "a text that is empty, too long or has control characters",
            "write what the authority names, or leave it out",
        )
    })
}

fn names(written: &[String], challenge: &AcmeChallenge) -> Result<Vec<HostPattern>, Fault> {
    if written.is_empty() || written.len() > MAX_NAMES {
        return Err(Fault::new(
            Location::Key(key("names")),
            format!("a certificate for {} names", written.len()),
            format!("write the names that clients connect to, 1 to {MAX_NAMES} of them"),
        ));
    }
    let mut names: Vec<HostPattern> = Vec::with_capacity(written.len());
    for (index, text) in written.iter().enumerate() {
        let at = || Location::Value(steps!["tls", "acme", "names", index]);
        let is_address = text.parse::<IpAddr>().is_ok();
        let name = HostPattern::parse(text).filter(|_| !is_address);
        let Some(name) = name else {
            return Err(Fault::new(
                at(),
                format!("{} isn't a DNS name", quoted(text)),
                "write a name such as ftp.example.com; international names in their xn-- form",
            ));
        };
        let is_wildcard = matches!(name, HostPattern::AnyLabelBefore(_));
        if is_wildcard && !matches!(challenge, AcmeChallenge::Dns(_)) {
            return Err(Fault::new(
                at(),
                format!(
                    "{} with `challenge: {{{}: ...}}`: authorities issue wildcards by DNS alone",
                    quoted(text),
                    challenge.as_str()
                ),
                "write the names one by one, or `challenge: {dns: PROGRAM}`",
            ));
        }
        if names.contains(&name) {
            return Err(Fault::new(
                at(),
                format!("{} stands there twice", quoted(text)),
                "take one of them out",
            ));
        }
        names.push(name);
    }
    Ok(names)
}

fn challenge(written: file::AcmeChallenge, base: &Path) -> Result<AcmeChallenge, Fault> {
    let file::AcmeChallenge {
        http,
        tls_alpn,
        dns,
    } = written;
    let challenge = match (http, tls_alpn, dns) {
        (Some(address), None, None) => AcmeChallenge::Http(address.0),
        (None, Some(address), None) => AcmeChallenge::TlsAlpn(address.0),
        (None, None, Some(program)) => AcmeChallenge::Dns(base.join(program.0)),
        _ => {
            return Err(Fault::new(
                Location::Key(key("challenge")),
                "there has to be one way of showing the authority that the names are yours",
                "write one: {http: 0.0.0.0:80}, {tls_alpn: 0.0.0.0:443} or {dns: PROGRAM}",
            ));
        }
    };
    if challenge.address().is_some_and(|it| it.port() == 0) {
        return Err(Fault::new(
            challenge_location(&challenge),
            "port 0, at which no authority would look",
            "write the port that port 80 (http) or 443 (tls_alpn) of the names leads to",
        ));
    }
    Ok(challenge)
}

/// Reads and decodes the key of an external account. Blocks on the file system.
pub(super) fn read_key(acme: &mut AcmeSettings) -> Result<(), Fault> {
    let Some(account) = &mut acme.external_account else {
        return Ok(());
    };
    let read = account.hmac.read("key").and_then(|()| {
        let decoded = decoded(account.hmac.secret.expose());
        account.hmac.secret =
            decoded.map_err(|_| account.hmac.fault("the key isn't in base64url"))?;
        Ok(())
    });
    read.map_err(|wrong| {
        Fault::new(
            Location::Value(steps!["tls", "acme", "external_account", "hmac_file"]),
            wrong,
            "write the name of a file here, not its contents: one that holds the key in one line, as the authority shows it (base64url), and that Portcullis \
             may read",
        )
    })
}

/// Authorities show it with padding and without.
fn decoded(text: &[u8]) -> Result<Secret, DecodeError> {
    let text = text.trim_ascii();
    let end = text.iter().rposition(|byte| *byte != b'=');
    let text = &text[..end.map_or(0, |last| last + 1)];
    BASE64URL_NOPAD.decode(text).map(Secret::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_read_with_padding_and_without() {
        for text in ["aGk_aA", "aGk_aA==", " aGk_aA==\t"] {
            let key = decoded(text.as_bytes()).expect("base64url");
            assert_eq!(key.expose(), b"hi?h", "{text}");
        }
        assert!(decoded(b"aGk+aA==").is_err());
    }

    #[test]
    fn the_port_of_an_https_url_is_the_one_written_or_443_and_no_other() {
        for (url, port) in [
            ("https://ca.test/dir", Some(443)),
            ("https://ca.test:14000/dir", Some(14000)),
            ("https://[::1]/dir", Some(443)),
            ("https://[::1]:14000/dir", Some(14000)),
            ("https://ca.test:70000/dir", None),
            ("https://ca.test:0/dir", None),
            ("https://user@ca.test/dir", None),
            ("http://ca.test/dir", None),
            ("/dir", None),
        ] {
            assert_eq!(https_port(&url.parse().unwrap()), port, "{url}");
        }
    }
}
