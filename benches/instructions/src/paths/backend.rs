//! Which backend a login gets: what a pool costs it.

use std::fmt::Write;
use std::hint::black_box;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use portcullis::backend::{Pool, Pools, Registry, Selection};
use portcullis::base::budget::Budget;
use portcullis::config;

use crate::valgrind::counted_from_here;

/// The only one that there is.
pub fn selection_of_1(rounds: u32) -> io::Result<()> {
    selection(1, rounds)
}

/// The order of twenty for one login, by weights and sessions.
pub fn selection_of_20(rounds: u32) -> io::Result<()> {
    selection(20, rounds)
}

fn selection(backends: usize, rounds: u32) -> io::Result<()> {
    let pool = pool(backends).map_err(io::Error::other)?;
    let total = Budget::new(Duration::from_secs(30));
    counted_from_here(rounds, &mut || {
        black_box(Selection::new(Arc::clone(&pool), 0, total));
    });
    Ok(())
}

fn pool(backends: usize) -> Result<Arc<Pool>, Box<dyn std::error::Error + Send + Sync>> {
    let balance = if backends > 1 {
        "least_sessions"
    } else {
        "first"
    };
    let mut text = format!(
        "listeners: [{{address: 127.0.0.1:0, tls: explicit}}]\n\
         tls: {{certificate: tls.crt, private_key: tls.key}}\n\
         sites:\n- name: only\n  default: true\n  balance: {balance}\n  backends:\n"
    );
    for number in 1..=backends {
        writeln!(text, "  - {{address: 192.0.2.{number}, weight: {number}}}")?;
    }
    let settings = config::parse(&text, Path::new("portcullis.yaml"))?;
    let registry = Registry::default();
    let pools = Pools::load(&settings.sites, &registry)?;
    let (site, _) = pools.sites().next().expect("there is one");
    Ok(Arc::clone(pools.of(site, None)))
}
