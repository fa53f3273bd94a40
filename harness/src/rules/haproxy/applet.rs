//! Applets as a whole.

use layers_trace::Callback::{self, Fct, Init, IoHandler, IoRelease, Parse, Release};
use layers_trace::Event;
use layers_trace::appctx::Place;

use super::{ALL, FORBIDDEN, REQUIRED, SVCCTX, Seen, shown};
use crate::history::History;
use crate::rules::check::{Now, Report, Rule, Said, at, by, enters, exits, given, unless};

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "appctx.applet.preserved",
        statement: "svcctx of an applet is the same from its init through every call to its release, but for what the applet itself does.",
        antecedent: "an applet, other than a command line, that is called more than once",
        good: "init = 0 svcctx=storage fct release",
        bad: "init = 0 svcctx=storage fct svcctx=elsewhere",
        fix: "leave svcctx to the applet",
        check: by!(at(enters(&[Fct, Release]), preserved)),
        ..REQUIRED
    },
    Rule {
        id: "appctx.applet.null-at-init",
        statement: "svcctx is NULL before the init of an applet, unless whoever created it has set it.",
        antecedent: "an applet with an init that nobody prepares, such as the exporter of metrics",
        good: "init",
        bad: "init svcctx=elsewhere",
        fix: "zero the appctx when it is allocated",
        check: by!(at(enters(&[Init]), null_at_init)),
        ..REQUIRED
    },
    Rule {
        id: "applet.released-once",
        statement: "An applet is released once, and not again when its memory is somebody else's.",
        antecedent: "an applet that is released",
        good: "init fct release",
        bad: "init fct release release",
        fix: "forget the applet when it is released",
        check: by!(at(enters(&[Release]), released_once)),
        ..FORBIDDEN
    },
    Rule {
        id: "applet.no-call-after-release",
        statement: "After its release nothing of an applet is called. (HAProxy 2.6 does call it, by design.)",
        antecedent: "an applet that is released",
        good: "init fct release",
        bad: "init fct release fct",
        fix: "look whether the applet is shut before it is called",
        check: by!(at(enters(CALLS), no_call_after_release)),
        ..FORBIDDEN.since(3, 0, 0)
    },
    Rule {
        id: "applet.release-not-after-failed-init",
        statement: "An applet whose init has failed is not released.",
        antecedent: "an applet whose init fails (the harness's own service does)",
        good: "init = -1",
        bad: "init = -1 release",
        fix: "free the appctx without calling release",
        check: by!(at(exits(&[Init]).enters(&[Release]), not_after_failed_init)),
        ..FORBIDDEN.from(ALL)
    },
    Rule {
        id: "applet.one-thread",
        statement: "All calls for one appctx come from one thread.",
        antecedent: "an appctx that is called more than once",
        good: "parse io_handler = 1",
        bad: "parse t7: io_handler",
        fix: "bind the applet's task to a thread",
        check: by!(at(enters(CALLS), one_thread)),
        ..REQUIRED.from(ALL)
    },
];

/// Applets of the command line: there svcctx is a command's.
const COMMAND_LINES: &[&str] = &["<CLI>", "<MCLI>"];
/// Applets whose creator sets svcctx.
const PREPARED: &[&str] =
    &["<STATS>", "<HTTPCLIENT>", "<PEER>", "<STRMDNS>", "<SINKFWD>", "<SINKFWDOC>", "<SPOE>", "<LUA_TCP>"];

const CALLS: &[Callback] = &[Parse, IoHandler, IoRelease, Init, Fct, Release];

fn preserved(now: &Now<'_>, report: &mut Report<'_>) -> Said {
    let seen = Seen::of(now)?;
    unless(seen.registered.is_none_or(|applet| COMMAND_LINES.contains(&applet.words.as_str())))?;
    let (context, appctx) = (seen.state.context?, seen.appctx?);
    // A call inside another one, or after the release, is not between calls.
    let nested =
        now.parent().is_some_and(|parent| parent.callback.is_appctx() && parent.handle() == appctx.id);
    let (before, exit) = appctx.left.as_ref().filter(|_| !nested && appctx.released.is_none())?;
    let before = before.context?;
    let holds = before.svcctx == context.svcctx;
    let actual = if holds { "the same".to_owned() } else { shown(context) };
    report.expect(holds, exit, format_args!("as it was left ({})", shown(before)), actual)
}

fn null_at_init(now: &Now<'_>, report: &mut Report<'_>) -> Said {
    let seen = Seen::of(now)?;
    let prepared = seen.registered.is_none_or(|applet| PREPARED.contains(&applet.words.as_str()));
    let context = seen.state.context.filter(|_| !prepared)?;
    report.expect(context.place == Place::Null, (), "svcctx is NULL", shown(context))
}

fn released_once(now: &Now<'_>, report: &mut Report<'_>) -> Said {
    let before = Seen::of(now)?.appctx.and_then(|appctx| appctx.released.as_ref());
    report.expect(before.is_none(), before, "one release", "another one")
}

fn no_call_after_release(now: &Now<'_>, report: &mut Report<'_>) -> Said {
    let seen = Seen::of(now)?;
    report.exercised_if(seen.callback == Release);
    let release = seen.appctx.and_then(|appctx| appctx.released.as_ref());
    // Another release is one finding.
    given(seen.state.released && (seen.callback != Release || release.is_none()))?;
    report.broken(release, "no call", "a call")
}

/// Before 2.6, 0 says that it failed, and -1 that it wants to be called again.
fn init_failed(exit: &Event, history: &History) -> bool {
    let old = history.run().is_some_and(|run| run.version < SVCCTX);
    if old { exit.result() == 0 } else { exit.result() < 0 }
}

fn not_after_failed_init(now: &Now<'_>, report: &mut Report<'_>) -> Said {
    let seen = Seen::of(now)?;
    let failed = |exit: &Event| init_failed(exit, now.history);
    if now.is_exit() {
        return report.exercised_if(failed(now.event));
    }
    let exit = seen.appctx.and_then(|appctx| appctx.init.as_ref()).filter(|exit| failed(exit))?;
    report.broken(exit, "no release", "it is called")
}

fn one_thread(now: &Now<'_>, report: &mut Report<'_>) -> Said {
    let appctx = now.history.appctx(now.event.handle)?;
    let same = appctx.first.tid == now.event.tid;
    report.expect(same, &appctx.first, "the thread of its first call", "another thread")
}
