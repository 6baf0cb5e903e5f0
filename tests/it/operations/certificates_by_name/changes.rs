//! Certificates that come, change and go while clients are served, and bad ones.

use testkit::resources::without_descriptors;

use super::*;

/// Logs in with a verified name, and downloads, again and again.
fn keep_busy(front: &Front, proxy: &Proxy, name: &str, stop: &AtomicBool, done: &AtomicUsize) {
    while !stop.load(Ordering::Relaxed) {
        let tls = front.tls(name);
        let mut control = Raw::connect_auth_tls(proxy.explicit(), &tls);
        control.login("alice", "secret");
        control.protect_data();
        let mut data = open_data(control.epsv());
        control.command("RETR file", 150);
        protect(&mut data, &tls).expect("a handshake");
        let (received, end) = data.read_to_end();
        assert_eq!((received.len(), end), (50_000, End::CloseNotify));
        control.expect(226);
        control.command("QUIT", 221);
        done.fetch_add(1, Ordering::Relaxed);
    }
}

/// certbot's folders: the files of `live` are links to those of the last version in `archive`.
struct Certbot {
    folder: PathBuf,
    version: u32,
}

impl Certbot {
    fn renew(&mut self, name: &str, pair: &Pair) {
        self.version += 1;
        let version = self.version;
        for folder in ["live", "archive"] {
            let folder = self.folder.join(folder).join(name);
            fs::create_dir_all(folder).expect("it is writable");
        }
        for (file, content) in [
            ("privkey", &pair.private_key),
            ("fullchain", &pair.certificate),
        ] {
            let target = format!("archive/{name}/{file}{version}.pem");
            fs::write(self.folder.join(&target), content).expect("it is writable");
            let link = self.folder.join(format!("live/{name}/{file}.pem"));
            // It takes the link away and makes another one.
            let _ = fs::remove_file(&link);
            symlink(Path::new("../..").join(target), link).expect("it is gone");
        }
    }
}

#[test]
fn however_certificates_are_renewed_added_and_removed_no_login_and_no_transfer_fails() {
    let front = Front::new(&[]);
    let backend = Backend::start(Script::new().file("file", content::bytes(1, 50_000)));
    let mut certbot = Certbot {
        folder: front.directory().join("certbot"),
        version: 0,
    };
    let issue = |name: &str| front.authority.issue(&[name]);
    certbot.renew("one", &issue("one.test"));
    fs::write(certbot.folder.join("live/README"), "see certbot").expect("it is writable");
    let secrets = front.directory().join("secrets");
    fs::create_dir_all(secrets.join("two")).expect("it is writable");
    let mut secret = KubernetesSecret::mount(&secrets.join("two"), &issue("two.test"));
    let pairs = front.directory().join("pairs");
    write(&pairs.join("three"), &issue("three.test"));
    let more = format!(
        "[{{directory: {0}/certbot/live, layout: certbot}}, {{directory: {0}/secrets, layout: kubernetes}}, \
         {{directory: {0}/pairs, layout: pairs}}]",
        front.directory().display()
    );
    let config = front
        .config()
        .tls("more", &more)
        .log("warn,portcullis::app=info");
    let proxy = Proxy::start(config.site(&Site::default("site", backend.address())));
    let shown_to = |name| {
        let tls = RawTls::careless(Some(name), &[&TLS13]);
        let client = Raw::connect_tls(proxy.implicit(), &tls);
        client.wire().peer_certificate().expect("a certificate")
    };
    // By the metrics, and without the lines of so many logins, which take time to look through.
    let series = |place: &str, pair: &Pair| {
        let fingerprint = content::sha256(&pair.der());
        let subject = pair_subject(place);
        format!(
            "portcullis_certificate_info{{fingerprint=\"sha256:{fingerprint}\",name=\"{}/{place}\",subject=\"{subject}\"}}",
            front.directory().display()
        )
    };
    let wait_for_use = |place: &str, pair: &Pair| {
        proxy.wait_for_metric(&series(place, pair), |shown| shown == 1.0);
    };
    let (stop, done) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        for name in [NAME, "one.test", "two.test", "three.test"] {
            let (front, proxy, stop, done) = (&front, &proxy, &stop, &done);
            scope.spawn(move || keep_busy(front, proxy, name, stop, done));
        }
        // However this ends, the others do as well.
        let _stopped = Stop(&stop);
        for round in 1..=3 {
            let next = issue("one.test");
            certbot.renew("one", &next);
            wait_for_use("certbot/live/one", &next);
            assert_eq!(shown_to("one.test"), next.der().to_vec());
            let next = issue("two.test");
            secret.swap(&next);
            wait_for_use("secrets/two", &next);
            assert_eq!(shown_to("two.test"), next.der().to_vec());
            let next = issue("three.test");
            // In two steps, and long enough apart for the half of it to be looked at.
            let place = pairs.join("three");
            fs::write(place.with_extension("crt"), &next.certificate).expect("it is writable");
            proxy.wait_for_logs(round, of("three.crt", KEPT));
            fs::write(place.with_extension("key"), &next.private_key).expect("it is writable");
            wait_for_use("pairs/three.crt", &next);
            assert_eq!(shown_to("three.test"), next.der().to_vec());
            let added = issue("added.test");
            assert_ne!(shown_to("added.test"), added.der().to_vec());
            write(&pairs.join("added"), &added);
            wait_for_use("pairs/added.crt", &added);
            assert_eq!(shown_to("added.test"), added.der().to_vec());
            fs::remove_file(pairs.join("added.crt")).expect("it was added");
            fs::remove_file(pairs.join("added.key")).expect("it was added");
            proxy.wait_for_metric(&series("pairs/added.crt", &added), |shown| shown == 0.0);
            assert_ne!(shown_to("added.test"), added.der().to_vec());
        }
        // Each has logged in under the last ones.
        let so_far = done.load(Ordering::Relaxed);
        while done.load(Ordering::Relaxed) < so_far + 8 {
            thread::yield_now();
        }
    });
    let failed = "portcullis_tls_handshakes_total{result=\"failed\",version=\"none\"}";
    assert_eq!(proxy.metric(failed), 0.0);
    assert!(done.load(Ordering::Relaxed) >= 8);
}

/// Of the certificate for the name after which the place is called.
fn pair_subject(place: &str) -> String {
    let (_, name) = place.rsplit_once('/').expect("it lies in a folder");
    format!("CN={}.test", name.trim_end_matches(".crt"))
}

struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_session_keeps_its_certificate_when_that_is_renewed_and_when_it_is_gone() {
    let deployment = Deployment::new();
    let tls = deployment.front.tls("other.test");
    let mut client = Raw::connect_auth_tls(deployment.proxy.explicit(), &tls);
    client.login("alice", "secret");
    client.protect_data();
    let mut expect_the_same = |resumed| {
        let mut data = open_data(client.epsv());
        client.command("RETR file", 150);
        let tls = if resumed {
            tls.clone()
        } else {
            tls.without_resumption()
        };
        protect(&mut data, &tls).expect("a handshake");
        assert_eq!(data.resumed(), resumed);
        assert_eq!(
            data.peer_certificate(),
            Some(deployment.other.der().to_vec())
        );
        assert_eq!(data.read_to_end().1, End::CloseNotify);
        client.expect(226);
    };
    let next = deployment.front.authority.issue(&["other.test"]);
    write(&deployment.file("more/other"), &next);
    deployment
        .proxy
        .wait_for_logs(2, of("more/other.crt", IN_USE));
    expect_the_same(false);
    fs::remove_file(deployment.file("more/other.crt")).expect("it is there");
    let removed = of("other.crt", "certificate removed: its files are gone");
    deployment.proxy.wait_for_log(removed);
    deployment.proxy.signal(Signal::Reload);
    let reloaded = |line: &LogLine| line.message() == "configuration reloaded";
    deployment.proxy.wait_for_log(reloaded);
    expect_the_same(false);
    expect_the_same(true);
}

fn refused(proxy: &Proxy) -> (f64, f64) {
    let reloads = "portcullis_reloads_total{result=\"refused\",subject=\"certificate\"}";
    let stands = "portcullis_reload_refused{subject=\"certificate\"}";
    (proxy.metric(reloads), proxy.metric(stands))
}

/// The certificates of the live view, by name; with what is refused of each.
fn listed(proxy: &Proxy) -> Vec<(String, bool, Option<String>)> {
    let (code, body) = proxy.get("/api/v1/certificates");
    assert_eq!(code, 200, "{body}");
    let body: Value = serde_yaml::from_str(&body).expect("JSON");
    let all = body["certificates"].as_sequence().expect("a list").iter();
    all.map(|one| {
        let name = one["name"].as_str().expect("a name");
        let name = name.rsplit('/').next().expect("one").to_owned();
        let refused = one["refused"].as_str().map(str::to_owned);
        (name, one.get("fingerprint").is_some(), refused)
    })
    .collect()
}

#[test]
fn one_bad_certificate_costs_nothing_but_itself_at_start_later_and_on_sighup() {
    let front = Front::new(&[]);
    let backend = Backend::start(Script::new());
    let (b, c) = (
        front.authority.issue(&["ftpb.test"]),
        front.authority.issue(&["ftpc.test"]),
    );
    let place = front.directory().join("more");
    write(&place.join("b"), &b.with_key_of(&c));
    write(&place.join("c"), &c);
    let more = format!("[{{directory: {}, layout: pairs}}]", place.display());
    let site = Site::default("site", backend.address());
    let proxy = Proxy::start(front.config().tls("more", &more).site(&site));
    let shown_to = |name| {
        let tls = RawTls::careless(Some(name), &[&TLS13]);
        let client = Raw::connect_tls(proxy.implicit(), &tls);
        let shown = client.wire().peer_certificate();
        shown.expect("a certificate").to_vec()
    };
    let central = front.shown_by(&proxy);

    // At start.
    let line = proxy.wait_for_log(of("b.crt", NOT_SERVED));
    let error = line.field("error").expect("a reason");
    assert!(
        error.contains("b.key does not belong to the certificate in "),
        "{error}"
    );
    assert_eq!(line.field("level").as_deref(), Some("ERROR"));
    assert_eq!(refused(&proxy), (1.0, 1.0));
    assert_eq!(shown_to("ftpb.test"), central);
    assert_eq!(shown_to("ftpc.test"), c.der().to_vec());
    let found = listed(&proxy);
    assert_eq!(found[0], ("default".to_owned(), true, None));
    assert_eq!((found[1].0.as_str(), found[1].1), ("b.crt", false));
    assert!(found[1].2.as_ref().is_some_and(|why| why.contains("b.key")));
    assert_eq!(found[2], ("c.crt".to_owned(), true, None));
    let (_, page) = proxy.get("/");
    assert!(page.contains("does not belong to the certificate in "));

    // Mended, and broken again.
    write(&place.join("b"), &b);
    proxy.wait_for_log(of("b.crt", IN_USE));
    assert_eq!(shown_to("ftpb.test"), b.der().to_vec());
    assert_eq!(refused(&proxy), (1.0, 0.0));
    let expired = front.authority.issue_for(&["ftpb.test"], Validity::Expired);
    write(&place.join("b"), &expired);
    let line = proxy.wait_for_log(of("b.crt", KEPT));
    assert!(
        line.field("error")
            .is_some_and(|it| it.contains("expired on "))
    );
    assert_eq!(refused(&proxy), (2.0, 1.0));
    assert_eq!(shown_to("ftpb.test"), b.der().to_vec());

    // SIGHUP doesn't take it up either, and takes up all the rest.
    let next = front.issue(Validity::Now);
    front.files.replace_by_rename(&next);
    proxy.signal(Signal::Reload);
    proxy.wait_for_log(|line| line.message() == "configuration reloaded");
    proxy.wait_for_logs(2, of("b.crt", KEPT));
    assert_eq!(shown_to("ftpb.test"), b.der().to_vec());
    assert_eq!(front.shown_by(&proxy), next.der().to_vec());
    assert_eq!(refused(&proxy), (3.0, 1.0));
    let found = listed(&proxy);
    assert!(found[1].1 && found[1].2.is_some(), "{found:?}");

    // What is gone has no series.
    let series = || {
        let metrics = proxy.metrics().into_keys();
        metrics
            .filter(|name| name.starts_with("portcullis_certificate_") && name.contains("b.crt"))
            .count()
    };
    assert_eq!(series(), 3);
    for file in ["b.crt", "b.key"] {
        fs::remove_file(place.join(file)).expect("it is there");
    }
    proxy.wait_for_log(of("b.crt", "certificate removed: its files are gone"));
    proxy.wait_for_metric("portcullis_reload_refused{subject=\"certificate\"}", |it| {
        it == 0.0
    });
    assert_eq!(series(), 0);
    assert_eq!(shown_to("ftpb.test"), next.der().to_vec());
}

#[test]
fn a_directory_that_is_missing_at_start_is_read_as_soon_as_it_is_there() {
    let front = Front::new(&[]);
    let backend = Backend::start(Script::new());
    let place = front.directory().join("more");
    let more = format!("[{{directory: {}, layout: pairs}}]", place.display());
    let site = Site::default("site", backend.address());
    let proxy = Proxy::start(front.config().tls("more", &more).site(&site));
    let refused_directory = "directory of certificates refused, keeping what is in use of it";
    let line = proxy.wait_for_log(|line| line.message() == refused_directory);
    assert!(
        line.field("error")
            .is_some_and(|it| it.contains("more: No such file"))
    );
    assert_eq!(refused(&proxy), (1.0, 1.0));
    let pair = front.authority.issue(&["ftpb.test"]);
    let beside = front.directory().join("beside");
    write(&beside.join("b"), &pair);
    fs::rename(beside, &place).expect("it isn't there");
    proxy.wait_for_log(of("b.crt", IN_USE));
    let client = Raw::connect_tls(proxy.implicit(), &front.tls("ftpb.test"));
    assert_eq!(client.wire().peer_certificate(), Some(pair.der().to_vec()));
    proxy.wait_for_metric("portcullis_reload_refused{subject=\"certificate\"}", |it| {
        it == 0.0
    });
}

/// Its files are the same afterwards, so that nothing but another try finds them.
#[test]
fn a_certificate_that_cannot_be_read_for_a_while_is_in_use_as_soon_as_it_can() {
    let front = Front::new(&[]);
    let backend = Backend::start(Script::new());
    let site = Site::default("site", backend.address());
    let proxy = Proxy::start(front.config().site(&site));
    let next = front.issue(Validity::Now);
    without_descriptors(&proxy, || {
        front.files.replace_by_rename(&next);
        let line = proxy.wait_for_log(|line| line.message() == KEPT);
        let error = line.field("error").expect("a reason");
        assert!(error.contains("Too many open files"), "{error}");
    });
    proxy.wait_for_logs(2, |line| line.message() == IN_USE);
    assert_eq!(front.shown_by(&proxy), next.der().to_vec());
}
