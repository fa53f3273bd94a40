//! Filters that manage contexts themselves, or do with the layers below otherwise than to pass on.

use layers_behaviour::{Behaviour, Deed, Skip};
use layers_trace::{Callback, Operation};

use super::super::{Scenario, Step, command, one_of_every_request};
use super::{act, act_nth, connect, go, nth};
use crate::run::Parameter;
use crate::run::stack::Stack;

pub(super) fn all() -> Vec<Scenario> {
    let mut all = vec![swallowed_key(), skipped_config_complete(), skipped_open()];
    all.extend([&[1][..], &[2], &[1, 2]].map(shared));
    all.extend([
        extra_contexts(),
        own_context(),
        adopted_in_open(),
        reopened(),
        reopen_fails(),
        reopen_unfinalized(),
        retried(),
        retried_in_vain(),
        asked_late(),
        asked_late_at_once(),
        asked_again(),
        written_in_finalize(),
        asked_in_prepare(),
    ]);
    all
}

fn read(client: u32) -> Step {
    Step::Request(client, command(Operation::Read, 0, 512, 0))
}

fn visit() -> Vec<Step> {
    vec![connect(1), go(1, ""), read(1), read(1), Step::Disconnect(1)]
}

/// L2 above L1 above the plugin, of which L2 does something and writes down what it calls below.
fn with_outer(change: impl FnOnce(&mut Behaviour)) -> Stack {
    Stack::reference(2).with(2, |filter| {
        filter.log_below = true;
        change(filter);
    })
}

fn swallowed_key() -> Scenario {
    let parameter = |key: &str| Parameter { key: Some(key.to_owned()), value: "1M".to_owned() };
    let stack = with_outer(|filter| {
        filter.swallow.insert("own".to_owned());
    });
    let stack = stack.with(1, |filter| {
        filter.swallow.insert("inner".to_owned());
    });
    let stack = Stack { parameters: ["size", "own", "inner", "last"].map(parameter).into(), ..stack };
    Scenario::new("below/swallowed-key", "filters that keep parameters of theirs to themselves", stack)
        .script(visit())
}

fn skipped_config_complete() -> Scenario {
    let stack = with_outer(|filter| {
        filter.skip.insert(Skip::ConfigComplete);
    });
    Scenario::new("below/no-config-complete", "a filter that ends config_complete at itself", stack)
        .script(visit())
}

fn skipped_open() -> Scenario {
    let stack = with_outer(|filter| {
        filter.skip.insert(Skip::Open);
    });
    let requests = one_of_every_request().into_iter().map(|request| Step::Request(1, request));
    Scenario::new("below/no-open", "a filter that opens nothing below, and serves by itself", stack)
        .script([connect(1), go(1, "")].into_iter().chain(requests).chain([Step::Disconnect(1)]))
}

fn shared(layers: &[u8]) -> Scenario {
    let stack = layers.iter().fold(Stack::reference(2), |stack, layer| {
        stack.with(*layer, |filter| {
            filter.log_below = true;
            filter.acts = vec![
                act(Callback::AfterFork, Deed::OpenShared),
                act(Callback::Pread, Deed::ReadShared),
                act(Callback::Cleanup, Deed::CloseShared),
            ];
        })
    });
    let stack = stack.with(0, |plugin| plugin.acts.push(act(Callback::Open, Deed::Identify)));
    let names: Vec<String> = layers.iter().map(|layer| format!("L{layer}")).collect();
    let name = format!("contexts/shared/{}", names.join("-"));
    Scenario::new(
        name,
        "filters with a context that all connections share, from after_fork to cleanup",
        stack,
    )
    .script(visit())
}

/// nbdkit 1.32 cannot do this: it aborts.
fn extra_contexts() -> Scenario {
    let stack = with_outer(|filter| {
        filter.acts = vec![
            act(Callback::Open, Deed::OpenExtra),
            act(Callback::Pread, Deed::ReadExtra),
            act(Callback::Finalize, Deed::CloseExtra),
        ];
    });
    Scenario::new("contexts/extra", "a filter with a context beside the one it was given", stack)
        .script(visit())
        .unordered()
}

/// The handle never has a `next`.
fn own_context() -> Scenario {
    let stack = with_outer(|filter| {
        filter.skip.insert(Skip::Open);
        filter.acts = vec![
            act(Callback::Open, Deed::OpenExtra),
            act(Callback::Pread, Deed::ReadExtra),
            act(Callback::Finalize, Deed::CloseExtra),
        ];
    });
    let about = "a filter that keeps the only context to itself, and closes it in finalize";
    Scenario::new("contexts/own", about, stack).script(visit())
}

fn adopted_in_open() -> Scenario {
    let stack = with_outer(|filter| {
        filter.skip.insert(Skip::Open);
        filter.acts.push(act(Callback::Open, Deed::Adopt));
    });
    Scenario::new(
        "contexts/adopted",
        "a filter that opens a context by itself where others pass on, and leaves the rest to the server",
        stack,
    )
    .script(visit())
}

/// Requests come one at a time: a context must not be taken from under another one.
fn reopening() -> Stack {
    with_outer(|filter| {
        filter.answers.insert(Callback::ThreadModel, 2);
        filter.acts = vec![act_nth(Callback::Pread, 2, Deed::Reopen)];
    })
}

fn reopened() -> Scenario {
    Scenario::new("contexts/reopened", "a filter that reopens what is below between requests", reopening())
        .script([connect(1), go(1, ""), read(1), read(1), read(1), Step::Disconnect(1)])
}

fn reopen_fails() -> Scenario {
    let stack = reopening().with(0, |plugin| plugin.fail.push(nth(Callback::Open, 2)));
    Scenario::new("contexts/reopen-fails", "a filter that cannot reopen what is below", stack).script([
        connect(1),
        go(1, ""),
        read(1),
        read(1).fails(),
        read(1).fails(),
        Step::Disconnect(1),
    ])
}

fn reopen_unfinalized() -> Scenario {
    let stack = reopening().with(1, |filter| filter.fail.push(nth(Callback::Finalize, 1)));
    Scenario::new(
        "contexts/reopen-unfinalized",
        "a filter that reopens what is below, where finalize fails",
        stack,
    )
    .script([connect(1), go(1, ""), read(1), read(1).fails(), read(1).fails(), Step::Disconnect(1)])
}

/// nbdkit's own retry filter, as L2 between two of ours, over a plugin whose first read fails.
fn retrying() -> Stack {
    let parameter = |key: &str, value: &str| Parameter { key: Some(key.to_owned()), value: value.to_owned() };
    let stack = Stack::reference(3).with(0, |plugin| plugin.fail.push(nth(Callback::Pread, 1)));
    let parameters = vec![parameter("size", "1M"), parameter("retries", "1"), parameter("retry-delay", "1")];
    Stack { replaced: [(2, "retry".to_owned())].into(), parameters, ..stack }
}

fn retried() -> Scenario {
    Scenario::new("contexts/retried", "the retry filter of nbdkit, and a read that fails once", retrying())
        .script(visit())
}

/// The read fails, and so does the reopening. What becomes of a filter's reads then is its own affair.
fn retried_in_vain() -> Scenario {
    let stack = retrying().with(0, |plugin| plugin.fail.push(nth(Callback::Open, 2)));
    Scenario::new("contexts/retried-in-vain", "the retry filter of nbdkit, which cannot reopen", stack)
        .script([connect(1), go(1, ""), read(1).fails(), Step::Disconnect(1)])
}

/// All of what is answered here is asked below only when a request comes.
fn answering(filter: &mut Behaviour) {
    use Callback::{
        CanCache, CanExtents, CanFastZero, CanFlush, CanFua, CanMultiConn, CanTrim, CanWrite, CanZero,
        GetSize, IsRotational,
    };
    filter.ask_late = true;
    filter.answers = [
        (GetSize, 1 << 20),
        (CanWrite, 1),
        (CanZero, 2),
        (CanFastZero, 1),
        (CanTrim, 1),
        (CanFua, 2),
        (CanFlush, 1),
        (IsRotational, 0),
        (CanMultiConn, 1),
        (CanCache, 2),
        (CanExtents, 1),
    ]
    .into();
}

fn asked_late() -> Scenario {
    Scenario::new(
        "below/asked-late",
        "a filter that asks below only when requests come",
        with_outer(answering),
    )
    .script(visit())
}

/// The server keeps answers without a lock: eight requests at once all ask.
fn asked_late_at_once() -> Scenario {
    let stack = Stack::reference(2).with(2, answering).with(0, |plugin| {
        plugin.sleep.insert(Callback::GetSize, 1);
    });
    let reads = (0..8).map(|n| command(Operation::Read, n * 4096, 512, 0)).collect();
    let about = "a filter that asks below only when requests come, eight at once";
    let script = [connect(1), go(1, ""), Step::Pipeline(1, reads), Step::Disconnect(1)];
    Scenario { tries: 25, ..Scenario::new("race/asked-late", about, stack).script(script) }
}

fn asked_again() -> Scenario {
    let stack = with_outer(answering).with(0, |plugin| plugin.fail.push(nth(Callback::CanTrim, 1)));
    Scenario::new("below/asked-again", "a filter that asks below again after a failure", stack).script([
        connect(1),
        go(1, ""),
        read(1).fails(),
        read(1),
        Step::Disconnect(1),
    ])
}

fn written_in_finalize() -> Scenario {
    let stack = with_outer(|filter| filter.acts.push(act(Callback::Finalize, Deed::Write)));
    Scenario::new("below/written-in-finalize", "a filter that writes below in finalize", stack)
        .script(visit())
}

fn asked_in_prepare() -> Scenario {
    let stack = Stack::reference(2).with(1, |filter| {
        filter.log_below = true;
        filter.acts.push(act(Callback::Prepare, Deed::AskSize));
    });
    Scenario::new("below/asked-in-prepare", "a filter that asks the size in prepare", stack).script(visit())
}
