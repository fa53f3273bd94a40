//! Sessions drawn at random: commands, chains of them, clients that come and leave at any moment, several at once. The rules
//! hold for all; what breaks one is shrunk on the real server.
//!
//! The seed is fixed, and printed; LAYERS_SEED draws others, PROPTEST_CASES more.

use layers::rules::Kind;
use layers::scenario::session::{Session, SessionStep, Socket};
use layers::scenario::{Scenario, SessionPlayer, named};
use layers::server::haproxy::Haproxy;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner};

const SEED: u64 = 1;
const CASES: u32 = 40;
/// Rules that this version of the server is known to break (docs/findings.md): a client that leaves while one of its
/// commands waits, and another one stands behind it, is never noticed.
const KNOWN: &[&str] = &["release.eventually"];

const COMMANDS: &[&str] = &[
    "show info",
    "show stat",
    "show map {dir}/map",
    "show servers state",
    "show table shop",
    "show sess",
    "show errors",
    "get map {dir}/map one",
    "set severity-output number",
    "no such command",
    "layers plain",
    "layers released",
    "layers reserve",
    "layers reserve-most",
    "layers dirty",
    "layers own-memory",
    "layers own-memory-fails",
    "layers print-after-own",
    "layers failing",
    "layers rounds",
];

fn chain() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(COMMANDS), 1..5).prop_map(|commands| commands.join(";"))
}

/// What a client does once it has sent its commands.
fn ending(client: u32) -> impl Strategy<Value = Vec<SessionStep>> {
    use SessionStep::{HalfClose, HangUp, Idle, ReadBytes, ReadToEnd};
    let read = || vec![ReadToEnd(client), HangUp(client)];
    prop_oneof![
        4 => Just(read()),
        2 => Just([vec![HalfClose(client)], read()].concat()),
        2 => Just(vec![HangUp(client)]),
        1 => Just(vec![Idle, HangUp(client)]),
        1 => Just(vec![ReadBytes(client, 1), HangUp(client)]),
    ]
}

fn visit(client: u32) -> impl Strategy<Value = Vec<SessionStep>> {
    (chain(), ending(client)).prop_map(move |(commands, ending)| {
        let mut steps = vec![
            SessionStep::Connect(client, Socket::Cli),
            SessionStep::Send(client, format!("{commands}\n")),
        ];
        steps.extend(ending);
        steps
    })
}

/// Visits side by side, each in its own order.
fn script() -> impl Strategy<Value = Vec<SessionStep>> {
    let visits = (visit(1), visit(2), visit(3), visit(4), 1..=4_usize);
    (visits, prop::collection::vec(any::<prop::sample::Index>(), 20)).prop_map(
        |((a, b, c, d, count), turns)| {
            let mut queues: Vec<_> = [a, b, c, d].into_iter().take(count).map(Vec::into_iter).collect();
            let mut script = Vec::new();
            for turn in turns {
                let count = queues.len();
                script.extend(queues[turn.index(count)].next());
            }
            script.extend(queues.into_iter().flatten());
            script
        },
    )
}

fn scenario(steps: Vec<SessionStep>, small: bool) -> Scenario {
    let like = named::find(if small { "stop/hard" } else { "cli/plain" }).unwrap().session.unwrap();
    let plain = named::find("cli/plain").unwrap();
    Scenario { session: Some(Session { steps, ..like }), ..plain }
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

#[test]
fn every_rule_holds_for_any_session() {
    let server = Haproxy::find(None).unwrap();
    let seed = number("LAYERS_SEED").unwrap_or(SEED);
    println!("LAYERS_SEED={seed}");
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let cases = number("PROPTEST_CASES").and_then(|cases| cases.try_into().ok()).unwrap_or(CASES);
    let config = Config { cases, max_shrink_iters: 100, failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
    let outcome = runner.run(&(script(), any::<bool>()), |(steps, small)| {
        let scenario = scenario(steps, small);
        let recording = SessionPlayer::new(&server).play(&scenario).unwrap();
        prop_assert_eq!(&recording.mishaps, &vec![], "{}", recording.stderr);
        prop_assert_eq!(&recording.judgement.troubles, &vec![]);
        let broken: Vec<_> = recording
            .judgement
            .results
            .iter()
            .filter(|result| result.broken > 0 && result.rule.kind != Kind::Observed)
            .filter(|result| !KNOWN.contains(&result.rule.id))
            .flat_map(|result| &result.findings)
            .collect();
        if broken.is_empty() { Ok(()) } else { Err(TestCaseError::fail(format!("{broken:#?}"))) }
    });
    if let Err(error) = outcome {
        panic!("LAYERS_SEED={seed}: {error}");
    }
}
