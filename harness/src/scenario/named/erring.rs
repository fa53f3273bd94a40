//! Requests that fail in every way that a layer can tell of, and those that the server refuses by itself: what the client
//! is told.

use std::collections::BTreeMap;

use layers_behaviour::{Behaviour, Failure, Telling};
use layers_trace::{Callback, Operation};

use super::super::{Scenario, Step, command, flag};
use super::{always, connect, go, nth, read, say};
use crate::client::Command;
use crate::client::raw::Message;
use crate::protocol::ERRORS;
use crate::run::stack::Stack;

/// Bytes of the reference plugin's disk.
const SIZE: u64 = 1 << 20;

/// Errors that the protocol does not have: those that it says how to map, and some that it does not know.
const OTHERS: [i32; 6] = [libc::EROFS, libc::EDQUOT, libc::EFBIG, libc::ENXIO, libc::EBADF, libc::EHWPOISON];

pub(super) fn all() -> Vec<Scenario> {
    let mut all = Vec::new();
    for (name, about, told, preserved) in WAYS {
        let plugin = move |plugin: &mut Behaviour| plugin.errno_is_preserved = preserved;
        all.push(erring(
            &format!("errno/plugin-alone/{name}"),
            about,
            Stack::reference(0).with(0, plugin),
            0,
            told,
        ));
        all.push(erring(
            &format!("errno/plugin/{name}"),
            about,
            Stack::reference(2).with(0, plugin),
            0,
            told,
        ));
    }
    let about = "a filter whose requests fail with every errno";
    all.extend((1..=2).map(|layer| {
        let name = format!("errno/filter/L{layer}");
        erring(&name, about, Stack::reference(2), layer, Telling::Both).breaking(&["data.error.wire"])
    }));
    all.extend([0, 2].into_iter().flat_map(in_parts));
    all.extend([stale(), unnamed(), refused(), refused_structured(), refused_readonly()]);
    all
}

/// How a plugin tells the server of an errno, and whether that may use `errno`.
const WAYS: [(&str, &str, Telling, bool); 6] = [
    ("set", "a plugin that calls nbdkit_set_error, and leaves another errno", Telling::SetError, false),
    (
        "set-preserved",
        "a plugin that calls nbdkit_set_error, although its errno is preserved",
        Telling::SetError,
        true,
    ),
    ("errno", "a plugin that leaves only errno, which is not preserved", Telling::Errno, false),
    ("errno-preserved", "a plugin that leaves only errno, which is preserved", Telling::Errno, true),
    ("nothing", "a plugin that does not say why it fails", Telling::Nothing, false),
    (
        "nothing-preserved",
        "a plugin that does not say why it fails, whose errno is preserved",
        Telling::Nothing,
        true,
    ),
];

/// Every request, with the callback that serves it.
const REQUESTS: [(Callback, Operation, u32); 9] = [
    (Callback::Pread, Operation::Read, 0),
    (Callback::Pread, Operation::Read, flag::DF),
    (Callback::Pwrite, Operation::Write, 0),
    (Callback::Flush, Operation::Flush, 0),
    (Callback::Trim, Operation::Trim, 0),
    (Callback::Zero, Operation::Zero, 0),
    (Callback::Zero, Operation::Zero, flag::FAST_ZERO),
    (Callback::Extents, Operation::BlockStatus, 0),
    (Callback::Cache, Operation::Cache, 0),
];

fn contexts() -> [Message; 2] {
    [Message::StructuredReply, Message::SetMetaContext(String::new(), vec!["base:allocation".to_owned()])]
}

/// Clients with and without structured replies send every request, and this layer fails with every errno in turn.
fn erring(name: &str, about: &'static str, stack: Stack, layer: u8, told: Telling) -> Scenario {
    let mut calls: BTreeMap<Callback, u32> = BTreeMap::new();
    let mut failures: Vec<Failure> = Vec::new();
    let mut script = Vec::new();
    for (client, structured, libnbd) in [(1, true, true), (2, false, false), (3, true, false)] {
        script.push(if libnbd { connect(client) } else { Step::ConnectRaw(client) });
        script.extend((structured && !libnbd).then(|| say(client, contexts())));
        script.push(go(client, ""));
        for (callback, operation, flags) in REQUESTS {
            let raw = flags == flag::DF || operation == Operation::BlockStatus;
            if raw && !structured || flags == flag::DF && libnbd {
                continue;
            }
            // A zero that is not supported is written instead; and a filter must not say so.
            let can = |error: &&i32| {
                operation != Operation::Zero || flags == flag::FAST_ZERO || **error != libc::ENOTSUP
            };
            for errno in ERRORS.iter().chain(&OTHERS).filter(can).copied() {
                let count = calls.entry(callback).or_default();
                *count += 1;
                failures.push(Failure { errno, told, ..nth(callback, *count) });
                let length = if operation == Operation::Flush { 0 } else { 512 };
                script.push(Step::Request(client, command(operation, 0, length, flags)).fails());
            }
        }
        // The last read is one that does not fail.
        *calls.entry(Callback::Pread).or_default() += 1;
        script.extend([read(client), Step::Disconnect(client)]);
    }
    let stack = stack.with(layer, |behaviour| behaviour.fail = failures);
    Scenario::new(name, about, stack).script(script).unordered()
}

/// What stands on several calls fails with the error of the one that fails.
fn in_parts(filters: u8) -> Vec<Scenario> {
    use Callback::{CanCache, CanFua, CanZero, Flush, GetSize, Pread, Pwrite, Zero};
    let suffix = if filters == 0 { "-alone" } else { "" };
    let scenario = |name: &str, about, requests: &[(Command, bool)], plugin: &dyn Fn(&mut Behaviour)| {
        let step = |(request, fails): &(Command, bool)| {
            let step = Step::Request(1, *request);
            if *fails { step.fails() } else { step }
        };
        let mut script = vec![connect(1), go(1, "")];
        script.extend(requests.iter().map(step));
        script.extend([read(1), Step::Disconnect(1)]);
        let stack = Stack::reference(filters).with(0, plugin);
        Scenario::new(format!("errno/{name}{suffix}"), about, stack).script(script).unordered()
    };
    let fails = |callback, n, errno| Failure { errno, told: Telling::SetError, ..nth(callback, n) };
    let small = |operation, flags| command(operation, 8192, 4096, flags);
    let large = |operation| command(operation, 4096, (128 << 20) + 8192, 0);
    let (write, trim, zero) = (Operation::Write, Operation::Trim, Operation::Zero);
    vec![
        scenario(
            "flush-for-fua",
            "a plugin whose flush fails in place of FUA, with several errors",
            &[
                (small(write, flag::FUA), true),
                (small(trim, flag::FUA), true),
                (small(zero, flag::FUA), true),
                (small(write, flag::FUA), false),
                (small(trim, flag::FUA), false),
                (small(zero, flag::FUA), false),
            ],
            &|plugin| {
                plugin.answers.insert(CanFua, 1);
                let errors = [libc::ENOSPC, libc::EPERM, libc::EDQUOT];
                let failures = errors.into_iter().zip(1..).map(|(errno, n)| fails(Flush, n, errno));
                plugin.fail = failures.collect();
            },
        ),
        scenario(
            "zero-as-writes",
            "a plugin whose writes in place of a zero fail: a later piece, the first, and the flush",
            &[
                (large(zero), true),
                (small(zero, 0), true),
                (small(zero, flag::FUA), true),
                (small(zero, 0), false),
            ],
            &|plugin| {
                plugin.answers.extend([(GetSize, 192 << 20), (CanZero, 0), (CanFua, 1)]);
                plugin.fail = vec![
                    fails(Pwrite, 2, libc::ENOSPC),
                    fails(Pwrite, 3, libc::EPERM),
                    fails(Flush, 1, libc::EFBIG),
                ];
            },
        ),
        scenario(
            "zero-unsupported",
            "a plugin that cannot zero, and whose writes in its place fail",
            &[(small(zero, 0), true), (small(zero, flag::FUA), true), (small(zero, 0), false)],
            &|plugin| {
                plugin.answers.insert(CanFua, 1);
                plugin.fail = vec![
                    Failure { errno: libc::EOPNOTSUPP, ..always(Zero) },
                    fails(Pwrite, 1, libc::ENOSPC),
                    fails(Flush, 1, libc::EPERM),
                ];
            },
        ),
        scenario(
            "cache-as-reads",
            "a plugin whose reads in place of a cache fail: a later piece, and the first",
            &[
                (large(Operation::Cache), true),
                (small(Operation::Cache, 0), true),
                (small(Operation::Cache, 0), false),
            ],
            &|plugin| {
                plugin.answers.extend([(GetSize, 192 << 20), (CanCache, 1)]);
                plugin.fail = vec![fails(Pread, 2, libc::EPERM), fails(Pread, 3, libc::ENOSPC)];
            },
        ),
    ]
}

/// What one request has left with the thread that carries it out is no error of the next.
fn stale() -> Scenario {
    let mut calls: BTreeMap<Callback, u32> = BTreeMap::new();
    let mut script = vec![Step::ConnectRaw(1), say(1, contexts()), go(1, "")];
    let mut failures = Vec::new();
    let plain = |(callback, operation, flags): &(Callback, Operation, u32)| {
        (*flags == 0).then_some((*callback, *operation))
    };
    let requests: Vec<(Callback, Operation)> = REQUESTS.iter().filter_map(plain).collect();
    // After each failure another request fails, and then the same one again.
    for (one, other) in requests.iter().zip(requests.iter().cycle().skip(1)) {
        let reasons = [(one, Telling::SetError), (other, Telling::Nothing), (one, Telling::Nothing)];
        for ((callback, operation), told) in reasons {
            let count = calls.entry(*callback).or_default();
            *count += 1;
            failures.push(Failure { errno: libc::ENOSPC, told, ..nth(*callback, *count) });
            let length = if *operation == Operation::Flush { 0 } else { 512 };
            script.push(Step::Request(1, command(*operation, 0, length, 0)).fails());
        }
    }
    script.push(Step::Disconnect(1));
    let stack = Stack { arguments: vec!["-t".to_owned(), "1".to_owned()], ..Stack::reference(0) };
    let stack = stack.with(0, |plugin| plugin.fail = failures);
    let about =
        "one thread, a request for which the plugin calls nbdkit_set_error, and one for which it does not";
    Scenario::new("errno/stale", about, stack).script(script).unordered()
}

fn unnamed() -> Scenario {
    let stack = Stack::reference(0)
        .with(0, |plugin| plugin.fail.push(Failure { errno: libc::ENXIO, ..nth(Callback::Pread, 1) }));
    Scenario::new("errno/unnamed", "one read that fails with an errno that the protocol does not have", stack)
        .script([Step::ConnectRaw(1), go(1, ""), read(1).fails(), read(1), Step::Disconnect(1)])
        .unordered()
}

/// Requests that go beyond the end, or have a flag that they cannot have.
fn refusals() -> Vec<Command> {
    use Operation::{Cache, Flush, Read, Trim, Write, Zero};
    let mut all = Vec::new();
    for operation in [Read, Write, Trim, Zero, Cache] {
        all.extend([
            command(operation, SIZE - 256, 512, 0),
            command(operation, SIZE, 512, 0),
            command(operation, u64::MAX - 255, 512, 0),
            command(operation, 0, 512, 1 << 14),
        ]);
    }
    all.extend([
        command(Read, 0, 512, flag::NO_HOLE),
        command(Read, 0, 512, flag::REQ_ONE),
        command(Write, 0, 512, flag::DF),
        command(Trim, 0, 512, flag::FAST_ZERO),
        command(Zero, 0, 512, flag::DF),
        command(Cache, 0, 512, flag::REQ_ONE),
        command(Flush, 0, 0, flag::NO_HOLE),
        command(Flush, 0, 512, 0),
    ]);
    all
}

fn refusing(client: u32, requests: &[Command]) -> Vec<Step> {
    let mut script: Vec<Step> =
        requests.iter().map(|request| Step::Request(client, *request).fails()).collect();
    script.push(say(client, [Message::UnknownCommand(77)]).fails());
    script.extend([read(client), Step::Disconnect(client)]);
    script
}

fn refused() -> Scenario {
    let mut script = vec![Step::ConnectRaw(1), go(1, "")];
    script.push(Step::Request(1, command(Operation::Read, 0, 512, flag::DF)).fails());
    script.extend(refusing(1, &refusals()));
    let about = "requests that the server must refuse, each with the error that the protocol has for it";
    Scenario::new("errno/refused", about, Stack::reference(1)).script(script).unordered()
}

fn refused_structured() -> Scenario {
    use Operation::BlockStatus;
    let mut script = vec![Step::ConnectRaw(1), say(1, contexts()), go(1, "")];
    let mut requests = refusals();
    requests.extend([
        command(BlockStatus, SIZE - 256, 512, 0),
        command(BlockStatus, SIZE, 512, 0),
        command(BlockStatus, 0, 512, flag::NO_HOLE),
        command(BlockStatus, 0, 512, flag::DF),
    ]);
    script.extend(refusing(1, &requests));
    let about = "requests that the server must refuse, of a client with structured replies";
    Scenario::new("errno/refused-structured", about, Stack::reference(1)).script(script).unordered()
}

fn refused_readonly() -> Scenario {
    use Operation::{Trim, Write, Zero};
    let requests = [
        command(Write, 0, 512, 0),
        command(Write, 0, 512, flag::FUA),
        command(Trim, 0, 512, 0),
        command(Zero, 0, 512, 0),
        command(Zero, 0, 512, flag::NO_HOLE),
    ];
    let mut script = vec![Step::ConnectRaw(1), go(1, "")];
    script.extend(refusing(1, &requests));
    let stack = Stack { readonly: true, ..Stack::reference(1) };
    Scenario::new("errno/refused-readonly", "a client that writes to a read-only export", stack)
        .script(script)
}
