//! What is said of one run apart from the rules.

use crate::history::{End, RecordingFault};
use crate::outcome::{Exit, RunEnd, Verdict};
use crate::rules::{self, Judgement, Kind, Trouble};
use crate::scenario::{Mishap, Recording, Scenario};

/// The rule that says with which exit status a server ends that was told to.
const SHUTDOWN: &str = "lifecycle.shutdown.sequence";

fn has_broken(recording: &Recording, rule: &str) -> bool {
    recording.judgement.result(rule).is_some_and(|result| result.broken > 0)
}

/// Did it go as planned, and is its trace whole?
pub fn verdict_of(recording: &Recording, scenario: &Scenario) -> Verdict {
    let of_trace = verdict_of_troubles(&recording.judgement.troubles);
    // A step that goes wrong because the server breaks the protocol is that finding, and no verdict of its own.
    let mishap = recording.mishaps.first().filter(|mishap| !is_explained(mishap, &recording.judgement));
    match (mishap, of_trace) {
        (_, Some(crash @ Verdict::Crash(_))) => crash,
        // What came after the last record is not told, and so it looks as if it had never come; as does what is never recorded.
        (Some(Mishap::Hang { .. }), Some(unseen))
            if is_cut(&recording.judgement.troubles) || is_blind(&recording.judgement.troubles) =>
        {
            unseen
        }
        (Some(mishap @ Mishap::Hang { .. }), _) => Verdict::Hang(mishap.to_string()),
        (Some(mishap), _) => Verdict::Inconclusive(mishap.to_string()),
        (None, Some(verdict)) => verdict,
        (None, None) => match recording.end {
            // A server that is to stop on purpose, and a master that ends as it was told: 128 and the signal.
            Some(End::Exited(128..)) if scenario.session.is_some() => Verdict::Pass,
            Some(End::Exited(code))
                if !ended_as_planned(scenario, code) && !has_broken(recording, SHUTDOWN) =>
            {
                let wrote =
                    command_wrote(recording, scenario).map_or(String::new(), |wrote| format!("; {wrote}"));
                Verdict::Inconclusive(format!("the server ended with exit status {code}{wrote}"))
            }
            _ => Verdict::Pass,
        },
    }
}

/// What the trace of this run shows can be held against the server, up to where the run went wrong: a crash, a hang or a
/// departure from the script takes nothing back of what was recorded before. Where records are missing or cannot be true,
/// what looks like a broken promise may be none.
pub(crate) fn is_ground(troubles: &[Trouble]) -> bool {
    troubles.iter().all(|trouble| match trouble {
        Trouble::Killed(signal) => *signal != libc::SIGKILL,
        // The harness has ended it, after it had waited in vain; nothing is owed at such an end.
        Trouble::NoEnd => true,
        Trouble::Faulty { flaw, .. } => *flaw == RecordingFault::Unfinished,
        // What is there is whole, and nothing was asked for that came later.
        Trouble::LeftOut { .. } | Trouble::Stopped(_) => true,
        Trouble::Lost(_)
        | Trouble::Unpublished(_)
        | Trouble::Damaged(_)
        | Trouble::Unwrapped(_)
        | Trouble::NoRun => false,
    })
}

/// The trace was full before the run was over.
pub(crate) fn is_cut(troubles: &[Trouble]) -> bool {
    troubles.iter().any(|trouble| matches!(trouble, Trouble::Lost(_)))
}

/// The instrument does not know this server.
fn is_blind(troubles: &[Trouble]) -> bool {
    troubles.iter().any(|trouble| matches!(trouble, Trouble::Unwrapped(_)))
}

/// The client could not go on as the scenario says because of something that a rule has found.
fn is_explained(mishap: &Mishap, judgement: &Judgement) -> bool {
    let of_wire = |id: &str| rules::nbdkit::wire::RULES.iter().copied().flatten().any(|rule| rule.id == id);
    let broken = || judgement.results.iter().any(|one| one.broken > 0 && of_wire(one.rule.id));
    matches!(mishap, Mishap::Script { .. }) && broken()
}

/// Returns the last words of a server that has crashed: an assertion, a complaint of the C library.
fn last_words(recording: &Recording) -> Option<String> {
    let mut lines = recording.stderr.lines().map(str::trim);
    let last = lines.rfind(|line| !line.is_empty() && !line.contains(": debug: "))?;
    Some(format!("the server wrote: {last}"))
}

/// Returns what a command that is not ours has written, in one line, or the server itself before a crash: it belongs to
/// whatever is found in its run.
pub(super) fn wrote(recording: &Recording, scenario: &Scenario, verdict: &Verdict) -> Option<String> {
    match (scenario.command, verdict) {
        (None, Verdict::Crash(_)) => last_words(recording),
        _ => command_wrote(recording, scenario),
    }
}

fn command_wrote(recording: &Recording, scenario: &Scenario) -> Option<String> {
    let lines = recording.stdout.lines().chain(recording.stderr.lines());
    let lines: Vec<&str> = lines.map(str::trim).filter(|line| !line.is_empty()).collect();
    let command = scenario.command?;
    Some(match lines.as_slice() {
        [] => format!("`{command}` wrote nothing"),
        _ => format!("`{command}` wrote: {}", lines.join(" | ")),
    })
}

fn ended_as_planned(scenario: &Scenario, code: i32) -> bool {
    if scenario.start_fails { code != 0 } else { code == scenario.exit_status }
}

/// The exit code of a trace that is judged by itself: no baseline, and no scenario that it should have gone by.
pub fn exit_of(judgement: &Judgement) -> Exit {
    let binding = |kind| matches!(kind, Kind::Required | Kind::Forbidden);
    let broken = judgement.results.iter().any(|result| result.broken > 0 && binding(result.rule.kind));
    let exercised = judgement.results.iter().any(|result| result.exercised > 0);
    let trouble = verdict_of_troubles(&judgement.troubles).map(|verdict| verdict.exit());
    let end = RunEnd { judged: exercised, ..RunEnd::default() };
    end.exit(broken.then_some(Exit::Violation).into_iter().chain(trouble))
}

/// What a trace alone says, if it is not whole.
pub fn verdict_of_troubles(troubles: &[Trouble]) -> Option<Verdict> {
    troubles.iter().map(verdict_of_trouble).min_by_key(|verdict| match verdict {
        Verdict::Crash(_) => 0,
        _ => 1,
    })
}

fn verdict_of_trouble(trouble: &Trouble) -> Verdict {
    match trouble {
        Trouble::Killed(signal) if *signal == libc::SIGKILL => {
            Verdict::Inconclusive("the server was lost: something else killed it with SIGKILL".to_owned())
        }
        Trouble::Killed(signal) => Verdict::Crash(format!("the server was killed by signal {signal}")),
        other => Verdict::Inconclusive(other.to_string()),
    }
}
