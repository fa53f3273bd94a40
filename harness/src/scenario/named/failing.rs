//! Callbacks of a connection that fail.

use layers_trace::Callback;

use super::super::{Scenario, Step};
use super::{always, connect, go, nth, nth_after_next, read};
use crate::stack::Stack;

pub(super) fn all() -> Vec<Scenario> {
    let mut all = Vec::new();
    all.extend((0..=2).map(preconnect));
    all.extend((0..=2).map(open));
    all.extend((1..=2).map(open_after_next));
    all.extend((1..=2).map(prepare));
    all.extend((0..=2).map(can_write));
    all.extend((1..=2).map(finalize));
    all.extend((1..=2).map(finalize_of_attempt));
    all.extend((0..=2).map(read_fails));
    all
}

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

fn can_write(layer: u8) -> Scenario {
    let stack = Stack::reference(2).with(layer, |b| b.fail.push(nth(Callback::CanWrite, 1)));
    Scenario::new(format!("fail/can_write/L{layer}"), "the first can_write of this layer fails", stack)
        .script(try_twice())
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

fn read_fails(layer: u8) -> Scenario {
    let stack = Stack::reference(2).with(layer, |b| b.fail.push(nth(Callback::Pread, 1)));
    Scenario::new(format!("fail/pread/L{layer}"), "the first read of this layer fails", stack).script([
        connect(1),
        go(1, ""),
        read(1).fails(),
        read(1),
        Step::Disconnect(1),
    ])
}
