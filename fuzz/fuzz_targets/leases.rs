//! Leases of data ports: any order of what clients, connections and time do, judged by the model that the property tests
//! use, too.

#![no_main]

use libfuzzer_sys::fuzz_target;
use portcullis_models::leases;

fuzz_target!(|script: &[u8]| leases::play(script));
