//! `layers rules`.

use std::io::Write;

use clap::Args;

use super::failure::Failure;
use super::output::output;
use crate::campaign::select::{nearest, or_rather};
use crate::outcome::Exit;
use crate::report::catalogue::catalogue;
use crate::rules::{self, Checker, Rule};
use crate::validate::{ModuleCheck, checks};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Explain these rules and checks of `validate`; without any, list them all
    #[arg(value_name = "ID")]
    ids: Vec<String>,
    /// List them all as a page of documentation
    #[arg(long, conflicts_with = "ids")]
    markdown: bool,
}

pub(super) fn run(arguments: &Arguments) -> Result<Exit, Failure> {
    let mut out = output();
    if arguments.markdown {
        write!(out, "{}", catalogue())?;
        return Ok(Exit::Conformant);
    }
    if arguments.ids.is_empty() {
        for rule in rules::all() {
            writeln!(out, "{:<36} {:<11} {:<16} {}", rule.id, rule.kind, rule.party, rule.statement)?;
        }
        return Ok(Exit::Conformant);
    }
    let found: Result<Vec<_>, _> = arguments.ids.iter().map(|id| find(id).ok_or(id)).collect();
    let found = found.map_err(|id| {
        let lists = "`layers rules` lists the rules, `layers validate --list` the checks";
        let all = rules::all().map(|rule| rule.id).chain(checks::all().map(|check| check.id));
        let near = or_rather(nearest(id, all));
        Failure::new(Exit::Usage, format!("there is no rule and no check `{id}`{near}: {lists}"))
    })?;
    for (index, one) in found.into_iter().enumerate() {
        if index > 0 {
            writeln!(out)?;
        }
        match one {
            Explained::Rule(rule) => explain(&mut out, rule)?,
            Explained::Check(check) => explain_check(&mut out, check)?,
        }
    }
    Ok(Exit::Conformant)
}

enum Explained {
    Rule(&'static Rule),
    Check(&'static ModuleCheck),
}

fn find(id: &str) -> Option<Explained> {
    rules::find(id).map(Explained::Rule).or_else(|| checks::find(id).map(Explained::Check))
}

fn explain_check(out: &mut impl Write, check: &ModuleCheck) -> std::io::Result<()> {
    writeln!(out, "{}\n  {}\n", check.id, check.statement)?;
    let mut row = |name: &str, value: &dyn std::fmt::Display| writeln!(out, "  {name:<13} {value}");
    row("level", &check.level.word())?;
    row("profile", &check.profile)?;
    row("party", &check.party)?;
    row("clause", &check.clause)?;
    row("broken by", &check.broken_by)?;
    row("to fix it", &check.fix)
}

fn explain(out: &mut impl Write, rule: &Rule) -> std::io::Result<()> {
    writeln!(out, "{}\n  {}\n", rule.id, rule.statement)?;
    let mut row = |name: &str, value: &dyn std::fmt::Display| writeln!(out, "  {name:<13} {value}");
    row("kind", &rule.kind)?;
    row("party", &rule.party)?;
    row("since", &rule.since)?;
    row("clause", &rule.clause)?;
    match rule.check {
        Checker::Trace(_) => row("exercised by", &rule.antecedent)?,
        Checker::Nothing => return row("judged", &"never: the manual leaves it open"),
    }
    row("holds for", &rule.good)?;
    row("broken by", &rule.bad)?;
    row("to fix it", &rule.fix)
}
