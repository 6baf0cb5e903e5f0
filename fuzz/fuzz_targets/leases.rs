//! Leases of data ports: any order of what clients, connections and time do, judged by the model that the property tests
//! use, too.

#![no_main]

#[path = "../../tests/leases/model.rs"]
mod model;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|script: &[u8]| model::play(script));
