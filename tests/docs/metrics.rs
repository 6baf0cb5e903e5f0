//! The documentation of the metrics is that of the program: docs/metrics.md has all of them, and nobody else names one that
//! isn't there.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::{Duration, SystemTime};

use portcullis::observe::metrics::{Metrics, ServedCertificate, Shown, ShownBackend};
use portcullis::outcome::BackendStatus;

use crate::table::{self, Table};
use crate::{files_in, root, text};

/// The name of a site that is configured nowhere else.
const SITE: &str = "the-site";
const BACKEND: &str = "10.0.0.10:21";

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

/// Every family, by name, as a program shows them that has one site with one backend.
fn families() -> BTreeMap<String, Family> {
    let metrics = Metrics::new();
    metrics.declare_site(SITE);
    let shown = Shown {
        checks: true,
        tls: true,
        client_certificate: true,
    };
    let backend = ShownBackend {
        site: SITE,
        backend: BACKEND,
        shown,
    };
    metrics.only_backends([backend].into_iter());
    metrics.backend_status(SITE, BACKEND, BackendStatus::Up);
    metrics.backend_checked(SITE, BACKEND, None, Duration::ZERO);
    let now = SystemTime::now();
    metrics.backend_certificate(SITE, BACKEND, Some(now), now);
    metrics.declare_orders();
    metrics.next_order(Some(now));
    metrics.backend_client_certificate(SITE, BACKEND, now, now);
    metrics.only_certificates(std::iter::once(ServedCertificate {
        name: "default",
        fingerprint: "sha256:00",
        subject: "CN=ftp.test",
        not_before: now,
        not_after: now,
    }));
    metrics.revocation_lists([("partners.crl", now)]);
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
fn expected() -> Table {
    let rows = families().into_iter().map(|(name, family)| {
        let labels = family.labels.iter().filter(|(label, _)| *label != "le");
        let labels: Vec<String> = labels
            .map(|(label, values)| match label.as_str() {
                "site" | "backend" | "version" | "fips" | "fingerprint" | "subject" | "name"
                | "file"
                    if values.len() < 3 =>
                {
                    label.clone()
                }
                _ => format!("{label}: {}", values.join(", ")),
            })
            .collect();
        let labels = labels.join("; ");
        vec![format!("`{name}`"), family.kind, labels, family.help]
    });
    Table {
        head: ["metric", "type", "labels", "meaning"]
            .map(str::to_owned)
            .into(),
        rows: rows.collect(),
    }
}

#[test]
fn the_page_of_metrics_has_all_of_them_with_their_labels_and_meanings() {
    let Table { head, rows } = expected();
    let mut tables = table::tables(&text("docs/metrics.md")).into_iter();
    let page = tables.find(|table| table.head == head);
    let page = page.unwrap_or_else(|| panic!("no table of {head:?} in docs/metrics.md"));
    let should: Vec<String> = rows
        .iter()
        .map(|row| format!("| {} |", row.join(" | ")))
        .collect();
    let should = should.join("\n");
    assert!(page.rows == rows, "docs/metrics.md should hold\n\n{should}");
}

#[test]
fn nobody_names_a_metric_that_is_not_there() {
    let families = families();
    let mut files = vec![
        root().join("README.md"),
        root().join("CHANGELOG.md"),
        root().join("SECURITY.md"),
    ];
    files.extend(["docs", "deploy", "config"].into_iter().flat_map(files_in));
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
