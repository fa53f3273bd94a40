//! PARALLEL, and how parallel: what still takes turns, and the limit of `-t`.

use layers_trace::Callback;

use super::scope::{Clash, Scope, other_thread, requests_on, shown};
use crate::history::{Call, History, ThreadModel};
use crate::rules::check::{Now, Report, Rule, Said, at, by, enters_where, given, unless};

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "tm.parallel.control-exclusive",
        statement: "Under PARALLEL, too, what is no data call is made on its connection's own thread, and beside no data call of it.",
        clause: "not in the manual",
        antecedent: "thread model 3, and such a call for a client that still waits for data",
        good: "send NBD_CMD_READ NBD_CMD_DISC { L0.pread L0.close }",
        bad: "send NBD_CMD_READ t7: enter L0.pread L0.close",
        also: &["close.after-inflight"],
        fix: "none needed; a layer that counts on it should take a lock",
        check: by!(at(enters_where(Callback::is_connected), control_exclusive).minding_data_if(is_parallel)),
        ..Rule::OBSERVED
    },
    Rule {
        id: "tm.parallel.limit",
        statement: "No more data calls of a connection are in progress than `-t` says (16 unless given); where that is 1, or the model is not PARALLEL, one thread makes all calls of a connection.",
        clause: "nbdkit(1), -t",
        antecedent: "a client that waits for more requests at once than the limit",
        good: "run threads=1; send NBD_CMD_READ send NBD_CMD_READ L0.pread",
        bad: "run threads=1; send NBD_CMD_READ send NBD_CMD_READ enter L0.pread t7: L0.pread",
        fix: "start that many threads for a connection, and none where one request at a time is allowed",
        check: by!(at(enters_where(Callback::is_connected).exits_where(Callback::is_data), judge_limit)
            .minding_data_if(|history| limit(history).is_some())),
        ..Rule::REQUIRED
    },
];

/// What `-t` is unless given; 0 means the same.
const DEFAULT_THREADS: usize = 16;

/// Data calls of one connection that may be in progress at the same time.
fn limit(history: &History) -> Option<usize> {
    let threads = history.run()?.threads.map_or(0, |threads| threads as usize);
    let threads = if threads == 0 { DEFAULT_THREADS } else { threads };
    match history.thread_model()? {
        ThreadModel::Parallel => Some(threads),
        _ => Some(1),
    }
}

/// Data calls of the same connection in progress on other threads.
fn data_beside<'a>(history: &'a History, call: &'a Call) -> impl Iterator<Item = &'a Call> {
    let own = call.connection;
    let same = move |other: &&Call| own.is_some() && other.connection == own && other.callback.is_data();
    Scope::Stack.beside(history, call).filter(same)
}

fn judge_limit(now: &Now<'_>, report: &mut Report<'_>) -> Said {
    let (call, limit) = Scope::Stack.of(now).zip(limit(now.history))?;
    if now.is_exit() {
        return report.exercised_if(requests_on(now.history, call.connection, call) > limit);
    }
    if limit == 1
        && let Some(clash) = other_thread(now.history, call, Scope::Stack)
    {
        clash.broken(report);
    }
    let beside = data_beside(now.history, call).count();
    given(call.callback.is_data() && beside >= limit)?;
    let expected = format!("at most {limit} data calls of a connection in progress");
    report.broken(data_beside(now.history, call).next(), expected, beside + 1)
}

fn is_parallel(history: &History) -> bool {
    history.thread_model() == Some(ThreadModel::Parallel)
}

fn control_exclusive(now: &Now<'_>, report: &mut Report<'_>) -> Said {
    let call = Scope::Stack.of(now)?;
    given(is_parallel(now.history))?;
    unless(call.connection.is_none() && call.callback.is_data())?;
    if call.callback.is_data() {
        let mut beside = Scope::Stack.beside(now.history, call);
        let control = |other: &&Call| other.connection == call.connection && !other.callback.is_data();
        return Clash::overlap(call, beside.find(control)?).broken(report);
    }
    report.exercised_if(call.callback.has_handle() && requests_on(now.history, call.connection, call) > 0);
    if let Some(clash) = other_thread(now.history, call, Scope::Stack) {
        clash.broken(report);
    }
    let data = data_beside(now.history, call).next()?;
    let expected = format!("{} beside no data call of its connection", shown(call));
    report.broken(data, expected, format!("{} is in progress", shown(data)))
}
