//! Findings, with the layer at fault and the case that shows them.

use super::case::{Terms, Wrong};
use super::check::{Check, Plan};
use super::repro::{FORMAT, Repro};
use super::subject;
use super::verdicts::{Blame, Finding};
use crate::rules::{CallRef, Party};
use crate::stack::{Layers, Stack};

/// A case, as far as a finding is concerned.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scene<'a> {
    pub(super) stack: &'a Stack,
    pub(super) plan: &'a Plan,
    /// The step at which it is over.
    pub(super) index: usize,
    pub(super) terms: Terms,
}

impl Scene<'_> {
    /// What breaks this check here.
    pub(super) fn finding(&self, check: &'static Check, wrong: &Wrong, calls: Vec<CallRef>) -> Finding {
        let blame = blame(self.stack, calls.last().map(|call| call.layer), check.party);
        Finding {
            id: check.id,
            level: check.level,
            statement: check.statement,
            clause: check.clause,
            fix: check.fix,
            expected: wrong.expected.clone(),
            actual: wrong.actual.clone(),
            calls,
            blame,
            repro: Box::new(self.repro(check.id, wrong)),
        }
    }

    /// The case as a file has it.
    pub(super) fn repro(&self, id: &str, wrong: &Wrong) -> Repro {
        Repro {
            layers_repro: FORMAT,
            check: id.to_owned(),
            expected: wrong.expected.clone(),
            actual: wrong.actual.clone(),
            seed: self.terms.seed,
            memory: self.terms.memory >> 20,
            start: self.plan.start,
            outcome: self.plan.outcome,
            refusal_fails: self.plan.refusal_fails,
            script: self.plan.script.iter().take(self.index.saturating_add(1)).cloned().collect(),
            directory: None,
            stack: self.stack.clone(),
        }
    }
}

/// Names a layer; without filters only the plugin can be meant.
pub(super) fn blame(stack: &Stack, layer: Option<u8>, party: Party) -> Blame {
    let (filters, plugin): (&[String], Option<&str>) = match &stack.layers {
        Layers::Wrapped { filters, plugin } => (filters, Some(plugin)),
        Layers::Over { filters, .. } => (filters, None),
        Layers::Reference(_) => (&[], None),
    };
    let layer = if filters.is_empty() { Some(0) } else { layer };
    let layer = if plugin.is_none() && filters.len() == 1 { Some(1) } else { layer };
    let filter = |layer: u8| filters.len().checked_sub(layer.into()).and_then(|index| filters.get(index));
    match layer {
        Some(0) => Blame { layer, name: plugin.unwrap_or_default().to_owned(), party: Party::Plugin },
        Some(number) => {
            Blame { layer, name: filter(number).cloned().unwrap_or_default(), party: Party::Filter }
        }
        None => Blame { layer, name: subject::words(stack), party },
    }
}
