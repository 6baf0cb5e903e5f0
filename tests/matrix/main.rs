//! The matrix: real clients in front of Portcullis, real servers behind it, and everything that users do with them.
//!
//! `plan` says which cells there are and why not all; `cell` runs one; `action` is what is done in it, `client` and
//! `server` by whom and with whom; `expectation` declares what can't work. The outcome is `docs/compatibility.md`.
//!
//! A test program of its own: it needs the machine for itself, being short of neither processes nor bytes.

mod action;
mod cell;
mod client;
mod clients;
mod document;
mod expectation;
mod job;
mod leg;
mod plan;
mod server;
mod servers;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use testkit::certs::Authority;

use cell::{Cell, SERVER_NAME};
use document::Findings;
use plan::Purpose;
use server::{Kind, Running};

/// Cells that run at the same time: more than there are processors, since most wait for their peers now and then.
const WORKERS: usize = 8;

#[test]
fn a_few_cells_are_as_declared() {
    let (_, failures) = run(&plan::sample());
    assert_none(&failures);
}

#[test]
fn every_cell_is_as_declared_and_as_documented() {
    let (findings, failures) = run(&chosen(plan::cells()));
    assert_none(&failures);
    if std::env::var_os(ONLY).is_some() {
        return;
    }
    let text = document::render(&findings);
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/compatibility.md");
    if std::env::var_os("MATRIX_WRITE").is_some() {
        std::fs::write(&file, text).expect("the document is writable");
        return;
    }
    let committed = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(
        committed == text,
        "docs/compatibility.md is not what this run found: `make compatibility` writes it anew"
    );
}

fn assert_none(failures: &[String]) {
    assert!(
        failures.is_empty(),
        "{}\n{} failures, see above",
        failures.join("\n"),
        failures.len()
    );
}

/// For work on the matrix: only cells whose name holds this.
const ONLY: &str = "MATRIX_ONLY";

fn chosen(mut cells: Vec<(Purpose, Cell)>) -> Vec<(Purpose, Cell)> {
    if let Ok(wanted) = std::env::var(ONLY) {
        cells.retain(|(purpose, cell)| format!("{purpose:?} {cell}").contains(&wanted));
        assert!(!cells.is_empty(), "no cell's name holds {wanted:?}");
    }
    cells
}

/// Runs the cells; the findings are in their order, however long each took.
fn run(cells: &[(Purpose, Cell)]) -> (Findings, Vec<String>) {
    let authority = Authority::new("authority of the matrix");
    let pair = authority.issue(&[SERVER_NAME]);
    let mut kinds: Vec<Kind> = cells.iter().map(|(_, cell)| cell.server).collect();
    kinds.sort();
    kinds.dedup();
    let servers: BTreeMap<Kind, Running> = kinds
        .into_iter()
        .map(|kind| (kind, kind.start(&pair)))
        .collect();
    let next = AtomicUsize::new(0);
    let outcomes = Mutex::new(BTreeMap::new());
    std::thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let Some((_, cell)) = cells.get(number) else {
                        return;
                    };
                    let outcome =
                        cell.run(&format!("c{number}"), &servers[&cell.server], &authority);
                    let mut outcomes = outcomes.lock().expect("nobody panics while holding it");
                    outcomes.insert(number, outcome);
                }
            });
        }
    });
    let mut findings = Findings::new();
    let mut failures = Vec::new();
    for (number, outcome) in outcomes.into_inner().expect("all workers are done") {
        let (purpose, cell) = cells[number];
        findings.push((purpose, cell, outcome.verdicts));
        failures.extend(outcome.failures);
    }
    (findings, failures)
}
