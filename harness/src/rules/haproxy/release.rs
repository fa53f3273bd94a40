//! `io_release`, and the order of a command's calls.

use layers_trace::Callback::{IoHandler, IoRelease, Parse, Release};
use layers_trace::Kind;

use super::{ALL, REQUIRED, Seen};
use crate::history::{Appctx, End, History};
use crate::rules::check::{Now, Report, Rule, Said, at, by, enters, exits, given, notes, unless};

/// Where the source itself says it: there is no document of these.
const CLI: &str = "comments of struct cli_kw (include/haproxy/cli-t.h)";

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "release.at-most-once",
        statement: "io_release runs at most once for a command.",
        clause: CLI,
        antecedent: "a command that is released",
        good: "parse io_handler = 1 io_release",
        bad: "parse io_handler = 1 io_release io_release",
        fix: "clear the slot before it is called",
        check: by!(at(enters(&[IoRelease]), at_most_once)),
        ..Rule::FORBIDDEN.from(ALL)
    },
    Rule {
        id: "release.not-after-failed-parse",
        statement: "There is no io_release when parse has returned non-zero, or has left no io_handler.",
        clause: CLI,
        antecedent: "a keyword with io_release whose parse ends the command",
        good: "parse = 1",
        bad: "parse = 1 io_release",
        fix: "clear both slots when parse ends the command",
        check: by!(at(exits(&[Parse]).enters(&[IoRelease]), not_after_failed_parse)),
        ..Rule::FORBIDDEN.from(ALL)
    },
    Rule {
        id: "release.order",
        statement: "A command is parsed, then handled, then released; nothing of it is called after that, and the next one is parsed after it.",
        clause: CLI,
        antecedent: "a command",
        good: "parse io_handler = 1 io_release parse",
        bad: "parse io_handler parse",
        fix: "release a command before the next one is looked for",
        check: by!(at(enters(&[Parse, IoHandler, IoRelease]), order)),
        ..Rule::REQUIRED.from(ALL)
    },
    Rule {
        id: "release.on-disconnect",
        statement: "When the session goes away in the middle of a command, io_release runs inside the release of the applet.",
        antecedent: "a client that leaves while a command with io_release runs",
        good: "parse io_handler hangup release { io_release }",
        bad: "parse io_handler hangup release",
        fix: "call io_release from the applet's release",
        check: by!(at(enters(&[IoRelease]).exits(&[Release]), on_disconnect)),
        ..REQUIRED.from(ALL)
    },
    Rule {
        id: "release.eventually",
        statement: "Every command that has started is released once its client has gone.",
        antecedent: "a command with io_release whose client has left before the server is told to stop",
        good: "parse io_handler = 1 io_release hangup SIGTERM ends",
        bad: "parse io_handler hangup SIGTERM",
        fix: "look for the closed peer whatever the handler does",
        check: by!(at(notes(&[Kind::Signal]), |now, report| eventually(now.history, report))
            .and_end(eventually_at_end)),
        ..REQUIRED.from(ALL)
    },
];

fn at_most_once(now: &Now<'_>, report: &mut Report<'_>) -> Said {
    let seen = Seen::of(now)?;
    let first = seen.command().and_then(|command| command.released.first());
    report.expect(first.is_none(), first, "one io_release", "another one")
}

fn not_after_failed_parse(now: &Now<'_>, report: &mut Report<'_>) -> Said {
    let seen = Seen::of(now)?;
    if now.is_exit() {
        let ends = now.event.result() != 0 || seen.state.slots.is_some_and(|slots| !slots.io_handler);
        return report.exercised_if(ends && seen.has(IoRelease));
    }
    let command = seen.command()?;
    let before_its_end = now.parent().is_some_and(|parent| parent.callback == Parse);
    let ended_by_parse = command.over && command.calls == 0 && command.released.is_empty();
    given(before_its_end || ended_by_parse)?;
    report.broken(command.parsed.as_ref(), "no io_release", "it is called")
}

fn order(now: &Now<'_>, report: &mut Report<'_>) -> Said {
    let seen = Seen::of(now)?;
    let before = seen.appctx.and_then(|appctx| appctx.command.as_ref());
    report.exercised();
    let waits = before.filter(|command| command.is_live() && !command.unrecorded);
    let last = before.and_then(|command| command.left.as_ref()).map(|(_, exit)| exit);
    match seen.callback {
        // A command without io_release just ends with its handler; one that is given up is released.
        Parse if waits.is_some() => {
            report.broken(last, "the command before is over", "it waits to be called")
        }
        IoHandler if seen.begins() && seen.has(Parse) => {
            report.broken(last, "parse comes first, and nothing after the end", "io_handler is called")
        }
        IoRelease if before.is_none_or(|command| command.number != seen.state.number) => {
            report.broken(last, "a command that runs", "io_release of none")
        }
        _ => None,
    }
}

/// What runs and wants to be released.
fn is_running(appctx: &Appctx, history: &History) -> bool {
    appctx.command.as_ref().is_some_and(|command| {
        let keyword = history.registered_as(command.number);
        let has_release = match command.left.as_ref().and_then(|(state, _)| state.slots) {
            Some(slots) => slots.io_release,
            None => keyword.is_some_and(|keyword| keyword.has(IoRelease)),
        };
        command.is_live() && command.released.is_empty() && has_release
    })
}

fn on_disconnect(now: &Now<'_>, report: &mut Report<'_>) -> Said {
    let seen = Seen::of(now)?;
    let appctx = seen.appctx?;
    if now.is_exit() {
        // The running command was to be released meanwhile.
        given(is_running(appctx, now.history))?;
        return report.expect(false, appctx.released.as_ref(), "io_release in between", "none");
    }
    let live = seen.command().filter(|command| !command.done && command.is_live() && !command.unrecorded);
    let parent = now.parent().map(|parent| parent.callback);
    // Called by a handler, it is none of the server's doing.
    given(live.is_some() && parent.is_none_or(|parent| !parent.is_keyword()))?;
    let expected = "io_release inside the release of the applet: the handler was not done";
    report.expect(parent == Some(Release), (), expected, "io_release elsewhere")
}

fn eventually(history: &History, report: &mut Report<'_>) -> Said {
    // Clients have written down when they leave, and the server has not been told to stop.
    given(history.signals().is_empty() && history.run().is_none_or(|run| run.client_log))?;
    unless(history.clients().any(|client| client.leaving.is_none()))?;
    for appctx in history.appctxs() {
        let Some(command) = &appctx.command else { continue };
        if !command.released.is_empty() {
            report.exercised();
        } else if is_running(appctx, history) {
            let begun = command.left.as_ref().map(|(_, exit)| exit);
            report.broken(begun, "it has been released", "it has not");
        }
    }
    Some(())
}

fn eventually_at_end(history: &History, report: &mut Report<'_>) -> Said {
    given(matches!(history.end(), Some(End::Exited(0))))?;
    eventually(history, report)
}
