//! nbdkit(1), -s: a server that ends with its connection.

use layers_trace::Callback::{Cleanup, Preconnect, Unload};
use layers_trace::Event;

use crate::history::History;
use crate::rules::check::{Now, Report, Rule, Said, by, enters, given, remembering};
use crate::run::Start;

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "single.one-connection",
        statement: "With -s the server serves one connection, and then ends by itself, with cleanup and unload.",
        clause: "nbdkit(1), -s",
        antecedent: "a run with -s that no signal ends",
        good: "run start=single; connect NBD_OPT_GO NBD_CMD_DISC cleanup unload ends",
        bad: "run start=single; connect c2: send connect c2: L0.preconnect",
        fix: "serve standard input and output, and end when that connection has ended",
        check: by!(remembering(enters(&[Preconnect]), one_connection).and_end(one_connection_at_end)),
        ..Rule::REQUIRED
    },
    Rule {
        id: "kill.nothing",
        statement: "After SIGKILL or a crash nothing can be expected of the server.",
        clause: "nbdkit-plugin(3), SHUTDOWN (it is not guaranteed that this can always happen)",
        antecedent: "SIGKILL",
        fix: "keep nothing in memory only that must survive",
        ..Rule::UNSPECIFIED
    },
];

/// The run was started with -s.
fn is_single(history: &History) -> bool {
    history.run().is_some_and(|run| run.start == Start::Single)
}

/// One connection, then the end.
fn one_connection(first: &mut Option<Event>, now: &Now<'_>, report: &mut Report<'_>) -> Said {
    now.root().filter(|_| is_single(now.history))?;
    if let Some(first) = &*first {
        return report.broken(first, "one connection", "another one");
    }
    *first = Some(now.event.clone());
    Some(())
}

fn one_connection_at_end(first: &mut Option<Event>, history: &History, report: &mut Report<'_>) -> Said {
    given(is_single(history) && history.has_exited())?;
    given(history.signals().is_empty() && history.serving().is_some())?;
    report.exercised();
    let has = |callback| history.outermost(callback).is_some();
    let left_out = [
        (Preconnect, first.is_some()),
        (Cleanup, history.cleaning().is_some()),
        (Unload, history.unloading().is_some()),
    ];
    for (callback, _) in left_out.into_iter().filter(|(callback, came)| has(*callback) && !came) {
        report.broken((), format!("{callback} before the end"), "it never comes");
    }
    Some(())
}
