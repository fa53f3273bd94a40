//! The page of one recorded run.

use super::page::{Cell, Finding, Page, Section};
use crate::campaign::event_budget::Events;
use crate::conform::exit_of;
use crate::outcome::{Exit, Verdict};
use crate::rules::{Judgement, RuleResult};

/// A run that is over.
#[derive(Clone, Copy, Debug)]
pub struct Traced<'a> {
    /// What to call it, if it does not say itself.
    pub name: &'a str,
    /// What the rules say of it.
    pub judgement: &'a Judgement,
    /// All of it.
    pub events: &'a Events,
    /// What became of it as a whole.
    pub verdict: &'a Verdict,
}

pub(super) fn page(traces: &[Traced<'_>], code: Option<Exit>) -> Page {
    let exit = Exit::of(traces.iter().flat_map(|one| [exit_of(one.judgement), one.verdict.exit()]));
    let (title, facts) = match traces {
        [one] => (title(one), facts(one)),
        _ => (format!("{} recorded runs", traces.len()), traces.iter().map(in_short).collect()),
    };
    let mut page = Page {
        title,
        about: "Recorded, and judged by the rules".to_owned(),
        exit,
        code,
        meaning: exit.meaning().to_owned(),
        facts,
        findings: Vec::new(),
        runs: Vec::new(),
        sections: Vec::new(),
    };
    for one in traces {
        let run = page.draw(one.name, Some(one.events));
        let first = page.findings.len();
        let broken = one.judgement.results.iter().filter(|result| result.broken > 0);
        page.findings.extend(broken.flat_map(|result| findings(result, run, one.name)));
        let cells = one.judgement.results.iter().map(|result| {
            let of_rule = |(_, finding): &(usize, &Finding)| finding.id == result.rule.id;
            let found = (first..).zip(page.findings.iter().skip(first)).filter(of_rule);
            Cell { findings: found.map(|(index, _)| index).collect(), ..cell(result) }
        });
        let name = if traces.len() > 1 { format!("rules in {}", one.name) } else { "rules".to_owned() };
        page.sections.push(Section::new(name, cells.collect::<Vec<_>>()));
    }
    page
}

fn title(traced: &Traced<'_>) -> String {
    match traced.judgement.history.run() {
        Some(run) if run.scenario == "trace" => format!("{} {}", run.server, run.version),
        Some(run) => format!("{} {}: {}", run.server, run.version, run.scenario),
        None => traced.name.to_owned(),
    }
}

fn in_short(traced: &Traced<'_>) -> (&'static str, String) {
    let whole = traced.verdict.reason().map_or(String::new(), |reason| format!("; {reason}"));
    ("Trace", format!("{}: {}, {} events{whole}", traced.name, title(traced), traced.judgement.events))
}

fn facts(traced: &Traced<'_>) -> Vec<(&'static str, String)> {
    let judgement = traced.judgement;
    let layers: Vec<&str> = judgement.history.layers().iter().rev().map(|one| one.name.as_str()).collect();
    let mut facts = vec![("Events", judgement.events.to_string())];
    facts.extend((!layers.is_empty()).then(|| ("Layers, outermost first", layers.join(", "))));
    let whole = traced.verdict.reason().map(|reason| (traced.verdict.word(), reason.to_owned()));
    facts.extend(whole);
    facts
}

fn verdict(result: &RuleResult) -> Verdict {
    Verdict::of_rule(result.rule, result.exercised, result.broken > 0)
}

fn findings(result: &RuleResult, run: Option<usize>, name: &str) -> impl Iterator<Item = Finding> {
    let (rule, word) = (result.rule, verdict(result).word());
    let place = format!("in {name}, broken {} times", result.broken);
    let finding = move |one| Finding { word, place: place.clone(), run, ..Finding::of_rule(rule, Some(one)) };
    result.findings.iter().map(finding)
}

fn cell(result: &RuleResult) -> Cell {
    let rule = result.rule;
    let verdict = verdict(result);
    let counts = || format!("exercised {} times, broken {}", result.exercised, result.broken);
    let said = verdict.reason().map_or_else(counts, str::to_owned);
    Cell {
        id: rule.id.to_owned(),
        word: verdict.word(),
        statement: rule.statement,
        lines: vec![rule.clause.to_owned(), said],
        findings: Vec::new(),
    }
}
