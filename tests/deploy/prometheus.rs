//! The scrape configuration, the recording rules and the alerts, as Prometheus reads them.

use serde_yaml::Value;

use crate::metrics::undocumented;
use crate::{deploy, output_of, read, yaml};

/// Every rule of a file.
fn rules(path: &str) -> Vec<Value> {
    let groups = yaml(path)["groups"].clone();
    let groups = groups.as_sequence().expect("groups").iter();
    let rules = groups.map(|group| group["rules"].as_sequence().expect("rules").clone());
    rules.flatten().collect()
}

#[test]
fn prometheus_accepts_the_rules() {
    for file in ["alerts.yaml", "recording.yaml"] {
        let file = deploy("prometheus").join(file);
        output_of("promtool", &["check", "rules", "--lint-fatal"], &file);
    }
}

#[test]
fn prometheus_accepts_the_scrape_configuration() {
    output_of(
        "promtool",
        &["check", "config"],
        &deploy("prometheus/scrape.yaml"),
    );
}

#[test]
fn every_alert_fires_when_it_should_and_only_then() {
    output_of(
        "promtool",
        &["test", "rules"],
        &deploy("prometheus/alerts_test.yaml"),
    );
    let tests = read("prometheus/alerts_test.yaml");
    for rule in rules("prometheus/alerts.yaml") {
        let alert = rule["alert"].as_str().expect("a name");
        assert!(
            tests.contains(&format!("alertname: {alert}\n        exp_alerts")),
            "no test makes {alert} fire"
        );
        assert!(
            tests.contains(&format!("alertname: {alert}}}")),
            "no test keeps {alert} silent"
        );
    }
}

#[test]
fn rules_use_only_metrics_that_exist() {
    for file in ["prometheus/alerts.yaml", "prometheus/recording.yaml"] {
        let unknown: Vec<String> = rules(file)
            .iter()
            .filter_map(|rule| rule["expr"].as_str())
            .flat_map(|expression| {
                let unknown = undocumented(expression);
                unknown.into_iter().map(str::to_owned).collect::<Vec<_>>()
            })
            .collect();
        assert!(unknown.is_empty(), "{file}: {unknown:?}");
    }
}

#[test]
fn alerts_use_only_ratios_that_are_recorded() {
    let recorded = rules("prometheus/recording.yaml");
    let recorded: Vec<&str> = recorded
        .iter()
        .map(|rule| rule["record"].as_str().expect("a name"))
        .collect();
    let alerts = read("prometheus/alerts.yaml");
    let used: Vec<&str> = alerts
        .split_whitespace()
        .filter(|word| word.starts_with("portcullis:"))
        .collect();
    assert!(used.len() >= 8, "{used:?}");
    for name in used {
        assert!(recorded.contains(&name), "{name}");
    }
}
