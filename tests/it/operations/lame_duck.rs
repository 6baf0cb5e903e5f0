//! The time between SIGTERM and the drain, in which load balancers find out.

use std::net::TcpStream;

use testkit::config::Site;
use testkit::front::Front;
use testkit::haproxy::ReadinessBalancer;
use testkit::proxy::{Proxy, Signal};
use testkit::raw::Raw;
use testkit::script::Script;
use testkit::scripted::Backend;

use crate::program::Start;

fn proxy(front: &Front, backend: &Backend, lame_duck: &str) -> Proxy {
    let site = Site::default("site", backend.address());
    let config = front.config().tls("required", "false");
    Proxy::start(config.timeout("lame_duck", lame_duck).site(&site))
}

fn begins_to_serve_on(proxy: &Proxy) {
    proxy.wait_for_log(|line| line.message().starts_with("not ready any more"));
}

#[test]
fn a_process_that_is_to_end_is_not_ready_and_serves_on_until_it_is_asked_again() {
    let (front, backend) = (Front::new(&[]), Backend::start(Script::new()));
    let mut proxy = proxy(&front, &backend, "1h");
    assert_eq!(proxy.get("/readyz").0, 200);
    proxy.signal(Signal::Terminate);
    begins_to_serve_on(&proxy);
    assert_eq!(proxy.get("/readyz").0, 503);
    assert_eq!(proxy.get("/healthz").0, 200);
    let mut client = Raw::connect(proxy.explicit());
    client.expect(220);
    client.login("alice", "secret");
    proxy.signal(Signal::Terminate);
    client.expect(421);
    assert_eq!(proxy.wait_exit(), Some(0));
    assert!(TcpStream::connect(proxy.explicit()).is_err());
}

#[test]
fn a_time_that_is_over_leads_to_the_drain() {
    let (front, backend) = (Front::new(&[]), Backend::start(Script::new()));
    let mut proxy = proxy(&front, &backend, "50ms");
    proxy.signal(Signal::Terminate);
    assert_eq!(proxy.wait_exit(), Some(0));
}

#[test]
fn behind_a_balancer_that_checks_readiness_no_client_is_refused_across_a_restart() {
    let (front, backend) = (Front::new(&[]), Backend::start(Script::new()));
    let mut leaving = proxy(&front, &backend, "3s");
    let staying = proxy(&front, &backend, "3s");
    let ends = |proxy: &Proxy| (proxy.explicit(), proxy.admin());
    let balancer = ReadinessBalancer::start(&[ends(&leaving), ends(&staying)]);
    let serve_one = || {
        let mut client = Raw::connect(balancer.address());
        client.expect(220);
        client.login("alice", "secret");
        client.command("QUIT", 221);
    };
    serve_one();
    leaving.signal(Signal::Terminate);
    begins_to_serve_on(&leaving);
    let is_draining = || {
        let lines = leaving.log_lines();
        lines.iter().any(|line| line.message() == "draining")
    };
    let mut served = 0;
    while !is_draining() {
        serve_one();
        served += 1;
    }
    assert!(served > 0);
    for _ in 0..20 {
        serve_one();
    }
    assert_eq!(leaving.wait_exit(), Some(0));
    serve_one();
}
