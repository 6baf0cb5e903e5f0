//! Waits until something is due and has it done: one instance at a time, where several share a directory.
//!
//! Due work is looked for twice: without the lock, and with it, when another instance may have done it meanwhile. The files
//! are read again each minute, so that an instance that only watches follows the one that orders, and a clock that was set
//! takes effect.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use instant_acme::CertificateIdentifier;
use jiff::Timestamp;
use tokio::sync::{Notify, watch};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::failure::{Cause, OrderError, QuestionError};
use super::http::Client;
use super::order::{Orders, unless};
use super::schedule::{self, Attempts, Plan, Suggestion, Window};
use super::state::{Certificate, LastFailure, State, StoredSchedule, Wanted};
use super::status::{Activity, Report, Status};
use crate::config::AcmeSettings;
use crate::observe::metrics::Metrics;
use crate::outcome::{AcmeResult, AcmeStage};
use crate::tls::{CertificateError, CertificatePair};

/// How often the files are looked at when nothing is due.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// How often to look whether the instance that orders is done.
const LOCK_EVERY: Duration = Duration::from_secs(2);

/// Orders, and asks; a test has another.
pub(super) trait Authority {
    /// Orders a certificate, and puts it into the files.
    async fn order(
        &self,
        replaced: Option<&CertificateIdentifier<'static>>,
        stopped: &mut watch::Receiver<bool>,
    ) -> Result<CertificatePair, OrderError>;

    /// The authority's suggestion when to renew this certificate, if it makes one, and the time after which it may be asked
    /// again.
    async fn suggestion(
        &self,
        id: &CertificateIdentifier<'static>,
    ) -> Result<(Option<Window>, Option<Duration>), QuestionError>;
}

impl Authority for Orders {
    async fn order(
        &self,
        replaced: Option<&CertificateIdentifier<'static>>,
        stopped: &mut watch::Receiver<bool>,
    ) -> Result<CertificatePair, OrderError> {
        Self::order(self, replaced, stopped).await
    }

    async fn suggestion(
        &self,
        id: &CertificateIdentifier<'static>,
    ) -> Result<(Option<Window>, Option<Duration>), QuestionError> {
        Self::suggestion(self, id).await
    }
}

/// Orders by these settings until it is stopped.
pub(super) async fn run(
    settings: AcmeSettings,
    metrics: Arc<Metrics>,
    status: Arc<Status>,
    start: Start,
    reloaded: Arc<Notify>,
    mut stopped: watch::Receiver<bool>,
) {
    metrics.declare_orders();
    let wanted = Arc::new(Wanted::by(&settings));
    let settings = Arc::new(settings);
    let mut trouble = Trouble::default();
    // Neither the directory nor the roots have to be there yet when the process starts.
    let (state, client) = loop {
        let (directory, ca) = (settings.state.clone(), settings.ca.clone());
        let opening = spawn_blocking(move || {
            let state = State::open(&directory).map_err(|error| error.to_string())?;
            let client = Client::new(ca.as_deref()).map_err(|error| error.to_string())?;
            Ok::<_, String>((state, client))
        });
        match opening
            .await
            .unwrap_or_else(|panicked| Err(panicked.to_string()))
        {
            Ok(opened) => break opened,
            Err(error) => {
                status.set(Report::unusable(&wanted, error.clone()));
                metrics.next_order(Some(trouble.log(error, SystemTime::now())));
                let pause = reloaded_within(&reloaded, LOOK_EVERY);
                if unless(&mut stopped, pause).await.is_err() {
                    return;
                }
            }
        }
    };
    let authority = Orders {
        settings,
        wanted: Arc::clone(&wanted),
        state: state.clone(),
        client,
    };
    let engine = Engine {
        authority,
        wanted,
        state,
        metrics,
        status,
        start,
        reloaded,
        stopped: stopped.clone(),
        now: Box::new(SystemTime::now),
        memory: Memory::default(),
    };
    engine.run(trouble, stopped).await;
}

/// Waits for a reload, and for so long; returns whether there was one.
async fn reloaded_within(reloaded: &Notify, pause: Duration) -> bool {
    timeout(pause, reloaded.notified()).await.is_ok()
}

/// A problem with the directory.
#[derive(Debug, Default)]
pub(super) struct Trouble {
    /// The last problem, which is logged once.
    said: Option<String>,
    since: Option<SystemTime>,
}

impl Trouble {
    /// Returns since when something is wrong: it is unknown when the next order is due, and an alert has to see it overdue.
    fn log(&mut self, error: String, now: SystemTime) -> SystemTime {
        if self.said.as_ref() != Some(&error) {
            tracing::error!(error, "no certificate can be ordered");
            self.said = Some(error);
        }
        *self.since.get_or_insert(now)
    }
}

impl Report {
    fn unusable(wanted: &Wanted, trouble: String) -> Self {
        Self {
            activity: Activity::Unusable,
            names: wanted.names(),
            next_attempt: None,
            failures: 0,
            last_failure: None,
            trouble: Some(trouble),
        }
    }
}

/// The event that orders begin with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Start {
    /// The process: what failed before it began did so for reasons that may still hold.
    Process,
    /// A reload with other settings, for which nothing has failed yet: the next order begins at once.
    NewSettings,
    /// A reload with the same settings: what failed before may have been mended outside of them.
    Reload,
}

/// The parts that one configuration's orders need.
pub(super) struct Engine<A> {
    pub authority: A,
    pub wanted: Arc<Wanted>,
    pub state: State,
    pub metrics: Arc<Metrics>,
    pub status: Arc<Status>,
    pub start: Start,
    /// Reloads with the same settings.
    pub reloaded: Arc<Notify>,
    /// Tells when the orders are stopped, after which the live view is another configuration's.
    pub stopped: watch::Receiver<bool>,
    /// The clock; a test has another.
    pub now: Box<dyn Fn() -> SystemTime + Send + Sync>,
    pub memory: Memory,
}

/// The knowledge of one instance that isn't in the directory.
#[derive(Debug, Default)]
pub(super) struct Memory {
    /// An order of its own, as the directory has it and as it ended, while that can't be written.
    unwritten: Option<(StoredSchedule, StoredSchedule)>,
    /// Whether it has been logged why nothing is ordered now that is due.
    wait_is_told: bool,
}

/// The state of the certificate in the directory, as reported to operators.
#[derive(Debug, Clone, Copy)]
enum There {
    Nothing,
    /// The certificate can't be served.
    Unusable,
    /// The certificate is not valid yet, by the clock of this machine.
    NotYetValid,
    /// The certificate expires then, or has: clients are shown it then, too.
    Until(SystemTime),
}

impl There {
    fn of(state: &State, certificate: &Result<Certificate, CertificateError>) -> Self {
        match certificate {
            Ok(certificate) => Self::Until(certificate.held.not_after),
            Err(CertificateError::Expired { not_after, .. }) => Self::Until(*not_after),
            Err(CertificateError::NotYetValid { .. }) => Self::NotYetValid,
            Err(_) if state.has_certificate() => Self::Unusable,
            Err(_) => Self::Nothing,
        }
    }

    fn end(self) -> Option<SystemTime> {
        match self {
            Self::Until(end) => Some(end),
            Self::Nothing | Self::Unusable | Self::NotYetValid => None,
        }
    }

    /// How long the certificate is valid yet; `None` where none is there.
    fn left(self, now: SystemTime) -> Option<String> {
        match self {
            Self::Nothing => None,
            Self::Unusable => Some("the one that is there can't be served".to_owned()),
            Self::NotYetValid => Some("not valid yet by this machine's clock".to_owned()),
            Self::Until(end) => Some(until(end, now)),
        }
    }
}

/// The state found in the directory.
struct Found {
    certificate: Option<Certificate>,
    there: There,
    /// The record of the directory, with the failures that are forgiven.
    record: StoredSchedule,
    /// Whether orders have failed for a certificate that isn't due any more, which is to be written down.
    is_over: bool,
    /// When an order has begun that has not ended.
    begun: Option<SystemTime>,
    plan: Plan,
    now: SystemTime,
}

impl Found {
    fn is_order_due(&self) -> bool {
        self.plan.order <= self.now
    }

    fn is_question_due(&self) -> bool {
        self.plan.ask.is_some_and(|at| at <= self.now)
    }

    fn is_due(&self) -> bool {
        self.is_order_due() || self.is_question_due() || self.is_over
    }

    fn next(&self) -> SystemTime {
        self.plan
            .ask
            .map_or(self.plan.order, |ask| ask.min(self.plan.order))
    }
}

impl<A: Authority> Engine<A> {
    /// Makes the orders and questions that are due until it is stopped.
    pub async fn run(mut self, mut trouble: Trouble, mut stopped: watch::Receiver<bool>) {
        if let Err(error) = self.recover().await {
            trouble.log(error.to_string(), (self.now)());
        }
        loop {
            let pause = match self.step(&mut stopped).await {
                Ok(pause) => {
                    trouble = Trouble::default();
                    pause
                }
                Err(Cause::Stopped) => return,
                // The configuration no longer wants a certificate, and the view of it is cleared.
                Err(_) if *stopped.borrow() => return,
                Err(error) => {
                    let error = error.to_string();
                    self.status
                        .set(Report::unusable(&self.wanted, error.clone()));
                    let since = trouble.log(error, (self.now)());
                    self.metrics.next_order(Some(since));
                    LOOK_EVERY
                }
            };
            match unless(&mut stopped, reloaded_within(&self.reloaded, pause)).await {
                Ok(true) => self.start = Start::Reload,
                Ok(false) => {}
                Err(_) => return,
            }
        }
    }

    /// Finishes the work of an ended process, unless another instance is at work.
    async fn recover(&self) -> Result<(), Cause> {
        let now = (self.now)();
        self.apart(move |state, _| match state.lock()? {
            Some(_lock) => state.recover(now),
            None => Ok(()),
        })
        .await
    }

    /// Makes the order or question that is due; returns how long to wait until something may be.
    async fn step(&mut self, stopped: &mut watch::Receiver<bool>) -> Result<Duration, Cause> {
        let mut found = self.look().await?;
        if !found.is_due() && found.begun.is_some() {
            if self.apart(|state, _| state.lock()).await?.is_none() {
                self.show_order_elsewhere(&found);
                return Ok(LOCK_EVERY);
            }
            // It may have ended just now. If not, its process has.
            found = self.look().await?;
        }
        if !found.is_due() {
            self.show(&found, Activity::Waiting);
            self.tell_of_wait(&found);
            let wait = found.next().duration_since(found.now).unwrap_or_default();
            return Ok(wait.min(LOOK_EVERY));
        }
        let Some(_lock) = self.apart(|state, _| state.lock()).await? else {
            self.show_order_elsewhere(&found);
            return Ok(LOCK_EVERY);
        };
        let found = self.look().await?;
        if found.is_order_due() {
            self.order(found, stopped).await?;
        } else if found.is_question_due() {
            self.ask(found, stopped).await?;
        } else if found.is_over {
            self.keep(&found.record).await?;
        }
        Ok(Duration::ZERO)
    }

    /// Says once why what is due is not ordered now: the process that it failed in may be another.
    fn tell_of_wait(&mut self, found: &Found) {
        let is_waited_for = found.plan.due <= found.now;
        if !is_waited_for || std::mem::replace(&mut self.memory.wait_is_told, true) {
            return;
        }
        let last = found.record.last_failure.as_ref();
        tracing::warn!(
            failures = found.record.attempts.failures,
            next = %moment(found.plan.order),
            expires_in = found.there.left(found.now),
            stage = last.map(|it| &*it.stage),
            error = last.map(|it| &*it.text),
            "certificate order postponed after earlier ones: a reload begins it as soon as the authority, and four orders \
             an hour, allow"
        );
    }

    async fn look(&mut self) -> Result<Found, Cause> {
        self.catch_up().await?;
        let now = (self.now)();
        let (certificate, there, record) = self
            .apart(move |state, wanted| {
                state.make()?;
                let record = state.schedule_or_new(wanted, now)?;
                let certificate = state.certificate(wanted, &record, now);
                let there = There::of(state, &certificate);
                Ok((certificate, there, record))
            })
            .await?;
        let certificate = certificate.ok();
        let wanted = certificate.as_ref().filter(|it| it.is_wanted);
        let id = wanted.and_then(|it| it.id.as_ref());
        let id = id.map(ToString::to_string);
        let suggestion = record.suggestion.as_ref();
        let suggestion = suggestion.filter(|it| Some(&it.certificate) == id.as_ref());
        let held = wanted.map(|it| &it.held);
        let begun = record.attempts.begun();
        let (mut attempts, mut last_failure) = (record.attempts.clone(), record.last_failure);
        match self.start {
            _ if record.tried_for.as_ref() != Some(&*self.wanted) => attempts.forgive(),
            Start::NewSettings => attempts.forgive(),
            Start::Reload => attempts.retry(),
            Start::Process => {}
        }
        let mut plan = schedule::plan(now, held, suggestion, &attempts);
        // They were made for another certificate, or by a clock that was wrong.
        let is_over = plan.due > now && (attempts.failures > 0 || last_failure.is_some());
        if is_over {
            attempts.forgive();
            last_failure = None;
            plan = schedule::plan(now, held, suggestion, &attempts);
        }
        // The authority can't be asked about a certificate without an id.
        plan.ask = plan.ask.filter(|_| id.is_some());
        Ok(Found {
            record: StoredSchedule {
                attempts,
                last_failure,
                ..record
            },
            certificate,
            there,
            is_over,
            begun,
            plan,
            now,
        })
    }

    /// Writes down what couldn't be when an order ended. Nothing else is done before that.
    async fn catch_up(&mut self) -> Result<(), Cause> {
        let Some((begun, ended)) = self.memory.unwritten.clone() else {
            return Ok(());
        };
        let is_done = self.apart(move |state, _| state.catch_up(&begun, &ended));
        if is_done.await? {
            self.memory.unwritten = None;
        }
        Ok(())
    }

    fn show(&self, found: &Found, activity: Activity) {
        self.show_as(found, activity, found.plan.order, &found.record.attempts);
    }

    /// Shows that another instance has the lock. An order that it has begun hasn't failed by that.
    fn show_order_elsewhere(&self, found: &Found) {
        let activity = Activity::Elsewhere;
        match found.begun {
            Some(begun) => {
                let attempts = found.record.attempts.clone().before_last();
                self.show_as(found, activity, begun, &attempts);
            }
            None => self.show(found, activity),
        }
    }

    fn show_as(&self, found: &Found, activity: Activity, next: SystemTime, attempts: &Attempts) {
        if *self.stopped.borrow() {
            return;
        }
        let last_failure = found.record.last_failure.as_ref();
        self.status.set(Report {
            activity,
            names: self.wanted.names(),
            next_attempt: Some(next),
            failures: attempts.failures,
            last_failure: last_failure.map(|it| (it.stage.clone(), it.text.clone())),
            trouble: None,
        });
        self.metrics.next_order(Some(next));
    }

    async fn order(
        &mut self,
        found: Found,
        stopped: &mut watch::Receiver<bool>,
    ) -> Result<(), Cause> {
        self.show(&found, Activity::Ordering);
        self.memory.wait_is_told = true;
        let Found {
            certificate,
            there,
            mut record,
            now,
            ..
        } = found;
        // Written down before anything is asked: a process that ends now and comes back must not begin at once again.
        record.attempts.begin(now);
        record.tried_for = Some((*self.wanted).clone());
        self.keep(&record).await?;
        self.memory.unwritten = None;
        let begun = record.clone();
        self.start = Start::Process;
        tracing::info!(
            names = self.wanted.names(),
            attempt = record.attempts.failures,
            "ordering a certificate"
        );
        let known = record
            .suggestion
            .as_ref()
            .is_some_and(|it| it.window.is_some());
        let wanted = certificate.as_ref().filter(|it| it.is_wanted);
        let replaced = wanted.and_then(|it| it.id.as_ref());
        let result = self
            .authority
            .order(replaced.filter(|_| known), stopped)
            .await;
        let now = (self.now)();
        match result {
            Ok(pair) => {
                self.metrics.order(AcmeResult::Issued, AcmeStage::Download);
                tracing::info!(
                    names = pair.names_and_addresses(),
                    expires = %moment(pair.not_after),
                    issuer = pair.issuer,
                    "certificate ordered"
                );
                record.attempts.succeeded(now);
                record.issued_for = Some((*self.wanted).clone());
                record.suggestion = None;
                record.last_failure = None;
                self.keep_ended(begun, record).await
            }
            Err(OrderError {
                cause: Cause::Stopped,
                ..
            }) => {
                record.attempts.broken_off();
                self.keep(&record).await?;
                Err(Cause::Stopped)
            }
            Err(error) => {
                let retry_after = error.retry_after.filter(|at| *at > now);
                record.attempts.failed(now, retry_after, there.end());
                record.last_failure = Some(LastFailure {
                    stage: error.stage.as_str().to_owned(),
                    text: error.cause.to_string(),
                });
                self.metrics.order(AcmeResult::Failed, error.stage);
                let next = record.attempts.next(now).unwrap_or(now);
                tracing::error!(
                    stage = error.stage.as_str(),
                    attempt = record.attempts.failures,
                    next = %moment(next),
                    expires_in = there.left(now),
                    error = %error.cause,
                    "certificate order failed"
                );
                self.keep_ended(begun, record).await
            }
        }
    }

    /// Keeps how an order has ended: in memory, if the directory can't be written.
    async fn keep_ended(
        &mut self,
        begun: StoredSchedule,
        ended: StoredSchedule,
    ) -> Result<(), Cause> {
        let kept = self.keep(&ended).await;
        if kept.is_err() {
            self.memory.unwritten = Some((begun, ended));
        }
        kept
    }

    async fn ask(&self, found: Found, stopped: &mut watch::Receiver<bool>) -> Result<(), Cause> {
        let Found {
            certificate,
            mut record,
            ..
        } = found;
        let Some(id) = certificate.and_then(|it| it.id) else {
            return Ok(());
        };
        let asked = unless(stopped, self.authority.suggestion(&id)).await?;
        let now = (self.now)();
        let name = id.to_string();
        let former = record.suggestion.take().filter(|it| it.certificate == name);
        let former = former.and_then(|it| it.window);
        let (window, retry_after) = match asked {
            Ok(said) => said,
            Err(QuestionError { cause, retry_after }) => {
                tracing::warn!(error = %cause, "the authority doesn't say when to renew the certificate");
                let after = retry_after.and_then(|at| at.duration_since(now).ok());
                // Its former answer may still hold.
                (former, after)
            }
        };
        if window != former
            && let Some(window) = window
        {
            tracing::info!(
                from = %moment(window.start),
                to = %moment(window.end),
                "the authority suggests when to renew the certificate"
            );
        }
        record.suggestion = Some(Suggestion {
            certificate: name,
            window,
            ask_at: schedule::ask_again(now, retry_after),
        });
        self.keep(&record).await
    }

    async fn keep(&self, record: &StoredSchedule) -> Result<(), Cause> {
        let record = record.clone();
        self.apart(move |state, _| state.set_schedule(&record))
            .await
    }

    /// Runs an operation on the directory, on a thread on which that may block.
    async fn apart<T: Send + 'static>(
        &self,
        what: impl FnOnce(&State, &Wanted) -> Result<T, super::StateError> + Send + 'static,
    ) -> Result<T, Cause> {
        let (state, wanted) = (self.state.clone(), Arc::clone(&self.wanted));
        match spawn_blocking(move || what(&state, &wanted)).await {
            Ok(result) => Ok(result?),
            Err(panicked) => Err(Cause::Internal(panicked.to_string())),
        }
    }
}

/// As RFC 3339 has it.
fn moment(time: SystemTime) -> impl std::fmt::Display {
    let timestamp = Timestamp::try_from(time).unwrap_or(Timestamp::MAX);
    format!("{timestamp:.0}")
}

/// How long it is until a certificate expires, or how long ago it has.
fn until(end: SystemTime, now: SystemTime) -> String {
    match end.duration_since(now) {
        Ok(left) => span(left),
        Err(over) => format!("expired {} ago", span(over.duration())),
    }
}

/// A duration in the largest unit that leaves more than one.
fn span(time: Duration) -> String {
    match time.as_secs() {
        seconds @ ..7_200 => format!("{}m", seconds / 60),
        seconds @ ..172_800 => format!("{}h", seconds / 3_600),
        seconds => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests;
