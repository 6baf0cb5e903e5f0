//! From whole files to whole configurations, with entries that no operator would write.

use std::path::Path;

use proptest::prelude::*;

use super::*;

const OPTIONS: Options<'_> = Options {
    backend: None,
    certificate: "tls.crt",
    private_key: "tls.key",
};

/// Escapes what may not stand in an attribute.
fn attribute(text: &str) -> String {
    let escaped = text.chars().map(|character| match character {
        '&' => "&amp;".to_owned(),
        '<' => "&lt;".to_owned(),
        '"' => "&quot;".to_owned(),
        // As character references, or they would be blanks.
        '\t' | '\n' | '\r' => format!("&#{};", u32::from(character)),
        _ => character.to_string(),
    });
    escaped.collect()
}

/// A file with these sites: their names, bindings, banners and denied commands.
fn file(sites: &[(String, Vec<String>, String, String)]) -> String {
    let sites = sites.iter().map(|(name, bindings, banner, command)| {
        let bindings = bindings
            .iter()
            .map(|it| format!("<binding protocol=\"ftp\" bindingInformation=\"{}\"/>", attribute(it)));
        format!(
            "<site name=\"{}\"><bindings>{}</bindings><ftpServer><messages bannerMessage=\"{}\"/><security><commandFiltering>\
             <add command=\"{}\" allowed=\"false\"/></commandFiltering></security></ftpServer></site>",
            attribute(name),
            bindings.collect::<String>(),
            attribute(banner),
            attribute(command),
        )
    });
    format!(
        "<configuration><system.applicationHost><sites>{}</sites></system.applicationHost></configuration>",
        sites.collect::<String>()
    )
}

/// Text that breaks out of YAML where it can.
fn hostile() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z\": \\[\\]{}#&*!|>'%@`,\n\r\t\\\\-]{0,30}",
        ".{0,30}",
        Just("x\nsites: []".to_owned()),
        Just("a\u{85}listeners: []\u{2028}tls: {}".to_owned()),
        Just("none".to_owned()),
        Just("true".to_owned()),
        Just("ftp.test".to_owned()),
    ]
}

fn binding() -> impl Strategy<Value = String> {
    let address = prop_oneof![
        Just("*".to_owned()),
        Just("10.0.0.1".to_owned()),
        Just("[fd00::1]".to_owned()),
        Just("127.0.0.1".to_owned()),
        hostile(),
    ];
    (address, any::<u16>(), hostile())
        .prop_map(|(address, port, host)| format!("{address}:{port}:{host}"))
}

#[test]
fn only_other_machines_are_backends() {
    for (text, host) in [
        ("10.0.0.10", "10.0.0.10"),
        ("[fd00::1]", "fd00::1"),
        ("fd00::1", "fd00::1"),
        ("iis.albigi.lab", "iis.albigi.lab"),
    ] {
        assert_eq!(backend_host(text).expect("a host"), host);
    }
    for text in [
        "",
        "localhost",
        "127.0.0.2",
        "::1",
        "::ffff:127.0.0.1",
        "0.0.0.0",
        "10.0.0.1:21",
        "a b",
    ] {
        assert!(backend_host(text).is_err(), "{text}");
    }
}

#[test]
fn sites_that_are_all_left_out_make_no_configuration() {
    let site = (
        "a".to_owned(),
        vec!["*:21:b\u{fc}cher.test".to_owned()],
        String::new(),
        String::new(),
    );
    let error = import(file(&[site]).as_bytes(), &OPTIONS).expect_err("no site");
    let message = error.to_string();
    assert!(message.starts_with("none of the FTP sites"), "{message}");
    assert!(message.contains("\nsite a: left out: "), "{message}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn whatever_the_file_says_the_configuration_is_one_or_there_is_an_error(
        sites in proptest::collection::vec(
            (hostile(), proptest::collection::vec(binding(), 1..4), hostile(), hostile()),
            1..5,
        ),
        // The property is about the text, not about the operator's file names, but these have to survive, too.
        certificate in "[ -~]{1,20}",
    ) {
        let options = Options { certificate: &certificate, ..OPTIONS };
        let text = file(&sites);
        match import(text.as_bytes(), &options) {
            Ok(imported) => {
                let read = config::parse(&imported.configuration, Path::new("p.yaml")).expect("a configuration");
                prop_assert!(read.sites.len() <= sites.len());
                prop_assert_eq!(&read.tls.certificate, Path::new(&certificate));
                prop_assert_eq!(&read.tls.private_key, Path::new("tls.key"));
                // Text in comments stays there, and acts on no terminal.
                let lines = imported.attention.iter().chain(&imported.certificates);
                for line in lines.map(String::as_str).chain(imported.configuration.lines()) {
                    prop_assert!(!line.contains(char::is_control), "{:?}", line);
                }
            }
            Err(ImportError::NoSite(_) | ImportError::Document(_)) => {}
            // Port 9190 is that of the admin endpoint.
            Err(ImportError::Unusable(error)) => prop_assert!(text.contains(":9190:"), "{}", error),
            Err(other) => prop_assert!(false, "{}", other),
        }
    }

    #[test]
    fn no_bytes_are_too_odd(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = import(&bytes, &OPTIONS);
    }
}
