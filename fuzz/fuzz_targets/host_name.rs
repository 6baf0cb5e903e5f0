//! Host names: one form for every way of writing a name, and nothing in it that a log, a label or a YAML file minds.

#![no_main]

use libfuzzer_sys::fuzz_target;
use portcullis::config::{HostName, HostPattern};

fuzz_target!(|data: &[u8]| {
    let name = HostName::parse(data);
    if let Some(name) = &name {
        let text = name.as_str();
        assert!((1..=253).contains(&text.len()));
        assert!(
            text.bytes()
                .all(|byte| { matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.') })
        );
        assert!(text.split('.').all(|label| (1..=63).contains(&label.len())));
        assert_eq!(text, name.to_string());
        assert!(
            text.as_bytes()
                .eq_ignore_ascii_case(data.strip_suffix(b".").unwrap_or(data))
        );
        for same in [
            text.to_owned(),
            text.to_ascii_uppercase(),
            format!("{text}."),
        ] {
            assert_eq!(HostName::parse(same.as_bytes()).as_ref(), Some(name));
        }
        if let Some(parent) = name.parent() {
            assert_eq!(
                HostName::parse(parent.as_str().as_bytes()).as_ref(),
                Some(&parent)
            );
            assert!(text.ends_with(&format!(".{parent}")));
        }
    }
    let Ok(text) = std::str::from_utf8(data) else {
        assert_eq!(name, None, "a host name that is no text");
        return;
    };
    match HostPattern::parse(text) {
        Some(HostPattern::Exact(exact)) => assert_eq!(Some(exact), name),
        Some(HostPattern::AnyLabelBefore(parent)) => {
            assert_eq!(name, None);
            assert_eq!(
                HostPattern::parse(&format!("*.{parent}")),
                HostPattern::parse(text)
            );
        }
        None => assert_eq!(name, None),
    }
});
