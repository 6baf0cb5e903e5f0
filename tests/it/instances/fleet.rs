//! Three instances, HAProxy before them, and a scripted backend behind.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Instant;

use testkit::DEADLINE;
use testkit::config::Config;
use testkit::front::Front;
use testkit::haproxy::Observed;
use testkit::loopback::Loopback;
use testkit::proxy::Proxy;
use testkit::script::Script;
use testkit::scripted::Backend;

use crate::program::Start;

/// The instances by their names in haproxy.cfg, in the order of their data ports.
const NAMES: [&str; 3] = ["a", "b", "c"];

/// How many instances there are.
pub const INSTANCES: usize = NAMES.len();

/// The data port of the first one; the others have the next ones.
const DATA_PORT: u16 = 30_001;

/// Ports that no special right is needed for, in place of 21 and 990.
const EXPLICIT: u16 = 2121;
const IMPLICIT: u16 = 2990;

/// What is deployed.
pub struct Fleet {
    pub front: Front,
    pub backend: Backend,
    balancer: Mutex<Observed>,
    at: SocketAddr,
    instances: Vec<Instance>,
}

struct Instance {
    name: &'static str,
    config: Arc<Config>,
    /// None while it is down.
    proxy: Mutex<Option<Proxy>>,
}

impl Fleet {
    /// Starts it all; `change` may change the configuration of the instances.
    pub fn start(script: Script, change: impl Fn(String) -> String) -> Self {
        let (front, backend) = (Front::new(&[]), Backend::start(script));
        let mut instances = Vec::new();
        for (port, name) in (DATA_PORT..).zip(NAMES) {
            let config = front.config().announce(&port.to_string());
            let yaml = change(shared_file(&config, &front, backend.address()));
            let config = Arc::new(config.replaced_by(yaml));
            instances.push(Instance {
                name,
                proxy: Mutex::new(Some(Proxy::start(Arc::clone(&config)))),
                config,
            });
        }
        let loopback = Loopback::claim();
        let config = balancer_file(&loopback, &instances);
        let balancer = Observed::start(loopback, &config);
        Self {
            front,
            backend,
            at: balancer.at(EXPLICIT),
            balancer: Mutex::new(balancer),
            instances,
        }
    }

    /// Where clients of explicit TLS connect.
    pub fn explicit(&self) -> SocketAddr {
        self.at
    }

    /// The data port of an instance.
    pub fn data(&self, instance: usize) -> SocketAddr {
        let port = (DATA_PORT..).nth(instance).expect("few");
        SocketAddr::new(self.at.ip(), port)
    }

    /// The port behind that, which takes PROXY headers.
    pub fn data_behind(&self, instance: usize) -> SocketAddr {
        SocketAddr::new(self.instances[instance].config.explicit().ip(), 30_000)
    }

    /// The instance, of those that are up, that a client from this address has logged in to.
    ///
    /// # Panics
    /// If there is none in time.
    pub fn instance_of(&self, client: SocketAddr) -> usize {
        let client = format!("\"client\":\"{client}\"");
        let by = Instant::now() + DEADLINE;
        loop {
            let has_it = |instance: &usize| {
                let slot = self.slot(*instance);
                let lines = slot.as_ref().map(Proxy::log_lines).unwrap_or_default();
                lines.iter().any(|line| line.text.contains(&client))
            };
            if let Some(instance) = (0..INSTANCES).find(has_it) {
                return instance;
            }
            assert!(Instant::now() < by, "no instance has {client}");
            thread::yield_now();
        }
    }

    /// The instance that has announced this data port.
    pub fn owner(&self, data: SocketAddr) -> usize {
        let owner = (0..INSTANCES).find(|instance| self.data(*instance) == data);
        owner.unwrap_or_else(|| panic!("{data} is no instance's"))
    }

    /// Takes an instance that is up out of the fleet, whose clients don't know yet.
    pub fn take(&self, instance: usize) -> Proxy {
        self.slot(instance).take().expect("it is up")
    }

    /// Starts an instance anew that was taken out, and waits until HAProxy sends it clients.
    pub fn start_again(&self, instance: usize) {
        let started = Proxy::start(Arc::clone(&self.instances[instance].config));
        *self.slot(instance) = Some(started);
        self.wait_for(instance, "UP");
    }

    /// Waits until HAProxy takes an instance to be `UP` or `DOWN`.
    pub fn wait_for(&self, instance: usize, status: &str) {
        let name = self.instances[instance].name;
        let mut balancer = self.balancer.lock().expect("nobody panics who has it");
        balancer.wait_for("control", name, status);
    }

    fn slot(&self, instance: usize) -> MutexGuard<'_, Option<Proxy>> {
        let slot = self.instances[instance].proxy.lock();
        slot.unwrap_or_else(PoisonError::into_inner)
    }
}

/// The file of all instances, for this one's address: on one machine they can't all listen at the same.
fn shared_file(config: &Config, front: &Front, backend: SocketAddr) -> String {
    let [certificate, key] = [&front.files.certificate, &front.files.private_key];
    replaced(
        "haproxy/portcullis.yaml",
        &[
            ("0.0.0.0:21\n", &format!("{}\n", config.explicit())),
            ("0.0.0.0:990\n", &format!("{}\n", config.implicit())),
            ("0.0.0.0:9190\n", &format!("{}\n", config.admin())),
            ("[10.0.0.5, 10.0.0.6]", "[127.0.0.1]"),
            ("10.0.1.10:21\n", &format!("{backend}\n")),
            ("10.0.1.11:21\n", &format!("{backend}\n")),
            (
                "/etc/portcullis/tls/tls.crt",
                &certificate.display().to_string(),
            ),
            ("/etc/portcullis/tls/tls.key", &key.display().to_string()),
            // A second signal ends it: when HAProxy has noticed, however long that takes here.
            (
                "lame_duck: 10s",
                // Clients that are held in a handshake or a login outlast restarts.
                "lame_duck: 1h\n  tls_handshake: 5m\n  login: 5m",
            ),
        ],
    )
}

/// The file of HAProxy, at this address, before these instances.
fn balancer_file(loopback: &Loopback, instances: &[Instance]) -> String {
    let own = loopback.ip();
    let [a, b, c] = [0, 1, 2].map(|one| {
        let address = instances.get(one).map(|it: &Instance| it.config.explicit());
        address.expect("there are three").ip().to_string()
    });
    replaced(
        "haproxy/haproxy.cfg",
        &[
            ("bind :21\n", &format!("bind {own}:{EXPLICIT}\n")),
            ("bind :990\n", &format!("bind {own}:{IMPLICIT}\n")),
            ("bind :3000", &format!("bind {own}:3000")),
            ("10.0.0.11", &a),
            ("10.0.0.12", &b),
            ("10.0.0.13", &c),
            ("inter 1s", "inter 100ms"),
            // What a test may have descriptors for.
            ("maxconn 40000", "maxconn 2000"),
        ],
    )
}

/// A file of deploy/, each of whose values is there to be replaced.
fn replaced(file: &str, changes: &[(&str, &str)]) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("deploy")
        .join(file);
    let text = fs::read_to_string(path).expect("a file of the repository");
    changes.iter().fold(text, |text, (from, to)| {
        assert!(text.contains(from), "{file} has no {from}");
        text.replace(from, to)
    })
}
