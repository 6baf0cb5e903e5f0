//! The configuration file as people write it: every key, and whether it may be left out.
//!
//! `config/portcullis.yaml` explains the keys. Unknown keys are errors. Nothing here has a default and nothing is
//! checked against anything else: that is `resolve`.

use std::fmt;

use serde::Deserialize;
use serde::de::{self, Deserializer, MapAccess, Visitor};

use super::checks::LevelWord;
use super::error::quoted;
use super::scalar::{
    AdminAddress, BackendTlsMode, Count, DurationValue, FileName, Greeting, ListenAddress,
    NameServerAddress, Network, NoticeText, PortRange, Sha256, Times, WaitValue, Weight,
};
use super::{
    Balance, CloseNotify, PassiveMode, ProxyVersion, SessionReuse, Status, TlsMode, TlsVersion,
    UnknownUsers,
};
use crate::policy::users::UserPattern;
use crate::policy::{DeniedCommand, Preset, Rate};

const VERIFY_HELP: &str = "write `system`, `none`, {ca: FILE} or {fingerprint: \"sha256:HEX\"}";

#[derive(Deserialize)]
#[serde(
    deny_unknown_fields,
    expecting = "a map with the sections `listeners`, `tls` and `sites`"
)]
pub(super) struct File {
    pub listeners: Vec<Listener>,
    pub greeting: Option<Greeting>,
    pub tls: Tls,
    pub passive: Option<Passive>,
    pub user_forms: Option<UserForms>,
    pub sites: Vec<Site>,
    pub active_mode: Option<bool>,
    pub limits: Option<Limits>,
    pub guard: Option<Guard>,
    pub timeouts: Option<Timeouts>,
    pub dns: Option<Dns>,
    pub admin: Option<Admin>,
}

#[derive(Deserialize)]
#[serde(
    deny_unknown_fields,
    expecting = "a map such as {servers: [10.0.0.53]}"
)]
pub(super) struct Dns {
    pub servers: Vec<NameServerAddress>,
}

#[derive(Deserialize)]
#[serde(
    deny_unknown_fields,
    expecting = "a listener such as {address: 0.0.0.0:21, tls: explicit}"
)]
pub(super) struct Listener {
    pub address: ListenAddress,
    pub tls: TlsMode,
    pub proxy_protocol: Option<ProxyProtocol>,
}

#[derive(Deserialize)]
#[serde(
    deny_unknown_fields,
    expecting = "a map such as {trusted: [10.0.0.0/28]}"
)]
pub(super) struct ProxyProtocol {
    pub trusted: Vec<Network>,
}

#[derive(Deserialize)]
#[serde(
    deny_unknown_fields,
    expecting = "a map with `certificate` and `private_key`"
)]
pub(super) struct Tls {
    pub certificate: FileName,
    pub private_key: FileName,
    pub required: Option<bool>,
    pub session_reuse: Option<SessionReuse>,
    pub close_notify: Option<CloseNotify>,
    pub min_version: Option<TlsVersion>,
    pub data_required: Option<bool>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, expecting = "a map with `ports` or `address`")]
pub(super) struct Passive {
    pub ports: Option<PortRange>,
    pub address: Option<String>,
    pub announced_ports: Option<PortRange>,
    pub by_client: Option<Vec<AnnouncedTo>>,
    pub reuse_delay: Option<DurationValue>,
}

#[derive(Deserialize)]
#[serde(
    deny_unknown_fields,
    expecting = "a map such as {networks: [10.0.0.0/8], address: control}"
)]
pub(super) struct AnnouncedTo {
    pub networks: Vec<Network>,
    pub address: String,
    pub announced_ports: Option<PortRange>,
}

#[derive(Deserialize, Default)]
#[serde(
    deny_unknown_fields,
    expecting = "a map with `user_at_host` or `host_backslash_user`"
)]
pub(super) struct UserForms {
    pub user_at_host: Option<bool>,
    pub host_backslash_user: Option<bool>,
}

#[derive(Deserialize)]
#[serde(
    deny_unknown_fields,
    expecting = "a site, a map with `name` and `backends`"
)]
pub(super) struct Site {
    pub name: String,
    pub default: Option<bool>,
    pub hosts: Option<Vec<String>>,
    pub backends: Option<Vec<Backend>>,
    pub groups: Option<Vec<Group>>,
    pub unknown_users: Option<UnknownUsers>,
    pub user: Option<String>,
    pub session_reuse: Option<SessionReuse>,
    pub passive_mode: Option<PassiveMode>,
    pub close_notify: Option<CloseNotify>,
    pub balance: Option<Balance>,
    pub queue: Option<WaitValue>,
    pub health: Option<Health>,
    pub clients: Option<Clients>,
    pub commands: Option<Commands>,
    pub maintenance: Option<NoticeText>,
    pub login_text: Option<NoticeText>,
    pub rate: Option<RateLimits>,
}

#[derive(Deserialize)]
#[serde(
    deny_unknown_fields,
    expecting = "a group such as {name: moved, users: [alice], backends: [{address: 10.0.0.21:21}]}"
)]
pub(super) struct Group {
    pub name: String,
    pub users: Option<Vec<UserPattern>>,
    pub users_file: Option<FileName>,
    pub backends: Vec<Backend>,
}

#[derive(Deserialize)]
#[serde(
    deny_unknown_fields,
    expecting = "a map such as {allow: [10.0.0.0/8], deny: [10.9.0.0/16]}"
)]
pub(super) struct Clients {
    pub allow: Option<Vec<Network>>,
    pub deny: Option<Vec<Network>>,
}

#[derive(Deserialize)]
#[serde(
    deny_unknown_fields,
    expecting = "a map such as {preset: read_only} or {deny: [DELE, \"SITE CHMOD\"]}"
)]
pub(super) struct Commands {
    pub preset: Option<Preset>,
    pub deny: Option<Vec<DeniedCommand>>,
}

#[derive(Deserialize)]
#[serde(
    deny_unknown_fields,
    expecting = "a map such as {site: 500M, session: 50M}"
)]
pub(super) struct RateLimits {
    pub site: Option<Rate>,
    pub session: Option<Rate>,
}

#[derive(Deserialize)]
#[serde(
    deny_unknown_fields,
    expecting = "a map such as {level: greeting, interval: 10s} or {level: off}"
)]
pub(super) struct Health {
    pub level: Option<LevelWord>,
    pub interval: Option<DurationValue>,
    pub fall: Option<Times>,
    pub rise: Option<Times>,
    pub login: Option<Probe>,
}

#[derive(Deserialize)]
#[serde(
    deny_unknown_fields,
    expecting = "a map such as {user: probe, password_file: /etc/portcullis/probe.pw}"
)]
pub(super) struct Probe {
    pub user: String,
    pub password_file: FileName,
    pub path: Option<String>,
}

#[derive(Deserialize)]
#[serde(
    deny_unknown_fields,
    expecting = "a backend such as {address: 10.0.0.10:21}"
)]
pub(super) struct Backend {
    pub name: Option<String>,
    pub address: Option<String>,
    pub expand: Option<bool>,
    pub srv: Option<String>,
    pub tls: Option<BackendTlsMode>,
    pub verify: Option<Verify>,
    pub server_name: Option<String>,
    pub max_version: Option<TlsVersion>,
    pub weight: Option<Weight>,
    pub max_sessions: Option<Count>,
    pub drain: Option<bool>,
    pub backup: Option<bool>,
    pub proxy_protocol: Option<SentProxyProtocol>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a map such as {version: 2}")]
pub(super) struct SentProxyProtocol {
    pub version: ProxyVersion,
    pub data: Option<bool>,
}

#[derive(Deserialize, Default)]
#[serde(
    deny_unknown_fields,
    expecting = "a map such as {sessions: 10000, sessions_per_client: 100}"
)]
pub(super) struct Limits {
    pub sessions: Option<Count>,
    pub sessions_per_site: Option<Count>,
    pub sessions_per_client: Option<Count>,
    pub sessions_per_client_per_minute: Option<Count>,
    pub allow: Option<Vec<Network>>,
}

#[derive(Deserialize, Default)]
#[serde(
    deny_unknown_fields,
    expecting = "a map such as {failures: 20, allow: [10.0.0.0/8]}"
)]
pub(super) struct Guard {
    pub failures: Option<Count>,
    pub window: Option<DurationValue>,
    pub delay: Option<DurationValue>,
    pub max_delay: Option<DurationValue>,
    pub block: Option<DurationValue>,
    pub allow: Option<Vec<Network>>,
}

#[derive(Deserialize, Default)]
#[serde(
    deny_unknown_fields,
    expecting = "a map of durations such as {idle: 5m}"
)]
pub(super) struct Timeouts {
    pub tls_handshake: Option<DurationValue>,
    pub login: Option<DurationValue>,
    pub idle: Option<DurationValue>,
    pub data_port: Option<DurationValue>,
    pub data_connect: Option<DurationValue>,
    pub data_idle: Option<DurationValue>,
    pub final_reply: Option<DurationValue>,
    pub drain: Option<DurationValue>,
    pub lame_duck: Option<WaitValue>,
    pub backend_connect: Option<DurationValue>,
    pub backend_attempt: Option<DurationValue>,
    pub backend_reply: Option<DurationValue>,
}

#[derive(Deserialize, Default)]
#[serde(
    deny_unknown_fields,
    expecting = "a map such as {address: 127.0.0.1:9190}"
)]
pub(super) struct Admin {
    pub address: Option<AdminAddress>,
    pub status: Option<Status>,
    pub token_file: Option<FileName>,
    pub socket: Option<FileName>,
}

/// A scalar, or a map with one key.
pub(super) enum Verify {
    System,
    None,
    Ca(FileName),
    Fingerprint(Sha256),
}

impl<'de> Deserialize<'de> for Verify {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(VerifyVisitor)
    }
}

struct VerifyVisitor;

impl<'de> Visitor<'de> for VerifyVisitor {
    type Value = Verify;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("`system`, `none`, {ca: FILE} or {fingerprint: \"sha256:HEX\"}")
    }

    fn visit_str<E: de::Error>(self, word: &str) -> Result<Verify, E> {
        match word {
            "system" => Ok(Verify::System),
            "none" => Ok(Verify::None),
            other => {
                let other = quoted(other);
                Err(E::custom(format_args!(
                    "{other} isn't a way to verify a backend\n{VERIFY_HELP}"
                )))
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Verify, A::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Map {
            ca: Option<FileName>,
            fingerprint: Option<Sha256>,
        }
        match Map::deserialize(de::value::MapAccessDeserializer::new(map))? {
            Map {
                ca: Some(file),
                fingerprint: None,
            } => Ok(Verify::Ca(file)),
            Map {
                ca: None,
                fingerprint: Some(fingerprint),
            } => Ok(Verify::Fingerprint(fingerprint)),
            Map {
                ca: Some(_),
                fingerprint: Some(_),
            } => Err(de::Error::custom(
                "`ca` and `fingerprint` exclude each other\n\
                 keep one; a fingerprint pins one certificate, independent of its issuer",
            )),
            Map {
                ca: None,
                fingerprint: None,
            } => Err(de::Error::custom(format_args!(
                "`verify` is empty\n{VERIFY_HELP}"
            ))),
        }
    }
}
