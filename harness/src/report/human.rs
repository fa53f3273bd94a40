//! The report for people: what was judged, what broke, what was left out and why.

use std::io::{self, Write};

use anstyle::{AnsiColor, Style};

use super::Reporter;
use crate::conform::{Conformance, Race, RuleVerdict, ScenarioVerdict};
use crate::rules::{Checker, Finding};
use crate::server::nbdkit::Nbdkit;
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

    fn rule(&mut self, verdict: &RuleVerdict) -> io::Result<()> {
        let (style, word) = match verdict.verdict {
            Verdict::Pass => (GOOD, "pass"),
            Verdict::Fail => (BAD, "FAIL"),
            _ => (ODD, "warn"),
        };
        write!(self.to, "  {style}{word}{style:#}  {:<36} {:>6} times", verdict.rule.id, verdict.exercised)?;
        if verdict.broken == 0 {
            return writeln!(self.to);
        }
        writeln!(self.to, ", broken {} times in {}", verdict.broken, verdict.broken_in.join(", "))?;
        writeln!(self.to, "        {} ({})", verdict.rule.statement, verdict.rule.clause)?;
        match verdict.findings.first() {
            Some((scenario, finding)) => {
                self.finding(finding)?;
                writeln!(self.to, "        reproduce: layers trace --scenario {scenario}")
            }
            None => Ok(()),
        }
    }

    fn finding(&mut self, finding: &Finding) -> io::Result<()> {
        writeln!(self.to, "        expected: {}", finding.expected)?;
        writeln!(self.to, "        actual:   {}", finding.actual)?;
        for call in &finding.calls {
            writeln!(self.to, "        {DIM}{:>6} |{DIM:#} {call}", call.position)?;
        }
        Ok(())
    }

    fn race(&mut self, race: &Race) -> io::Result<()> {
        let Race { scenario, tries, broken, astray } = race;
        if broken.is_empty() && astray.is_empty() {
            return writeln!(self.to, "  {scenario:<32} nothing broken in {tries} tries");
        }
        for (rule, times, _) in broken {
            writeln!(self.to, "  {scenario:<32} {} broken in {times} of {tries} tries", rule.id)?;
        }
        for (verdict, times) in astray {
            let (word, reason) = (verdict.word(), verdict.reason().unwrap_or_default());
            writeln!(self.to, "  {scenario:<32} {word} in {times} of {tries} tries: {reason}")?;
        }
        Ok(())
    }
}

impl<W: Write> Reporter for Human<W> {
    fn begin(&mut self, server: &Nbdkit, rules: usize, scenarios: usize) -> io::Result<()> {
        writeln!(
            self.to,
            "nbdkit {} ({}): {scenarios} scenarios, {rules} rules\n",
            server.version,
            server.path.display()
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

    fn end(&mut self, server: &Nbdkit, conformance: &Conformance) -> io::Result<()> {
        let (judged, rest): (Vec<_>, Vec<_>) =
            conformance.rules.iter().partition(|rule| rule.verdict.reason().is_none());
        writeln!(self.to, "judged:")?;
        for rule in &judged {
            self.rule(rule)?;
        }
        if !conformance.races.is_empty() {
            writeln!(self.to, "\nraces, by how often:")?;
        }
        for race in &conformance.races {
            self.race(race)?;
        }
        let (unspecified, rest): (Vec<&RuleVerdict>, Vec<&RuleVerdict>) =
            rest.into_iter().partition(|rule| matches!(rule.rule.check, Checker::Nothing));
        if !rest.is_empty() {
            writeln!(self.to, "\nnot judged:")?;
        }
        for rule in &rest {
            let reason = rule.verdict.reason().unwrap_or_default();
            writeln!(self.to, "  {DIM}{:<14}{DIM:#}  {:<36} {reason}", rule.verdict.word(), rule.rule.id)?;
        }
        if !unspecified.is_empty() {
            let ids: Vec<&str> = unspecified.iter().map(|rule| rule.rule.id).collect();
            writeln!(self.to, "\nunspecified, never judged: {}", ids.join(", "))?;
        }
        let astray = conformance.scenarios.iter().filter(|s| s.verdict != Verdict::Pass).count();
        let exit = conformance.exit();
        let style = if exit.code() == 0 { GOOD } else { BAD };
        writeln!(
            self.to,
            "\nnbdkit {}: {} rules exercised: {} hold, {} broken, {} changed habits; {} not judged; \
             {} of {} scenarios went astray\n{style}exit {}: {}{style:#}",
            server.version,
            judged.len(),
            conformance.count("pass"),
            conformance.count("fail"),
            conformance.count("warn"),
            rest.len(),
            astray,
            conformance.scenarios.len(),
            exit.code(),
            exit.meaning(),
        )
    }
}
