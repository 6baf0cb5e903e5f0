//! Notes on the certificates of clients: authorities and revocation lists that don't do what they seem to.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::SystemTime;

use super::{Note, NoteCode};
use crate::base::text::{escape, escape_path};
use crate::config::{AskClients, ClientCertificates, CrlExpired, Settings, Site, UnknownUsers};
use crate::policy::CertificateRules;
use crate::tls::{ClientTrust, Date, RevocationList};

/// The mode bit of a file that every user can read.
const READABLE_BY_OTHERS: u32 = 0o004;

/// The notes about clients' certificates.
pub(super) fn notes(settings: &Settings, clients: &ClientTrust, now: SystemTime) -> Vec<Note> {
    let Some(asked) = &settings.tls.client_certificates else {
        return Vec::new();
    };
    let mut notes = Vec::new();
    notes.extend(unused(asked, settings));
    for authority in clients.authorities() {
        if !authority.is_authority {
            notes.push(Note::warning(NoteCode::ClientAuthorityNotCa, format!(
                "client certificates: the certificate of {} in `ca` is not a CA certificate (no CA:TRUE) and cannot have \
                 issued others; to accept one specific certificate use `pinned`",
                authority.subject
            )));
        } else if !asked.crls.is_empty() && !authority.has_list {
            notes.push(Note::warning(NoteCode::ClientAuthorityWithoutCrl, format!(
                "client certificates: `crl` has no revocation list of {}, so each certificate of it is refused",
                authority.subject
            )));
        }
    }
    for list in clients.lists() {
        if let Some(end) = list.next_update.filter(|end| *end < now) {
            notes.push(ended(asked, list, end));
        }
        if !list.is_of_authority {
            notes.push(Note::hint(NoteCode::CrlOfNoAuthority, format!(
                "client certificates: the revocation list in {} is of {}, which is none of the authorities in `ca`; it counts \
                 only if that issuer's certificate comes with the client's",
                escape_path(&list.file),
                list.issuer
            )));
        }
    }
    for site in &settings.sites {
        if let Some(rules) = &site.policy.client_certificate {
            notes.extend(unknown_pinned(site, rules));
        }
    }
    notes
}

/// The notes on revocation lists that have ended since then.
pub fn ended_since<'a>(
    settings: &'a Settings,
    clients: &'a ClientTrust,
    since: SystemTime,
    now: SystemTime,
) -> impl Iterator<Item = Note> + 'a {
    let asked = settings.tls.client_certificates.iter();
    asked.flat_map(move |asked| {
        let ends = clients.lists().iter();
        let ends = ends.filter_map(|list| Some((list, list.next_update?)));
        ends.filter(move |(_, end)| *end >= since && *end < now)
            .map(|(list, end)| ended(asked, list, end))
    })
}

fn ended(asked: &ClientCertificates, list: &RevocationList, end: SystemTime) -> Note {
    let consequence = match asked.crl_expired {
        CrlExpired::Refuse => "each certificate of that issuer is refused",
        CrlExpired::Accept => "what has been revoked since is not known",
    };
    Note::warning(
        NoteCode::CrlExpired,
        format!(
            "client certificates: the revocation list of {} in {} is past its next update of {}: {consequence}; fetch a new one",
            list.issuer,
            escape_path(&list.file),
            Date(end)
        ),
    )
}

fn unused(asked: &ClientCertificates, settings: &Settings) -> Option<Note> {
    match asked.ask {
        AskClients::None => Some(Note::hint(
            NoteCode::ClientCertificatesUnused,
            "client certificates: `ask` is none, so no client is asked for one; write `ask: optional`",
        )),
        AskClients::Optional if settings.certificate_rules().next().is_none() => Some(Note::hint(
            NoteCode::ClientCertificatesUnused,
            "client certificates: clients are asked for one, and no site has `client_certificate` to make use of it",
        )),
        AskClients::Optional | AskClients::Required => None,
    }
}

/// Pinned users who could not log in with any certificate.
fn unknown_pinned<'a>(
    site: &'a Site,
    rules: &'a CertificateRules,
) -> impl Iterator<Item = Note> + 'a {
    let is_closed = site.unknown_users == UnknownUsers::Refuse
        && site.groups.iter().all(|group| group.users_file.is_none());
    let mut users: Vec<&[u8]> = rules.pinned.keys().map(AsRef::as_ref).collect();
    users.sort_unstable();
    let users = users.into_iter();
    users
        .filter(move |user| is_closed && !site.groups.iter().any(|it| it.users.contains(user)))
        .map(|user| {
            Note::hint(NoteCode::PinnedUserUnknown, format!(
                "site {}: {} is pinned, and in no group, so `unknown_users: refuse` never lets that user in",
                site.name,
                escape(user)
            ))
        })
}

/// The notes on files of passwords that other users of the machine may read. Blocks on the file system.
pub(super) fn on_permissions(settings: &Settings) -> impl Iterator<Item = Note> {
    settings.sites.iter().filter_map(|site| {
        let rules = site.policy.client_certificate.as_ref()?;
        readable(site, rules)
    })
}

fn readable(site: &Site, rules: &CertificateRules) -> Option<Note> {
    let path = rules.credentials.as_deref()?;
    let mode = fs::metadata(path).ok()?.permissions().mode();
    (mode & READABLE_BY_OTHERS != 0).then(|| {
        Note::warning(NoteCode::CredentialsReadable, format!(
            "site {}: every user of this machine may read the passwords in {}; fix: `chmod o= {}`",
            site.name,
            escape_path(path),
            escape_path(path)
        ))
    })
}
