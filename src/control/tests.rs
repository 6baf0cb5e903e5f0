//! Tests of the tables for the values that the process serves: those of [`crate::view`], as it serialises them.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Serialize;
use serde_json::json;

use super::backends::Backends;
use super::guard::Guard;
use super::sessions::{Filter, Sessions};
use super::status::Status;
use super::table::WIDTH;
use super::transfers::Transfers;
use super::{ApiAnswer, Frame, Report, Rounds};
use crate::view::{
    self, BackendView, CertificateView, CheckView, DrainedBy, GuardView, Listening, Moment,
    Overview, PairView, ProcessView, RefusedView, ReloadView, SessionView, SiteView, TransferView,
};

/// 2026-11-30, 12 o'clock.
const NOON: u64 = 1_796_040_000;

fn ago(seconds: u64) -> Moment {
    Moment::new(at(NOON - seconds))
}

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

fn frame(width: usize) -> Frame {
    Frame {
        width,
        now: at(NOON).try_into().expect("a moment"),
    }
}

fn answer(name: &str, list: impl Serialize) -> ApiAnswer {
    list_of(3, name, list)
}

fn list_of(total: usize, name: &str, list: impl Serialize) -> ApiAnswer {
    let value = json!({"version": 1, "total": total, name: list});
    ApiAnswer::read(value.to_string().as_bytes()).expect("an answer")
}

fn address(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

fn transfer(bytes: u64, seconds: f64) -> TransferView {
    TransferView {
        session: 7,
        client: address("192.0.2.7:50412"),
        site: Some("ftpb".to_owned()),
        user: Some("alice".to_owned()),
        backend: Some(address("10.0.0.11:21")),
        command: "RETR".to_owned(),
        path: Some("/reports/2026/november.zip".to_owned()),
        direction: "download",
        bytes,
        size: Some(10 << 20),
        since: ago(10),
        seconds,
        bytes_per_second: 1024.0,
    }
}

fn session(id: u64) -> SessionView {
    SessionView {
        id,
        client: address("192.0.2.7:50412"),
        listener: address("0.0.0.0:21"),
        since: ago(200),
        seconds: 200.0,
        state: "transfer",
        client_certificate: None,
        tls: Some("1.3"),
        site: Some("ftpb".to_owned()),
        group: None,
        user: Some("alice".to_owned()),
        logged_in: true,
        backend: Some(address("10.0.0.11:21")),
        backend_tls: None,
        transfer: Some(transfer(1 << 20, 10.0)),
    }
}

fn backend(name: &str, state: &'static str) -> BackendView {
    BackendView {
        site: "ftpb".to_owned(),
        group: None,
        backend: name.to_owned(),
        address: "10.0.0.11:21".to_owned(),
        state,
        out_since: None,
        drained_by: None,
        sessions: 3,
        all_sessions: 3,
        max_sessions: Some(200),
        weight: 100,
        backup: false,
        check: None,
        certificate_valid_from: None,
        check_login: None,
        certificate_expires: None,
        certificate_days_left: None,
    }
}

fn sessions_text(list: &[SessionView], width: usize) -> String {
    let mut sessions = Sessions {
        filter: Filter::default(),
    };
    sessions
        .text(&[answer("sessions", list)], &frame(width))
        .expect("a list of sessions")
}

#[test]
fn a_session_is_a_line_whatever_it_has_come_to() {
    let mut new = session(1234);
    new.client = address("[2001:db8::7]:40000");
    (new.site, new.user, new.backend, new.transfer) = (None, None, None, None);
    (new.state, new.seconds) = ("handshake", 0.4);
    assert_eq!(
        sessions_text(&[session(7), new], WIDTH),
        "  ID  CLIENT       SITE  USER   BACKEND       STATE        FOR
   7  192.0.2.7    ftpb  alice  10.0.0.11:21  transfer   3m20s
1234  2001:db8::7  -     -      -             handshake     0s
… and 1 more
"
    );
    assert_eq!(sessions_text(&[], WIDTH), "no sessions\n");
}

#[test]
fn the_longest_names_and_addresses_stay_within_the_line() {
    let mut long = session(u64::MAX);
    long.client = address("[2001:db8:1111:2222:3333:4444:5555:6666]:65535");
    long.backend = Some(long.client);
    long.site = Some("s".repeat(60));
    long.group = Some("g".repeat(60));
    long.user = Some("\\xff".repeat(256));
    for width in [WIDTH, 80] {
        for line in sessions_text(&[long.clone()], width).lines() {
            assert!(line.chars().count() <= width, "{line}");
        }
    }
}

#[test]
fn a_transfers_rate_is_the_average_at_first_and_then_that_since_the_round_before() {
    let mut transfers = Transfers::new(Filter::default());
    let mut text = |list: &[TransferView]| {
        let round = [answer("transfers", list)];
        transfers.text(&round, &frame(WIDTH)).expect("a list")
    };
    let first = text(&[transfer(1 << 20, 10.0)]);
    assert_eq!(
        first,
        "ID  CLIENT     SITE  USER   VERB  PATH                          BYTES  DONE       RATE   LEFT
 7  192.0.2.7  ftpb  alice  RETR  /reports/2026/november.zip  1.0 MiB   10%  1.0 KiB/s  2h33m
… and 2 more
"
    );
    let second = text(&[transfer(5 << 20, 12.0)]);
    assert!(
        second.contains("5.0 MiB   50%  2.0 MiB/s    2s\n"),
        "{second}"
    );
    // The session's next transfer has an average of its own.
    let mut next = transfer(9 << 20, 14.0);
    next.path = Some("/reports/2026/december.zip".to_owned());
    let third = text(&[next]);
    assert!(third.contains("1.0 KiB/s"), "{third}");
    assert_eq!(text(&[]), "no transfers\n");
}

#[test]
fn progress_is_shown_only_where_the_size_is_known() {
    let mut unknown = transfer(1 << 20, 10.0);
    unknown.size = None;
    let mut transfers = Transfers::new(Filter::default());
    let round = [answer("transfers", [unknown])];
    let text = transfers.text(&round, &frame(WIDTH)).expect("a list");
    assert!(!text.contains("DONE") && !text.contains("LEFT"), "{text}");
}

#[test]
fn a_backend_that_is_out_is_listed_with_the_reason() {
    let mut down = backend("first", "down");
    down.out_since = Some(ago(300));
    down.check = Some(CheckView {
        at: ago(3),
        seconds: 0.2,
        failed_at: Some("greeting"),
        login_refused: false,
    });
    let mut drained = backend("10.0.0.11:21", "drain");
    (drained.drained_by, drained.max_sessions) = (Some(DrainedBy::Operator), None);
    drained.backup = true;
    let mut shared = backend("shared", "full");
    shared.all_sessions = 200;
    let mut up = backend("second", "up");
    up.certificate_days_left = Some(42);
    let round = [answer("backends", [down, drained, shared, up])];
    let mut backends = Backends { site: None };
    let text = backends.text(&round, &frame(WIDTH)).expect("a list");
    assert_eq!(
        text,
        "SITE  BACKEND       ADDRESS       STATE  SESSIONS  CHECKED     CERT  NOTES
ftpb  first         10.0.0.11:21  down      3/200  3s ago         -  for 5m00s, fails at greeting
ftpb  10.0.0.11:21  -             drain         3  -              -  by operator, backup
ftpb  shared        10.0.0.11:21  full          3  -              -  all sites 200/200
ftpb  second        10.0.0.11:21  up        3/200  -        42 days  -
"
    );
}

#[test]
fn blocked_clients_are_listed_with_the_time_that_is_left() {
    let list = [
        GuardView {
            client: "192.0.2.7".to_owned(),
            site: Some("ftpb".to_owned()),
            failures: 12,
            blocked_seconds: Some(200.0),
        },
        GuardView {
            client: "2001:db8::/64".to_owned(),
            site: None,
            failures: 1,
            blocked_seconds: None,
        },
    ];
    let round = [answer("guard", list)];
    assert_eq!(
        Guard.text(&round, &frame(WIDTH)).expect("a list"),
        "CLIENT         SITE  FAILURES  BLOCKED FOR
192.0.2.7      ftpb        12        3m20s
2001:db8::/64  -            1            -
… and 1 more
"
    );
}

/// The answers of a process with this last reload, certificate, site and backend.
fn process(
    reload: ReloadView,
    days_left: u64,
    site: SiteView,
    backend: BackendView,
) -> [ApiAnswer; 5] {
    let refused = reload.refused.iter().map(|reason| RefusedView {
        at: reload.at,
        subject: reload.subject,
        name: None,
        reason: reason.clone(),
    });
    let refused = refused.collect();
    let overview = Overview {
        version: "0.1.0",
        config: "/etc/portcullis/portcullis.yaml".to_owned(),
        started: ago(7325),
        uptime_seconds: 7325.0,
        readiness: "ready",
        sessions: 12,
        max_sessions: 10_000,
        transfers: 3,
        listeners: vec![Listening {
            address: address("0.0.0.0:21"),
            tls: "explicit",
        }],
        passive_ports: 64,
        reloads: vec![
            reload,
            ReloadView {
                at: ago(3600),
                subject: "users",
                refused: Some("moved.txt: line 3: the last line doesn't end\nmore".to_owned()),
                stands: false,
            },
        ],
        refused,
        stalled: Vec::new(),
        misplaced_logs: Vec::new(),
        acme: None,
        revocation_lists: Vec::new(),
        backend_client_certificates: Vec::new(),
    };
    let certificate = CertificateView {
        name: "default".to_owned(),
        file: "/etc/portcullis/tls/tls.crt".to_owned(),
        directory: false,
        ordered: false,
        pair: Some(PairView {
            subject: "CN=ftp.example.com".to_owned(),
            names: vec!["ftp.example.com".to_owned()],
            issuer: "CN=Lab CA".to_owned(),
            key: "ecdsa",
            not_before: ago((90 - days_left) * 86_400),
            not_after: Moment::new(UNIX_EPOCH + Duration::from_secs(NOON + days_left * 86_400)),
            ends_by_issuer: None,
            chain_begins: None,
            days_left: i64::try_from(days_left).expect("a few"),
            fingerprint: "sha256:00".to_owned(),
        }),
        refused: None,
    };
    let other = CertificateView {
        name: "/etc/letsencrypt/live/ftpb".to_owned(),
        file: "/etc/letsencrypt/live/ftpb/fullchain.pem".to_owned(),
        directory: false,
        ordered: false,
        pair: None,
        refused: (days_left < 30).then(|| "it is empty".to_owned()),
    };
    let other = other.refused.is_some().then_some(other);
    let certificates: Vec<_> = [Some(certificate), other].into_iter().flatten().collect();
    let (sites, backends) = ([site], [backend]);
    let attention = view::attention(&ProcessView {
        now: ago(0),
        overview: &overview,
        certificates: &certificates,
        sites: &sites,
        backends: &backends,
    });
    [
        answer("config", overview),
        list_of(attention.len(), "attention", attention),
        answer("certificates", certificates),
        answer("sites", sites),
        answer("backends", backends),
    ]
}

fn site(maintenance: Option<&'static str>) -> SiteView {
    SiteView {
        site: "ftpb".to_owned(),
        hosts: vec!["ftpb.example.com".to_owned()],
        default: true,
        maintenance,
        sessions: 12,
        max_sessions: 5000,
        logins: 40,
        failed_logins: 2,
        complete_transfers: 31,
        incomplete_transfers: 1,
        backends: 1,
        backends_up: 1,
        backends_full: 0,
    }
}

fn reload(refused: Option<&str>) -> ReloadView {
    ReloadView {
        at: ago(60),
        subject: "configuration",
        refused: refused.map(str::to_owned),
        stands: refused.is_some(),
    }
}

#[test]
fn a_process_that_is_well_has_nothing_that_needs_attention() {
    let answers = process(reload(None), 42, site(None), backend("a", "up"));
    assert_eq!(
        Status.text(&answers, &frame(WIDTH)).expect("a status"),
        "portcullis 0.1.0, ready, up for 2h02m

sessions      12 of 10000
transfers     3
sites         3
backends      1 of 1 up
certificates  /etc/portcullis/tls/tls.crt (default): 42 days left, ecdsa, ftp.example.com
listeners     0.0.0.0:21 explicit
passive ports 64
configuration /etc/portcullis/portcullis.yaml
last reload   configuration, in force 1m00s ago
refused       users 1h00m ago: moved.txt: line 3: the last line doesn't end
"
    );
}

#[test]
fn what_needs_attention_stands_first() {
    let refusal =
        "portcullis.yaml:8:3: unknown key `certifcate`\n  |\n8 |   certifcate: x\u{1b}[2J\n";
    let mut out = backend("a", "ejected");
    out.out_since = Some(ago(12));
    let answers = process(reload(Some(refusal)), 3, site(Some("operator")), out);
    let text = Status.text(&answers, &frame(WIDTH)).expect("a status");
    let expected = "portcullis 0.1.0, ready, up for 2h02m

needs attention:
  warning: The certificate for ftp.example.com expires in 3 days
    Renew it, and put the new one into `/etc/portcullis/tls/tls.crt`: it is in use within seconds,
    without a restart.
  warning: The new certificate `/etc/letsencrypt/live/ftpb/fullchain.pem` was refused
      it is empty
    Clients that name one of its names are shown another one. Correct the file: it is read again
    when it changes.
  warning: The new configuration file was refused 1 min 0 s ago
      portcullis.yaml:8:3: unknown key `certifcate`
        |
      8 |   certifcate: x?[2J
    The former one is in use. Correct it, and reload. To try it first: `portcullis check --config
    /etc/portcullis/portcullis.yaml`
  warning: Backend a of site ftpb is ejected for 12 s
    Logins go to the others of the site while one is up. To see what is wrong: `portcullis probe
    --config /etc/portcullis/portcullis.yaml --site ftpb --backend a`
  note: Site ftpb is out of service for maintenance
    Set by an operator. Back in service: `portcullis maintenance ftpb off`

sessions      12 of 10000
";
    assert!(text.starts_with(expected), "{text}");
    assert!(text.contains("backends      0 of 1 up\n"), "{text}");
}

#[test]
fn for_programs_the_status_is_one_object_in_one_line() {
    let answers = process(reload(None), 42, site(None), backend("a", "up"));
    let line = Status.json(&answers, Rounds::One).expect("a status");
    assert_eq!(line.lines().count(), 1);
    let value: serde_json::Value = serde_json::from_str(&line).expect("JSON");
    assert_eq!(value["config"]["readiness"], "ready");
    assert_eq!(value["certificates"][0]["days_left"], 42);
    assert_eq!(value["sites"][0]["site"], "ftpb");
    assert_eq!(value["backends"][0]["state"], "up");
}
