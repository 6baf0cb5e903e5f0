//! The selection of backends of a configuration to probe.

use std::sync::Arc;

use crate::backend::check::probe::Target;
use crate::base::text::Masked;
use crate::config::{Site, nearest};

/// How many names a message has room for.
const MOST_NAMES: usize = 20;

/// The site of this name alone, if one is named.
///
/// # Errors
/// If there is none, with the names that there are.
pub fn sites(sites: &[Arc<Site>], wanted: Option<&str>) -> Result<Vec<Arc<Site>>, String> {
    let Some(wanted) = wanted else {
        return Ok(sites.to_vec());
    };
    match sites.iter().find(|site| site.name == wanted) {
        Some(site) => Ok(vec![Arc::clone(site)]),
        None => {
            let names: Vec<&str> = sites.iter().map(|site| site.name.as_str()).collect();
            Err(unknown("site", wanted, &names))
        }
    }
}

/// The backends that are called so, if one is named: by the operator's name, `host:port`, the host alone, or the entry that
/// name servers have told of them for.
///
/// # Errors
/// If there is none, with the names that there are.
pub fn backends(targets: Vec<Target>, wanted: Option<&str>) -> Result<Vec<Target>, String> {
    let Some(wanted) = wanted else {
        return match targets.is_empty() {
            true => Err("there is no backend to probe".to_owned()),
            false => Ok(targets),
        };
    };
    let (found, others): (Vec<Target>, Vec<Target>) = targets
        .into_iter()
        .partition(|target| is_called(&target.label(), wanted) || is_called(&target.entry, wanted));
    if found.is_empty() {
        let names = others.iter().flat_map(|it| [it.entry.clone(), it.label()]);
        let mut labels: Vec<String> = names.collect();
        labels.dedup();
        let names: Vec<&str> = labels.iter().map(String::as_str).collect();
        return Err(unknown("backend", wanted, &names));
    }
    Ok(found)
}

/// Whether `label`, which is `host:port`, is meant.
fn is_called(label: &str, wanted: &str) -> bool {
    let (label, wanted) = (label.to_ascii_lowercase(), wanted.to_ascii_lowercase());
    let host = label
        .rsplit_once(':')
        .map_or(label.as_str(), |(host, _)| host);
    label == wanted || host == wanted || host.trim_matches(['[', ']']) == wanted
}

fn unknown(what: &str, wanted: &str, known: &[&str]) -> String {
    let there_are = match nearest(wanted, known) {
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
        let names = ["ftpa", "ftpb"];
        assert_eq!(
            unknown("site", "ftpx", &names),
            "no site is called `ftpx`; did you mean `ftpa`? There are: ftpa, ftpb"
        );
        assert_eq!(
            unknown("site", "archive", &names),
            "no site is called `archive`; there are: ftpa, ftpb"
        );
        let many: Vec<String> = (0..25).map(|number| format!("site{number}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert!(unknown("site", "archive", &many).ends_with("site19, and 5 more"));
    }
}
