//! The time between SIGTERM and the drain, in which load balancers find out.

use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use testkit::certs::Validity;
use testkit::config::{Config, Site};
use testkit::front::Front;
use testkit::haproxy::{Instance, ReadinessBalancer};
use testkit::loopback::Loopback;
use testkit::proxy::{Proxy, Signal};
use testkit::raw::{Raw, open_data};
use testkit::script::Script;
use testkit::scripted::Backend;
use testkit::wire::End;

use crate::program::Start;

fn proxy(front: &Front, backend: &Backend, lame_duck: &str) -> Proxy {
    let site = Site::default("site", backend.address());
    let config = front.config().tls("required", "false");
    Proxy::start(config.timeout("lame_duck", lame_duck).site(&site))
}

fn begins_to_serve_on(proxy: &Proxy) {
    proxy.wait_for_log(|line| line.message().starts_with("shutdown requested: not ready"));
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
fn new_certificates_are_taken_up_as_long_as_clients_are_accepted_and_a_reload_is_not() {
    let (front, backend) = (Front::new(&[]), Backend::start(Script::new()));
    let mut proxy = proxy(&front, &backend, "1h");
    proxy.signal(Signal::Terminate);
    begins_to_serve_on(&proxy);
    let next = front.issue(Validity::Now);
    front.files.replace_by_rename(&next);
    proxy.wait_for_logs(2, |line| line.message() == "certificate in use");
    assert_eq!(front.shown_by(&proxy), next.der().to_vec());
    proxy.signal(Signal::Reload);
    proxy.wait_for_log(|line| line.message().starts_with("reload ignored"));
    proxy.signal(Signal::Terminate);
    assert_eq!(proxy.wait_exit(), Some(0));
}

#[test]
fn a_time_that_is_over_leads_to_the_drain() {
    let (front, backend) = (Front::new(&[]), Backend::start(Script::new()));
    let mut proxy = proxy(&front, &backend, "50ms");
    proxy.signal(Signal::Terminate);
    assert_eq!(proxy.wait_exit(), Some(0));
}

/// Instances behind one address, each with a data port of its own.
struct Balanced {
    front: Front,
    backend: Backend,
    balancer: Loopback,
}

impl Balanced {
    fn instance(&self, data_port: u16) -> Arc<Config> {
        let site = Site::default("site", self.backend.address());
        let config = self.front.config().tls("required", "false");
        let config = config
            .proxy_protocol(&format!("{}/32", self.balancer.ip()))
            .passive("address", &self.balancer.ip().to_string())
            .passive_ports(&data_port.to_string())
            .timeout("lame_duck", "3s");
        Arc::new(config.site(&site))
    }
}

fn ends(config: &Config, data_port: u16) -> Instance {
    Instance {
        control: config.explicit(),
        admin: config.admin(),
        data: SocketAddr::new(config.explicit().ip(), data_port),
    }
}

/// A login and a download, which nothing may disturb.
fn serve_one(address: SocketAddr) {
    let mut client = Raw::connect(address);
    client.expect(220);
    client.login("alice", "secret");
    let data = open_data(client.pasv());
    client.command("RETR file", 150);
    let mut data = data;
    assert_eq!(data.read_to_end(), (b"content".to_vec(), End::Fin));
    client.expect(226);
    client.command("QUIT", 221);
}

#[test]
fn behind_a_balancer_that_checks_readiness_no_client_notices_the_restart_of_each_instance() {
    let balanced = Balanced {
        front: Front::new(&[]),
        backend: Backend::start(Script::new().file("file", "content")),
        balancer: Loopback::claim(),
    };
    let ports = [30_001, 30_002];
    let configs = ports.map(|port| balanced.instance(port));
    let instances = [0, 1].map(|one| ends(&configs[one], ports[one]));
    let mut proxies = configs
        .each_ref()
        .map(|config| Proxy::start(Arc::clone(config)));
    let balancer = ReadinessBalancer::start(balanced.balancer, &instances);
    let (served, is_over) = (AtomicUsize::new(0), AtomicBool::new(false));
    let clients = || {
        while !is_over.load(Ordering::Relaxed) {
            serve_one(balancer.address());
            served.fetch_add(1, Ordering::Relaxed);
        }
    };
    std::thread::scope(|scope| {
        // Also if an assertion below fails.
        let _end = OnDrop(|| is_over.store(true, Ordering::Relaxed));
        let running = [scope.spawn(clients), scope.spawn(clients)];
        for one in [0, 1] {
            proxies[one].wait_for_log(|line| line.message() == "session ended");
            proxies[one].signal(Signal::Terminate);
            begins_to_serve_on(&proxies[one]);
            assert_eq!(proxies[one].wait_exit(), Some(0));
            let before = served.load(Ordering::Relaxed);
            proxies[one] = Proxy::start(Arc::clone(&configs[one]));
            // The balancer sends it clients again, so the other one can go.
            proxies[one].wait_for_log(|line| line.message() == "session ended");
            assert!(served.load(Ordering::Relaxed) >= before);
        }
        is_over.store(true, Ordering::Relaxed);
        for client in running {
            client.join().expect("nobody was refused");
        }
    });
    assert!(served.load(Ordering::Relaxed) > 10);
}

/// Does this when it is dropped.
struct OnDrop<F: Fn()>(F);

impl<F: Fn()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}
