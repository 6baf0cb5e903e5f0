//! Host names, in the one form in which they are compared.

use std::collections::HashSet;
use std::fmt;

/// The longest host name, RFC 1035 §2.3.4, without the trailing dot.
const MAX_NAME: usize = 253;
/// The longest label, RFC 1035 §2.3.4.
const MAX_LABEL: usize = 63;

/// A host name in the form in which names are compared: ASCII lower case, no trailing dot, at most 253 bytes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostName(String);

impl HostName {
    /// Reads a name as an operator or a client writes it: upper case and one trailing dot don't matter.
    ///
    /// Labels hold letters, digits, inner hyphens and, as Windows machines have them, underscores. `None` for anything
    /// else: an international name has to come in its `xn--` form, as in RFC 7151 §3.1.
    pub fn parse(name: &[u8]) -> Option<Self> {
        let name = name.strip_suffix(b".").unwrap_or(name);
        if name.len() > MAX_NAME || !name.split(|&byte| byte == b'.').all(is_label) {
            return None;
        }
        let name = std::str::from_utf8(name).ok()?;
        Some(Self(name.to_ascii_lowercase()))
    }

    /// The name's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name without its first label; `None` if it has only one.
    pub fn parent(&self) -> Option<Self> {
        let (_, parent) = self.0.split_once('.')?;
        Some(Self(parent.to_owned()))
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a site's `hosts` may hold.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum HostPattern {
    /// `ftpb.example.com`
    Exact(HostName),
    /// `*.example.com`: any one label in front of the name held here.
    AnyLabelBefore(HostName),
}

impl HostPattern {
    /// Reads a name, or a name with `*.` in front; `None` if it is neither.
    pub fn parse(pattern: &str) -> Option<Self> {
        match pattern.strip_prefix("*.") {
            Some(name) => HostName::parse(name.as_bytes()).map(Self::AnyLabelBefore),
            None => HostName::parse(pattern.as_bytes()).map(Self::Exact),
        }
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => write!(f, "{name}"),
            Self::AnyLabelBefore(name) => write!(f, "*.{name}"),
        }
    }
}

/// A set of host names and wildcards.
#[derive(Debug, Clone, Default)]
pub struct HostNames {
    exact: HashSet<HostName>,
    /// By the name behind the wildcard label.
    any_label_before: HashSet<HostName>,
}

impl HostNames {
    /// Whether it has that name, or a wildcard for it.
    pub fn cover(&self, name: &HostName) -> bool {
        let by_wildcard = |parent| self.any_label_before.contains(&parent);
        self.exact.contains(name)
            || !self.any_label_before.is_empty() && name.parent().is_some_and(by_wildcard)
    }
}

impl FromIterator<HostPattern> for HostNames {
    fn from_iter<I: IntoIterator<Item = HostPattern>>(patterns: I) -> Self {
        let mut names = Self::default();
        for pattern in patterns {
            match pattern {
                HostPattern::Exact(name) => names.exact.insert(name),
                HostPattern::AnyLabelBefore(name) => names.any_label_before.insert(name),
            };
        }
        names
    }
}

fn is_label(label: &[u8]) -> bool {
    (1..=MAX_LABEL).contains(&label.len())
        && label
            .iter()
            .all(|&byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
        && label.first() != Some(&b'-')
        && label.last() != Some(&b'-')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parsed(name: &str) -> Option<String> {
        HostName::parse(name.as_bytes()).map(|name| name.as_str().to_owned())
    }

    #[test]
    fn case_and_one_trailing_dot_do_not_matter() {
        assert_eq!(
            parsed("FTPB.Albigi.LAB.").as_deref(),
            Some("ftpb.albigi.lab")
        );
        assert_eq!(
            parsed("ftp_1.xn--bcher-kva.example").as_deref(),
            Some("ftp_1.xn--bcher-kva.example")
        );
        assert_eq!(parsed("server").as_deref(), Some("server"));
    }

    #[test]
    fn what_is_not_a_host_name_is_refused() {
        let bad = [
            "",
            ".",
            "a..b",
            "a.b..",
            ".a",
            "-a.b",
            "a-.b",
            "a b",
            "a|b",
            "a:21",
            "[::1]",
            "*.a",
            "b\u{fc}cher.example",
            "a\0b",
            "a\u{202e}b",
        ];
        for name in bad {
            assert_eq!(parsed(name), None, "{name:?}");
        }
    }

    #[test]
    fn lengths_are_those_of_dns() {
        let label = "a".repeat(63);
        let longest = format!("{label}.{label}.{label}.{}", "a".repeat(61));
        assert_eq!(longest.len(), 253);
        assert!(parsed(&longest).is_some());
        assert!(parsed(&format!("{longest}.")).is_some());
        assert_eq!(parsed(&format!("{longest}a")), None);
        assert_eq!(parsed(&format!("{label}a.example")), None);
    }

    #[test]
    fn a_wildcard_is_one_whole_first_label() {
        let wildcard = HostPattern::parse("*.Branch.lab").expect("a wildcard");
        assert_eq!(
            wildcard,
            HostPattern::AnyLabelBefore(HostName("branch.lab".into()))
        );
        for bad in ["*", "*.", "*a.lab", "a.*.lab", "*.*.lab", "**.lab"] {
            assert_eq!(HostPattern::parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_wildcard_covers_one_label_in_front_and_not_the_name_itself() {
        let patterns = ["ftp.test", "*.branch.test"];
        let names: HostNames = patterns
            .into_iter()
            .filter_map(HostPattern::parse)
            .collect();
        let covered = |name: &str| names.cover(&HostName::parse(name.as_bytes()).unwrap());
        for name in ["ftp.test", "FTP.test.", "a.branch.test"] {
            assert!(covered(name), "{name}");
        }
        for name in ["x.ftp.test", "branch.test", "a.b.branch.test", "test"] {
            assert!(!covered(name), "{name}");
        }
    }

    proptest! {
        #[test]
        fn a_parsed_name_parses_to_itself(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            if let Some(name) = HostName::parse(&bytes) {
                prop_assert_eq!(HostName::parse(name.as_str().as_bytes()), Some(name));
            }
        }
    }
}
