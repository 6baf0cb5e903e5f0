//! How one and the same reports are written in each format.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;

use super::report::{Name, Report};
use super::{Health, human, json, nagios};
use crate::backend::ReplyError;
use crate::backend::check::CheckError;
use crate::backend::check::probe::{
    AgreedTls, AskedPort, DataPeer, Finding, FoundCertificate, PortAnswer, ProbeOutcome,
    ProbeRecord, ProbedStage, Skipped, Trust,
};
use crate::backend::dial::DialError;
use crate::config::{ProxyVersion, TlsMode, TlsVersion};
use crate::ftp::line::Line;
use crate::ftp::reply::{Class, Reply, ReplyParser};
use crate::ftp::server::{BackendProtection, PortMethod};
use crate::outcome::ProbeStage;
use crate::tls::ShownCertificate;

const DAY: Duration = Duration::from_secs(86_400);

fn now() -> SystemTime {
    UNIX_EPOCH + 20_000 * DAY
}

fn reply(text: &'static str) -> Reply {
    let mut parser = ReplyParser::default();
    let line = Line::Whole(Bytes::from_static(text.as_bytes()));
    parser.push(line).expect("a reply").expect("a whole one")
}

fn address(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

fn done(stage: ProbeStage, tenths: u64, finding: Finding) -> ProbedStage {
    ProbedStage {
        stage,
        took: Some(Duration::from_micros(tenths * 100)),
        outcome: ProbeOutcome::Done(finding),
    }
}

fn skipped(why: Skipped, stages: &[ProbeStage]) -> Vec<ProbedStage> {
    let stages = stages.iter().map(|stage| ProbedStage {
        stage: *stage,
        took: None,
        outcome: ProbeOutcome::Skipped(why),
    });
    stages.collect()
}

fn failed(stage: ProbeStage, error: CheckError) -> ProbedStage {
    ProbedStage {
        stage,
        took: Some(Duration::from_millis(2_001)),
        outcome: ProbeOutcome::Failed {
            error,
            remedy: "do this, or that".to_owned(),
        },
    }
}

fn certificate(days: u32, trust: Trust) -> ProbedStage {
    ProbedStage {
        took: None,
        ..done(
            ProbeStage::Certificate,
            0,
            Finding::Certificate(FoundCertificate {
                own: Some(ShownCertificate {
                    subject: "CN=be1.example.com".to_owned(),
                    issuer: "CN=Example Issuing CA 7, O=Example".to_owned(),
                    not_before: now() + days * DAY + DAY / 2 - 90 * DAY,
                    not_after: now() + days * DAY + DAY / 2,
                    fingerprint: [0xab; 32],
                }),
                issuers: vec![ShownCertificate {
                    subject: "CN=Example Issuing CA 7, O=Example".to_owned(),
                    issuer: "CN=Example Root".to_owned(),
                    not_before: now(),
                    not_after: now() + 400 * DAY,
                    fingerprint: [0xcd; 32],
                }],
                trust,
            }),
        )
    }
}

fn report(
    site: &str,
    backend: &str,
    tls: Option<TlsMode>,
    stages: impl IntoIterator<Item = ProbedStage>,
) -> Report {
    let record = ProbeRecord {
        tls,
        stages: stages.into_iter().collect(),
        took: Duration::from_micros(53_400),
    };
    let name = Name {
        site: site.to_owned(),
        backend: backend.to_owned(),
        entry: backend.to_owned(),
    };
    Report::new(name, &record, now())
}

/// A report on a backend that works, with every kind of finding.
fn good() -> Report {
    let tls = AgreedTls {
        version: TlsVersion::V1_2,
        cipher: "ECDHE-RSA-AES256-GCM-SHA384",
    };
    let [control, data] = ["192.0.2.10:21", "192.0.2.10:50000"].map(address);
    let refused = CheckError::NoPort(ReplyError::Rejected(reply("502 what?")));
    let features = [
        "AUTH TLS",
        "EPRT",
        "EPSV",
        "MDTM",
        "MFMT",
        "MLST type*;size*;modify*;UNIX.mode*;",
    ];
    report(
        "ftpa",
        "be1.example.com:21",
        Some(TlsMode::Explicit),
        [
            done(ProbeStage::Dns, 3, Finding::Addresses(vec![control])),
            done(
                ProbeStage::Connect,
                4,
                Finding::Connected {
                    to: control,
                    header: Some(ProxyVersion::V2),
                },
            ),
            done(ProbeStage::Greeting, 98, Finding::Reply(reply("220 ready"))),
            done(ProbeStage::Auth, 10, Finding::Reply(reply("234 go on"))),
            done(ProbeStage::Handshake, 112, Finding::Tls(tls)),
            certificate(42, Trust::Verified),
            done(
                ProbeStage::Protection,
                5,
                Finding::Protection(BackendProtection::Settled),
            ),
            done(ProbeStage::Login, 220, Finding::Login("probe".to_owned())),
            done(
                ProbeStage::Features,
                4,
                Finding::Features(Some(features.map(str::to_owned).to_vec())),
            ),
            done(
                ProbeStage::Passive,
                7,
                Finding::Ports(vec![
                    AskedPort {
                        method: PortMethod::Epsv,
                        answer: Err(refused),
                    },
                    AskedPort {
                        method: PortMethod::Pasv,
                        answer: Ok(PortAnswer {
                            to: Some(data),
                            announced_elsewhere: Some(address("10.0.0.1:50000")),
                        }),
                    },
                ]),
            ),
            done(ProbeStage::Data, 4, Finding::Data(DataPeer::To(data))),
            done(
                ProbeStage::DataHandshake,
                21,
                Finding::DataTls { tls, resumed: true },
            ),
            done(
                ProbeStage::List,
                12,
                Finding::Listing {
                    bytes: 193,
                    reply: Some(reply("226 done")),
                },
            ),
        ],
    )
}

/// A report on a backend that can't be connected to.
fn unreachable() -> Report {
    let cause = std::io::ErrorKind::TimedOut.into();
    let [dns, greeting, features] = [ProbeStage::Dns, ProbeStage::Greeting, ProbeStage::Features];
    let error = CheckError::Dial(DialError::Connect(cause));
    let stages = [
        done(
            dns,
            0,
            Finding::Addresses(vec![address("[2001:db8::1]:21")]),
        ),
        failed(ProbeStage::Connect, error),
    ];
    let after = skipped(Skipped::Failure, &[greeting, features]);
    let unasked = [
        ProbeStage::Login,
        ProbeStage::Passive,
        ProbeStage::Data,
        ProbeStage::List,
    ];
    let unasked = skipped(Skipped::NotAsked, &unasked);
    let stages = stages.into_iter().chain(after).chain(unasked);
    report("ftpb", "[2001:db8::1]:21", None, stages)
}

/// A report on a backend that works as far as it goes: the certificate expires soon.
fn expiring() -> Report {
    let stages = [certificate(5, Trust::Unverified)];
    report("ftp|c", "be3:990", Some(TlsMode::Implicit), stages)
}

fn refusing() -> Report {
    let error = CheckError::Login {
        command: "PASS",
        said: "530 Login incorrect.".to_owned(),
        class: Class::PermanentFailure,
        hint: None,
    };
    report("ftpd", "be4:21", None, [failed(ProbeStage::Login, error)])
}

#[test]
fn people_get_aligned_lines_that_fit_their_terminal() {
    let expected = "\
site ftpa, backend be1.example.com:21, explicit TLS
  dns             ok         0.3 ms  192.0.2.10
  connect         ok         0.4 ms  192.0.2.10:21, after a PROXY header of version 2
  greeting        ok         9.8 ms  220 ready
  auth            ok         1.0 ms  234 go on
  handshake       ok        11.2 ms  TLS 1.2 ECDHE-RSA-AES256-GCM-SHA384
  certificate     ok                 CN=be1.example.com, issued by CN=Example Issuing CA 7,
                                     O=Example, 42 days left
                  note: it comes with CN=Example Issuing CA 7, O=Example, issued by CN=Example Root
  protection      ok         0.5 ms  PBSZ 0, PROT P
  login           ok        22.0 ms  as probe
  features        ok         0.4 ms  AUTH TLS, EPRT, EPSV, MDTM, MFMT, MLST
                                     type*;size*;modify*;UNIX.mode*;
  passive         ok         0.7 ms  EPSV refused, PASV: port 50000
                  note: EPSV: 502 what?; sessions ask by another method
                  note: 227 names 10.0.0.1, which is not followed: data goes where the control
                    connection goes
  data            ok         0.4 ms  to 192.0.2.10:50000
  data handshake  ok         2.1 ms  TLS 1.2 ECDHE-RSA-AES256-GCM-SHA384, resumed the session of the
                                     control connection
  list            ok         1.2 ms  193 bytes; 226 done
";
    assert_eq!(human::block(&good()), expected);
    let expected = "\
site ftpb, backend [2001:db8::1]:21, without TLS
  dns             ok         0.0 ms  2001:db8::1
  connect         failed  2001.0 ms  no connection: timed out
                  remedy: do this, or that
  skipped, another stage failed: greeting, features
  skipped, not asked for: login, passive, data, list
";
    assert_eq!(human::block(&unreachable()), expected);
    let expected = "\
site ftp|c, backend be3:990, implicit TLS
  certificate     ok                 CN=be1.example.com, issued by CN=Example Issuing CA 7,
                                     O=Example, 5 days left
                  note: it comes with CN=Example Issuing CA 7, O=Example, issued by CN=Example Root
                  note: not verified (`verify: none`); it could be pinned by its fingerprint,
                    sha256:abababababababababababababababababababababababababababababababab
                  note: it expires soon: renew it in the server
";
    assert_eq!(human::block(&expiring()), expected);
}

#[test]
fn a_word_that_is_longer_than_a_line_is_cut() {
    let name = "x".repeat(300);
    let text = human::block(&report(&name, &name, None, []));
    assert!(text.lines().all(|line| line.chars().count() <= 100));
    let letters = text.chars().filter(|letter| *letter == 'x').count();
    assert_eq!(letters, 600);
}

#[test]
fn people_get_a_sum_of_several_backends() {
    assert_eq!(human::summary(&[good()]), "");
    assert_eq!(
        human::summary(&[good(), good()]),
        "\n2 backends: all work\n"
    );
    let expected = "
3 backends: 1 works, 2 fail
  site ftpb, backend [2001:db8::1]:21: connect
  site ftpd, backend be4:21: login
";
    let reports = [good(), unreachable(), refusing()];
    assert_eq!(human::summary(&reports), expected);
}

#[test]
fn programs_get_an_object_a_line() {
    let expected = concat!(
        r#"{"version":1,"site":"ftpb","backend":"[2001:db8::1]:21","entry":"[2001:db8::1]:21","tls":"none","outcome":"failed","#,
        r#""failed_stage":"connect","milliseconds":53.4,"days_left":null,"stages":["#,
        r#"{"stage":"dns","outcome":"ok","milliseconds":0.0,"detail":"2001:db8::1","addresses":["2001:db8::1"]},"#,
        r#"{"stage":"connect","outcome":"failed","milliseconds":2001.0,"detail":"no connection: timed out","#,
        r#""remedy":"do this, or that"},"#,
        r#"{"stage":"greeting","outcome":"skipped","milliseconds":null,"detail":"another stage failed"},"#,
        r#"{"stage":"features","outcome":"skipped","milliseconds":null,"detail":"another stage failed"},"#,
        r#"{"stage":"login","outcome":"skipped","milliseconds":null,"detail":"not asked for"},"#,
        r#"{"stage":"passive","outcome":"skipped","milliseconds":null,"detail":"not asked for"},"#,
        r#"{"stage":"data","outcome":"skipped","milliseconds":null,"detail":"not asked for"},"#,
        r#"{"stage":"list","outcome":"skipped","milliseconds":null,"detail":"not asked for"}]}"#,
    );
    assert_eq!(json::line(&unreachable()), expected);

    let good: serde_json::Value = serde_json::from_str(&json::line(&good())).expect("JSON");
    assert_eq!(good["outcome"], "ok");
    assert_eq!(good["days_left"], 42);
    let certificate = serde_json::json!({
        "stage": "certificate",
        "outcome": "ok",
        "milliseconds": null,
        "detail": "CN=be1.example.com, issued by CN=Example Issuing CA 7, O=Example, 42 days left",
        "notes": ["it comes with CN=Example Issuing CA 7, O=Example, issued by CN=Example Root"],
        "subject": "CN=be1.example.com",
        "issuer": "CN=Example Issuing CA 7, O=Example",
        "not_after": "2024-11-15",
        "days_left": 42,
        "fingerprint": format!("sha256:{}", "ab".repeat(32)),
        "trust": "verified",
        "chain": [{
            "subject": "CN=Example Issuing CA 7, O=Example",
            "issuer": "CN=Example Root",
            "not_after": "2025-11-08",
        }],
    });
    assert_eq!(good["stages"][5], certificate);
    let methods = serde_json::json!([
        {"method": "EPSV", "ok": false, "error": "502 what?"},
        {"method": "PASV", "ok": true, "port": 50000, "announced": "10.0.0.1:50000"},
    ]);
    assert_eq!(good["stages"][9]["methods"], methods);
    assert_eq!(good["stages"][11]["resumed"], true);
}

#[test]
fn nagios_gets_one_line_and_the_worst_state() {
    let line = nagios::line(&[good()]);
    let expected = "PORTCULLIS OK - 1 backend works | 'ftpa be1.example.com:21 time'=0.053s;;;0 \
                    'ftpa be1.example.com:21 certificate days'=42;23:;0:";
    assert_eq!(line, expected);
    let line = nagios::line(&[good(), expiring()]);
    let expected = "PORTCULLIS WARNING - 2 backends work: ftp/c be3:990: the certificate expires in 5 days | \
                    'ftpa be1.example.com:21 time'=0.053s;;;0 'ftpa be1.example.com:21 certificate days'=42;23:;0: \
                    'ftp_c be3:990 time'=0.053s;;;0 'ftp_c be3:990 certificate days'=5;23:;0:";
    assert_eq!(line, expected);
    let line = nagios::line(&[refusing(), unreachable()]);
    let expected = "PORTCULLIS CRITICAL - 2 of 2 backends fail: ftpb [2001:db8::1]:21: connect failed: no connection: \
                    timed out; ftpd be4:21: login failed: PASS of the probe was refused: the backend said \"530 Login incorrect.\" | \
                    'ftpd be4:21 time'=0.053s;;;0 'ftpb [2001:db8::1]:21 time'=0.053s;;;0";
    assert_eq!(line, expected);
}

#[test]
fn each_state_has_its_place_and_its_code() {
    let refused = skipped(Skipped::PasswordRefused, &[ProbeStage::Login]);
    let refused = report("ftpe", "be5:21", None, refused);
    for (report, health, code) in [
        (good(), Health::Works, 0),
        (expiring(), Health::WorksForNow, 1),
        (refusing(), Health::LoginRefused, 1),
        (refused, Health::LoginRefused, 1),
        (unreachable(), Health::Fails, 2),
    ] {
        assert_eq!(report.health(), health);
        assert_eq!(health.nagios_code(), code);
    }
}
