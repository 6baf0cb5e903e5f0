//! Read access: over TCP with the token if there is one, and never for a page of another site; over the Unix socket to
//! everything, for all users whom the file system lets in.

use std::net::{IpAddr, SocketAddr};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use data_encoding::BASE64;
use hyper::header::{AUTHORIZATION, HOST, HeaderMap};

use crate::config::{AdminSettings, Status};
use crate::view::Disclosure;

/// How a request came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Via {
    /// The request came over TCP, for reading only.
    Tcp,
    /// Over the Unix socket, from a process of this user.
    Socket(Operator),
}

/// The process at the other end of the Unix socket, as the kernel says (`SO_PEERCRED`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Operator {
    /// The user of the process.
    pub uid: u32,
    /// The process id; `None` if the kernel doesn't tell it.
    pub pid: Option<i32>,
}

/// Why a request is refused before anything is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The token is missing or wrong.
    Unauthorised,
    /// The page that asks was loaded under a name that isn't this endpoint's: DNS rebinding.
    ForeignHost,
    /// The configuration doesn't show it.
    NotShown,
}

/// Whether a metric may be read.
pub(super) fn admit_metrics(
    via: Via,
    headers: &HeaderMap,
    settings: &AdminSettings,
) -> Result<(), Refusal> {
    match via {
        Via::Socket(_) => Ok(()),
        Via::Tcp => check_token(headers, settings),
    }
}

/// Whether the live view may be read, and how much of it.
pub(super) fn admit_view(
    via: Via,
    headers: &HeaderMap,
    settings: &AdminSettings,
) -> Result<Disclosure, Refusal> {
    if let Via::Socket(_) = via {
        return Ok(Disclosure::Full);
    }
    let disclosure = match settings.status {
        Status::Off => return Err(Refusal::NotShown),
        Status::Summary => Disclosure::Summary,
        Status::Full => Disclosure::Full,
    };
    if !is_own_host(headers, settings.address) {
        return Err(Refusal::ForeignHost);
    }
    check_token(headers, settings)?;
    Ok(disclosure)
}

/// A browser sends the name under which it has looked us up. One that another site's owner may point at this machine would
/// let that site's scripts read what we answer; an address, and `localhost`, can't be pointed elsewhere.
fn is_own_host(headers: &HeaderMap, address: Option<SocketAddr>) -> bool {
    let mut hosts = headers.get_all(HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else {
        return false;
    };
    let Ok(host) = host.to_str() else {
        return false;
    };
    if host.parse::<SocketAddr>().is_ok() || host.parse::<IpAddr>().is_ok() {
        return true;
    }
    if let Some(bare) = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
    {
        return bare.parse::<IpAddr>().is_ok();
    }
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) => (name, Some(port)),
        None => (host, None),
    };
    let is_port = port.is_none_or(|port| {
        let own = address.map(|address| address.port());
        // Port 0 is the operating system's choice.
        port.parse()
            .is_ok_and(|port| own == Some(port) || own == Some(0))
    });
    name.eq_ignore_ascii_case("localhost") && is_port
}

/// As `Bearer`, or as the password of any name, which is what browsers ask their users for.
fn check_token(headers: &HeaderMap, settings: &AdminSettings) -> Result<(), Refusal> {
    let Some(token) = &settings.token else {
        return Ok(());
    };
    let presented = headers.get(AUTHORIZATION).and_then(|it| it.to_str().ok());
    let (scheme, value) = presented
        .and_then(|value| value.split_once(' '))
        .ok_or(Refusal::Unauthorised)?;
    let value = value.trim();
    let presented = if scheme.eq_ignore_ascii_case("bearer") {
        value.as_bytes().to_vec()
    } else if scheme.eq_ignore_ascii_case("basic") {
        let decoded = BASE64
            .decode(value.as_bytes())
            .map_err(|_| Refusal::Unauthorised)?;
        let colon = decoded.iter().position(|byte| *byte == b':');
        decoded[colon.map_or(0, |colon| colon + 1)..].to_vec()
    } else {
        return Err(Refusal::Unauthorised);
    };
    verify_slices_are_equal(&presented, token.secret.expose()).map_err(|_| Refusal::Unauthorised)
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;
    use crate::base::secret::Secret;
    use crate::config::SecretFile;

    fn headers(name: hyper::header::HeaderName, value: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(name, HeaderValue::from_str(value).expect("a value"));
        headers
    }

    #[test]
    fn only_names_that_nobody_else_can_point_here_are_its_own() {
        let address = Some("127.0.0.1:9190".parse().expect("an address"));
        for own in [
            "127.0.0.1:9190",
            "10.0.0.7",
            "[::1]:9190",
            "[::1]",
            "localhost",
            "LocalHost:9190",
        ] {
            assert!(is_own_host(&headers(HOST, own), address), "{own}");
        }
        for foreign in [
            "evil.example",
            "evil.example:9190",
            "localhost.evil.example",
            "localhost:80",
            "localhost:x",
            "",
            "127.0.0.1.evil.example",
            "[::1].evil.example",
        ] {
            assert!(!is_own_host(&headers(HOST, foreign), address), "{foreign}");
        }
        assert!(!is_own_host(&HeaderMap::new(), address));
        let mut twice = headers(HOST, "localhost");
        twice.append(HOST, HeaderValue::from_static("evil.example"));
        assert!(!is_own_host(&twice, address));
    }

    #[test]
    fn the_token_opens_in_both_forms_and_nothing_else_does() {
        let settings = AdminSettings {
            token: Some(SecretFile {
                path: "admin.token".into(),
                secret: Secret::new(b"s:cret".to_vec()),
            }),
            ..AdminSettings::default()
        };
        let basic = |text: &str| format!("Basic {}", BASE64.encode(text.as_bytes()));
        for right in ["Bearer s:cret", "bearer  s:cret", &basic("anyone:s:cret")] {
            let headers = headers(AUTHORIZATION, right);
            assert_eq!(check_token(&headers, &settings), Ok(()), "{right}");
        }
        for wrong in [
            "Bearer s:cre",
            "Bearer s:crett",
            "Bearer ",
            "s:cret",
            "Basic !",
            "Digest s:cret",
            &basic("s:cret"),
            &basic("anyone:"),
        ] {
            let headers = headers(AUTHORIZATION, wrong);
            let refused = Err(Refusal::Unauthorised);
            assert_eq!(check_token(&headers, &settings), refused, "{wrong}");
        }
        let none = check_token(&HeaderMap::new(), &settings);
        assert_eq!(none, Err(Refusal::Unauthorised));
    }
}
