//! What a client says before it is served, in orders that libnbd does not know.

use layers_trace::{Callback, Operation};

use super::super::{Scenario, Step, command};
use super::{always, connect, go, info, nth, nth_after_next, read, say};
use crate::client::raw::{Message, info as kind};
use crate::run::stack::Stack;

pub(super) fn all() -> Vec<Scenario> {
    let mut all = vec![
        pipelined(),
        repeated_infos(),
        no_infos(),
        abort(),
        block_status(),
        no_meta_context(),
        no_structured_replies(),
        export_name(),
        default_null(),
        oldstyle(),
    ];
    for (name, failing, nth) in FAILURES {
        let fail = |stack: Stack| stack.with(*failing, |behaviour| behaviour.fail.push(nth(1)));
        all.push(dropped(&format!("export-name/fails/{name}"), fail(Stack::reference(2)), true));
        all.push(dropped(&format!("oldstyle/fails/{name}"), fail(oldstyle_stack()), false));
    }
    all.extend((1..=2).map(finalize_after_info));
    all
}

/// A failure of one layer's first call of something, with its name.
type Failing = (&'static str, u8, fn(u32) -> layers_behaviour::Failure);

/// What ends a connection whose client cannot be told of it.
const FAILURES: &[Failing] = &[
    ("open/L0", 0, |n| nth(Callback::Open, n)),
    ("open/L1", 1, |n| nth(Callback::Open, n)),
    ("open/L2", 2, |n| nth(Callback::Open, n)),
    ("open/L1-after-next", 1, |n| nth_after_next(Callback::Open, n)),
    ("open/L2-after-next", 2, |n| nth_after_next(Callback::Open, n)),
    ("prepare/L1", 1, |n| nth(Callback::Prepare, n)),
    ("prepare/L2", 2, |n| nth(Callback::Prepare, n)),
    ("get_size/L0", 0, |n| nth(Callback::GetSize, n)),
    ("can_write/L1", 1, |n| nth(Callback::CanWrite, n)),
];

/// The first client is dropped, and the second one served.
fn dropped(name: &str, stack: Stack, newstyle: bool) -> Scenario {
    let choose = |client| newstyle.then(|| say(client, [Message::ExportName(String::new())]));
    let mut script = Vec::new();
    if newstyle {
        script.push(Step::ConnectRaw(1));
        script.extend(choose(1).map(Step::fails));
        script.extend([Step::Dropped(1), Step::HangUp(1)]);
    } else {
        script.push(Step::ConnectRaw(1).fails());
    }
    script.push(Step::ConnectRaw(2));
    script.extend(choose(2));
    script.extend([read(2), Step::Disconnect(2)]);
    let about = "a failure for a client that has no way to be told of it, and must be dropped";
    Scenario::new(name, about, stack).script(script).unordered()
}

/// A server that does not negotiate: who connects has chosen.
fn oldstyle_stack() -> Stack {
    Stack { arguments: vec!["-o".to_owned()], ..Stack::reference(2) }
}

fn oldstyle() -> Scenario {
    Scenario::new(
        "oldstyle/hang-up",
        "the oldstyle protocol, and a client that closes its socket",
        oldstyle_stack(),
    )
    .script([Step::ConnectRaw(1), read(1), Step::HangUp(1)])
}

fn export_name() -> Scenario {
    Scenario::new(
        "export-name/served",
        "NBD_OPT_EXPORT_NAME, which ends the negotiation without an answer",
        Stack::reference(2),
    )
    .script([
        Step::ConnectRaw(1),
        say(1, [Message::List]),
        say(1, [Message::ExportName(String::new())]),
        read(1),
        Step::Disconnect(1),
        Step::ConnectRaw(2),
        info(2, "a"),
        say(2, [Message::ExportName("a".to_owned())]),
        read(2),
        Step::Disconnect(2),
    ])
}

fn default_null() -> Scenario {
    let stack = Stack::reference(2).with(0, |plugin| {
        plugin.default_export = Some(layers_behaviour::Nullable::Null);
    });
    Scenario::new(
        "export-name/default-null",
        "NBD_OPT_EXPORT_NAME for the default export of a plugin that has none",
        stack,
    )
    .script([
        Step::ConnectRaw(1),
        say(1, [Message::ExportName(String::new())]).fails(),
        Step::Dropped(1),
        Step::HangUp(1),
        Step::ConnectRaw(2),
        say(2, [Message::ExportName("x".to_owned())]),
        read(2),
        Step::Disconnect(2),
    ])
}

fn pipelined() -> Scenario {
    let named = |name: &str| (name.to_owned(), vec![kind::NAME]);
    let (first, second, third) = (named("a"), named(""), named("c"));
    Scenario::new("options/pipelined", "a list, two questions and a choice in one write", Stack::reference(2))
        .script([
            Step::ConnectRaw(1),
            say(
                1,
                [
                    Message::List,
                    Message::Info(first.0, first.1),
                    Message::Info(second.0, second.1),
                    Message::Go(third.0, third.1),
                ],
            ),
            read(1),
            Step::Disconnect(1),
        ])
}

fn repeated_infos() -> Scenario {
    let infos = vec![kind::NAME, kind::DESCRIPTION, kind::DESCRIPTION, kind::BLOCK_SIZE, kind::BLOCK_SIZE];
    Scenario::new(
        "options/repeated-infos",
        "a client that asks twice for the description and the block size",
        Stack::reference(2),
    )
    .script([
        Step::ConnectRaw(1),
        say(1, [Message::Go(String::new(), infos)]),
        read(1),
        Step::Disconnect(1),
    ])
}

fn no_infos() -> Scenario {
    Scenario::new("options/no-infos", "a client that asks for nothing about its export", Stack::reference(2))
        .script([
            Step::ConnectRaw(1),
            say(1, [Message::Info("a".to_owned(), Vec::new())]),
            say(1, [Message::Go(String::new(), Vec::new())]),
            read(1),
            Step::Disconnect(1),
        ])
}

fn abort() -> Scenario {
    Scenario::new("options/abort", "a client that only says goodbye", Stack::reference(2)).script([
        Step::ConnectRaw(1),
        Step::Abort(1),
        Step::ConnectRaw(2),
        say(2, [Message::List, Message::Abort]),
    ])
}

fn asks_block_status(client: u32) -> Step {
    Step::Request(client, command(Operation::BlockStatus, 0, 65536, 0))
}

fn contexts() -> Message {
    Message::SetMetaContext(String::new(), vec!["base:allocation".to_owned()])
}

fn block_status() -> Scenario {
    Scenario::new(
        "options/meta-context",
        "structured replies and base:allocation, then block status",
        Stack::reference(2),
    )
    .script([
        Step::ConnectRaw(1),
        say(1, [Message::StructuredReply, contexts()]),
        go(1, ""),
        asks_block_status(1),
        read(1),
        Step::Disconnect(1),
    ])
}

fn no_meta_context() -> Scenario {
    Scenario::new(
        "options/no-meta-context",
        "block status for clients that have not asked for base:allocation",
        Stack::reference(2),
    )
    .script([
        Step::ConnectRaw(1),
        go(1, ""),
        asks_block_status(1).fails(),
        Step::Disconnect(1),
        Step::ConnectRaw(2),
        say(2, [Message::StructuredReply]),
        go(2, ""),
        asks_block_status(2).fails(),
        read(2),
        Step::Disconnect(2),
    ])
}

fn no_structured_replies() -> Scenario {
    let stack = Stack { no_structured_replies: true, ..Stack::reference(2) };
    Scenario::new(
        "options/no-structured-replies-raw",
        "block status on a server that does without structured replies",
        stack,
    )
    .script([
        Step::ConnectRaw(1),
        say(1, [Message::StructuredReply]).fails(),
        say(1, [contexts()]).fails(),
        go(1, ""),
        asks_block_status(1).fails(),
        read(1),
        Step::Disconnect(1),
    ])
}

fn finalize_after_info(layer: u8) -> Scenario {
    let stack = Stack::reference(2).with(layer, |filter| filter.fail.push(always(Callback::Finalize)));
    Scenario::new(
        format!("fail/finalize/L{layer}-info"),
        "finalize of this filter fails after NBD_OPT_INFO: the client must go",
        stack,
    )
    .script([
        Step::ConnectRaw(1),
        info(1, "a").perhaps(),
        Step::Dropped(1),
        Step::HangUp(1),
        connect(2),
        Step::Abort(2),
    ])
}
