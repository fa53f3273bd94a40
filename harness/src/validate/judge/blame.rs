//! Findings, with the layer at fault and the case that shows them.

use layers_trace::{Event, Kind};

use super::suspects::Suspects;
use crate::foreign::visible::visible_line;
use crate::history::calls;
use crate::rules::{self, CallRef, Party};
use crate::run::stack::{Layers, Stack};
use crate::validate::checks::check::{CasePlan, ModuleCheck};
use crate::validate::play::played::Terms;
use crate::validate::play::stop::Wrong;
use crate::validate::repro::{FORMAT, Repro};
use crate::validate::script::op::Op;
use crate::validate::subject;
use crate::validate::subject::consent::without_secrets;
use crate::validate::verdict::verdicts::{Blame, ModuleFinding};

/// A case, as far as a finding is concerned.
#[derive(Clone, Copy, Debug)]
pub(in crate::validate) struct Scene<'a> {
    pub(in crate::validate) stack: &'a Stack,
    pub(in crate::validate) plan: &'a CasePlan,
    /// The step at which it is over.
    pub(in crate::validate) index: usize,
    pub(in crate::validate) terms: Terms,
}

impl Scene<'_> {
    /// What breaks this check here.
    pub(in crate::validate) fn finding(
        &self,
        check: &'static ModuleCheck,
        wrong: &Wrong,
        calls: Vec<CallRef>,
    ) -> ModuleFinding {
        let blame = blame(self.stack, calls.last().map(|call| call.layer), check.party);
        ModuleFinding {
            calls,
            repro: Some(Box::new(self.repro(check.id, wrong))),
            ..ModuleFinding::of(check, wrong.expected.clone(), wrong.actual.clone(), blame)
        }
    }

    /// One of these layers is at fault.
    pub(in crate::validate) fn suspected(&self, suspects: Suspects, party: Party) -> Blame {
        let Suspects { first, last } = suspects;
        if first == last {
            return blame(self.stack, Some(last), party);
        }
        let names: Vec<String> =
            (first..=last).map(|layer| blame(self.stack, Some(layer), party)).map(|one| one.name).collect();
        Blame { layer: None, name: names.join(" or "), party }
    }

    /// Who has broken a rule.
    pub(in crate::validate) fn of_rule(&self, found: &rules::Finding, events: &[Event]) -> Blame {
        let last = found.calls.last();
        let layer = match found.party {
            Party::Filter => last.and_then(|call| filter_of(found.rule, call, events)),
            _ => last.map(|call| call.layer),
        };
        blame(self.stack, layer, found.party)
    }

    /// The case as a file has it.
    pub(in crate::validate) fn repro(&self, id: &str, wrong: &Wrong) -> Repro {
        Repro {
            layers_repro: FORMAT,
            check: id.to_owned(),
            expected: wrong.expected.clone(),
            actual: wrong.actual.clone(),
            seed: self.terms.seed,
            memory: self.terms.memory >> 20,
            start: self.plan.start,
            conditions: self.plan.conditions.under(self.terms.under),
            outcome: self.plan.outcome,
            script: self
                .plan
                .script
                .iter()
                .take(self.index.saturating_add(1))
                .filter(kept)
                .cloned()
                .collect(),
            directory: None,
            stack: without_secrets(self.stack),
        }
    }
}

/// What is found is to be found again, also on a slower machine.
fn kept(op: &&Op) -> bool {
    **op != Op::IfQuick
}

/// The filter that a finding is about: the one whose own callback it is, or the one that makes the call.
fn filter_of(rule: &str, call: &CallRef, events: &[Event]) -> Option<u8> {
    let own = call.kind == Kind::Exit || rule.starts_with("ptr.");
    if own && call.layer > 0 {
        return Some(call.layer);
    }
    let around = calls(events).into_iter().rev().filter(|other| other.is_in_flight_at(call.position));
    let mut outer = around.filter(|other| other.enter.tid == call.tid && other.enter.layer > call.layer);
    let caller = outer.next().map(|other| other.enter.layer);
    caller.or((call.layer > 0).then_some(call.layer))
}

/// Names a layer; without filters only the plugin can be meant.
pub(in crate::validate) fn blame(stack: &Stack, layer: Option<u8>, party: Party) -> Blame {
    let filters: &[String] = match &stack.layers {
        Layers::Wrapped { filters, .. } | Layers::Over { filters, .. } => filters,
        Layers::Reference(_) => &[],
    };
    let plugin = match &stack.layers {
        Layers::Wrapped { plugin, .. } => Some(plugin.as_str()),
        _ => None,
    };
    // Where only one layer is not ours, it is that one.
    let layer = match (filters, plugin, stack.replaced.keys().collect::<Vec<_>>().as_slice()) {
        ([], Some(_), _) => Some(0),
        ([_], None, _) => Some(1),
        (_, _, [only]) => Some(**only),
        _ => layer,
    };
    let of_stack = |layer: u8| filters.len().checked_sub(layer.into()).and_then(|index| filters.get(index));
    let filter = |layer: u8| of_stack(layer).or_else(|| stack.replaced.get(&layer));
    match layer {
        Some(0) => Blame { layer, name: visible_line(plugin.unwrap_or_default()), party: Party::Plugin },
        Some(number) => Blame {
            layer,
            name: visible_line(filter(number).map_or("", String::as_str)),
            party: Party::Filter,
        },
        None => Blame { layer, name: visible_line(&subject::words(stack)), party },
    }
}
