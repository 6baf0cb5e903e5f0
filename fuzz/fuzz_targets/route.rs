//! Routing: USER, HOST and SNI lead to one site by the one rule, and the user reaches the backend byte for byte.

#![no_main]

use std::sync::{Arc, LazyLock};

use libfuzzer_sys::fuzz_target;
use portcullis::base::SiteId;
use portcullis::config::{HostName, HostPattern, Site, UserForms};
use portcullis::policy::UserFiles;
use portcullis::route::{Route, Router};

// The argument of USER in the first line, what HOST and SNI named in the second and third; the first byte switches the
// forms of USER.
fuzz_target!(|data: &[u8]| {
    let Some((switches, rest)) = data.split_first() else {
        return;
    };
    let mut lines = rest.splitn(3, |byte| *byte == b'\n');
    let user = lines.next().unwrap_or_default();
    // A command has none of these in its argument.
    if user.iter().any(|byte| b"\r\n\0".contains(byte)) {
        return;
    }
    let host = lines.next().and_then(HostName::parse);
    let sni = lines.next().and_then(HostName::parse);
    let router = &ROUTERS[usize::from(*switches % 4)];
    let routed = router.router.route(user, host.as_ref(), sni.as_ref());
    match &routed {
        Some(route) => look_at(router, route, user, host.as_ref(), sni.as_ref()),
        // There is a default site, for whoever names no host.
        None => assert!(user.contains(&b'|') || host.is_some()),
    }
    assert_eq!(
        routed,
        router.router.route(user, host.as_ref(), sni.as_ref())
    );
});

fn look_at(
    router: &Routed,
    route: &Route,
    user: &[u8],
    host: Option<&HostName>,
    sni: Option<&HostName>,
) {
    let site_of = |name: &HostName| router.router.site_of(name).map(|site| site.name.clone());
    match &route.host {
        Some(name) => assert_eq!(site_of(name).as_deref(), Some(route.site.name.as_str())),
        None => assert!(route.site.default),
    }
    // Nothing is trimmed, decoded or split again.
    let pipe = user.contains(&b'|');
    if route.user == user {
        assert!(!pipe);
        let named_by_sni = sni.filter(|name| site_of(name).is_some());
        assert_eq!(route.host.as_ref(), host.or(named_by_sni));
    } else {
        let forms = router.forms;
        let backslash = forms.host_backslash_user && user.contains(&b'\\');
        assert!(pipe || backslash || forms.user_at_host && user.contains(&b'@'));
        assert!(route.host.is_some());
        assert!(find(user, &route.user) || route.user == b"anonymous");
    }
    let told = route.backend_user();
    assert!(find(&told, &route.user));
    assert!(!told.iter().any(|byte| b"\r\n\0".contains(byte)));
}

fn find(bytes: &[u8], part: &[u8]) -> bool {
    part.is_empty() || bytes.windows(part.len()).any(|window| window == part)
}

struct Routed {
    router: Router,
    forms: UserForms,
}

/// One for each way to set the two forms.
static ROUTERS: LazyLock<[Routed; 4]> = LazyLock::new(|| {
    [(false, false), (false, true), (true, false), (true, true)].map(|(at, backslash)| {
        let forms = UserForms {
            user_at_host: at,
            host_backslash_user: backslash,
        };
        Routed {
            router: Router::new((0..).map(SiteId).zip(sites()), forms, &UserFiles::default()),
            forms,
        }
    })
});

fn sites() -> [Arc<Site>; 3] {
    [
        site("a", true, &["a.lab"], "{user}"),
        site("b", false, &["b.lab", "*.b.lab"], "{host}|{user}"),
        site("c", false, &["c.b.lab"], "{user}@{host}"),
    ]
}

fn site(name: &str, default: bool, hosts: &[&str], user: &str) -> Arc<Site> {
    let hosts = hosts.iter().map(|host| HostPattern::parse(host));
    Arc::new(Site {
        default,
        hosts: hosts.collect::<Option<_>>().expect("patterns"),
        user: user.parse().expect("a template"),
        ..Site::named(name)
    })
}
