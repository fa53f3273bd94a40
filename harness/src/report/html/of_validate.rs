//! The page of a run of `validate`.

use std::path::PathBuf;

use super::page::{Cell, Finding, Page, Section};
use crate::cases::marks;
use crate::foreign::quoted::quoted;
use crate::outcome::{Standing, Verdict};
use crate::validate::{self, ProfileResult, ProfileVerdict, Validation};

pub(super) fn page(validation: &Validation, files: &[PathBuf]) -> Page {
    let mut page = Page {
        title: validation.subject.clone(),
        about: format!("layers validate, in {} {}", validation.which.name(), validation.server),
        exit: validation.exit(),
        code: Some(validation.exit()),
        meaning: validation.meaning(),
        facts: facts(validation),
        findings: Vec::new(),
        runs: Vec::new(),
        sections: Vec::new(),
    };
    let mut found: Vec<(usize, &validate::ModuleFinding)> = validation.findings().enumerate().collect();
    found.sort_by_key(|(_, finding)| is_known(validation, finding.promise.id));
    for (number, one) in &found {
        let run = page.draw(one.promise.id, one.run.as_ref());
        let reproduce =
            files.get(*number).map(|file| format!("layers repro {}", quoted(file))).or(one.replay.clone());
        page.findings.push(Finding { run, reproduce, ..finding(validation, one) });
    }
    let cell = |id: &str, verdict: &Verdict, statement, lines| Cell {
        id: id.to_owned(),
        word: word(validation, id, verdict),
        statement,
        lines,
        findings: (0..)
            .zip(&found)
            .filter(|(_, (_, one))| one.promise.id == id)
            .map(|(index, _)| index)
            .collect(),
    };
    let lines = |clause: &str, verdict: &Verdict| {
        [Some(clause), verdict.reason()].into_iter().flatten().map(str::to_owned).collect()
    };
    let checks = validation.checks.iter().map(|one| {
        cell(one.check.id, &one.verdict, one.check.statement, lines(one.check.clause, &one.verdict))
    });
    let rules = validation
        .rules
        .iter()
        .map(|one| cell(one.rule.id, &one.verdict, one.rule.statement, lines(one.rule.clause, &one.verdict)));
    let of_set = |name: &str| validation.set.as_ref().map_or(name.to_owned(), |set| format!("{set}: {name}"));
    let profiles =
        Section::of_one_family(of_set("profiles"), validation.profiles.iter().map(profile).collect());
    page.sections =
        vec![profiles, Section::new(of_set("checks"), checks), Section::new(of_set("rules"), rules)];
    page.sections.extend(Section::baseline(&validation.stale));
    page
}

fn is_known(validation: &Validation, id: &str) -> bool {
    validation.standing(id).is_some_and(|standing| standing.why().is_some())
}

fn word(validation: &Validation, id: &str, verdict: &Verdict) -> &'static str {
    match (validation.standing(id), verdict) {
        (Some(Standing::Known { .. }), _) => "known",
        (Some(Standing::New), Verdict::Warn) => "fail",
        _ => verdict.word(),
    }
}

fn profile(result: &ProfileResult) -> Cell {
    let word = match result.verdict {
        ProfileVerdict::Conformant => "pass",
        ProfileVerdict::NotConformant => "fail",
        ProfileVerdict::NotClaimed | ProfileVerdict::NotJudged => "not-applicable",
        ProfileVerdict::Inconclusive => "inconclusive",
    };
    let mut lines = vec![
        result.verdict.word().to_owned(),
        format!("{} checks hold, {} do not", result.hold, result.broken),
    ];
    lines.extend(result.reason.clone());
    Cell { id: result.profile.word().to_owned(), word, statement: "", lines, findings: Vec::new() }
}

fn facts(validation: &Validation) -> Vec<(&'static str, String)> {
    let mut facts = vec![
        ("Checks", validation.checks.len().to_string()),
        ("Rules", validation.rules.len().to_string()),
        ("Servers", validation.cases.to_string()),
    ];
    facts.extend(validation.unloadable.clone().map(|why| ("Cannot be loaded", why)));
    facts.extend(validation.cut_short.clone().map(|why| ("Cut short", why)));
    facts.extend(validation.spared.clone().map(|storage| ("Opened read-only", storage)));
    let copied = validation.copied.join(", ");
    let untried = validation.untried.join(", ");
    facts.extend((!untried.is_empty()).then_some(("Parameters of --help that are not given", untried)));
    facts.extend((!copied.is_empty()).then_some(("Copied for each case", copied)));
    facts
}

fn finding(validation: &Validation, found: &validate::ModuleFinding) -> Finding {
    let id = found.promise.id;
    let verdict = validation.verdicts().find(|(one, _)| *one == id).map(|(_, verdict)| verdict);
    let layer = found.blame.layer.map_or(String::new(), |layer| format!("L{layer} "));
    Finding {
        word: verdict.map_or("fail", |verdict| word(validation, id, verdict)),
        known: is_known(validation, id).then(|| "it is in the baseline".to_owned()),
        at_fault: format!("{layer}{} ({})", found.blame.name, found.blame.party),
        expected: found.expected.clone(),
        actual: found.actual.clone(),
        hint: found.hint.clone(),
        said: found.said.clone(),
        also: found.also.join(", "),
        calls: found.calls.clone(),
        marks: marks::marks(found).map(|(_, mark)| mark).collect(),
        ..Finding::of(found.promise)
    }
}
