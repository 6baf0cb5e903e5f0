//! The files in use that stand refused or can't be read, and the last reloads: for operators who ask later, and for the
//! metrics.
//!
//! Refusals are kept apart, by subject: of the reloads only the last ones are remembered, while a refusal matters for as long
//! as the refused file is still there, however much else is reloaded meanwhile.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use super::metrics::Metrics;
use crate::outcome::{ReloadResult, ReloadSubject};

/// How many reloads are remembered.
const REMEMBERED: usize = 20;

/// The last reloads of the process, and the refusals that stand.
#[derive(Debug)]
pub struct ReloadLog {
    state: Mutex<State>,
    /// The metrics, which count reloads, and show the refusals that stand.
    metrics: Arc<Metrics>,
}

#[derive(Debug, Default)]
struct State {
    /// The last reloads, the latest first.
    last: VecDeque<Arc<Reload>>,
    /// At most one for each file of the configurations so far that is still refused.
    standing: HashMap<Key, Arc<Reload>>,
    /// Files whose watch waits for one that can't be read to its end, and since when that is known.
    stalled: Vec<(ReloadSubject, SystemTime)>,
}

/// Shows that the watch over files waits for one of them, as long as this lives.
#[derive(Debug)]
pub struct Stall {
    log: Arc<ReloadLog>,
    subject: ReloadSubject,
}

impl Stall {
    /// A stall that begins now.
    pub fn begin(log: Arc<ReloadLog>, subject: ReloadSubject) -> Self {
        log.change(subject, |state| {
            state.stalled.push((subject, SystemTime::now()));
        });
        Self { log, subject }
    }
}

impl Drop for Stall {
    fn drop(&mut self) {
        self.log.change(self.subject, |state| {
            state
                .stalled
                .retain(|(subject, _)| *subject != self.subject);
        });
    }
}

type Key = (ReloadSubject, Option<Arc<str>>);

/// The result of a reload.
#[derive(Debug, Clone)]
pub struct Reload {
    /// When the reload ended.
    pub at: SystemTime,
    /// The kind of configuration or file that was reloaded.
    pub subject: ReloadSubject,
    /// The name of the subject, where there are several that are reloaded by themselves.
    pub name: Option<Arc<str>>,
    /// Why the reload was refused, if it was.
    pub refusal: Option<Refusal>,
}

/// The reason why a reload was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The reason with text from the files, which may name users.
    pub text: String,
    /// The reason without text from the files.
    pub summary: String,
}

impl From<String> for Refusal {
    /// A refusal whose text repeats nothing of a file.
    fn from(text: String) -> Self {
        Self {
            summary: text.clone(),
            text,
        }
    }
}

impl ReloadLog {
    /// A log without any reload.
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self {
            state: Mutex::default(),
            metrics,
        }
    }

    /// Records that a reload has ended now. If it was refused, that stands; if not, no former refusal of the same does.
    pub fn record(&self, subject: ReloadSubject, name: Option<Arc<str>>, refusal: Option<Refusal>) {
        let result = match refusal {
            None => ReloadResult::Ok,
            Some(_) => ReloadResult::Refused,
        };
        self.metrics.reload(subject, result);
        let reload = Reload::now(subject, name, refusal);
        self.change(subject, |state| {
            state.last.truncate(REMEMBERED - 1);
            state.last.push_front(Arc::clone(&reload));
            match result {
                ReloadResult::Refused => state.standing.insert(reload.key(), reload),
                ReloadResult::Ok => state.standing.remove(&reload.key()),
            };
        });
    }

    /// A file of this kind would be refused; no reload has tried it.
    pub fn refuse(&self, subject: ReloadSubject, name: Option<Arc<str>>, refusal: Refusal) {
        let refused = Reload::now(subject, name, Some(refusal));
        self.change(subject, |state| {
            state.standing.insert(refused.key(), refused);
        });
    }

    /// A refused file of this kind is mended, replaced, or not wanted any more; nothing was reloaded.
    pub fn mend(&self, subject: ReloadSubject, name: Option<Arc<str>>) {
        self.change(subject, |state| {
            state.standing.remove(&(subject, name));
        });
    }

    /// Removes the standing refusals of this subject, except those with a name for which `is_refused` holds.
    pub fn mend_all_but(&self, subject: ReloadSubject, is_refused: impl Fn(&str) -> bool) {
        self.change(subject, |state| {
            state
                .standing
                .retain(|(of, name), _| *of != subject || name.as_deref().is_some_and(&is_refused));
        });
    }

    /// The refusal that stands of this subject, of which there is but one; `None` if its content is in force.
    pub fn standing(&self, subject: ReloadSubject) -> Option<Refusal> {
        let state = self.lock();
        state.standing.get(&(subject, None))?.refusal.clone()
    }

    /// All refusals that stand, the latest first.
    pub fn all_standing(&self) -> Vec<Arc<Reload>> {
        let mut all: Vec<_> = self.lock().standing.values().cloned().collect();
        all.sort_by(|one, other| {
            let order = |it: &Reload| (it.subject.as_str(), it.name.clone());
            let same_time = || order(one).cmp(&order(other));
            other.at.cmp(&one.at).then_with(same_time)
        });
        all
    }

    /// The last reloads, the latest first, and whether each is a refusal that stands.
    pub fn entries(&self) -> Vec<(Arc<Reload>, bool)> {
        let state = self.lock();
        let entries = state.last.iter().map(|reload| {
            let standing = state.standing.get(&reload.key());
            let stands = standing.is_some_and(|it| Arc::ptr_eq(it, reload));
            (Arc::clone(reload), stands)
        });
        entries.collect()
    }

    /// The kinds of files in use that can't be read to their end, and since when that is known.
    pub fn stalled(&self) -> Vec<(ReloadSubject, SystemTime)> {
        self.lock().stalled.clone()
    }

    /// Changes what is kept of this subject; the metrics show it.
    fn change(&self, subject: ReloadSubject, change: impl FnOnce(&mut State)) {
        let mut state = self.lock();
        change(&mut state);
        let refused = state.standing.keys().any(|(of, _)| *of == subject);
        let stalled = state.stalled.iter().any(|(of, _)| *of == subject);
        self.metrics.is_refused(subject, refused || stalled);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reload {
    fn now(subject: ReloadSubject, name: Option<Arc<str>>, refusal: Option<Refusal>) -> Arc<Self> {
        Arc::new(Self {
            at: SystemTime::now(),
            subject,
            name,
            refusal,
        })
    }

    fn key(&self) -> Key {
        (self.subject, self.name.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// With the metrics that it is shown in.
    fn log() -> (ReloadLog, Arc<Metrics>) {
        let metrics = Arc::new(Metrics::new());
        (ReloadLog::new(Arc::clone(&metrics)), metrics)
    }

    fn refused(log: &ReloadLog, subject: ReloadSubject, name: &str) {
        let name = Some(name.into()).filter(|name: &Arc<str>| !name.is_empty());
        log.record(subject, name, Some("broken".to_owned().into()));
    }

    fn loaded(log: &ReloadLog, subject: ReloadSubject, name: &str) {
        log.record(subject, Some(name.into()), None);
    }

    /// The names of the refusals that stand; the metrics agree.
    fn standing((log, metrics): &(ReloadLog, Arc<Metrics>)) -> Vec<String> {
        let all = log.all_standing();
        let rendered = metrics.render();
        for subject in ReloadSubject::ALL {
            let stands = u8::from(all.iter().any(|it| it.subject == *subject));
            let subject = subject.as_str();
            let line = format!("portcullis_reload_refused{{subject=\"{subject}\"}} {stands}\n");
            assert!(rendered.contains(&line), "{line}{rendered}");
        }
        let names = all.iter().map(|it| it.name.as_deref().unwrap_or_default());
        let mut names: Vec<_> = names.map(str::to_owned).collect();
        names.sort();
        names
    }

    #[test]
    fn the_latest_come_first_and_the_oldest_are_forgotten() {
        let (log, _) = log();
        log.record(ReloadSubject::Certificate, None, None);
        for number in 0..REMEMBERED {
            log.record(
                ReloadSubject::Configuration,
                None,
                Some(number.to_string().into()),
            );
        }
        let entries = log.entries().into_iter();
        let reasons: Vec<_> = entries
            .map(|(it, stands)| (it.refusal.as_ref().map(|it| it.text.clone()), stands))
            .collect();
        assert_eq!(reasons.len(), REMEMBERED);
        assert_eq!(reasons[0], (Some("19".to_owned()), true));
        assert_eq!(reasons[REMEMBERED - 1], (Some("0".to_owned()), false));
    }

    #[test]
    fn what_can_not_be_read_is_shown_until_it_can_be_or_is_not_watched_any_more() {
        let metrics = Arc::new(Metrics::new());
        let log = Arc::new(ReloadLog::new(Arc::clone(&metrics)));
        let shown = || {
            let line = "portcullis_reload_refused{subject=\"users\"} 1\n";
            metrics.render().contains(line)
        };
        let stall = Stall::begin(Arc::clone(&log), ReloadSubject::Users);
        assert_eq!(log.stalled()[0].0, ReloadSubject::Users);
        assert!(log.all_standing().is_empty());
        // A file of the same kind that is loaded meanwhile, as at a reload, doesn't change that.
        loaded(&log, ReloadSubject::Users, "a.txt");
        assert!(shown());
        drop(stall);
        assert_eq!(log.stalled(), []);
        assert!(!shown());
    }

    #[test]
    fn a_refusal_stands_whatever_else_is_reloaded_until_the_same_is_loaded() {
        let it = log();
        let log = &it.0;
        refused(log, ReloadSubject::Users, "a.txt");
        refused(log, ReloadSubject::Configuration, "");
        loaded(log, ReloadSubject::Users, "b.txt");
        loaded(log, ReloadSubject::Credentials, "a.txt");
        for _ in 0..REMEMBERED {
            loaded(log, ReloadSubject::Certificate, "new.crt");
        }
        assert_eq!(standing(&it), ["", "a.txt"]);
        assert!(log.standing(ReloadSubject::Configuration).is_some());
        loaded(log, ReloadSubject::Users, "a.txt");
        log.record(ReloadSubject::Configuration, None, None);
        assert_eq!(standing(&it), [""; 0]);
        assert_eq!(log.standing(ReloadSubject::Configuration), None);
    }

    #[test]
    fn what_is_mended_without_a_reload_stands_no_more_and_is_corrected_in_the_log() {
        let it = log();
        let log = &it.0;
        refused(log, ReloadSubject::Configuration, "");
        log.mend(ReloadSubject::Configuration, None);
        assert_eq!(standing(&it), [""; 0]);
        assert!(log.entries().iter().all(|(_, stands)| !stands));
        let again = "broken again".to_owned();
        log.refuse(ReloadSubject::Configuration, None, again.clone().into());
        assert_eq!(standing(&it), [""]);
        let standing = log.standing(ReloadSubject::Configuration);
        assert_eq!(standing, Some(again.into()));
    }

    #[test]
    fn of_one_subject_only_what_is_still_refused_goes_on_standing() {
        let it = log();
        let log = &it.0;
        refused(log, ReloadSubject::Users, "kept.txt");
        for name in ["kept.crt", "gone.crt"] {
            refused(log, ReloadSubject::BackendClientCertificate, name);
        }
        log.mend_all_but(ReloadSubject::BackendClientCertificate, |name| {
            name == "kept.crt"
        });
        assert_eq!(standing(&it), ["kept.crt", "kept.txt"]);
        refused(log, ReloadSubject::ClientCertificates, "");
        log.mend_all_but(ReloadSubject::ClientCertificates, |_| false);
        assert_eq!(standing(&it), ["kept.crt", "kept.txt"]);
    }
}
