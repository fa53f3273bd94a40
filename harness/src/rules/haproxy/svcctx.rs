//! `svcctx`: NULL for a new command, and the handler's alone from then on.

use layers_trace::Callback;
use layers_trace::appctx::Place;

use super::{REQUIRED, Seen, shown};
use crate::rules::check::{Now, Report, Rule, at, by, enters};

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "appctx.svcctx.null-at-parse",
        statement: "svcctx is NULL when the parse function of a command starts, whatever came before it on the connection.",
        antecedent: "a command whose keyword has a parse function",
        good: "parse",
        bad: "parse svcctx=storage",
        fix: "reset svcctx before each command",
        check: by!(at(enters(&[Callback::Parse]), null_at_parse)),
        ..REQUIRED
    },
    Rule {
        id: "appctx.svcctx.null-at-first-io",
        statement: "The first call of io_handler finds svcctx as parse has left it, or NULL where there is no parse.",
        antecedent: "a command that comes to its io_handler",
        good: "parse = 0 svcctx=storage io_handler",
        bad: "parse io_handler svcctx=elsewhere",
        fix: "leave svcctx alone between parse and io_handler",
        check: by!(at(enters(&[Callback::IoHandler]), first_io)),
        ..REQUIRED
    },
    Rule {
        id: "appctx.svcctx.preserved",
        statement: "Each further call of io_handler finds svcctx as the call before has left it.",
        antecedent: "a command whose io_handler is called more than once",
        good: "parse io_handler = 0 svcctx=storage io_handler",
        bad: "parse io_handler = 0 svcctx=storage io_handler svcctx=elsewhere",
        fix: "leave svcctx alone while a command runs",
        check: by!(at(enters(&[Callback::IoHandler]), preserved)),
        ..REQUIRED
    },
    Rule {
        id: "appctx.svcctx.preserved-to-release",
        statement: "io_release finds svcctx as the last call of the command has left it.",
        antecedent: "a command that is released",
        good: "parse io_handler = 1 svcctx=storage io_release",
        bad: "parse io_handler = 1 svcctx=storage io_release svcctx=NULL",
        fix: "reset svcctx after io_release, not before",
        check: by!(at(enters(&[Callback::IoRelease]), preserved_to_release)),
        ..REQUIRED
    },
];

fn null_at_parse(now: &Now<'_>, report: &mut Report<'_>) {
    let Some(context) = Seen::of(now).and_then(|seen| seen.context()) else { return };
    report.expect(context.place == Place::Null, [now.event], "svcctx is NULL", shown(context));
}

fn first_io(now: &Now<'_>, report: &mut Report<'_>) {
    let Some(seen) = Seen::of(now) else { return };
    let Some(context) = seen.context() else { return };
    if seen.begins() && !seen.has(Callback::Parse) {
        let holds = context.place == Place::Null;
        return report.expect(holds, [now.event], "svcctx is NULL: there was no parse", shown(context));
    }
    let Some(command) = seen.command().filter(|command| command.calls == 0 && !command.unrecorded) else {
        return;
    };
    compare(command.left.as_ref(), context.svcctx, now, report);
}

fn preserved(now: &Now<'_>, report: &mut Report<'_>) {
    let Some(seen) = Seen::of(now) else { return };
    let Some(command) = seen.command().filter(|command| command.calls > 0 && !command.unrecorded) else {
        return;
    };
    if let Some(context) = seen.context() {
        compare(command.left.as_ref(), context.svcctx, now, report);
    }
}

fn preserved_to_release(now: &Now<'_>, report: &mut Report<'_>) {
    let Some(seen) = Seen::of(now) else { return };
    // Called by its own handler, it is none of the server's doing.
    let by_itself = now.parent().is_some_and(|parent| parent.callback.is_keyword());
    let Some(command) = seen.command().filter(|command| !command.unrecorded && !by_itself) else {
        return;
    };
    if let Some(context) = seen.context() {
        compare(command.left.as_ref(), context.svcctx, now, report);
    }
}

/// `svcctx` is what the call before has left.
fn compare(
    left: Option<&(layers_trace::appctx::State, layers_trace::Event)>,
    svcctx: u64,
    now: &Now<'_>,
    report: &mut Report<'_>,
) {
    let Some((before, exit)) = left else { return };
    let Some(before) = before.context else { return };
    let actual = if before.svcctx == svcctx { "the same" } else { "another pointer" };
    report.expect(
        before.svcctx == svcctx,
        [exit, now.event],
        format!("svcctx as the call before has left it ({})", shown(before)),
        actual,
    );
}
