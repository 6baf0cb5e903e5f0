//! The configurations that the README and the page for operators show, and what a broken one gets.

use std::path::Path;

use portcullis::config;
use serde_yaml::Mapping;

use crate::text;

#[test]
fn every_example_of_the_readme_and_of_the_page_for_operators_is_good() {
    let pages = text("README.md") + &text("docs/operations.md");
    let minimal = text("config/minimal.yaml");
    let examples: Vec<&str> = pages
        .split("```yaml\n")
        .skip(1)
        .map(|rest| rest.split("```").next().expect("an end"))
        .collect();
    assert!(examples.len() >= 4);
    for example in examples {
        let mut whole: Mapping = serde_yaml::from_str(&minimal).expect("YAML");
        let sections: Mapping = serde_yaml::from_str(example).expect("YAML");
        whole.extend(sections);
        let whole = serde_yaml::to_string(&whole).expect("a map can be written");
        if let Err(error) = config::parse(&whole, Path::new("portcullis.yaml")) {
            panic!("{example}\n{error}");
        }
    }
}

#[test]
fn the_import_that_the_page_on_iis_shows_is_one_that_is_tested() {
    let page = text("docs/iis.md");
    let (_, shown) = page.split_once("```text\n").expect("it is there");
    let (shown, _) = shown.split_once("```").expect("an end");
    assert_eq!(shown, text("tests/import/iis/virtual_hosts.txt"));
}

#[test]
fn the_error_in_the_readme_is_what_such_a_file_gets() {
    let readme = text("README.md");
    let (_, shown) = readme
        .split_once("```text\nportcullis: ")
        .expect("it is there");
    let (shown, _) = shown.split_once("\n```").expect("an end");
    let minimal = text("config/minimal.yaml");
    let slip = minimal.replace("certificate:", "certifcate:");
    let error = config::parse(&slip, Path::new("portcullis.yaml")).expect_err("a slip");
    assert_eq!(shown, error.to_string());
}
