//! The scalar values of the file format: words, durations, ports, addresses, fingerprints.
//!
//! Each is read from the text of the YAML scalar, whatever type YAML would give it, so that `1.2` and `"1.2"` are the
//! same version and `5` is reported to lack a unit. Every error says what to write instead.

mod read;

use std::fmt;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use serde::de::{self, Deserialize, Deserializer, Visitor};

use super::checks::LevelWord;
use super::transfer_logs::FormatWord;
use super::{
    AskClients, Balance, CertificateLayout, CloseNotify, CrlExpired, PassiveMode, ProxyVersion,
    SessionReuse, Status, TlsMode, TlsVersion, UnknownUsers,
};
use crate::policy::users::UserPattern;
use crate::policy::{CertificateUser, DeniedCommand, Notice, Preset, Rate};

/// What is wrong with a value, and what to write instead.
pub(super) struct ValueError {
    message: String,
    help: String,
}

impl ValueError {
    fn new(message: impl Into<String>, help: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            help: help.into(),
        }
    }

    /// As an error of the YAML reader, which carries a single text: the message, then the help on its own line.
    pub(super) fn into_error<E: de::Error>(self) -> E {
        E::custom(format_args!("{}\n{}", self.message, self.help))
    }
}

/// A length of time, never zero: `500ms`, `10s`, `5m`, `1h`.
pub(super) struct DurationValue(pub Duration);

/// One port or a range; `0..=0` is the operating system's choice.
pub(super) struct PortRange(pub RangeInclusive<u16>);

/// One port or a range, from the command line.
///
/// # Errors
/// Why it is none, and what to write instead.
pub(super) fn port_range(text: &str) -> Result<RangeInclusive<u16>, String> {
    read::port_range(text).map_err(|ValueError { message, help }| format!("{message}; {help}"))
}

/// A number of things, at least one.
pub(super) struct Count(pub usize);

/// How many failed logins block a client, at least one.
pub(super) struct Failures(pub usize);

/// How often something has to happen in a row, at least once.
pub(super) struct Times(pub u32);

/// A length of time that may be zero.
pub(super) struct WaitValue(pub Duration);

/// A backend's share of the logins, relative to the others'; 0 for none.
pub(super) struct Weight(pub u32);

/// A network in CIDR notation, or one address.
pub(super) struct Network(pub IpNet);

/// An IP address with a port to listen on.
pub(super) struct ListenAddress(pub SocketAddr);

/// Where the admin endpoint is read, if anywhere.
pub(super) struct AdminAddress(pub Option<SocketAddr>);

/// Where a name server is asked, on port 53 unless written.
pub(super) struct NameServerAddress(pub SocketAddr);

/// When TLS starts towards a backend, if at all.
#[derive(Clone, Copy)]
pub(super) struct BackendTlsMode(pub Option<TlsMode>);

/// The name of a file, as written.
pub(super) struct FileName(pub PathBuf);

/// The text of the greeting: one line, not empty.
pub(super) struct Greeting(pub String);

/// Text for clients, of one or more lines.
pub(super) struct NoticeText(pub Notice);

/// A SHA-256.
pub(super) struct Sha256(pub [u8; 32]);

/// Implements `Deserialize` for `$type` by handing the scalar's text to `$read`.
macro_rules! read_from_text {
    ($($type:ty: $expected:literal, $read:expr;)*) => {$(
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_str(Text { expected: $expected, read: $read })
            }
        }
    )*};
}

read_from_text! {
    DurationValue: "a duration such as 500ms, 10s, 5m or 1h", |text| read::duration(text).map(DurationValue);
    PortRange: "a port or a range of ports such as 30000-30063", |text| read::port_range(text).map(PortRange);
    Count: "a whole number from 1", |text| read::count(text).map(Count);
    Failures: "a whole number from 1", |text| read::failures(text).map(Failures);
    WaitValue: "a duration such as 10s, or 0s", |text| read::wait(text).map(WaitValue);
    Times: "a whole number from 1 to 100", |text| read::times(text).map(Times);
    Weight: "a whole number from 0 to 1000", |text| read::weight(text).map(Weight);
    ListenAddress: "an address and port such as 0.0.0.0:21", |text| read::listen_address(text).map(ListenAddress);
    AdminAddress: "an address and port such as 127.0.0.1:9190, or `off`", read::admin_address;
    Status: "`off`, `summary` or `full`", |text| read::one_of(
        text,
        &[("off", Self::Off), ("summary", Self::Summary), ("full", Self::Full)],
    );
    NameServerAddress: "the address of a name server such as 10.0.0.53", |text| read::name_server(text).map(NameServerAddress);
    Network: "a network such as 10.0.0.0/8", |text| read::network(text).map(Network);
    FileName: "a file name", |text| read::file_name(text).map(FileName);
    Greeting: "the text of the greeting", |text| read::greeting(text).map(Greeting);
    NoticeText: "a text for clients", |text| read::notice(text).map(NoticeText);
    UserPattern: "the name of a user, or a prefix such as \"acme-*\"", read::user_pattern;
    DeniedCommand: "a command such as DELE or \"SITE CHMOD\"", read::denied_command;
    Rate: "a number of bits a second such as 50M", read::rate;
    Sha256: "a fingerprint such as \"sha256:9f86d0...\"", |text| read::fingerprint(text).map(Sha256);
    TlsMode: "`explicit` or `implicit`", |text| read::one_of(
        text,
        &[("explicit", Self::Explicit), ("implicit", Self::Implicit)],
    );
    BackendTlsMode: "`none`, `explicit` or `implicit`", |text| read::one_of(
        text,
        &[
            ("none", Self(None)),
            ("explicit", Self(Some(TlsMode::Explicit))),
            ("implicit", Self(Some(TlsMode::Implicit))),
        ],
    );
    SessionReuse: "`off`, `prefer` or `require`", |text| read::one_of(
        text,
        &[("off", Self::Off), ("prefer", Self::Prefer), ("require", Self::Require)],
    );
    PassiveMode: "`auto`, `epsv`, `pasv` or `active`", |text| read::one_of(
        text,
        &[
            ("auto", Self::Auto),
            ("epsv", Self::Epsv),
            ("pasv", Self::Pasv),
            ("active", Self::Active),
        ],
    );
    Balance: "`first`, `round_robin`, `least_sessions`, `by_user` or `by_client`", |text| read::one_of(
        text,
        &[
            ("first", Self::First),
            ("round_robin", Self::RoundRobin),
            ("least_sessions", Self::LeastSessions),
            ("by_user", Self::ByUser),
            ("by_client", Self::ByClient),
        ],
    );
    LevelWord: "`off`, `connect`, `greeting`, `tls`, `login` or `list`", |text| read::one_of(
        text,
        &[
            ("off", Self::Off),
            ("connect", Self::Connect),
            ("greeting", Self::Greeting),
            ("tls", Self::Tls),
            ("login", Self::Login),
            ("list", Self::List),
        ],
    );
    FormatWord: "`json`, `xferlog` or `w3c`", |text| read::one_of(
        text,
        &[("json", Self::Json), ("xferlog", Self::Xferlog), ("w3c", Self::W3c)],
    );
    UnknownUsers: "`accept` or `refuse`", |text| read::one_of(
        text,
        &[("accept", Self::Accept), ("refuse", Self::Refuse)],
    );
    Preset: "`read_only` or `upload_only`", |text| read::one_of(
        text,
        &[("read_only", Self::ReadOnly), ("upload_only", Self::UploadOnly)],
    );
    CertificateLayout: "`certbot`, `pairs`, `combined` or `kubernetes`", |text| read::one_of(
        text,
        &[
            ("certbot", Self::Certbot),
            ("pairs", Self::Pairs),
            ("combined", Self::Combined),
            ("kubernetes", Self::Kubernetes),
        ],
    );
    CloseNotify: "`require` or `optional`", |text| read::one_of(
        text,
        &[("require", Self::Require), ("optional", Self::Optional)],
    );
    AskClients: "`none`, `optional` or `required`", |text| read::one_of(
        text,
        &[("none", Self::None), ("optional", Self::Optional), ("required", Self::Required)],
    );
    CrlExpired: "`refuse` or `accept`", |text| read::one_of(
        text,
        &[("refuse", Self::Refuse), ("accept", Self::Accept)],
    );
    CertificateUser: "`cn`, `email`, `dns` or `none`", |text| read::one_of(
        text,
        &[("cn", Self::Cn), ("email", Self::Email), ("dns", Self::Dns), ("none", Self::None)],
    );
    ProxyVersion: "a version of the PROXY protocol, 1 or 2", |text| read::one_of(
        text,
        &[("1", Self::V1), ("2", Self::V2)],
    );
    TlsVersion: "a TLS version, \"1.2\" or \"1.3\"", |text| read::one_of(
        text,
        &[("1.2", Self::V1_2), ("1.3", Self::V1_3)],
    );
}

struct Text<T> {
    expected: &'static str,
    read: fn(&str) -> Result<T, ValueError>,
}

impl<T> Visitor<'_> for Text<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expected)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        (self.read)(text).map_err(ValueError::into_error)
    }
}
