//! A data connection never reaches another session's transfer: any order of leases, connections and their ends, judged by
//! a model that knows for which transfer each connection was opened.

use portcullis_models::leases;
use proptest::prelude::*;

/// How many scripts are played: some seconds' worth, or as many as a long run asks for (docs/fuzzing.md).
fn cases() -> u32 {
    match std::env::var("PORTCULLIS_LEASES_CASES") {
        Ok(cases) => cases.parse().expect("PORTCULLIS_LEASES_CASES is a number"),
        Err(_) => 20_000,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), ..ProptestConfig::default() })]

    #[test]
    fn no_connection_is_ever_in_a_completed_transfer_for_which_it_was_not_opened(
        script in proptest::collection::vec(any::<u8>(), 0..300)
    ) {
        leases::play(&script);
    }
}
