//! From what the tries of each scenario say to what the whole run says.

use super::{
    Astray, Conformance, Halt, RuleTries, RuleVerdict, ScenarioVerdict, Tries, Unclear, UnjudgedCommand,
};
use crate::baseline::{Baseline, Entry, How};
use crate::campaign::event_budget::EventBudget;
use crate::campaign::level::Level;
use crate::outcome::{Fault, Standing, Verdict, What};
use crate::rules::haproxy::rule_of;
use crate::rules::{Checker, Kind, Rule};
use crate::scenario::Scenario;
use crate::version::Version;

/// A run in progress.
pub(super) struct Summary<'a> {
    baseline: &'a Baseline,
    level: Level,
    version: Version,
    so_far: Conformance,
    /// Scenarios in which rules could be judged.
    passed: Vec<String>,
    keeper: EventBudget,
}

impl<'a> Summary<'a> {
    /// Of these rules, on a server of this version.
    pub(super) fn new(
        rules: &[&'static Rule],
        baseline: &'a Baseline,
        level: Level,
        version: Version,
        keeper: EventBudget,
    ) -> Summary<'a> {
        let rules = rules.iter().map(|rule| fresh(rule)).collect();
        let (scenarios, faults, known, stale, wrapped, not_played, unjudged) = Default::default();
        let (judged, halt) = (false, None);
        let so_far = Conformance {
            rules,
            scenarios,
            faults,
            known,
            stale,
            judged,
            wrapped,
            not_played,
            unjudged,
            halt,
        };
        Summary { baseline, level, version, so_far, passed: Vec::new(), keeper }
    }

    /// What has become of a scenario, and what was found in it; a scenario that was never played was halted by this.
    pub(super) fn add(
        &mut self,
        scenario: &Scenario,
        tries: &Tries,
        halt: Option<Halt>,
    ) -> (ScenarioVerdict, &[Fault]) {
        self.so_far.wrapped = self.so_far.wrapped.max(tries.wrapped);
        self.take_unjudged(scenario, tries);
        if tries.passed > 0 {
            self.passed.push(scenario.name.clone());
        }
        let before = self.so_far.faults.len();
        for one in tries.astray.iter().filter(|one| is_fault(&one.verdict)) {
            let fault = self.fault_of_run(one, scenario, tries);
            self.so_far.faults.push(fault);
            self.so_far.judged = true;
        }
        let broken = |one: &&RuleTries| one.tries > 0 && !scenario.breaks.contains(&one.rule.id);
        for one in tries.rules.iter().filter(broken) {
            let what = What::Rule(one.rule);
            let fault = Fault {
                at: one
                    .first
                    .as_ref()
                    .and_then(|first| first.calls.last())
                    .map_or(u32::MAX, |call| call.position),
                what,
                scenario: scenario.name.clone(),
                times: one.tries,
                tries: tries.passed + u32::try_from(one.cut.len()).unwrap_or(u32::MAX),
                first: one.first.clone(),
                run: self.keeper.keep(one.run.as_ref()),
                wrote: one.wrote.clone(),
                standing: self.standing_of(one, scenario),
            };
            self.so_far.faults.push(fault);
        }
        let found = self.so_far.faults.get_mut(before..).unwrap_or_default();
        // What our layers do in a run in which they did not get what they need is the server's fault, too.
        if found.iter().any(|fault| fault.standing == Standing::New) {
            found
                .iter_mut()
                .filter(|fault| fault.standing == Standing::Ours)
                .for_each(|fault| fault.standing = Standing::Follows);
        }
        self.count(scenario, tries, before);
        let mut verdict = verdict_of_scenario(scenario, tries);
        if tries.count == 0 {
            let why = halt.map_or_else(|| "no try was made".to_owned(), Halt::reason);
            verdict.verdict = Verdict::Inconclusive(format!("not played: {why}"));
            verdict.unclear = Some(Unclear::NotPlayed);
            self.so_far.halt = self.so_far.halt.or(halt);
        }
        self.so_far.scenarios.push(verdict.clone());
        (verdict, self.so_far.faults.get(before..).unwrap_or_default())
    }

    /// Takes in of which commands the scenario says nothing, as far as their rule is selected.
    fn take_unjudged(&mut self, scenario: &Scenario, tries: &Tries) {
        for one in &tries.unjudged {
            let Some(rule) = rule_of(one.trial) else { continue };
            if self.so_far.rules.iter().any(|verdict| verdict.rule.id == rule) {
                let (command, why) = (one.command.clone(), one.why.clone());
                self.so_far.unjudged.push(UnjudgedCommand {
                    rule,
                    scenario: scenario.name.clone(),
                    command,
                    why,
                });
            }
        }
    }

    fn fault_of_run(&mut self, astray: &Astray, scenario: &Scenario, tries: &Tries) -> Fault {
        let what = What::Verdict(astray.verdict.clone());
        Fault {
            standing: self.standing(&what, scenario),
            what,
            scenario: scenario.name.clone(),
            times: astray.times,
            tries: tries.count,
            first: None,
            at: astray.at,
            run: self.keeper.keep(astray.run.as_ref()),
            wrote: astray.wrote.clone(),
        }
    }

    /// Adds up what the tries say of each rule; what was found in them comes from there on.
    fn count(&mut self, scenario: &Scenario, tries: &Tries, from: usize) {
        let by_chance = |fault: &Fault| matches!(fault.standing, Standing::Known { race: true, .. });
        for one in &tries.rules {
            self.so_far.judged |= one.exercised > 0;
            let of_rule = |fault: &&Fault| fault.what == What::Rule(one.rule);
            let fault = self.so_far.faults.get(from..).unwrap_or_default().iter().find(of_rule);
            let follows = fault.is_some_and(|fault| fault.standing == Standing::Follows);
            let tally = self.so_far.rules.iter_mut().find(|tally| tally.rule.id == one.rule.id);
            let Some(tally) = tally.filter(|_| !scenario.is_race() && !follows) else { continue };
            tally.exercised += one.exercised;
            tally.in_vain += one.in_vain;
            tally.scenarios += usize::from(one.exercised > 0);
            if let Some(fault) = fault.filter(|fault| !by_chance(fault)) {
                tally.broken += one.broken;
                tally.broken_in.push(scenario.name.clone());
                tally.known &= matches!(fault.standing, Standing::Known { .. });
            }
        }
    }

    /// Of a broken rule: where it is broken only in tries that ended in a crash or hang which the baseline calls a race,
    /// that is how the same race shows itself before it kills the server.
    fn standing_of(&self, broken: &RuleTries, scenario: &Scenario) -> Standing {
        let standing = self.standing(&What::Rule(broken.rule), scenario);
        if standing != Standing::New || broken.cut.len() < broken.tries as usize {
            return standing;
        }
        let known = |cut: &Verdict| self.baseline.find(&What::Verdict(cut.clone()), &scenario.name);
        let mut races =
            broken.cut.iter().map(|cut| known(cut).filter(|entry| entry.how != How::Deterministic));
        match races.next().flatten() {
            Some(entry) if races.all(|race| race.is_some()) => {
                Standing::Known { why: entry.why.clone(), race: true }
            }
            _ => standing,
        }
    }

    fn standing(&self, what: &What, scenario: &Scenario) -> Standing {
        if let What::Rule(rule) = what {
            if rule.kind == Kind::Observed {
                return Standing::Habit;
            }
            if !rule.party.comes_with_server() {
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
            if !self.concerns(entry) {
                continue;
            }
            let happened = self.so_far.faults.iter().any(|fault| entry.covers(&fault.what, &fault.scenario));
            if happened || entry.how != How::Deterministic {
                self.so_far.known.push(entry.clone());
            } else if entry.verdict().is_some() || self.passed.iter().any(|one| entry.is_in(one)) {
                self.so_far.stale.push(entry.clone());
            }
        }
        self.so_far
    }

    /// It could have happened in this run.
    fn concerns(&self, entry: &Entry) -> bool {
        let judged = entry.verdict().is_some() || self.so_far.rules.iter().any(|one| one.rule.id == entry.id);
        judged && self.so_far.scenarios.iter().any(|one| entry.is_in(&one.name) && one.tries > 0)
    }
}

fn fresh(rule: &'static Rule) -> RuleVerdict {
    RuleVerdict {
        rule,
        verdict: Verdict::Pass,
        exercised: 0,
        scenarios: 0,
        in_vain: 0,
        broken: 0,
        broken_in: Vec::new(),
        known: true,
    }
}

/// A crash or a hang: the server's fault, of which the baseline may know.
fn is_fault(verdict: &Verdict) -> bool {
    matches!(verdict, Verdict::Crash(_) | Verdict::Hang(_))
}

fn verdict_of_scenario(scenario: &Scenario, tries: &Tries) -> ScenarioVerdict {
    let gravest = tries.astray.iter().min_by_key(|one| match one.verdict {
        Verdict::Crash(_) => 0,
        Verdict::Hang(_) => 1,
        _ => 2,
    });
    let lost = scenario.is_race() && tries.passed > 0;
    let gravest = gravest.filter(|_| !lost);
    ScenarioVerdict {
        name: scenario.name.clone(),
        verdict: gravest.map_or(Verdict::Pass, |one| one.verdict.clone()),
        race: scenario.is_race(),
        unclear: gravest.and_then(|one| one.unclear),
        tries: tries.count,
        astray: tries.astray.iter().map(|one| (one.verdict.clone(), one.times)).collect(),
        events: tries.events,
        controls: tries.controls.clone(),
    }
}

fn verdict_of_rule(tally: &RuleVerdict, version: Version, level: Level) -> Verdict {
    let rule = tally.rule;
    match (rule.check, tally.broken) {
        (Checker::Nothing, _) => Verdict::NotApplicable("unspecified".to_owned()),
        _ if !level.judges(rule) => Verdict::Skipped(format!("{}: --level should judges it", rule.kind)),
        _ if rule.since > version => Verdict::NotApplicable(format!("since {}", rule.since)),
        (_, 0) if tally.exercised == 0 && tally.in_vain > 0 => {
            let runs = "put to the test only in runs that crashed, hung or went astray".to_owned();
            Verdict::NotApplicable(runs)
        }
        (_, 1..) if rule.kind != Kind::Observed && !rule.party.comes_with_server() => {
            Verdict::HarnessError(format!("the {} that broke it is the harness's own", rule.party))
        }
        (_, broken) => Verdict::of_rule(rule, tally.exercised, broken > 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::Exit;
    use crate::rules;
    use crate::run::stack::Stack;

    const OF_SERVER: &str = "close.exactly-once";
    const OF_FILTER: &str = "config.outer-to-inner";

    fn rule(id: &str) -> &'static Rule {
        rules::find(id).unwrap()
    }

    fn scenario(name: &str) -> Scenario {
        Scenario::new(name, "", Stack::reference(0))
    }

    fn race(name: &str) -> Scenario {
        Scenario { tries: 25, ..scenario(name) }
    }

    /// This rule, broken in so many of so many tries.
    fn broken(id: &str, times: u32, count: u32) -> Tries {
        let one = RuleTries {
            rule: rule(id),
            exercised: count.into(),
            in_vain: 0,
            broken: times.into(),
            tries: times,
            cut: Vec::new(),
            first: None,
            run: None,
            wrote: None,
        };
        Tries { count, passed: count, rules: vec![one], ..Tries::default() }
    }

    fn astray(verdict: Verdict, times: u32, count: u32) -> Tries {
        let unclear = matches!(verdict, Verdict::Inconclusive(_)).then_some(Unclear::Lost);
        let astray = vec![Astray { verdict, unclear, times, at: 0, run: None, wrote: None }];
        Tries { passed: count - times, astray, ..broken(OF_SERVER, 0, count) }
    }

    fn crash() -> Verdict {
        Verdict::Crash("the server was killed by signal 6".to_owned())
    }

    fn known(what: What, scenario: &str, how: How) -> Baseline {
        Baseline { entries: vec![Entry::of(&what, scenario, how, "a test")] }
    }

    fn run(baseline: &Baseline, played: &[(Scenario, Tries)]) -> Conformance {
        let rules = [rule(OF_SERVER), rule(OF_FILTER)];
        let mut summary =
            Summary::new(&rules, baseline, Level::Should, Version(1, 32, 5), EventBudget::default());
        for (scenario, tries) in played {
            summary.add(scenario, tries, None);
        }
        summary.finish()
    }

    fn run_without(played: &[(Scenario, Tries)]) -> Conformance {
        run(&Baseline::default(), played)
    }

    #[test]
    fn a_broken_rule_fails_and_a_known_one_does_not() {
        let played = [(scenario("one"), broken(OF_SERVER, 1, 1))];
        assert_eq!(run_without(&played).exit(), Exit::Violation);
        let baseline = known(What::Rule(rule(OF_SERVER)), "one", How::Deterministic);
        let known = run(&baseline, &played);
        assert_eq!(
            (known.exit(), &*known.meaning()),
            (Exit::Conformant, "conformant except 1 known finding")
        );
        assert_eq!((&known.rules[0].verdict, known.rules[0].known), (&Verdict::Fail, true));
        let elsewhere =
            [(scenario("one"), broken(OF_SERVER, 1, 1)), (scenario("two"), broken(OF_SERVER, 1, 1))];
        assert_eq!(run(&baseline, &elsewhere).exit(), Exit::Violation);
    }

    #[test]
    fn what_did_not_happen_is_stale_unless_it_is_a_race_or_could_not_be_judged() {
        let what = What::Rule(rule(OF_SERVER));
        let held = [(scenario("one"), broken(OF_SERVER, 0, 1))];
        let always = known(what.clone(), "one", How::Deterministic);
        assert_eq!(run(&always, &held).exit(), Exit::Stale);
        let lost = astray(Verdict::Inconclusive("lost".to_owned()), 1, 1);
        assert_eq!(run(&always, &[(scenario("one"), lost)]).stale, []);
        assert_eq!(run(&always, &[(scenario("two"), broken(OF_SERVER, 0, 1))]).stale, []);
        let race = run(&known(what, "one", How::Race { seen: 1, tries: 9 }), &held);
        assert_eq!((race.exit(), race.known.len()), (Exit::Conformant, 1));
    }

    #[test]
    fn a_race_is_counted_and_changes_no_verdict_of_a_rule() {
        let played =
            [(race("race/one"), broken(OF_SERVER, 3, 25)), (scenario("two"), broken(OF_SERVER, 0, 1))];
        let new = run_without(&played);
        assert_eq!(
            (new.exit(), &new.rules[0].verdict, new.rules[0].exercised),
            (Exit::Violation, &Verdict::Pass, 1)
        );
        let how = How::Race { seen: 3, tries: 25 };
        assert_eq!(
            run(&known(What::Rule(rule(OF_SERVER)), "race/one", how), &played).exit(),
            Exit::Conformant
        );
        // The same for what the baseline calls a race in a scenario that is none.
        let flips = [(scenario("one"), broken(OF_SERVER, 1, 1))];
        let known = run(&known(What::Rule(rule(OF_SERVER)), "one", how), &flips);
        assert_eq!((known.exit(), &known.rules[0].verdict), (Exit::Conformant, &Verdict::Pass));
    }

    #[test]
    fn a_crash_fails_a_race_and_is_known_by_any_fatal_signal() {
        let played = [(race("race/one"), astray(crash(), 2, 25))];
        let new = run_without(&played);
        assert_eq!((new.exit(), &new.scenarios[0].verdict), (Exit::Violation, &Verdict::Pass));
        let how = How::Race { seen: 2, tries: 25 };
        assert_eq!(run(&known(What::Verdict(crash()), "race/one", how), &played).exit(), Exit::Conformant);
        let other = What::Verdict(Verdict::Crash("the server was killed by signal 11".to_owned()));
        assert_eq!(run(&known(other.clone(), "race/one", how), &played).exit(), Exit::Conformant);
        assert_eq!(run(&known(other, "race/one", How::Deterministic), &played).exit(), Exit::Violation);
    }

    /// This rule, broken in so many tries that all ended in this crash or hang, or otherwise astray.
    fn broken_before(verdict: Verdict, times: u32, count: u32) -> Tries {
        let cut = vec![verdict.clone(); times as usize];
        let rules = vec![RuleTries { cut, ..broken(OF_SERVER, times, count).rules.remove(0) }];
        Tries { rules, ..astray(verdict, times, count) }
    }

    #[test]
    fn a_broken_rule_counts_although_the_run_crashed_or_went_astray() {
        for end in [crash(), Verdict::Hang("it hangs".to_owned()), Verdict::Inconclusive("lost".to_owned())] {
            let run = run_without(&[(scenario("one"), broken_before(end, 1, 1))]);
            assert_eq!((run.exit(), &run.rules[0].verdict), (Exit::Violation, &Verdict::Fail));
            let Some(fault) = run.faults.last() else { panic!("nothing found") };
            assert_eq!((&fault.what, fault.times, fault.tries), (&What::Rule(rule(OF_SERVER)), 1, 1));
        }
    }

    #[test]
    fn what_is_broken_before_the_known_crash_of_a_race_is_known_with_it() {
        let how = How::Race { seen: 2, tries: 25 };
        let baseline = known(What::Verdict(crash()), "race/one", how);
        let played = [(race("race/one"), broken_before(crash(), 2, 25))];
        assert_eq!(run(&baseline, &played).exit(), Exit::Conformant);
        // Not where it is broken without the crash, nor where the crash always comes.
        let mut more = broken_before(crash(), 2, 25);
        more.rules[0].tries = 3;
        assert_eq!(run(&baseline, &[(race("race/one"), more)]).exit(), Exit::Violation);
        let always = known(What::Verdict(crash()), "one", How::Deterministic);
        assert_eq!(run(&always, &[(scenario("one"), broken_before(crash(), 1, 1))]).exit(), Exit::Violation);
    }

    #[test]
    fn a_run_that_cannot_be_told_of_is_inconclusive() {
        let lost = || Verdict::Inconclusive("lost".to_owned());
        assert_eq!(run_without(&[(scenario("one"), astray(lost(), 1, 1))]).exit(), Exit::Inconclusive);
        assert_eq!(run_without(&[(race("race/one"), astray(lost(), 24, 25))]).exit(), Exit::Conformant);
        assert_eq!(run_without(&[(race("race/one"), astray(lost(), 25, 25))]).exit(), Exit::Inconclusive);
        assert_eq!(run_without(&[]).exit(), Exit::NothingJudged);
    }

    #[test]
    fn what_our_own_layers_break_is_no_fault_of_the_server() {
        let ours = run_without(&[(scenario("one"), broken(OF_FILTER, 1, 1))]);
        assert_eq!((ours.exit(), ours.rules[1].verdict.word()), (Exit::Harness, "harness-error"));
        let meant = scenario("one").breaking(&[OF_FILTER]);
        let meant = run_without(&[(meant, broken(OF_FILTER, 1, 1))]);
        assert_eq!((meant.exit(), meant.faults.len()), (Exit::Conformant, 0));
    }

    #[test]
    fn our_own_layers_are_not_at_fault_where_the_server_is() {
        let both = || {
            let mut tries = broken(OF_SERVER, 1, 1);
            tries.rules.extend(broken(OF_FILTER, 1, 1).rules);
            tries
        };
        let run = run_without(&[(scenario("one"), both())]);
        let standings: Vec<&str> = run.faults.iter().map(|fault| fault.standing.word()).collect();
        assert_eq!((run.exit(), standings), (Exit::Violation, vec!["new", "follows"]));
        // In another scenario they have no such excuse, and yet 70 hides no violation.
        let run = run_without(&[
            (scenario("one"), broken(OF_SERVER, 1, 1)),
            (scenario("two"), broken(OF_FILTER, 1, 1)),
        ]);
        assert_eq!((run.exit(), run.rules[1].verdict.word()), (Exit::Violation, "harness-error"));
    }

    #[test]
    fn what_was_not_played_is_counted_and_no_pass() {
        let baseline = known(What::Rule(rule(OF_SERVER)), "two", How::Deterministic);
        let rules = [rule(OF_SERVER)];
        let summary =
            || Summary::new(&rules, &baseline, Level::Should, Version(1, 32, 5), EventBudget::default());
        for (halt, exit) in [
            (Halt::Time(std::time::Duration::from_secs(9)), Exit::Inconclusive),
            (Halt::Signal(libc::SIGINT), Exit::Interrupted),
            (Halt::Signal(libc::SIGTERM), Exit::Terminated),
        ] {
            let mut summary = summary();
            summary.add(&scenario("one"), &broken(OF_SERVER, 0, 1), None);
            summary.add(&scenario("two"), &Tries::default(), Some(halt));
            let run = summary.finish();
            assert_eq!((run.exit(), run.stale.len()), (exit, 0));
            assert!(run.unclear().starts_with("1 scenario was not played: "), "{}", run.unclear());
        }
    }
}
