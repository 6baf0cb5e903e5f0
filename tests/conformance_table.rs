//! The table in `docs/conformance.md` and the tests that it names belong together: neither may rot without the other.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

const TABLE: &str = include_str!("../docs/conformance.md");

/// What stands in place of a test where something is left out on purpose.
const DECISION: &str = "*Decision*";

/// A row: its number, its cells in between, and the tests that show it.
struct Row {
    number: String,
    texts: Vec<String>,
    shown_by: Vec<String>,
}

fn rows() -> Vec<Row> {
    let rows = TABLE.lines().filter(|line| line.starts_with("| C-"));
    rows.map(|line| {
        // A bar in a cell is written `\|`.
        let line = line.replace("\\|", "\u{0}");
        let inside = line
            .strip_prefix("| ")
            .and_then(|line| line.strip_suffix(" |"));
        let inside = inside.unwrap_or_else(|| panic!("not a row: {line}"));
        let cells: Vec<&str> = inside.split(" | ").collect();
        let [number, texts @ .., shown_by] = &cells[..] else {
            panic!("no cells: {line}")
        };
        assert_eq!(texts.len(), 3, "{number}: requirement, RFC, behaviour");
        Row {
            number: (*number).to_owned(),
            texts: texts.iter().map(|text| (*text).to_owned()).collect(),
            shown_by: shown_by.split("<br>").map(str::to_owned).collect(),
        }
    })
    .collect()
}

/// The path and the name in `` `path::name` ``.
fn path_and_name(test: &str) -> Option<(&str, &str)> {
    test.strip_prefix('`')?.strip_suffix('`')?.split_once("::")
}

fn tests_in(source: &str) -> BTreeSet<String> {
    let lines: Vec<&str> = source.lines().map(str::trim).collect();
    let pairs = lines.windows(2).filter(|pair| pair[0] == "#[test]");
    pairs
        .filter_map(|pair| Some(pair[1].strip_prefix("fn ")?.split_once('(')?.0.to_owned()))
        .collect()
}

fn read(path: &Path) -> Option<String> {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).ok()
}

#[test]
fn rows_are_numbered_one_after_the_other_and_have_no_empty_cell() {
    for (index, row) in rows().iter().enumerate() {
        assert_eq!(row.number, format!("C-{:02}", index + 1));
        for text in row.texts.iter().chain(&row.shown_by) {
            assert!(!text.trim().is_empty(), "{}: an empty cell", row.number);
        }
    }
    assert!(rows().len() > 100, "the table was read");
}

#[test]
fn every_test_that_the_table_names_exists() {
    for row in rows() {
        if row.shown_by == [DECISION] {
            continue;
        }
        for test in &row.shown_by {
            let number = &row.number;
            let (path, name) = path_and_name(test)
                .unwrap_or_else(|| panic!("{number}: {test} is neither a test nor {DECISION}"));
            let source =
                read(Path::new(path)).unwrap_or_else(|| panic!("{number}: no file {path}"));
            assert!(
                tests_in(&source).contains(name),
                "{number}: no test {name} in {path}"
            );
        }
    }
}

#[test]
fn every_conformance_test_is_named_in_the_table() {
    let rows = rows();
    let named: BTreeSet<&str> = rows
        .iter()
        .flat_map(|row| row.shown_by.iter())
        .map(String::as_str)
        .collect();
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it");
    let mut files = 0;
    for entry in fs::read_dir(directory).expect("the tests are there") {
        let file = entry.expect("it can be listed").file_name();
        let file = file.to_string_lossy();
        if !(file.starts_with("conformance_") || file == "never_deaf.rs") {
            continue;
        }
        files += 1;
        let path = format!("tests/it/{file}");
        for name in tests_in(&read(Path::new(&path)).expect("it can be read")) {
            let test = format!("`{path}::{name}`");
            assert!(named.contains(test.as_str()), "{test} is in no row");
        }
    }
    assert!(files >= 6, "the files were found");
}
