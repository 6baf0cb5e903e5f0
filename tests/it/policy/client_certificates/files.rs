//! Authorities, revocation lists and passwords that are replaced while the proxy runs.

use std::fs;

use testkit::certs::Authority;
use testkit::client_certs::ClientCertificate;
use testkit::front::Front;
use testkit::resources::without_descriptors;
use time::Duration;

use super::*;

impl World {
    fn with_list(options: &str, list: impl FnOnce(&Authority) -> String) -> Self {
        let (front, partners) = (Front::new(&[]), Authority::new("Partners"));
        let file = front.directory().join("partners.crl");
        fs::write(&file, list(&partners)).expect("the directory is writable");
        let asked = format!("crl: [{}], ask: optional{options}", file.display());
        Self::of(front, partners, &asked, "{user: cn}", |config, _| config)
    }

    fn replace(&self, name: &str, content: &str) {
        let beside = self.file("new");
        fs::write(&beside, content).expect("the directory is writable");
        fs::rename(&beside, self.file(name)).expect("both are in one directory");
    }

    fn reloads(&self, subject: &str, result: &str) -> String {
        let _ = self;
        format!("portcullis_reloads_total{{result=\"{result}\",subject=\"{subject}\"}}")
    }

    fn wait_for_reloads(&self, subject: &str, result: &str, count: f64) {
        let name = self.reloads(subject, result);
        self.proxy.wait_for_metric(&name, |now| now == count);
    }

    fn is_let_in(&self, own: &ClientCertificate) -> bool {
        self.user(&TLS13, Some(own), "acme") == 331
    }
}

#[test]
fn a_revoked_certificate_is_refused_once_it_is_on_the_list() {
    let world = World::with_list("", |partners| partners.revoke(&[], WEEK));
    let (own, other) = (world.good("acme"), world.good("acme"));
    let mut session = world.client(&TLS13, Some(&own));
    session.command("USER acme", 331);
    world.replace("partners.crl", &world.partners.revoke(&[&own], WEEK));
    world.wait_for_reloads("client_certificates", "ok", 1.0);
    for version in VERSIONS {
        assert_eq!(world.user(version, Some(&own), "acme"), 530);
    }
    assert!(world.counted("only", "revoked") >= 2.0);
    assert!(world.is_let_in(&other));
    // A session keeps what it has begun with.
    session.command("PASS secret", 230);

    world.replace("partners.crl", "half");
    world.wait_for_reloads("client_certificates", "refused", 1.0);
    assert!(!world.is_let_in(&own) && world.is_let_in(&other));
}

#[test]
fn a_list_that_is_past_its_next_update_refuses_all_unless_it_is_accepted() {
    let old = |partners: &Authority| partners.revoke(&[], -Duration::DAY);
    let refusing = World::with_list("", old);
    assert!(!refusing.is_let_in(&refusing.good("acme")));
    assert_eq!(refusing.counted("only", "crl_expired"), 1.0);
    let next = format!(
        "portcullis_crl_next_update_seconds{{file=\"{}\"}}",
        refusing.file("partners.crl").display()
    );
    let yesterday = (time::OffsetDateTime::now_utc() - Duration::DAY).unix_timestamp();
    assert!((refusing.proxy.metric(&next) - yesterday as f64).abs() < 120.0);
    refusing.proxy.wait_for_log(|line| {
        line.message().contains("is past its next update") && line.message().contains("CN=Partners")
    });

    let accepting = World::with_list(", crl_expired: accept", old);
    assert!(accepting.is_let_in(&accepting.good("acme")));
    let own = accepting.good("acme");
    let list = accepting.partners.revoke(&[&own], -Duration::DAY);
    accepting.replace("partners.crl", &list);
    accepting.wait_for_reloads("client_certificates", "ok", 1.0);
    assert!(!accepting.is_let_in(&own));
}

#[test]
fn a_new_authority_lets_its_clients_in_and_those_of_the_old_one_no_more() {
    let world = World::new("{user: cn}");
    let next = Authority::new("Next");
    let (old, new) = (world.good("acme"), next.issue_client("acme", Kind::Good));
    assert!(world.is_let_in(&old) && !world.is_let_in(&new));
    world.replace(
        "partners.pem",
        &format!("{}{}", world.partners.pem(), next.pem()),
    );
    world.wait_for_reloads("client_certificates", "ok", 1.0);
    assert!(world.is_let_in(&old) && world.is_let_in(&new));
    world.replace("partners.pem", next.pem());
    world.wait_for_reloads("client_certificates", "ok", 2.0);
    assert!(!world.is_let_in(&old) && world.is_let_in(&new));
    world.replace("partners.pem", "no certificate");
    world.wait_for_reloads("client_certificates", "refused", 1.0);
    assert!(world.is_let_in(&new));
}

#[test]
fn a_new_password_is_used_from_the_next_login_on() {
    let world = World::with(
        "optional",
        "{user: cn, credentials: partners.pw}",
        |config, front| {
            fs::write(front.directory().join("partners.pw"), "acme:old\n").expect("writable");
            config
        },
    );
    let own = world.good("acme");
    assert_eq!(world.user(&TLS13, Some(&own), "acme"), 421);
    world.replace("partners.pw", "acme:secret\n");
    world.wait_for_reloads("credentials", "ok", 1.0);
    assert_eq!(world.user(&TLS13, Some(&own), "acme"), 230);
    world.replace("partners.pw", "acme\n");
    world.wait_for_reloads("credentials", "refused", 1.0);
    assert_eq!(world.user(&TLS13, Some(&own), "acme"), 230);
}

#[test]
fn a_list_that_cannot_be_read_for_a_while_counts_as_soon_as_it_can() {
    let world = World::with_list("", |partners| partners.revoke(&[], WEEK));
    let own = world.good("acme");
    assert!(world.is_let_in(&own));
    without_descriptors(&world.proxy, || {
        world.replace("partners.crl", &world.partners.revoke(&[&own], WEEK));
        world.proxy.wait_for_log(|line| {
            let error = line.field("error").unwrap_or_default();
            error.contains("/partners.") && error.contains("Too many open files")
        });
    });
    world.wait_for_reloads("client_certificates", "ok", 1.0);
    assert!(!world.is_let_in(&own));
}
