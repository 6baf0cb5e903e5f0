//! Records of the transfer logs for a session's events: transfers that are over, and changes of files.

use std::net::SocketAddr;

use jiff::Timestamp;

use super::{SessionEvent, TransferRecord};
use crate::ftp::command::{Command, Verb};
use crate::ftp::directory::Directory;
use crate::observe::transfer_log::TransferLogs;
use crate::observe::transfer_log::record::{DataTls, Event, LogRecord, Transfer};
use crate::outcome::{DataHandshake, Verdict};
use crate::session::info::SessionInfo;
use crate::session::machine::{FileChange, Protection};

/// Writes an event to the transfer logs, if there are any and it is one for them.
pub(super) fn write(
    event: &SessionEvent<'_>,
    info: &SessionInfo,
    server: SocketAddr,
    logs: &TransferLogs,
) {
    if logs.is_empty() {
        return;
    }
    match event {
        SessionEvent::Transfer(transfer) => {
            let reason = transfer.reason();
            let (reply, directory) = (transfer.details.reply, &transfer.details.directory);
            let event = Event::Transfer(of_transfer(transfer, reason.as_deref()));
            write_record(
                transfer.command,
                directory,
                reply,
                event,
                info,
                server,
                logs,
            );
        }
        SessionEvent::FileChanged(change) => {
            let FileChange {
                command,
                directory,
                renamed,
                reply,
            } = change;
            let full = renamed
                .as_ref()
                .and_then(|(from, directory)| directory.path_in(from));
            let renamed = renamed
                .as_ref()
                .map(|(from, _)| (from.argument(), full.as_deref()));
            let event = Event::Change { renamed };
            write_record(command, directory, Some(*reply), event, info, server, logs);
        }
        _ => {}
    }
}

fn write_record(
    command: &Command,
    directory: &Directory,
    reply: Option<u16>,
    event: Event<'_>,
    info: &SessionInfo,
    server: SocketAddr,
    logs: &TransferLogs,
) {
    let (host, user) = (info.host(), info.user_bytes());
    let backend = info.backend();
    let full_path = directory.path_in(command);
    logs.write(&LogRecord {
        time: Timestamp::now(),
        session: info.global_id(),
        client: info.client,
        server,
        site: &info.site_name(),
        host: host.as_ref().map(|host| host.as_str()),
        user: &user,
        backend: backend.as_ref().map(|backend| backend.address),
        backend_name: backend.as_ref().map(|backend| &*backend.name),
        tls: info.client_tls(),
        command: &canonical(command),
        path: command.shown_argument(),
        full_path: full_path.as_deref(),
        reply,
        event,
    });
}

fn of_transfer<'a>(transfer: &TransferRecord<'_>, reason: Option<&'a str>) -> Transfer<'a> {
    let TransferRecord {
        direction,
        progress,
        details,
        ..
    } = transfer;
    let verdict = transfer.verdict();
    let stats = progress.stats.as_ref();
    Transfer {
        direction: *direction,
        verdict,
        reason,
        bytes: progress.bytes,
        offset: details.offset,
        duration: progress.elapsed,
        first_byte: stats.and_then(|it| it.first_byte()),
        representation: details.representation,
        mode: details.mode,
        data_tls: data_tls(details.protection, progress.handshake()),
        sha256: stats
            .filter(|_| verdict == Verdict::Complete)
            .and_then(|it| it.sha256()),
        hashed_part: details.hashed_part,
    }
}

fn data_tls(protection: Protection, handshake: Option<DataHandshake>) -> DataTls {
    match (protection, handshake) {
        (Protection::Clear, _) => DataTls::Off,
        (Protection::Private, Some(DataHandshake::Full)) => DataTls::Full,
        (Protection::Private, Some(DataHandshake::Resumed)) => DataTls::Resumed,
        (Protection::Private, Some(DataHandshake::Failed) | None) => DataTls::NotEstablished,
    }
}

/// The verb in capitals, and under the name that RFC 959 has for it.
fn canonical(command: &Command) -> String {
    match command.verb() {
        Verb::Mkd => "MKD".to_owned(),
        Verb::Rmd => "RMD".to_owned(),
        _ => command.verb_text().to_ascii_uppercase(),
    }
}
