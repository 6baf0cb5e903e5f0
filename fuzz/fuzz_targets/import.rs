//! The configuration of IIS: any bytes become a configuration of Portcullis, or an error; nothing in them acts on a terminal.

#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use portcullis::config;
use portcullis::import::iis::{ImportError, Imported, Options, import};

const CERTIFICATE: &str = "/etc/portcullis/tls/tls.crt";

fuzz_target!(|bytes: &[u8]| {
    let options = Options {
        backend: None,
        certificate: CERTIFICATE,
        private_key: "/etc/portcullis/tls/tls.key",
    };
    match import(bytes, &options) {
        Ok(imported) => look_at(&imported),
        Err(error) => look_at_error(&error),
    }
});

fn look_at(imported: &Imported) {
    let settings = config::parse(&imported.configuration, Path::new("portcullis.yaml"))
        .expect("what is written is read");
    // What stands in the file adds nothing to what was meant.
    assert_eq!(settings.tls.certificate, Path::new(CERTIFICATE));
    for site in &settings.sites {
        let [backend] = &site.backends[..] else {
            panic!("IIS is one backend: {site:?}");
        };
        assert!(backend.servers.endpoint().is_some());
    }
    assert!(!imported.certificates.is_empty());
    let notes = imported.certificates.iter().chain(&imported.attention);
    for line in notes
        .map(String::as_str)
        .chain(imported.configuration.lines())
    {
        assert!(!line.contains(char::is_control), "{line:?}");
    }
}

fn look_at_error(error: &ImportError) {
    let odd = |letter: char| letter.is_control() && letter != '\n';
    assert!(!error.to_string().contains(odd), "{error:?}");
}
