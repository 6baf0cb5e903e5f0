//! The documentation of the metrics is that of the program: docs/metrics.md has all of them, and nobody else names one that
//! isn't there.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use portcullis::observe::metrics::Metrics;

/// The name of a site that is configured nowhere else.
const SITE: &str = "the-site";

/// What begins every name.
const PREFIX: &str = "portcullis_";

/// What a histogram's series have behind its name.
const OF_HISTOGRAMS: [&str; 3] = ["_bucket", "_sum", "_count"];

#[derive(Default)]
struct Family {
    kind: String,
    help: String,
    /// The values that each label has before anything has happened, in the order of their first use.
    labels: BTreeMap<String, Vec<String>>,
}

/// Every family, by name, as a program shows them that has one site.
fn families() -> BTreeMap<String, Family> {
    let metrics = Metrics::new();
    metrics.declare_site(SITE);
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    for line in metrics.render().lines() {
        if let Some((name, help)) = line
            .strip_prefix("# HELP ")
            .and_then(|it| it.split_once(' '))
        {
            families.entry(name.to_owned()).or_default().help = help.to_owned();
        } else if let Some((name, kind)) = line
            .strip_prefix("# TYPE ")
            .and_then(|it| it.split_once(' '))
        {
            families.entry(name.to_owned()).or_default().kind = kind.to_owned();
        } else if let Some((series, _)) = line.rsplit_once(' ') {
            let (name, labels) = series.split_once('{').unwrap_or((series, ""));
            let family = families
                .get_mut(family_of(name))
                .expect("its type came first");
            for (label, value) in labels
                .trim_end_matches('}')
                .split(',')
                .filter_map(|it| it.split_once('='))
            {
                let values = family.labels.entry(label.to_owned()).or_default();
                let value = value.trim_matches('"').to_owned();
                if !values.contains(&value) {
                    values.push(value);
                }
            }
        }
    }
    families
}

fn family_of(series: &str) -> &str {
    let stripped = OF_HISTOGRAMS
        .iter()
        .find_map(|end| series.strip_suffix(end));
    stripped.unwrap_or(series)
}

/// The table of docs/metrics.md.
fn table() -> String {
    let mut table = String::from("| metric | type | labels | meaning |\n|---|---|---|---|\n");
    for (name, family) in families() {
        let labels: Vec<String> = family
            .labels
            .iter()
            .filter(|(label, _)| *label != "le")
            .map(|(label, values)| match label.as_str() {
                "site" | "version" if values.len() < 3 => label.clone(),
                _ => format!("{label}: {}", values.join(", ")),
            })
            .collect();
        table.push_str(&format!(
            "| `{name}` | {} | {} | {} |\n",
            family.kind,
            labels.join("; "),
            family.help
        ));
    }
    table
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn files_in(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(files_in(&path));
        } else {
            found.push(path);
        }
    }
    found
}

#[test]
fn the_page_of_metrics_has_all_of_them_with_their_labels_and_meanings() {
    let page = fs::read_to_string(root().join("docs/metrics.md")).expect("the page");
    let expected = table();
    assert!(
        page.contains(&expected),
        "docs/metrics.md should hold\n\n{expected}"
    );
}

#[test]
fn nobody_names_a_metric_that_is_not_there() {
    let families = families();
    let mut files = vec![
        root().join("README.md"),
        root().join("CHANGELOG.md"),
        root().join("SECURITY.md"),
    ];
    files.extend(
        ["docs", "deploy", "config"]
            .iter()
            .flat_map(|folder| files_in(&root().join(folder))),
    );
    let mut named = BTreeSet::new();
    let mut unknown = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file).expect("text");
        for rest in text.split(PREFIX).skip(1) {
            let end = rest
                .find(|c: char| !c.is_ascii_lowercase() && c != '_')
                .unwrap_or(rest.len());
            let name = format!("{PREFIX}{}", &rest[..end]);
            let family = family_of(&name);
            if families.contains_key(family) {
                named.insert(family.to_owned());
            } else {
                unknown.push(format!("{}: {name}", file.display()));
            }
        }
    }
    assert!(unknown.is_empty(), "{unknown:#?}");
    assert!(named.len() > 10, "the files were read");
}
