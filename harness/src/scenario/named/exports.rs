//! Listing and naming exports, and what negotiation asks.

use layers_behaviour::Nullable;
use layers_trace::Callback;

use super::super::{Scenario, Step};
use super::{always, connect, go, info, nth, nth_after_next, read};
use crate::run::stack::Stack;

pub(super) fn all() -> Vec<Scenario> {
    vec![
        list_twice(),
        list_fails(),
        list_from_default(),
        list_asks_default(),
        list_of_default_only(),
        info_fails(),
        renamed(),
        default_null(),
        default_too_long(),
        bad_block_size(),
        block_size_fails(),
        negative_size(),
        several_listed(),
        oldstyle(),
        oldstyle_open_fails(),
    ]
}

fn list_twice() -> Scenario {
    Scenario::new("exports/list-twice", "a client that lists the exports twice", Stack::reference(2))
        .script([connect(1), Step::List(1), Step::List(1).perhaps(), go(1, ""), Step::Disconnect(1)])
}

fn several_listed() -> Scenario {
    let stack = Stack::reference(2).with(0, |plugin| {
        plugin.exports = Some(vec![("a".into(), "the first".into()), ("b".into(), String::new())]);
    });
    Scenario::new("exports/several", "a plugin with two exports, both visited", stack).script([
        connect(1),
        Step::List(1),
        info(1, "a"),
        go(1, "b"),
        read(1),
        Step::Disconnect(1),
    ])
}

fn list_fails() -> Scenario {
    let stack = Stack::reference(2).with(0, |plugin| plugin.fail.push(always(Callback::ListExports)));
    Scenario::new("exports/list-fails", "a plugin that cannot list its exports", stack).script([
        connect(1),
        Step::List(1).fails(),
        go(1, ""),
        read(1),
        Step::Disconnect(1),
    ])
}

fn list_asks_default() -> Scenario {
    let stack = (1..=2).fold(Stack::reference(2), |stack, layer| {
        stack.with(layer, |layer| {
            layer.absent.insert(Callback::DefaultExport);
        })
    });
    let stack = stack.with(0, |plugin| {
        plugin.absent.insert(Callback::ListExports);
        plugin.default_export = Some(Nullable::Text("main".into()));
    });
    Scenario::new(
        "exports/list-asks-default",
        "a list made by filters, for which the plugin is asked its default",
        stack,
    )
    .script([connect(1), Step::List(1), go(1, ""), read(1), Step::Disconnect(1)])
}

fn list_from_default() -> Scenario {
    let stack = Stack::reference(2).with(0, |plugin| {
        plugin.absent.insert(Callback::ListExports);
        plugin.default_export = Some(Nullable::Text("main".into()));
    });
    Scenario::new("exports/list-from-default", "a plugin without list_exports", stack).script([
        connect(1),
        Step::List(1),
        go(1, "main"),
        read(1),
        Step::Disconnect(1),
    ])
}

/// Nobody lists, so the server alone makes the list.
fn list_of_default_only() -> Scenario {
    let stack = (0..=2).fold(Stack::reference(2), |stack, layer| {
        stack.with(layer, |layer| {
            layer.absent.insert(Callback::ListExports);
        })
    });
    let stack = stack.with(0, |plugin| plugin.default_export = Some(Nullable::Text("main".into())));
    Scenario::new("exports/list-of-default-only", "a stack in which no layer has list_exports", stack)
        .script([connect(1), Step::List(1), go(1, ""), read(1), Step::Disconnect(1)])
}

fn info_fails() -> Scenario {
    let stack = Stack::reference(2).with(1, |filter| filter.fail.push(nth_after_next(Callback::Open, 1)));
    Scenario::new("exports/info-fails", "a filter whose open fails for a client that only asks", stack)
        .script([connect(1), info(1, "a").fails(), info(1, "a"), go(1, "b"), read(1), Step::Disconnect(1)])
}

fn renamed() -> Scenario {
    let stack = Stack::reference(2).with(0, |plugin| {
        plugin.default_export = Some(Nullable::Text("main".into()));
        plugin.export_description = Some(Nullable::Text("the disk".into()));
    });
    Scenario::new("exports/default-named", "a default export with a name of its own", stack).script([
        connect(1),
        info(1, ""),
        go(1, ""),
        read(1),
        Step::Disconnect(1),
    ])
}

fn default_null() -> Scenario {
    let stack = Stack::reference(2).with(0, |plugin| plugin.default_export = Some(Nullable::Null));
    Scenario::new("exports/default-null", "a plugin without a default export", stack).script([
        connect(1),
        go(1, "").fails(),
        go(1, "x"),
        read(1),
        Step::Disconnect(1),
    ])
}

fn default_too_long() -> Scenario {
    let stack = Stack::reference(2).with(0, |plugin| {
        plugin.default_export = Some(Nullable::Text("x".repeat(5000)));
    });
    Scenario::new(
        "exports/default-too-long",
        "a default export with a name beyond the protocol's limit",
        stack,
    )
    .script([connect(1), go(1, "").fails(), go(1, "x"), Step::Disconnect(1)])
}

fn bad_block_size() -> Scenario {
    let stack = Stack::reference(2).with(0, |plugin| plugin.block_size = Some([3, 4096, u32::MAX]));
    Scenario::new(
        "negotiation/bad-block-size",
        "a plugin with a minimum block size that is no power of two",
        stack,
    )
    .script([connect(1), go(1, "").fails()])
}

fn block_size_fails() -> Scenario {
    let stack = Stack::reference(2).with(0, |plugin| plugin.fail.push(always(Callback::BlockSize)));
    Scenario::new("negotiation/block-size-fails", "a plugin whose block_size fails", stack)
        .script([connect(1), go(1, "").fails()])
}

fn negative_size() -> Scenario {
    let stack = Stack::reference(2).with(0, |plugin| plugin.fail.push(nth(Callback::GetSize, 1)));
    Scenario::new(
        "negotiation/size-fails",
        "a plugin whose first get_size fails; the client tries again",
        stack,
    )
    .script([connect(1), go(1, "").fails(), go(1, ""), read(1), Step::Disconnect(1)])
}

/// A server that does not negotiate: who connects has chosen.
fn oldstyle_stack() -> Stack {
    Stack { arguments: vec!["-o".to_owned()], ..Stack::reference(2) }
}

fn oldstyle() -> Scenario {
    Scenario::new(
        "oldstyle/served",
        "the oldstyle protocol, in which nothing is negotiated",
        oldstyle_stack(),
    )
    .script([connect(1), read(1), Step::Disconnect(1)])
}

fn oldstyle_open_fails() -> Scenario {
    let stack = oldstyle_stack().with(0, |plugin| plugin.fail.push(nth(Callback::Open, 1)));
    Scenario::new("oldstyle/open-fails", "the oldstyle protocol, and a plugin whose first open fails", stack)
        .script([connect(1).fails(), connect(2), read(2), Step::Disconnect(2)])
}
