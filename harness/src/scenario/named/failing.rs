//! Callbacks of a connection that fail: each of them, at each layer.

use layers_behaviour::Failure;
use layers_trace::{Callback, Operation};

use super::super::{Scenario, Step, command};
use super::{always, connect, go, nth, nth_after_next, read};
use crate::run::stack::Stack;

pub(super) fn all() -> Vec<Scenario> {
    let mut all = Vec::new();
    all.extend((0..=2).map(preconnect));
    all.extend((0..=2).map(open));
    all.extend((1..=2).map(open_after_next));
    all.extend((1..=2).map(prepare));
    all.extend(QUERIES.iter().flat_map(|query| (0..=2).map(|layer| question(*query, layer))));
    all.extend((0..=2).map(block_size));
    all.extend((0..=2).flat_map(|layer| [list_exports(layer), default_export(layer)]));
    all.extend((1..=2).map(finalize));
    all.extend((1..=2).map(finalize_of_attempt));
    for (callback, operation, errno) in REQUESTS {
        all.extend((0..=2).map(|layer| request(callback, operation, errno, layer)));
        all.extend((1..=2).map(|layer| request_after_next(callback, operation, layer)));
    }
    all
}

/// What negotiation asks of every layer.
const QUERIES: [Callback; 11] = [
    Callback::GetSize,
    Callback::CanWrite,
    Callback::CanFlush,
    Callback::IsRotational,
    Callback::CanTrim,
    Callback::CanZero,
    Callback::CanFastZero,
    Callback::CanExtents,
    Callback::CanFua,
    Callback::CanMultiConn,
    Callback::CanCache,
];

/// The callbacks of requests, and an errno that each may well fail with.
const REQUESTS: [(Callback, Operation, i32); 7] = [
    (Callback::Pread, Operation::Read, libc::EIO),
    (Callback::Pwrite, Operation::Write, libc::ENOSPC),
    (Callback::Flush, Operation::Flush, libc::EIO),
    (Callback::Trim, Operation::Trim, libc::EPERM),
    (Callback::Zero, Operation::Zero, libc::ENOSPC),
    (Callback::Extents, Operation::BlockStatus, libc::ENOMEM),
    (Callback::Cache, Operation::Cache, libc::EINVAL),
];

/// A first attempt that fails, a second one that does not, on one connection.
fn try_twice() -> [Step; 5] {
    [connect(1), go(1, "").fails(), go(1, ""), read(1), Step::Disconnect(1)]
}

fn preconnect(layer: u8) -> Scenario {
    let stack = Stack::reference(2).with(layer, |b| b.fail.push(nth(Callback::Preconnect, 1)));
    Scenario::new(format!("refuse/preconnect/L{layer}"), "this layer refuses the first connection", stack)
        .script([connect(1).fails(), connect(2), go(2, ""), read(2), Step::Disconnect(2)])
}

fn open(layer: u8) -> Scenario {
    let stack = Stack::reference(2).with(layer, |b| b.fail.push(nth(Callback::Open, 1)));
    Scenario::new(format!("fail/open/L{layer}"), "the first open of this layer fails", stack)
        .script(try_twice())
}

fn open_after_next(layer: u8) -> Scenario {
    let stack = Stack::reference(2).with(layer, |b| b.fail.push(nth_after_next(Callback::Open, 1)));
    Scenario::new(
        format!("fail/open/L{layer}-after-next"),
        "the first open of this filter fails when the layers below are open",
        stack,
    )
    .script(try_twice())
}

fn prepare(layer: u8) -> Scenario {
    let stack = Stack::reference(2).with(layer, |b| b.fail.push(nth(Callback::Prepare, 1)));
    Scenario::new(format!("fail/prepare/L{layer}"), "the first prepare of this filter fails", stack)
        .script(try_twice())
}

fn question(query: Callback, layer: u8) -> Scenario {
    let stack = Stack::reference(2).with(layer, |b| b.fail.push(nth(query, 1)));
    Scenario::new(
        format!("fail/{query}/L{layer}"),
        "the first time that this is asked of this layer fails",
        stack,
    )
    .script(try_twice())
}

/// The server drops such a client.
fn block_size(layer: u8) -> Scenario {
    let stack = Stack::reference(2).with(layer, |b| b.fail.push(nth(Callback::BlockSize, 1)));
    Scenario::new(format!("fail/block_size/L{layer}"), "the first block_size of this layer fails", stack)
        .script([connect(1), go(1, "").fails(), connect(2), go(2, ""), read(2), Step::Disconnect(2)])
}

fn list_exports(layer: u8) -> Scenario {
    let stack = Stack::reference(2).with(layer, |b| b.fail.push(nth(Callback::ListExports, 1)));
    Scenario::new(format!("fail/list_exports/L{layer}"), "the first list_exports of this layer fails", stack)
        .script([
            connect(1),
            Step::List(1).fails(),
            Step::List(1).perhaps(),
            go(1, ""),
            read(1),
            Step::Disconnect(1),
        ])
}

fn default_export(layer: u8) -> Scenario {
    let stack = Stack::reference(2).with(layer, |b| b.fail.push(nth(Callback::DefaultExport, 1)));
    let about = "the first default_export of this layer fails, and the client names an export";
    Scenario::new(format!("fail/default_export/L{layer}"), about, stack).script([
        connect(1),
        go(1, "").fails(),
        go(1, "a"),
        read(1),
        Step::Disconnect(1),
    ])
}

fn finalize(layer: u8) -> Scenario {
    let stack = Stack::reference(2).with(layer, |b| b.fail.push(always(Callback::Finalize)));
    Scenario::new(format!("fail/finalize/L{layer}"), "finalize of this filter fails after normal use", stack)
        .script([connect(1), go(1, ""), read(1), Step::Disconnect(1)])
}

fn finalize_of_attempt(layer: u8) -> Scenario {
    let stack = Stack::reference(2)
        .with(0, |plugin| plugin.fail.push(nth(Callback::CanWrite, 1)))
        .with(layer, |filter| filter.fail.push(always(Callback::Finalize)));
    Scenario::new(
        format!("fail/finalize/L{layer}-of-attempt"),
        "finalize of this filter fails after an attempt that has failed",
        stack,
    )
    .script([connect(1), go(1, "").fails(), go(1, "").fails()])
}

fn request(callback: Callback, operation: Operation, errno: i32, layer: u8) -> Scenario {
    let failure = Failure { errno, ..nth(callback, 1) };
    fails_once(format!("fail/{callback}/L{layer}"), operation, failure, layer)
}

fn request_after_next(callback: Callback, operation: Operation, layer: u8) -> Scenario {
    let name = format!("fail/{callback}/L{layer}-after-next");
    fails_once(name, operation, nth_after_next(callback, 1), layer)
}

fn fails_once(name: String, operation: Operation, failure: Failure, layer: u8) -> Scenario {
    let stack = Stack::reference(2).with(layer, |b| b.fail.push(failure));
    let count = if operation == Operation::Flush { 0 } else { 512 };
    let step = || Step::Request(1, command(operation, 0, count, 0));
    Scenario::new(name, "the first request of this kind fails at this layer", stack).script([
        connect(1),
        go(1, ""),
        step().fails(),
        step(),
        Step::Disconnect(1),
    ])
}
