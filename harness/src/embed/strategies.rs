//! proptest strategies for what the harness plays: layers, stacks, scripts of clients, and whole scenarios.
//!
//! What is drawn never breaks a promise itself: filters claim nothing that the layers below them lack, clients ask for what
//! they are offered, and come one after another where the thread model would keep them waiting. So whatever breaks a rule
//! is the server's doing, whichever stack and script were drawn.
//!
//! ```
//! use layers::scenario::Player;
//! use layers::server::nbdkit::Nbdkit;
//! use layers::server::process::become_subreaper;
//! use layers::strategies;
//! use proptest::test_runner::{Config, TestRunner};
//!
//! // Some of the servers go into the background.
//! become_subreaper()?;
//! let server = Nbdkit::find(None)?;
//! let mut runner = TestRunner::new(Config { failure_persistence: None, ..Config::with_cases(4) });
//! runner.run(&strategies::scenario(), |scenario| {
//!     let recording = Player::new(&server).play(&scenario).map_err(|error| {
//!         proptest::test_runner::TestCaseError::reject(error.to_string())
//!     })?;
//!     proptest::prop_assert_eq!(&recording.mishaps, &[]);
//!     Ok(())
//! })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use layers_behaviour::{Behaviour, Behaviours, Failure, Nullable};
use layers_trace::{Callback, Operation};
use proptest::prelude::*;
use proptest::sample::{Index, select, subsequence};

use crate::client::Command;
use crate::client::nbd::Wishes;
use crate::client::raw::Message;
use crate::run::Start;
use crate::run::stack::{Layers, Stack};
use crate::scenario::{Ending, Scenario, Step, command, flag};

/// Bytes of the disk of a drawn stack.
const SIZE: u64 = 1 << 20;
/// Layers of the deepest stack.
const LAYERS: usize = 8;
/// Clients of the longest script.
const CLIENTS: u32 = 4;
/// Milliseconds of the longest sleep.
const SLEEP: u32 = 3;

/// What a layer may lack: all but a plugin's `open`, `close`, `get_size` and `pread`, and `config` and `after_fork`, which
/// tell the harness how the server gets on.
const OPTIONAL: &[Callback] = {
    use Callback::*;
    &[
        Load,
        Unload,
        ConfigComplete,
        ThreadModel,
        GetReady,
        Cleanup,
        Preconnect,
        ListExports,
        DefaultExport,
        Prepare,
        Finalize,
        ExportDescription,
        BlockSize,
        CanWrite,
        CanFlush,
        IsRotational,
        CanTrim,
        CanZero,
        CanFastZero,
        CanExtents,
        CanFua,
        CanMultiConn,
        CanCache,
        Flush,
        Trim,
        Zero,
        Extents,
        Cache,
    ]
};

/// What can fail without keeping the server from starting.
const FALLIBLE: &[Callback] = {
    use Callback::*;
    &[
        Preconnect,
        ListExports,
        DefaultExport,
        Open,
        Prepare,
        Finalize,
        GetSize,
        CanWrite,
        CanFlush,
        CanTrim,
        CanZero,
        CanFua,
        CanMultiConn,
        CanCache,
        CanExtents,
        Pread,
        Pwrite,
        Flush,
        Trim,
        Zero,
        Extents,
        Cache,
    ]
};

/// Answers that take something away, and those that have the server do it instead.
const ANSWERS: &[(Callback, i64)] = {
    use Callback::*;
    &[
        (CanWrite, 0),
        (CanTrim, 0),
        (CanZero, 0),
        (CanZero, 1),
        (CanFastZero, 0),
        (CanExtents, 0),
        (CanFua, 0),
        (CanMultiConn, 0),
        (CanCache, 0),
        (CanCache, 1),
        (IsRotational, 1),
    ]
};

/// Where a layer may take its time.
const SLOW: &[Callback] = &[
    Callback::Preconnect,
    Callback::Open,
    Callback::GetSize,
    Callback::Pread,
    Callback::Pwrite,
    Callback::Close,
];

fn name() -> impl Strategy<Value = String> {
    "[a-z]{0,3}"
}

fn nullable() -> impl Strategy<Value = Nullable> {
    prop_oneof![3 => name().prop_map(Nullable::Text), 1 => Just(Nullable::Null)]
}

fn failure(of_filter: bool) -> impl Strategy<Value = Failure> {
    let errno = select(vec![libc::EIO, libc::ENOSPC, libc::EPERM, libc::ENOMEM]);
    (select(FALLIBLE), 1..=4_u32, errno, any::<bool>()).prop_map(move |(callback, nth, errno, after)| {
        let told = layers_behaviour::Telling::Both;
        Failure { callback, nth: Some(nth), errno, after_next: after && of_filter, told }
    })
}

/// Few of many: mostly none.
fn few<T: Clone + std::fmt::Debug + 'static>(all: &'static [T]) -> impl Strategy<Value = Vec<T>> {
    prop_oneof![2 => Just(Vec::new()), 1 => subsequence(all, 0..=3), 1 => subsequence(all, 0..=all.len())]
}

fn layer(of_filter: bool) -> impl Strategy<Value = Behaviour> {
    let exports = prop::collection::vec((name(), name()), 0..4);
    let looks = (
        prop::option::weighted(0.2, exports),
        prop::option::weighted(0.2, nullable()),
        prop::option::weighted(0.2, nullable()),
        prop::option::weighted(0.2, select(vec![[1, 4096, u32::MAX], [1, 512, 1 << 20]])),
        prop::option::weighted(0.2, 0..=3_i64),
    );
    let sleep = prop_oneof![
        2 => Just(Vec::new()),
        1 => prop::collection::vec((select(SLOW), 0..=SLEEP), 0..=2),
    ];
    let fail = prop_oneof![2 => Just(Vec::new()), 1 => prop::collection::vec(failure(of_filter), 0..=2)];
    let readonly = prop::bool::weighted(if of_filter { 0.1 } else { 0.0 });
    (few(OPTIONAL), few(ANSWERS), looks, sleep, fail, readonly).prop_map(
        |(
            absent,
            answers,
            (exports, default, description, block_size, model),
            sleep,
            fail,
            opens_readonly,
        )| {
            let model = model.map(|model| (Callback::ThreadModel, model));
            Behaviour {
                absent: absent.into_iter().collect(),
                answers: answers.into_iter().chain(model).collect(),
                exports,
                default_export: default,
                export_description: description,
                block_size,
                sleep: sleep.into_iter().collect(),
                fail,
                opens_readonly,
                ..Behaviour::default()
            }
        },
    )
}

/// A plugin: it may lack callbacks, answer what it likes, take its time, and fail in some calls.
pub fn plugin() -> impl Strategy<Value = Behaviour> {
    layer(false)
}

/// A filter: the same. What it answers by itself never claims more than the layers below have.
pub fn filter() -> impl Strategy<Value = Behaviour> {
    layer(true)
}

/// A stack of 1 to 8 layers, with options of the server.
pub fn stack() -> impl Strategy<Value = Stack> {
    let behaviours = (plugin(), prop::collection::vec(filter(), 0..LAYERS));
    let options =
        (prop::bool::weighted(0.1), prop::bool::weighted(0.1), prop::option::weighted(0.3, 1..=8_u32));
    (behaviours, options).prop_map(|((plugin, filters), (readonly, no_structured_replies, threads))| Stack {
        layers: Layers::Reference(Behaviours { plugin, filters }),
        readonly,
        no_structured_replies,
        threads,
        ..Stack::reference(0)
    })
}

/// A request within the disk, with any flags that it can have.
pub fn request() -> impl Strategy<Value = Command> {
    let range = (0..SIZE).prop_flat_map(|offset| {
        let most = u32::try_from(SIZE - offset).unwrap_or(u32::MAX).min(128 * 1024);
        (Just(offset), 1..=most)
    });
    let some = |flags: &'static [u32]| subsequence(flags, 0..=flags.len()).prop_map(|some| some.iter().sum());
    let operation = prop_oneof![
        Just((Operation::Read, 0)),
        some(&[flag::FUA]).prop_map(|flags| (Operation::Write, flags)),
        some(&[flag::FUA]).prop_map(|flags| (Operation::Trim, flags)),
        some(&[flag::FUA, flag::NO_HOLE, flag::FAST_ZERO]).prop_map(|flags| (Operation::Zero, flags)),
        Just((Operation::Cache, 0)),
        some(&[flag::REQ_ONE]).prop_map(|flags| (Operation::BlockStatus, flags)),
        Just((Operation::Flush, 0)),
    ];
    (operation, range).prop_map(|((operation, flags), (offset, count))| match operation {
        Operation::Flush => command(operation, 0, 0, flags),
        _ => command(operation, offset, count, flags),
    })
}

/// Reads in flight together, or any requests one after another, as far as they are offered.
fn requests(client: u32) -> impl Strategy<Value = Step> {
    let requests = prop::collection::vec(request(), 1..6);
    (any::<bool>(), requests).prop_map(move |(together, requests)| {
        let read = |one: &Command| command(Operation::Read, one.offset, one.count.max(1), 0);
        match together {
            true => Step::Pipeline(client, requests.iter().map(read).collect()),
            false => Step::Offered(client, requests),
        }
    })
}

fn wishes() -> impl Strategy<Value = Wishes> {
    any::<[bool; 4]>().prop_map(|[block_size, full_info, structured_replies, meta_context]| Wishes {
        block_size,
        full_info,
        structured_replies,
        meta_context,
    })
}

/// What one client does from connecting to leaving, when all goes well: it asks, is served or thinks better of it, and goes.
pub fn visit(client: u32) -> impl Strategy<Value = Vec<Step>> {
    let served = (name(), prop::collection::vec(requests(client), 0..5));
    let leave = prop_oneof![Just(Step::Disconnect(client)), Just(Step::HangUp(client))];
    let asks = (any::<bool>(), prop::collection::vec(name(), 0..3));
    let over_libnbd = (wishes(), asks, prop::option::weighted(0.8, served), leave).prop_map(
        move |(wishes, (list, infos), served, leave)| {
            let mut script = vec![Step::Connect(client, wishes)];
            script.extend(list.then_some(Step::List(client)));
            script.extend(infos.into_iter().map(|name| Step::Info(client, name)));
            match served {
                Some((export, requests)) => {
                    script.push(Step::Go(client, export));
                    script.extend(requests);
                    script.push(leave);
                }
                None => script.push(Step::Abort(client)),
            }
            script
        },
    );
    // Options in one write, which libnbd never sends.
    let option = prop_oneof![
        Just(Message::List),
        Just(Message::StructuredReply),
        name().prop_map(|name| Message::Info(name, Vec::new())),
    ];
    let raw = prop::collection::vec(option, 1..5).prop_map(move |mut options| {
        options.push(Message::Abort);
        vec![Step::ConnectRaw(client), Step::Say(client, options), Step::HangUp(client)]
    });
    prop_oneof![4 => over_libnbd, 1 => raw]
}

/// One to four visits, at the same time or one after another. Each step may fail: layers may.
pub fn script(at_once: bool) -> impl Strategy<Value = Vec<Step>> {
    let visits = (1..=CLIENTS).prop_flat_map(|clients| (1..=clients).map(visit).collect::<Vec<_>>());
    (visits, prop::collection::vec(any::<Index>(), 60)).prop_map(move |(visits, turns)| {
        let mut queues: Vec<_> = visits.into_iter().map(Vec::into_iter).collect();
        let mut script = Vec::new();
        for turn in turns.iter().filter(|_| at_once) {
            let turn = turn.index(queues.len());
            script.extend(queues.get_mut(turn).and_then(Iterator::next));
        }
        script.extend(queues.into_iter().flatten());
        script.into_iter().map(Step::perhaps).collect()
    })
}

/// How a server that has served is stopped once its clients have gone.
pub fn ending() -> impl Strategy<Value = Ending> {
    prop_oneof![
        4 => select(vec![libc::SIGTERM, libc::SIGINT, libc::SIGQUIT, libc::SIGHUP]).prop_map(Ending::Stop),
        1 => Just(Ending::Cut(libc::SIGKILL)),
    ]
}

/// A stack, a start, a script that its thread model allows, and an ending.
pub fn scenario() -> impl Strategy<Value = Scenario> {
    let start = select(vec![Start::Foreground, Start::Foreground, Start::Daemon, Start::Activated]);
    let several = (start, ending());
    (stack(), several).prop_flat_map(|(stack, (start, ending))| {
        let script = script(serves_at_once(&stack));
        let scenario = Scenario::new("random", "drawn by proptest", stack).start(start).ending(ending);
        script.prop_map(move |script| scenario.clone().script(script))
    })
}

/// No layer asks for a thread model under which clients wait for one another.
fn serves_at_once(stack: &Stack) -> bool {
    let Layers::Reference(behaviours) = &stack.layers else { return false };
    let mut layers = behaviours.filters.iter().chain([&behaviours.plugin]);
    !layers.any(|layer| layer.answers.get(&Callback::ThreadModel).is_some_and(|model| *model < 2))
}
