//! The helpers that print a message.

use layers_trace::Callback::IoHandler;
use layers_trace::Probe;

use super::{FORBIDDEN, REQUIRED, Seen};
use crate::rules::check::{Now, Party, Report, Rule, Said, at, by, exits, given, probed};

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "appctx.print.resets-to-print-ctx",
        statement: "cli_msg, cli_err and their like leave svcctx at the print context in the storage area, whatever it was.",
        antecedent: "a keyword that prints an error from parse (the harness's own does)",
        good: "parse io_handler { PrintContext }",
        bad: "parse io_handler { PrintContext = 0 }",
        fix: "reserve the print context in the storage area",
        check: by!(probed(&[Probe::PrintContext], "svcctx points at the storage area")),
        ..REQUIRED
    },
    Rule {
        id: "appctx.print.terminal",
        statement: "The helpers that print a message are not used in the middle of an io_handler.",
        antecedent: "a call of io_handler that is not the last of its command",
        good: "parse io_handler = 0 io_handler = 1",
        bad: "parse io_handler = 0 st0=5",
        fix: "print through the channel, or end the command in parse",
        check: by!(at(exits(&[IoHandler]), terminal)),
        ..FORBIDDEN.of(Party::Handler)
    },
    Rule {
        id: "appctx.legacy.ctx-cli-maps",
        statement: "In HAProxy 2.6 the transitional fields ctx.cli lie exactly where the print context does.",
        antecedent: "HAProxy 2.6, which alone has them, and a keyword that prints with them (the harness's own does)",
        good: "parse io_handler { LegacyFields }",
        bad: "parse io_handler { LegacyFields = 0 }",
        fix: "keep the order of the fields",
        check: by!(probed(
            &[Probe::LegacyFields],
            "the message is in ctx.cli.msg, and there is no ctx.cli.err"
        )),
        ..REQUIRED
    },
];

fn terminal(now: &Now<'_>, report: &mut Report<'_>) -> Said {
    let (seen, call) = (Seen::of(now)?, now.call?);
    given(now.event.result() == 0)?;
    let (before, after) = (call.enter.c, seen.state.st0);
    report.expect(before == after, call, "st0 as it was", format_args!("{before} became {after}"))
}
