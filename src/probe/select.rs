//! Which of the backends of a configuration are meant.

use crate::backend::check::probe::Target;
use crate::base::text::Masked;
use crate::config::nearest;

/// How many names a message has room for.
const MOST_NAMES: usize = 20;

/// Those of this site, and of these the ones that are called so: `host:port` as configured, or the host alone.
///
/// # Errors
/// If there are none, with the names that there are.
pub fn select(
    targets: Vec<Target>,
    site: Option<&str>,
    backend: Option<&str>,
) -> Result<Vec<Target>, String> {
    let targets = match site {
        None => targets,
        Some(wanted) => narrow(targets, "site", wanted, site_of, |name| name == wanted)?,
    };
    let targets = match backend {
        None => targets,
        Some(wanted) => narrow(targets, "backend", wanted, label_of, |label| {
            is_called(label, wanted)
        })?,
    };
    if targets.is_empty() {
        return Err("there is no backend to probe".to_owned());
    }
    Ok(targets)
}

fn site_of(target: &Target) -> String {
    target.site.name.clone()
}

fn label_of(target: &Target) -> String {
    target.backend.to_string()
}

/// Whether `label`, which is `host:port`, is meant.
fn is_called(label: &str, wanted: &str) -> bool {
    let (label, wanted) = (label.to_ascii_lowercase(), wanted.to_ascii_lowercase());
    let host = label
        .rsplit_once(':')
        .map_or(label.as_str(), |(host, _)| host);
    label == wanted || host == wanted || host.trim_matches(['[', ']']) == wanted
}

fn narrow(
    targets: Vec<Target>,
    what: &str,
    wanted: &str,
    name: impl Fn(&Target) -> String,
    is_wanted: impl Fn(&str) -> bool,
) -> Result<Vec<Target>, String> {
    let mut names: Vec<String> = targets.iter().map(&name).collect();
    names.dedup();
    let found: Vec<Target> = targets
        .into_iter()
        .filter(|target| is_wanted(&name(target)))
        .collect();
    if found.is_empty() {
        return Err(unknown(what, wanted, &names));
    }
    Ok(found)
}

fn unknown(what: &str, wanted: &str, names: &[String]) -> String {
    let known: Vec<&str> = names.iter().map(String::as_str).collect();
    let there_are = match nearest(wanted, &known) {
        Some(near) => format!("did you mean `{near}`? There are"),
        None => "there are".to_owned(),
    };
    let more = match known.len().saturating_sub(MOST_NAMES) {
        0 => String::new(),
        more => format!(", and {more} more"),
    };
    let shown = known[..known.len().min(MOST_NAMES)].join(", ");
    let wanted = Masked(wanted);
    format!("no {what} is called `{wanted}`; {there_are}: {shown}{more}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backend_is_called_by_its_host_or_with_its_port() {
        assert!(is_called("10.0.0.10:21", "10.0.0.10:21"));
        assert!(is_called("10.0.0.10:21", "10.0.0.10"));
        assert!(is_called("be1.example.com:990", "BE1.example.com"));
        assert!(is_called("[2001:db8::1]:21", "2001:db8::1"));
        assert!(is_called("[2001:db8::1]:21", "[2001:db8::1]:21"));
        for other in ["10.0.0.1", "10.0.0.10:2", "10.0.0.10:990", ""] {
            assert!(!is_called("10.0.0.10:21", other), "{other}");
        }
    }

    #[test]
    fn what_is_not_there_is_answered_with_what_is() {
        let names = ["ftpa", "ftpb"].map(str::to_owned);
        assert_eq!(
            unknown("site", "ftpx", &names),
            "no site is called `ftpx`; did you mean `ftpa`? There are: ftpa, ftpb"
        );
        assert_eq!(
            unknown("site", "archive", &names),
            "no site is called `archive`; there are: ftpa, ftpb"
        );
        let many: Vec<String> = (0..25).map(|number| format!("site{number}")).collect();
        assert!(unknown("site", "archive", &many).ends_with("site19, and 5 more"));
    }
}
