//! Warnings in the log of what `check` notes, and of what becomes so with time alone.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::App;
use super::fd_limit;
use super::notes::{self, Note, Severity};

/// How many notes are worth a line each: there may be a thousand sites.
const MAX_WARNINGS: usize = 10;

/// How often certificates and revocation lists are looked at for one that expires soon, or has: some certificates live for a day.
pub(super) const HOUR: Duration = Duration::from_secs(3_600);

/// How often a certificate is warned of that expires soon. Looks are not to the second, and one an hour later is no day later.
const AGAIN_AFTER: Duration = Duration::from_secs(86_400 - 3_600 / 2);

/// The certificates that the log has warned of, and when: of each once when it becomes due, and then once a day.
#[derive(Debug, Default)]
pub(super) struct Reminders {
    told: HashMap<String, Instant>,
}

impl Reminders {
    /// Returns those of `notes`, which are all that hold now, that are to be logged.
    fn due(&mut self, notes: Vec<Note>, now: Instant) -> Vec<Note> {
        let former = std::mem::take(&mut self.told);
        let mut due = Vec::new();
        for note in notes {
            let told = former.get(&note.text).copied();
            let told = told.filter(|told| now.duration_since(*told) < AGAIN_AFTER);
            self.told.insert(note.text.clone(), told.unwrap_or(now));
            if told.is_none() {
                due.push(note);
            }
        }
        due
    }

    /// Notes that these have been logged for another reason.
    fn note(&mut self, told: &[Note], now: Instant) {
        self.told
            .extend(told.iter().map(|note| (note.text.clone(), now)));
    }
}

impl App {
    /// Warns of what `check` notes.
    pub(super) fn warn(&mut self) {
        let snapshot = self.snapshot.load();
        let mut notes = notes::notes(
            &snapshot.runtime.settings,
            &snapshot.certificates,
            &snapshot.clients,
            SystemTime::now(),
        );
        notes.extend(notes::on_backend_client_certificates(
            &snapshot.runtime.pools,
            SystemTime::now(),
        ));
        notes.extend(notes::on_backend_authorities(&snapshot.runtime.pools));
        notes.extend_from_slice(&self.permission_notes);
        for note in notes.iter().take(MAX_WARNINGS) {
            log_note(note);
        }
        warn_of_omitted(notes.len());
        self.reminders.note(&notes, Instant::now());
    }

    /// Warns if the sessions of the configuration in force may need more file descriptors than there are.
    pub(super) fn warn_of_descriptors(&self) {
        let settings = &self.snapshot.load().runtime.settings;
        fd_limit::warn_if_low(settings, self.sockets.inherited().count());
    }

    /// Warns of what `check` notes of one certificate.
    pub(super) fn warn_about(&mut self, certificate: &str) {
        let snapshot = self.snapshot.load();
        let notes = notes::about(&snapshot.certificates, certificate, SystemTime::now());
        for note in &notes {
            log_note(note);
        }
        self.reminders.note(&notes, Instant::now());
    }

    /// A list that ends may have every login refused, which nothing but time brings about.
    pub(super) fn warn_of_ended_lists(&self) {
        let now = SystemTime::now();
        let snapshot = self.snapshot.load();
        let settings = &snapshot.runtime.settings;
        for note in notes::ended_since(settings, &snapshot.clients, now - HOUR, now) {
            tracing::warn!("{note}");
        }
    }

    /// The certificate may have been valid for long enough when it was loaded.
    pub(super) fn warn_if_expiring(&mut self) {
        let now = SystemTime::now();
        let snapshot = self.snapshot.load();
        let mut notes: Vec<Note> = notes::expiring(&snapshot.certificates, now).collect();
        notes.extend(notes::on_backend_client_certificates(
            &snapshot.runtime.pools,
            now,
        ));
        let due = self.reminders.due(notes, Instant::now());
        for note in due.iter().take(MAX_WARNINGS) {
            tracing::warn!("{note}");
        }
        warn_of_omitted(due.len());
    }
}

fn warn_of_omitted(notes: usize) {
    if notes > MAX_WARNINGS {
        let more = notes - MAX_WARNINGS;
        tracing::warn!(
            more,
            "further warnings omitted, `portcullis check` shows all of them"
        );
    }
}

fn log_note(note: &Note) {
    match note.severity {
        Severity::Warning => tracing::warn!("{note}"),
        Severity::Hint => tracing::info!("{note}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::notes::NoteCode;

    #[test]
    fn a_certificate_is_warned_of_when_it_becomes_due_and_then_once_a_day() {
        let mut reminders = Reminders::default();
        let began = Instant::now();
        let note = |text: &str| Note {
            severity: Severity::Warning,
            code: NoteCode::CertificateExpiresSoon,
            text: text.to_owned(),
        };
        // It becomes due in the fifth hour, another one in the thirtieth, and it expires in the fortieth; then it is renewed.
        let notes = |hour| match hour {
            0..5 => vec![],
            5..30 => vec![note("a expires")],
            30..40 => vec![note("a expires"), note("b expires")],
            40..50 => vec![note("a expired"), note("b expires")],
            _ => vec![note("b expires")],
        };
        let told: Vec<(u32, String)> = (0..80)
            .flat_map(|hour| {
                let due = reminders.due(notes(hour), began + HOUR * hour);
                due.into_iter().map(move |note| (hour, note.text))
            })
            .collect();
        let expected = [
            (5, "a expires"),
            (29, "a expires"),
            (30, "b expires"),
            (40, "a expired"),
            (54, "b expires"),
            (78, "b expires"),
        ];
        assert_eq!(told, expected.map(|(hour, text)| (hour, text.to_owned())));
        assert_eq!(reminders.told.len(), 1, "what holds no more is forgotten");
    }
}
