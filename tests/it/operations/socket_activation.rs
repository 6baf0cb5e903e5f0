//! Listening sockets that a service manager has opened: taken by their addresses, also again after a reload, and kept by it across
//! restarts. systemd's own `systemd-socket-activate` opens them, or the test holds them as systemd does.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use testkit::clients::{Client as RealClient, ClientTls, DataMode, Login};
use testkit::config::{Config, Site};
use testkit::front::{Front, NAME};
use testkit::programs::program;
use testkit::proxy::{LogLine, Proxy, Signal};
use testkit::raw::Raw;
use testkit::script::Script;
use testkit::scripted::Backend;
use testkit::service_manager::passing;
use testkit::wire::Wire;

use crate::program::PORTCULLIS;

/// A port that nobody else uses at the proxy's own address.
const DATA_PORT: u16 = 30_000;

struct Setting {
    front: Front,
    backend: Backend,
}

impl Setting {
    fn new() -> Self {
        let script = Script::new().file("file", "content").file("other", "");
        Self {
            front: Front::new(&[]),
            backend: Backend::start(script),
        }
    }

    fn config(&self) -> Config {
        let site = Site::default("site", self.backend.address());
        let config = self.front.config().passive_ports(&DATA_PORT.to_string());
        config.site(&site)
    }
}

fn data_port(config: &Config) -> SocketAddr {
    SocketAddr::new(config.explicit().ip(), DATA_PORT)
}

/// systemd's tool, which becomes the program at the first connection to one of these sockets.
fn activated(sockets: &[&str]) -> Command {
    let mut command = Command::new(program("systemd-socket-activate"));
    command.stdin(Stdio::null());
    for socket in sockets {
        command.args(["-l", socket]);
    }
    command.arg(PORTCULLIS);
    command
}

/// Starts the program by systemd's tool with TCP sockets at these addresses.
fn start_activated(config: Config, sockets: &[SocketAddr]) -> Proxy {
    let names: Vec<_> = sockets.iter().map(SocketAddr::to_string).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let first = sockets[0];
    // It has to be there until the tool listens.
    let first_client = std::thread::spawn(move || {
        while TcpStream::connect(first).is_err() {
            std::thread::yield_now();
        }
    });
    let proxy = Proxy::start_by(config, activated(&names));
    first_client.join().expect("no panic");
    proxy
}

/// What the program says that this command becomes, which has to refuse its sockets.
fn refusal_of(mut command: Command, yaml: &str) -> String {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("portcullis.yaml");
    fs::write(&file, yaml).expect("it is writable");
    let run = command.args(["run", "--config"]).arg(&file);
    let output = run.output().expect("it is there");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{said}");
    said
}

/// The same with these sockets.
fn refusal(listeners: [&TcpListener; 2], config: &Config) -> String {
    refusal_of(passing(PORTCULLIS, listeners), &config.to_yaml())
}

#[test]
fn control_data_and_admin_sockets_of_systemd_serve_a_real_client() {
    let setting = Setting::new();
    let config = setting.config();
    let data = data_port(&config);
    let sockets = [config.explicit(), data, config.admin()];
    let proxy = start_activated(config, &sockets);
    let login = || {
        Login::new(proxy.explicit(), "alice", "secret")
            .tls(ClientTls::Explicit, &setting.front.ca())
            .name(NAME)
            .data(DataMode::Epsv)
    };
    let served = || {
        let got = login().download(RealClient::Curl, "file").expect_success();
        assert_eq!(got.content, b"content");
        assert_eq!(proxy.get("/readyz").0, 200);
    };
    // By the sockets of the tool: they are listening, so no others could be.
    served();
    proxy.reload(&proxy.config().to_yaml());
    served();
    // And what systemd doesn't hold it has opened by itself.
    Raw::connect_tls(proxy.implicit(), &setting.front.tls(NAME)).expect(220);
}

#[test]
fn an_address_that_a_reload_removes_and_another_adds_is_served_again() {
    let setting = Setting::new();
    let config = setting.config();
    let (implicit, data) = (config.implicit(), data_port(&config));
    let proxy = start_activated(config, &[implicit, data]);
    let yaml = proxy.config().to_yaml();
    let listener = format!("  - address: \"{implicit}\"\n    tls: implicit\n");
    assert!(yaml.contains(&listener));
    let without = yaml
        .replace(&listener, "")
        .replace(&format!("ports: {DATA_PORT}"), "ports: 30001");
    let serves = || {
        let mut session = setting.front.implicit(&proxy);
        session.login("alice", "secret");
        session.command("QUIT", 221);
        let mut session = setting.front.session(&proxy, "alice");
        assert_eq!(session.control.epsv().port(), DATA_PORT);
        assert_eq!(session.download("file"), b"content");
    };
    for round in 1..=3 {
        serves();
        proxy.reload(&without);
        let unused = |line: &LogLine| {
            line.message()
                .starts_with("the service manager holds a socket")
                && line.field("level").as_deref() == Some("WARN")
        };
        let told = proxy.wait_for_logs(2 * round, unused);
        let sockets: Vec<_> = told
            .iter()
            .filter_map(|line| line.field("socket"))
            .collect();
        assert!(sockets.contains(&implicit.to_string()) && sockets.contains(&data.to_string()));
        proxy.reload(&yaml);
    }
    serves();
}

#[test]
fn clients_who_come_while_nobody_runs_are_served_by_the_next_process() {
    let setting = Setting::new();
    let config = Arc::new(setting.config());
    let control = TcpListener::bind(config.explicit()).expect("a new address");
    let data = TcpListener::bind(data_port(&config)).expect("a new address");
    let start = || Proxy::start_by(Arc::clone(&config), passing(PORTCULLIS, [&control, &data]));
    let mut proxy = start();
    for signal in [Signal::Terminate, Signal::Kill, Signal::Terminate] {
        let mut early = setting.front.session(&proxy, "alice");
        assert_eq!(early.download("file"), b"content");
        drop(early);
        proxy.signal(signal);
        proxy.wait_exit();
        // Nobody is refused, and nobody is lost.
        let waiting: Vec<_> = (0..5).map(|_| Wire::connect(config.explicit())).collect();
        proxy = start();
        for wire in waiting {
            let mut client = Raw::over(wire);
            client.expect(220);
            client.command("QUIT", 221);
        }
    }
    let mut session = setting.front.session(&proxy, "alice");
    assert_eq!(session.download("file"), b"content");
}

#[test]
fn a_socket_that_the_configuration_does_not_name_ends_the_start() {
    let setting = Setting::new();
    let config = setting.config();
    let control = TcpListener::bind(config.explicit()).expect("a new address");
    let other = TcpListener::bind((config.explicit().ip(), 4444)).expect("a new address");
    let said = refusal([&control, &other], &config);
    let address = other.local_addr().expect("bound");
    assert!(
        said.contains(&format!(
            "passes the socket {address}, which the configuration doesn't name"
        )),
        "{said}"
    );
}

#[test]
fn a_socket_for_all_addresses_is_not_the_one_of_an_address() {
    let setting = Setting::new();
    let config = setting.config();
    let wildcard = TcpListener::bind(("0.0.0.0", 0)).expect("a port");
    let data = TcpListener::bind(data_port(&config)).expect("a new address");
    let port = wildcard.local_addr().expect("bound").port();
    let ours = format!("{}:{port}", config.explicit().ip());
    let yaml = config
        .to_yaml()
        .replace(&config.explicit().to_string(), &ours);
    let said = refusal_of(passing(PORTCULLIS, [&wildcard, &data]), &yaml);
    let unnamed = format!("passes the socket 0.0.0.0:{port}, which the configuration doesn't name");
    assert!(said.contains(&unnamed), "{said}");
    assert!(
        said.contains(&format!("which have {ours} at that port")),
        "{said}"
    );
    let said = refusal_of(passing(PORTCULLIS, [&data, &data]), &yaml);
    assert!(said.contains("twice"), "{said}");
}

#[test]
fn what_is_no_socket_for_clients_of_one_family_is_refused_in_plain_words() {
    let setting = Setting::new();
    let config = setting.config();
    let good = TcpListener::bind(config.explicit()).expect("a new address");
    let _client = TcpStream::connect(config.explicit()).expect("it listens");
    let (connection, _) = good.accept().expect("a connection");
    let datagrams = UdpSocket::bind((config.explicit().ip(), 0)).expect("a port");
    // By default systemd has [::]:port take IPv4 as well, as std does.
    let both = TcpListener::bind(("::", 0)).expect("a port");
    for (other, wanted) in [
        (OwnedFd::from(connection), "Accept=no"),
        (OwnedFd::from(datagrams), "ListenStream= alone"),
        (OwnedFd::from(both), "BindIPv6Only=ipv6-only"),
    ] {
        // The program knows it by its descriptor alone, too.
        let said = refusal([&good, &TcpListener::from(other)], &config);
        assert!(said.contains(wanted), "{said}");
    }
}

#[test]
fn sockets_of_another_process_are_left_alone() {
    let setting = Setting::new();
    let config = setting.config();
    let mut command = Command::new("sh");
    // Descriptor 3 isn't even open.
    let script = "LISTEN_FDS=1 LISTEN_PID=1; export LISTEN_FDS LISTEN_PID; exec \"$@\"";
    command
        .args(["-c", script, "sh", PORTCULLIS])
        .stdin(Stdio::null());
    let proxy = Proxy::start_by(config, command);
    let mut session = setting.front.session(&proxy, "alice");
    assert_eq!(session.download("file"), b"content");
}

#[test]
fn a_number_of_sockets_that_is_none_or_is_wrong_ends_the_start() {
    let setting = Setting::new();
    for (count, wanted) in [
        ("many", "LISTEN_FDS is \"many\""),
        ("4294967295", "LISTEN_FDS is \"4294967295\""),
        ("-1", "LISTEN_FDS is \"-1\""),
        ("1", "socket 1 of those"),
    ] {
        let script =
            format!("LISTEN_FDS={count} LISTEN_PID=$$; export LISTEN_FDS LISTEN_PID; exec \"$@\"");
        let mut command = Command::new("sh");
        command.args(["-c", &script, "sh", PORTCULLIS]);
        let said = refusal_of(command, &setting.config().to_yaml());
        assert!(said.contains(wanted), "{said}");
    }
}

/// The answer to a request over the socket.
fn ask(socket: &Path) -> String {
    let mut stream = UnixStream::connect(socket).expect("it listens");
    let request = "GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    answer
}

#[test]
fn an_admin_socket_of_systemd_is_used_and_left_where_it_is_and_one_for_everybody_is_refused() {
    let setting = Setting::new();
    let directory = tempfile::tempdir().expect("a folder");
    let socket = directory.path().join("admin.sock");
    let path = socket.to_str().expect("plain").to_owned();
    let config = || setting.config().endpoint("socket", &path);
    let for_everybody = UnixListener::bind(&socket).expect("a new name");
    let mode = fs::Permissions::from_mode(0o666);
    fs::set_permissions(&socket, mode).expect("it is ours");
    let refused = config();
    let control = TcpListener::bind(refused.explicit()).expect("a new address");
    let admin = TcpListener::from(OwnedFd::from(for_everybody));
    let said = refusal([&control, &admin], &refused);
    assert!(said.contains("SocketMode=0660"), "{said}");

    // The tool makes it for its owner alone.
    fs::remove_file(&socket).expect("nobody has removed it");
    let first = socket.clone();
    let first_client = std::thread::spawn(move || {
        while UnixStream::connect(&first).is_err() {
            std::thread::yield_now();
        }
    });
    let mut proxy = Proxy::start_by(config(), activated(&[&path]));
    first_client.join().expect("no panic");
    assert!(ask(&socket).starts_with("HTTP/1.1 200 "));
    let yaml = proxy.config().to_yaml();
    proxy.reload(&yaml.replace(&format!("  socket: {path}\n"), ""));
    proxy.reload(&yaml);
    assert!(ask(&socket).starts_with("HTTP/1.1 200 "));
    proxy.signal(Signal::Terminate);
    assert_eq!(proxy.wait_exit(), Some(0));
    assert!(socket.exists(), "it is the manager's to remove");
}
