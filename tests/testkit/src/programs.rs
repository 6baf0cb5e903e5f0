//! Where the programs are that tests run against; `tests/install.sh` puts them there.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The directory with the servers, unpacked: `$PORTCULLIS_TEST_SERVERS`, or `target/test-servers` of this repository.
pub fn servers() -> PathBuf {
    match std::env::var_os("PORTCULLIS_TEST_SERVERS") {
        Some(directory) => directory.into(),
        None => {
            let here = Path::new(env!("CARGO_MANIFEST_DIR"));
            let repository = here.ancestors().nth(2).expect("here is tests/testkit");
            repository.join("target/test-servers")
        }
    }
}

/// A file of an unpacked server, such as `vsftpd/usr/sbin/vsftpd`.
///
/// # Panics
/// If it isn't there: a test that needs it fails and says what to do.
pub fn server_file(path: &str) -> PathBuf {
    let file = servers().join(path);
    assert!(
        file.exists(),
        "{} is missing: run `make test`, or tests/install.sh",
        file.display()
    );
    file
}

/// A program on the search path, such as `lftp`; [`server_file`]'s tree is looked through for `promtool`, which
/// comes unpacked where it isn't installed.
///
/// # Panics
/// If it is nowhere: a test that needs it fails and says what to do.
pub fn program(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain([servers().join("prometheus/usr/bin")])
        .map(|directory| directory.join(name))
        .find(|file| file.is_file())
        .unwrap_or_else(|| panic!("{name} is missing: run `make test`, or tests/install.sh"))
}

/// A library that answers a program's questions of names and users from files (`LD_PRELOAD`).
///
/// # Panics
/// If it isn't there.
pub fn nss_wrapper() -> PathBuf {
    // In the directory of whatever architecture this is.
    let directories = fs::read_dir(server_file("inetutils-ftpd/usr/lib"));
    directories
        .expect("it was just found")
        .filter_map(|entry| Some(entry.ok()?.path().join("libnss_wrapper.so")))
        .find(|file| file.exists())
        .expect("tests/install.sh unpacks it there")
}

/// Has a program find a name at this address, through a file that is written to `hosts`: it connects as people do, and sends the
/// name in TLS.
pub fn resolve(command: &mut Command, hosts: &Path, name: &str, address: IpAddr) {
    fs::write(hosts, format!("{address} {name}\n")).expect("the test's directory is writable");
    command
        .env("LD_PRELOAD", nss_wrapper())
        .env("NSS_WRAPPER_HOSTS", hosts);
}

/// Whether this is root: some servers can't do without.
pub fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    // Without a call to getuid, which std doesn't have: the owner of this process's entry.
    std::fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}
