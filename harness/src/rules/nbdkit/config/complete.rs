//! config_complete.

use super::super::order::{inwards, once};
use super::super::pass_through::passed_through;
use crate::history::History;
use crate::rules::check::{Now, Report, Rule, Said, at, by, calls, enters, given};
use layers_trace::Callback::{self, AfterFork, ConfigComplete, GetReady, ThreadModel};

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "config_complete.once-nested",
        statement: "A serving run completes the configuration of the outermost layer once; inner ones nest in outer ones.",
        clause: "nbdkit-plugin(3), .config_complete; nbdkit-filter(3), Next config, open and close",
        antecedent: "a layer with config_complete, in a run that serves",
        good: "L1.config_complete { L0.config_complete }",
        bad: "L1.config_complete L0.config_complete",
        fix: "call config_complete of the outermost layer once, after the last parameter, and leave the rest to the filters",
        check: by!(passed_through(
            calls(&[ConfigComplete]),
            at(enters(&[ConfigComplete]).enters(AFTER), completed_once)
        )),
        ..Rule::REQUIRED.since(1, 1, 27)
    },
    Rule {
        id: "config_complete.not-in-dump",
        statement: "`--dump-plugin` does not complete the configuration.",
        clause: "nbdkit-plugin(3), Callback lifecycle, Notes",
        antecedent: "a run with --dump-plugin, and a layer with config_complete",
        good: "run start=dump-plugin; load config thread_model dump_plugin unload ends",
        bad: "run start=dump-plugin; load L0.config_complete",
        also: &["dump.sequence"],
        fix: "leave config_complete out when only information is wanted",
        check: by!(at(enters(&[ConfigComplete]), not_in_dump).and_end(not_in_dump_at_end)),
        ..Rule::FORBIDDEN
    },
];

/// The callbacks that come when configuration is complete.
const AFTER: &[Callback] = &[ThreadModel, GetReady, AfterFork];

/// Once in each layer, inner in outer, and not left out at the outermost.
fn completed_once(now: &Now<'_>, report: &mut Report<'_>) -> Said {
    if now.is(ConfigComplete) {
        once(now, report);
        report.exercised_if(now.history.outer(now.event.layer, ConfigComplete).is_none());
        return inwards(now, report);
    }
    let is_first = AFTER.iter().all(|callback| now.history.first_enters(*callback).next().is_none());
    given(is_first && now.history.run().is_some_and(|run| run.start.serves()))?;
    let top = now.history.outermost(ConfigComplete)?;
    given(now.history.entered(top, ConfigComplete).is_none())?;
    report.expect(false, (), format_args!("config_complete of L{top} comes first"), "it was left out")
}

/// Not for `--dump-plugin`.
fn not_in_dump(now: &Now<'_>, report: &mut Report<'_>) -> Said {
    given(now.history.is_dump())?;
    report.broken((), "no config_complete with --dump-plugin", "it is called")
}

fn not_in_dump_at_end(history: &History, report: &mut Report<'_>) -> Said {
    given(history.is_dump() && history.ended_cleanly())?;
    report.exercised_if(history.outermost(ConfigComplete).is_some())
}
