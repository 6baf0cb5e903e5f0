//! Users with a proven certificate, and users without one.

use std::path::Path;

use super::*;
use crate::ftp::answer;
use crate::ftp::command::Verb;
use crate::policy::{CertificateResult, CertificateRules, ClientIdentity, SitePolicy};

const FILE: &str = "partners.pw";

/// A session under TLS whose client has shown `al`'s certificate, or none, at a site with these demands.
fn session(required: bool, credentials: &str, has_certificate: bool) -> Session {
    let rules = CertificateRules {
        required,
        user: Default::default(),
        pinned: Default::default(),
        credentials: (!credentials.is_empty()).then(|| FILE.into()),
    };
    let certificate = has_certificate.then(|| Arc::new(rules.right_for(b"al")));
    let site = Site {
        policy: SitePolicy {
            client_certificate: Some(rules),
            ..SitePolicy::default()
        },
        ..site("a", true)
    };
    let router = Router::new(
        [(A, Arc::new(site))],
        UserForms::default(),
        &UserFiles::default(),
    );
    let config = SessionConfig {
        router: Arc::new(router),
        credentials: match credentials {
            "" => CredentialFiles::default(),
            content => CredentialFiles::holding(Path::new(FILE), content),
        },
        ..session_config()
    };
    let mut session = Session::of(Machine::implicit(config, None, certificate));
    session.actions();
    session
}

#[test]
fn without_the_right_certificate_no_backend_is_dialled() {
    for (has_certificate, user) in [(false, "al"), (true, "bob")] {
        let mut session = session(true, "al:pw\nbob:pw\n", has_certificate);
        session.client(&format!("USER {user}"));
        assert_eq!(session.dials(), [""; 0]);
        let actions = session.actions();
        assert!(actions.contains(&Action::DelayAfterFailure(Some(A))));
        assert!(actions.contains(&Action::Record(Record::Login(LoginResult::NotAllowed))));
        let result = match has_certificate {
            true => CertificateResult::OtherUser,
            false => CertificateResult::Missing,
        };
        let record = Record::Certificate(Admission::Refused(result));
        assert!(actions.contains(&Action::Record(record)));
        let reply = answer::CERTIFICATE_REQUIRED.bytes();
        assert_eq!(actions.last(), Some(&Action::Reply(reply.into())));
        assert_eq!(session.answer("PASS p"), 503);
        assert_eq!(session.machine.login_certificate(), None);
    }
}

#[test]
fn a_password_of_ours_follows_the_backends_331_and_the_client_gets_its_230() {
    for required in [true, false] {
        let mut session = session(required, "AL:p w\n", true);
        session.client("USER al").dialled(false).backend("331 P");
        assert_eq!(session.sent(), ["USER al", "PASS p w"]);
        assert_eq!(session.codes(), [0; 0]);
        assert!(!session.machine.wants_command());
        session.backend("230 In");
        assert_eq!(session.replies(), ["230 In"]);
        assert!(session.machine.login_certificate().is_some());
        assert_eq!(session.answer("PASS own"), 230);
        session.client("PWD");
        assert_eq!(session.sent(), ["PWD"]);
    }
}

#[test]
fn who_has_no_password_with_us_or_no_certificate_says_his_own() {
    for (credentials, has_certificate) in [("bob:pw\n", true), ("", true), ("al:pw\n", false)] {
        let mut session = session(false, credentials, has_certificate);
        session.client("USER al").dialled(false).backend("331 P");
        assert_eq!(session.codes(), [331]);
        session.client("PASS own");
        assert_eq!(session.sent(), ["PASS own"]);
        session.backend("230 In");
        assert_eq!(session.codes(), [230]);
        // And PASS is the backend's affair from then on.
        session.client("PASS again");
        assert_eq!(session.sent(), ["PASS again"]);
    }
}

#[test]
fn a_password_of_ours_that_is_refused_ends_the_session_and_is_no_guess() {
    let mut session = session(true, "al:old\n", true);
    session.client("USER al").dialled(false).backend("331 P");
    session.backend("530 No");
    assert_eq!(session.ending(), Some(Ending::BackendUnavailable));
    let actions = session.actions();
    assert!(actions.contains(&Action::Record(Record::CredentialsRefused(530))));
    let is_rejected = |action: &Action| {
        matches!(
            action,
            Action::Record(Record::LoginRefused {
                result: LoginResult::Rejected,
                command: Verb::Pass,
                ..
            })
        )
    };
    assert!(actions.iter().any(is_rejected));
    assert!(
        !actions
            .iter()
            .any(|it| matches!(it, Action::DelayAfterFailure(_)))
    );
    let reply = answer::SITE_UNAVAILABLE.bytes();
    assert!(actions.contains(&Action::Reply(reply.into())));
}

#[test]
fn a_backend_that_is_full_has_not_refused_the_password() {
    for reply in [
        "530 Sorry, the maximum number of clients (5) are already connected",
        "500 What?",
    ] {
        let mut session = session(true, "al:secret\n", true);
        session.client("USER al").dialled(false).backend("331 P");
        session.backend(reply);
        assert_eq!(session.ending(), Some(Ending::BackendUnavailable));
        let actions = session.actions();
        let blames_password =
            |it: &Action| matches!(it, Action::Record(Record::CredentialsRefused(_)));
        assert!(!actions.iter().any(blames_password), "{reply}");
        let is_told = |it: &Action| matches!(it, Action::Record(Record::LoginRefused { .. }));
        assert!(actions.iter().any(is_told), "{reply}");
    }
}

#[test]
fn an_account_that_the_backend_wants_besides_is_the_clients() {
    let mut session = session(true, "al:pw\n", true);
    session.client("USER al").dialled(false).backend("331 P");
    session.backend("332 Account");
    assert_eq!(session.codes(), [332]);
    session.client("ACCT x");
    assert_eq!(session.sent(), ["ACCT x"]);
    session.backend("230 In");
    assert_eq!(session.codes(), [230]);
}

#[test]
fn another_user_before_the_login_has_proven_nothing_by_the_certificate_of_the_first() {
    let mut session = session(false, "al:pw\n", true);
    session.client("USER al").dialled(false).backend("331 P");
    session.backend("332 Account").actions();
    session
        .client("USER bob")
        .backend("331 P")
        .client("PASS own");
    session.backend("230 In").actions();
    session.client("PASS again");
    assert_eq!(session.sent(), ["PASS again"]);
}

#[test]
fn another_user_behind_the_login_is_refused_and_the_login_holds() {
    let mut session = session(true, "al:pw\n", true);
    session.client("USER al").dialled(false).backend("331 P");
    session.backend("230 In").actions();
    session.client("USER bob");
    assert_eq!(session.sent(), [""; 0]);
    let routes = session.actions().into_iter().filter_map(|it| match it {
        Action::FormerLogin(route) => Some(route.user),
        _ => None,
    });
    assert_eq!(routes.last().as_deref(), Some(b"al".as_slice()));
    assert_eq!(session.answer("PASS p"), 503);
    session.client("PWD");
    assert_eq!(session.sent(), ["PWD"]);
}

#[test]
fn a_certificate_that_has_expired_since_logs_nobody_in_again() {
    let mut session = session(true, "al:pw\n", true);
    session.client("USER al").dialled(false).backend("331 P");
    session.backend("230 In");
    session.actions();
    let lapsed = ClientIdentity {
        not_after: Some(Duration::ZERO),
        ..session.machine.login_certificate().unwrap().clone()
    };
    let lapsed = lapsed.lapsed(Duration::from_secs(1)).unwrap();
    session.machine.certificate_has_lapsed(Arc::new(lapsed));
    session.client("USER al");
    let actions = session.actions();
    let expired = Admission::Refused(CertificateResult::Expired);
    assert!(actions.contains(&Action::Record(Record::Certificate(expired))));
    // The login goes on, and so do the demands on its data connections.
    assert!(session.machine.login_certificate().is_some());
}
