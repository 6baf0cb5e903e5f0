//! The metrics that expressions may name: those of docs/metrics.md, which `tests/docs/` holds to the program.

use std::collections::BTreeMap;
use std::fs;

use crate::deploy;

/// What a histogram's series have behind its name.
const OF_HISTOGRAMS: [&str; 3] = ["_bucket", "_sum", "_count"];

/// The names in the table of docs/metrics.md, with their labels as they stand there.
fn documented() -> BTreeMap<String, String> {
    let page = fs::read_to_string(deploy("../docs/metrics.md")).expect("a page of the repository");
    let rows = page.lines().filter_map(|line| {
        let (name, rest) = line.strip_prefix("| `")?.split_once('`')?;
        let labels = rest.split('|').nth(2)?;
        Some((name.to_owned(), labels.trim().to_owned()))
    });
    rows.collect()
}

/// The labels of a series, if it is documented.
fn labels_of(series: &str) -> Option<String> {
    let documented = documented();
    let mut ends = OF_HISTOGRAMS.iter();
    let family = ends.find_map(|end| series.strip_suffix(end));
    let labels = documented.get(series).or_else(|| documented.get(family?));
    labels.cloned()
}

/// Whether a series, documented or recorded, has a label for the site.
pub fn has_site(series: &str) -> bool {
    let of_site = |labels: String| labels.split("; ").any(|label| label == "site");
    series.starts_with("portcullis:") || labels_of(series).is_some_and(of_site)
}

/// The names in `text` that look like this program's metrics, and are not documented. There has to be one at least.
pub fn undocumented(text: &str) -> Vec<&str> {
    let mut names = text
        .split(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != ':')
        .filter(|word| word.starts_with("portcullis_") || word.starts_with("process_"))
        .peekable();
    assert!(names.peek().is_some(), "no metric in {text}");
    names.filter(|name| labels_of(name).is_none()).collect()
}
