//! Days and weeks of orders from an authority of the test, on a clock that stands still while nothing is due.

use std::path::Path;
use std::sync::Mutex;

use rcgen::{CertificateParams, KeyPair};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use super::*;
use crate::config;

const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);

/// How an authority of a test's own takes an order.
#[derive(Debug, Clone, Copy)]
enum Manner {
    IsDown,
    /// With certificates of this lifetime.
    Issues(Duration),
    Hangs,
    WantsPeace(Duration),
    /// The authority is down, and meanwhile the schedule can't be written any more.
    IsDownWithTheDisk,
}

#[derive(Clone)]
struct Scripted(Arc<Script>);

struct Script {
    manner: Mutex<Manner>,
    window: Mutex<Option<(Duration, Duration)>>,
    /// After which time it wants to be asked for its window again.
    silence: Mutex<Option<Duration>>,
    /// By how much the clock is ahead.
    ahead: Mutex<Duration>,
    orders: Mutex<Vec<Duration>>,
    replacing: Mutex<Vec<bool>>,
    questions: Mutex<Vec<Duration>>,
    began: Instant,
    base: SystemTime,
    state: State,
    wanted: Arc<Wanted>,
}

impl Script {
    fn now(&self) -> SystemTime {
        self.base + self.began.elapsed() + *self.ahead.lock().unwrap()
    }

    fn orders(&self) -> Vec<Duration> {
        self.orders.lock().unwrap().clone()
    }

    /// The path of the obstacle to writing the schedule's new content.
    fn obstacle(&self) -> std::path::PathBuf {
        self.state
            .records_file()
            .with_file_name("schedule.json.new")
    }

    fn set(&self, manner: Manner) {
        *self.manner.lock().unwrap() = manner;
    }
}

impl Authority for Scripted {
    async fn order(
        &self,
        replaced: Option<&CertificateIdentifier<'static>>,
        stopped: &mut watch::Receiver<bool>,
    ) -> Result<CertificatePair, OrderError> {
        let script = &self.0;
        script.orders.lock().unwrap().push(script.began.elapsed());
        script.replacing.lock().unwrap().push(replaced.is_some());
        let manner = *script.manner.lock().unwrap();
        let failed = |cause, retry_after| OrderError {
            stage: AcmeStage::Account,
            cause,
            retry_after,
        };
        match manner {
            Manner::IsDown => Err(failed(Cause::Internal("it is down".to_owned()), None)),
            Manner::IsDownWithTheDisk => {
                std::fs::create_dir(script.obstacle()).unwrap();
                Err(failed(Cause::Internal("it is down".to_owned()), None))
            }
            Manner::WantsPeace(time) => {
                let at = Some(script.now() + time);
                Err(failed(Cause::Internal("too many".to_owned()), at))
            }
            Manner::Hangs => {
                let never = unless(stopped, std::future::pending::<()>()).await;
                Err(failed(never.unwrap_err(), None))
            }
            Manner::Issues(lifetime) => {
                // As long as an order takes.
                sleep(Duration::from_secs(20)).await;
                let (certificate, key) = issued(script.now(), lifetime);
                let placed =
                    script
                        .state
                        .replace_pair(&certificate, &key, &script.wanted, script.now());
                Ok(placed.unwrap())
            }
        }
    }

    async fn suggestion(
        &self,
        _: &CertificateIdentifier<'static>,
    ) -> Result<(Option<Window>, Option<Duration>), QuestionError> {
        let script = &self.0;
        script
            .questions
            .lock()
            .unwrap()
            .push(script.began.elapsed());
        if let Some(silence) = *script.silence.lock().unwrap() {
            return Err(QuestionError {
                cause: Cause::Internal("too many".to_owned()),
                retry_after: Some(script.now() + silence),
            });
        }
        let window = *script.window.lock().unwrap();
        let window = window.map(|(from, to)| Window {
            start: script.base + from,
            end: script.base + to,
        });
        Ok((window, None))
    }
}

/// A certificate by an issuer, as a name for it needs one.
fn issued(now: SystemTime, lifetime: Duration) -> (String, String) {
    let authority_key = KeyPair::generate().unwrap();
    let authority = rcgen::Issuer::new(CertificateParams::default(), authority_key);
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["a.test".to_owned()]).unwrap();
    params.not_before = now.into();
    params.not_after = (now + lifetime).into();
    params.use_authority_key_identifier_extension = true;
    let certificate = params.signed_by(&key, &authority).unwrap();
    (certificate.pem(), key.serialize_pem())
}

struct Bench {
    script: Arc<Script>,
    metrics: Arc<Metrics>,
    status: Arc<Status>,
    directory: TempDir,
}

impl Bench {
    fn new(manner: Manner) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let state = State::open(directory.path()).unwrap();
        let text = "listeners: [{address: 127.0.0.1:0, tls: explicit}]\n\
            tls: {acme: {directory_url: \"https://ca.test/dir\", state: acme, names: [a.test], challenge: {dns: hook}}}\n\
            sites: [{name: only, default: true, backends: [{address: 192.0.2.1}]}]\n";
        let settings = config::parse(text, Path::new("portcullis.yaml")).unwrap();
        let settings = settings.tls.acme.unwrap();
        let script = Script {
            manner: Mutex::new(manner),
            window: Mutex::default(),
            silence: Mutex::default(),
            ahead: Mutex::default(),
            orders: Mutex::default(),
            replacing: Mutex::default(),
            questions: Mutex::default(),
            began: Instant::now(),
            base: SystemTime::now(),
            state,
            wanted: Arc::new(Wanted::by(&settings)),
        };
        Self {
            script: Arc::new(script),
            metrics: Arc::default(),
            status: Arc::default(),
            directory,
        }
    }

    /// Starts one instance.
    fn start(&self) -> (JoinHandle<()>, watch::Sender<bool>) {
        self.start_with(Arc::default())
    }

    /// Starts one instance that is told of reloads by `reloaded`.
    fn start_with(&self, reloaded: Arc<Notify>) -> (JoinHandle<()>, watch::Sender<bool>) {
        let (stop, stopped) = watch::channel(false);
        let script = Arc::clone(&self.script);
        let engine = Engine {
            authority: Scripted(Arc::clone(&script)),
            wanted: Arc::clone(&script.wanted),
            state: script.state.clone(),
            metrics: Arc::clone(&self.metrics),
            status: Arc::clone(&self.status),
            start: Start::Process,
            reloaded,
            stopped: stopped.clone(),
            now: Box::new(move || script.now()),
            memory: Memory::default(),
        };
        let task = tokio::spawn(engine.run(Trouble::default(), stopped));
        (task, stop)
    }

    /// Writes all further log lines to a file, as long as the guard lives.
    fn log(&self) -> (std::path::PathBuf, tracing::subscriber::DefaultGuard) {
        let log = self.directory.path().join("log");
        let subscriber = tracing_subscriber::fmt()
            .with_ansi(false)
            .with_writer(Mutex::new(std::fs::File::create(&log).unwrap()))
            .finish();
        (log, tracing::subscriber::set_default(subscriber))
    }

    /// Lets so much time pass, and everything happen that is due in it.
    async fn pass(&self, time: Duration) {
        sleep(time).await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_authority_that_is_down_for_a_week_is_asked_as_the_ladder_says() {
    let bench = Bench::new(Manner::IsDown);
    let (_task, _stop) = bench.start();
    bench.pass(7 * DAY).await;
    let orders = bench.script.orders();
    let within = |time: Duration| orders.iter().filter(|&&at| at < time).count();
    assert_eq!(within(HOUR), 4, "{orders:?}");
    assert!(within(DAY) <= 30, "{}", within(DAY));
    assert!(
        within(7 * DAY) <= 56 && within(7 * DAY) >= 40,
        "{}",
        orders.len()
    );
    for pair in orders.windows(2) {
        assert!(pair[1] - pair[0] <= 6 * HOUR + 2 * LOOK_EVERY, "{pair:?}");
    }
    let report = bench.status.report().unwrap();
    assert_eq!(report.failures as usize, orders.len());
    assert_eq!(
        report.last_failure,
        Some(("account".to_owned(), "it is down".to_owned()))
    );
    let text = bench.metrics.render();
    let counted = format!(
        "portcullis_acme_orders_total{{result=\"failed\",stage=\"account\"}} {}",
        orders.len()
    );
    assert!(text.contains(&counted), "{text}");

    // It is back, and so is the certificate with the next order.
    bench.script.set(Manner::Issues(90 * DAY));
    bench.pass(6 * HOUR + 2 * LOOK_EVERY).await;
    let report = bench.status.report().unwrap();
    assert_eq!((report.failures, report.last_failure), (0, None));
}

#[tokio::test(start_paused = true)]
async fn a_certificate_is_renewed_in_time_and_not_before() {
    let bench = Bench::new(Manner::Issues(4 * DAY));
    let (_task, _stop) = bench.start();
    bench.pass(4 * DAY).await;
    let orders = bench.script.orders();
    let [first, second] = orders[..] else {
        panic!("{orders:?}")
    };
    assert!(first < LOOK_EVERY);
    assert!(
        second > 2 * DAY && second < 2 * DAY + 4 * HOUR,
        "{second:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn the_authority_is_asked_every_six_hours_and_its_window_counts() {
    let bench = Bench::new(Manner::Issues(4 * DAY));
    *bench.script.window.lock().unwrap() = Some((3 * DAY, 3 * DAY + HOUR));
    let (_task, _stop) = bench.start();
    bench.pass(DAY).await;
    assert_eq!(bench.script.orders().len(), 1);
    let questions = bench.script.questions.lock().unwrap().clone();
    assert_eq!(questions.len(), 4, "{questions:?}");

    // The authority has to revoke it.
    *bench.script.window.lock().unwrap() = Some((Duration::ZERO, HOUR));
    let by = Instant::now() + 6 * HOUR + 2 * LOOK_EVERY;
    while bench.script.orders().len() < 2 && Instant::now() < by {
        bench.pass(LOOK_EVERY).await;
    }
    // It has the same to say of the new one, which stays all the same while it is new.
    bench.pass(HOUR).await;
    assert_eq!(*bench.script.replacing.lock().unwrap(), [false, true]);
    let state = &bench.script.state;
    let suggestion = state.schedule().unwrap().suggestion.unwrap();
    let (wanted, record) = (&bench.script.wanted, state.schedule().unwrap());
    let held = state
        .certificate(wanted, &record, bench.script.now())
        .unwrap();
    assert_eq!(
        Some(suggestion.certificate),
        held.id.map(|id| id.to_string())
    );
}

#[tokio::test(start_paused = true)]
async fn an_authority_that_wants_peace_gets_it() {
    let bench = Bench::new(Manner::WantsPeace(5 * HOUR));
    let (_task, _stop) = bench.start();
    bench.pass(4 * HOUR).await;
    assert_eq!(bench.script.orders().len(), 1);
    bench.pass(HOUR + 2 * LOOK_EVERY).await;
    assert_eq!(bench.script.orders().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn of_several_instances_one_orders_and_the_others_watch() {
    let bench = Bench::new(Manner::Issues(90 * DAY));
    let instances: Vec<_> = (0..5).map(|_| bench.start()).collect();
    bench.pass(HOUR).await;
    assert_eq!(bench.script.orders().len(), 1);
    drop(instances);
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_ends_in_its_order_leaves_it_to_another() {
    let bench = Bench::new(Manner::Hangs);
    let (first, _stop) = bench.start();
    bench.pass(Duration::from_secs(5)).await;
    bench.script.set(Manner::Issues(90 * DAY));
    let (_second, _stop) = bench.start();
    bench.pass(Duration::from_secs(30)).await;
    assert_eq!(bench.script.orders().len(), 1);
    // It is under way, for all that this one knows.
    let report = bench.status.report().unwrap();
    assert_eq!(report.activity, Activity::Elsewhere);
    assert_eq!(report.failures, 0);
    assert!(report.next_attempt <= Some(bench.script.now()));
    first.abort();
    bench.pass(2 * LOCK_EVERY).await;
    let report = bench.status.report().unwrap();
    assert_eq!((report.activity, report.failures), (Activity::Waiting, 1));
    bench.pass(2 * LOOK_EVERY).await;
    assert_eq!(bench.script.orders().len(), 2);
    assert_eq!(bench.status.report().unwrap().failures, 0);
}

#[tokio::test(start_paused = true)]
async fn a_reload_begins_an_order_that_waits_four_times_an_hour_at_most() {
    let (bench, reloaded) = (Bench::new(Manner::IsDown), Arc::new(Notify::new()));
    let (_task, _stop) = bench.start_with(Arc::clone(&reloaded));
    bench.pass(DAY).await;
    let minute = Duration::from_secs(60);
    let of_the_ladder = bench.script.orders().len();
    for _ in 0..10 {
        reloaded.notify_one();
        bench.pass(minute / 10).await;
    }
    let orders = bench.script.orders();
    let at_once = &orders[of_the_ladder..];
    assert_eq!(at_once.len(), 4, "{orders:?}");
    assert!(at_once.iter().all(|at| *at < DAY + minute), "{orders:?}");

    bench.script.set(Manner::Issues(90 * DAY));
    bench.pass(HOUR).await;
    let orders = bench.script.orders().len();
    reloaded.notify_one();
    bench.pass(HOUR).await;
    assert_eq!(bench.script.orders().len(), orders, "nothing is due");
}

#[tokio::test(start_paused = true)]
async fn a_reload_begins_no_order_before_the_authority_wants_it() {
    let (bench, reloaded) = (
        Bench::new(Manner::WantsPeace(5 * HOUR)),
        Arc::new(Notify::new()),
    );
    let (_task, _stop) = bench.start_with(Arc::clone(&reloaded));
    bench.pass(HOUR).await;
    reloaded.notify_one();
    bench.pass(HOUR).await;
    assert_eq!(bench.script.orders().len(), 1);
    bench.pass(4 * HOUR).await;
    assert_eq!(bench.script.orders().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_process_that_ends_in_each_order_does_not_begin_one_after_the_other() {
    let bench = Bench::new(Manner::Hangs);
    let began = Instant::now();
    while began.elapsed() < HOUR {
        let (task, _stop) = bench.start();
        bench.pass(Duration::from_secs(10)).await;
        task.abort();
        let _ = task.await;
    }
    assert_eq!(bench.script.orders().len(), 4);
}

#[tokio::test(start_paused = true)]
async fn an_order_that_is_broken_off_counts_as_none() {
    let bench = Bench::new(Manner::Hangs);
    let (task, stop) = bench.start();
    bench.pass(Duration::from_secs(10)).await;
    assert_eq!(bench.status.report().unwrap().activity, Activity::Ordering);
    stop.send_replace(true);
    task.await.unwrap();
    assert_eq!(bench.script.state.schedule().unwrap().attempts.failures, 0);
    // And the lock is free.
    assert!(bench.script.state.lock().unwrap().is_some());
    bench.script.set(Manner::Issues(90 * DAY));
    let (_task, _stop) = bench.start();
    bench.pass(LOOK_EVERY).await;
    assert_eq!(bench.script.orders().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_schedule_that_can_not_be_read_counts_as_one_failed_order() {
    let bench = Bench::new(Manner::Issues(90 * DAY));
    let file = bench.directory.path().join("schedule.json");
    std::fs::write(&file, "nonsense").unwrap();
    let (_task, _stop) = bench.start();
    bench.pass(LOOK_EVERY / 2).await;
    assert_eq!(bench.script.orders().len(), 0);
    assert_eq!(bench.status.report().unwrap().failures, 1);
    bench.pass(2 * LOOK_EVERY).await;
    assert_eq!(bench.script.orders().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_directory_that_can_not_be_used_makes_the_order_overdue_until_it_can() {
    let bench = Bench::new(Manner::Issues(90 * DAY));
    let directory = bench.directory.path();
    std::fs::remove_dir_all(directory).unwrap();
    std::fs::write(directory, "").unwrap();
    let (_task, _stop) = bench.start();
    bench.pass(HOUR).await;
    assert_eq!(bench.script.orders().len(), 0);
    assert_eq!(bench.status.report().unwrap().activity, Activity::Unusable);
    let since = bench.script.base.duration_since(SystemTime::UNIX_EPOCH);
    let text = bench.metrics.render();
    let next = text
        .lines()
        .find_map(|line| line.strip_prefix("portcullis_acme_next_attempt_seconds "));
    let next: f64 = next.unwrap().parse().unwrap();
    assert!((next - since.unwrap().as_secs_f64()).abs() < 60.0, "{text}");

    std::fs::remove_file(directory).unwrap();
    bench.pass(2 * LOOK_EVERY).await;
    assert_eq!(bench.script.orders().len(), 1);
}

#[test]
fn what_is_left_is_said_in_a_unit_that_fits() {
    let minutes = |count: u64| span(Duration::from_secs(60 * count));
    assert_eq!(minutes(5), "5m");
    assert_eq!(minutes(119), "119m");
    assert_eq!(minutes(120), "2h");
    assert_eq!(minutes(47 * 60), "47h");
    assert_eq!(minutes(49 * 60), "2d");
}

#[tokio::test(start_paused = true)]
async fn a_certificate_that_has_expired_is_there_and_is_told_from_none() {
    let bench = Bench::new(Manner::Issues(DAY));
    let (task, stop) = bench.start();
    bench.pass(HOUR).await;
    stop.send_replace(true);
    task.await.unwrap();
    bench.script.set(Manner::IsDown);
    bench.pass(3 * DAY).await;
    let (log, _guard) = bench.log();
    let (_task, _stop) = bench.start();
    bench.pass(HOUR).await;
    let log = std::fs::read_to_string(log).unwrap();
    assert!(log.contains("expires_in=\"expired 2d ago\""), "{log}");
}

#[tokio::test(start_paused = true)]
async fn a_certificate_that_is_not_valid_yet_by_a_wrong_clock_is_there() {
    let bench = Bench::new(Manner::Issues(90 * DAY));
    *bench.script.ahead.lock().unwrap() = 10 * DAY;
    let (task, stop) = bench.start();
    bench.pass(HOUR).await;
    stop.send_replace(true);
    task.await.unwrap();
    bench.script.set(Manner::IsDown);
    *bench.script.ahead.lock().unwrap() = Duration::ZERO;
    let (log, _guard) = bench.log();
    let (_task, _stop) = bench.start();
    bench.pass(HOUR).await;
    let log = std::fs::read_to_string(log).unwrap();
    assert!(
        log.contains("expires_in=\"not valid yet by this machine's clock\""),
        "{log}"
    );
}

#[tokio::test(start_paused = true)]
async fn failures_for_a_certificate_that_is_not_due_any_more_are_over() {
    let bench = Bench::new(Manner::Issues(90 * DAY));
    let (_task, _stop) = bench.start();
    bench.pass(HOUR).await;
    bench.script.set(Manner::IsDown);
    *bench.script.ahead.lock().unwrap() = 100 * DAY;
    bench.pass(HOUR).await;
    assert!(bench.status.report().unwrap().failures > 1);

    *bench.script.ahead.lock().unwrap() = Duration::ZERO;
    bench.pass(2 * LOOK_EVERY).await;
    let report = bench.status.report().unwrap();
    assert_eq!((report.failures, report.last_failure), (0, None));
    assert!(report.next_attempt > Some(bench.script.now() + 59 * DAY));
    // Nor does the next order count them, in whatever process it begins.
    let record = bench.script.state.schedule().unwrap();
    assert_eq!((record.attempts.failures, record.last_failure), (0, None));
}

#[tokio::test(start_paused = true)]
async fn an_authority_that_wants_peace_for_longer_than_the_certificate_lasts_is_asked_before_its_end()
 {
    let bench = Bench::new(Manner::Issues(4 * DAY));
    let (_task, _stop) = bench.start();
    bench.pass(DAY).await;
    bench.script.set(Manner::WantsPeace(7 * DAY));
    bench.pass(3 * DAY).await;
    let orders = bench.script.orders();
    assert!((4..20).contains(&orders.len()), "{orders:?}");
}

#[tokio::test(start_paused = true)]
async fn a_refused_question_is_asked_again_when_the_authority_says() {
    let bench = Bench::new(Manner::Issues(90 * DAY));
    *bench.script.silence.lock().unwrap() = Some(20 * HOUR);
    let (_task, _stop) = bench.start();
    bench.pass(2 * DAY).await;
    let questions = bench.script.questions.lock().unwrap().clone();
    assert_eq!(questions.len(), 3, "{questions:?}");
}

#[tokio::test(start_paused = true)]
async fn an_order_whose_end_can_not_be_written_is_told_counted_and_remembered() {
    let bench = Bench::new(Manner::IsDownWithTheDisk);
    let (log, _guard) = bench.log();
    let (_task, _stop) = bench.start();
    bench.pass(HOUR).await;
    assert_eq!(bench.script.orders().len(), 1);
    let text = bench.metrics.render();
    let counted = "portcullis_acme_orders_total{result=\"failed\",stage=\"account\"} 1";
    assert!(text.contains(counted), "{text}");
    let log = std::fs::read_to_string(log).unwrap();
    assert!(log.contains("error=it is down"), "{log}");
    let report = bench.status.report().unwrap();
    assert_eq!(report.activity, Activity::Unusable);
    let trouble = report.trouble.expect("a reason");
    assert!(trouble.contains("schedule.json.new"), "{trouble}");

    bench.script.set(Manner::Hangs);
    std::fs::remove_dir(bench.script.obstacle()).unwrap();
    bench.pass(2 * LOOK_EVERY).await;
    let last = bench.script.state.schedule().unwrap().last_failure.unwrap();
    assert_eq!((&*last.stage, &*last.text), ("account", "it is down"));
}

#[tokio::test(start_paused = true)]
async fn a_process_that_finds_an_order_put_off_says_why_and_until_when() {
    let bench = Bench::new(Manner::WantsPeace(5 * HOUR));
    let (task, stop) = bench.start();
    bench.pass(HOUR).await;
    stop.send_replace(true);
    task.await.unwrap();
    let (log, _guard) = bench.log();
    let (_task, _stop) = bench.start();
    bench.pass(HOUR).await;
    let log = std::fs::read_to_string(log).unwrap();
    let lines: Vec<_> = log
        .lines()
        .filter(|line| line.contains("certificate order postponed"))
        .collect();
    let [line] = lines[..] else { panic!("{log}") };
    let next = moment(bench.status.report().unwrap().next_attempt.unwrap());
    for part in [
        "failures=1",
        &format!("next={next}"),
        "too many",
        "a reload begins it",
    ] {
        assert!(line.contains(part), "{part}: {line}");
    }
}
