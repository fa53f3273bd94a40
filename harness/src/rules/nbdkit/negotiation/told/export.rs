//! Size, transmission flags and block sizes.

use layers_trace::{Callback, Event};

use super::super::flags::is_default;
use super::options::Options;
use super::{Choices, INFO_BLOCK_SIZE, INFO_EXPORT, Told};
use crate::history::ThreadModel;
use crate::protocol::transmission::{HAS_FLAGS, SEND_DF};
use crate::rules::check::{Check, Checker, Now, Report, Rule, Watch};
use crate::version::Version;

/// The rules of this topic.
pub const RULES: &[Rule] = &[
    Rule {
        id: "nego.told.size",
        statement: "The size that a client is told is the one that the outermost layer has answered for this export.",
        clause: "nbdkit-plugin(3) and nbdkit-filter(3), .get_size",
        antecedent: "a client that is told of an export, and a get_size for it",
        good: r#"L0 get_size=1024; NBD_OPT_GO "a""#,
        bad: r#"L0 get_size=1024; NBD_OPT_GO "a" = 0 size=512"#,
        fix: "send the answer of the outermost layer, for each option anew, and change nothing in it",
        check: Checker::Trace(|| Box::new(Size::default())),
        ..Rule::REQUIRED
    },
    Rule {
        id: "nego.told.flags",
        since: Version(1, 11, 10),
        statement: "The transmission flags are those that the outermost layer's answers to can_* and is_rotational, and structured replies, come to.",
        clause: "nbdkit-plugin(3) and nbdkit-filter(3), .can_write … .can_cache; the NBD protocol, Transmission flags",
        antecedent: "a client that is told the flags, and a layer that has answered",
        good: r#"L0 can_flush=0; NBD_OPT_GO "a""#,
        bad: r#"NBD_OPT_GO "a" { L0.open queries } = 0 flags=HAS_FLAGS"#,
        fix: "make each flag of the outermost layer's answer for this handle, and leave reserved ones clear",
        check: Checker::Trace(|| Box::new(Flags::default())),
        ..Rule::REQUIRED
    },
    Rule {
        id: "nego.told.block_size",
        since: Version(1, 29, 16),
        statement: "A client that asks for block sizes is told those of the outermost layer, and none where there are no constraints.",
        clause: "nbdkit-plugin(3) and nbdkit-filter(3), .block_size; nbdkit-protocol(1), NBD_INFO_BLOCK_SIZE",
        antecedent: "a client that asks for NBD_INFO_BLOCK_SIZE and is told of an export",
        good: r#"NBD_OPT_GO "a" types=BLOCK_SIZE { open prepare queries block_size = 512,4096,65536 } = 0 info=EXPORT|BLOCK_SIZE sizes=512,4096,65536"#,
        bad: r#"NBD_OPT_GO "a" types=BLOCK_SIZE { open prepare queries block_size = 512,4096,65536 } = 0 info=EXPORT|BLOCK_SIZE sizes=1,4096,65536"#,
        fix: "send the three numbers as the outermost layer gave them for this handle",
        check: Checker::Trace(|| Box::new(BlockSize::default())),
        ..Rule::REQUIRED
    },
];

/// The size is get_size's.
#[derive(Default)]
struct Size {
    choices: Choices,
}

impl Check for Size {
    fn watches(&self) -> Watch {
        Choices::WATCH
    }

    fn see(&mut self, now: &Now<'_>, report: &mut Report<'_>) {
        let told = self.choices.see(now).filter(|told| told.has(INFO_EXPORT));
        let Some(Told { reply, choice, .. }) = told else { return };
        let Some(answer) = choice.answer(Callback::GetSize) else { return };
        let (Some(value), Some(exit)) = (answer.value, &answer.exit) else { return };
        let expected = format!("the client is told {value} bytes");
        report.expect(
            reply.context == value.cast_unsigned(),
            [exit, reply],
            expected,
            format!("{} bytes", reply.context),
        );
    }
}

/// A transmission flag, and what it follows from.
struct Flag {
    bit: u32,
    name: &'static str,
    query: Callback,
    /// It is there where the answer is no.
    inverted: bool,
}

const fn flag(bit: u32, name: &'static str, query: Callback) -> Flag {
    Flag { bit, name, query, inverted: false }
}

const FLAGS: &[Flag] = &[
    Flag { inverted: true, ..flag(1, "NBD_FLAG_READ_ONLY", Callback::CanWrite) },
    flag(2, "NBD_FLAG_SEND_FLUSH", Callback::CanFlush),
    flag(3, "NBD_FLAG_SEND_FUA", Callback::CanFua),
    flag(4, "NBD_FLAG_ROTATIONAL", Callback::IsRotational),
    flag(5, "NBD_FLAG_SEND_TRIM", Callback::CanTrim),
    flag(6, "NBD_FLAG_SEND_WRITE_ZEROES", Callback::CanZero),
    flag(8, "NBD_FLAG_CAN_MULTI_CONN", Callback::CanMultiConn),
    flag(10, "NBD_FLAG_SEND_CACHE", Callback::CanCache),
    flag(11, "NBD_FLAG_SEND_FAST_ZERO", Callback::CanFastZero),
];
const MULTI_CONN: u32 = 8;
/// Flags that the server's documents name: 9 and those from 12 on have no meaning in it.
const KNOWN: u64 = 0xdff;

/// The flags are those that the answers come to.
#[derive(Default)]
struct Flags {
    choices: Choices,
    options: Options,
}

impl Check for Flags {
    fn watches(&self) -> Watch {
        Choices::WATCH.and(Options::WATCH)
    }

    fn see(&mut self, now: &Now<'_>, report: &mut Report<'_>) {
        self.options.see(now);
        let told = self.choices.see(now).filter(|told| told.has(INFO_EXPORT));
        let Some(Told { reply, choice, .. }) = told else { return };
        // Where connections are serialized the server leaves multi-conn out.
        let model = now.history.thread_model();
        let serial = model.is_none_or(|model| model == ThreadModel::SerializeConnections);
        let told = |bit: u64| reply.b & bit != 0;
        let mut judge = |name: &str, expected: bool, bit: u64, because: Option<&Event>| {
            let said = |set: bool| format!("{}{name}", if set { "" } else { "no " });
            let because = because.unwrap_or(&choice.open);
            report.expect(expected == told(bit), [because, reply], said(expected), said(told(bit)));
        };
        for flag in FLAGS {
            let answer = choice.answer(flag.query);
            let Some(value) = answer.and_then(|answer| answer.value) else { continue };
            if is_default(now.history, flag.query) || flag.bit == MULTI_CONN && serial {
                continue;
            }
            let exit = answer.and_then(|answer| answer.exit.as_ref());
            judge(flag.name, (value != 0) != flag.inverted, 1 << flag.bit, exit);
        }
        judge("NBD_FLAG_HAS_FLAGS", true, HAS_FLAGS, None);
        // What STARTTLS is to end is another rule.
        let structured = self.options.structured(reply.handle);
        if let Some(structured) = structured.filter(|_| self.options.forgotten(reply.handle).is_none()) {
            judge("NBD_FLAG_SEND_DF", structured.is_some(), SEND_DF, structured);
        }
        if reply.b & !KNOWN != 0 {
            let actual = format!("flags {:#x}", reply.b);
            report.broken([reply], "no flag that the server's documents do not name", actual);
        }
    }
}

/// The block sizes are block_size's.
#[derive(Default)]
struct BlockSize {
    choices: Choices,
}

impl Check for BlockSize {
    fn watches(&self) -> Watch {
        Choices::WATCH
    }

    fn see(&mut self, now: &Now<'_>, report: &mut Report<'_>) {
        let Some(told) = self.choices.see(now).filter(|told| told.is_asked(INFO_BLOCK_SIZE)) else { return };
        let Some(answer) = told.choice.answer(Callback::BlockSize) else { return };
        let (minimum, preferred, maximum) = answer.exit.as_ref().map_or((0, 0, 0), |exit| exit.block_size());
        let expected = (minimum != 0).then_some([minimum, preferred, maximum]);
        let actual = told.reply.told_block_sizes().filter(|_| told.has(INFO_BLOCK_SIZE));
        let said = |sizes: Option<[u32; 3]>| match sizes {
            Some([minimum, preferred, maximum]) => format!("block sizes {minimum}, {preferred}, {maximum}"),
            None => "no block sizes".to_owned(),
        };
        let because = answer.exit.as_ref().unwrap_or(&told.choice.open);
        report.expect(expected == actual, [because, told.reply], said(expected), said(actual));
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{reply, with_option};
    use crate::rules::testing::*;
    use layers_trace::{Callback, Event, Field, Kind, Operation, Text};

    #[test]
    fn the_size_is_the_outermost_answer_for_this_export() {
        const RULE: &str = "nego.told.size";
        accepts(RULE, reference());
        for operation in [Operation::Info, Operation::Go] {
            for size in [0, 1, (1 << 20) - 1, (1 << 20) + 512, u64::MAX] {
                rejects(RULE, reply(reference(), operation, |reply| reply.context = size));
            }
        }
        // The outermost layer's answer is another than that of the layers below.
        let odd = |nth| reference().changed(Kind::Exit, 2, Callback::GetSize, nth, |exit| exit.a = 1_000_001);
        rejects(RULE, odd(0));
        rejects(RULE, odd(1));
        exercised_and_holds(RULE, reply(odd(1), Operation::Go, |reply| reply.context = 1_000_001));
        // Without it the next layer's counts.
        let lacking = odd(1).lacking(2, Callback::GetSize);
        exercised_and_holds(RULE, lacking);
        // The answer that NBD_OPT_INFO has got is not that for NBD_OPT_GO.
        rejects(RULE, reply(odd(0), Operation::Go, |reply| reply.context = 1_000_001));
    }

    #[test]
    fn each_flag_is_what_its_answer_comes_to() {
        const RULE: &str = "nego.told.flags";
        accepts(RULE, reference());
        for operation in [Operation::Info, Operation::Go] {
            for bit in 0..16 {
                rejects(RULE, reply(reference(), operation, |reply| reply.b ^= 1 << bit));
            }
        }
        for (query, bits) in [
            (Callback::CanFlush, 1 << 2),
            (Callback::CanFua, 1 << 3),
            (Callback::CanTrim, 1 << 5),
            (Callback::CanZero, 1 << 6 | 1 << 11),
            (Callback::CanMultiConn, 1 << 8),
            (Callback::CanCache, 1 << 10),
            (Callback::CanFastZero, 1 << 11),
        ] {
            let no = reference().changed(Kind::Exit, 2, query, 1, |exit| exit.a = 0);
            rejects(RULE, no.clone());
            exercised_and_holds(RULE, reply(no, Operation::Go, |reply| reply.b = TOLD_FLAGS & !bits));
        }
        let rotational = reference().changed(Kind::Exit, 2, Callback::IsRotational, 1, |exit| exit.a = 1);
        rejects(RULE, rotational.clone());
        exercised_and_holds(RULE, reply(rotational, Operation::Go, |reply| reply.b |= 1 << 4));
        let readonly = reference().changed(Kind::Exit, 2, Callback::CanWrite, 1, |exit| exit.a = 0);
        let flags = TOLD_FLAGS & !(1 << 3 | 1 << 5 | 1 << 6 | 1 << 11) | 1 << 1;
        exercised_and_holds(RULE, reply(readonly, Operation::Go, |reply| reply.b = flags));
    }

    #[test]
    fn fragments_depend_on_structured_replies() {
        const RULE: &str = "nego.told.flags";
        let structured = with_option(reference(), Operation::StructuredReply, 0, &[]);
        rejects(RULE, structured.clone());
        let both = |script| {
            let told = |reply: &mut Event| reply.b |= 1 << 7;
            reply(reply(script, Operation::Info, told), Operation::Go, told)
        };
        exercised_and_holds(RULE, both(structured));
        rejects(RULE, both(with_option(reference(), Operation::StructuredReply, -1, &[])));
    }

    /// A client that asks for the block sizes, which the layers have, and is told these.
    fn blocks(told: Option<[u32; 3]>, given: (u32, u32, u32)) -> Script {
        let good = reference();
        let place = good.index(Kind::Enter, 2, Callback::CanExtents, 1);
        let handles: Vec<u32> = (4..=6).collect();
        let script = good.with(place, |script| {
            script.through_chain(&handles, Callback::BlockSize, 0, |_| {});
            for exit in script.events.iter_mut().rev().take(3) {
                (exit.b, exit.d) = (u64::from(given.0) | u64::from(given.1) << 32, given.2);
            }
        });
        let script = asking(script, 1 << 3);
        reply(script, Operation::Go, |reply| {
            reply.d |= if told.is_some() { 1 << 3 } else { 0 };
            reply.texts.extend(told.map(|sizes| Text {
                field: Field::BlockSizes,
                bytes: sizes.iter().flat_map(|size| size.to_le_bytes()).collect(),
                cut: false,
            }));
        })
    }

    /// The client asks for these NBD_INFO types.
    fn asking(mut script: Script, types: u64) -> Script {
        let go = |event: &&mut Event| event.kind == Kind::Request && event.operation() == Some(Operation::Go);
        script.events.iter_mut().find(go).unwrap().b = 1 | types;
        script
    }

    #[test]
    fn block_sizes_are_the_outermost_answer() {
        const RULE: &str = "nego.told.block_size";
        const GOOD: (u32, u32, u32) = (512, 4096, 65536);
        exercised_and_holds(RULE, blocks(Some([512, 4096, 65536]), GOOD));
        for wrong in [[1, 4096, 65536], [512, 512, 65536], [512, 4096, u32::MAX], [4096, 512, 65536]] {
            rejects(RULE, blocks(Some(wrong), GOOD));
        }
        rejects(RULE, blocks(None, GOOD));
        exercised_and_holds(RULE, blocks(None, (0, 0, 0)));
        rejects(RULE, blocks(Some([1, 512, u32::MAX]), (0, 0, 0)));
        assert_eq!(judged(reference()).result(RULE).unwrap().exercised, 0);
    }
}
