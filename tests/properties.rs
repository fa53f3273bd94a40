//! Whatever the depth of the stack and whatever the clients ask: every rule holds on a real nbdkit.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use layers::client::nbd::{Command, Wishes};
use layers::rules::Kind;
use layers::scenario::{Player, Scenario, Step, command, flag};
use layers::server::nbdkit::Nbdkit;
use layers::stack::Stack;
use layers_trace::Operation;
use proptest::prelude::*;

/// Bytes of the reference disk.
const SIZE: u64 = 1 << 20;

fn request() -> impl Strategy<Value = Command> {
    let range = (0..SIZE).prop_flat_map(|offset| {
        let most = (SIZE - offset).min(128 * 1024);
        (Just(offset), 1..=most as u32)
    });
    let operation = prop_oneof![
        Just((Operation::Read, 0)),
        (0..2_u32).prop_map(|fua| (Operation::Write, fua * flag::FUA)),
        (0..2_u32).prop_map(|fua| (Operation::Trim, fua * flag::FUA)),
        (0..8_u32).prop_map(|bits| {
            let chosen = [flag::FUA, flag::NO_HOLE, flag::FAST_ZERO];
            let flags = chosen.iter().enumerate().map(|(bit, flag)| (bits >> bit & 1) * flag).sum();
            (Operation::Zero, flags)
        }),
        Just((Operation::Cache, 0)),
        (0..2_u32).prop_map(|one| (Operation::BlockStatus, one * flag::REQ_ONE)),
        Just((Operation::Flush, 0)),
    ];
    (operation, range).prop_map(|((operation, flags), (offset, count))| match operation {
        Operation::Flush => command(operation, 0, 0, flags),
        _ => command(operation, offset, count, flags),
    })
}

/// What one client does, from connecting to leaving.
fn visit(client: u32) -> impl Strategy<Value = Vec<Step>> {
    let options = (any::<bool>(), prop::collection::vec("[a-z]{0,3}", 0..3), "[a-z]{0,3}");
    let batches = prop::collection::vec(prop::collection::vec(request(), 1..6), 0..5);
    let leave = prop_oneof![Just(Step::Disconnect(client)), Just(Step::HangUp(client))];
    let wishes = (any::<bool>(), any::<bool>()).prop_map(|(block_size, full_info)| Wishes {
        block_size,
        full_info,
        structured_replies: true,
    });
    (wishes, options, batches, leave).prop_map(move |(wishes, (list, infos, export), batches, leave)| {
        let mut script = vec![Step::Connect(client, wishes)];
        script.extend(list.then_some(Step::List(client)));
        script.extend(infos.into_iter().map(|name| Step::Info(client, name)));
        script.push(Step::Go(client, export));
        script.extend(batches.into_iter().map(|batch| Step::Pipeline(client, batch)));
        script.push(leave);
        script
    })
}

/// Interleaves scripts, each in its own order.
fn interleaved() -> impl Strategy<Value = Vec<Step>> {
    let scripts = (visit(1), visit(2), visit(3), 1..=3_usize);
    (scripts, prop::collection::vec(any::<prop::sample::Index>(), 60)).prop_map(
        |((a, b, c, clients), turns)| {
            let mut queues: Vec<_> = [a, b, c].into_iter().take(clients).map(Vec::into_iter).collect();
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

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn every_rule_holds_for_any_depth_and_any_requests(filters in 0..=8_u8, script in interleaved()) {
        let server = Nbdkit::find(None).unwrap();
        let scenario = Scenario::new("random", "drawn by proptest", Stack::reference(filters)).script(script);
        let recording = Player::new(&server).play(&scenario).unwrap();
        prop_assert_eq!(&recording.mishaps, &vec![], "{}", recording.stderr);
        prop_assert_eq!(&recording.judgement.troubles, &vec![]);
        let broken: Vec<_> = recording
            .judgement
            .results
            .iter()
            .filter(|result| result.broken > 0 && result.rule.kind != Kind::Observed)
            .flat_map(|result| &result.findings)
            .collect();
        prop_assert!(broken.is_empty(), "{broken:#?}");
        let cleanup = recording.judgement.result("lifecycle.cleanup.outer-to-inner").map(|r| r.exercised);
        prop_assert_eq!(cleanup, Some(u64::from(filters)));
    }
}
