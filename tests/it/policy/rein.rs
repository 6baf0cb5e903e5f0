//! REIN (RFC 959 §4.1.1): a session begins anew under the TLS that it has.

use testkit::config::Site;
use testkit::front::Front;
use testkit::proxy::Proxy;
use testkit::script::Script;
use testkit::scripted::Backend;

use crate::program::Start;

#[test]
fn after_rein_another_user_logs_in_at_another_site_under_the_same_tls() {
    let front = Front::new(&[]);
    let one = Backend::start(Script::new().file("f", b"of one"));
    let other = Backend::start(Script::new().file("f", b"of the other"));
    let sites = [
        Site::hosts("one", &["one.test"], one.address()),
        Site::hosts("other", &["other.test"], other.address()),
    ];
    let proxy = Proxy::start(front.config().site(&sites[0]).site(&sites[1]));
    let mut client = front.session(&proxy, "one.test|alice");
    assert_eq!(client.download("f"), b"of one");
    client.control.command("USER other.test|bob", 503);
    client.control.command("REIN", 220);
    client.control.command("PWD", 530);
    one.wait_for_end(1);
    client.control.login("other.test|bob", "secret");
    // The client's own protection level holds, as its TLS does.
    assert_eq!(client.download("f"), b"of the other");
    let complete =
        "portcullis_transfers_total{direction=\"download\",site=\"other\",verdict=\"complete\"}";
    proxy.wait_for_metric(complete, |count| count == 1.0);
}
