//! Tests of what a scrape shows, before anything happened and after.

use super::*;
use crate::outcome::{AcmeResult, AcmeStage, BackendStatus, DialStage};

/// Every family that the documentation and the alerts may rely on, with its type.
const FAMILIES: &[(&str, &str)] = &[
    ("portcullis_accept_errors_total", "counter"),
    ("portcullis_acme_next_attempt_seconds", "gauge"),
    ("portcullis_acme_orders_total", "counter"),
    ("portcullis_backend_certificate_not_after_seconds", "gauge"),
    ("portcullis_backend_certificate_not_before_seconds", "gauge"),
    ("portcullis_backend_check_seconds", "gauge"),
    ("portcullis_backend_checks_total", "counter"),
    (
        "portcullis_backend_client_certificate_not_after_seconds",
        "gauge",
    ),
    (
        "portcullis_backend_client_certificate_not_before_seconds",
        "gauge",
    ),
    ("portcullis_backend_dial_failures_total", "counter"),
    ("portcullis_backend_dial_seconds", "histogram"),
    ("portcullis_backend_ejections_total", "counter"),
    ("portcullis_backend_failovers_total", "counter"),
    ("portcullis_backend_queue", "gauge"),
    ("portcullis_backend_sessions", "gauge"),
    ("portcullis_backend_state", "gauge"),
    ("portcullis_backend_unclean_close_total", "counter"),
    ("portcullis_build_info", "gauge"),
    ("portcullis_certificate_info", "gauge"),
    ("portcullis_certificate_not_after_seconds", "gauge"),
    ("portcullis_certificate_not_before_seconds", "gauge"),
    ("portcullis_clear_transfers_total", "counter"),
    ("portcullis_client_certificates_total", "counter"),
    ("portcullis_commands_denied_total", "counter"),
    (
        "portcullis_config_last_reload_success_timestamp_seconds",
        "gauge",
    ),
    ("portcullis_crl_next_update_seconds", "gauge"),
    ("portcullis_data_tls_handshakes_total", "counter"),
    ("portcullis_guard_total", "counter"),
    ("portcullis_log_lines_dropped_total", "counter"),
    ("portcullis_login_seconds", "histogram"),
    ("portcullis_logins_total", "counter"),
    ("portcullis_passive_ambiguous_total", "counter"),
    ("portcullis_passive_exhausted_total", "counter"),
    ("portcullis_passive_ports_in_use", "gauge"),
    ("portcullis_passive_strangers_total", "counter"),
    ("portcullis_proxy_header_faults_total", "counter"),
    ("portcullis_rate_limited_seconds_total", "counter"),
    ("portcullis_reload_refused", "gauge"),
    ("portcullis_reloads_total", "counter"),
    ("portcullis_sessions", "gauge"),
    ("portcullis_sessions_by_resumption_total", "counter"),
    ("portcullis_sessions_refused_total", "counter"),
    ("portcullis_sessions_total", "counter"),
    ("portcullis_site_sessions", "gauge"),
    ("portcullis_tasks", "gauge"),
    ("portcullis_tls_handshakes_total", "counter"),
    ("portcullis_tls_key_exchanges_total", "counter"),
    ("portcullis_transfer_bytes_per_second", "histogram"),
    ("portcullis_transfer_bytes_total", "counter"),
    ("portcullis_transfer_seconds", "histogram"),
    ("portcullis_transfers", "gauge"),
    ("portcullis_transfers_total", "counter"),
    ("process_cpu_seconds_total", "counter"),
    ("process_max_fds", "gauge"),
    ("process_open_fds", "gauge"),
    ("process_resident_memory_bytes", "gauge"),
    ("process_start_time_seconds", "gauge"),
    ("process_threads", "gauge"),
    ("process_virtual_memory_bytes", "gauge"),
];

fn value(metrics: &Metrics, series: &str) -> Option<f64> {
    metrics.render().lines().find_map(|line| {
        let (name, value) = line.rsplit_once(' ')?;
        (name == series).then(|| value.parse().expect("a number"))
    })
}

fn series(metrics: &Metrics) -> usize {
    metrics
        .render()
        .lines()
        .filter(|line| !line.starts_with('#'))
        .count()
}

/// Counts everything that can be counted once, with `site` wherever there is a site.
fn count_everything(metrics: &Metrics, site: &str) {
    for listener in [TlsMode::Explicit, TlsMode::Implicit] {
        drop(metrics.session(listener));
    }
    LimitExceeded::ALL
        .iter()
        .for_each(|r| metrics.session_refused(*r));
    drop(metrics.session_at(site));
    metrics.accept_error();
    ProxyHeaderFault::ALL
        .iter()
        .for_each(|f| metrics.proxy_header_fault(*f));
    LoginResult::ALL
        .iter()
        .for_each(|r| metrics.login(site, *r));
    GuardAction::ALL
        .iter()
        .for_each(|a| metrics.guard(site, *a));
    CertificateResult::ALL
        .iter()
        .for_each(|r| metrics.client_certificate(site, *r));
    HandshakeResult::ALL
        .iter()
        .for_each(|r| metrics.handshake(*r));
    KeyExchange::ALL
        .iter()
        .for_each(|g| metrics.key_exchange(*g));
    Resumption::ALL
        .iter()
        .for_each(|r| metrics.session_resumed(site, *r));
    metrics.logged_in(site, Duration::from_millis(3));
    metrics.clear_transfer(site);
    for leg in Leg::ALL {
        DataHandshake::ALL
            .iter()
            .for_each(|k| metrics.data_handshake(*leg, *k));
    }
    drop(metrics.transfer_running());
    for direction in Direction::ALL {
        Verdict::ALL
            .iter()
            .for_each(|v| metrics.transfer(site, *direction, *v, 1));
        metrics.transfer_complete(site, *direction, RATED_BYTES, Duration::from_secs(1));
        metrics.held_back(site, *direction, Duration::from_millis(3));
    }
    metrics.backend_dialled(site, Duration::from_millis(3));
    DialStage::ALL
        .iter()
        .for_each(|s| metrics.backend_dial_failed(site, *s));
    metrics.backend_unclean_close(site);
    metrics.passive_ports_in_use(7);
    metrics.passive_ambiguous();
    metrics.passive_exhausted();
    metrics.passive_stranger();
    metrics.only_certificates([served("sha256:00")].into_iter());
    for subject in ReloadSubject::ALL {
        ReloadResult::ALL
            .iter()
            .for_each(|r| metrics.reload(*subject, *r));
    }
}

/// As soon as a configuration with a backend is in use.
fn with_a_backend() -> Metrics {
    let metrics = Metrics::new();
    metrics.declare_site("ftpa");
    metrics.only_backends([backend("10.0.0.10:21")].into_iter());
    metrics.backend_status("ftpa", "10.0.0.10:21", BackendStatus::Up);
    metrics.backend_checked("ftpa", "10.0.0.10:21", None, Duration::from_millis(3));
    let now = SystemTime::now();
    metrics.backend_certificate("ftpa", "10.0.0.10:21", Some(now), now);
    metrics.backend_client_certificate("ftpa", "10.0.0.10:21", now, now);
    metrics.only_certificates([served("sha256:00")].into_iter());
    metrics.revocation_lists([("partners.crl", UNIX_EPOCH)]);
    metrics.declare_orders();
    metrics.next_order(Some(now));
    metrics
}

fn served(fingerprint: &str) -> ServedCertificate<'_> {
    ServedCertificate {
        name: "default",
        fingerprint,
        subject: "CN=ftp.test",
        not_before: UNIX_EPOCH + Duration::from_secs(1_000),
        not_after: UNIX_EPOCH + Duration::from_secs(4_000),
    }
}

/// A backend that is checked and has TLS.
fn backend(backend: &str) -> ShownBackend<'_> {
    ShownBackend {
        site: "ftpa",
        backend,
        shown: Shown {
            checks: true,
            tls: true,
            client_certificate: true,
        },
    }
}

#[test]
fn every_family_shows_before_anything_happened() {
    let rendered = with_a_backend().render();
    let families: Vec<(&str, &str)> = rendered
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '))
        .collect();
    assert_eq!(families, FAMILIES);
}

#[test]
fn every_family_says_what_it_means() {
    let rendered = with_a_backend().render();
    for (name, _) in FAMILIES {
        let help = rendered.lines().find_map(|line| {
            line.strip_prefix("# HELP ")?
                .strip_prefix(name)?
                .strip_prefix(' ')
        });
        assert!(help.is_some_and(|text| text.ends_with('.')), "{name}");
    }
}

#[test]
fn where_no_certificate_is_ordered_nothing_says_when() {
    let metrics = Metrics::new();
    assert!(!metrics.render().contains("portcullis_acme"));
    metrics.declare_orders();
    metrics.next_order(Some(UNIX_EPOCH + Duration::from_secs(7)));
    metrics.order(AcmeResult::Failed, AcmeStage::Challenge);
    let rendered = metrics.render();
    for line in [
        "portcullis_acme_next_attempt_seconds 7",
        "portcullis_acme_orders_total{result=\"failed\",stage=\"challenge\"} 1",
        "portcullis_acme_orders_total{result=\"issued\",stage=\"download\"} 0",
    ] {
        assert!(rendered.contains(line), "{rendered}");
    }
    metrics.next_order(None);
    assert!(
        !metrics
            .render()
            .contains("portcullis_acme_next_attempt_seconds")
    );
}

#[test]
fn a_declared_site_starts_from_zero() {
    let metrics = Metrics::new();
    metrics.declare_site("ftpb");
    for name in [
        r#"portcullis_logins_total{result="rejected",site="ftpb"}"#,
        r#"portcullis_transfers_total{direction="upload",site="ftpb",verdict="failed_client"}"#,
        r#"portcullis_transfer_bytes_total{direction="listing",site="ftpb",verdict="complete"}"#,
        r#"portcullis_rate_limited_seconds_total{direction="upload",site="ftpb"}"#,
        r#"portcullis_backend_dial_failures_total{site="ftpb",stage="certificate"}"#,
        r#"portcullis_backend_dial_seconds_count{site="ftpb"}"#,
        r#"portcullis_backend_unclean_close_total{site="ftpb"}"#,
        r#"portcullis_site_sessions{site="ftpb"}"#,
    ] {
        assert_eq!(value(&metrics, name), Some(0.0), "{name}");
    }
}

#[test]
fn a_backend_is_in_one_state_and_is_forgotten_with_its_configuration() {
    let metrics = with_a_backend();
    let state = |state: &str| {
        let labels = format!(r#"backend="10.0.0.10:21",site="ftpa",state="{state}""#);
        value(&metrics, &format!("portcullis_backend_state{{{labels}}}"))
    };
    metrics.backend_status("ftpa", "10.0.0.10:21", BackendStatus::Ejected);
    assert_eq!((state("up"), state("ejected")), (Some(0.0), Some(1.0)));
    metrics.only_backends([backend("10.0.0.11:21")].into_iter());
    assert_eq!((state("up"), state("ejected")), (None, None));
    assert!(!metrics.render().contains("10.0.0.10:21"));
}

#[test]
fn what_a_session_of_an_earlier_configuration_does_at_its_backend_makes_no_series() {
    let metrics = with_a_backend();
    metrics.only_backends([backend("10.0.0.11:21")].into_iter());
    let _former = metrics.session_at_backend("ftpa", "10.0.0.10:21");
    metrics.backend_ejected("ftpa", "10.0.0.10:21");
    assert!(!metrics.render().contains("10.0.0.10:21"));

    let sessions = r#"portcullis_backend_sessions{backend="10.0.0.11:21",site="ftpa"}"#;
    let session = metrics.session_at_backend("ftpa", "10.0.0.11:21");
    assert_eq!(value(&metrics, sessions), Some(1.0));
    drop(session);
    assert_eq!(value(&metrics, sessions), Some(0.0));
}

#[test]
fn sessions_at_a_backend_that_reloads_take_out_and_put_back_have_counted_all_the_while() {
    let metrics = with_a_backend();
    let sessions = r#"portcullis_backend_sessions{backend="10.0.0.10:21",site="ftpa"}"#;
    let open = || metrics.session_at_backend("ftpa", "10.0.0.10:21");
    let (ends, stays) = (open(), open());
    assert_eq!(value(&metrics, sessions), Some(2.0));
    metrics.only_backends([backend("10.0.0.11:21")].into_iter());
    assert_eq!(value(&metrics, sessions), None);
    drop(ends);
    let comes = open();
    assert_eq!(value(&metrics, sessions), None);
    metrics.only_backends([backend("10.0.0.10:21")].into_iter());
    assert_eq!(value(&metrics, sessions), Some(2.0));
    metrics.only_backends([backend("10.0.0.10:21")].into_iter());
    drop((stays, comes));
    assert_eq!(value(&metrics, sessions), Some(0.0));
}

#[test]
fn certificates_are_shown_by_name_and_none_before_or_beside_them() {
    let metrics = Metrics::new();
    let info = |fingerprint: &str, name: &str| {
        let labels = format!(r#"fingerprint="{fingerprint}",name="{name}",subject="CN=ftp.test""#);
        value(
            &metrics,
            &format!("portcullis_certificate_info{{{labels}}}"),
        )
    };
    let seconds = |end: &str, name: &str| {
        let name = format!("portcullis_certificate_{end}_seconds{{name=\"{name}\"}}");
        value(&metrics, &name)
    };
    for fingerprint in ["sha256:00", "sha256:11", "sha256:11"] {
        metrics.only_certificates([served(fingerprint)].into_iter());
        assert_eq!(info(fingerprint, "default"), Some(1.0));
        let rendered = metrics.render();
        assert_eq!(rendered.matches("portcullis_certificate_info{").count(), 1);
    }
    let other = ServedCertificate {
        name: "/tls/ftpb.crt",
        ..served("sha256:22")
    };
    metrics.only_certificates([served("sha256:11"), other].into_iter());
    for name in ["default", "/tls/ftpb.crt"] {
        let lifetime = (seconds("not_before", name), seconds("not_after", name));
        assert_eq!(lifetime, (Some(1_000.0), Some(4_000.0)));
    }
    assert_eq!(info("sha256:22", "/tls/ftpb.crt"), Some(1.0));
    metrics.only_certificates([served("sha256:11")].into_iter());
    assert!(!metrics.render().contains("/tls/ftpb.crt"));
    assert_eq!(info("sha256:11", "default"), Some(1.0));
}

#[test]
fn of_a_backends_expired_certificate_only_the_end_is_shown() {
    let metrics = with_a_backend();
    let name = |end: &str| {
        let labels = r#"backend="10.0.0.10:21",site="ftpa""#;
        format!("portcullis_backend_certificate_{end}_seconds{{{labels}}}")
    };
    assert!(value(&metrics, &name("not_before")).is_some());
    metrics.backend_certificate("ftpa", "10.0.0.10:21", None, UNIX_EPOCH);
    assert_eq!(value(&metrics, &name("not_before")), None);
    assert_eq!(value(&metrics, &name("not_after")), Some(0.0));
}

#[test]
fn a_backend_that_is_checked_no_more_shows_no_checks() {
    let metrics = with_a_backend();
    let passed =
        r#"portcullis_backend_checks_total{backend="10.0.0.10:21",site="ftpa",stage="ok"}"#;
    assert_eq!(value(&metrics, passed), Some(1.0));
    // A reload that changes nothing.
    metrics.only_backends([backend("10.0.0.10:21")].into_iter());
    assert_eq!(value(&metrics, passed), Some(1.0));
    let unchecked = ShownBackend {
        shown: Shown::default(),
        ..backend("10.0.0.10:21")
    };
    metrics.only_backends([unchecked].into_iter());
    // By a check that the reload has overtaken.
    metrics.backend_checked("ftpa", "10.0.0.10:21", None, Duration::from_millis(3));
    let rendered = metrics.render();
    assert!(!rendered.contains("portcullis_backend_check"), "{rendered}");
    assert!(!rendered.contains("portcullis_backend_certificate"));
    assert!(!rendered.contains("portcullis_backend_client_certificate"));
    assert!(rendered.contains("portcullis_backend_state"));
}

#[test]
fn events_are_counted_at_their_site() {
    let metrics = Metrics::new();
    metrics.declare_site("ftpa");
    metrics.declare_site("ftpb");
    metrics.login("ftpb", LoginResult::Accepted);
    metrics.transfer("ftpb", Direction::Download, Verdict::Complete, 1000);
    metrics.transfer("ftpb", Direction::Download, Verdict::FailedBackend, 24);
    for (name, expected) in [
        (
            r#"portcullis_logins_total{result="accepted",site="ftpb"}"#,
            1.0,
        ),
        (
            r#"portcullis_logins_total{result="accepted",site="ftpa"}"#,
            0.0,
        ),
        (
            r#"portcullis_transfers_total{direction="download",site="ftpb",verdict="complete"}"#,
            1.0,
        ),
        (
            r#"portcullis_transfer_bytes_total{direction="download",site="ftpb",verdict="failed_backend"}"#,
            24.0,
        ),
    ] {
        assert_eq!(value(&metrics, name), Some(expected), "{name}");
    }
}

#[test]
fn only_a_transfer_of_some_size_has_a_rate() {
    let metrics = Metrics::new();
    metrics.declare_site("ftpa");
    let complete = |bytes, seconds| {
        let elapsed = Duration::from_secs(seconds);
        metrics.transfer_complete("ftpa", Direction::Upload, bytes, elapsed);
    };
    let of_uploads = |series: &str| {
        let labels = r#"direction="upload",site="ftpa""#;
        value(&metrics, &format!("portcullis_{series}{{{labels}}}"))
    };
    complete(RATED_BYTES - 1, 1);
    assert_eq!(of_uploads("transfer_seconds_count"), Some(1.0));
    assert_eq!(of_uploads("transfer_bytes_per_second_count"), Some(0.0));
    complete(8 * RATED_BYTES, 4);
    // A clock that stands still must not make it infinite.
    complete(RATED_BYTES, 0);
    assert_eq!(of_uploads("transfer_seconds_sum"), Some(5.0));
    assert_eq!(of_uploads("transfer_bytes_per_second_count"), Some(1.0));
    assert_eq!(
        of_uploads("transfer_bytes_per_second_sum"),
        Some(2_097_152.0)
    );
}

#[test]
fn nothing_but_configured_names_makes_a_series() {
    let metrics = Metrics::new();
    metrics.declare_site("ftpa");
    // As at every start.
    metrics.only_certificates([served("sha256:00")].into_iter());
    let before = series(&metrics);
    count_everything(&metrics, "ftpa");
    for n in 0..1000 {
        count_everything(&metrics, &format!("made-up-{n}"));
    }
    assert_eq!(series(&metrics), before);
    assert_eq!(
        value(
            &metrics,
            r#"portcullis_logins_total{result="accepted",site="none"}"#
        ),
        Some(1000.0)
    );
}

#[test]
fn declaring_a_site_again_keeps_its_numbers() {
    let metrics = Metrics::new();
    metrics.declare_site("ftpa");
    metrics.login("ftpa", LoginResult::Accepted);
    metrics.declare_site("ftpa");
    assert_eq!(
        value(
            &metrics,
            r#"portcullis_logins_total{result="accepted",site="ftpa"}"#
        ),
        Some(1.0)
    );
}

#[test]
fn a_panicking_session_is_no_longer_counted_as_open() {
    let metrics = Metrics::new();
    let session = metrics.session(TlsMode::Implicit);
    let transfer = metrics.transfer_running();
    assert_eq!(value(&metrics, "portcullis_sessions"), Some(1.0));
    assert_eq!(value(&metrics, "portcullis_transfers"), Some(1.0));
    std::thread::spawn(move || {
        let _held = (session, transfer);
        std::panic::resume_unwind(Box::new("a session's panic"));
    })
    .join()
    .expect_err("the thread panics");
    assert_eq!(value(&metrics, "portcullis_sessions"), Some(0.0));
    assert_eq!(value(&metrics, "portcullis_transfers"), Some(0.0));
    assert_eq!(
        value(
            &metrics,
            r#"portcullis_sessions_total{listener="implicit"}"#
        ),
        Some(1.0)
    );
}

#[test]
fn only_a_configuration_in_use_moves_its_time() {
    const LOADED: &str = "portcullis_config_last_reload_success_timestamp_seconds";
    let metrics = Metrics::new();
    metrics.reload(ReloadSubject::Configuration, ReloadResult::Refused);
    metrics.reload(ReloadSubject::Certificate, ReloadResult::Ok);
    assert_eq!(value(&metrics, LOADED), Some(0.0));
    metrics.configuration_loaded();
    assert!(value(&metrics, LOADED) > Some(1.7e9));
}

#[test]
fn two_instances_share_nothing() {
    let (one, other) = (Metrics::new(), Metrics::new());
    one.accept_error();
    assert_eq!(value(&other, "portcullis_accept_errors_total"), Some(0.0));
}
