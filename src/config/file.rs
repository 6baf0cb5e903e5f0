//! The configuration file as people write it: every key, and whether it may be left out.
//!
//! `config/portcullis.yaml` explains the keys; what is said of them here is what editors show (`config/schema.json`). Unknown
//! keys are errors. Nothing here has a default and nothing is checked against anything else: that is `resolve`.

use std::collections::HashMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{self, Deserializer, MapAccess, Visitor};

use super::checks::LevelWord;
use super::client_certificates::Fingerprints;
use super::error::quoted;
use super::scalar::{
    AdminAddress, BackendTlsMode, Count, DurationValue, Failures, FileName, Greeting,
    ListenAddress, NameServerAddress, Network, NoticeText, PortRange, Sha256, Times, WaitValue,
    Weight,
};
use super::transfer_logs::FormatWord;
use super::{
    AskClients, Balance, CertificateLayout, CloseNotify, CrlExpired, PassiveMode, ProxyVersion,
    SessionReuse, Status, TlsMode, TlsVersion, UnknownUsers,
};
use crate::policy::users::UserPattern;
use crate::policy::{CertificateUser, DeniedCommand, Preset, Rate};

const VERIFY_HELP: &str = "write `system`, `none`, {ca: FILE} or {fingerprint: \"sha256:HEX\"}";

#[derive(Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
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
    pub transfer_logs: Option<Vec<TransferLog>>,
    pub admin: Option<Admin>,
}

/// A file with a line for each transfer that is over and each file that was changed.
#[derive(Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(
    deny_unknown_fields,
    expecting = "a transfer log such as {file: /var/log/portcullis/xferlog, format: xferlog}"
)]
pub(super) struct TransferLog {
    /// The file, which is appended to.
    pub file: FileName,
    /// How its lines are written.
    pub format: FormatWord,
    /// With the SHA-256 of what was transferred: json alone. Default: false.
    pub sha256: Option<bool>,
}

/// The name servers for `expand` and `srv`.
#[derive(Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(
    deny_unknown_fields,
    expecting = "a map such as {servers: [10.0.0.53]}"
)]
pub(super) struct Dns {
    /// IP or IP:port; without them, the name servers of /etc/resolv.conf.
    pub servers: Vec<NameServerAddress>,
}

/// An address that clients connect to.
#[derive(Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(
    deny_unknown_fields,
    expecting = "a listener such as {address: 0.0.0.0:21, tls: explicit}"
)]
pub(super) struct Listener {
    /// IP:port; `[::]:21` takes IPv6 alone.
    pub address: ListenAddress,
    /// explicit: AUTH TLS on the FTP port. implicit: TLS from the first byte.
    pub tls: TlsMode,
    /// For a listener behind load balancers: each connection has to begin with a PROXY protocol header.
    pub proxy_protocol: Option<ProxyProtocol>,
}

/// The hosts whose PROXY protocol headers name the client.
#[derive(Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(
    deny_unknown_fields,
    expecting = "a map such as {trusted: [10.0.0.0/28]}"
)]
pub(super) struct ProxyProtocol {
    /// The networks of the load balancers, and of no other hosts.
    pub trusted: Vec<Network>,
}

/// The certificate that clients are shown, and the TLS that they have to speak.
#[derive(Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(test, schemars(extend(
    "anyOf" = [{"required": ["certificate"]}, {"required": ["private_key"]}, {"required": ["acme"]}],
    "dependencies" = {"certificate": ["private_key"], "private_key": ["certificate"]},
)))]
#[serde(
    deny_unknown_fields,
    expecting = "a map with `certificate` and `private_key`"
)]
pub(super) struct Tls {
    /// PEM chain, leaf first. New contents are taken up at once. May be left out with `acme`.
    pub certificate: Option<FileName>,
    /// PEM private key of the leaf.
    pub private_key: Option<FileName>,
    /// Further certificates, for clients that name one of their names. Default: none.
    pub more: Option<Vec<MoreCertificates>>,
    /// Orders a certificate, and renews it.
    pub acme: Option<Acme>,
    /// Refuse USER before TLS. Default: true.
    pub required: Option<bool>,
    /// Must a data connection resume the TLS session of its control connection? Default: prefer.
    pub session_reuse: Option<SessionReuse>,
    /// Must an upload under TLS end with close_notify? Default: require.
    pub close_notify: Option<CloseNotify>,
    /// The oldest TLS version. Default: 1.2.
    pub min_version: Option<TlsVersion>,
    /// Refuse transfers without PROT P. Default: false.
    pub data_required: Option<bool>,
    /// Certificates by which clients prove their identity. Default: none.
    pub client_certificates: Option<ClientCertificates>,
}

/// Whether clients are asked for a certificate, and which authorities vouch for them.
#[derive(Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(
    deny_unknown_fields,
    expecting = "a map such as {ca: partners-ca.pem, ask: optional}"
)]
pub(super) struct ClientCertificates {
    /// PEM file of the authorities that issue clients' certificates. New contents are taken up at once.
    pub ca: Option<FileName>,
    /// Files with the revocation lists of all of them, in PEM or DER. New contents are taken up at once.
    pub crl: Option<Vec<FileName>>,
    /// Is a certificate refused once the list of its issuer is past its next update? Default: refuse.
    pub crl_expired: Option<CrlExpired>,
    /// Which clients are asked: optional leaves it to the sites, required refuses all others in the handshake. Default: none.
    pub ask: Option<AskClients>,
}

/// One certificate beside the central one, or a directory of them.
#[derive(Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(
    deny_unknown_fields,
    expecting = "a pair such as {certificate: ftpb.crt, private_key: ftpb.key}, or {directory: /etc/letsencrypt/live, layout: certbot}"
)]
pub(super) struct MoreCertificates {
    /// PEM chain, leaf first. New contents are taken up at once.
    pub certificate: Option<FileName>,
    /// PEM private key of the leaf.
    pub private_key: Option<FileName>,
    /// In place of a pair: a directory that holds certificates, with `layout`.
    pub directory: Option<FileName>,
    /// How they lie there.
    pub layout: Option<CertificateLayout>,
}

/// A certificate that is ordered by ACME (RFC 8555), and renewed in time.
#[derive(Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(
    deny_unknown_fields,
    expecting = "a map with `directory_url`, `state`, `names` and `challenge`"
)]
pub(super) struct Acme {
    /// The authority: the https URL of its directory.
    pub directory_url: String,
    /// Whom it may write to: mailto:NAME@HOST.
    pub contact: Option<Vec<String>>,
    /// The directory for the key of the account, the certificate and the schedule; made if it is not there.
    pub state: FileName,
    /// The names that the certificate is for. Wildcards only with `challenge: {dns: PROGRAM}`.
    pub names: Vec<String>,
    /// The kind of certificate. Default: the authority's.
    pub profile: Option<String>,
    /// The account that you have with the authority, if it wants one.
    pub external_account: Option<ExternalAccount>,
    /// How the authority is shown that the names are yours.
    pub challenge: AcmeChallenge,
    /// The roots by which the server of the authority is verified. Default: those of the system.
    pub ca: Option<FileName>,
}

/// An account with an authority that was made elsewhere.
#[derive(Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(
    deny_unknown_fields,
    expecting = "a map such as {key_id: ID, hmac_file: FILE}"
)]
pub(super) struct ExternalAccount {
    /// What the authority calls the key.
    pub key_id: String,
    /// The file that holds the key, as the authority shows it.
    pub hmac_file: FileName,
}

/// One of the three.
#[derive(Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(
    deny_unknown_fields,
    expecting = "a map such as {http: 0.0.0.0:80}, {tls_alpn: 0.0.0.0:443} or {dns: PROGRAM}"
)]
pub(super) struct AcmeChallenge {
    /// Answers over HTTP at this address, which port 80 of the names has to lead to; open only while an order runs.
    pub http: Option<ListenAddress>,
    /// Answers over TLS at this address, which port 443 of the names has to lead to; open only while an order runs.
    pub tls_alpn: Option<ListenAddress>,
    /// A program that makes the TXT records, and removes them.
    pub dns: Option<FileName>,
}

/// Passive data connections.
#[derive(Deserialize, Default)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, expecting = "a map with `ports` or `address`")]
pub(super) struct Passive {
    /// One port or a range, outside the ephemeral ports of the kernel. Default: 30000-30063.
    pub ports: Option<PortRange>,
    /// Announced in 227 replies: an IPv4 address, a name, or `control` for the one that the client connected to (the default).
    pub address: Option<String>,
    /// Announced in place of `ports`, where NAT changes ports: as many.
    pub announced_ports: Option<PortRange>,
    /// Other announcements for some clients; the first entry that has the network of the client counts.
    pub by_client: Option<Vec<AnnouncedTo>>,
    /// How long the data connection of a transfer that was not complete may still arrive. Default: 2s.
    pub reuse_delay: Option<DurationValue>,
}

/// What the clients of some networks are sent.
#[derive(Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(
    deny_unknown_fields,
    expecting = "a map such as {networks: [10.0.0.0/8], address: control}"
)]
pub(super) struct AnnouncedTo {
    /// Their networks.
    pub networks: Vec<Network>,
    /// As in `passive`.
    pub address: String,
    /// As in `passive`.
    pub announced_ports: Option<PortRange>,
}

/// Ways of naming a host in USER besides `host|user`.
#[derive(Deserialize, Default)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(
    deny_unknown_fields,
    expecting = "a map with `user_at_host` or `host_backslash_user`"
)]
pub(super) struct UserForms {
    /// `user@host`, split at the last @. Default: false.
    pub user_at_host: Option<bool>,
    /// `host\user`, split at the first backslash. Default: false.
    pub host_backslash_user: Option<bool>,
}

/// A virtual host, and the servers behind it.
#[derive(Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(
    deny_unknown_fields,
    expecting = "a site, a map with `name` and `backends`"
)]
pub(super) struct Site {
    /// Your name for it in logs and metrics.
    pub name: String,
    /// Takes logins that name no host; at most one site. Default: false.
    pub default: Option<bool>,
    /// Its names. `*.` stands for any one label.
    pub hosts: Option<Vec<String>>,
    /// The servers behind it.
    pub backends: Option<Vec<Backend>>,
    /// Users with backends of their own; the first group that has a user applies.
    pub groups: Option<Vec<Group>>,
    /// What becomes of users of no group. Default: accept.
    pub unknown_users: Option<UnknownUsers>,
    /// What the backend gets as USER: `{user}` (the default), `{host}|{user}` or `{user}@{host}`.
    pub user: Option<String>,
    /// For this site alone. Default: that of `tls`.
    pub session_reuse: Option<SessionReuse>,
    /// How its servers are asked for data connections. Default: auto.
    pub passive_mode: Option<PassiveMode>,
    /// For this site alone. Default: that of `tls`.
    pub close_notify: Option<CloseNotify>,
    /// Which backend a login tries first. Default: first.
    pub balance: Option<Balance>,
    /// How long a login waits while every backend has `max_sessions`. Default: 0s.
    pub queue: Option<WaitValue>,
    /// Checks its backends without a login of a client. Default: no checks.
    pub health: Option<Health>,
    /// The networks whose clients may log in.
    pub clients: Option<Clients>,
    /// By which certificates clients prove their identity; `tls.client_certificates` has to ask for them.
    pub client_certificate: Option<ClientCertificate>,
    /// What clients may do, whatever rights the server gives them.
    pub commands: Option<Commands>,
    /// Takes the site out of service: 421 with this text to each login.
    pub maintenance: Option<NoticeText>,
    /// Stands before the server's own reply to a login.
    pub login_text: Option<NoticeText>,
    /// How fast files and listings go, in bits a second and each way by itself.
    pub rate: Option<RateLimits>,
}

/// Users with backends of their own.
#[derive(Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(
    deny_unknown_fields,
    expecting = "a group such as {name: moved, users: [alice], backends: [{address: 10.0.0.21:21}]}"
)]
pub(super) struct Group {
    /// Your name for it in logs.
    pub name: String,
    /// Names, in any case, and beginnings of names with one star behind them.
    pub users: Option<Vec<UserPattern>>,
    /// Further names, one a line. A new file is in use within a second.
    pub users_file: Option<FileName>,
    /// Their servers.
    pub backends: Vec<Backend>,
}

/// The networks whose clients may log in; others get 530.
#[derive(Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(
    deny_unknown_fields,
    expecting = "a map such as {allow: [10.0.0.0/8], deny: [10.9.0.0/16]}"
)]
pub(super) struct Clients {
    /// Default: all.
    pub allow: Option<Vec<Network>>,
    /// Taken from those.
    pub deny: Option<Vec<Network>>,
}

/// Which client certificate is right for which user.
#[derive(Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(
    deny_unknown_fields,
    expecting = "a map such as {required: true, user: cn}"
)]
pub(super) struct ClientCertificate {
    /// Whether every login needs the right one. Default: true.
    pub required: Option<bool>,
    /// Which part of it has to be the user in USER. Default: cn.
    pub user: Option<CertificateUser>,
    /// By user: the one certificate, or the list of certificates, that the user may have, of any issuer.
    pub pinned: Option<HashMap<String, Fingerprints>>,
    /// A file with a line `user:password` for each user who is logged in at the server by the certificate alone.
    pub credentials: Option<FileName>,
}

/// Commands that are answered 550.
#[derive(Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(
    deny_unknown_fields,
    expecting = "a map such as {preset: read_only} or {deny: [DELE, \"SITE CHMOD\"]}"
)]
pub(super) struct Commands {
    /// What is left: read_only, list and download; upload_only, list, upload and make directories.
    pub preset: Option<Preset>,
    /// These as well, in any form: MKD is XMKD, too.
    pub deny: Option<Vec<DeniedCommand>>,
}

/// Bits a second, at least 64k.
#[derive(Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(
    deny_unknown_fields,
    expecting = "a map such as {site: 500M, session: 50M}"
)]
pub(super) struct RateLimits {
    /// All sessions of the site together.
    pub site: Option<Rate>,
    /// Each session.
    pub session: Option<Rate>,
}

/// Checks of a site's backends.
#[derive(Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(
    deny_unknown_fields,
    expecting = "a map such as {level: greeting, interval: 10s} or {level: off}"
)]
pub(super) struct Health {
    /// How far a check goes. Default: tls where the backend speaks it, else greeting.
    pub level: Option<LevelWord>,
    /// From one check of a backend to the next. Default: 10s.
    pub interval: Option<DurationValue>,
    /// So many failed checks in a row, and it is down. Default: 3.
    pub fall: Option<Times>,
    /// So many good ones in a row, and it is up again. Default: 2.
    pub rise: Option<Times>,
    /// The account of checks that log in.
    pub login: Option<Probe>,
}

/// The account of checks that log in: one of its own, that may do nothing but list.
#[derive(Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(
    deny_unknown_fields,
    expecting = "a map such as {user: probe, password_file: /etc/portcullis/probe.pw}"
)]
pub(super) struct Probe {
    /// Sent as it is.
    pub user: String,
    /// Holds its password in one line.
    pub password_file: FileName,
    /// What is listed. Default: /.
    pub path: Option<String>,
}

/// A server behind a site.
#[derive(Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(
    deny_unknown_fields,
    expecting = "a backend such as {address: 10.0.0.10:21}"
)]
pub(super) struct Backend {
    /// What it is called in metrics and in the log. Default: its address.
    pub name: Option<String>,
    /// IP:port, name:port or [IPv6]:port. Default port: 21, or 990 if implicit.
    pub address: Option<String>,
    /// Every address that the name has is a backend of its own. Default: false.
    pub expand: Option<bool>,
    /// In place of `address`: the servers that these SRV records list.
    pub srv: Option<String>,
    /// When TLS starts towards it. Default: none.
    pub tls: Option<BackendTlsMode>,
    /// How its certificate is verified. Default: system.
    pub verify: Option<Verify>,
    /// The name to send and to expect in its certificate. Default: the host in `address`.
    pub server_name: Option<String>,
    /// The newest TLS version offered. Default: 1.2.
    pub max_version: Option<TlsVersion>,
    /// Shown to it where it asks clients for a certificate, on control and data connections alike. Default: none.
    pub client_certificate: Option<KeyPair>,
    /// Its share of the logins relative to the others; 0: takes no new sessions. Default: 100.
    pub weight: Option<Weight>,
    /// No more sessions than this, of all sites. Default: any number.
    pub max_sessions: Option<Count>,
    /// Keeps its sessions and takes no new ones. Default: false.
    pub drain: Option<bool>,
    /// Serves only where no other backend can. Default: false.
    pub backup: Option<bool>,
    /// Sends it a PROXY protocol header with the address of the client. Default: none.
    pub proxy_protocol: Option<SentProxyProtocol>,
}

/// A certificate and its private key.
#[derive(Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(
    deny_unknown_fields,
    expecting = "a map with `certificate` and `private_key`"
)]
pub(super) struct KeyPair {
    /// PEM chain, leaf first. New contents are taken up at once.
    pub certificate: FileName,
    /// PEM private key of the leaf.
    pub private_key: FileName,
}

/// The PROXY protocol header that a backend gets.
#[derive(Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, expecting = "a map such as {version: 2}")]
pub(super) struct SentProxyProtocol {
    /// 1: a line of text. 2: binary, with the host, the TLS and the id of the session.
    pub version: ProxyVersion,
    /// The data connections to it begin with one as well. Default: false.
    pub data: Option<bool>,
}

/// How many sessions at once; beyond it a client is told 421.
#[derive(Deserialize, Default)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(
    deny_unknown_fields,
    expecting = "a map such as {sessions: 10000, sessions_per_client: 100}"
)]
pub(super) struct Limits {
    /// In all. Default: 10000.
    pub sessions: Option<Count>,
    /// At one site. Default: nine tenths of `sessions`, or all of them where there is only one site.
    pub sessions_per_site: Option<Count>,
    /// From one client: an IPv4 address, an IPv6 /64. Default: 100.
    pub sessions_per_client: Option<Count>,
    /// Begun by one client. Default: 6000.
    pub sessions_per_client_per_minute: Option<Count>,
    /// Networks for which the limits for each client don't hold.
    pub allow: Option<Vec<Network>>,
}

/// Delays and blocks for clients with failed logins.
#[derive(Deserialize, Default)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(
    deny_unknown_fields,
    expecting = "a map such as {failures: 20, allow: [10.0.0.0/8]}"
)]
pub(super) struct Guard {
    /// So many in a row block a client. Default: 20.
    pub failures: Option<Failures>,
    /// All of them are forgotten after this time, evenly. Default: 10m.
    pub window: Option<DurationValue>,
    /// How long the fourth reply is held back; each further one twice as long. Default: 1s.
    pub delay: Option<DurationValue>,
    /// No reply is held back for longer. Default: 10s, or half of timeouts.login.
    pub max_delay: Option<DurationValue>,
    /// How long a client is blocked. Default: 10m.
    pub block: Option<DurationValue>,
    /// Networks never held back or refused.
    pub allow: Option<Vec<Network>>,
}

/// How long anything may take.
#[derive(Deserialize, Default)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(
    deny_unknown_fields,
    expecting = "a map of durations such as {idle: 5m}"
)]
pub(super) struct Timeouts {
    /// A TLS handshake. Default: 10s.
    pub tls_handshake: Option<DurationValue>,
    /// From accept to logged in, TLS included. Default: 60s.
    pub login: Option<DurationValue>,
    /// A control connection without a command while no transfer runs. Default: 5m.
    pub idle: Option<DurationValue>,
    /// The wait for a data port that other sessions of the same address hold. Default: 15s.
    pub data_port: Option<DurationValue>,
    /// From 150 or PASV to an open data connection. Default: 20s.
    pub data_connect: Option<DurationValue>,
    /// A transfer without a byte. Default: 5m.
    pub data_idle: Option<DurationValue>,
    /// The backend's reply after the last byte of a transfer. Default: 10m.
    pub final_reply: Option<DurationValue>,
    /// Running transfers after SIGTERM. Default: 5m.
    pub drain: Option<DurationValue>,
    /// From SIGTERM to the drain: /readyz fails, and clients are still served. Default: 0s.
    pub lame_duck: Option<WaitValue>,
    /// A TCP connection to a backend, name resolution included. Default: 10s.
    pub backend_connect: Option<DurationValue>,
    /// Until a backend has answered USER, before the next one is tried.
    pub backend_attempt: Option<DurationValue>,
    /// The backend's reply to any other command. Default: 5m.
    pub backend_reply: Option<DurationValue>,
}

/// The process from outside: metrics, probes and the live view over HTTP, and a socket for actions.
#[derive(Deserialize, Default)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(
    deny_unknown_fields,
    expecting = "a map such as {address: 127.0.0.1:9190}"
)]
pub(super) struct Admin {
    /// Where it is read, or off. Default: 127.0.0.1:9190.
    pub address: Option<AdminAddress>,
    /// How much the status page and the live view show there: summary leaves out the names of users and files. Default:
    /// summary.
    pub status: Option<Status>,
    /// The file with the token that everything but the probes wants. Default: none.
    pub token_file: Option<FileName>,
    /// The Unix socket that takes actions, of mode 0660. Default: none.
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
