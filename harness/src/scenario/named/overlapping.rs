//! Requests, connections and layers at the same time, under each thread model.
//!
//! Layers sleep in their own code, so that calls that may overlap do; what each run must have shown of that is part of its
//! scenario. None of them has a tree: their calls come in another order each time.

use layers_trace::{Callback, Operation};

use super::super::{Expectation, Scenario, Step, command};
use super::go;
use crate::client::Command;
use crate::client::raw::Message;
use crate::run::stack::Stack;

use Expectation::{AtOnce, DataAtOnce, Tested};

/// Reads that each client has in flight.
const READS: usize = 4;
/// Clients of most of these runs.
const CLIENTS: u32 = 3;
/// More requests than any limit that is tried.
const MANY: usize = 80;

pub(super) fn all() -> Vec<Scenario> {
    let mut all: Vec<Scenario> = (0..=3).flat_map(|model| [0, 2].map(|layer| models(model, layer))).collect();
    all.extend([
        limit(Some(1)),
        limit(Some(4)),
        limit(None),
        limit(Some(64)),
        silent_clients(),
        silent_negotiation(),
    ]);
    all
}

/// The callbacks in which the plugin sleeps, with milliseconds.
const SLEEPS: &[(Callback, u32)] = &[
    (Callback::Preconnect, 3),
    (Callback::Open, 6),
    (Callback::GetSize, 6),
    (Callback::Pread, 6),
    (Callback::Close, 6),
];

/// Two filters over a plugin that takes its time, one of which asks for this thread model.
fn slow(model: i64, layer: u8) -> Stack {
    Stack::reference(2)
        .with(0, |plugin| plugin.sleep.extend(SLEEPS.iter().copied()))
        .with(2, |filter| {
            filter.sleep.insert(Callback::Pread, 1);
        })
        .with(layer, |asks| {
            asks.answers.insert(Callback::ThreadModel, model);
        })
}

fn read(nth: usize) -> Command {
    command(Operation::Read, (nth as u64) * 4096, 512, 0)
}

/// So many reads in one write.
fn reads(client: u32, count: usize) -> Step {
    Step::Send(client, (0..count).map(|nth| Message::Request(read(nth))).collect())
}

fn select(client: u32) -> Step {
    Step::Send(client, vec![Message::Go(String::new(), Vec::new())])
}

fn goodbye(client: u32) -> Step {
    Step::Send(client, vec![Message::Disconnect])
}

/// One step of each client.
fn each(step: impl Fn(u32) -> Step) -> impl Iterator<Item = Step> {
    (1..=CLIENTS).map(step)
}

/// A plugin or filter that asks for this model, and clients that ask for more at once than it allows.
fn models(model: i64, layer: u8) -> Scenario {
    let who = if layer == 0 { "plugin" } else { "filter" };
    let script = match model {
        0 => one_after_another(),
        // Under this model nbdkit greets a client only when nobody else negotiates.
        1 => all_at_once((1..=CLIENTS).flat_map(|client| [Step::ConnectRaw(client), go(client, "")])),
        _ => all_at_once(each(Step::ConnectRaw).chain(each(select)).chain(each(Step::Answers))),
    };
    let mut expects = match model {
        0 => vec![Tested("tm.conn.exclusive"), Tested("tm.conn.one-thread"), Tested("tm.parallel.limit")],
        1 => vec![Tested("tm.all.no-overlap"), Tested("tm.parallel.limit")],
        2 => vec![Tested("tm.req.per-handle"), Tested("tm.parallel.limit"), AtOnce(Callback::Pread, 2)],
        _ => vec![
            AtOnce(Callback::Open, 2),
            AtOnce(Callback::GetSize, 2),
            AtOnce(Callback::Pread, READS as u32 + 1),
            AtOnce(Callback::Close, 2),
            DataAtOnce(READS as u32),
        ],
    };
    if layer > 0 && model < 3 {
        expects.push(Tested("tm.filter-tightens"));
    }
    Scenario::new(
        format!("overlap/{who}-{model}"),
        "a slow stack with this thread model, and clients that ask for several things at once",
        slow(model, layer),
    )
    .script(script)
    .unordered()
    .expects(expects)
}

/// Each client connects while the one before it is being served.
fn one_after_another() -> Vec<Step> {
    let mut script = vec![Step::Dial(1)];
    for client in 1..=CLIENTS {
        script.extend([Step::Greeting(client), go(client, "")]);
        script.extend((client < CLIENTS).then_some(Step::Dial(client + 1)));
        script.extend([reads(client, READS), Step::Answers(client), Step::Disconnect(client)]);
    }
    script
}

/// All clients, once they have arrived, read at the same time and leave at the same time; one more comes meanwhile.
fn all_at_once(arrive: impl Iterator<Item = Step>) -> Vec<Step> {
    let late = CLIENTS + 1;
    let mut script: Vec<Step> = arrive.collect();
    script.extend(each(|client| reads(client, READS)));
    script.extend([Step::Dial(late), Step::Greeting(late), go(late, ""), reads(late, 1)]);
    script.extend(each(Step::Answers));
    script.extend(each(goodbye).chain(each(Step::HalfClose)).chain(each(Step::Dropped)));
    script.extend([Step::Answers(late), Step::Disconnect(late)]);
    script
}

/// More requests in one write than `-t` allows at once.
fn limit(threads: Option<u32>) -> Scenario {
    let limit = threads.unwrap_or(16);
    let name = threads.map_or("limit/default".to_owned(), |threads| format!("limit/{threads}"));
    // The more at a time, the longer each may take.
    let sleep = limit / 2 + 1;
    let stack = Stack { threads, ..Stack::reference(1) }.with(0, |plugin| {
        plugin.sleep.insert(Callback::Pread, sleep);
    });
    Scenario::new(name, "eighty requests in one write, under this -t", stack)
        .script([Step::ConnectRaw(1), go(1, ""), reads(1, MANY), Step::Answers(1), Step::Disconnect(1)])
        .unordered()
        .expects(vec![Tested("tm.parallel.limit"), DataAtOnce(limit)])
}

/// One request of all clients at a time.
fn serialized() -> Stack {
    Stack::reference(2).with(0, |plugin| {
        plugin.answers.insert(Callback::ThreadModel, 1);
        plugin.sleep.insert(Callback::Pread, 2);
    })
}

/// Clients that are connected and say nothing, or have not said all of it, keep nobody waiting.
fn silent_clients() -> Scenario {
    let write = command(Operation::Write, 0, 4096, 0);
    Scenario::new(
        "overlap/silent-clients",
        "thread model 1: two clients work, others are silent, one of them in the middle of a write",
        serialized(),
    )
    .script([
        Step::ConnectRaw(1),
        go(1, ""),
        Step::ConnectRaw(2),
        go(2, ""),
        Step::ConnectRaw(3),
        go(3, ""),
        Step::ConnectRaw(4),
        go(4, ""),
        Step::Send(4, vec![Message::Partial(write, 512)]),
        reads(1, READS),
        Step::Answers(1),
        reads(1, READS),
        reads(3, READS),
        Step::Answers(1),
        Step::Answers(3),
        Step::HangUp(4),
        Step::Disconnect(3),
        Step::Disconnect(1),
        Step::Disconnect(2),
    ])
    .unordered()
    .expects(vec![Tested("tm.all.no-overlap")])
}

/// Nothing is promised of a client that does not finish its negotiation: nbdkit keeps all others waiting meanwhile.
fn silent_negotiation() -> Scenario {
    Scenario::new(
        "overlap/silent-negotiation",
        "thread model 1: one client has requests in flight while another is in the middle of its negotiation",
        serialized(),
    )
    .script([
        Step::ConnectRaw(1),
        go(1, ""),
        Step::ConnectRaw(2),
        reads(1, READS),
        Step::List(2),
        Step::Abort(2),
        Step::Answers(1),
        Step::Disconnect(1),
    ])
    .unordered()
    .expects(vec![Tested("tm.all.no-overlap")])
}
