//! Logins and where they lead.

use std::path::Path;

use super::*;
use crate::policy::users::{NewNames, UserPattern};
use proptest::prelude::*;

const ALL_FORMS: UserForms = UserForms {
    user_at_host: true,
    host_backslash_user: true,
};

fn site(name: &str, default: bool, hosts: &[&str], user: &str) -> Arc<Site> {
    Arc::new(Site {
        default,
        hosts: hosts
            .iter()
            .map(|host| HostPattern::parse(host).expect("a pattern"))
            .collect(),
        user: user.parse().expect("a template"),
        ..Site::named(name)
    })
}

fn sites() -> Vec<Arc<Site>> {
    vec![
        site("a", true, &["ftpa.lab"], "{user}"),
        site("b", false, &["ftpb.lab", "*.branch.lab"], "{host}|{user}"),
        site("c", false, &["special.branch.lab"], "{user}"),
    ]
}

fn router_of(sites: impl IntoIterator<Item = Arc<Site>>, forms: UserForms) -> Router {
    Router::new((0..).map(SiteId).zip(sites), forms, &UserFiles::default())
}

fn router(forms: UserForms) -> Router {
    router_of(sites(), forms)
}

fn host(name: &str) -> HostName {
    HostName::parse(name.as_bytes()).expect("a host name")
}

/// Site and user.
fn routed(
    router: &Router,
    argument: &str,
    host_: Option<&str>,
    sni: Option<&str>,
) -> Option<(String, String)> {
    let (host_, sni) = (host_.map(host), sni.map(host));
    let route = router.route(argument.as_bytes(), host_.as_ref(), sni.as_ref())?;
    Some((
        route.site.name.clone(),
        String::from_utf8(route.user).expect("text"),
    ))
}

fn to(site: &str, user: &str) -> Option<(String, String)> {
    Some((site.to_owned(), user.to_owned()))
}

#[test]
fn the_first_name_that_is_present_decides() {
    let router = router(ALL_FORMS);
    let (all_host, all_sni) = (Some("special.branch.lab"), Some("ftpb.lab"));
    assert_eq!(
        routed(&router, "ftpb.lab|al", all_host, Some("ftpa.lab")),
        to("b", "al")
    );
    assert_eq!(
        routed(&router, "al@ftpb.lab", all_host, Some("ftpa.lab")),
        to("b", "al")
    );
    assert_eq!(
        routed(&router, "ftpb.lab\\al", all_host, Some("ftpa.lab")),
        to("b", "al")
    );
    assert_eq!(routed(&router, "al", all_host, all_sni), to("c", "al"));
    assert_eq!(routed(&router, "al", None, all_sni), to("b", "al"));
    assert_eq!(routed(&router, "al", None, None), to("a", "al"));
}

#[test]
fn an_unknown_host_before_a_bar_never_falls_through() {
    let router = router(ALL_FORMS);
    for argument in [
        "x.lab|al",
        "|al",
        "|",
        "ftpb.lab |al",
        " ftpb.lab|al",
        "[::1]|al",
        "al@ftpb.lab|x",
        "ftpb.lab%7C|x",
    ] {
        let answer = router.route(argument.as_bytes(), Some(&host("ftpb.lab")), None);
        assert_eq!(answer, None, "{argument:?}");
    }
}

#[test]
fn an_unknown_host_from_host_is_refused_and_from_sni_ignored() {
    let router = router(ALL_FORMS);
    assert_eq!(router.route(b"al", Some(&host("x.lab")), None), None);
    assert_eq!(
        routed(&router, "al", None, Some("proxy.lab")),
        to("a", "al")
    );
}

#[test]
fn without_a_default_site_a_login_must_name_a_host() {
    let router = router_of(sites().split_off(1), UserForms::default());
    assert_eq!(router.route(b"al", None, None), None);
    assert_eq!(routed(&router, "FTPB.lab.|al", None, None), to("b", "al"));
}

#[test]
fn only_the_first_bar_splits_and_the_rest_is_the_users() {
    let router = router(UserForms::default());
    for user in [
        "b|c",
        "DOMAIN\\al",
        "al@corp.example",
        " al ",
        "\u{ff5c}",
        "a%7Cb",
    ] {
        assert_eq!(
            routed(&router, &format!("ftpb.lab|{user}"), None, None),
            to("b", user)
        );
    }
}

#[test]
fn an_empty_user_beside_a_host_is_anonymous() {
    let router = router(ALL_FORMS);
    assert_eq!(
        routed(&router, "ftpb.lab|", None, None),
        to("b", "anonymous")
    );
    assert_eq!(
        routed(&router, "ftpb.lab\\", None, None),
        to("b", "anonymous")
    );
    assert_eq!(
        routed(&router, "@ftpb.lab", None, None),
        to("b", "anonymous")
    );
}

#[test]
fn other_forms_are_user_names_unless_switched_on_and_configured() {
    let off = router(UserForms::default());
    for argument in ["al@ftpb.lab", "ftpb.lab\\al"] {
        assert_eq!(routed(&off, argument, None, None), to("a", argument));
    }
    let on = router(ALL_FORMS);
    for argument in ["al@corp.example", "DOMAIN\\al", "al@", "\\al", "@", "\\"] {
        assert_eq!(routed(&on, argument, None, None), to("a", argument));
    }
    assert_eq!(
        routed(&on, "CORP\\al@ftpb.lab", None, None),
        to("b", "CORP\\al")
    );
    assert_eq!(
        routed(&on, "al@corp.example@ftpb.lab", None, None),
        to("b", "al@corp.example")
    );
}

#[test]
fn a_wildcard_is_one_label_and_yields_to_the_exact_name() {
    let router = router(UserForms::default());
    let site = |name: &str| router.site_of(&host(name)).map(|site| site.name.as_str());
    assert_eq!(site("x.branch.lab"), Some("b"));
    assert_eq!(site("special.branch.lab"), Some("c"));
    assert_eq!(site("branch.lab"), None);
    assert_eq!(site("x.y.branch.lab"), None);
}

#[test]
fn the_backend_is_told_the_host_that_the_client_named() {
    let router = router(UserForms::default());
    let told = |argument: &[u8]| {
        router
            .route(argument, None, None)
            .expect("a route")
            .backend_user()
    };
    assert_eq!(told(b"ftpb.lab|al"), b"ftpb.lab|al");
    assert_eq!(told(b"X.Branch.Lab|"), b"x.branch.lab|anonymous");
    assert_eq!(told(b"al\xff"), b"al\xff");
}

#[test]
fn a_login_without_a_host_is_told_as_the_sites_first_host() {
    let sites = [site(
        "a",
        true,
        &["*.lab", "main.lab", "other.lab"],
        "{host}|{user}",
    )];
    let route = router_of(sites, UserForms::default())
        .route(b"al", None, None)
        .expect("a route");
    assert_eq!(route.backend_user(), b"main.lab|al");
}

proptest! {
    #[test]
    fn what_is_put_together_comes_apart_again(user in proptest::collection::vec(any::<u8>(), 1..40)) {
        for name in ["ftpb.lab", "x.branch.lab", "special.branch.lab", "ftpa.lab"] {
            let argument = [name.as_bytes(), b"|", &user].concat();
            let route = router(ALL_FORMS).route(&argument, None, None).expect("a route");
            prop_assert_eq!(&route.user, &user);
            prop_assert_eq!(route.host, Some(host(name)));
        }
    }

    #[test]
    fn nothing_outside_the_table_ever_routes(
        argument in "[a-zA-Z.*|@\\\\ ]{0,12}(ftpb|branch|x|\\.lab|\\||@|\\\\|\\.){0,6}",
        host_ in proptest::option::of("(x|ftpb|special|branch)(\\.branch)?\\.lab"),
    ) {
        let router = router_of(sites().split_off(1), ALL_FORMS);
        let named = host_.as_deref().map(host);
        if let Some(route) = router.route(argument.as_bytes(), named.as_ref(), None) {
            let name = route.host.expect("no default site, so a host decided").as_str().to_owned();
            let labels: Vec<&str> = name.split('.').collect();
            let in_table = name == "ftpb.lab" || matches!(labels[..], [_, "branch", "lab"]);
            prop_assert!(in_table, "{}", name);
            prop_assert_eq!(route.site.name == "c", name == "special.branch.lab");
        }
    }
}

/// A site with two groups: `alice` and what a file has, then all that begins with `acme-`.
fn grouped(unknown_users: UnknownUsers, file: &Path) -> Site {
    let group = |name: &str, users: &[&str], users_file| Group {
        name: name.to_owned(),
        users: users
            .iter()
            .map(|text| UserPattern::new(text).unwrap())
            .collect(),
        users_file,
        backends: Vec::new(),
    };
    Site {
        default: true,
        groups: vec![
            group("moved", &["Alice"], Some(file.to_owned())),
            group("acme", &["acme-*"], None),
        ],
        unknown_users,
        ..Site::named("grouped")
    }
}

fn membership(router: &Router, user: &str) -> Membership {
    router
        .route(user.as_bytes(), None, None)
        .unwrap()
        .membership
}

#[test]
fn the_first_group_that_has_the_user_decides_whose_backends_are_asked() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("moved.txt");
    std::fs::write(&path, "bob\nacme-carol\n").unwrap();
    let files = UserFiles::load([path.as_path()], &UserFiles::default())
        .unwrap()
        .apply();
    let site = Arc::new(grouped(UnknownUsers::Accept, &path));
    let router = Router::new([(SiteId(0), site)], UserForms::default(), &files);
    for (user, expected) in [
        ("alice", Membership::Group(0)),
        ("ALICE", Membership::Group(0)),
        ("BOB", Membership::Group(0)),
        ("acme-carol", Membership::Group(0)),
        ("acme-dave", Membership::Group(1)),
        ("Acme-", Membership::Group(1)),
        ("erin", Membership::None),
    ] {
        assert_eq!(membership(&router, user), expected, "{user}");
    }
    std::fs::write(&path, "bob\nacme-carol\nerin\n").unwrap();
    files
        .get(&path)
        .unwrap()
        .replace(NewNames::read(&path).unwrap());
    assert_eq!(membership(&router, "erin"), Membership::Group(0));
}

#[test]
fn a_user_of_no_group_who_is_refused_fails_as_one_of_a_group_each_time() {
    let path = Path::new("moved.txt");
    let site = Arc::new(grouped(UnknownUsers::Refuse, path));
    let router = Router::new(
        [(SiteId(0), site)],
        UserForms::default(),
        &UserFiles::default(),
    );
    let of = |number: usize| membership(&router, &format!("user{number}"));
    let refused: Vec<Membership> = (0..100).map(of).collect();
    for group in [0, 1] {
        assert!(refused.contains(&Membership::Refused(group)), "{group}");
    }
    let all_refused = refused
        .iter()
        .all(|it| matches!(it, Membership::Refused(_)));
    assert!(all_refused && refused == (0..100).map(of).collect::<Vec<_>>());
    assert_eq!(membership(&router, "alice"), Membership::Group(0));
}
