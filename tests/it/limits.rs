//! What a public port needs from the start: bounds on sessions and on time.

use crate::support::config::Site;
use crate::support::front::Front;
use crate::support::proxy::Proxy;
use crate::support::raw::Raw;
use crate::support::script::Script;
use crate::support::scripted::Backend;

#[test]
fn sessions_beyond_the_limit_of_a_client_are_told_421_until_one_ends() {
    let backend = Backend::start(Script::new().file("file", "content"));
    let front = Front::new(&[]);
    let proxy = Proxy::start(
        front
            .config()
            .limit("sessions_per_client", 2)
            .site(&Site::default("ftpa", backend.address())),
    );
    let mut first = Raw::connect(proxy.explicit());
    first.expect(220);
    let mut second = Raw::connect(proxy.explicit());
    second.expect(220);
    Raw::connect(proxy.explicit()).expect(421);
    let refused = "portcullis_sessions_refused_total{reason=\"per_client\"}";
    assert_eq!(proxy.metric(refused), 1.0);

    first.command("QUIT", 221);
    drop(first);
    proxy.wait_for_metric("portcullis_sessions", |sessions| sessions == 1.0);
    Raw::connect(proxy.explicit()).expect(220);
}

#[test]
fn who_does_not_log_in_or_is_idle_is_told_421_in_time() {
    let backend = Backend::start(Script::new());
    let front = Front::new(&[]);
    let proxy = Proxy::start(
        front
            .config()
            .timeout("login", "2s")
            .timeout("idle", "300ms")
            .site(&Site::default("ftpa", backend.address())),
    );
    let mut idle = front.session(&proxy, "alice");
    assert!(idle.control.expect(421).contains("Idle"));
    let mut slow = Raw::connect(proxy.explicit());
    slow.expect(220);
    slow.send_bytes(b"NO");
    assert!(slow.expect(421).contains("Login took too long"));
}

#[test]
fn a_client_that_opens_no_data_connection_is_told_425_and_goes_on() {
    let backend = Backend::start(Script::new().file("file", "content"));
    let front = Front::new(&[]);
    let proxy = Proxy::start(
        front
            .config()
            .timeout("data_connect", "300ms")
            .site(&Site::default("ftpa", backend.address())),
    );
    let mut session = front.session(&proxy, "alice");
    session.control.epsv();
    session.control.send("RETR file");
    // The backend may have begun by then, and says so.
    let reply = session.control.reply();
    let last = if reply.code == 150 {
        session.control.reply()
    } else {
        reply
    };
    assert_eq!(last.code, 425, "{}", last.text);
    session.control.command("NOOP", 200);
    assert_eq!(session.download("file"), b"content");
}
