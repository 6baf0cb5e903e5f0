//! The configuration: any text is settings that can be run on, or an error that names a place in the text.

#![no_main]

use std::collections::HashSet;
use std::path::Path;

use libfuzzer_sys::fuzz_target;
use portcullis::base::SiteId;
use portcullis::config::{self, BackendTls, Error, HostPattern, Settings, Verify};
use portcullis::policy::UserFiles;
use portcullis::route::Router;
use portcullis::tls::BackendTlsClient;

fuzz_target!(|text: &str| {
    let origin = Path::new("portcullis.yaml");
    match config::parse(text, origin) {
        Ok(settings) => {
            assert_eq!(config::parse(text, origin).ok().as_ref(), Some(&settings));
            look_at(&settings);
        }
        Err(error) => look_at_error(&error, text),
    }
});

/// What `check` and `run` rely on.
fn look_at(settings: &Settings) {
    assert!(!settings.listeners.is_empty() && !settings.sites.is_empty());
    assert!(settings.sites.iter().filter(|site| site.default).count() <= 1);
    assert!(settings.limits.sessions > 0 && settings.limits.sessions_per_client > 0);
    assert!(settings.passive.ports.start() <= settings.passive.ports.end());

    let names: HashSet<&str> = settings
        .sites
        .iter()
        .map(|site| site.name.as_str())
        .collect();
    assert_eq!(names.len(), settings.sites.len(), "a name twice");

    let sites = settings.sites.iter().cloned();
    let router = Router::new(
        (0..).map(SiteId).zip(sites),
        settings.user_forms,
        &UserFiles::default(),
    );
    for site in &settings.sites {
        assert!(site.default || !site.hosts.is_empty());
        assert!(!site.backends.is_empty());
        for host in &site.hosts {
            if let HostPattern::Exact(name) = host {
                assert_eq!(router.site_of(name), Some(site), "{name} leads elsewhere");
            }
        }
        for tls in site
            .backends
            .iter()
            .filter_map(|backend| backend.tls.as_ref())
        {
            // Whatever its files hold: the server name has to be one.
            let without_files = BackendTls {
                verify: Verify::None,
                ..tls.clone()
            };
            assert!(BackendTlsClient::new(&without_files).is_ok(), "{tls:?}");
        }
    }
}

fn look_at_error(error: &Error, text: &str) {
    let message = error.to_string();
    assert!(message.starts_with("portcullis.yaml"));
    let odd = |letter: char| letter.is_control() && letter != '\n';
    assert!(!message.contains(odd), "{message:?}");
    let Error::Invalid(report) = error else {
        panic!("nothing was read from a file");
    };
    if let Some(position) = report.position() {
        assert!(position.line >= 1 && position.column >= 1);
        assert!(
            position.line
                <= text
                    .split(['\n', '\r', '\u{85}', '\u{2028}', '\u{2029}'])
                    .count()
                    + 1
        );
    }
}
