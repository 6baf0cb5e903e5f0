//! Tests of the effects of a site's policy on its sessions: networks, maintenance, texts, commands, groups.

use super::*;
use crate::config::{Group, UnknownUsers};
use crate::ftp::answer;
use crate::policy::users::UserPattern;
use crate::policy::{ClientRules, CommandRules, DeniedCommand, Notice, Preset, SitePolicy};

/// The configuration of a session before one site, the default one.
fn terms_of(site: Site) -> SessionConfig {
    let router = Router::new(
        [(A, Arc::new(site))],
        UserForms::default(),
        &UserFiles::default(),
    );
    SessionConfig {
        router: Arc::new(router),
        ..session_config()
    }
}

fn with(policy: SitePolicy) -> SessionConfig {
    terms_of(Site {
        policy,
        ..site("a", true)
    })
}

fn refusing_the_client() -> SitePolicy {
    let denied = vec!["192.0.2.0/24".parse().expect("a network")];
    SitePolicy {
        clients: ClientRules::new(None, denied).expect("some clients are left"),
        ..SitePolicy::default()
    }
}

fn denying(preset: Option<Preset>, denied: &[&str]) -> SessionConfig {
    let denied = denied
        .iter()
        .map(|text| DeniedCommand::new(text).expect("a command"));
    with(SitePolicy {
        commands: CommandRules::new(preset, denied.collect()),
        ..SitePolicy::default()
    })
}

/// A site whose only group has `al`.
fn refusing_unknown_users() -> SessionConfig {
    let group = Group {
        name: "known".to_owned(),
        users: [UserPattern::new("al").expect("a name")]
            .into_iter()
            .collect(),
        users_file: None,
        backends: Vec::new(),
    };
    terms_of(Site {
        groups: vec![group],
        unknown_users: UnknownUsers::Refuse,
        ..site("a", true)
    })
}

fn results(session: &mut Session) -> Vec<LoginResult> {
    let actions = session.actions();
    let results = actions.into_iter().filter_map(|action| match action {
        Action::Record(Record::Login(result) | Record::LoginRefused { result, .. }) => Some(result),
        _ => None,
    });
    results.collect()
}

#[test]
fn a_client_of_a_refused_network_is_refused_before_a_backend_is_dialled() {
    let mut session = Session::implicit_with(with(refusing_the_client()), None);
    session.client("USER al");
    assert_eq!(session.dials(), [""; 0]);
    let actions = session.actions();
    assert!(actions.contains(&Action::Record(Record::Login(LoginResult::NotAllowed))));
    assert!(actions.contains(&Action::DelayAfterFailure(Some(A))));
    let reply = answer::NOT_ALLOWED.bytes();
    assert!(actions.contains(&Action::Reply(reply.into())));
    // The password that follows leads nowhere.
    assert_eq!(session.answer("PASS p"), 503);
}

#[test]
fn a_site_out_of_service_says_so_and_ends_the_session() {
    let policy = SitePolicy {
        maintenance: Some(Notice::new("Down.\nBack on Monday.").expect("a text")),
        ..SitePolicy::default()
    };
    let mut session = Session::implicit_with(with(policy), None);
    session.client("USER al");
    assert_eq!(session.dials(), [""; 0]);
    assert_eq!(session.ending(), Some(Ending::Maintenance));
    assert_eq!(session.replies(), ["421-Down.\r\n421 Back on Monday."]);
}

#[test]
fn who_may_not_log_in_is_not_told_of_maintenance() {
    let policy = SitePolicy {
        maintenance: Some(Notice::new("Back on Monday.").expect("a text")),
        ..refusing_the_client()
    };
    let mut session = Session::implicit_with(with(policy), None);
    assert_eq!(session.answer("USER al"), 530);
}

#[test]
fn the_login_text_stands_before_the_backends_own_welcome() {
    let policy = SitePolicy {
        login_text: Some(Notice::new("Authorised use only.").expect("a text")),
        ..SitePolicy::default()
    };
    let mut session = Session::implicit_with(with(policy), None);
    session
        .client("USER al")
        .dialled(false)
        .backend("331 P")
        .actions();
    session.client("PASS p").backend("230 In");
    assert_eq!(session.replies(), ["230-Authorised use only.\r\n230 In"]);
}

#[test]
fn a_denied_command_is_answered_here() {
    for line in [
        "STOR x",
        "DELE x",
        "RNFR x",
        "SITE CHMOD 1 x",
        "XMKD x",
        "MFMT 20261130120000 x",
    ] {
        let mut session = Session::logged_in_with(denying(Some(Preset::ReadOnly), &[]), false);
        assert_eq!(session.answer(line), 550, "{line}");
        session.client("SIZE x");
        assert_eq!(session.sent(), ["SIZE x"], "{line}");
    }
}

#[test]
fn a_password_whose_tail_a_server_could_take_for_a_denied_command_is_not_sent() {
    let mut session = Session::implicit_with(denying(None, &["DELE"]), None);
    session.client("USER al").actions();
    session.dialled(false);
    session.backend("331 go on").actions();
    let long = format!("PASS {}DELE x", "a".repeat(506));
    session.client(&long);
    assert!(
        !session
            .actions()
            .iter()
            .any(|action| matches!(action, Action::Authenticate { .. }))
    );
    session.client("PASS secret");
    assert!(
        session
            .actions()
            .iter()
            .any(|action| matches!(action, Action::Authenticate { .. }))
    );
}

#[test]
fn a_denied_transfer_leaves_no_offset_behind() {
    let mut session = Session::logged_in_with(denying(Some(Preset::ReadOnly), &[]), false);
    session.client("REST 5").backend("350 x").actions();
    session.client("STOR x");
    assert_eq!(session.sent(), ["REST 0"]);
    assert_eq!(session.codes(), [550]);
}

#[test]
fn commands_are_denied_behind_a_transfer_and_within_it() {
    let mut session = Session::logged_in_with(denying(None, &["DELE", "STAT"]), false);
    session
        .client("EPSV")
        .backend("229 x (|||2000|)")
        .prepared(PreparedPort::Passive(5000))
        .client("RETR x")
        .connected("RETR x")
        .backend("150 x")
        .actions();
    session.client("STAT").client("DELE x");
    assert_eq!(session.sent(), [""; 0]);
    session.backend("550 No");
    assert_eq!(session.codes(), [550, 550, 550]);
}

#[test]
fn settings_that_are_denied_are_not_replayed() {
    let mut session = Session::implicit_with(denying(None, &["CLNT", "OPTS"]), None);
    session
        .client("CLNT x")
        .client("OPTS UTF8 ON")
        .client("TYPE I");
    session.client("USER al").actions();
    session.dialled(false);
    assert_eq!(session.sent(), ["USER al"]);
    session.actions();
    session.backend("230 In");
    assert_eq!(session.sent(), ["TYPE I"]);
}

#[test]
fn features_that_are_denied_are_not_offered() {
    let mut session = Session::logged_in_with(denying(None, &["MFMT"]), false);
    session.client("FEAT");
    let mut parser = ReplyParser::default();
    let lines = ["211-Features:", " MDTM", " MFMT", "211 End"];
    let reply = lines.into_iter().find_map(|line| {
        let line = Line::Whole(Bytes::from_static(line.as_bytes()));
        parser.push(line).expect("a reply")
    });
    session.actions();
    session.event(Event::Reply(reply.expect("a whole reply")));
    let list = session.replies().concat();
    assert!(list.contains(" MDTM") && !list.contains("MFMT"), "{list}");
}

#[test]
fn an_unknown_user_fails_by_the_backends_own_words_and_without_the_password() {
    let mut session = Session::implicit_with(refusing_unknown_users(), None);
    session
        .client("USER bo")
        .dialled(false)
        .backend("331 P")
        .actions();
    session.client("PASS p");
    assert_eq!(session.sent(), ["PASS decoy"]);
    session.actions();
    session.backend("530 Login incorrect.");
    assert_eq!(session.replies(), ["530 Login incorrect."]);
    session.client("PASS p").backend("530 Login incorrect.");
    assert_eq!(results(&mut session), [LoginResult::NotAllowed]);
}

#[test]
fn an_unknown_user_whom_the_backend_lets_in_is_refused() {
    let mut without_password = Session::implicit_with(refusing_unknown_users(), None);
    without_password.client("USER bo").dialled(false).actions();
    without_password.backend("230 In");
    let mut any_password = Session::implicit_with(refusing_unknown_users(), None);
    any_password
        .client("USER bo")
        .dialled(false)
        .backend("331 P")
        .client("PASS p")
        .actions();
    any_password.backend("230 In");
    for mut session in [without_password, any_password] {
        let actions = session.actions();
        assert!(actions.contains(&Action::CloseBackend), "{actions:?}");
        let reply = answer::NOT_ALLOWED.bytes();
        assert!(
            actions.contains(&Action::Reply(reply.into())),
            "{actions:?}"
        );
        assert_eq!(session.answer("PWD"), 530);
    }
}

#[test]
fn a_known_user_logs_in_with_the_password() {
    let mut session = Session::implicit_with(refusing_unknown_users(), None);
    session
        .client("USER AL")
        .dialled(false)
        .backend("331 P")
        .actions();
    session.client("PASS p");
    assert_eq!(session.sent(), ["PASS p"]);
    session.actions();
    session.backend("230 In");
    assert_eq!(session.codes(), [230]);
    // Another user of the same backends, whom they would take.
    session
        .client("USER bo")
        .backend("331 P")
        .client("PASS p")
        .actions();
    session.backend("230 In");
    assert_eq!(session.codes(), [530]);
}

#[test]
fn rein_leads_back_to_before_user_under_the_same_tls() {
    let mut session = Session::logged_in();
    session
        .client("EPSV")
        .backend("229 x (|||2000|)")
        .prepared(PreparedPort::Passive(5000))
        .actions();
    session.client("REIN");
    let actions = session.actions();
    let reply = answer::REINITIALISED.bytes();
    assert_eq!(
        actions,
        [
            Action::DropData,
            Action::CloseBackend,
            Action::Reply(reply.into())
        ]
    );
    assert_eq!(session.answer("PWD"), 530);
    session.client("USER b.lab|bo");
    assert_eq!(session.dials(), ["b"]);
}

#[test]
fn rein_waits_for_the_transfer_that_runs() {
    let mut session = Session::running("RETR x");
    session.client("REIN");
    assert_eq!(session.actions(), []);
    session.backend("550 No");
    assert_eq!(session.codes(), [550, 220]);
}

#[test]
fn a_password_behind_a_user_that_was_refused_goes_to_no_backend() {
    for user in ["USER b.lab|bo", "USER nowhere.lab|bo"] {
        let mut session = Session::logged_in();
        session.client(user).actions();
        assert_eq!(session.answer("PASS p"), 503, "{user}");
        assert_eq!(session.answer("ACCT p"), 503, "{user}");
    }
    let mut session = Session::logged_in();
    session.client("USER bo").backend("530 No").actions();
    assert_eq!(session.answer("PASS p"), 503);
    // A login that holds is as before once another user has been taken.
    session.client("USER bo").backend("331 P").client("PASS p");
    assert_eq!(session.sent(), ["USER bo", "PASS p"]);
}
