//! The dashboard, as far as it can be judged without a Grafana: its expressions by Prometheus, and what it says of them.

use std::collections::BTreeSet;
use std::fs;

use serde_json::{Value, json};

use crate::metrics::{has_site, undocumented};
use crate::{output_of, read};

/// What Grafana puts in place of its variables.
const VARIABLES: [(&str, &str); 3] = [
    ("$__rate_interval", "1m"),
    ("$instance", "127.0.0.1:9190"),
    ("$site", "ftpa|ftpb"),
];

fn dashboard() -> Value {
    serde_json::from_str(&read("grafana/portcullis.json")).expect("JSON")
}

/// Every panel but the headings of rows.
fn panels(dashboard: &Value) -> impl Iterator<Item = &Value> {
    let panels = dashboard["panels"].as_array().expect("panels");
    panels.iter().filter(|panel| panel["type"] != "row")
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key]
        .as_str()
        .unwrap_or_else(|| panic!("no {key} in {value}"))
}

/// The expressions of a panel.
fn expressions(panel: &Value) -> impl Iterator<Item = &str> {
    let targets = panel["targets"].as_array().expect("targets");
    assert!(!targets.is_empty(), "{panel}");
    targets.iter().map(|target| text(target, "expr"))
}

#[test]
fn prometheus_understands_every_expression() {
    let dashboard = dashboard();
    let rules: Vec<Value> = panels(&dashboard)
        .flat_map(expressions)
        .enumerate()
        .map(|(number, expression)| {
            let mut expression = expression.to_owned();
            for (name, value) in VARIABLES {
                expression = expression.replace(name, value);
            }
            assert!(!expression.contains('$'), "{expression}");
            json!({"record": format!("dashboard:{number}"), "expr": expression})
        })
        .collect();
    assert!(rules.len() > 40, "{}", rules.len());
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("rules.yaml");
    let group = json!({"groups": [{"name": "dashboard", "rules": rules}]});
    fs::write(&file, group.to_string()).expect("written");
    output_of("promtool", &["check", "rules"], &file);
}

#[test]
fn every_panel_says_what_it_shows_and_in_which_unit() {
    let dashboard = dashboard();
    let mut titles = BTreeSet::new();
    let mut row = "";
    for panel in dashboard["panels"].as_array().expect("panels") {
        let title = text(panel, "title");
        assert!(!title.is_empty(), "{panel}");
        if panel["type"] == "row" {
            row = title;
            continue;
        }
        assert!(titles.insert((row, title)), "{row}: {title} is there twice");
        assert!(text(panel, "description").ends_with('.'), "{row}: {title}");
        let unit = text(&panel["fieldConfig"]["defaults"], "unit");
        assert!(!unit.is_empty(), "{row}: {title}");
        for target in panel["targets"].as_array().expect("targets") {
            assert!(!text(target, "legendFormat").is_empty(), "{row}: {title}");
        }
    }
}

#[test]
fn the_rows_are_those_of_an_operators_questions() {
    let dashboard = dashboard();
    let panels = dashboard["panels"].as_array().expect("panels");
    let rows: Vec<&str> = panels
        .iter()
        .filter(|panel| panel["type"] == "row")
        .map(|panel| text(panel, "title"))
        .collect();
    let expected = [
        "Health",
        "Logins",
        "Transfers",
        "Backends",
        "TLS",
        "Data ports",
    ];
    assert_eq!(rows, expected);
}

#[test]
fn no_two_panels_have_one_id_or_one_place() {
    let dashboard = dashboard();
    let (mut ids, mut places) = (BTreeSet::new(), BTreeSet::new());
    for panel in dashboard["panels"].as_array().expect("panels") {
        assert!(ids.insert(panel["id"].as_u64()), "{panel}");
        let place = &panel["gridPos"];
        let number = |key: &str| place[key].as_u64().expect("a number");
        let (left, top) = (number("x"), number("y"));
        assert!(left + number("w") <= 24, "{place}");
        for x in left..left + number("w") {
            for y in top..top + number("h") {
                assert!(places.insert((x, y)), "{place}");
            }
        }
    }
}

#[test]
fn the_choices_of_source_instance_and_site_count_for_every_panel() {
    let dashboard = dashboard();
    let variables = dashboard["templating"]["list"].as_array().expect("a list");
    let variables: Vec<&str> = variables
        .iter()
        .map(|variable| text(variable, "name"))
        .collect();
    assert_eq!(variables, ["datasource", "instance", "site"]);
    for panel in panels(&dashboard) {
        let targets = panel["targets"].as_array().expect("targets").iter();
        for place in targets.chain([panel]) {
            assert_eq!(place["datasource"]["uid"], "${datasource}", "{place}");
        }
        for expression in expressions(panel) {
            for (name, labels) in selectors(expression) {
                assert!(
                    labels.contains("instance=~\"$instance\""),
                    "{name} in {expression}"
                );
                assert_eq!(
                    labels.contains("site=~\"$site\""),
                    has_site(name),
                    "{name} in {expression}"
                );
            }
        }
    }
}

/// What stands before braces, and what in them.
fn selectors(expression: &str) -> Vec<(&str, &str)> {
    let parts: Vec<(&str, &str)> = expression
        .split('}')
        .filter_map(|part| part.split_once('{'))
        .map(|(before, labels)| {
            let name = before.rsplit(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != ':');
            (name.into_iter().next().unwrap_or_default(), labels)
        })
        .collect();
    assert!(!parts.is_empty(), "{expression}");
    parts
}

#[test]
fn every_metric_of_the_dashboard_is_documented() {
    let dashboard = dashboard();
    let recorded = read("prometheus/recording.yaml");
    for expression in panels(&dashboard).flat_map(expressions) {
        for (name, _) in selectors(expression) {
            if name.starts_with("portcullis:") {
                assert!(recorded.contains(&format!("record: {name}\n")), "{name}");
            } else {
                assert!(
                    name == "up" || undocumented(name).is_empty(),
                    "{name} in {expression}"
                );
            }
        }
    }
}
