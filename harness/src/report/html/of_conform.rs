//! The page of a run of `conform`.

use super::page::{Cell, Finding, Page, Section};
use crate::cases::reproduce;
use crate::conform::{ConformPlan, Conformance, RuleVerdict, ScenarioVerdict};
use crate::history::Wrapped;
use crate::outcome::{Fault, Group, Standing, Verdict, What, groups};
use crate::validate::in_flight;

pub(super) fn page(plan: &ConformPlan<'_>, conformance: &Conformance) -> Page {
    let mut page = Page {
        title: format!("{} {}", plan.server.which().name(), plan.server.version()),
        about: format!("layers conform {}", plan.server.which().name()),
        exit: conformance.exit(),
        code: Some(conformance.exit()),
        meaning: conformance.meaning(),
        facts: facts(plan, conformance),
        findings: Vec::new(),
        runs: Vec::new(),
        sections: Vec::new(),
    };
    let mut causes = groups(&conformance.faults);
    causes.sort_by_key(|cause| cause.example().map(|fault| rank(&fault.standing)));
    for cause in &causes {
        let Some(first) = cause.example() else { continue };
        let run = page.draw(&first.scenario, first.run.as_ref());
        page.findings.push(Finding { run, ..finding(plan, cause, first) });
    }
    let faults: Vec<(usize, &Fault)> = (0..)
        .zip(&causes)
        .flat_map(|(number, cause)| cause.all().map(move |fault| (number, fault)))
        .collect();
    let rules = conformance.rules.iter().map(|rule| rule_cell(rule, &faults));
    let scenarios = conformance.scenarios.iter().map(|scenario| scenario_cell(scenario, &faults));
    page.sections = vec![Section::new("rules", rules), Section::new("scenarios", scenarios)];
    page.sections.extend(Section::baseline(&conformance.stale));
    page
}

/// What counts comes first.
fn rank(standing: &Standing) -> u8 {
    match standing {
        Standing::New => 0,
        Standing::Ours => 1,
        Standing::Habit => 2,
        Standing::Follows => 3,
        Standing::Known { .. } => 4,
    }
}

fn word(fault: &Fault) -> &'static str {
    match (&fault.standing, &fault.what) {
        (Standing::New, What::Rule(_)) => "fail",
        (Standing::New, What::Verdict(verdict)) => verdict.word(),
        (Standing::Ours, _) => "harness-error",
        (Standing::Habit | Standing::Follows, _) => "warn",
        (Standing::Known { .. }, _) => "known",
    }
}

fn facts(plan: &ConformPlan<'_>, conformance: &Conformance) -> Vec<(&'static str, String)> {
    let Wrapped { keywords, applets } = conformance.wrapped;
    let mut facts = vec![
        ("Server", plan.server.path().display().to_string()),
        ("Level", plan.level.word().to_owned()),
        ("Rules", conformance.rules.len().to_string()),
        ("Scenarios", conformance.scenarios.len().to_string()),
    ];
    let known = conformance.known.len();
    facts.extend((known > 0).then(|| ("Baseline", format!("{known} entries, races included"))));
    facts.extend((keywords > 0).then(|| ("Wrapped", format!("{keywords} keywords, {applets} applets"))));
    let not_played: Vec<_> =
        conformance.not_played.iter().map(|one| format!("{}: {}", one.scenario, one.why)).collect();
    let left_out: Vec<_> = conformance
        .left_out(false)
        .into_iter()
        .map(|(first, commands)| format!("{} in {}: {}", first.rule, first.scenario, commands.join(", ")))
        .collect();
    facts.extend((!left_out.is_empty()).then(|| ("Left out", left_out.join("; "))));
    facts.extend((!not_played.is_empty()).then(|| ("Not judged", not_played.join("; "))));
    facts
}

/// Of a cause, of which this is the first that was found.
fn finding(plan: &ConformPlan<'_>, cause: &Group<'_>, fault: &Fault) -> Finding {
    let Fault { scenario, times, tries, .. } = fault;
    let often = match (times, tries) {
        (1, 1) => String::new(),
        _ => format!(", in {times} of {tries} tries"),
    };
    let scenarios = cause.scenarios();
    let many = match scenarios.len() {
        1 => String::new(),
        many => format!("{many} scenarios, first "),
    };
    let several = scenarios.len() > 1;
    let finding = match &fault.what {
        What::Rule(rule) => Finding::of_rule(rule, fault.first.as_ref()),
        What::Verdict(verdict) => Finding {
            id: verdict.word().to_owned(),
            statement: "The server neither crashes nor hangs.".to_owned(),
            at_fault: plan.server.which().name().to_owned(),
            actual: verdict.reason().unwrap_or_default().to_owned(),
            calls: fault.run.as_ref().map(|events| in_flight(events)).unwrap_or_default(),
            ..Finding::default()
        },
    };
    Finding {
        word: word(fault),
        known: fault.standing.why().map(str::to_owned),
        place: format!("in {many}{scenario}{often}"),
        wrote: fault.wrote.clone(),
        scenarios: scenarios.into_iter().filter(|_| several).map(str::to_owned).collect(),
        with: cause.with.iter().filter_map(|one| one.heading("scenario")).collect(),
        reproduce: Some(reproduce(plan, fault)),
        ..finding
    }
}

/// What is found, each with the number of its cause.
type Found<'a> = [(usize, &'a Fault)];

/// What the findings among these say, or else the verdict; and the numbers of their causes.
fn said(verdict: &Verdict, faults: &Found<'_>, of: impl Fn(&Fault) -> bool) -> (&'static str, Vec<usize>) {
    let found = || faults.iter().filter(|(_, fault)| of(fault));
    let gravest = found().min_by_key(|(number, fault)| (rank(&fault.standing), *number));
    let mut numbers: Vec<usize> = found().map(|(number, _)| *number).collect();
    numbers.dedup();
    (gravest.map_or(verdict.word(), |(_, fault)| word(fault)), numbers)
}

fn rule_cell(rule: &RuleVerdict, faults: &Found<'_>) -> Cell {
    let of_rule = |fault: &Fault| fault.is_of(rule.rule);
    let (word, findings) = said(&rule.verdict, faults, of_rule);
    let mut lines = vec![rule.rule.clause.to_owned()];
    lines.extend(rule.verdict.reason().map(str::to_owned));
    if rule.exercised > 0 {
        lines.push(format!("exercised {} times in {} scenarios", rule.exercised, rule.scenarios));
    }
    Cell { id: rule.rule.id.to_owned(), word, statement: rule.rule.statement, lines, findings }
}

fn scenario_cell(scenario: &ScenarioVerdict, faults: &Found<'_>) -> Cell {
    let found = said(&scenario.verdict, faults, |fault| fault.scenario == scenario.name).1;
    // A rule that is broken in it is the rule's verdict; the scenario's own is that it went as planned.
    let of_itself = |fault: &Fault| fault.scenario == scenario.name && matches!(fault.what, What::Verdict(_));
    let word = said(&scenario.verdict, faults, of_itself).0;
    let tries = if scenario.tries == 1 { "1 try".to_owned() } else { format!("{} tries", scenario.tries) };
    let mut lines = vec![format!("{tries}, {} events", scenario.events)];
    lines.extend(scenario.verdict.reason().map(str::to_owned));
    lines.extend(scenario.astray.iter().map(|(verdict, times)| {
        format!("{times} of {tries}: {} {}", verdict.word(), verdict.reason().unwrap_or_default())
    }));
    lines.push(format!("layers trace --scenario {} --report html=trace.html", scenario.name));
    Cell { id: scenario.name.clone(), word, statement: "", lines, findings: found }
}
