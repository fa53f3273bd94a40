//! Replaying one case that was written to a file.

use std::time::Duration;

use super::case::{Bench, Terms, Wrong};
use super::check::Play;
use super::discovery::refusal;
use super::ground::innermost;
use super::judging::verdict_of;
use super::repro::Repro;
use super::{checks, is_module, processes};
use crate::server::nbdkit::{Nbdkit, ServerError};

/// Replays a case; says what breaks its check or rule now, if anything does.
pub fn replay(repro: &Repro, nbdkit: &Nbdkit, timeout: Duration) -> Result<Option<Wrong>, ServerError> {
    let terms = Terms { seed: repro.seed, memory: repro.memory.saturating_mul(1 << 20) };
    let bench = Bench { nbdkit, timeout, terms };
    let plan = repro.plan();
    let played = bench.play(&repro.check, &repro.stack, &plan)?;
    let of_process = processes::look(&plan, &played, innermost(&repro.stack))
        .into_iter()
        .find(|seen| seen.id == repro.check);
    if let Some(seen) = of_process {
        return Ok(Some(seen.wrong));
    }
    if let Some(result) = played.judgement.result(&repro.check) {
        let found = result.findings.iter().find(|finding| is_module(finding.party));
        return Ok(found.map(|found| Wrong::new(found.expected.clone(), found.actual.clone())));
    }
    let Some(check) = checks::find(&repro.check) else { return Ok(None) };
    if matches!(check.play, Play::Opens) {
        let refused = refusal(&played).filter(|_| played.answers.is_none());
        return Ok(
            refused.map(|reason| Wrong::new(repro.expected.clone(), format!("no export opens: {reason}")))
        );
    }
    Ok(verdict_of(check, &plan, &played).1.map(|(_, wrong)| wrong))
}
