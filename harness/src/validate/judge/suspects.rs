//! Which layer of a stack is to blame for a broken check: it is played again on the plugin alone, then with one filter
//! more at a time, and the layer with which it first breaks is at fault.

use super::discovery::{Found, discover};
use super::judging::verdict_of;
use crate::run::stack::{Layers, Stack};
use crate::server::nbdkit::ServerError;
use crate::validate::checks::check::{ModuleCheck, Unfit};
use crate::validate::play::case::Bench;
use crate::validate::play::twist::twisted;
use crate::validate::script::fact::EXPECTED;

/// The layers among which the one at fault is: from the first to the last of these numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::validate) struct Suspects {
    pub(in crate::validate) first: u8,
    pub(in crate::validate) last: u8,
}

/// What a smaller stack says.
enum Said {
    /// It is broken there, too.
    Broken,
    /// It holds, or what it is about is not there.
    Holds,
    /// It cannot be told.
    Nothing,
}

/// Who is at fault for this check on this stack, where it is broken.
pub(in crate::validate) fn suspects(
    bench: &Bench<'_>,
    check: &ModuleCheck,
    stack: &Stack,
) -> Result<Option<Suspects>, ServerError> {
    let (Layers::Wrapped { filters, plugin }, Some(_)) = (&stack.layers, check.play.on_stack()) else {
        return Ok(None);
    };
    // Its author speaks of the whole stack.
    if check.id == EXPECTED {
        return Ok(None);
    }
    let all = u8::try_from(filters.len()).unwrap_or(u8::MAX);
    let mut suspects = Suspects { first: 0, last: all };
    for inner in 0..all {
        let kept = filters.iter().skip(usize::from(all - inner)).cloned().collect();
        let layers = Layers::Wrapped { filters: kept, plugin: plugin.clone() };
        match again(bench, check, &Stack { layers, ..stack.clone() })? {
            Said::Broken => {
                suspects.last = inner;
                break;
            }
            Said::Holds => suspects.first = inner + 1,
            Said::Nothing => {}
        }
    }
    Ok(Some(suspects))
}

/// The smaller stack offers what it offers, and is asked for no more.
fn again(bench: &Bench<'_>, check: &ModuleCheck, stack: &Stack) -> Result<Said, ServerError> {
    let Some(plans) = check.play.on_stack() else { return Ok(Said::Nothing) };
    let (Found::Claims(claims), _) = discover(bench, stack, 0)? else { return Ok(Said::Nothing) };
    let plans = match plans(&claims) {
        Ok(plans) => plans,
        Err(Unfit::NotClaimed(_)) => return Ok(Said::Holds),
        Err(Unfit::Reason(_)) => return Ok(Said::Nothing),
    };
    let mut said = Said::Holds;
    for plan in &plans {
        let played = bench.play(check.id, &twisted(stack, &plan.twist), plan)?;
        match verdict_of(check, plan, &played) {
            (_, Some(_)) => return Ok(Said::Broken),
            (crate::outcome::Verdict::Pass, None) => {}
            _ => said = Said::Nothing,
        }
    }
    Ok(said)
}
