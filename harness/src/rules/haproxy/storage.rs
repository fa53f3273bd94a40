//! The storage area of an appctx.

use layers_trace::Callback::{IoHandler, IoRelease, Parse, Release};
use layers_trace::appctx::Place;

use super::{FORBIDDEN, REQUIRED, SVCCTX, Seen};
use crate::rules::check::{Now, Party, Report, Rule, Said, at, by, enters, exits, given};

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "appctx.storage.zero-at-start",
        statement: "The storage area is all zero before the first call of a command.",
        antecedent: "a command",
        good: "parse",
        bad: "parse bytes=7",
        fix: "zero the storage area before each command",
        check: by!(at(enters(&[Parse, IoHandler]), zero_at_start)),
        ..REQUIRED
    },
    Rule {
        id: "appctx.st2.zero-at-start",
        statement: "st2 is zero before the first call of a command, also when the command before has used it.",
        antecedent: "a command under HAProxy 2.6, which alone has st2 beside svcctx",
        good: "run version=2.6; parse",
        bad: "run version=2.6; parse st2=7",
        fix: "zero st2 before each command",
        check: by!(at(enters(&[Parse, IoHandler]), st2_at_start)),
        ..REQUIRED
    },
    Rule {
        id: "appctx.storage.bytes",
        statement: "Between two calls of a command nothing writes to its storage area.",
        clause: "observed",
        antecedent: "a command with its context in the storage area that is called more than once",
        good: "parse = 0 svcctx=storage bytes=7 io_handler",
        bad: "parse = 0 svcctx=storage bytes=7 io_handler bytes=8",
        fix: "find out who writes there; what belongs to others (a response that arrives) may",
        check: by!(at(enters(&[IoHandler, IoRelease]), bytes)),
        ..Rule::OBSERVED.from(SVCCTX)
    },
    Rule {
        id: "release.no-linked-storage",
        statement: "When a command is over, or its applet is released, no list element inside its storage area is linked from outside.",
        antecedent: "a command whose context is in the storage area and that comes to its end",
        good: "parse = 0 svcctx=storage io_handler = 1 io_release",
        bad: "parse = 0 svcctx=storage io_handler = 1 io_release = 0 linked=1",
        fix: "unlink it in io_release",
        check: by!(at(exits(&[IoHandler, IoRelease, Release]), unlinked)),
        ..FORBIDDEN.of(Party::Handler)
    },
];

/// Keywords whose context others write to while the command waits: an HTTP response that arrives, or a neighbour in a list
/// that their place in what they show is kept in.
const SHARED: &[&str] = &["httpclient", "show acl", "show map", "show sess", "show errors", "show stat"];

fn zero_at_start(now: &Now<'_>, report: &mut Report<'_>) -> Said {
    let seen = Seen::of(now).filter(Seen::begins)?;
    let context = seen.state.context?;
    report.expect(context.storage_is_zero, (), "a storage area of zeroes", "it has other bytes")
}

fn st2_at_start(now: &Now<'_>, report: &mut Report<'_>) -> Said {
    let seen = Seen::of(now).filter(Seen::begins)?;
    let zero = seen.state.st2_is_zero?;
    report.expect(zero, (), "st2 is 0", "it is not")
}

fn bytes(now: &Now<'_>, report: &mut Report<'_>) -> Said {
    let seen = Seen::of(now)?;
    let shared = seen.registered.is_some_and(|one| SHARED.contains(&one.words.as_str()));
    let command = seen.command().filter(|command| !command.unrecorded && !shared)?;
    let (context, (before, exit)) = (seen.state.context?, command.left.as_ref()?);
    let before = before.context.filter(|before| before.place == Place::Storage)?;
    let same = before.storage_hash == context.storage_hash;
    report.expect(same, exit, "the bytes that the call before has left", "other bytes")
}

fn unlinked(now: &Now<'_>, report: &mut Report<'_>) -> Said {
    let seen = Seen::of(now)?;
    if seen.callback == Release {
        // Whether an io_release came first or not; what other applets keep there is theirs.
        given(seen.appctx.is_some_and(|appctx| appctx.command.is_some()))?;
        let context = seen.state.context?;
        return report.expect(
            !context.linked,
            (),
            "nothing in the storage area is in a list",
            "something is",
        );
    }
    let has_release = seen.state.slots.is_none_or(|slots| slots.io_release);
    let over = seen.callback == IoRelease || now.event.result() != 0 && !has_release;
    let context = seen.state.context.filter(|context| over && context.place == Place::Storage)?;
    report.expect(!context.linked, (), "nothing in the storage area is in a list", "something is")
}
