//! Configuration files for the proxy, written as an operator writes them.

use std::fmt::{Display, Write};
use std::net::SocketAddr;
use std::path::Path;

use super::certs::PairFiles;
use super::loopback::Loopback;

const SESSIONS_PER_MINUTE: &str = "sessions_per_client_per_minute";

/// A configuration with an explicit and an implicit listener, one passive port and the admin endpoint on a loopback
/// address of its own, and whatever sites the test adds.
#[derive(Debug)]
pub struct Config {
    loopback: Loopback,
    files: Option<PairFiles>,
    trusted: Option<String>,
    ipv6: Option<&'static str>,
    log_level: &'static str,
    announced_ports: Option<String>,
    text: Option<String>,
    // Lines of the sections of the same name, with their indentation.
    tls: String,
    passive_ports: String,
    reuse_delay: String,
    passive: String,
    sites: String,
    limits: String,
    timeouts: String,
    admin: String,
    other: String,
}

impl Config {
    /// Shows this certificate; data connections need not resume their session.
    pub fn new(files: &PairFiles) -> Self {
        Self {
            files: Some(files.clone()),
            ..Self::without_certificate()
        }
    }

    /// Names no certificate: the test has one ordered.
    pub fn without_certificate() -> Self {
        Self {
            loopback: Loopback::claim(),
            files: None,
            trusted: None,
            ipv6: None,
            log_level: "info",
            announced_ports: None,
            text: None,
            tls: String::new(),
            passive_ports: PASSIVE_PORT.to_string(),
            // Nothing is ever late on a loopback address.
            reuse_delay: "20ms".to_owned(),
            passive: String::new(),
            sites: String::new(),
            limits: String::new(),
            timeouts: String::new(),
            admin: String::new(),
            other: String::new(),
        }
    }

    /// Adds a site.
    pub fn site(mut self, site: &Site) -> Self {
        self.sites.push_str(&site.0);
        self
    }

    /// Sets a key of the section `tls`, such as `required` to `false`.
    pub fn tls(mut self, key: &str, value: &str) -> Self {
        line(&mut self.tls, 2, key, value);
        self
    }

    /// Sets a key of the section `limits`.
    pub fn limit(mut self, key: &str, value: impl Display) -> Self {
        line(&mut self.limits, 2, key, &value.to_string());
        self
    }

    /// All clients of a test have one address, and how many logins they make depends on the machine.
    fn limits(&self) -> String {
        let mut limits = self.limits.clone();
        if !limits.contains(SESSIONS_PER_MINUTE) {
            line(&mut limits, 2, SESSIONS_PER_MINUTE, "1000000");
        }
        limits
    }

    /// Sets a key of the section `timeouts`, such as `login` to `500ms`.
    pub fn timeout(mut self, key: &str, value: &str) -> Self {
        line(&mut self.timeouts, 2, key, value);
        self
    }

    /// Sets a further key of the section `admin`, such as `socket`.
    pub fn endpoint(mut self, key: &str, value: &str) -> Self {
        line(&mut self.admin, 2, key, value);
        self
    }

    /// One port, or a range such as `50000-50009`, for passive data connections.
    pub fn passive_ports(mut self, ports: &str) -> Self {
        self.passive_ports = ports.to_owned();
        self
    }

    /// How long a port rests after a transfer whose connection may still come.
    pub fn reuse_delay(mut self, delay: &str) -> Self {
        self.reuse_delay = delay.to_owned();
        self
    }

    /// Sets a further key of the section `passive`, such as `address`.
    pub fn passive(mut self, key: &str, value: &str) -> Self {
        line(&mut self.passive, 2, key, value);
        self
    }

    /// Sets a key at the top level, such as `active_mode` to `false`.
    pub fn set(mut self, key: &str, value: &str) -> Self {
        line(&mut self.other, 0, key, value);
        self
    }

    /// Demands a PROXY protocol header on every listener, from balancers in this network.
    pub fn proxy_protocol(mut self, trusted: &str) -> Self {
        self.trusted = Some(trusted.to_owned());
        self
    }

    /// Adds a listener on `[::1]`, `explicit` or `implicit`, on a port that the log names.
    pub fn ipv6(mut self, tls: &'static str) -> Self {
        self.ipv6 = Some(tls);
        self
    }

    /// Logs from this level on, such as `trace`. Not in the file: an option of the command line.
    pub fn log(mut self, level: &'static str) -> Self {
        self.log_level = level;
        self
    }

    /// Announces these ports to every client, whatever the file says. Not in the file: an option of the command line.
    pub fn announce(mut self, ports: &str) -> Self {
        self.announced_ports = Some(ports.to_owned());
        self
    }

    /// The file is this text and nothing else. It has to have the two listeners and the admin endpoint where they are here.
    pub fn replaced_by(mut self, yaml: String) -> Self {
        self.text = Some(yaml);
        self
    }

    /// What the command line has besides the file.
    pub fn arguments(&self) -> Vec<&str> {
        let mut arguments = vec!["--log-level", self.log_level];
        if let Some(ports) = &self.announced_ports {
            arguments.extend(["--announced-ports", ports]);
        }
        arguments
    }

    /// Where clients of explicit TLS connect.
    pub fn explicit(&self) -> SocketAddr {
        self.loopback.at(2121)
    }

    /// Where clients of implicit TLS connect.
    pub fn implicit(&self) -> SocketAddr {
        self.loopback.at(2990)
    }

    /// Where the metrics are.
    pub fn admin(&self) -> SocketAddr {
        self.loopback.at(9190)
    }

    /// How many listeners there are.
    pub fn listeners(&self) -> usize {
        2 + usize::from(self.ipv6.is_some())
    }

    /// The file's content.
    pub fn to_yaml(&self) -> String {
        if let Some(text) = &self.text {
            return text.clone();
        }
        let header = self.trusted.as_ref().map_or(String::new(), |trusted| {
            format!("    proxy_protocol: {{trusted: [{trusted:?}]}}\n")
        });
        let mut yaml = String::from("listeners:\n");
        let mut listener = |address: SocketAddr, tls: &str| {
            write!(yaml, "  - address: \"{address}\"\n    tls: {tls}\n{header}")
                .expect("a String takes everything");
        };
        listener(self.explicit(), "explicit");
        listener(self.implicit(), "implicit");
        if let Some(tls) = self.ipv6 {
            listener("[::1]:0".parse().expect("an address"), tls);
        }
        let files = self.files.as_ref().map_or(String::new(), |files| {
            format!(
                "  certificate: {}\n  private_key: {}\n",
                files.certificate.display(),
                files.private_key.display()
            )
        });
        write!(
            yaml,
            "tls:\n{files}{}passive:\n  ports: {}\n  reuse_delay: {}\n{}",
            self.tls, self.passive_ports, self.reuse_delay, self.passive,
        )
        .expect("a String takes everything");
        for (name, lines) in [
            ("sites", &self.sites),
            ("limits", &self.limits()),
            ("timeouts", &self.timeouts),
        ] {
            if !lines.is_empty() {
                write!(yaml, "{name}:\n{lines}").expect("a String takes everything");
            }
        }
        write!(
            yaml,
            "admin:\n  address: \"{}\"\n{}{}",
            self.admin(),
            self.admin,
            self.other
        )
        .expect("a String takes everything");
        yaml
    }
}

/// A site for [`Config::site`], with one backend.
#[derive(Debug, Clone)]
pub struct Site(String);

impl Site {
    /// The site for logins that name no host, with a plaintext backend.
    pub fn default(name: &str, backend: impl Display) -> Self {
        Self::with(name, "default: true", backend)
    }

    /// The site of logins that name no host, with the servers of a service as its backends.
    pub fn service(name: &str, service: &str) -> Self {
        Self(format!(
            "  - name: {name}\n    default: true\n    backends:\n      - srv: {service}\n"
        ))
    }

    /// A site with these hosts and a plaintext backend.
    pub fn hosts(name: &str, hosts: &[&str], backend: impl Display) -> Self {
        Self::with(name, &format!("hosts: {hosts:?}"), backend)
    }

    /// The same with TLS to the backend: `explicit` or `implicit`, and a certificate authority, or none to verify
    /// nothing. Comes before [`Site::also`] and [`Site::user`].
    pub fn backend_tls(mut self, start: &str, ca: Option<&Path>) -> Self {
        line(&mut self.0, 8, "tls", start);
        match ca {
            Some(ca) => line(
                &mut self.0,
                8,
                "verify",
                &format!("{{ca: {}}}", ca.display()),
            ),
            None => line(&mut self.0, 8, "verify", "none"),
        }
        self
    }

    /// Sets a key of the backend, such as `server_name`. Comes before [`Site::also`] and [`Site::user`].
    pub fn backend(mut self, key: &str, value: &str) -> Self {
        line(&mut self.0, 8, key, value);
        self
    }

    /// Adds a plaintext backend, tried after those before it.
    pub fn also(mut self, backend: impl Display) -> Self {
        writeln!(self.0, "      - address: \"{backend}\"").expect("a String takes everything");
        self
    }

    /// What the backend gets as USER, such as `{host}|{user}`. Comes last.
    pub fn user(mut self, template: &str) -> Self {
        line(&mut self.0, 4, "user", &format!("{template:?}"));
        self
    }

    /// Sets a key of the site, such as `session_reuse`. Comes last, with [`Site::user`].
    pub fn set(mut self, key: &str, value: &str) -> Self {
        line(&mut self.0, 4, key, value);
        self
    }

    fn with(name: &str, hosts: &str, backend: impl Display) -> Self {
        Self(format!("  - name: {name}\n    {hosts}\n    backends:\n")).also(backend)
    }
}

/// The port of all passive data connections, unless the test says otherwise.
const PASSIVE_PORT: u16 = 50_000;

fn line(section: &mut String, indentation: usize, key: &str, value: &str) {
    writeln!(section, "{:indentation$}{key}: {value}", "").expect("a String takes everything");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_with_everything_is_yaml_of_the_documented_form() {
        let files = PairFiles {
            certificate: "/tls/a.crt".into(),
            private_key: "/tls/a.key".into(),
        };
        let backend = "10.0.0.10:21";
        let config = Config::new(&files)
            .tls("session_reuse", "require")
            .passive_ports("50000-50009")
            .passive("address", "203.0.113.10")
            .limit("sessions", 3)
            .timeout("login", "500ms")
            .set("active_mode", "false")
            .proxy_protocol("127.0.0.0/8")
            .ipv6("explicit")
            .site(&Site::default("ftpa", backend).also(backend))
            .site(
                &Site::hosts("ftpb", &["ftpb.test", "*.branch.test"], backend)
                    .backend_tls("implicit", Some(Path::new("/ca.pem")))
                    .backend("server_name", "be1.test")
                    .user("{host}|{user}"),
            )
            .site(&Site::hosts("ftpc", &["ftpc.test"], backend).backend_tls("explicit", None));
        let read =
            |yaml: &str| serde_yaml::from_str::<serde_yaml::Value>(yaml).expect("valid YAML");
        let expected = format!(
            r#"
            listeners:
              - {{address: "{explicit}", tls: explicit, proxy_protocol: {{trusted: [127.0.0.0/8]}}}}
              - {{address: "{implicit}", tls: implicit, proxy_protocol: {{trusted: [127.0.0.0/8]}}}}
              - {{address: "[::1]:0", tls: explicit, proxy_protocol: {{trusted: [127.0.0.0/8]}}}}
            tls: {{certificate: /tls/a.crt, private_key: /tls/a.key, session_reuse: require}}
            passive: {{ports: 50000-50009, reuse_delay: 20ms, address: 203.0.113.10}}
            sites:
              - name: ftpa
                default: true
                backends: [{{address: "10.0.0.10:21"}}, {{address: "10.0.0.10:21"}}]
              - name: ftpb
                hosts: [ftpb.test, "*.branch.test"]
                backends:
                  - address: "10.0.0.10:21"
                    tls: implicit
                    verify: {{ca: /ca.pem}}
                    server_name: be1.test
                user: "{{host}}|{{user}}"
              - name: ftpc
                hosts: [ftpc.test]
                backends: [{{address: "10.0.0.10:21", tls: explicit, verify: none}}]
            limits: {{sessions: 3, sessions_per_client_per_minute: 1000000}}
            timeouts: {{login: 500ms}}
            admin: {{address: "{admin}"}}
            active_mode: false
            "#,
            explicit = config.explicit(),
            implicit = config.implicit(),
            admin = config.admin(),
        );
        assert_eq!(config.listeners(), 3);
        assert_eq!(read(&config.to_yaml()), read(&expected));
    }
}
