//! A data connection never reaches another session's transfer: any order of leases, connections and their ends, judged by
//! a model that knows for which transfer each connection was opened.

use portcullis_models::leases;
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig { cases: 20_000, ..ProptestConfig::default() })]

    #[test]
    fn no_connection_is_ever_in_a_completed_transfer_for_which_it_was_not_opened(
        script in proptest::collection::vec(any::<u8>(), 0..300)
    ) {
        leases::play(&script);
    }
}
