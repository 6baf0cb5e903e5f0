//! The deployment files, judged by the programs that will read them: a rule that Prometheus refuses, or a unit that
//! systemd doesn't understand, shows here and not on a Sunday.
//!
//! A program that is missing fails the test: `tests/install.sh` installs them all.

mod dashboard;
mod haproxy;
mod kubernetes;
mod metrics;
mod prometheus;

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use portcullis::{config, passive};
use serde::Deserialize;
use serde_yaml::Value;
use testkit::programs;

/// What `systemd-analyze security` may say at most, as the unit says; 10 is an unprotected service.
const EXPOSURE_LIMIT: f64 = 1.4;

fn deploy(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("deploy")
        .join(path)
}

fn read(path: &str) -> String {
    let path = deploy(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn yaml(path: &str) -> Value {
    serde_yaml::from_str(&read(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// What `program` prints; it has to succeed.
fn output_of(program: &str, arguments: &[&str], file: &Path) -> String {
    let output = Command::new(programs::program(program))
        .args(arguments)
        .arg(file)
        .output()
        .unwrap_or_else(|error| panic!("{program} is needed for this test: {error}"));
    let text = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(output.status.success(), "{program} {arguments:?}: {text}");
    text
}

fn yaml_files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder of the repository") {
        let path = entry.expect("a folder of the repository").path();
        if path.is_dir() {
            yaml_files(&path, found);
        } else if path
            .extension()
            .is_some_and(|extension| extension == "yaml")
        {
            found.push(path);
        }
    }
}

/// A duration as systemd (`330`), Kubernetes (`330`) and Compose (`330s`) write it.
fn seconds(text: &str) -> u64 {
    text.trim_end_matches('s').parse().expect("whole seconds")
}

/// The values of `key` in the systemd unit, in their order.
fn unit_settings<'a>(unit: &'a str, key: &str) -> Vec<&'a str> {
    unit.lines()
        .filter_map(|line| line.strip_prefix(key)?.strip_prefix('='))
        .collect()
}

/// The value of `key` in the systemd unit, which has it once.
fn unit_setting<'a>(unit: &'a str, key: &str) -> &'a str {
    let values = unit_settings(unit, key);
    let [value] = values[..] else {
        panic!("{key} is set once: {values:?}")
    };
    value
}

#[test]
fn every_yaml_file_parses() {
    let mut files = Vec::new();
    yaml_files(&deploy(""), &mut files);
    assert!(files.len() >= 8, "{files:?}");
    for file in files {
        let text = fs::read_to_string(&file).expect("a file of the repository");
        for document in serde_yaml::Deserializer::from_str(&text) {
            let value = Value::deserialize(document)
                .unwrap_or_else(|error| panic!("{}: {error}", file.display()));
            assert!(!value.is_null(), "{} is empty", file.display());
        }
    }
}

/// Cargo reads the manifest of every member of the workspace, whatever it builds.
#[test]
fn the_images_build_gets_the_manifest_of_every_crate() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = |name| fs::read_to_string(root.join(name)).expect("it is there");
    let (manifest, let_in) = (text("Cargo.toml"), text(".dockerignore"));
    let (_, members) = manifest.split_once("members = [").expect("a workspace");
    let (members, _) = members.split_once(']').expect("an end");
    let members: Vec<&str> = members.split('"').skip(1).step_by(2).collect();
    assert!(members.len() > 4, "{members:?}");
    for member in members {
        let whole = format!("!{member}");
        let manifest = format!("!{member}/Cargo.toml");
        let gets_it = let_in.lines().any(|line| line == whole || line == manifest);
        assert!(gets_it, ".dockerignore keeps {member} out");
    }
}

#[test]
fn systemd_understands_the_units() {
    // systemd wants the binary to exist where the unit says, and the service beside its sockets.
    let unit = read("systemd/portcullis.service").replace(
        "/usr/local/bin/portcullis",
        env!("CARGO_BIN_EXE_portcullis"),
    );
    let folder = tempfile::tempdir().expect("a temporary folder");
    let copy = |name| folder.path().join(name);
    fs::write(copy("portcullis.service"), unit).expect("written");
    fs::write(copy("portcullis.socket"), read("systemd/portcullis.socket")).expect("written");
    for name in ["portcullis.service", "portcullis.socket"] {
        let complaints = output_of("systemd-analyze", &["verify", "--man=no"], &copy(name));
        assert!(!complaints.contains("portcullis."), "{complaints}");
    }
}

/// What is not configured would end the start.
#[test]
fn every_socket_of_the_unit_is_in_the_smallest_configuration() {
    let unit = read("systemd/portcullis.socket");
    let settings = config::load(&deploy("../config/minimal.yaml")).expect("it is good");
    let listeners: Vec<_> = settings.listeners.iter().map(|one| one.address).collect();
    let hosts: Vec<_> = listeners.iter().map(SocketAddr::ip).collect();
    let configured: Vec<_> = passive::bind_addresses(&hosts, &settings.passive.ports)
        .into_iter()
        .chain(listeners)
        .chain(settings.admin.address)
        .collect();
    let sockets = unit_settings(&unit, "ListenStream");
    assert!(sockets.len() >= 3, "{sockets:?}");
    for socket in sockets {
        let address = socket.parse().expect("an address and a port");
        assert!(configured.contains(&address), "{socket}");
    }
    assert_eq!(unit_setting(&unit, "BindIPv6Only"), "ipv6-only");
    assert_eq!(unit_setting(&unit, "SocketMode"), "0660");
}

#[test]
fn the_unit_waits_for_readiness_and_for_signs_of_life() {
    let unit = read("systemd/portcullis.service");
    assert_eq!(unit_setting(&unit, "Type"), "notify");
    assert!(seconds(unit_setting(&unit, "WatchdogSec")) >= 10);
    assert_eq!(unit_setting(&unit, "Restart"), "on-failure");
}

#[test]
fn systemd_understands_the_units_for_pfx_files() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let program = env!("CARGO_BIN_EXE_portcullis");
    for unit in ["portcullis-pfx.service", "portcullis-pfx.path"] {
        let text = read(&format!("systemd/{unit}")).replace("/usr/local/bin/portcullis", program);
        fs::write(folder.path().join(unit), text).expect("written");
    }
    // Where the installation by hand puts it, as the unit of the service has it.
    let program = |unit| {
        let command = unit_setting(unit, "ExecStart");
        command.split(' ').next().map(str::to_owned)
    };
    assert_eq!(
        program(&read("systemd/portcullis-pfx.service")),
        program(&read("systemd/portcullis.service"))
    );
    for unit in ["portcullis-pfx.path", "portcullis-pfx.service"] {
        let copy = folder.path().join(unit);
        let complaints = output_of("systemd-analyze", &["verify", "--man=no"], &copy);
        assert!(!complaints.contains("portcullis-pfx"), "{complaints}");
    }
}

#[test]
fn the_unit_reloads_only_what_has_been_checked_and_starts_whatever_the_program_can_serve() {
    let unit = read("systemd/portcullis.service");
    let check = unit_setting(&unit, "ExecStart").replace(" run ", " check ");
    assert_eq!(
        unit_settings(&unit, "ExecReload"),
        [&check, "/bin/kill -HUP $MAINPID"]
    );
    // `run` serves on with one bad certificate among many, which `check` calls a problem.
    assert!(!unit.contains("\nExecStartPre="));
    let (_, config) = check.rsplit_once(' ').expect("it ends with a file");
    assert_eq!(unit_setting(&unit, "ConditionPathExists"), config);
}

#[test]
fn the_unit_is_locked_down() {
    let report = output_of(
        "systemd-analyze",
        &["security", "--offline=true", "--no-pager"],
        &deploy("systemd/portcullis.service"),
    );
    let (_, verdict) = report
        .split_once("Overall exposure level for portcullis.service: ")
        .unwrap_or_else(|| panic!("{report}"));
    let exposure: f64 = verdict
        .split_whitespace()
        .next()
        .and_then(|figure| figure.parse().ok())
        .unwrap_or_else(|| panic!("{report}"));
    assert!(exposure <= EXPOSURE_LIMIT, "{report}");
}

#[test]
fn everybody_waits_longer_for_the_end_than_a_drain_takes() {
    const DRAIN_DEFAULT: u64 = 300;
    let unit = read("systemd/portcullis.service");
    let compose = yaml("compose/compose.yaml");
    for (place, patience, lame_duck) in [
        ("systemd", seconds(unit_setting(&unit, "TimeoutStopSec")), 0),
        (
            "kubernetes",
            kubernetes::pod()["terminationGracePeriodSeconds"]
                .as_u64()
                .expect("a number"),
            lame_duck(&yaml("kubernetes/portcullis.yaml")),
        ),
        (
            "compose",
            seconds(
                compose["services"]["portcullis"]["stop_grace_period"]
                    .as_str()
                    .expect("a duration"),
            ),
            0,
        ),
    ] {
        assert!(patience > lame_duck + DRAIN_DEFAULT, "{place}: {patience}");
    }
}

/// `timeouts.lame_duck` of a configuration that has it.
fn lame_duck(configuration: &Value) -> u64 {
    let duration = &configuration["timeouts"]["lame_duck"];
    seconds(duration.as_str().expect("it is written"))
}

#[test]
fn nothing_runs_as_root() {
    assert_eq!(
        unit_setting(&read("systemd/portcullis.service"), "User"),
        "portcullis"
    );
    let pod = kubernetes::pod();
    assert_eq!(pod["securityContext"]["runAsNonRoot"], Value::from(true));
    let dockerfile = fs::read_to_string(deploy("../Dockerfile")).expect("a file of the repository");
    let user = dockerfile
        .lines()
        .rfind(|line| line.starts_with("USER "))
        .expect("the image names its user");
    assert_eq!(user, "USER 65532:65532");
}

#[test]
fn every_configuration_is_a_good_one() {
    let mut files = Vec::new();
    yaml_files(&deploy(""), &mut files);
    files.retain(|file| file.ends_with("portcullis.yaml"));
    assert_eq!(files.len(), 3, "{files:?}");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let names = ["localhost", "ftpb.albigi.lab"];
    let pair = testkit::certs::Pair::self_signed(&names, testkit::certs::Validity::Now);
    let tls = pair.write(folder.path());
    for file in files {
        let text = fs::read_to_string(&file).expect("a file of the repository");
        let text = [
            ("/etc/portcullis/tls/tls.crt", &tls.certificate),
            ("/etc/portcullis/tls/tls.key", &tls.private_key),
        ]
        .into_iter()
        .fold(text, |text, (from, to)| {
            text.replace(from, &to.display().to_string())
        });
        let copy = folder.path().join("portcullis.yaml");
        fs::write(&copy, text).expect("written");
        let program = env!("CARGO_BIN_EXE_portcullis");
        let output = Command::new(program)
            .args([
                "check",
                "--deny-warnings",
                "--announced-ports",
                "30001",
                "--config",
            ])
            .arg(&copy)
            .output()
            .expect("cargo built it");
        let said = String::from_utf8_lossy(&output.stdout);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "{}: {said}{errors}",
            file.display()
        );
    }
}

#[test]
fn the_hook_of_certbot_puts_a_pair_where_the_unit_looks_and_lets_no_others_read_it() {
    use std::os::unix::fs::PermissionsExt;
    let (lineage, to) = (
        tempfile::tempdir().expect("a folder"),
        tempfile::tempdir().expect("a folder"),
    );
    for round in ["first", "renewed"] {
        for file in ["privkey.pem", "fullchain.pem"] {
            let content = format!("{round} {file}");
            std::fs::write(lineage.path().join(file), content).expect("it is writable");
        }
        let hook = Command::new(deploy("certbot/portcullis-hook"))
            .env("RENEWED_LINEAGE", lineage.path())
            .env("PORTCULLIS_TLS", to.path())
            .status()
            .expect("a shell is there");
        assert!(hook.success());
        for (file, from) in [("tls.key", "privkey.pem"), ("tls.crt", "fullchain.pem")] {
            let file = to.path().join(file);
            let content = std::fs::read_to_string(&file).expect("the hook has written it");
            assert_eq!(content, format!("{round} {from}"));
            let mode = file.metadata().expect("it is there").permissions().mode();
            assert_eq!(mode & 0o777, 0o640, "{}", file.display());
        }
    }
    let minimal = std::fs::read_to_string(deploy("../config/minimal.yaml")).expect("it is there");
    for file in ["tls.crt", "tls.key"] {
        assert!(minimal.contains(&format!("/etc/portcullis/tls/{file}")));
    }
}

#[test]
fn fail2ban_reads_the_jail_which_says_what_the_guard_says_by_default() {
    let etc = programs::server_file("fail2ban/etc/fail2ban");
    let configuration = tempfile::tempdir().expect("a folder");
    let folder = configuration.path();
    for shipped in [
        "fail2ban.conf",
        "jail.conf",
        "action.d",
        "paths-common.conf",
        "paths-debian.conf",
    ] {
        std::os::unix::fs::symlink(etc.join(shipped), folder.join(shipped))
            .expect("it is writable");
    }
    for ours in ["filter.d", "jail.d"] {
        std::os::unix::fs::symlink(deploy("fail2ban").join(ours), folder.join(ours))
            .expect("it is writable");
    }
    let output = Command::new("python3")
        .env(
            "PYTHONPATH",
            programs::server_file("fail2ban/usr/lib/python3/dist-packages"),
        )
        .arg(programs::server_file("fail2ban/usr/bin/fail2ban-client"))
        .arg("-c")
        .arg(folder)
        .arg("-d")
        .output()
        .expect("python3 is there");
    let read = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{read}");
    let reference: Value = serde_yaml::from_str(
        &fs::read_to_string(deploy("../config/portcullis.yaml")).expect("it is there"),
    )
    .expect("YAML");
    let guard = &reference["guard"];
    let ports = reference["passive"]["ports"].as_str().expect("a range");
    for setting in [
        "['add', 'portcullis', 'systemd']".to_owned(),
        format!(
            "['set', 'portcullis', 'maxretry', {}]",
            guard["failures"].as_u64().expect("a number")
        ),
        format!(
            "['set', 'portcullis', 'findtime', '{}']",
            guard["window"].as_str().expect("a time")
        ),
        format!("['port', '21,990,{}']", ports.replace('-', ":")),
    ] {
        assert!(read.contains(&setting), "{setting}: {read}");
    }
}
