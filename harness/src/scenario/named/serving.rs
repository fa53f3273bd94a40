//! Clients that come, are served, and go.

use layers_trace::{Callback, Operation};

use super::super::{Scenario, Step, command, flag, one_of_every_request};
use super::{connect, go, info, read};
use crate::client::nbd::Wishes;
use crate::run::stack::Stack;

/// Deepest stack: the instrument can be more layers than that, a user's stack seldom is.
const DEEPEST: u8 = 8;

pub(super) fn all() -> Vec<Scenario> {
    let mut all = vec![classical()];
    all.extend((0..=DEEPEST).map(depth));
    all.extend([
        info_cycles(),
        several_connections(),
        pipelined(),
        hang_up(),
        leave_running("disconnect", 2, Step::Disconnect(1)),
        // With more requests than one nbdkit 1.32 may abort: a worker writes to the socket that another has closed.
        leave_running("hang-up", 1, Step::HangUp(1)),
        abort(),
        knock(),
        readonly(),
        not_writable(),
        sparse_filter(),
        sparse_plugin(),
        bare_plugin(),
        no_flush(),
        silent_plugin(),
        no_zero(),
        without_structured_replies(),
        few_wishes(),
    ]);
    all.extend((0..=3).map(thread_model));
    all
}

/// Connects, lists, selects, sends one of every request, leaves.
fn whole_visit(client: u32) -> Vec<Step> {
    let mut script = vec![connect(client), Step::List(client), go(client, "")];
    script.extend(one_of_every_request().into_iter().map(|request| Step::Request(client, request)));
    script.push(Step::Disconnect(client));
    script
}

/// Connects, selects, reads, writes, leaves.
fn short_visit(client: u32) -> Vec<Step> {
    vec![
        connect(client),
        go(client, ""),
        Step::Request(client, command(Operation::Write, 0, 4096, 0)),
        Step::Request(client, command(Operation::Read, 0, 4096, 0)),
        Step::Disconnect(client),
    ]
}

fn classical() -> Scenario {
    Scenario::new(
        "classical",
        "three filters and a plugin; one client, one of every request",
        Stack::reference(3),
    )
    .script(whole_visit(1))
}

fn depth(filters: u8) -> Scenario {
    Scenario::new(
        format!("depth/{filters}"),
        "a stack of this many filters; one client, one of every request",
        Stack::reference(filters),
    )
    .script(whole_visit(1))
}

fn info_cycles() -> Scenario {
    Scenario::new(
        "options/info",
        "a client that asks about exports before it selects one",
        Stack::reference(2),
    )
    .script([
        connect(1),
        info(1, "a"),
        info(1, ""),
        go(1, "c"),
        Step::Request(1, command(Operation::Read, 0, 512, 0)),
        Step::Disconnect(1),
    ])
}

fn several_connections() -> Scenario {
    let read = |client| Step::Request(client, command(Operation::Read, 0, 512, 0));
    Scenario::new(
        "connections/several",
        "three clients at once, leaving in another order",
        Stack::reference(2),
    )
    .script([
        connect(1),
        go(1, ""),
        connect(2),
        go(2, ""),
        read(1),
        connect(3),
        read(2),
        go(3, "b"),
        read(3),
        Step::Disconnect(2),
        read(1),
        Step::HangUp(3),
        read(1),
        Step::Disconnect(1),
    ])
}

fn pipelined() -> Scenario {
    let reads = (0..16).map(|n| command(Operation::Read, n * 4096, 4096, 0)).collect();
    Scenario::new(
        "connections/pipelined",
        "sixteen requests in flight on one connection",
        Stack::reference(2),
    )
    .script([connect(1), go(1, ""), Step::Pipeline(1, reads), Step::Disconnect(1)])
}

fn hang_up() -> Scenario {
    Scenario::new("leave/hang-up", "a client that closes its socket without a word", Stack::reference(2))
        .script([
            connect(1),
            go(1, ""),
            Step::Request(1, command(Operation::Read, 0, 512, 0)),
            Step::HangUp(1),
        ])
}

fn leave_running(how: &str, requests: u64, leave: Step) -> Scenario {
    let slow = Stack::reference(2).with(0, |plugin| {
        plugin.sleep.insert(Callback::Pread, 20);
    });
    let reads = (0..requests).map(|n| Step::Running(1, command(Operation::Read, n * 4096, 512, 0)));
    Scenario::new(
        format!("leave/{how}-running"),
        "a client that leaves while the server works on its requests",
        slow,
    )
    .script([connect(1), go(1, "")].into_iter().chain(reads).chain([leave]))
}

fn abort() -> Scenario {
    Scenario::new("leave/abort", "a client that leaves during negotiation", Stack::reference(2)).script([
        connect(1),
        Step::Abort(1),
        connect(2),
        info(2, "a"),
        Step::Abort(2),
    ])
}

fn knock() -> Scenario {
    let mut script = vec![Step::Peek];
    script.extend(short_visit(1));
    Scenario::new(
        "leave/knock",
        "a connection that is closed before the client has sent a byte",
        Stack::reference(2),
    )
    .script(script)
}

fn readonly() -> Scenario {
    let stack = Stack { readonly: true, ..Stack::reference(2) };
    let write = Step::Request(1, command(Operation::Write, 0, 512, 0));
    Scenario::new("readonly/server", "a server started with -r, and a client that writes all the same", stack)
        .script([
            connect(1),
            Step::List(1),
            go(1, ""),
            Step::Request(1, command(Operation::Read, 0, 512, 0)),
            write.fails(),
            Step::Disconnect(1),
        ])
}

fn not_writable() -> Scenario {
    let stack = Stack::reference(2).with(0, |plugin| {
        plugin.answers.insert(Callback::CanWrite, 0);
    });
    let zero = Step::Request(1, command(Operation::Zero, 0, 512, flag::NO_HOLE));
    Scenario::new(
        "readonly/plugin",
        "a plugin that cannot write, and a client that writes all the same",
        stack,
    )
    .script([connect(1), go(1, ""), zero.fails(), Step::Disconnect(1)])
}

/// Callbacks that a filter needs to show anything at all.
fn all_but(kept: &[Callback]) -> impl Iterator<Item = Callback> {
    Callback::NBDKIT.iter().copied().filter(|callback| !kept.contains(callback))
}

fn sparse_filter() -> Scenario {
    let stack = Stack::reference(3).with(2, |filter| filter.absent.extend(all_but(&[])));
    Scenario::new("absent/filter", "a filter without a single callback in the middle", stack)
        .script(whole_visit(1))
}

fn sparse_plugin() -> Scenario {
    use Callback::{AfterFork, Close, Config, GetSize, Open, Pread};
    let stack = Stack::reference(2)
        .with(0, |p| p.absent.extend(all_but(&[Open, Close, GetSize, Pread, Config, AfterFork])));
    Scenario::new("absent/plugin", "a plugin with only what it must have", stack).script([
        connect(1),
        Step::List(1),
        go(1, ""),
        Step::Request(1, command(Operation::Read, 0, 512, 0)),
        Step::Request(1, command(Operation::BlockStatus, 0, 65536, 0)),
        Step::Disconnect(1),
    ])
}

fn bare_plugin() -> Scenario {
    use Callback::{Close, Config, GetSize, Open, Pread, Preconnect};
    let stack = Stack::reference(0)
        .with(0, |plugin| plugin.absent.extend(all_but(&[Preconnect, Open, Close, GetSize, Pread, Config])));
    Scenario::new("absent/bare", "no filter, and a plugin with little more than it must have", stack).script(
        [
            connect(1),
            Step::List(1),
            go(1, ""),
            Step::Request(1, command(Operation::Read, 0, 512, 0)),
            Step::Disconnect(1),
        ],
    )
}

/// Without flush there is nothing to make FUA from.
fn no_flush() -> Scenario {
    use Callback::{CanFlush, CanFua, Flush};
    let stack = Stack::reference(0).with(0, |plugin| plugin.absent.extend([CanFlush, CanFua, Flush]));
    let write = |flags| Step::Request(1, command(Operation::Write, 4096, 512, flags));
    Scenario::new("absent/flush", "no filter, and a plugin that writes and has no flush", stack).script([
        Step::ConnectRaw(1),
        go(1, ""),
        write(0),
        write(flag::FUA).fails(),
        Step::Request(1, command(Operation::Flush, 0, 0, 0)).fails(),
        read(1),
        Step::Disconnect(1),
    ])
}

fn no_zero() -> Scenario {
    let stack = Stack::reference(2).with(1, |filter| {
        filter.answers.insert(Callback::CanZero, 0);
    });
    Scenario::new("answers/no-zero", "a filter that says that there is no zero", stack).script([
        connect(1),
        go(1, ""),
        Step::Request(1, command(Operation::Zero, 0, 512, 0)).perhaps(),
        Step::Disconnect(1),
    ])
}

fn silent_plugin() -> Scenario {
    let stack = Stack::reference(0).with(0, |plugin| {
        plugin.absent.extend(all_but(&[]).filter(|query| query.is_query() && *query != Callback::GetSize));
    });
    // Without can_fast_zero that flag is not offered; nbdkit 1.32 aborts when it comes all the same.
    let offered =
        |step: &Step| !matches!(step, Step::Request(_, command) if command.flags & flag::FAST_ZERO != 0);
    Scenario::new("absent/queries", "a plugin with all data callbacks that answers no can_* question", stack)
        .script(whole_visit(1).into_iter().filter(offered))
}

fn without_structured_replies() -> Scenario {
    let stack = Stack { no_structured_replies: true, ..Stack::reference(1) };
    Scenario::new("options/no-structured-replies", "a server started with --no-sr", stack)
        .script(short_visit(1))
}

fn few_wishes() -> Scenario {
    let wishes =
        Wishes { block_size: false, full_info: false, structured_replies: false, meta_context: false };
    Scenario::new(
        "options/few",
        "a client that asks for no block size, name or description",
        Stack::reference(2),
    )
    .script([
        Step::Connect(1, wishes),
        go(1, ""),
        Step::Request(1, command(Operation::Read, 0, 512, 0)),
        Step::Disconnect(1),
    ])
}

fn thread_model(model: i64) -> Scenario {
    // The plugin is asked and so is the outer filter; the strictest answer must win, whichever layer gives it.
    let stack = Stack::reference(2)
        .with(0, |plugin| {
            plugin.answers.insert(Callback::ThreadModel, 3 - model / 2);
        })
        .with(2, |filter| {
            filter.answers.insert(Callback::ThreadModel, model);
        });
    let mut script = short_visit(1);
    script.extend(short_visit(2));
    Scenario::new(format!("thread-model/{model}"), "a filter that asks for this thread model", stack)
        .script(script)
}
