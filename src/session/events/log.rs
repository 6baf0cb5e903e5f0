//! The log line of each event.
//!
//! Every line has the session's number, and then the client's address or, where the backend is at fault, the site's name. Between
//! them is the id that the backend knows the session by, at sites where PROXY headers are sent. The macros below put them there,
//! and not a span of tracing: in JSON a span's fields stand in an object of their own and in text in front of the message, every
//! line would have all of them, and a span is entered at each poll of the session's task, so that each piece of a transfer would
//! cost something for it.

use std::io;
use std::time::Duration;

use tracing::field::DisplayValue;

use super::{LoginContext, LoginRecord, RunningRecord, SessionEvent, TransferRecord, Transfers};
use crate::base::GlobalSessionId;
use crate::base::text::{escape, escape_lines};
use crate::config::{HostName, TlsVersion};
use crate::ftp::directory::Directory;
use crate::ftp::server::{PortMethod, PortMethods};
use crate::outcome::{DataHandshake, LoginResult, Verdict};
use crate::policy::client_certificate::CertificateResult;
use crate::policy::{Admission, ClientIdentity};
use crate::route::Rule;
use crate::session::info::{BackendInfo, SessionInfo};
use crate::session::machine::{Ending, FileChange, Protection};
use crate::tls;
use crate::tls::client_certificates::{refused_certificate, shown_fingerprint};

/// A line that names the session and its client.
macro_rules! of_client {
    ($level:ident, $info:expr, $($rest:tt)+) => {
        tracing::$level!(session = $info.id.0, id = sent_id($info), client = %$info.client, $($rest)+)
    };
}

/// A line that names the session, its client, its site and its user.
macro_rules! of_user {
    ($level:ident, $info:expr, $($rest:tt)+) => {
        of_client!($level, $info, site = &*$info.site_name(), user = $info.user(), $($rest)+)
    };
}

/// A line that names the session and its site.
macro_rules! of_site {
    ($level:ident, $info:expr, $($rest:tt)+) => {
        tracing::$level!(session = $info.id.0, id = sent_id($info), site = &*$info.site_name(), $($rest)+)
    };
}

/// The session's id as backends know it, if they are sent it.
fn sent_id(info: &SessionInfo) -> Option<DisplayValue<GlobalSessionId>> {
    info.sent_id().map(tracing::field::display)
}

/// Logs an event.
pub(super) fn log(event: &SessionEvent<'_>, info: &SessionInfo) {
    match event {
        SessionEvent::Secured { .. }
        | SessionEvent::FailuresEvicted { .. }
        | SessionEvent::ReplyDelayed { .. } => {}
        SessionEvent::HandshakeFailed {
            error,
            certificate,
            refused,
        } => log_failed_handshake(error, *certificate, *refused, info),
        SessionEvent::HandshakeTimedOut => {
            of_client!(info, info, "TLS handshake with the client took too long");
        }
        SessionEvent::TlsWithoutAuth => of_client!(
            info,
            info,
            "client began TLS without AUTH; it may expect an implicit listener"
        ),
        SessionEvent::ClearTextBehindAuth => of_client!(
            warn,
            info,
            "clear text behind AUTH: possible command injection"
        ),
        // It is the address that is blocked, whatever the port.
        SessionEvent::ClientBlocked { site, time } => tracing::warn!(
            session = info.id.0,
            id = sent_id(info),
            client = %info.client.ip(),
            site,
            seconds = in_seconds(*time),
            "client blocked after too many failed logins"
        ),
        SessionEvent::SiteFull { site, limit } => of_client!(
            warn,
            info,
            site,
            limit,
            "login refused, the site has as many sessions as limits.sessions_per_site allows"
        ),
        SessionEvent::BackendsFull { site } => of_client!(
            warn,
            info,
            site,
            "login refused, each backend of the site has as many sessions as its max_sessions allows, or failed"
        ),
        SessionEvent::DialDelayed => of_client!(
            warn,
            info,
            site = &*info.site_name(),
            "login delayed, its client has dialled backends more often than limits.sessions_per_client_per_minute allows"
        ),
        SessionEvent::BackendUnavailable {
            site,
            backend,
            error,
        } => of_client!(
            warn,
            info,
            site,
            %backend,
            stage = error.stage().as_str(),
            %error,
            hint = error.hint(backend),
            "backend not available"
        ),
        SessionEvent::Certificate {
            admission,
            identity,
        } => log_certificate(*admission, *identity, info),
        SessionEvent::CredentialsRefused { code } => {
            let backend = info.backend();
            let backend = backend.as_ref();
            of_user!(
                error,
                info,
                backend = backend.map(|it| tracing::field::display(it.address)),
                backend_name = backend.and_then(backend_name),
                reply = code,
                "the backend refused the password that `client_certificate.credentials` has for this user: write the right \
                 one into that file"
            );
        }
        SessionEvent::Login(login) => log_login(login, info),
        SessionEvent::Refused { command, answer } => of_user!(
            info,
            info,
            command = command.verb_text(),
            argument = escape(command.argument()),
            reply = answer.text(),
            "command refused"
        ),
        SessionEvent::Denied(command) => of_user!(
            info,
            info,
            command = command.verb_text(),
            argument = escape(command.shown_argument()),
            "command denied by the site's policy"
        ),
        SessionEvent::ManyRefused => of_user!(
            info,
            info,
            "further refused commands of this session are not logged"
        ),
        SessionEvent::MethodsAvoided { backend, methods } => of_site!(
            info,
            info,
            %backend,
            avoided = names(*methods),
            "data port method avoided at this backend for an hour; passive_mode can fix the method for the site"
        ),
        SessionEvent::NotListening(error) => {
            of_site!(warn, info, %error, "cannot listen for a data connection from the backend");
        }
        SessionEvent::NoDataEndpoint(error) => {
            of_site!(warn, info, %error, "no data connection, since a control connection is lost");
        }
        SessionEvent::NoBackendPort(reply) => {
            let reply = reply.map(|reply| escape_lines(reply.bytes()));
            of_site!(warn, info, reply, "backend opened no data port");
        }
        SessionEvent::NoPassivePort(no_port) => of_client!(
            warn,
            info,
            ports = no_port.ports,
            ports_needed = no_port.needed,
            "no passive port became free for this address: its transfers that do not resume the TLS session of their \
             control connection need a port each"
        ),
        SessionEvent::UnexpectedEvent { state, event } => of_client!(
            error,
            info,
            site = &*info.site_name(),
            state,
            event,
            "a fault of Portcullis: an event that its state cannot take; please report it"
        ),
        SessionEvent::BackendLost {
            stage,
            reason,
            hint,
        } => {
            let backend = info.backend();
            let backend = backend.as_ref();
            of_site!(
                warn,
                info,
                backend = backend.map(|it| tracing::field::display(it.address)),
                backend_name = backend.and_then(backend_name),
                stage = stage.as_str(),
                %reason,
                hint,
                "backend's control connection lost"
            );
        }
        // Busy servers have as many of these as transfers.
        SessionEvent::TransferBegins(transfer) => of_user!(
            debug,
            info,
            command = transfer.command.verb_text(),
            path = escape(transfer.command.argument()),
            directory = directory(transfer.directory),
            "transfer begins"
        ),
        SessionEvent::TransferRuns(transfer) => log_running(transfer, info),
        SessionEvent::Transfer(transfer) => log_transfer(transfer, info),
        SessionEvent::FileChanged(change) => log_change(change, info),
        SessionEvent::Ended {
            ending, transfers, ..
        } => log_end(*ending, transfers, info),
    }
}

fn log_failed_handshake(
    error: &io::Error,
    certificate: Option<&str>,
    refused: Option<&ClientIdentity>,
    info: &SessionInfo,
) {
    let result = refused_certificate(error);
    let fault = refused.and_then(|identity| identity.chain.as_ref().err());
    let error = tls::classify_error(error);
    of_client!(
        info,
        info,
        certificate,
        result = result.map(CertificateResult::as_str),
        client_certificate = refused.map(|it| &*it.subject),
        client_fingerprint = refused.map(shown_fingerprint),
        detail = fault.map(|fault| &*fault.detail),
        %error,
        "TLS handshake with the client failed"
    );
}

fn log_certificate(admission: Admission, identity: Option<&ClientIdentity>, info: &SessionInfo) {
    let result = match admission {
        Admission::Ignored(result) | Admission::Refused(result) => result,
        // The line of the login has it.
        Admission::NotAsked | Admission::Proven => return,
    };
    let detail = match identity.map(|identity| &identity.chain) {
        Some(Err(fault)) if fault.result == result => Some(&*fault.detail),
        _ => None,
    };
    of_user!(
        info,
        info,
        result = result.as_str(),
        client_certificate = identity.map(|it| &*it.subject),
        client_fingerprint = identity.map(shown_fingerprint),
        detail,
        "client certificate {}",
        match admission {
            Admission::Ignored(_) => "rejected, the login continues without it",
            _ => "rejected, the login is refused",
        }
    );
}

fn log_login(login: &LoginRecord, info: &SessionInfo) {
    let LoginRecord {
        result,
        refusal,
        site,
        user,
        rule,
        host,
        context,
        ..
    } = login;
    let LoginContext {
        server_name,
        protection: level,
        elapsed,
    } = context;
    let chosen_by = rule.map(Rule::as_str);
    let host = host.as_ref().map(HostName::as_str);
    let sni = server_name.as_ref().map(HostName::as_str);
    if *result == LoginResult::Accepted {
        let backend = info.backend();
        let backend = backend.as_ref();
        let certificate = info.certificate();
        of_client!(
            info,
            info,
            site = &**site,
            group = info.group_name(),
            user,
            backend = backend.map(|it| tracing::field::display(it.address)),
            backend_name = backend.and_then(backend_name),
            chosen_by,
            host,
            sni,
            client_tls = version(info.client_tls()),
            prot = protection(*level),
            client_certificate = certificate.as_deref().map(|it| &*it.subject),
            client_fingerprint = certificate.as_deref().map(shown_fingerprint),
            seconds = in_seconds(*elapsed),
            "logged in"
        );
    } else {
        of_client!(
            info,
            info,
            site = &**site,
            user,
            result = result.as_str(),
            reply = refusal.as_ref().map(|refusal| &*refusal.reply),
            hint = refusal.as_ref().and_then(|refusal| refusal.hint),
            chosen_by,
            host,
            sni,
            client_tls = version(info.client_tls()),
            seconds = in_seconds(*elapsed),
            "login failed"
        );
    }
}

fn log_running(transfer: &RunningRecord<'_>, info: &SessionInfo) {
    let RunningRecord {
        command,
        directory: at,
        progress,
    } = transfer;
    of_user!(
        info,
        info,
        command = command.verb_text(),
        path = escape(command.argument()),
        directory = directory(at),
        bytes = progress.bytes,
        seconds = in_seconds(progress.elapsed),
        "transfer still runs"
    );
}

fn log_change(change: &FileChange, info: &SessionInfo) {
    let FileChange {
        command,
        directory: at,
        renamed,
        reply,
    } = change;
    let renamed = renamed.as_ref();
    of_user!(
        info,
        info,
        command = command.verb_text(),
        path = escape(command.shown_argument()),
        directory = directory(at),
        renamed_from = renamed.map(|(from, _)| escape(from.argument())),
        from_directory = renamed
            .filter(|(_, from)| from != at)
            .and_then(|(_, from)| directory(from)),
        reply,
        "file changed"
    );
}

fn log_transfer(transfer: &TransferRecord<'_>, info: &SessionInfo) {
    let verdict = transfer.verdict();
    let about = transfer.details;
    let throttled = transfer.progress.throttled.filter(|time| !time.is_zero());
    of_user!(
        info,
        info,
        command = transfer.command.verb_text(),
        path = escape(transfer.command.argument()),
        directory = directory(&about.directory),
        bytes = transfer.progress.bytes,
        offset = Some(about.offset).filter(|offset| *offset > 0),
        seconds = in_seconds(transfer.progress.elapsed),
        held_back = throttled.map(in_seconds),
        mode = about.mode.as_str(),
        prot = protection(about.protection),
        resumed = match transfer.progress.handshake() {
            Some(DataHandshake::Resumed) => Some(true),
            Some(DataHandshake::Full) => Some(false),
            Some(DataHandshake::Failed) | None => None,
        },
        reply = about.reply,
        verdict = verdict.as_str(),
        reason = transfer.reason(),
        "transfer {}",
        if verdict == Verdict::Complete {
            "complete"
        } else {
            "not complete"
        },
    );
}

/// Logs the session's own line.
fn log_end(ending: Ending, transfers: &Transfers, info: &SessionInfo) {
    let backend = info.backend();
    let backend = backend.as_ref();
    of_client!(
        info,
        info,
        listener = %info.listener,
        client_tls = version(info.client_tls()),
        site = &*info.site_name(),
        user = info.user(),
        backend = backend.map(|backend| tracing::field::display(backend.address)),
        backend_name = backend.and_then(backend_name),
        backend_tls = backend.map(|backend| version(backend.tls)),
        logged_in = info.is_logged_in(),
        transfers = transfers.count,
        uploaded = transfers.uploaded,
        downloaded = transfers.downloaded,
        seconds = in_seconds(info.since.elapsed()),
        ending = ending.as_str(),
        "session ended"
    );
}

/// The label of the backend's entry, where that isn't its address.
fn backend_name(backend: &BackendInfo) -> Option<&str> {
    (*backend.name != backend.address.to_string()).then_some(&*backend.name)
}

/// To a millisecond: anything finer would be useless digits, or `1.4e-5`.
fn in_seconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e3).round() / 1e3
}

fn names(methods: PortMethods) -> String {
    let names: Vec<_> = [
        (PortMethod::Epsv, "EPSV"),
        (PortMethod::Pasv, "PASV"),
        (PortMethod::Active, "PORT"),
    ]
    .into_iter()
    .filter_map(|(method, name)| methods.has(method).then_some(name))
    .collect();
    names.join(" ")
}

/// As far as it is known, and shown.
fn directory(directory: &Directory) -> Option<String> {
    directory.path().map(escape)
}

/// The protection level as the argument of PROT.
fn protection(level: Protection) -> &'static str {
    match level {
        Protection::Clear => "C",
        Protection::Private => "P",
    }
}

fn version(tls: Option<TlsVersion>) -> &'static str {
    tls.map_or("none", TlsVersion::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_three_decimals_at_most() {
        for (microseconds, text) in [
            (14, "0.0"),
            (1_499, "0.001"),
            (3_757_461, "3.757"),
            (600_000_000, "600.0"),
        ] {
            let seconds = in_seconds(Duration::from_micros(microseconds));
            assert_eq!(format!("{seconds:?}"), text);
        }
    }
}
