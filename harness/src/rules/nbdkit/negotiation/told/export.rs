//! Size, transmission flags and block sizes.

use layers_trace::Callback::{self, BlockSize, CanWrite, GetSize};
use layers_trace::Event;

use super::super::flags::{DEFAULTS, is_default};
use super::options::Options;
use super::{Choices, Told, at_told};
use crate::history::ThreadModel;
use crate::protocol::info;
use crate::protocol::transmission::{HAS_FLAGS, MULTI_CONN, READ_ONLY, SEND_DF};
use crate::rules::check::{Now, Report, Rule, Said, by, given, remembering, unless};

pub(in super::super) const RULES: &[Rule] = &[
    Rule {
        id: "nego.told.size",
        statement: "The size that a client is told is the one that the outermost layer has answered for this export.",
        clause: "nbdkit-plugin(3) and nbdkit-filter(3), .get_size",
        antecedent: "a client that is told of an export, and a get_size for it",
        good: r#"L0 get_size=1024; NBD_OPT_GO "a""#,
        bad: r#"L0 get_size=1024; NBD_OPT_GO "a" = 0 size=512"#,
        fix: "send the answer of the outermost layer, for each option anew, and change nothing in it",
        check: by!(at_told(size)),
        ..Rule::REQUIRED
    },
    Rule {
        id: "nego.told.flags",
        statement: "The transmission flags are those that the outermost layer's answers to can_* and is_rotational, and structured replies, come to.",
        clause: "nbdkit-plugin(3) and nbdkit-filter(3), .can_write … .can_cache; the NBD protocol, Transmission flags",
        antecedent: "a client that is told the flags, and a layer that has answered",
        good: r#"L0 can_flush=0; NBD_OPT_GO "a""#,
        bad: r#"NBD_OPT_GO "a" { L0.open queries } = 0 flags=HAS_FLAGS"#,
        fix: "make each flag of the outermost layer's answer for this handle, and leave reserved ones clear",
        check: by!(remembering(Choices::WATCH.and(Options::WATCH), Flags::see)),
        ..Rule::REQUIRED.since(1, 11, 10)
    },
    Rule {
        id: "nego.told.block_size",
        statement: "A client that asks for block sizes is told those of the outermost layer, and none where there are no constraints.",
        clause: "nbdkit-plugin(3) and nbdkit-filter(3), .block_size; nbdkit-protocol(1), NBD_INFO_BLOCK_SIZE",
        antecedent: "a client that asks for NBD_INFO_BLOCK_SIZE and is told of an export",
        good: r#"NBD_OPT_GO "a" types=BLOCK_SIZE { open prepare queries block_size = 512,4096,65536 } = 0 info=EXPORT|BLOCK_SIZE sizes=512,4096,65536"#,
        bad: r#"NBD_OPT_GO "a" types=BLOCK_SIZE { open prepare queries block_size = 512,4096,65536 } = 0 info=EXPORT|BLOCK_SIZE sizes=1,4096,65536"#,
        fix: "send the three numbers as the outermost layer gave them for this handle",
        check: by!(at_told(block_size)),
        ..Rule::REQUIRED.since(1, 29, 16)
    },
];

/// The size is get_size's.
fn size(told: &Told<'_>, _: &Now<'_>, report: &mut Report<'_>) -> Said {
    let answer = told.choice.answer(GetSize).filter(|_| told.has(info::EXPORT))?;
    let (value, exit) = (answer.value?, answer.exit.as_ref()?);
    let (expected, size) = (format!("the client is told {value} bytes"), told.reply.context);
    report.expect(size == value.cast_unsigned(), exit, expected, format_args!("{size} bytes"))
}

/// Flags that the server's documents name: 9 and those from 12 on have no meaning in it.
const KNOWN: u64 = 0xdff;

/// The flags are those that the answers come to.
#[derive(Default)]
struct Flags {
    choices: Choices,
    options: Options,
}

impl Flags {
    fn see(&mut self, now: &Now<'_>, report: &mut Report<'_>) -> Said {
        self.options.see(now);
        let told = self.choices.see(now).filter(|told| told.has(info::EXPORT));
        let Told { reply, choice, .. } = told?;
        // Where connections are serialized the server leaves multi-conn out.
        let model = now.history.thread_model();
        let serial = model.is_none_or(|model| model == ThreadModel::SerializeConnections);
        let told = |bit: u64| reply.b & bit != 0;
        let mut judge = |name: &str, expected: bool, bit: u64, because: Option<&Event>| {
            let said = |set: bool| format!("{}{name}", if set { "" } else { "no " });
            report.same(because.unwrap_or(&choice.open), expected, told(bit), said)
        };
        let mut answered = |queries: &[Callback], name: &str, bit: u64, is_set: fn(i64) -> bool| {
            let query = *queries.first()?;
            unless(is_default(now.history, query) || bit == MULTI_CONN && serial)?;
            let answer = choice.answer(query)?;
            judge(name, is_set(answer.value?), bit, answer.exit.as_ref())
        };
        answered(&[CanWrite], "NBD_FLAG_READ_ONLY", READ_ONLY, |value| value == 0);
        for flag in DEFAULTS {
            answered(flag.absent, flag.flag, 1 << flag.bit, |value| value != 0);
        }
        judge("NBD_FLAG_HAS_FLAGS", true, HAS_FLAGS, None);
        // What STARTTLS is to end is another rule.
        let structured = self.options.structured(reply.handle);
        if let Some(structured) = structured.filter(|_| self.options.forgotten(reply.handle).is_none()) {
            judge("NBD_FLAG_SEND_DF", structured.is_some(), SEND_DF, structured);
        }
        given(reply.b & !KNOWN != 0)?;
        let actual = format!("flags {:#x}", reply.b);
        report.broken((), "no flag that the server's documents do not name", actual)
    }
}

/// The block sizes are block_size's.
fn block_size(told: &Told<'_>, _: &Now<'_>, report: &mut Report<'_>) -> Said {
    let answer = told.choice.answer(BlockSize).filter(|_| told.is_asked(info::BLOCK_SIZE))?;
    let (minimum, preferred, maximum) = answer.exit.as_ref().map_or((0, 0, 0), |exit| exit.block_size());
    let expected = (minimum != 0).then_some([minimum, preferred, maximum]);
    let actual = told.reply.told_block_sizes().filter(|_| told.has(info::BLOCK_SIZE));
    let said = |sizes: Option<[u32; 3]>| match sizes {
        Some([minimum, preferred, maximum]) => format!("block sizes {minimum}, {preferred}, {maximum}"),
        None => "no block sizes".to_owned(),
    };
    let because = answer.exit.as_ref().unwrap_or(&told.choice.open);
    report.same(because, expected, actual, said)
}
