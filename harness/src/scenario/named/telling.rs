//! What clients are told of exports whose layers answer differently, and what options do to those after them.

use layers_behaviour::{Behaviour, Nullable};
use layers_trace::{Callback, Operation};

use super::super::{Scenario, Step, command};
use super::{connect, go, info, read, say};
use crate::client::nbd::Wishes;
use crate::client::raw::{Message, info as kind};
use crate::run::stack::Stack;

pub(super) fn all() -> Vec<Scenario> {
    vec![
        outermost(),
        further_in(),
        by_export(),
        one_after_another(),
        export_name(),
        oldstyle(),
        no_block_size(),
        long_list(),
        empty_list(),
        filters_list(),
        other_export("go", false),
        other_export("info", true),
        set_anew("none", Vec::new()),
        set_anew("unknown", ["qemu:dirty-bitmap:x", "base:", "base:allocation:x"].map(str::to_owned).into()),
        set_in_vain("cut", contexts("", vec![ALLOCATION.to_owned()]), 20),
        set_in_vain("cut-behind", contexts("", vec![ALLOCATION.to_owned(), "x".to_owned()]), 1),
        set_for_two("first", "a", "b", "a"),
        set_for_two("last", "a", "b", "b"),
        set_for_two("prefix", "ab", "a", "ab"),
        set_for_two("again", "", "ab", "ab"),
        set_for_prefixes(),
        listed_only(),
        without_structured_replies(),
    ]
}

/// Every layer answers everything, and each something else.
fn differing() -> Stack {
    Stack::reference(2).with(0, answers(0)).with(1, answers(1)).with(2, answers(2))
}

fn answers(layer: u8) -> impl FnOnce(&mut Behaviour) {
    let place = usize::from(layer);
    let (size, blocks, wide) = match layer {
        0 => (1 << 20, [1, 4096, u32::MAX], 2),
        1 => (1_000_003, [2, 65536, 1 << 20], 0),
        _ => (999_937, [512, 8192, 131_072], 1),
    };
    move |behaviour| {
        behaviour.answers.insert(Callback::GetSize, size);
        behaviour.block_size = Some(blocks);
        behaviour.export_description = Some(Nullable::Text(format!("as L{layer} describes it")));
        behaviour.default_export = Some(Nullable::Text(format!("default of L{layer}")));
        let list = [("a", "the first"), ("b", ""), ("", "the default")]
            .map(|(name, description)| (format!("{name}{layer}"), description.to_owned()));
        behaviour.exports = Some(list.into_iter().cycle().skip(place).take(3).collect());
        behaviour.answers.insert(Callback::IsRotational, i64::from(layer != 1));
        behaviour.answers.insert(Callback::CanFlush, i64::from(layer != 0));
        behaviour.answers.insert(Callback::CanFua, wide);
        behaviour.answers.insert(Callback::CanTrim, i64::from(layer != 2));
        behaviour.answers.insert(Callback::CanCache, wide);
        behaviour.answers.insert(Callback::CanMultiConn, i64::from(layer != 2));
        behaviour.answers.insert(Callback::CanFastZero, i64::from(layer != 2));
    }
}

fn outermost() -> Scenario {
    let about = "layers that all answer, each differently";
    Scenario::new("told/outermost", about, differing()).script([
        connect(1),
        Step::List(1),
        info(1, "a"),
        go(1, ""),
        read(1),
        Step::Disconnect(1),
        Step::ConnectRaw(2),
        say(2, [Message::List]),
        info(2, ""),
        go(2, "a2"),
        read(2),
        Step::Disconnect(2),
    ])
}

/// What the outermost layer has not, the next one answers, and then the plugin.
fn further_in() -> Scenario {
    const NEGOTIATED: [Callback; 12] = [
        Callback::GetSize,
        Callback::BlockSize,
        Callback::ExportDescription,
        Callback::DefaultExport,
        Callback::ListExports,
        Callback::IsRotational,
        Callback::CanFlush,
        Callback::CanFua,
        Callback::CanTrim,
        Callback::CanCache,
        Callback::CanMultiConn,
        Callback::CanFastZero,
    ];
    let stack = differing().with(2, |filter| filter.absent.extend(NEGOTIATED));
    let stack = stack.with(1, |filter| filter.absent.extend(NEGOTIATED.into_iter().step_by(2)));
    Scenario::new("told/further-in", "layers that answer differently, and some not at all", stack).script([
        connect(1),
        Step::List(1),
        info(1, "b"),
        go(1, ""),
        read(1),
        Step::Disconnect(1),
    ])
}

/// Names of different lengths, on which the plugin's answers depend.
fn exports() -> Stack {
    Stack::reference(2).with(0, |plugin| {
        plugin.by_export = true;
        plugin.default_export = Some(Nullable::Text("main".into()));
    })
}

fn by_export() -> Scenario {
    Scenario::new("told/by-export", "a plugin whose answers depend on the export", exports()).script([
        connect(1),
        info(1, "a"),
        info(1, "bb"),
        info(1, ""),
        info(1, "a"),
        go(1, "ccc"),
        read(1),
        Step::Disconnect(1),
        connect(2),
        info(2, "ccc"),
        go(2, ""),
        read(2),
        Step::Disconnect(2),
    ])
}

/// What one option has asked for is not told in answer to the next.
fn one_after_another() -> Scenario {
    let ask = |name: &str, infos: &[u16]| say(1, [Message::Info(name.to_owned(), infos.to_vec())]);
    const UNKNOWN: u16 = 40;
    let all = vec![kind::BLOCK_SIZE, UNKNOWN, kind::DESCRIPTION, kind::NAME, kind::NAME, kind::BLOCK_SIZE];
    Scenario::new("told/one-after-another", "options that ask for one thing after another", exports()).script(
        [
            Step::ConnectRaw(1),
            ask("a", &[]),
            ask("bb", &[kind::NAME]),
            ask("ccc", &[kind::DESCRIPTION]),
            ask("", &[kind::BLOCK_SIZE]),
            ask("", &[kind::NAME, kind::DESCRIPTION]),
            ask("dddd", &[UNKNOWN, kind::NAME]),
            say(1, [Message::Go("eeeee".to_owned(), all)]),
            read(1),
            Step::Disconnect(1),
        ],
    )
}

fn export_name() -> Scenario {
    let stack = exports();
    Scenario::new("told/export-name", "NBD_OPT_EXPORT_NAME after a question about another export", stack)
        .script([
            Step::ConnectRaw(1),
            say(1, [Message::StructuredReply]),
            info(1, "a"),
            say(1, [Message::ExportName("bb".to_owned())]),
            read(1),
            Step::Disconnect(1),
            Step::ConnectRaw(2),
            say(2, [Message::ExportName(String::new())]),
            read(2),
            Step::Disconnect(2),
        ])
}

fn oldstyle() -> Scenario {
    let stack = Stack { arguments: vec!["-o".to_owned()], ..differing() };
    Scenario::new("told/oldstyle", "the oldstyle protocol, and layers that answer differently", stack)
        .script([connect(1), read(1), Step::Disconnect(1), Step::ConnectRaw(2), read(2), Step::Disconnect(2)])
}

fn no_block_size() -> Scenario {
    let stack = Stack::reference(1).with(0, |plugin| plugin.block_size = Some([0, 0, 0]));
    let stack = stack.with(1, |filter| {
        filter.absent.extend([Callback::BlockSize, Callback::ExportDescription]);
    });
    Scenario::new("told/no-block-size", "a plugin without constraints on block sizes", stack).script([
        Step::ConnectRaw(1),
        info(1, "a"),
        go(1, ""),
        read(1),
        Step::Disconnect(1),
    ])
}

fn long_list() -> Scenario {
    let stack = Stack::reference(2).with(0, |plugin| {
        let one = |nth: usize| {
            let begin = match nth % 5 {
                0 => "z",
                1 => "é",
                2 => "a b",
                3 => "",
                _ => "\"x\\",
            };
            let name = format!("{begin}{}", "y".repeat(nth));
            (name, if nth.is_multiple_of(3) { String::new() } else { format!("number {nth}") })
        };
        plugin.exports = Some((0..30).rev().map(one).chain([one(7), one(7)]).collect());
    });
    Scenario::new("told/list-long", "a list of many exports, in no order, and one of them again", stack)
        .script([
            connect(1),
            Step::List(1),
            Step::Abort(1),
            Step::ConnectRaw(2),
            Step::List(2),
            Step::Abort(2),
        ])
}

fn empty_list() -> Scenario {
    let stack = Stack::reference(2).with(0, |plugin| plugin.exports = Some(Vec::new()));
    Scenario::new("told/list-empty", "a plugin that lists no export", stack).script([
        Step::ConnectRaw(1),
        Step::List(1),
        go(1, "a"),
        read(1),
        Step::Disconnect(1),
    ])
}

/// The outermost layer has no list of its own, and the one below has another than the plugin.
fn filters_list() -> Scenario {
    let stack = Stack::reference(2).with(0, answers(0)).with(1, answers(1));
    let stack = stack.with(2, |filter| {
        filter.absent.insert(Callback::ListExports);
    });
    Scenario::new("told/list-of-filter", "a filter that lists other exports than the plugin", stack).script([
        Step::ConnectRaw(1),
        Step::List(1),
        go(1, ""),
        read(1),
        Step::Disconnect(1),
    ])
}

fn asks_block_status(client: u32) -> Step {
    Step::Request(client, command(Operation::BlockStatus, 0, 65536, 0))
}

fn contexts(export: &str, names: Vec<String>) -> Message {
    Message::SetMetaContext(export.to_owned(), names)
}

const ALLOCATION: &str = "base:allocation";

fn allocation(export: &str) -> Message {
    contexts(export, vec![ALLOCATION.to_owned()])
}

fn other_export(name: &str, asks: bool) -> Scenario {
    let about = "a metadata context of one export, and the choice of another";
    let mut script = vec![Step::ConnectRaw(1), say(1, [Message::StructuredReply]), say(1, [allocation("a")])];
    if asks {
        script.push(info(1, "a"));
    }
    script.extend([go(1, "b"), asks_block_status(1).fails(), read(1), Step::Disconnect(1)]);
    Scenario::new(format!("told/meta-context/other-export-{name}"), about, Stack::reference(2)).script(script)
}

/// The last option counts, and it sets none.
fn set_anew(name: &str, names: Vec<String>) -> Scenario {
    let about = "a metadata context that is set, and then set anew without it";
    Scenario::new(format!("told/meta-context/{name}"), about, Stack::reference(2)).script([
        Step::ConnectRaw(1),
        say(1, [Message::StructuredReply]),
        say(1, [allocation("")]),
        say(1, [contexts("", names)]),
        go(1, ""),
        asks_block_status(1).fails(),
        read(1),
        Step::Disconnect(1),
    ])
}

/// The last option counts, also where it is refused because its data is cut short.
fn set_in_vain(name: &str, message: Message, missing: u32) -> Scenario {
    let about = "a metadata context that is set, and then set anew by an option that the server refuses";
    Scenario::new(format!("told/meta-context/{name}"), about, Stack::reference(2)).script([
        Step::ConnectRaw(1),
        say(1, [Message::StructuredReply]),
        say(1, [allocation("")]),
        say(1, [Message::Cut(Box::new(message), missing)]).fails(),
        go(1, ""),
        // Some server serves it: that is what the rules judge, and no departure.
        asks_block_status(1).perhaps(),
        read(1),
        Step::Disconnect(1),
    ])
}

/// The last option counts, for its export only.
fn set_for_two(name: &str, first: &str, second: &str, chosen: &str) -> Scenario {
    let asks = if chosen == second { asks_block_status(1) } else { asks_block_status(1).fails() };
    let about = "a metadata context of one export, then of another, and the choice of one of them";
    Scenario::new(format!("told/meta-context/two/{name}"), about, Stack::reference(2)).script([
        Step::ConnectRaw(1),
        say(1, [Message::StructuredReply]),
        say(1, [allocation(first)]),
        say(1, [allocation(second)]),
        go(1, chosen),
        asks,
        read(1),
        Step::Disconnect(1),
    ])
}

/// Of two exports the name of one begins with that of the other.
fn set_for_prefixes() -> Scenario {
    let pairs = [("", "a"), ("a", ""), ("a", "ab"), ("ab", "a"), ("ab", "ac"), ("ab", "AB"), ("ab", "ab")];
    let visit = |(client, (set, chosen)): (u32, (&str, &str))| {
        let asks = asks_block_status(client);
        [
            Step::ConnectRaw(client),
            say(client, [Message::StructuredReply, allocation(set)]),
            go(client, chosen),
            if set == chosen { asks } else { asks.fails() },
            read(client),
            Step::Disconnect(client),
        ]
    };
    let about = "metadata contexts of exports whose names begin in the same way";
    Scenario::new("told/meta-context/prefixes", about, Stack::reference(2))
        .script((1..).zip(pairs).flat_map(visit))
}

fn listed_only() -> Scenario {
    let list = |names: &[&str]| {
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        say(1, [Message::ListMetaContext(String::new(), names)])
    };
    let about = "a client that asks which metadata contexts there are, and sets none";
    Scenario::new("told/meta-context/listed", about, Stack::reference(2)).script([
        Step::ConnectRaw(1),
        say(1, [Message::StructuredReply]),
        list(&[]),
        list(&["base:", "qemu:"]),
        list(&["base:allocation"]),
        go(1, ""),
        asks_block_status(1).fails(),
        read(1),
        Step::Disconnect(1),
    ])
}

fn without_structured_replies() -> Scenario {
    let about = "a metadata context for a client without structured replies";
    Scenario::new("told/meta-context/no-structured-replies", about, Stack::reference(2)).script([
        Step::ConnectRaw(1),
        say(1, [allocation("")]).fails(),
        go(1, ""),
        asks_block_status(1).fails(),
        Step::Disconnect(1),
        Step::Connect(2, Wishes { structured_replies: false, ..Wishes::default() }),
        go(2, ""),
        asks_block_status(2).fails(),
        read(2),
        Step::Disconnect(2),
    ])
}
