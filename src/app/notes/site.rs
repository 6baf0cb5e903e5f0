//! Notes on one site: what its clients will stumble over, and settings that don't do what they say.

use super::{Note, NoteCode};
use crate::config::{
    Backend, Balance, DEFAULT_WEIGHT, HostPattern, PassiveMode, Servers, Settings, Site,
    UnknownUsers,
};
use crate::tls::CertificateSet;

/// The port of implicit TLS (deprecated by RFC 4217, and still in wide use).
const IMPLICIT_PORT: u16 = 990;

/// Adds what is worth a note about `site`.
pub(super) fn add_notes(
    notes: &mut Vec<Note>,
    site: &Site,
    settings: &Settings,
    certificates: &CertificateSet,
) {
    for host in &site.hosts {
        if let HostPattern::Exact(name) = host
            && !certificates.pairs().any(|pair| pair.covers(name.as_str()))
        {
            let what = match certificates.has_choice() {
                true => "no certificate covers",
                false => "the certificate does not cover",
            };
            // Clients may say that name in USER alone.
            notes.push(Note::hint(
                NoteCode::HostNotCovered,
                format!(
                    "site {}: {what} {name}; clients that connect to that name will refuse it",
                    site.name
                ),
            ));
        }
    }
    notes.extend(settings_notes(site, settings));
}

fn settings_notes(site: &Site, settings: &Settings) -> Vec<Note> {
    let mut notes = Vec::new();
    for backend in site.all_backends() {
        notes.extend(clear_text_at_implicit_port(site, backend));
        notes.extend(unused_weight(site, backend));
        notes.extend(unused_data_header(site, backend));
    }
    notes.extend(unused_backends(site));
    notes.extend(behind_everybody(site));
    notes.extend(unknown_verbs(site));
    notes.extend(late_attempts(site, settings));
    notes.extend(late_queue(site, settings));
    notes.extend(path_with_options(site));
    notes
}

fn clear_text_at_implicit_port(site: &Site, backend: &Backend) -> Option<Note> {
    let port = backend.servers.endpoint().map(|endpoint| endpoint.port);
    (port == Some(IMPLICIT_PORT) && backend.tls.is_none()).then(|| {
        Note::warning(NoteCode::ClearTextAtImplicitPort, format!(
            "site {}: backend {backend} has the port of implicit TLS but no `tls`, so it is connected to in clear text; write \
             `tls: implicit` if it expects TLS",
            site.name
        ))
    })
}

fn unused_weight(site: &Site, backend: &Backend) -> Option<Note> {
    let is_unused =
        site.balance == Balance::First && ![0, DEFAULT_WEIGHT].contains(&backend.weight);
    is_unused.then(|| {
        Note::hint(NoteCode::WeightUnused, format!(
            "site {}: the weight of backend {backend} has no effect with `balance: first`, which tries the backends in the order \
             of the file",
            site.name
        ))
    })
}

fn unused_data_header(site: &Site, backend: &Backend) -> Option<Note> {
    let announces_data = backend.proxy_protocol.is_some_and(|header| header.data);
    (announces_data && site.passive_mode == PassiveMode::Active).then(|| {
        Note::hint(NoteCode::DataHeaderUnused, format!(
            "site {}: `proxy_protocol: data` of backend {backend} has no effect with `passive_mode: active`, where the backend \
             opens the data connections",
            site.name
        ))
    })
}

fn unused_backends(site: &Site) -> Option<Note> {
    (site.unknown_users == UnknownUsers::Refuse && !site.backends.is_empty()).then(|| {
        Note::hint(
            NoteCode::BackendsUnused,
            format!(
                "site {}: `backends` of the site itself are not used with `unknown_users: refuse`",
                site.name
            ),
        )
    })
}

fn behind_everybody(site: &Site) -> Option<Note> {
    let mut groups = site.groups.iter();
    let all = groups.find(|group| group.users.has_everybody())?;
    let is_last = groups.next().is_none() && site.backends.is_empty();
    (!is_last).then(|| {
        Note::hint(
            NoteCode::BackendsUnused,
            format!(
                "site {}: group {} has every user, so the groups behind it and the site's own `backends` are not used",
                site.name, all.name
            ),
        )
    })
}

fn unknown_verbs(site: &Site) -> impl Iterator<Item = Note> {
    let unknown = site
        .policy
        .commands
        .denied()
        .filter(|denied| !denied.is_known());
    unknown.map(|denied| {
        Note::warning(
            NoteCode::VerbUnknown,
            format!(
                "site {}: `deny` has {denied}, which is not a known FTP command",
                site.name
            ),
        )
    })
}

fn late_attempts(site: &Site, settings: &Settings) -> Option<Note> {
    let timeouts = &settings.timeouts;
    let attempt = timeouts.backend_attempt?;
    let is_several = |pool: &[Backend]| {
        pool.len() > 1
            || pool
                .iter()
                .any(|backend| matches!(backend.servers, Servers::Discovered(_)))
    };
    let has_others =
        is_several(&site.backends) || site.groups.iter().any(|group| is_several(&group.backends));
    (attempt >= timeouts.login && has_others).then(|| {
        Note::warning(NoteCode::AttemptTooLong, format!(
            "site {}: `backend_attempt` isn't shorter than the time for a login, so no second backend is tried in place of a \
             silent one",
            site.name
        ))
    })
}

fn late_queue(site: &Site, settings: &Settings) -> Option<Note> {
    (site.queue >= settings.timeouts.login).then(|| {
        Note::hint(NoteCode::QueueTooLong, format!(
            "site {}: `queue` isn't shorter than the time for a login, so the login times out first",
            site.name
        ))
    })
}

fn path_with_options(site: &Site) -> Option<Note> {
    let probe = site.checks.as_ref()?.probe()?;
    probe.path.starts_with('-').then(|| {
        Note::warning(NoteCode::ProbePathIsOption, format!(
            "site {}: the probe's `path` begins with a hyphen, which servers take for an option of ls",
            site.name
        ))
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config;

    fn notes_on(site: &str, more: &str) -> Vec<String> {
        let text = format!(
            "listeners: [{{address: 127.0.0.1:0, tls: explicit}}]\n\
             tls: {{certificate: tls.crt, private_key: tls.key}}\n{more}\n\
             sites:\n- {{name: only, default: true, {site}}}\n"
        );
        let settings = config::parse(&text, Path::new("portcullis.yaml")).unwrap();
        let notes = settings_notes(&settings.sites[0], &settings);
        notes.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn settings_that_have_no_effect_are_noted() {
        for (site, more, note) in [
            (
                "backends: [{address: 192.0.2.1, weight: 5}]",
                "",
                "weight of backend 192.0.2.1:21 has no effect",
            ),
            (
                "passive_mode: active, backends: [{address: 192.0.2.1, proxy_protocol: {version: 2, data: true}}]",
                "",
                "`proxy_protocol: data` of backend 192.0.2.1:21 has no effect",
            ),
            (
                "backends: [{address: 192.0.2.1}, {address: 192.0.2.2}]",
                "timeouts: {login: 20s, backend_attempt: 20s}",
                "`backend_attempt` isn't shorter",
            ),
            (
                "queue: 60s, backends: [{address: 192.0.2.1, max_sessions: 1}]",
                "",
                "`queue` isn't shorter",
            ),
            (
                "backends: [{address: \"192.0.2.1:990\"}]",
                "",
                "has the port of implicit TLS",
            ),
            (
                "backends: [{address: 192.0.2.1}], groups: [{name: all, users: [\"*\"], backends: [{address: 192.0.2.2}]}]",
                "",
                "group all has every user",
            ),
            (
                "backends: [{address: 192.0.2.1}], commands: {deny: [DELE, DELETE]}",
                "",
                "`deny` has DELETE, which is not a known FTP command",
            ),
            (
                "health: {level: list, login: {user: probe, password_file: f, path: -R /}}, backends: [{address: 192.0.2.1}]",
                "",
                "begins with a hyphen",
            ),
        ] {
            let notes = notes_on(site, more);
            assert_eq!(notes.len(), 1, "{site}: {notes:?}");
            assert!(notes[0].contains(note), "{site}: {notes:?}");
        }
    }

    #[test]
    fn settings_that_do_what_they_say_are_not_noted() {
        for (site, more) in [
            (
                "backends: [{address: 192.0.2.1}]",
                "timeouts: {login: 20s, backend_attempt: 20s}",
            ),
            (
                "balance: round_robin, backends: [{address: 192.0.2.1, weight: 5}, {address: 192.0.2.2}]",
                "",
            ),
            (
                "backends: [{address: 192.0.2.1}, {address: 192.0.2.2, weight: 0}]",
                "",
            ),
            (
                "queue: 5s, backends: [{address: 192.0.2.1, max_sessions: 1}]",
                "",
            ),
        ] {
            assert_eq!(notes_on(site, more), Vec::<String>::new(), "{site}");
        }
    }
}
