//! What `layers conform` tells people.

use std::io::{self, Write};

use super::super::wrapped::{many, names, one_line, wrapped};
use super::finding;
use super::style::{BAD, DIM, GOOD, MOST_AT_LENGTH, MOST_OTHERS, ODD, style_of, word_of};
use crate::baseline::{Entry, How};
use crate::cases::reproduce;
use crate::conform::{ConformPlan, Conformance, NotPlayed, RuleVerdict, ScenarioVerdict, Unclear};
use crate::history::Wrapped;
use crate::outcome::{Fault, Group, Standing, Verdict, groups, shape};
use crate::rules::Checker;

/// Where findings show themselves.
const PLACES: &str = "scenario";
/// Findings that come with another one and get a line of their own.
const MOST_WITH: usize = 6;
/// Rules that were not judged and get a line of their own.
const MOST_NOT_JUDGED: usize = 16;

/// Tells people of a run.
pub(super) struct People<'w, W> {
    pub(super) to: &'w mut W,
}

impl<W: Write> People<'_, W> {
    /// How often each rule was put to the test; at length or in as few lines as hold it.
    fn judged(&mut self, plan: &ConformPlan<'_>, conformance: &Conformance) -> io::Result<()> {
        writeln!(self.to, "\njudged (how often each rule was put to the test):")?;
        let word = |verdict: &RuleVerdict| match verdict.verdict {
            Verdict::Pass => (GOOD, "pass"),
            Verdict::Warn => (ODD, "warn"),
            Verdict::Fail if verdict.known => (ODD, "known"),
            Verdict::Fail => (BAD, "FAIL"),
            _ => (BAD, "ERROR"),
        };
        let judged = || conformance.rules.iter().filter(|verdict| is_judged(verdict));
        if plan.all {
            for verdict in judged() {
                let (style, word) = word(verdict);
                let RuleVerdict { rule, exercised, scenarios, .. } = verdict;
                write!(self.to, "  {style}{word:<5}{style:#}  {:<36} {exercised:>6} times", rule.id)?;
                write!(self.to, " in {scenarios} scenarios")?;
                if !verdict.broken_in.is_empty() {
                    write!(self.to, ", broken in {}", verdict.broken_in.join(", "))?;
                }
                writeln!(self.to)?;
            }
            return Ok(());
        }
        for (style, wanted) in [(BAD, "FAIL"), (BAD, "ERROR"), (ODD, "known"), (ODD, "warn"), (GOOD, "pass")]
        {
            let said = judged().filter(|verdict| word(verdict).1 == wanted).map(|verdict| {
                match verdict.broken_in.len() {
                    0 => format!("{} {}", verdict.rule.id, verdict.exercised),
                    broken => format!("{} {} (broken in {broken})", verdict.rule.id, verdict.exercised),
                }
            });
            let said: Vec<String> = said.collect();
            if !said.is_empty() {
                let lines = wrapped(&said.join(", "), 9);
                writeln!(self.to, "  {style}{wanted:<5}{style:#}  {}", lines.trim_start())?;
            }
        }
        Ok(())
    }

    /// Everything that is not in the baseline, by its causes, with the calls and the command.
    fn findings(&mut self, plan: &ConformPlan<'_>, conformance: &Conformance) -> io::Result<()> {
        let is_new = |fault: &&Fault| !matches!(fault.standing, Standing::Known { .. });
        let groups = groups(conformance.faults.iter().filter(is_new));
        if !groups.is_empty() {
            writeln!(self.to, "\nfindings:")?;
        }
        for (number, group) in groups.iter().enumerate() {
            if number < MOST_AT_LENGTH || plan.all {
                self.finding(plan, group)?;
            } else {
                finding::in_short(self.to, group, PLACES, 2)?;
            }
        }
        Ok(())
    }

    fn finding(&mut self, plan: &ConformPlan<'_>, group: &Group<'_>) -> io::Result<()> {
        let Some(fault) = group.example() else { return Ok(()) };
        let (style, word) = word_of(fault);
        let Fault { what, scenario, times, tries, .. } = fault;
        let scenarios = group.scenarios();
        let often = match scenarios.len() {
            1 => String::new(),
            many => format!("{many} scenarios, first "),
        };
        writeln!(
            self.to,
            "  {style}{word:<5}{style:#}  {what} in {often}{scenario}, in {times} of {tries} tries"
        )?;
        finding::of(self.to, fault)?;
        let others = group.others();
        for other in others.iter().take(MOST_OTHERS) {
            let Some(first) = &other.first else { continue };
            let seen =
                format!("also in {}: expected {}; actual {}", other.scenario, first.expected, first.actual);
            writeln!(self.to, "        {}", one_line(&seen))?;
        }
        if let Some(wrote) = &fault.wrote {
            writeln!(self.to, "        {wrote}")?;
        }
        if fault.standing == Standing::Ours {
            writeln!(
                self.to,
                "        that is the harness's own: the scenario, the layer or the rule is wrong"
            )?;
        }
        writeln!(self.to, "        reproduce: {}", reproduce(plan, fault))?;
        if scenarios.len() > 1 {
            writeln!(self.to, "{}", wrapped(&format!("scenarios: {}", names(&scenarios, plan.all)), 8))?;
        }
        if !group.with.is_empty() {
            writeln!(self.to, "        seen only with this, and never before it:")?;
        }
        for (number, with) in group.with.iter().enumerate() {
            if number >= MOST_WITH && !plan.all {
                let more: Vec<String> =
                    group.with.iter().skip(number).filter_map(|one| one.heading(PLACES)).collect();
                return writeln!(self.to, "{}", wrapped(&format!("and {}", more.join(", ")), 10));
            }
            finding::in_short(self.to, with, PLACES, 10)?;
        }
        Ok(())
    }

    /// What cannot be told, by what is in the way.
    fn unclear(&mut self, plan: &ConformPlan<'_>, conformance: &Conformance) -> io::Result<()> {
        let mut causes: Vec<(Unclear, String, Vec<&ScenarioVerdict>)> = Vec::new();
        for scenario in &conformance.scenarios {
            let Some(cause) = scenario.unclear else { continue };
            let said = shape(scenario.verdict.reason().unwrap_or_default());
            match causes.iter_mut().find(|(one, other, _)| *one == cause && *other == said) {
                Some((.., scenarios)) => scenarios.push(scenario),
                None => causes.push((cause, said, vec![scenario])),
            }
        }
        if !causes.is_empty() {
            writeln!(self.to, "\ninconclusive:")?;
        }
        for (number, (cause, _, scenarios)) in causes.iter().enumerate() {
            if number >= MOST_AT_LENGTH && !plan.all {
                return writeln!(self.to, "  and {} more (--all)", causes.len() - number);
            }
            let Some(first) = scenarios.first() else { continue };
            let reason = first.verdict.reason().unwrap_or_default();
            let reason = reason.strip_prefix("not played: ").unwrap_or(reason);
            writeln!(self.to, "{}", wrapped(&format!("{}: {reason}", cause.sentence(scenarios.len())), 2))?;
            let scenarios: Vec<&str> = scenarios.iter().map(|scenario| scenario.name.as_str()).collect();
            writeln!(self.to, "{}", wrapped(&format!("scenarios: {}", names(&scenarios, plan.all)), 6))?;
        }
        Ok(())
    }

    /// What the baseline has been right about: each explanation once, unless everything is wanted.
    fn known(&mut self, plan: &ConformPlan<'_>, conformance: &Conformance) -> io::Result<()> {
        if conformance.known.is_empty() {
            return Ok(());
        }
        let how = if plan.all { "" } else { " (--all shows each)" };
        writeln!(self.to, "\nknown, as the baseline says{how}:")?;
        let mut explained: Vec<(&str, Vec<&Entry>)> = Vec::new();
        for entry in &conformance.known {
            match explained.iter_mut().find(|(why, _)| *why == entry.why) {
                Some((_, entries)) => entries.push(entry),
                None => explained.push((&entry.why, vec![entry])),
            }
        }
        for (why, entries) in explained {
            writeln!(self.to, "{}", wrapped(why, 2))?;
            if plan.all {
                for entry in entries {
                    let (times, tries) = happened(conformance, entry);
                    let scenario = entry.scenario.as_deref().unwrap_or_default();
                    write!(self.to, "    {:<36} {scenario}", entry.id)?;
                    match entry.how {
                        How::Deterministic if times == tries => writeln!(self.to)?,
                        _ => writeln!(self.to, ": {times} of {tries} tries")?,
                    }
                }
                continue;
            }
            let mut whats: Vec<&str> = entries.iter().map(|entry| entry.id.as_str()).collect();
            whats.dedup();
            whats.sort_unstable();
            whats.dedup();
            let mut places: Vec<&str> =
                entries.iter().filter_map(|entry| entry.scenario.as_deref()).collect();
            places.sort_unstable();
            places.dedup();
            let line = format!("{} in {}", whats.join(", "), names(&places, false));
            writeln!(self.to, "{}", wrapped(&line, 4))?;
        }
        Ok(())
    }

    fn stale(&mut self, conformance: &Conformance) -> io::Result<()> {
        if !conformance.stale.is_empty() {
            writeln!(self.to, "\n{BAD}stale{BAD:#}: the baseline lists these, and they did not happen:")?;
        }
        for entry in &conformance.stale {
            writeln!(self.to, "{}", wrapped(&format!("{entry}: {}", entry.why), 4))?;
        }
        Ok(())
    }

    /// Entries of the baseline whose rate is not what it says any more.
    fn rates(&mut self, conformance: &Conformance) -> io::Result<()> {
        for entry in &conformance.known {
            let (times, tries) = happened(conformance, entry);
            match entry.how {
                How::Deterministic if times < tries => {
                    writeln!(self.to, "{entry}: only {times} of {tries} tries, a race?")?;
                }
                How::Race { seen, tries: of } if entry.how.is_hardly_there(times, tries) => writeln!(
                    self.to,
                    "{entry}: {times} of {tries} tries, and {seen} of {of} when it was listed: \
                     is it mended?"
                )?,
                _ => {}
            }
        }
        Ok(())
    }

    /// Races in which nothing was found, and tries of races that cannot be judged.
    fn races(&mut self, plan: &ConformPlan<'_>, conformance: &Conformance) -> io::Result<()> {
        let lost = |verdict: &Verdict| !matches!(verdict, Verdict::Crash(_) | Verdict::Hang(_));
        let played = || conformance.scenarios.iter().filter(|scenario| scenario.race && scenario.tries > 0);
        let found = |name: &str| conformance.faults.iter().any(|fault| fault.scenario == name);
        let quiet = played().filter(|one| !found(&one.name)).map(|one| format!("{} {}", one.name, one.tries));
        let quiet: Vec<String> = quiet.collect();
        let mut lines = Vec::new();
        if !quiet.is_empty() {
            lines.push(wrapped(&format!("nothing found in so many tries: {}", quiet.join(", ")), 2));
        }
        for scenario in played() {
            let ScenarioVerdict { name, tries, .. } = scenario;
            for (verdict, times) in scenario.astray.iter().filter(|(verdict, _)| lost(verdict)) {
                let (word, why) = (verdict.word(), verdict.reason().unwrap_or_default());
                lines.push(format!(
                    "  {}",
                    one_line(&format!("{name}: {word} in {times} of {tries} tries: {why}"))
                ));
            }
        }
        if lines.is_empty() {
            return Ok(());
        }
        let more = if plan.all { 0 } else { lines.len().saturating_sub(MOST_AT_LENGTH) };
        lines.truncate(lines.len() - more);
        writeln!(self.to, "\nraces:\n{}", lines.join("\n"))?;
        if more > 0 { writeln!(self.to, "  and {more} more (--all)") } else { Ok(()) }
    }

    /// Commands of which a rule says nothing: how many, and with `--all` which and why.
    fn left_out(&mut self, plan: &ConformPlan<'_>, conformance: &Conformance) -> io::Result<()> {
        for (first, commands) in conformance.left_out(plan.all) {
            let what = format!("{} in {}, {}", first.rule, first.scenario, many(commands.len(), "command"));
            let line = match plan.all {
                true => format!("{what}: {}: {}", first.why, commands.join(", ")),
                false => format!("{what} (--all says which, and why)"),
            };
            writeln!(self.to, "  {DIM}{:<14}{DIM:#}  {}", "left out", wrapped(&line, 18).trim_start())?;
        }
        Ok(())
    }

    fn not_judged(&mut self, plan: &ConformPlan<'_>, conformance: &Conformance) -> io::Result<()> {
        let (unspecified, rest): (Vec<&RuleVerdict>, Vec<&RuleVerdict>) = conformance
            .rules
            .iter()
            .filter(|verdict| !is_judged(verdict))
            .partition(|verdict| matches!(verdict.rule.check, Checker::Nothing));
        if !rest.is_empty() || !conformance.not_played.is_empty() || !conformance.unjudged.is_empty() {
            writeln!(self.to, "\nnot judged:")?;
        }
        for NotPlayed { scenario, why } in &conformance.not_played {
            let line = one_line(&format!("{scenario:<36} {why}"));
            writeln!(self.to, "  {DIM}{:<14}{DIM:#}  {line}", "scenario")?;
        }
        let shown = if plan.all { rest.len() } else { rest.len().min(MOST_NOT_JUDGED) };
        for RuleVerdict { rule, verdict, .. } in rest.iter().take(shown) {
            let reason = verdict.reason().unwrap_or_default();
            let line = one_line(&format!("{:<36} {reason}", rule.id));
            writeln!(self.to, "  {DIM}{:<14}{DIM:#}  {line}", verdict.word())?;
        }
        let more: Vec<&str> = rest.iter().skip(shown).map(|verdict| verdict.rule.id).collect();
        if !more.is_empty() {
            writeln!(
                self.to,
                "{}",
                wrapped(&format!("and {} more (--all): {}", more.len(), more.join(", ")), 2)
            )?;
        }
        self.left_out(plan, conformance)?;
        if !unspecified.is_empty() {
            let ids: Vec<&str> = unspecified.iter().map(|verdict| verdict.rule.id).collect();
            writeln!(self.to, "\n{}", wrapped(&format!("unspecified, never judged: {}", ids.join(", ")), 0))?;
        }
        Ok(())
    }
}

/// In how many of how many tries what this entry knows has happened.
fn happened(conformance: &Conformance, entry: &Entry) -> (u32, u32) {
    let faults = conformance.faults.iter().filter(|fault| entry.covers(&fault.what, &fault.scenario));
    let (times, tries) = faults.fold((0, None), |(times, _), fault| (times + fault.times, Some(fault.tries)));
    (times, tries.unwrap_or_else(|| tries_of(conformance, entry)))
}

/// Something was said of it: it is in the first list.
fn is_judged(verdict: &RuleVerdict) -> bool {
    !matches!(verdict.verdict, Verdict::NotApplicable(_) | Verdict::Skipped(_))
}

fn tries_of(conformance: &Conformance, entry: &Entry) -> u32 {
    conformance.scenarios.iter().find(|one| entry.is_in(&one.name)).map_or(0, |one| one.tries)
}

impl<W: Write> People<'_, W> {
    /// What of the server was looked at.
    fn server(&mut self, conformance: &Conformance) -> io::Result<()> {
        let Wrapped { keywords, applets } = conformance.wrapped;
        if keywords > 0 {
            writeln!(self.to, "\nwrapped: {keywords} keywords and {applets} applets of the server")?;
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

    /// Everything, when the run is over.
    pub(super) fn all(&mut self, plan: &ConformPlan<'_>, conformance: &Conformance) -> io::Result<()> {
        self.findings(plan, conformance)?;
        self.unclear(plan, conformance)?;
        self.judged(plan, conformance)?;
        self.races(plan, conformance)?;
        self.not_judged(plan, conformance)?;
        self.stale(conformance)?;
        self.known(plan, conformance)?;
        self.controls(conformance)?;
        self.server(conformance)?;
        let judged = conformance.rules.iter().filter(|verdict| is_judged(verdict)).count();
        let of = conformance.rules.iter().filter(|verdict| !matches!(verdict.rule.check, Checker::Nothing));
        let played = conformance.scenarios.iter().filter(|one| one.unclear != Some(Unclear::NotPlayed));
        let astray = played.clone().filter(|one| one.verdict != Verdict::Pass).count();
        let played = played.count();
        let left = match conformance.scenarios.len() - played {
            0 => String::new(),
            left => format!(", {left} not played"),
        };
        let exit = conformance.exit();
        writeln!(self.to)?;
        self.rates(conformance)?;
        let style = style_of(exit);
        writeln!(
            self.to,
            "{} {}: {judged} of {} rules exercised: {} hold, {} broken, {} changed habits; \
             {astray} of {} went astray{left}\n{style}exit {}: {}{style:#}",
            plan.server.which().name(),
            plan.server.version(),
            of.count(),
            conformance.count("pass"),
            conformance.count("fail"),
            conformance.count("warn"),
            many(played, "scenario"),
            exit.code(),
            conformance.meaning(),
        )
    }
}

/// What is about to be judged.
pub(super) fn begin(to: &mut impl Write, plan: &ConformPlan<'_>) -> io::Result<()> {
    writeln!(
        to,
        "{} {} ({}): {}, {}, level {}",
        plan.server.which().name(),
        plan.server.version(),
        plan.server.path().display(),
        many(plan.selection.scenarios.len(), "scenario"),
        many(plan.selection.rules.len(), "rule"),
        plan.level.word(),
    )
}
