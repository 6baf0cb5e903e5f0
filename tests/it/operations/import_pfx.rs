//! `portcullis import pfx`: from a PKCS#12 file to the pair that is served, or to a message that says why not.
//!
//! Without the feature of that name it says how to get there all the same; `make test` builds it with the feature.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

#[cfg(feature = "pfx")]
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use tempfile::TempDir;
#[cfg(feature = "pfx")]
use testkit::certs::Validity;
use testkit::certs::{Authority, Pair};
use testkit::front::NAME;

use crate::program;

/// A folder with PKCS#12 files, and one for what is made of them.
struct Place {
    directory: TempDir,
}

impl Place {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        fs::create_dir(directory.path().join("tls")).expect("the directory is new");
        Self { directory }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let file = self.file(name);
        fs::write(&file, text).expect("the test's directory is writable");
        file
    }

    /// Makes a file of a pair and further certificates, with the password `secret`.
    fn export(&self, name: &str, pair: &Pair, more: &str, options: &[&str]) {
        self.write("in.crt", &pair.certificate);
        self.write("in.key", &pair.private_key);
        self.write("more.crt", more);
        self.write("pw", "secret\n");
        let mut openssl = Command::new("openssl");
        openssl.current_dir(self.directory.path());
        openssl.args([
            "pkcs12", "-export", "-in", "in.crt", "-inkey", "in.key", "-out", name,
        ]);
        if !more.is_empty() {
            openssl.args(["-certfile", "more.crt"]);
        }
        openssl.args(["-passout", "file:pw"]).args(options);
        let output = openssl.output().expect("openssl is installed");
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{error}");
    }

    fn import(&self, arguments: &[&str]) -> Said {
        Said::from(self.command(arguments).output().expect("cargo built it"))
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = program::command();
        command.current_dir(self.directory.path());
        command
            .args(["import", "pfx", "--out", "tls"])
            .args(arguments);
        command
    }

    fn made(&self, name: &str) -> Option<String> {
        fs::read_to_string(self.file("tls").join(name)).ok()
    }

    #[cfg(feature = "pfx")]
    fn nothing_made(&self) -> bool {
        let mut entries = fs::read_dir(self.file("tls")).expect("it was made");
        entries.next().is_none()
    }
}

#[derive(Debug)]
struct Said {
    code: Option<i32>,
    #[cfg(feature = "pfx")]
    stdout: String,
    stderr: String,
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        let said = Self {
            code: output.status.code(),
            #[cfg(feature = "pfx")]
            stdout: String::from_utf8(output.stdout).expect("UTF-8"),
            stderr: String::from_utf8(output.stderr).expect("UTF-8"),
        };
        assert!(!format!("{said:?}").contains("PRIVATE KEY"), "{said:?}");
        said
    }
}

fn pair() -> Pair {
    Authority::new("authority of the proxy").issue(&[NAME])
}

fn mode(file: &Path) -> u32 {
    let metadata = fs::metadata(file).expect("it was made");
    metadata.permissions().mode() & 0o777
}

#[cfg(not(feature = "pfx"))]
#[test]
fn without_the_feature_it_says_what_to_do_and_that_works() {
    let place = Place::new();
    let pair = pair();
    place.export("ftp.pfx", &pair, "", &[]);
    let said = place.import(&["ftp.pfx", "--password-file", "pw", "--name", "it"]);
    assert_eq!(said.code, Some(2), "{said:?}");
    assert!(
        said.stderr.contains("built without the feature `pfx`"),
        "{said:?}"
    );
    let lines: Vec<&str> = said
        .stderr
        .lines()
        .filter(|line| line.contains("openssl pkcs12"))
        .collect();
    assert_eq!(lines.len(), 2, "{said:?}");
    for line in lines {
        let run = Command::new("sh")
            .current_dir(place.directory.path())
            .args(["-c", line])
            .output()
            .expect("sh is installed");
        assert!(run.status.success(), "{line}");
    }
    assert_eq!(mode(&place.file("tls/it.key")), 0o600);
    assert!(
        place
            .made("it.crt")
            .expect("it was made")
            .contains(&pair.certificate)
    );
    assert!(
        place
            .made("it.key")
            .expect("it was made")
            .contains(&pair.private_key)
    );
}

#[cfg(feature = "pfx")]
mod with_the_feature {
    use std::process::Stdio;

    use testkit::config::Site;
    use testkit::front::Front;
    use testkit::proxy::Proxy;
    use testkit::script::Script;
    use testkit::scripted::Backend;

    use super::*;
    use crate::program::Start;

    const FORMS: [&[&str]; 3] = [
        &[],
        // Windows Server 2016.
        &["-legacy", "-macalg", "sha1"],
        &[
            "-keypbe",
            "AES-256-CBC",
            "-certpbe",
            "AES-256-CBC",
            "-macalg",
            "sha256",
        ],
    ];

    #[test]
    fn every_form_becomes_the_pair_that_went_in() {
        for form in FORMS {
            let place = Place::new();
            let pair = pair();
            place.export("_.contoso.com.pfx", &pair, "", form);
            let said = place.import(&["_.contoso.com.pfx", "--password-file", "pw"]);
            assert_eq!(said.code, Some(0), "{form:?}: {said:?}");
            assert!(
                said.stdout
                    .starts_with("written: tls/_.contoso.com.crt and tls/_.contoso.com.key: CN=")
            );
            assert_eq!(
                place.made("_.contoso.com.crt").as_ref(),
                Some(&pair.certificate)
            );
            let key = place.file("tls/_.contoso.com.key");
            let made = KeyPair::from_pem(&fs::read_to_string(&key).expect("it was made"));
            let original = KeyPair::from_pem(&pair.private_key).expect("rcgen wrote it");
            assert_eq!(
                made.expect("a key").serialize_der(),
                original.serialize_der()
            );
            assert_eq!(mode(&key), 0o600);
            assert_eq!(mode(&place.file("tls/_.contoso.com.crt")), 0o644);
        }
    }

    #[test]
    fn a_chain_in_any_order_is_written_leaf_first_without_its_root() {
        let authority = |name: &str| {
            let mut params = CertificateParams::default();
            params.distinguished_name.push(DnType::CommonName, name);
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params
        };
        let key = || KeyPair::generate().expect("key generation needs no input");
        let (root_key, upper_key, lower_key, leaf_key) = (key(), key(), key(), key());
        let (root, upper, lower) = (authority("root"), authority("upper"), authority("lower"));
        let root_pem = root.self_signed(&root_key).expect("valid").pem();
        let root = Issuer::new(root, root_key);
        let upper_pem = upper.signed_by(&upper_key, &root).expect("valid").pem();
        let upper = Issuer::new(upper, upper_key);
        let lower_pem = lower.signed_by(&lower_key, &upper).expect("valid").pem();
        let lower = Issuer::new(lower, lower_key);
        let leaf = CertificateParams::new([NAME.to_owned()]).expect("ASCII");
        let leaf_pem = leaf.signed_by(&leaf_key, &lower).expect("valid").pem();
        let pair = Pair {
            certificate: leaf_pem.clone(),
            private_key: leaf_key.serialize_pem(),
        };
        for more in [
            [&root_pem, &upper_pem, &lower_pem],
            [&lower_pem, &root_pem, &upper_pem],
            [&upper_pem, &lower_pem, &root_pem],
        ] {
            let place = Place::new();
            let more = more.map(|pem| pem.replace("\r\n", "\n")).concat();
            place.export("ftp.pfx", &pair, &more, &[]);
            let said = place.import(&["ftp.pfx", "--password-file", "pw"]);
            assert_eq!(said.code, Some(0), "{said:?}");
            let expected = [&leaf_pem, &lower_pem, &upper_pem];
            let expected = expected.map(|pem| pem.replace("\r\n", "\n")).concat();
            assert_eq!(place.made("ftp.crt"), Some(expected));
        }
    }

    #[test]
    fn what_cannot_be_read_is_named_and_nothing_is_written() {
        let place = Place::new();
        place.export("ftp.pfx", &pair(), "", &[]);
        place.export("certificate.pfx", &pair(), "", &["-nokeys"]);
        place.write("garbage.pfx", "0\u{1}garbage");
        place.write("wrong", "guessed\n");
        place.write("nothing", "\n");
        for (arguments, code, expected) in [
            (
                &["ftp.pfx", "--password-file", "wrong"][..],
                2,
                "ftp.pfx: the password is wrong",
            ),
            (
                &["ftp.pfx"],
                2,
                "ftp.pfx: the file has a password, and none was given",
            ),
            (
                &["ftp.pfx", "--password-file", "missing"],
                2,
                "missing: the password can't be read",
            ),
            (
                &["ftp.pfx", "--password-file", "nothing"],
                2,
                "nothing: the password is empty",
            ),
            (&["missing.pfx"], 2, "missing.pfx: it can't be read"),
            (&["tls"], 2, "tls: not a regular file"),
            (&["garbage.pfx"], 2, "garbage.pfx: not a PKCS#12 file"),
            (&["in.crt"], 2, "in.crt: it is a PEM file"),
            (
                &["certificate.pfx", "--password-file", "pw"],
                2,
                "certificate.pfx: there is no private key in it",
            ),
            (
                &["ftp.pfx", "--password-file", "pw", "--name", "../x"],
                2,
                "can't be what files are called",
            ),
            (
                &["ftp.pfx", "--password-file", "pw", "--name", ""],
                2,
                "can't be what files are called",
            ),
        ] {
            let said = place.import(arguments);
            assert_eq!(said.code, Some(code), "{arguments:?}: {said:?}");
            assert!(said.stderr.contains(expected), "{arguments:?}: {said:?}");
            let (name, _) = expected.split_once(": ").unwrap_or((expected, ""));
            assert_eq!(said.stderr.matches(name).count(), 1, "{said:?}");
            assert!(!said.stderr.contains("guessed"), "{said:?}");
            assert!(place.nothing_made(), "{arguments:?}");
        }
    }

    #[test]
    fn a_pair_that_could_not_be_served_is_not_written() {
        let authority = Authority::new("authority of the proxy");
        let place = Place::new();
        let expired = authority.issue_for(&[NAME], Validity::Expired);
        place.export("ftp.pfx", &expired, "", &[]);
        let said = place.import(&["ftp.pfx", "--password-file", "pw"]);
        assert_eq!(said.code, Some(1), "{said:?}");
        let expected = "nothing was written, since this pair could not be served: certificate tls/ftp.crt expired on ";
        assert!(said.stderr.contains(expected), "{said:?}");
        assert!(place.nothing_made());
    }

    #[test]
    fn a_certificate_that_cannot_be_put_in_its_place_leaves_the_former_key_there() {
        let place = Place::new();
        place.export("new.pfx", &pair(), "", &[]);
        for former in [None, Some("the former key")] {
            // Nothing can be renamed over it.
            let _ = fs::create_dir_all(place.file("tls/tls.crt"));
            if let Some(key) = former {
                place.write("tls/tls.key", key);
            }
            let said = place.import(&["new.pfx", "--password-file", "pw", "--name", "tls"]);
            assert_eq!(said.code, Some(2), "{said:?}");
            assert!(said.stderr.contains("tls/tls.crt"), "{said:?}");
            assert_eq!(place.made("tls.key").as_deref(), former);
        }
    }

    #[test]
    fn a_folder_that_is_not_there_is_named() {
        let place = Place::new();
        place.export("ftp.pfx", &pair(), "", &[]);
        fs::remove_dir(place.file("tls")).expect("it is empty");
        let said = place.import(&["ftp.pfx", "--password-file", "pw"]);
        assert_eq!(said.code, Some(2), "{said:?}");
        assert!(
            said.stderr.contains("tls: No such file or directory"),
            "{said:?}"
        );
    }

    #[test]
    fn what_is_there_already_is_left_alone_and_what_is_replaced_keeps_its_permissions() {
        let place = Place::new();
        place.export("ftp.pfx", &pair(), "", &[]);
        let import = || place.import(&["ftp.pfx", "--password-file", "pw"]);
        assert!(import().stdout.starts_with("written: "));
        let key = place.file("tls/ftp.key");
        fs::set_permissions(&key, fs::Permissions::from_mode(0o640)).expect("it is ours");
        let changed = |file: &Path| {
            fs::metadata(file)
                .and_then(|it| it.modified())
                .expect("it is there")
        };
        let before = changed(&key);
        assert!(import().stdout.starts_with("unchanged: "));
        assert_eq!(changed(&key), before);
        place.export("ftp.pfx", &pair(), "", &[]);
        assert!(import().stdout.starts_with("written: "));
        assert_eq!(mode(&key), 0o640);
    }

    #[test]
    fn of_several_imports_at_once_one_pair_is_left_and_each_has_done_its_work() {
        let place = Place::new();
        let pairs = [pair(), pair()];
        let files = ["one.pfx", "other.pfx"];
        for (file, pair) in files.iter().zip(&pairs) {
            place.export(file, pair, "", &[]);
        }
        let start = |file: &str| {
            let mut command = place.command(&[file, "--password-file", "pw", "--name", "tls"]);
            command.stdout(Stdio::piped()).stderr(Stdio::piped());
            command.spawn().expect("cargo built it")
        };
        let running: Vec<_> = [files, files, files]
            .as_flattened()
            .iter()
            .map(|file| start(file))
            .collect();
        for import in running {
            let said = Said::from(import.wait_with_output().expect("it is ours"));
            assert_eq!(said.code, Some(0), "{said:?}");
        }
        let certificate = place.made("tls.crt").expect("it was made");
        let of = pairs.iter().find(|pair| pair.certificate == certificate);
        let key = KeyPair::from_pem(&of.expect("one of the two").private_key);
        let made = KeyPair::from_pem(&place.made("tls.key").expect("it was made"));
        assert_eq!(
            made.expect("a key").serialize_der(),
            key.expect("rcgen wrote it").serialize_der()
        );
        let entries = fs::read_dir(place.file("tls")).expect("it is there");
        assert_eq!(entries.count(), 2);
    }

    #[test]
    fn a_running_proxy_takes_each_new_pair_and_never_a_half_of_one() {
        let front = Front::new(&[]);
        let backend = Backend::start(Script::new());
        let proxy = Proxy::start(
            front
                .config()
                .site(&Site::default("only", backend.address())),
        );
        let place = Place::new();
        let folder = front.files.certificate.parent().expect("a folder");
        for number in 1..4 {
            let pair = front.issue(Validity::Now);
            place.export("ftp.pfx", &pair, "", &[]);
            let pfx = place.file("ftp.pfx");
            let status = program::command()
                .args(["import", "pfx", "--name", "tls", "--out"])
                .arg(folder)
                .arg("--password-file")
                .arg(place.file("pw"))
                .arg(&pfx)
                .stdout(Stdio::null())
                .status();
            assert!(status.expect("cargo built it").success());
            proxy.wait_for_logs(number + 1, |line| line.message() == "certificate in use");
            assert_eq!(front.shown_by(&proxy), pair.der().to_vec());
        }
        let refused = "portcullis_reloads_total{result=\"refused\",subject=\"certificate\"}";
        assert_eq!(proxy.metric(refused), 0.0);
    }
}
