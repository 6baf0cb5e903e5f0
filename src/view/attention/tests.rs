//! Each rule, on both sides of its bound, and the order.

use super::*;
use crate::view::fixtures::{Sample, ago, at, backend, certificate, show_certificate, site};

/// The problems that need attention, in short.
fn found(sample: &Sample) -> Vec<String> {
    super::found(&sample.process()).iter().map(name).collect()
}

fn name(attention: &Attention<'_>) -> String {
    match attention {
        Attention::CertificateExpired(_, pair) => format!("expired {}", pair.days_left),
        Attention::CertificateExpires(_, pair) => format!("expires {}", pair.days_left),
        Attention::ChainNotYetValid(_, _, (position, _)) => format!("chain begins {position}"),
        Attention::CertificateRefused(certificate, _) => format!("refused {}", certificate.file),
        Attention::RevocationListEnded(list, _) => format!("ended {}", list.file),
        Attention::RevocationListEnds(list, _) => format!("ends {}", list.file),
        Attention::BackendClientCertificate(own) => {
            format!("own {} {}", own.file, own.pair.days_left)
        }
        Attention::OrdersOverdue(_) => "overdue".to_owned(),
        Attention::OrdersFail(orders) => format!("orders fail {}", orders.failures),
        Attention::Refused(reload) => format!("refused {}", reload.subject),
        Attention::Stalled(stalled) => format!("stalled {}", stalled.subject),
        Attention::MisplacedLog(log) => format!("log {}", log.file),
        Attention::NoBackend(site) => format!("no backend {}", site.site),
        Attention::BackendsFull(site) => format!("backends full {}", site.site),
        Attention::BackendOut(backend) => format!("out {}", backend.backend),
        Attention::CheckLoginRefused(backend, login) => {
            format!("login refused {} {}", backend.site, login.user)
        }
        Attention::BackendCertificate(backend) => format!("backend expires {}", backend.backend),
        Attention::Maintenance(site) => format!("maintenance {}", site.site),
        Attention::Drained(backend) => format!("drained {}", backend.backend),
        Attention::SiteNearlyFull(site) => format!("full {}", site.site),
        Attention::ProcessNearlyFull => "full".to_owned(),
        Attention::NoCertificate => "no_certificate".to_owned(),
        Attention::Starting => "starting".to_owned(),
        Attention::LameDuck => "lame_duck".to_owned(),
        Attention::Draining => "draining".to_owned(),
    }
}

/// The problems that need attention once `change` has been made to a process that is well.
fn after(change: impl FnOnce(&mut Sample)) -> Vec<String> {
    let mut sample = Sample::well();
    change(&mut sample);
    found(&sample)
}

fn orders(activity: &'static str, failures: u32) -> OrdersView {
    OrdersView {
        activity,
        names: "ftp.example.com".to_owned(),
        next_attempt: Some(ago(0)),
        failures,
        failed_at: (failures > 0).then(|| "challenge".to_owned()),
        error: (failures > 0).then(|| "connection refused".to_owned()),
    }
}

#[test]
fn orders_need_it_when_they_fail_twice_or_can_not_be_made() {
    for (orders, expected) in [
        (orders("waiting", 0), None),
        (orders("waiting", 1), None),
        (orders("waiting", 2), Some("orders fail 2")),
        (orders("unusable", 0), Some("orders fail 0")),
    ] {
        let found = after(|sample| sample.overview.acme = Some(orders));
        assert_eq!(found.first().map(String::as_str), expected);
    }
}

#[test]
fn an_order_needs_it_when_it_is_an_hour_late() {
    for (seconds, expected) in [(3_600, None), (3_601, Some("overdue"))] {
        let found = after(|sample| {
            sample.overview.acme = Some(OrdersView {
                next_attempt: Some(ago(seconds)),
                ..orders("waiting", 0)
            });
        });
        assert_eq!(found, Vec::from_iter(expected), "{seconds}");
    }
}

#[test]
fn a_revocation_list_needs_it_four_hours_before_its_end_and_behind_it() {
    let list = |next_update, then_refused| RevocationListView {
        file: "partners.crl".to_owned(),
        issuer: "CN=Partners".to_owned(),
        next_update,
        then_refused,
    };
    let in_hours = |hours: u64| Moment::new(at(hours * 3_600));
    for (next_update, expected) in [
        (None, None),
        (Some(in_hours(5)), None),
        (Some(in_hours(3)), Some("ends partners.crl")),
        (Some(ago(1)), Some("ended partners.crl")),
    ] {
        let found =
            after(|sample| sample.overview.revocation_lists = vec![list(next_update, true)]);
        assert_eq!(found, Vec::from_iter(expected));
    }
    for (then_refused, severity) in [(true, Severity::Failing), (false, Severity::Warning)] {
        let mut sample = Sample::well();
        sample.overview.revocation_lists = vec![list(Some(ago(60)), then_refused)];
        let told = attention(&sample.process());
        assert_eq!(told[0].severity, severity);
        assert_eq!(
            told[0].what.to_string(),
            "The revocation list of CN=Partners ended 1 min 0 s ago"
        );
    }
}

#[test]
fn a_certificate_that_backends_are_shown_needs_it_as_that_for_clients_does() {
    for (days, expected) in [
        (23, None),
        (22, Some("own own.crt 22")),
        (-1, Some("own own.crt -1")),
    ] {
        let found = after(|sample| {
            sample.overview.backend_client_certificates = vec![BackendClientCertificateView {
                file: "own.crt".to_owned(),
                pair: certificate(days, 90).pair.expect("a pair"),
            }];
        });
        assert_eq!(found, Vec::from_iter(expected), "{days}");
    }
}

#[test]
fn an_issuer_that_ends_before_the_certificate_is_named() {
    let mut sample = Sample::well();
    sample.certificates = vec![certificate(-3, 90)];
    sample.certificates[0]
        .pair
        .as_mut()
        .expect("a pair")
        .ends_by_issuer = Some(2);
    assert_eq!(
        attention(&sample.process())[0].what.to_string(),
        "Certificate 2 in the chain of that for ftp.example.com, *.example.com expired 2 days ago"
    );
}

#[test]
fn an_issuer_that_is_not_valid_yet_is_named_until_it_is() {
    let mut sample = Sample::well();
    sample.certificates = vec![certificate(60, 90)];
    let mut found_with = |begins| {
        let pair = sample.certificates[0].pair.as_mut();
        pair.expect("a pair").chain_begins = Some((2, begins));
        let found = attention(&sample.process());
        found.first().map(|one| one.what.to_string())
    };
    assert_eq!(found_with(ago(60)), None);
    assert_eq!(
        found_with(Moment::new(at(60))).as_deref(),
        Some(
            "Certificate 2 in the chain of that for ftp.example.com, *.example.com becomes valid only in 1 min 0 s"
        )
    );
}

#[test]
fn a_site_whose_backends_are_drained_is_told_by_whom() {
    let remedy = |states: &[(&'static str, Option<DrainedBy>)]| {
        let mut sample = Sample::well();
        sample.sites[0].backends_up = 0;
        sample.sites[0].backends = states.len();
        sample.backends = states
            .iter()
            .map(|(state, drained_by)| {
                let mut backend = backend("ftpa", "be");
                (backend.state, backend.drained_by) = (state, *drained_by);
                backend
            })
            .collect();
        attention(&sample.process())[0].remedy.to_string()
    };
    let (operator, configuration) = (Some(DrainedBy::Operator), Some(DrainedBy::Configuration));
    assert!(remedy(&[("drain", operator)]).contains("`portcullis ready ftpa BACKEND`"));
    let both = [
        ("drain", configuration),
        ("down", None),
        ("drain", operator),
    ];
    assert!(remedy(&both).contains("`portcullis ready ftpa BACKEND`"));
    assert!(remedy(&[("drain", configuration)]).contains("take `drain` or `weight: 0`"));
    assert!(remedy(&[("down", None)]).contains("`portcullis probe "));
}

#[test]
fn files_that_can_not_be_read_to_their_end_need_it() {
    let mut sample = Sample::well();
    sample.overview.stalled = vec![StalledView {
        at: ago(90),
        subject: "certificate",
    }];
    assert_eq!(found(&sample), ["stalled certificate"]);
    assert_eq!(
        attention(&sample.process())[0].what.to_string(),
        "New certificate files have not been read for 1 min 30 s"
    );
}

#[test]
fn a_transfer_log_that_can_not_be_opened_anew_needs_it_with_the_reason() {
    let mut sample = Sample::well();
    sample.overview.misplaced_logs = vec![MisplacedLogView {
        file: "/var/log/portcullis/xferlog".to_owned(),
        since: ago(90),
        error: "Permission denied (os error 13)".to_owned(),
    }];
    let told = attention(&sample.process());
    assert_eq!(
        told[0].what.to_string(),
        "Transfer log `/var/log/portcullis/xferlog` can't be reopened for 1 min 30 s"
    );
    assert_eq!(told[0].severity, Severity::Warning);
    assert_eq!(
        told[0].reason.as_deref(),
        Some("Permission denied (os error 13)")
    );
}

fn refusal(subject: &'static str, name: Option<&str>) -> RefusedView {
    RefusedView {
        at: ago(60),
        subject,
        name: name.map(str::to_owned),
        reason: "line 3".to_owned(),
    }
}

#[test]
fn a_process_that_is_well_needs_none() {
    assert_eq!(found(&Sample::well()), [""; 0]);
}

#[test]
fn a_certificate_needs_it_with_a_quarter_of_its_life_left_and_no_more_than_a_month() {
    for (days, life, expected) in [
        (30, 365, None),
        (29, 365, Some("expires 29")),
        (23, 90, None),
        (22, 90, Some("expires 22")),
        (2, 6, None),
        (1, 6, Some("expires 1")),
        (0, 6, Some("expires 0")),
        (-1, 6, Some("expired -1")),
    ] {
        let found = after(|sample| sample.certificates[0] = certificate(days, life));
        assert_eq!(found, Vec::from_iter(expected), "{days} of {life}");
    }
}

#[test]
fn a_certificate_that_clients_miss_is_told_with_why_its_only_order_failed_and_when_the_next_begins()
{
    let mut sample = Sample::well();
    sample.overview.readiness = "no_certificate";
    sample.overview.acme = Some(orders("waiting", 1));
    let told = |sample: &Sample| {
        let [one] = &attention(&sample.process())[..] else {
            panic!("one thing needs it")
        };
        (one.reason.clone(), one.remedy.to_string())
    };
    let (reason, remedy) = told(&sample);
    assert_eq!(reason.as_deref(), Some("connection refused"));
    assert!(remedy.contains("The next order begins"), "{remedy}");
    sample.overview.acme = Some(orders("ordering", 0));
    let (reason, remedy) = told(&sample);
    assert_eq!(reason, None);
    assert!(remedy.contains("An order is under way"), "{remedy}");

    // So is one that expires.
    let mut sample = Sample::well();
    sample.overview.acme = Some(orders("waiting", 1));
    sample.certificates[0] = CertificateView {
        ordered: true,
        ..certificate(-1, 90)
    };
    assert_eq!(told(&sample).0.as_deref(), Some("connection refused"));
}

#[test]
fn a_certificate_that_is_ordered_is_not_for_the_operator_to_replace() {
    for days in [-1, 1] {
        let remedy = |ordered| {
            let mut sample = Sample::well();
            sample.certificates[0] = CertificateView {
                ordered,
                ..certificate(days, 90)
            };
            attention(&sample.process())[0].remedy.to_string()
        };
        assert!(
            remedy(false).contains("the new one into") || remedy(false).contains("a new one into")
        );
        let ordered = remedy(true);
        assert!(ordered.contains("Portcullis orders a new one"), "{ordered}");
        assert!(!ordered.contains("tls.crt"), "{ordered}");
    }
}

#[test]
fn each_refusal_that_stands_needs_it_whatever_was_reloaded_last() {
    let found = after(|sample| {
        sample.overview.reloads.clear();
        sample.overview.refused = vec![
            refusal("configuration", None),
            refusal("users", Some("a.txt")),
            refusal("users", Some("b.txt")),
        ];
    });
    let expected = ["refused configuration", "refused users", "refused users"];
    assert_eq!(found, expected);
}

#[test]
fn a_refusal_says_of_which_file_it_is_or_of_which_name() {
    let what = |subject, name| {
        let mut sample = Sample::well();
        sample.overview.refused = vec![refusal(subject, name)];
        attention(&sample.process())[0].what.to_string()
    };
    let users = "The new users file `/etc/a.txt` was refused 1 min 0 s ago";
    assert_eq!(what("users", Some("/etc/a.txt")), users);
    let backends = "The new backend certificate file `be.crt` was refused 1 min 0 s ago";
    assert_eq!(what("backend_certificate", Some("be.crt")), backends);
    let address = "The address of ftp.test could not be looked up again 1 min 0 s ago";
    assert_eq!(what("passive_address", Some("ftp.test")), address);
}

#[test]
fn a_refused_certificate_needs_it_once_whether_a_former_one_is_served_or_none() {
    let found = after(|sample| {
        let mut other = certificate(61, 90);
        other.file = "/tls/ftpb.crt".to_owned();
        other.pair = None;
        other.refused = Some("it is empty".to_owned());
        sample.certificates[0].refused = Some("it is empty".to_owned());
        sample.certificates.push(other);
        sample.overview.refused = vec![refusal("certificate", Some("default"))];
    });
    assert_eq!(
        found,
        [
            "refused /etc/portcullis/tls/tls.crt",
            "refused /tls/ftpb.crt"
        ]
    );
}

#[test]
fn a_site_without_a_backend_needs_it_unless_it_is_in_maintenance() {
    assert_eq!(
        after(|sample| sample.sites[0].backends_up = 0),
        ["no backend ftpa"]
    );
    let found = after(|sample| {
        sample.sites[0].backends_up = 0;
        sample.sites[0].maintenance = Some("operator");
    });
    assert_eq!(found, ["maintenance ftpa"]);
}

#[test]
fn a_site_whose_backends_are_full_is_not_failing_and_is_told_what_to_raise() {
    let full = |backends: usize, up: usize| {
        let mut sample = Sample::well();
        let site = &mut sample.sites[0];
        (site.backends, site.backends_up, site.backends_full) = (backends, up, up);
        sample.backends = (0..backends)
            .map(|index| {
                let mut backend = backend("ftpa", "be");
                backend.state = if index < up { "full" } else { "drain" };
                backend.max_sessions = Some(20);
                backend
            })
            .collect();
        sample
    };
    for (sample, expected) in [
        (
            full(1, 1),
            "The one backend of site ftpa is full, with the 20 sessions of `max_sessions`",
        ),
        (
            full(3, 1),
            "The one backend that is up at site ftpa is full, with the 20 sessions of `max_sessions`",
        ),
        (
            full(2, 2),
            "All backends of site ftpa are full, with the 40 sessions of `max_sessions`",
        ),
        (
            full(3, 2),
            "All backends that are up at site ftpa are full, with the 40 sessions of `max_sessions`",
        ),
    ] {
        let told = attention(&sample.process());
        assert_eq!(told.len(), 1, "{expected}");
        assert_eq!(told[0].severity, Severity::Warning);
        assert_eq!(told[0].what.to_string(), expected);
        let remedy = told[0].remedy.to_string();
        assert!(remedy.contains("Raise `max_sessions`"), "{remedy}");
        assert!(!remedy.contains("probe"), "{remedy}");
    }
    let mut sample = full(2, 2);
    sample.sites[0].backends_full = 1;
    assert_eq!(found(&sample), [""; 0], "one has room");
    sample.sites[0].backends_full = 2;
    sample.sites[0].maintenance = Some("operator");
    assert_eq!(found(&sample), ["maintenance ftpa"]);
}

#[test]
fn a_backend_needs_it_where_it_is_out_or_an_operator_has_drained_it() {
    for (state, drained_by, expected) in [
        ("up", None, None),
        ("full", None, None),
        ("down", None, Some("out 10.0.0.10:21")),
        ("ejected", None, Some("out 10.0.0.10:21")),
        ("drain", Some(DrainedBy::Configuration), None),
        (
            "drain",
            Some(DrainedBy::Operator),
            Some("drained 10.0.0.10:21"),
        ),
    ] {
        let found = after(|sample| {
            sample.backends[0].state = state;
            sample.backends[0].drained_by = drained_by;
        });
        assert_eq!(found, Vec::from_iter(expected), "{state}");
    }
}

/// A backend whose checks list `/no dir` as `host|probe`.
fn checked_by_list(failed_at: Option<&'static str>) -> BackendView {
    let mut backend = backend("ftpa", "be1");
    backend.check_login = Some(CheckLoginView {
        user: "host|probe".to_owned(),
        password_file: "/etc/portcullis/probe.pw".to_owned(),
        listed: Some("/no dir".to_owned()),
    });
    backend.check.as_mut().expect("it is checked").failed_at = failed_at;
    backend
}

#[test]
fn the_command_that_is_named_for_a_failing_check_goes_as_far_as_that_check() {
    let until_login =
        "`portcullis probe --config /etc/portcullis/portcullis.yaml --site ftpa --backend be1`";
    let with_login = "`portcullis probe --config /etc/portcullis/portcullis.yaml --site ftpa --backend be1 --user \
                      'host|probe' --password-file /etc/portcullis/probe.pw --list --path '/no dir'`";
    for (failed_at, command) in [
        (None, until_login),
        (Some("greeting"), until_login),
        (Some("login"), with_login),
        (Some("data"), with_login),
        (Some("list"), with_login),
    ] {
        let mut sample = Sample::well();
        sample.backends = vec![checked_by_list(failed_at)];
        sample.backends[0].state = "down";
        let told = attention(&sample.process());
        let remedy = told[0].remedy.to_string();
        assert!(remedy.ends_with(command), "{failed_at:?}: {remedy}");
    }
    let mut sample = Sample::well();
    sample.backends = vec![checked_by_list(Some("list"))];
    sample.backends[0].state = "down";
    sample.sites[0].backends_up = 0;
    let remedy = attention(&sample.process())[0].remedy.to_string();
    assert!(remedy.starts_with("Logins try those that are out all the same"));
    assert!(remedy.ends_with("--list --path '/no dir'`"), "{remedy}");
}

#[test]
fn a_refused_password_of_the_checks_of_a_site_needs_it_once() {
    let mut sample = Sample::well();
    sample.backends = vec![checked_by_list(None), checked_by_list(None)];
    for backend in &mut sample.backends {
        backend.check.as_mut().expect("it is checked").login_refused = true;
    }
    assert_eq!(found(&sample), ["login refused ftpa host|probe"]);
    let told = attention(&sample.process());
    assert_eq!(told[0].severity, Severity::Warning);
    assert_eq!(
        told[0].what.to_string(),
        "The password of the checks of site ftpa was refused: they skip the login"
    );
}

#[test]
fn a_backends_certificate_needs_it_as_that_for_clients_does() {
    for (days, life, expected) in [
        (23, 90, None),
        (22, 90, Some("backend expires 10.0.0.10:21")),
        (2, 6, None),
        (1, 6, Some("backend expires 10.0.0.10:21")),
        (-9, 90, Some("backend expires 10.0.0.10:21")),
    ] {
        let found = after(|sample| show_certificate(&mut sample.backends[0], days, life));
        assert_eq!(found, Vec::from_iter(expected), "{days} of {life}");
    }
}

#[test]
fn a_backends_certificate_that_was_refused_for_its_end_needs_it() {
    let found = after(|sample| {
        show_certificate(&mut sample.backends[0], -1, 90);
        sample.backends[0].certificate_valid_from = None;
    });
    assert_eq!(found, ["backend expires 10.0.0.10:21"]);
}

#[test]
fn a_limit_needs_it_beyond_nine_tenths() {
    for (sessions, max, expected) in [
        (90, 100, None),
        (91, 100, Some("full ftpa")),
        (8, 9, None),
        (9, 9, Some("full ftpa")),
        (0, 0, None),
    ] {
        let found = after(|sample| {
            sample.sites[0].sessions = sessions;
            sample.sites[0].max_sessions = max;
        });
        assert_eq!(found, Vec::from_iter(expected), "{sessions} of {max}");
    }
    assert_eq!(after(|sample| sample.overview.sessions = 9_001), ["full"]);
}

#[test]
fn a_process_that_takes_no_clients_says_so() {
    for readiness in ["no_certificate", "starting", "lame_duck", "draining"] {
        let found = after(|sample| sample.overview.readiness = readiness);
        assert_eq!(found, [readiness]);
    }
}

#[test]
fn what_fails_comes_first_and_what_is_wanted_last() {
    let found = after(|sample| {
        sample.overview.readiness = "draining";
        sample.overview.refused = vec![refusal("configuration", None)];
        sample.certificates[0] = certificate(3, 90);
        sample.sites[0].maintenance = Some("configuration");
        sample.sites.push(site("ftpb"));
        sample.sites[1].backends_up = 0;
        sample.backends[0].state = "drain";
        sample.backends[0].drained_by = Some(DrainedBy::Operator);
        show_certificate(&mut sample.backends[0], 3, 90);
        sample.backends.push(backend("ftpb", "be1"));
        sample.backends[1].state = "down";
    });
    let expected = [
        "no backend ftpb",
        "expires 3",
        "refused configuration",
        "out be1",
        "backend expires 10.0.0.10:21",
        "maintenance ftpa",
        "drained 10.0.0.10:21",
        "draining",
    ];
    assert_eq!(found, expected);
}

#[test]
fn each_is_told_in_words_with_its_remedy() {
    let mut sample = Sample::well();
    sample.overview.refused = vec![refusal("configuration", None)];
    let told = attention(&sample.process());
    assert_eq!(
        serde_json::to_value(&told).unwrap(),
        serde_json::json!([{
            "severity": "warning",
            "what": "The new configuration file was refused 1 min 0 s ago",
            "reason": "line 3",
            "remedy": "The former one is in use. Correct it, and reload. To try it first: `portcullis check --config \
                       /etc/portcullis/portcullis.yaml`",
        }])
    );
}
