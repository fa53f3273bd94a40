//! `svcctx`: NULL for a new command, and the handler's alone from then on.

use layers_trace::Callback::{IoHandler, IoRelease, Parse};
use layers_trace::appctx::{Context, Place};

use super::{REQUIRED, Seen, shown};
use crate::history::CliCommand;
use crate::rules::check::{Now, Report, Rule, Said, at, by, enters, unless};

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "appctx.svcctx.null-at-parse",
        statement: "svcctx is NULL when the parse function of a command starts, whatever came before it on the connection.",
        antecedent: "a command whose keyword has a parse function",
        good: "parse",
        bad: "parse svcctx=storage",
        fix: "reset svcctx before each command",
        check: by!(at(enters(&[Parse]), null_at_parse)),
        ..REQUIRED
    },
    Rule {
        id: "appctx.svcctx.null-at-first-io",
        statement: "The first call of io_handler finds svcctx as parse has left it, or NULL where there is no parse.",
        antecedent: "a command that comes to its io_handler",
        good: "parse = 0 svcctx=storage io_handler",
        bad: "parse io_handler svcctx=elsewhere",
        fix: "leave svcctx alone between parse and io_handler",
        check: by!(at(enters(&[IoHandler]), first_io)),
        ..REQUIRED
    },
    Rule {
        id: "appctx.svcctx.preserved",
        statement: "Each further call of io_handler finds svcctx as the call before has left it.",
        antecedent: "a command whose io_handler is called more than once",
        good: "parse io_handler = 0 svcctx=storage io_handler",
        bad: "parse io_handler = 0 svcctx=storage io_handler svcctx=elsewhere",
        fix: "leave svcctx alone while a command runs",
        check: by!(at(enters(&[IoHandler]), preserved)),
        ..REQUIRED
    },
    Rule {
        id: "appctx.svcctx.preserved-to-release",
        statement: "io_release finds svcctx as the last call of the command has left it.",
        antecedent: "a command that is released",
        good: "parse io_handler = 1 svcctx=storage io_release",
        bad: "parse io_handler = 1 svcctx=storage io_release svcctx=NULL",
        fix: "reset svcctx after io_release, not before",
        check: by!(at(enters(&[IoRelease]), preserved_to_release)),
        ..REQUIRED
    },
];

fn null_at_parse(now: &Now<'_>, report: &mut Report<'_>) -> Said {
    let context = Seen::of(now).and_then(|seen| seen.state.context)?;
    report.expect(context.place == Place::Null, (), "svcctx is NULL", shown(context))
}

fn first_io(now: &Now<'_>, report: &mut Report<'_>) -> Said {
    let seen = Seen::of(now)?;
    let context = seen.state.context?;
    if seen.begins() && !seen.has(Parse) {
        let holds = context.place == Place::Null;
        return report.expect(holds, (), "svcctx is NULL: there was no parse", shown(context));
    }
    let command = seen.command().filter(|command| command.calls == 0)?;
    as_left(command, context, report)
}

fn preserved(now: &Now<'_>, report: &mut Report<'_>) -> Said {
    let seen = Seen::of(now)?;
    let command = seen.command().filter(|command| command.calls > 0)?;
    as_left(command, seen.state.context?, report)
}

fn preserved_to_release(now: &Now<'_>, report: &mut Report<'_>) -> Said {
    let seen = Seen::of(now)?;
    // Called by its own handler, it is none of the server's doing.
    unless(now.parent().is_some_and(|parent| parent.callback.is_keyword()))?;
    as_left(seen.command()?, seen.state.context?, report)
}

/// `svcctx` is what the call before has left.
fn as_left(command: &CliCommand, context: Context, report: &mut Report<'_>) -> Said {
    unless(command.unrecorded)?;
    let (before, exit) = command.left.as_ref()?;
    let before = before.context?;
    let expected = format!("svcctx as the call before has left it ({})", shown(before));
    report.expect(before.svcctx == context.svcctx, exit, expected, "another pointer")
}
