//! From what the tries of each scenario say to what the whole run says.

use super::{Conformance, Fault, Plan, RuleVerdict, ScenarioVerdict, Standing, Tries};
use crate::baseline::{Baseline, How, What};
use crate::level::Level;
use crate::rules::{Checker, Kind, Party, Rule};
use crate::scenario::Scenario;
use crate::verdict::Verdict;
use crate::version::Version;

/// A run in progress.
pub(super) struct Summary<'a> {
    baseline: &'a Baseline,
    level: Level,
    version: Version,
    so_far: Conformance,
    /// Scenarios in which rules could be judged.
    passed: Vec<String>,
}

impl<'a> Summary<'a> {
    pub(super) fn new(plan: &Plan<'a>) -> Summary<'a> {
        let rules = plan.selection.rules.iter().map(|rule| fresh(rule)).collect();
        let (scenarios, faults, known, stale) = Default::default();
        let so_far = Conformance { rules, scenarios, faults, known, stale, judged: false };
        let version = plan.server.version;
        Summary { baseline: plan.baseline, level: plan.level, version, so_far, passed: Vec::new() }
    }

    /// What has become of a scenario.
    pub(super) fn add(&mut self, scenario: &Scenario, tries: &Tries) -> ScenarioVerdict {
        if tries.passed > 0 {
            self.passed.push(scenario.name.clone());
        }
        for one in &tries.rules {
            self.so_far.judged |= one.exercised > 0;
            let fault = (one.tries > 0 && !scenario.breaks.contains(&one.rule.id)).then(|| Fault {
                what: What::Rule(one.rule),
                scenario: scenario.name.clone(),
                times: one.tries,
                tries: tries.passed,
                first: one.first.clone(),
                standing: self.standing(&What::Rule(one.rule), scenario),
            });
            let by_chance = |fault: &Fault| matches!(fault.standing, Standing::Known { race: true, .. });
            if let Some(tally) = self.so_far.rules.iter_mut().find(|tally| tally.rule.id == one.rule.id)
                && !scenario.is_race()
            {
                tally.exercised += one.exercised;
                tally.scenarios += usize::from(one.exercised > 0);
                if let Some(fault) = fault.as_ref().filter(|fault| !by_chance(fault)) {
                    tally.broken += one.broken;
                    tally.broken_in.push(scenario.name.clone());
                    tally.known &= matches!(fault.standing, Standing::Known { .. });
                }
            }
            self.so_far.faults.extend(fault);
        }
        for (verdict, times) in &tries.astray {
            if matches!(verdict, Verdict::Crash(_) | Verdict::Hang(_)) {
                let what = What::Verdict(verdict.clone());
                let standing = self.standing(&what, scenario);
                let (scenario, times) = (scenario.name.clone(), *times);
                let fault = Fault { what, scenario, times, tries: tries.count, first: None, standing };
                self.so_far.faults.push(fault);
            }
        }
        let verdict = verdict_of_scenario(scenario, tries);
        self.so_far.scenarios.push(verdict.clone());
        verdict
    }

    fn standing(&self, what: &What, scenario: &Scenario) -> Standing {
        if let What::Rule(rule) = what {
            if rule.kind == Kind::Observed {
                return Standing::Habit;
            }
            if rule.party != Party::Server {
                return Standing::Ours;
            }
        }
        match self.baseline.find(what, &scenario.name) {
            Some(entry) => Standing::Known { why: entry.why.clone(), race: entry.how != How::Deterministic },
            None => Standing::New,
        }
    }

    /// No more scenarios.
    pub(super) fn finish(mut self) -> Conformance {
        for tally in &mut self.so_far.rules {
            tally.verdict = verdict_of_rule(tally, self.version, self.level);
        }
        for entry in &self.baseline.entries {
            if !self.concerns(&entry.what, &entry.scenario) {
                continue;
            }
            let happened = self
                .so_far
                .faults
                .iter()
                .any(|fault| fault.what == entry.what && fault.scenario == entry.scenario);
            if happened || entry.how != How::Deterministic {
                self.so_far.known.push(entry.clone());
            } else if matches!(entry.what, What::Verdict(_)) || self.passed.contains(&entry.scenario) {
                self.so_far.stale.push(entry.clone());
            }
        }
        self.so_far
    }

    /// It could have happened in this run.
    fn concerns(&self, what: &What, scenario: &str) -> bool {
        let judged = match what {
            What::Rule(rule) => self.so_far.rules.iter().any(|one| one.rule.id == rule.id),
            What::Verdict(_) => true,
        };
        judged && self.so_far.scenarios.iter().any(|one| one.name == scenario)
    }
}

fn fresh(rule: &'static Rule) -> RuleVerdict {
    RuleVerdict {
        rule,
        verdict: Verdict::Pass,
        exercised: 0,
        scenarios: 0,
        broken: 0,
        broken_in: Vec::new(),
        known: true,
    }
}

fn verdict_of_scenario(scenario: &Scenario, tries: &Tries) -> ScenarioVerdict {
    let gravest = tries.astray.iter().map(|(verdict, _)| verdict).min_by_key(|verdict| match verdict {
        Verdict::Crash(_) => 0,
        Verdict::Hang(_) => 1,
        _ => 2,
    });
    let lost = scenario.is_race() && tries.passed > 0;
    ScenarioVerdict {
        name: scenario.name.clone(),
        verdict: gravest.filter(|_| !lost).cloned().unwrap_or(Verdict::Pass),
        race: scenario.is_race(),
        tries: tries.count,
        astray: tries.astray.clone(),
        events: tries.events,
    }
}

fn verdict_of_rule(tally: &RuleVerdict, version: Version, level: Level) -> Verdict {
    let rule = tally.rule;
    match (rule.check, tally.broken) {
        (Checker::Nothing, _) => Verdict::NotApplicable("unspecified".to_owned()),
        _ if !level.judges(rule) => Verdict::Skipped(format!("{}: --level should judges it", rule.kind)),
        (Checker::Later(reason), _) => Verdict::NotApplicable(reason.to_owned()),
        _ if rule.since > version => Verdict::NotApplicable(format!("since {}", rule.since)),
        (_, 0) if tally.exercised == 0 => {
            Verdict::NotApplicable(format!("never exercised: needs {}", rule.antecedent))
        }
        (_, 0) => Verdict::Pass,
        _ if rule.kind == Kind::Observed => Verdict::Warn,
        _ if rule.party != Party::Server => {
            Verdict::HarnessError(format!("the {} that broke it is the harness's own", rule.party))
        }
        _ => Verdict::Fail,
    }
}
