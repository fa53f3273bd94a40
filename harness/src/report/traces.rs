//! The reports of `watch` and `check`, in every format but that for people.

use std::io::{self, Write};

use super::account::{Account, JudgedServer};
use super::html::{self, Traced};
use super::ndjson::{Ndjson, traces};
use super::{Format, github, junit, tap};
use crate::cases::{Case, CaseOutcome, CaseRun, CaseTrouble};
use crate::outcome::{Fault, Group, Standing, What, groups};
use crate::rules::Rule;

/// Writes it in this format, all in one piece.
pub fn write(to: &mut dyn Write, format: Format, account: &Account<'_>) -> io::Result<()> {
    let of_cases = |to: &mut dyn Write, write: super::buffered::Writer| write(to, &cases(account));
    match format {
        // For people each verb has a report of its own.
        Format::Human => Ok(()),
        Format::Ndjson => traces::write(&mut Ndjson::new(to), account),
        Format::Junit => of_cases(to, junit::write),
        Format::Tap => of_cases(to, tap::write),
        Format::Github => of_cases(to, github::annotations),
        Format::Markdown => of_cases(to, github::summary),
        Format::Html => {
            let traced: Vec<Traced<'_>> = account.servers.iter().map(|one| one.traced).collect();
            html::write(&mut &mut *to, &traced, Some(account.exit))
        }
    }
}

fn cases(account: &Account<'_>) -> CaseRun {
    let causes = groups(account.faults);
    let rules = account.rules.iter().map(|rule| of_rule(account, &causes, rule));
    let servers = account.servers.iter().map(|one| of_server(account, one));
    let unseen = account.unseen.iter().map(|one| Case {
        group: "servers",
        name: one.pid.map_or("a process".to_owned(), |pid| format!("process {pid}")),
        outcome: CaseOutcome::Skipped(format!("not judged: {}", one.why)),
    });
    let stale = account.stale.iter().map(|entry| {
        let message = format!("the baseline lists it, and it did not happen: {}", entry.why);
        let outcome = CaseOutcome::Failed(CaseTrouble::new("stale", message));
        Case { group: "baseline", name: entry.id.clone(), outcome }
    });
    let cases = rules.chain(servers).chain(unseen).chain(stale).collect();
    CaseRun::new(account.title.clone(), cases, account.exit, account.meaning.clone())
}

fn of_rule(account: &Account<'_>, causes: &[Group<'_>], rule: &Rule) -> Case {
    let of_it = |fault: &Fault| matches!(fault.what, What::Rule(one) if one.id == rule.id);
    let told = |is: fn(&Standing) -> bool, word| {
        let own: Vec<&Group<'_>> = causes
            .iter()
            .flat_map(|cause| [cause].into_iter().chain(&cause.with))
            .filter(|cause| cause.example().is_some_and(|first| of_it(first) && is(&first.standing)))
            .collect();
        let places: Vec<String> = own.iter().filter_map(|cause| place(cause)).collect();
        let texts: Vec<String> = own.iter().filter_map(|cause| text(cause)).collect();
        (!own.is_empty()).then(|| CaseTrouble {
            word,
            message: format!("broken in {}", places.join("; ")),
            text: texts.join("\n"),
        })
    };
    let failed = told(|standing| *standing == Standing::New, "fail").map(CaseOutcome::Failed);
    let known =
        || told(|standing| matches!(standing, Standing::Known { .. }), "known").map(CaseOutcome::Known);
    let warned = || told(|standing| *standing == Standing::Habit, "warn").map(CaseOutcome::Warned);
    let exercised = account.exercised.contains_key(rule.id);
    let outcome = failed.or_else(known).or_else(warned).unwrap_or_else(|| match exercised {
        true => CaseOutcome::Passed,
        false => CaseOutcome::Skipped(format!("never exercised: needs {}", rule.antecedent)),
    });
    Case { group: "rules", name: rule.id.to_owned(), outcome }
}

fn of_server(account: &Account<'_>, one: &JudgedServer<'_>) -> Case {
    let crash = account
        .faults
        .iter()
        .find(|fault| fault.scenario == one.name && matches!(fault.what, What::Verdict(_)));
    let outcome = match (crash, &one.unclear) {
        (Some(fault), _) => {
            let trouble = CaseTrouble::new("crash", fault.seen());
            match &fault.standing {
                Standing::Known { why, .. } => {
                    CaseOutcome::Known(CaseTrouble { text: format!("known: {why}\n"), ..trouble })
                }
                _ => CaseOutcome::Failed(trouble),
            }
        }
        (None, Some(why)) if one.is_cut() => {
            CaseOutcome::Inconclusive(CaseTrouble::new("inconclusive", why.clone()))
        }
        (None, Some(why)) => CaseOutcome::Skipped(format!("not judged: {why}")),
        (None, None) => CaseOutcome::Passed,
    };
    Case { group: "servers", name: one.name.clone(), outcome }
}

/// In which servers it shows itself.
fn place(cause: &Group<'_>) -> Option<String> {
    let first = &cause.example()?.scenario;
    Some(match cause.faults.len() {
        1 => first.clone(),
        many => format!("{many} servers, first {first}"),
    })
}

/// Its first fault at length.
fn text(cause: &Group<'_>) -> Option<String> {
    let fault = cause.example()?;
    let mut text = format!("{} in {}\n", fault.what, fault.scenario);
    if let What::Rule(rule) = &fault.what {
        text += &format!("{}\n({})\nat fault: {}\n", rule.statement, rule.clause, rule.party);
    }
    if let Some(first) = &fault.first {
        text += &format!("expected: {}\nactual:   {}\n", first.expected, first.actual);
        text.extend(first.calls.iter().map(|call| format!("{:>6} | {call}\n", call.position)));
    }
    if let Standing::Known { why, .. } = &fault.standing {
        text += &format!("known: {why}\n");
    }
    Some(text)
}
