//! What one case says of the check that it was played for.

use crate::validate::checks::check::{CasePlan, ModuleCheck, Play, ServerOutcome};
use crate::validate::play::played::{Played, Trouble, outlived, signal_name, status};
use crate::validate::play::stop::{Asked, Stop, Symptom, Wrong};
use crate::validate::verdict::verdicts::broken;
use layers_behaviour::Refused;
use layers_trace::Probe;

use crate::history::End;
use crate::outcome::Verdict;
use crate::run::Start;

/// What was refused, and the last error that was printed.
pub(in crate::validate) fn with_words(how: &str, stderr: &str) -> String {
    match crate::validate::play::words::last_error(stderr) {
        Some(said) => format!("{how}: {said}"),
        None => format!("{how}, without a message"),
    }
}

/// What went wrong with a server where that is for whoever has the case played, and not for the checks of the process: it has
/// gone into the background, or something was refused to it.
pub(in crate::validate) fn own_trouble(plan: &CasePlan, played: &Played) -> Option<Wrong> {
    let background = || {
        let how = background_trouble(plan, played)?;
        Some(Wrong::new("in the background it serves as it does in the foreground", how))
    };
    background().or_else(|| refused_trouble(plan, played))
}

/// What went wrong where something was refused to a module.
fn refused_trouble(plan: &CasePlan, played: &Played) -> Option<Wrong> {
    plan.conditions.fails?;
    let refused = refused(played)?;
    let how = match played.trouble.as_ref()? {
        Trouble::Crash(signal) => {
            format!("the server is killed by signal {signal} ({})", signal_name(*signal))
        }
        Trouble::Hang(what) => what.clone(),
        Trouble::Exit(code) => format!("it ends by itself, with status {code}"),
        _ => return None,
    };
    let expected = format!("the server lives where {}", words(refused));
    Some(Wrong::new(expected, how))
}

/// What was refused last in this case, if anything was.
fn refused(played: &Played) -> Option<Refused> {
    let last = played.events.iter().rfind(|event| event.probe() == Some(Probe::Refused))?;
    Refused::ALL.into_iter().find(|one| *one as u64 == last.b)
}

fn words(refused: Refused) -> &'static str {
    match refused {
        Refused::Memory => "malloc gives it nothing",
        Refused::Part => "a read or a write of its does only half of what was asked for",
        Refused::Interrupted => "a read or a write of its fails with EINTR",
        Refused::Space => "a write of its fails with ENOSPC",
        Refused::Device => "a read, a write or an fsync of its fails with EIO",
    }
}

/// What went wrong in a server that has gone into the background. In the foreground that is told by the checks of the
/// process; what happens only here is for whoever looks at the background.
fn background_trouble(plan: &CasePlan, played: &Played) -> Option<String> {
    let trouble = played.trouble.as_ref().filter(|_| plan.start == Start::Daemon)?;
    match trouble {
        // A thread whose code has gone runs into the hole wherever the server runs.
        Trouble::Crash(_) if outlived(played) => None,
        Trouble::Crash(signal) => Some(format!("the server is killed by signal {signal}")),
        Trouble::Hang(what) => Some(format!("{what}: are there threads that were started before the fork?")),
        Trouble::Exit(code) => Some(format!("it ends by itself, with status {code}")),
        _ => None,
    }
}

/// What a case says; what is wrong comes with the index of the step.
pub(in crate::validate) fn verdict_of(
    check: &ModuleCheck,
    plan: &CasePlan,
    played: &Played,
) -> (Verdict, Option<(usize, Wrong)>) {
    let inconclusive = |why: &str| (Verdict::Inconclusive(why.to_owned()), None);
    if let Some(wrong) = own_trouble(plan, played) {
        let at = played.stop.as_ref().map_or(plan.script.len(), |(index, _)| *index);
        return (broken(check.level), Some((at, wrong)));
    }
    match &played.trouble {
        Some(Trouble::Crash(_)) => return inconclusive("the server crashed: see process.crash"),
        Some(Trouble::Hang(_)) => return inconclusive("the server hung: see process.hang"),
        Some(Trouble::Exit(_)) => return inconclusive("the server went away: see process.exit"),
        Some(Trouble::Memory(_)) => return inconclusive("the server was killed: see process.memory"),
        Some(Trouble::Environment(why)) => return inconclusive(why),
        Some(Trouble::Lost) => return inconclusive("something else killed the server with SIGKILL"),
        None => {}
    }
    if let Err(wrong) = judge_outcome(plan, played) {
        return (broken(check.level), Some((plan.script.len(), wrong)));
    }
    match &played.stop {
        None => match &played.incomplete {
            Some(why) => inconclusive(why),
            None if plan.conditions.fails.is_some() && refused(played).is_none() => {
                (Verdict::Skipped("it asks for nothing in a request that could be refused".to_owned()), None)
            }
            None => (Verdict::Pass, None),
        },
        // That something was done which was not is more than a warning.
        Some((index, Stop::Wrong(wrong)))
            if played.judged
                && plan.conditions.fails.is_some()
                && matches!(wrong.symptom, Symptom::Data { .. }) =>
        {
            let when = refused(played).map(|refused| format!(", where {}", words(refused)));
            let expected = wrong.expected.clone() + &when.unwrap_or_default();
            (Verdict::Fail, Some((*index, Wrong { expected, ..wrong.clone() })))
        }
        Some((index, Stop::Wrong(wrong))) if played.judged => {
            (broken(check.level), Some((*index, wrong.clone())))
        }
        Some((_, Stop::Wrong(wrong))) => inconclusive(&format!(
            "its set-up went wrong: expected: {}; actual: {}",
            wrong.expected, wrong.actual
        )),
        Some((index, Stop::Refused(refusal))) if played.judged => {
            let actual = with_words(&refusal.how, &played.stderr);
            let symptom = Symptom::Refused(refusal.asked);
            let wrong = Wrong { symptom, ..Wrong::new("it succeeds", actual) };
            (broken(check.level), Some((*index, wrong)))
        }
        // A filter may ask more of what it stands on (FUA, a partition table), and then it is judged over the user's alone.
        Some((0, Stop::Refused(refusal)))
            if matches!(check.play, Play::Filter(_)) && refusal.asked == Asked::Open =>
        {
            let how = with_words(&refusal.how, &played.stderr);
            (Verdict::NotApplicable(format!("it does not serve over this reference plugin: {how}")), None)
        }
        Some((_, Stop::Refused(refusal))) => {
            inconclusive(&format!("its set-up was refused: {}", with_words(&refusal.how, &played.stderr)))
        }
        Some((_, Stop::Changed(how))) => (Verdict::Skipped(how.clone()), None),
        Some((_, stop @ Stop::Slow(_))) => {
            (Verdict::Skipped(format!("{stop}, and the server has ended when it was told to")), None)
        }
        Some((
            _,
            stop @ (Stop::Ended | Stop::Unmeasured | Stop::Unconnected(_) | Stop::NoSocket | Stop::Short(_)),
        )) => inconclusive(&stop.to_string()),
        Some((_, Stop::Gone(_) | Stop::NoAnswer(_))) if played.incomplete.is_some() => {
            inconclusive(played.incomplete.as_deref().unwrap_or_default())
        }
        Some((_, Stop::Gone(what))) => inconclusive(&format!("the connection ended at `{what}`")),
        Some((_, Stop::NoAnswer(what))) => inconclusive(&format!("no answer to `{what}`")),
    }
}

/// What the plan's outcome says about how the server started and ended; only for cases without trouble.
pub(in crate::validate) fn judge_outcome(plan: &CasePlan, played: &Played) -> Result<(), Wrong> {
    let said = || match played.stderr.lines().last() {
        Some(line) => format!(": {line}"),
        None => ", without a word".to_owned(),
    };
    let status = status(played.end);
    match plan.outcome {
        ServerOutcome::Succeeds if played.end != Some(End::Exited(0)) => {
            Err(Wrong::new("it ends with status 0", status + &said()))
        }
        ServerOutcome::Refuses if played.served => {
            Err(Wrong::new("the server refuses to start", "it starts, and serves"))
        }
        ServerOutcome::Serves if !played.served => Err(Wrong::new("the server starts", status + &said())),
        _ => Ok(()),
    }
}
