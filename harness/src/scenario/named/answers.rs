//! What the layers answer to can_* questions, in all combinations, and what the server makes of requests then.
//!
//! Members of the matrix open the same layers again and again, which answer otherwise each time; their trees say nothing
//! that the rules do not, and are not stored. Of the other families one or two members are.

use layers_behaviour::{Behaviour, Extents, Failure};
use layers_trace::{Callback, Operation};

use super::super::{Scenario, Step, command, flag};
use super::{always, connect, go, nth};
use crate::client::Command;
use crate::client::nbd::Wishes;
use crate::run::stack::Stack;

/// Bytes of a range that no single read or write can have, and of the disk that has it.
const LARGE: u32 = (128 << 20) + 8192;
const LARGE_DISK: i64 = 192 << 20;

pub(super) fn all() -> Vec<Scenario> {
    let mut all = Vec::new();
    all.extend(pairs().map(|(zero, fua)| plugin(zero, fua)));
    all.extend(pairs().flat_map(|(zero, fua)| [0, 1, 2].map(|cache| filter(zero, fua, cache))));
    all.extend(LACKING.iter().map(|(name, absent)| lacking(name, absent)));
    all.extend(FILTER_LACKING.iter().map(|callback| filter_lacking(*callback)));
    all.extend(large());
    all.extend(errors());
    all.extend([write_and_flush(), readonly(), readonly_below(), no_context(), no_write()]);
    all.extend([Extents::Empty, Extents::Unordered, Extents::Gap].map(extents));
    all
}

/// Everything that can be asked for, one after another.
fn everything() -> Vec<Command> {
    use Operation::{BlockStatus, Cache, Flush, Read, Trim, Write, Zero};
    use flag::{FAST_ZERO, FUA, NO_HOLE, REQ_ONE};
    let mut all = vec![
        command(Read, 0, 512, 0),
        command(Write, 4096, 512, 0),
        command(Write, 8192, 512, FUA),
        command(Flush, 0, 0, 0),
        command(Trim, 4096, 4096, 0),
        command(Trim, 8192, 4096, FUA),
    ];
    let zero = [0, NO_HOLE, FUA, FUA | NO_HOLE, FAST_ZERO, FAST_ZERO | NO_HOLE, FAST_ZERO | FUA];
    all.extend(zero.map(|flags| command(Zero, 65536, 4096, flags)));
    all.extend([command(Cache, 0, 65536, 0), command(BlockStatus, 0, 1 << 20, 0)]);
    all.push(command(BlockStatus, 0, 1 << 20, REQ_ONE));
    all
}

/// So many clients, one after another, who ask for all that they are offered.
fn visits(clients: usize) -> Vec<Step> {
    let visit = || [connect(1), go(1, ""), Step::Offered(1, everything()), Step::Disconnect(1)];
    (0..clients).flat_map(|_| visit()).collect()
}

/// can_zero and can_fua of a plugin.
fn pairs() -> impl Iterator<Item = (i64, i64)> {
    [0, 1].into_iter().flat_map(|zero| [0, 1, 2].map(|fua| (zero, fua)))
}

const BOTH: &[i64] = &[0, 1];
const THREE: &[i64] = &[0, 1, 2];

/// The layer gives these answers in all combinations, another one to each client. Returns how many there are.
fn cycle(behaviour: &mut Behaviour, answers: &[(Callback, &[i64])]) -> usize {
    behaviour.cycle = answers.iter().map(|(query, values)| (*query, values.to_vec())).collect();
    combinations(answers)
}

fn combinations(answers: &[(Callback, &[i64])]) -> usize {
    answers.iter().map(|(_, values)| values.len()).product()
}

fn plugin(zero: i64, fua: i64) -> Scenario {
    let answers: &[(Callback, &[i64])] = &[
        (Callback::CanZero, &[zero]),
        (Callback::CanFua, &[fua]),
        (Callback::CanCache, THREE),
        (Callback::CanFlush, BOTH),
        (Callback::CanExtents, BOTH),
        (Callback::CanFastZero, BOTH),
        (Callback::CanMultiConn, BOTH),
    ];
    let stack = Stack::reference(1).with(0, |plugin| {
        cycle(plugin, answers);
    });
    Scenario::new(
        format!("answers/plugin/zero-{zero}-fua-{fua}"),
        "a plugin with these answers to can_zero and can_fua, and every combination of the others",
        stack,
    )
    .script(visits(combinations(answers)))
    .unordered()
}

/// A filter offers what the plugin can do or the server can make up for it, and no more.
fn filter(zero: i64, fua: i64, cache: i64) -> Scenario {
    let as_good = |answer: i64| if answer == 0 { THREE.get(..1).unwrap_or(THREE) } else { THREE };
    let answers: &[(Callback, &[i64])] = &[
        (Callback::CanZero, THREE),
        (Callback::CanFua, as_good(fua)),
        (Callback::CanCache, as_good(cache)),
        (Callback::CanFlush, BOTH),
        (Callback::CanExtents, BOTH),
        (Callback::CanFastZero, BOTH),
    ];
    let stack = Stack::reference(1)
        .with(0, |plugin| {
            plugin.answers.extend([
                (Callback::CanZero, zero),
                (Callback::CanFua, fua),
                (Callback::CanCache, cache),
            ]);
        })
        .with(1, |filter| {
            cycle(filter, answers);
        });
    Scenario::new(
        format!("answers/filter/zero-{zero}-fua-{fua}-cache-{cache}"),
        "every combination of a filter's answers, over a plugin with these",
        stack,
    )
    .script(visits(combinations(answers)))
    .unordered()
}

/// What a plugin does not have; it answers the other questions in all ways that it can keep to.
const LACKING: &[(&str, &[Callback])] = &[
    ("zero", &[Callback::Zero]),
    ("zero-and-questions", &[Callback::Zero, Callback::CanZero, Callback::CanFastZero]),
    ("can_zero", &[Callback::CanZero]),
    ("can_fast_zero", &[Callback::CanFastZero]),
    ("can_fua", &[Callback::CanFua]),
    ("flush-and-questions", &[Callback::Flush, Callback::CanFlush, Callback::CanFua]),
    ("can_flush", &[Callback::CanFlush]),
    ("cache", &[Callback::Cache]),
    ("cache-and-question", &[Callback::Cache, Callback::CanCache]),
    ("can_cache", &[Callback::CanCache]),
    ("extents-and-question", &[Callback::Extents, Callback::CanExtents]),
    ("can_extents", &[Callback::CanExtents]),
    ("trim-and-question", &[Callback::Trim, Callback::CanTrim]),
    ("can_trim", &[Callback::CanTrim]),
    ("can_multi_conn", &[Callback::CanMultiConn]),
    ("can_write", &[Callback::CanWrite]),
    ("pwrite-and-question", &[Callback::Pwrite, Callback::CanWrite]),
];

/// can_zero, can_fua and can_cache, which have the most to do with each other.
const CENTRAL: &[(Callback, &[i64])] =
    &[(Callback::CanZero, BOTH), (Callback::CanFua, THREE), (Callback::CanCache, THREE)];

fn lacking(name: &str, absent: &[Callback]) -> Scenario {
    let answers: Vec<_> = CENTRAL.iter().copied().filter(|(query, _)| !absent.contains(query)).collect();
    let stack = Stack::reference(1).with(0, |plugin| {
        plugin.absent.extend(absent);
        cycle(plugin, &answers);
    });
    Scenario::new(
        format!("answers/plugin-lacks/{name}"),
        "a plugin that does not have these callbacks",
        stack,
    )
    .script(visits(combinations(&answers)))
    .unordered()
}

const FILTER_LACKING: &[Callback] = &[
    Callback::Pread,
    Callback::Pwrite,
    Callback::Flush,
    Callback::Trim,
    Callback::Zero,
    Callback::Extents,
    Callback::Cache,
];

fn filter_lacking(callback: Callback) -> Scenario {
    let stack = Stack::reference(2)
        .with(0, |plugin| {
            cycle(plugin, CENTRAL);
        })
        .with(2, |filter| {
            filter.absent.insert(callback);
        });
    Scenario::new(
        format!("answers/filter-lacks/{callback}"),
        "an outermost filter that does not have this callback",
        stack,
    )
    .script(visits(combinations(CENTRAL)))
    .unordered()
}

/// A disk that is large enough, on which the writes of zeroes are looked at.
fn large_stack(plugin: impl FnOnce(&mut Behaviour)) -> Stack {
    Stack::reference(1).with(0, |behaviour| {
        behaviour.answers.insert(Callback::GetSize, LARGE_DISK);
        behaviour.looks_at_writes = true;
        plugin(behaviour);
    })
}

fn large_requests() -> Vec<Command> {
    use Operation::{BlockStatus, Cache, Trim, Zero};
    [(Zero, 0), (Zero, flag::FUA), (Zero, flag::FAST_ZERO), (Trim, flag::FUA), (Cache, 0), (BlockStatus, 0)]
        .map(|(operation, flags)| command(operation, 4096, LARGE, flags))
        .to_vec()
}

fn large() -> Vec<Scenario> {
    let visit = || [connect(1), go(1, ""), Step::Offered(1, large_requests()), Step::Disconnect(1)];
    let scenario = |name: &str, about, stack| {
        let scenario = Scenario::new(format!("answers/large/{name}"), about, stack).script(visit());
        if name == "filter-emulates/fua-1" { scenario } else { scenario.unordered() }
    };
    let mut all = vec![scenario(
        "native",
        "ranges that are larger than a write can be, and callbacks for all of them",
        large_stack(|_| ()),
    )];
    for fua in [1, 2] {
        let answers = move |behaviour: &mut Behaviour| {
            behaviour.answers.extend([(Callback::CanFua, fua), (Callback::CanCache, 1)]);
        };
        all.push(scenario(
            &format!("plugin-emulates/fua-{fua}"),
            "a plugin that wants large ranges written and read instead of zeroed and cached",
            large_stack(|plugin| {
                answers(plugin);
                plugin.answers.insert(Callback::CanZero, 0);
            }),
        ));
        all.push(scenario(
            &format!("plugin-fails/fua-{fua}"),
            "a plugin that cannot zero a large range, and says so when it is asked to",
            large_stack(|plugin| {
                answers(plugin);
                plugin.fail.push(unsupported(Callback::Zero));
            }),
        ));
        all.push(scenario(
            &format!("filter-emulates/fua-{fua}"),
            "a filter that wants large ranges written and read instead of zeroed and cached",
            large_stack(answers).with(1, |filter| {
                filter.answers.insert(Callback::CanZero, 1);
            }),
        ));
    }
    all.push(scenario(
        "no-filter",
        "a plugin alone that wants large ranges written and read",
        Stack::reference(0).with(0, |plugin| {
            plugin.answers.extend([
                (Callback::GetSize, LARGE_DISK),
                (Callback::CanZero, 0),
                (Callback::CanFua, 1),
                (Callback::CanCache, 1),
            ]);
            plugin.looks_at_writes = true;
        }),
    ));
    all.push(scenario(
        "piece-fails",
        "a plugin whose second write fails in the middle of a large range of zeroes",
        large_stack(|plugin| {
            plugin.answers.extend([(Callback::CanZero, 0), (Callback::CanFua, 1)]);
            plugin.fail.push(nth(Callback::Pwrite, 2));
        }),
    ));
    all
}

/// Every call of this callback fails, because it is not supported.
fn unsupported(callback: Callback) -> Failure {
    Failure { errno: libc::EOPNOTSUPP, ..always(callback) }
}

/// Requests that fail, each in a stack of its own.
fn errors() -> Vec<Scenario> {
    let scenario = |name: &str, about, stack: Stack| {
        let scenario = Scenario::new(format!("answers/fails/{name}"), about, stack).script(visits(1));
        if name == "zero-unsupported" || name == "write-with-fua" { scenario } else { scenario.unordered() }
    };
    let emulating = |filters| {
        Stack::reference(filters).with(0, |plugin| {
            plugin.answers.insert(Callback::CanFua, 1);
        })
    };
    let mut all = Vec::new();
    for filters in [0, 2] {
        let name = |what: &str| if filters == 0 { format!("{what}-alone") } else { what.to_owned() };
        all.push(scenario(
            &name("zero-unsupported"),
            "a plugin that cannot zero, whether fast or not",
            emulating(filters).with(0, |plugin| plugin.fail.push(unsupported(Callback::Zero))),
        ));
        all.push(scenario(
            &name("zero"),
            "a plugin whose zero fails for good",
            emulating(filters).with(0, |plugin| plugin.fail.push(always(Callback::Zero))),
        ));
        all.push(scenario(
            &name("write-with-fua"),
            "a plugin whose writes fail, with and without FUA, which the server emulates",
            emulating(filters).with(0, |plugin| {
                plugin.fail.extend([always(Callback::Pwrite), always(Callback::Trim)]);
            }),
        ));
        all.push(scenario(
            &name("flush"),
            "a plugin whose flush fails, for the client and in place of FUA",
            emulating(filters).with(0, |plugin| plugin.fail.push(always(Callback::Flush))),
        ));
    }
    all.push(scenario(
        "everything",
        "a filter whose requests fail, all of them",
        Stack::reference(2).with(1, |filter| {
            filter.fail.extend(FILTER_LACKING.iter().map(|callback| always(*callback)));
        }),
    ));
    all
}

/// Emulated FUA needs the plugin's flush even where the client is not offered any.
fn write_and_flush() -> Scenario {
    let stack = Stack::reference(2).with(0, |plugin| {
        plugin.answers.extend([(Callback::CanFlush, 0), (Callback::CanFua, 1), (Callback::CanZero, 0)]);
    });
    Scenario::new("answers/flush-for-fua", "a plugin that flushes only in place of FUA", stack)
        .script(visits(1))
}

/// Requests that write, though nobody has offered that.
fn writes() -> Vec<Step> {
    use Operation::{Trim, Write, Zero};
    let refused = [command(Write, 0, 512, 0), command(Trim, 0, 512, 0), command(Zero, 0, 512, 0)];
    let mut script = vec![connect(1), go(1, "")];
    script.extend(refused.map(|request| Step::Request(1, request).fails()));
    script.extend([Step::Request(1, command(Operation::Read, 0, 512, 0)), Step::Disconnect(1)]);
    script
}

fn readonly() -> Scenario {
    let stack = Stack { readonly: true, ..Stack::reference(2) };
    Scenario::new("answers/readonly", "a client that writes although the server was started with -r", stack)
        .script(writes())
}

fn no_write() -> Scenario {
    let stack = Stack::reference(2).with(1, |filter| {
        filter.answers.insert(Callback::CanWrite, 0);
    });
    Scenario::new("answers/no-write", "a client that writes although a filter has said no to it", stack)
        .script(writes())
}

fn readonly_below() -> Scenario {
    let stack = Stack::reference(2).with(1, |filter| filter.opens_readonly = true);
    Scenario::new(
        "answers/readonly-below",
        "a filter that opens the plugin read-only, and a client that writes",
        stack,
    )
    .script(writes())
}

fn no_context() -> Scenario {
    let wishes = Wishes { structured_replies: false, ..Wishes::default() };
    Scenario::new(
        "answers/no-context",
        "a client that has not negotiated structured replies, and asks for extents all the same",
        Stack::reference(2),
    )
    .script([
        Step::Connect(1, wishes),
        go(1, ""),
        Step::Request(1, command(Operation::BlockStatus, 0, 65536, 0)).fails(),
        Step::Request(1, command(Operation::Read, 0, 512, 0)),
        Step::Disconnect(1),
        Step::ConnectRaw(2),
        go(2, ""),
        Step::Request(2, command(Operation::BlockStatus, 0, 65536, 0)).fails(),
        Step::Request(2, command(Operation::Read, 0, 512, 0)),
        // From 1.42 on nbdkit waits for the client to close after NBD_CMD_DISC.
        Step::HangUp(2),
    ])
}

fn extents(extents: Extents) -> Scenario {
    let stack = Stack::reference(2).with(0, |plugin| plugin.extents = extents);
    let name = format!("{extents:?}").to_lowercase();
    let status = command(Operation::BlockStatus, 4096, 65536, 0);
    let step = Step::Request(1, status);
    Scenario::new(format!("answers/extents/{name}"), "a plugin whose list of extents is not one", stack)
        .script([
            connect(1),
            go(1, ""),
            step.fails(),
            Step::Request(1, command(Operation::Read, 0, 512, 0)),
            Step::Disconnect(1),
        ])
}
