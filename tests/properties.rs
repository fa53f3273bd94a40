//! Whatever the stack and whatever the clients ask: every rule holds on a real nbdkit.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]
use layers::rules::Kind;
use layers::scenario::{Ending, Player};
use layers::server::nbdkit::Nbdkit;
use layers::server::process::become_subreaper;
use layers::strategies;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

/// The same cases in every run, unless PROPTEST_CASES asks for more of them, or PROPTEST_RNG_SEED for others.
fn config() -> ProptestConfig {
    let asked = ProptestConfig::default();
    let rng_seed = match asked.rng_seed {
        RngSeed::Random => RngSeed::Fixed(1),
        fixed => fixed,
    };
    let cases = if std::env::var_os("PROPTEST_CASES").is_some() { asked.cases } else { 64 };
    ProptestConfig { cases, max_shrink_iters: 200, rng_seed, ..asked }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn every_rule_holds_for_any_stack_and_any_clients(scenario in strategies::scenario()) {
        become_subreaper().unwrap();
        let server = Nbdkit::find(None).unwrap();
        let recording = Player::new(&server).play(&scenario).unwrap();
        prop_assert_eq!(&recording.mishaps, &vec![], "{}", recording.stderr);
        if scenario.ending != Ending::Cut(libc::SIGKILL) {
            prop_assert_eq!(&recording.judgement.troubles, &vec![]);
        }
        let exercised = recording.judgement.results.iter().filter(|result| result.exercised > 0).count();
        prop_assert!(exercised >= 5, "only {exercised} rules had something to say");
        let broken: Vec<_> = recording
            .judgement
            .results
            .iter()
            .filter(|result| result.broken > 0 && result.rule.kind != Kind::Observed)
            .flat_map(|result| &result.findings)
            .collect();
        prop_assert!(broken.is_empty(), "{broken:#?}");
    }
}
