//! Each rule, on both sides of its bound, and the order.

use super::super::tests::sample::{Sample, ago, backend, certificate, site};
use super::*;
use crate::view::ReloadView;

/// What needs attention, in short.
fn found(sample: &Sample) -> Vec<String> {
    let page = sample.page();
    attention(&page).iter().map(name).collect()
}

fn name(attention: &Attention<'_>) -> String {
    match attention {
        Attention::CertificateExpired(certificate) => format!("expired {}", certificate.days_left),
        Attention::CertificateExpires(certificate) => format!("expires {}", certificate.days_left),
        Attention::Refused(reload) => format!("refused {}", reload.subject),
        Attention::NoBackend(site) => format!("no backend {}", site.site),
        Attention::BackendOut(backend) => format!("out {}", backend.backend),
        Attention::BackendCertificate(backend) => format!("backend expires {}", backend.backend),
        Attention::Maintenance(site) => format!("maintenance {}", site.site),
        Attention::Drained(backend) => format!("drained {}", backend.backend),
        Attention::SiteNearlyFull(site) => format!("full {}", site.site),
        Attention::ProcessNearlyFull => "full".to_owned(),
        Attention::Starting => "starting".to_owned(),
        Attention::Draining => "draining".to_owned(),
    }
}

/// What needs attention once `change` has been made to a process that is well.
fn after(change: impl FnOnce(&mut Sample)) -> Vec<String> {
    let mut sample = Sample::well();
    change(&mut sample);
    found(&sample)
}

fn refusal(subject: &'static str, stands: bool) -> ReloadView {
    ReloadView {
        at: ago(60),
        subject,
        refused: Some("line 3".to_owned()),
        stands,
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
fn a_refusal_needs_it_for_as_long_as_it_stands() {
    let found = after(|sample| {
        sample.overview.reloads = vec![
            refusal("configuration", true),
            refusal("certificate", false),
            refusal("users", true),
        ];
    });
    assert_eq!(found, ["refused configuration", "refused users"]);
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

#[test]
fn a_backends_certificate_needs_it_two_weeks_before_its_end_and_behind_it() {
    for (days, expected) in [
        (14, None),
        (13, Some("backend expires 10.0.0.10:21")),
        (-9, Some("backend expires 10.0.0.10:21")),
    ] {
        let found = after(|sample| sample.backends[0].certificate_days_left = Some(days));
        assert_eq!(found, Vec::from_iter(expected), "{days}");
    }
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
    for readiness in ["starting", "draining"] {
        let found = after(|sample| sample.overview.readiness = readiness);
        assert_eq!(found, [readiness]);
    }
}

#[test]
fn what_fails_comes_first_and_what_is_wanted_last() {
    let found = after(|sample| {
        sample.overview.readiness = "draining";
        sample.overview.reloads = vec![refusal("configuration", true)];
        sample.certificates[0] = certificate(3, 90);
        sample.sites[0].maintenance = Some("configuration");
        sample.sites.push(site("ftpb"));
        sample.sites[1].backends_up = 0;
        sample.backends[0].state = "drain";
        sample.backends[0].drained_by = Some(DrainedBy::Operator);
        sample.backends[0].certificate_days_left = Some(3);
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
