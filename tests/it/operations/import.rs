//! `portcullis import iis`: what becomes of whole files, and what is said of them.
//!
//! `tests/import/iis` holds a file of IIS for each case, and beside it the configuration (`.yaml`) and what stands on stderr
//! (`.txt`). A new one is begun with the file and two empty ones; the failure shows what to judge and to put there.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use testkit::certs::{Pair, Validity};

use crate::program;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/import/iis")
}

fn import(arguments: &[&str], file: &Path) -> Output {
    program::command()
        .args(["import", "iis"])
        .args(arguments)
        .arg(file)
        .output()
        .expect("cargo built it")
}

fn import_bytes(bytes: &[u8]) -> Output {
    let mut child = program::command()
        .args(["import", "iis", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("cargo built it");
    let mut input = child.stdin.take().expect("a pipe");
    input.write_all(bytes).expect("it reads");
    drop(input);
    child.wait_with_output().expect("it ends")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("text")
}

/// What it says of a file that it can make nothing of.
fn refusal(output: &Output) -> String {
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(output.stdout.is_empty());
    said
}

#[test]
fn every_file_becomes_its_configuration_and_its_notes() {
    let mut wrong = String::new();
    let mut codes = Vec::new();
    for name in ["clear_text", "everything", "virtual_hosts"] {
        let file = fixtures().join(name).with_extension("config");
        let arguments: &[&str] = match name {
            "clear_text" => &["--backend", "10.0.0.10"],
            _ => &[],
        };
        let output = import(arguments, &file);
        codes.push(output.status.code());
        for (found, extension) in [(&output.stdout, "yaml"), (&output.stderr, "txt")] {
            let expected = file.with_extension(extension);
            let found = text(found);
            if found != fs::read_to_string(&expected).unwrap_or_default() {
                wrong.push_str(&format!("\n--- {}\n{found}", expected.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
    assert_eq!(codes, [Some(0), Some(1), Some(1)]);
}

#[test]
fn what_is_made_passes_check_once_the_certificate_is_there() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let pair = Pair::self_signed(&["ftp.albigi.lab"], Validity::Now).write(directory.path());
    let paths = [&pair.certificate, &pair.private_key].map(|path| path.to_str().expect("text"));
    let [certificate, private_key] = paths;
    for name in ["clear_text", "everything", "virtual_hosts"] {
        let file = fixtures().join(name).with_extension("config");
        let arguments = ["--certificate", certificate, "--private-key", private_key];
        let made = import(&arguments, &file);
        let configuration = directory.path().join(name).with_extension("yaml");
        fs::write(&configuration, &made.stdout).expect("it is writable");
        let checked = program::command()
            .args(["check", "--config"])
            .arg(&configuration)
            .output()
            .expect("cargo built it");
        let said = text(&checked.stdout) + &text(&checked.stderr);
        assert_eq!(checked.status.code(), Some(0), "{name}: {said}");
    }
}

#[test]
fn every_encoding_of_windows_and_standard_input_make_no_difference() {
    let file = fixtures().join("virtual_hosts.config");
    let expected = import(&[], &file).stdout;
    let written = fs::read_to_string(&file).expect("the file is there");
    let marked = format!("\u{feff}{written}");
    let utf_16 = |unit: fn(u16) -> [u8; 2]| marked.encode_utf16().flat_map(unit).collect();
    for bytes in [
        written.clone().into_bytes(),
        marked.clone().into_bytes(),
        utf_16(u16::to_le_bytes),
        utf_16(u16::to_be_bytes),
    ] {
        let output = import_bytes(&bytes);
        assert_eq!(output.status.code(), Some(1));
        assert_eq!(text(&output.stdout), text(&expected));
    }
}

#[test]
fn a_secret_of_the_file_is_not_repeated() {
    let file = fixtures().join("virtual_hosts.config");
    let output = import(&[], &file);
    let said = text(&output.stdout) + &text(&output.stderr);
    for secret in ["c2VjcmV0", "AQIAAA5m"] {
        let written = fs::read_to_string(&file).expect("the file is there");
        assert!(written.contains(secret) && !said.contains(secret));
    }
}

#[test]
fn what_is_no_file_of_iis_is_refused_with_a_reason() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let missing = directory.path().join("applicationHost.config");
    for (file, message) in [
        (missing.as_path(), "the file can't be read: No such file"),
        (directory.path(), "not a regular file"),
    ] {
        let said = refusal(&import(&[], file));
        let expected = format!("portcullis: {}: {message}", file.display());
        assert!(said.starts_with(&expected), "{said}");
    }
    let secret = directory.path().join("secret");
    fs::write(&secret, "hunter2").expect("it is writable");
    let entity = format!(
        "<!DOCTYPE a [<!ENTITY x SYSTEM \"file://{}\">]><configuration a=\"&x;\"/>",
        secret.display()
    );
    let deep = "<a>".repeat(100_000);
    let long = vec![b' '; 8 * 1024 * 1024 + 1];
    for (bytes, message) in [
        (&b""[..], "line 1, column 1: not XML: there is no element"),
        (b"<html></html>", "the outermost element is <html>"),
        (b"\x89PNG", "neither UTF-8 nor UTF-16"),
        (entity.as_bytes(), "line 1: the file has a document type"),
        (deep.as_bytes(), "the file has elements nested too deep"),
        (&long, "the file is longer than 8 MiB"),
    ] {
        let said = refusal(&import_bytes(bytes));
        assert!(said.starts_with("portcullis: standard input: "), "{said}");
        assert!(said.contains(message), "{said}");
        assert!(!said.contains("hunter2"));
    }
    let file = fixtures().join("virtual_hosts.config");
    let said = refusal(&import(&["--backend", "localhost"], &file));
    assert!(
        said.starts_with("portcullis: --backend: `localhost` is neither"),
        "{said}"
    );
}
