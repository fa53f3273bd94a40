//! The report for people: what was judged, what broke, what was left out and why.

use std::io::{self, Write};

use anstyle::{AnsiColor, Style};

use super::{Reporter, finding, reproduce};
use crate::baseline::{How, What};
use crate::conform::{Conformance, Fault, Plan, RuleVerdict, ScenarioVerdict, Standing};
use crate::history::Wrapped;
use crate::rules::Checker;
use crate::verdict::Verdict;

const GOOD: Style = AnsiColor::Green.on_default();
const BAD: Style = AnsiColor::Red.on_default().bold();
const ODD: Style = AnsiColor::Yellow.on_default();
const DIM: Style = Style::new().dimmed();

/// Writes to `W`, which drops the colours where they do not belong.
#[derive(Debug)]
pub struct Human<W> {
    to: W,
}

impl<W: Write> Human<W> {
    /// Writes to `to`.
    pub fn new(to: W) -> Human<W> {
        Human { to }
    }

    /// How often each rule was put to the test.
    fn judged(&mut self, conformance: &Conformance) -> io::Result<()> {
        writeln!(self.to, "judged:")?;
        for verdict in conformance.rules.iter().filter(|verdict| is_judged(verdict)) {
            let (style, word) = match verdict.verdict {
                Verdict::Pass => (GOOD, "pass"),
                Verdict::Warn => (ODD, "warn"),
                Verdict::Fail if verdict.known => (ODD, "known"),
                Verdict::Fail => (BAD, "FAIL"),
                _ => (BAD, "ERROR"),
            };
            let RuleVerdict { rule, exercised, scenarios, .. } = verdict;
            write!(self.to, "  {style}{word:<5}{style:#}  {:<36} {exercised:>6} times", rule.id)?;
            write!(self.to, " in {scenarios} scenarios")?;
            if !verdict.broken_in.is_empty() {
                write!(self.to, ", broken in {}", verdict.broken_in.join(", "))?;
            }
            writeln!(self.to)?;
        }
        Ok(())
    }

    /// Everything that is not in the baseline, with the calls and the command.
    fn findings(&mut self, plan: &Plan<'_>, conformance: &Conformance) -> io::Result<()> {
        let is_new = |fault: &&Fault| !matches!(fault.standing, Standing::Known { .. });
        let mut faults = conformance.faults.iter().filter(is_new).peekable();
        if faults.peek().is_some() {
            writeln!(self.to, "\nfindings:")?;
        }
        for fault in faults {
            let (style, word) = match fault.standing {
                Standing::Habit => (ODD, "warn"),
                Standing::Ours => (BAD, "ERROR"),
                _ => (BAD, "FAIL"),
            };
            let Fault { what, scenario, times, tries, .. } = fault;
            writeln!(
                self.to,
                "  {style}{word:<5}{style:#}  {what} in {scenario}, in {times} of {tries} tries"
            )?;
            match what {
                What::Rule(rule) => finding::write(&mut self.to, rule, fault.first.as_ref())?,
                What::Verdict(verdict) => {
                    writeln!(self.to, "        {}", verdict.reason().unwrap_or_default())?;
                }
            }
            if fault.standing == Standing::Ours {
                writeln!(
                    self.to,
                    "        that is the harness's own: the scenario, the layer or the rule is wrong"
                )?;
            }
            writeln!(self.to, "        reproduce: {}", reproduce(plan, fault))?;
        }
        Ok(())
    }

    /// What the baseline has been right about, and what it has not.
    fn known(&mut self, conformance: &Conformance) -> io::Result<()> {
        if !conformance.known.is_empty() {
            writeln!(self.to, "\nknown, as the baseline says:")?;
        }
        let mut why = "";
        for entry in &conformance.known {
            if entry.why != why {
                why = &entry.why;
                writeln!(self.to, "  {why}")?;
            }
            let happened = conformance.faults.iter().filter(|f| entry.covers(&f.what, &f.scenario));
            let (times, tries) = happened.fold((0, None), |(times, _), f| (times + f.times, Some(f.tries)));
            let tries = tries.unwrap_or_else(|| tries_of(conformance, &entry.scenario));
            write!(self.to, "    {:<36} {}", entry.what, entry.scenario)?;
            match entry.how {
                How::Deterministic if times == tries => writeln!(self.to)?,
                How::Deterministic => writeln!(self.to, ": only {times} of {tries} tries, a race?")?,
                How::Race { .. } if times == tries => {
                    writeln!(self.to, ": {times} of {tries} tries, not a race any more?")?;
                }
                How::Race { .. } => writeln!(self.to, ": {times} of {tries} tries")?,
            }
        }
        if !conformance.stale.is_empty() {
            writeln!(self.to, "\n{BAD}stale{BAD:#}: the baseline lists these, and they did not happen:")?;
        }
        for entry in &conformance.stale {
            writeln!(self.to, "    {:<36} {}: {}", entry.what, entry.scenario, entry.why)?;
        }
        Ok(())
    }

    /// Races in which nothing was found, and tries of any scenario that cannot be judged.
    fn races(&mut self, conformance: &Conformance) -> io::Result<()> {
        let lost = |verdict: &Verdict| !matches!(verdict, Verdict::Crash(_) | Verdict::Hang(_));
        let mut lines = Vec::new();
        for scenario in conformance.scenarios.iter().filter(|scenario| scenario.race) {
            let ScenarioVerdict { name, tries, .. } = scenario;
            if !conformance.faults.iter().any(|fault| fault.scenario == *name) {
                lines.push(format!("  {name:<32} nothing found in {tries} tries"));
            }
            for (verdict, times) in scenario.astray.iter().filter(|(verdict, _)| lost(verdict)) {
                let (word, why) = (verdict.word(), verdict.reason().unwrap_or_default());
                lines.push(format!("  {name:<32} {word} in {times} of {tries} tries: {why}"));
            }
        }
        if !lines.is_empty() {
            writeln!(self.to, "\nraces:\n{}", lines.join("\n"))?;
        }
        Ok(())
    }

    fn not_judged(&mut self, conformance: &Conformance) -> io::Result<()> {
        let (unspecified, rest): (Vec<&RuleVerdict>, Vec<&RuleVerdict>) = conformance
            .rules
            .iter()
            .filter(|verdict| !is_judged(verdict))
            .partition(|verdict| matches!(verdict.rule.check, Checker::Nothing));
        if !rest.is_empty() {
            writeln!(self.to, "\nnot judged:")?;
        }
        for RuleVerdict { rule, verdict, .. } in &rest {
            let reason = verdict.reason().unwrap_or_default();
            writeln!(self.to, "  {DIM}{:<14}{DIM:#}  {:<36} {reason}", verdict.word(), rule.id)?;
        }
        if !unspecified.is_empty() {
            let ids: Vec<&str> = unspecified.iter().map(|verdict| verdict.rule.id).collect();
            writeln!(self.to, "\nunspecified, never judged: {}", ids.join(", "))?;
        }
        Ok(())
    }
}

/// Something was said of it: it is in the first list.
fn is_judged(verdict: &RuleVerdict) -> bool {
    !matches!(verdict.verdict, Verdict::NotApplicable(_) | Verdict::Skipped(_))
}

fn tries_of(conformance: &Conformance, scenario: &str) -> u32 {
    conformance.scenarios.iter().find(|one| one.name == scenario).map_or(0, |one| one.tries)
}

impl<W: Write> Human<W> {
    /// What of the server was looked at, and what could not be played on it.
    fn server(&mut self, conformance: &Conformance) -> io::Result<()> {
        let Wrapped { keywords, applets } = conformance.wrapped;
        if keywords > 0 {
            writeln!(self.to, "\nwrapped: {keywords} keywords and {applets} applets of the server")?;
        }
        for scenario in &conformance.too_new {
            writeln!(self.to, "not played: scenario {scenario}: the server is too old for it")?;
        }
        Ok(())
    }

    /// What scenarios had to show, so that a rule that held in them means something.
    fn controls(&mut self, conformance: &Conformance) -> io::Result<()> {
        let controls = || conformance.scenarios.iter().flat_map(|scenario| &scenario.controls);
        let (all, shown) =
            (controls().count(), controls().filter(|one| one.verdict == Verdict::Pass).count());
        if all == 0 {
            return Ok(());
        }
        writeln!(
            self.to,
            "\ncontrols: {shown} of {all} shown (that calls did overlap, or that clients asked for it)"
        )
    }
}

impl<W: Write> Reporter for Human<W> {
    fn begin(&mut self, plan: &Plan<'_>) -> io::Result<()> {
        writeln!(
            self.to,
            "{} {} ({}): {} scenarios, {} rules, level {}\n",
            plan.server.which().name(),
            plan.server.version(),
            plan.server.path().display(),
            plan.selection.scenarios.len(),
            plan.selection.rules.len(),
            plan.level.word(),
        )
    }

    fn scenario(&mut self, verdict: &ScenarioVerdict) -> io::Result<()> {
        if verdict.verdict == Verdict::Pass {
            return Ok(());
        }
        let word = verdict.verdict.word();
        let reason = verdict.verdict.reason().unwrap_or_default();
        writeln!(self.to, "  {BAD}{word}{BAD:#}  scenario {}: {reason}", verdict.name)
    }

    fn end(&mut self, plan: &Plan<'_>, conformance: &Conformance) -> io::Result<()> {
        self.judged(conformance)?;
        self.races(conformance)?;
        self.not_judged(conformance)?;
        self.known(conformance)?;
        self.findings(plan, conformance)?;
        self.controls(conformance)?;
        self.server(conformance)?;
        let judged = conformance.rules.iter().filter(|verdict| is_judged(verdict)).count();
        let of = conformance.rules.iter().filter(|verdict| !matches!(verdict.rule.check, Checker::Nothing));
        let astray = conformance.scenarios.iter().filter(|s| s.verdict != Verdict::Pass).count();
        let exit = conformance.exit();
        let style = if exit.code() == 0 { GOOD } else { BAD };
        writeln!(
            self.to,
            "\n{} {}: {judged} of {} rules exercised: {} hold, {} broken, {} changed habits; \
             {astray} of {} scenarios went astray\n{style}exit {}: {}{style:#}",
            plan.server.which().name(),
            plan.server.version(),
            of.count(),
            conformance.count("pass"),
            conformance.count("fail"),
            conformance.count("warn"),
            conformance.scenarios.len(),
            exit.code(),
            conformance.meaning(),
        )
    }
}
