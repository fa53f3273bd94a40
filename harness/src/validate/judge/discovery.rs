//! The first case: does it start, which export opens, and what does that export offer?

use layers_trace::{Callback, Event, Kind};

use super::judging::with_words;
use crate::campaign::halt::Halt;
use crate::run::stack::{Layers, Stack};
use crate::server::nbdkit::ServerError;
use crate::validate::checks::check::CasePlan;
use crate::validate::play::case::Bench;
use crate::validate::play::in_flight::whereabouts;
use crate::validate::play::played::{Played, status};
use crate::validate::play::stop::Stop;
use crate::validate::play::twist::variable;
use crate::validate::play::words;
use crate::validate::script::claims::{Claims, registered};
use crate::validate::script::op::Op;
use crate::validate::subject::stock;

/// What came of it.
pub(in crate::validate) enum Found {
    /// An export opens, and offers this.
    Claims(Claims),
    /// It serves, and no export opens, for this reason.
    NoExport(String),
    /// It does not start, for this reason.
    DoesNotStart(String),
    /// It crashed, hung or went away: the case tells.
    Troubled,
    /// The run was ended before it could be told.
    Halted(Halt),
}

/// A case that discovery has played.
pub(in crate::validate) struct Explored {
    pub(in crate::validate) plan: CasePlan,
    pub(in crate::validate) played: Played,
}

/// Opens the default export; if that does not open, the first one that is listed. `from` is the subject's innermost
/// layer.
pub(in crate::validate) fn discover(
    bench: &Bench<'_>,
    stack: &Stack,
    from: u8,
) -> Result<(Found, Vec<Explored>), ServerError> {
    let mut explored = Vec::new();
    let mut attempt = |script: Vec<Op>| -> Result<Found, ServerError> {
        let plan = CasePlan::new(script);
        let played = bench.play("discovery", stack, &plan)?;
        let found = found(&played, stack, from);
        if played.halt.is_none() {
            explored.push(Explored { plan, played });
        }
        Ok(found)
    };
    let first = attempt(vec![Op::Judge, Op::Connect(1, String::new())])?;
    let Found::NoExport(reason) = first else { return Ok((first, explored)) };
    let listing = attempt(vec![Op::Judge, Op::List])?;
    let listed =
        explored.last().and_then(|one| one.played.listed.iter().find(|name| !name.is_empty()).cloned());
    let (Found::NoExport(_), Some(name)) = (listing, listed) else {
        return Ok((Found::NoExport(reason), explored));
    };
    let plan = CasePlan::new(vec![Op::Judge, Op::Connect(1, name.clone())]);
    let played = bench.play("discovery", stack, &plan)?;
    let found = match found(&played, stack, from) {
        Found::Claims(claims) => Found::Claims(Claims { export: name, ..claims }),
        Found::NoExport(_) => Found::NoExport(reason),
        other => other,
    };
    explored.push(Explored { plan, played });
    Ok((found, explored))
}

/// Why it does not start: in its own words, or else where it ends.
fn complaint(played: &Played) -> String {
    if played.stderr.trim().is_empty() {
        return format!("{} {}, without a word", status(played.end), whereabouts(&played.events));
    }
    played.complaint.clone()
}

/// What was refused to the clients of a case, and the last error that the server has printed.
pub(in crate::validate) fn refusal(played: &Played) -> Option<String> {
    match &played.stop.as_ref()?.1 {
        Stop::Wrong(wrong) => Some(wrong.actual.clone()),
        Stop::Refused(refusal) => Some(with_words(&refusal.how, &played.stderr)),
        stop @ (Stop::Changed(_)
        | Stop::Ended
        | Stop::Unmeasured
        | Stop::Unconnected(_)
        | Stop::NoSocket
        | Stop::Short(_)) => Some(stop.to_string()),
        Stop::Gone(what) | Stop::NoAnswer(what) | Stop::Slow(what) => {
            let said = words::last_error(&played.stderr).map(|said| format!(": {said}"));
            Some(what.clone() + &said.unwrap_or_default())
        }
    }
}

/// Returns true if the outermost layer that answers `.can_extents` says no: then the server calls the whole disk data.
fn denies_extents(events: &[Event]) -> bool {
    let is_answer =
        |event: &&Event| event.kind == Kind::Exit && event.callback() == Some(Callback::CanExtents);
    let outermost = events.iter().filter(is_answer).max_by_key(|event| event.layer);
    outermost.is_some_and(|answer| answer.result() == 0)
}

fn found(played: &Played, stack: &Stack, from: u8) -> Found {
    if let Some(halt) = played.halt {
        return Found::Halted(halt);
    }
    if played.trouble.is_some() {
        return Found::Troubled;
    }
    if !played.served {
        return Found::DoesNotStart(complaint(played));
    }
    let Some(answers) = &played.answers else {
        return Found::NoExport(refusal(played).unwrap_or_else(|| "no client has asked".to_owned()));
    };
    let (callbacks, thread_model) = registered(&played.events, from);
    let size_of = |event: &Event| {
        let told = event.kind == Kind::Exit && event.callback() == Some(Callback::GetSize);
        told.then(|| u64::try_from(event.result()).ok()).flatten()
    };
    let mut below: Vec<u64> = played.events.iter().filter_map(size_of).collect();
    below.retain(|size| *size != answers.size);
    below.dedup();
    Found::Claims(Claims {
        size: answers.size,
        flags: answers.flags,
        block: answers.block,
        block_status: answers.block_status,
        can_extents: !denies_extents(&played.events),
        export: String::new(),
        callbacks,
        thread_model,
        readonly: stack.readonly,
        below,
        is_script: matches!(&stack.layers, Layers::Wrapped { plugin, .. } if stock::runs_code(plugin)),
        has_copies: !stack.copied.is_empty(),
        parameters: variable(stack),
        expected: Vec::new(),
    })
}
