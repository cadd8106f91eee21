//! Random histories of the registry beside a naive one.

#![cfg(test)]

mod naive;
mod ops;
mod pair;
mod told;

use ops::op;
use pair::Pair;
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 1000,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn the_registry_is_what_a_naive_one_would_be(
        max_remembered in 0..4_usize,
        history in prop::collection::vec(op(), 0..80),
    ) {
        let mut pair = Pair::new(max_remembered);
        for op in &history {
            pair.step(op);
        }
    }
}
