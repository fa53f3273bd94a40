//! One scenario, played as often as the level asks, and what the tries say together.

use super::verdicts::{is_ground, verdict_of};
use crate::history::Wrapped;
use crate::kept::Events;
use crate::rules::{Finding, Kind, Rule, RuleResult};
use crate::scenario::{Expectation, Recording, Scenario};
use crate::server::nbdkit::ServerError;
use crate::verdict::Verdict;

/// What all tries of a scenario say.
#[derive(Clone, Debug, Default)]
pub struct Tries {
    /// How often it was played.
    pub count: u32,
    /// How many tries went as planned and left a whole trace.
    pub passed: u32,
    /// What became of the others, each with how often.
    pub astray: Vec<(Verdict, u32)>,
    /// The first try of each of those, where events are kept.
    pub astray_runs: Vec<(Verdict, Events)>,
    /// Events recorded in all of them.
    pub events: u64,
    /// What the tries say of each rule: all that those that passed say, and what those that went astray show to be broken.
    pub rules: Vec<RuleTries>,
    /// What the scenario must show, and whether the last try did.
    pub controls: Vec<Control>,
    /// What the instrument of HAProxy stands in for.
    pub wrapped: Wrapped,
}

/// Something that a scenario must show, for its rules to mean something.
#[derive(Clone, Debug)]
pub struct Control {
    /// What.
    pub expected: Expectation,
    /// Pass, or inconclusive with what was seen instead.
    pub verdict: Verdict,
}

/// What all tries of a scenario say of one rule.
#[derive(Clone, Debug)]
pub struct RuleTries {
    /// The rule.
    pub rule: &'static Rule,
    /// How often its antecedent was true.
    pub exercised: u64,
    /// How often it was broken.
    pub broken: u64,
    /// In how many tries it was broken.
    pub tries: u32,
    /// What became of those of them that went wrong otherwise, too: each crashed, hung or departed from its script.
    pub cut: Vec<Verdict>,
    /// The first time.
    pub first: Option<Finding>,
    /// The events of that try, where they are kept.
    pub run: Option<Events>,
}

/// A run that shows too little, because the machine was busy with something else, is played again, up to so many times.
const MOST_ATTEMPTS: u32 = 5;

/// What a run that went as planned shows of what it must; one that did not is inconclusive anyway.
fn controls(verdict: &Verdict, recording: &Recording, scenario: &Scenario) -> Vec<Control> {
    let expects = scenario.expects.iter().filter(|_| *verdict == Verdict::Pass);
    let control = |expected: &Expectation| {
        let shortfall = expected.shortfall(&recording.judgement);
        Control { expected: *expected, verdict: shortfall.map_or(Verdict::Pass, Verdict::Inconclusive) }
    };
    expects.map(control).collect()
}

/// In a run that went wrong only what the server must do counts: our own layers and clients were cut off in their work, and
/// its habits are those of runs that go well.
fn is_held_against_the_server(result: &RuleResult) -> bool {
    let binding = matches!(result.rule.kind, Kind::Required | Kind::Forbidden);
    result.broken > 0 && binding && result.rule.party.comes_with_server()
}

impl Tries {
    /// Plays it `count` times.
    pub(super) fn play(
        record: impl Fn(&Scenario) -> Result<Recording, ServerError>,
        scenario: &Scenario,
        count: u32,
    ) -> Result<Tries, ServerError> {
        let mut tries = Tries { count, ..Tries::default() };
        for _ in 0..count {
            tries.once(&record, scenario)?;
        }
        while !tries.shown() && tries.count < count * MOST_ATTEMPTS {
            tries.count += 1;
            tries.once(&record, scenario)?;
        }
        if !tries.shown() {
            tries.add_astray(Verdict::Inconclusive(tries.not_shown()));
        }
        Ok(tries)
    }

    fn once(
        &mut self,
        record: impl Fn(&Scenario) -> Result<Recording, ServerError>,
        scenario: &Scenario,
    ) -> Result<(), ServerError> {
        let mut recording = record(scenario)?;
        let verdict = verdict_of(&recording, scenario);
        self.controls = controls(&verdict, &recording, scenario);
        if !self.shown() {
            // What is broken is broken, but nothing that holds was put to the test as it should have been.
            for result in &mut recording.judgement.results {
                result.exercised = result.exercised.min(result.broken);
            }
        }
        self.add(verdict, recording);
        Ok(())
    }

    /// The last try has shown what the scenario must show.
    fn shown(&self) -> bool {
        self.controls.iter().all(|control| control.verdict == Verdict::Pass)
    }

    fn not_shown(&self) -> String {
        let missing = self.controls.iter().filter(|control| control.verdict != Verdict::Pass);
        let each = missing
            .map(|control| format!("{}: {}", control.expected, control.verdict.reason().unwrap_or_default()));
        format!("it did not show what it must ({})", each.collect::<Vec<_>>().join("; "))
    }

    fn add(&mut self, verdict: Verdict, mut recording: Recording) {
        let events = std::mem::take(&mut recording.events);
        let broken = recording.judgement.results.iter().any(|result| result.broken > 0);
        // Nothing is looked at in a run in which nothing was found.
        let run: Option<Events> =
            (!events.is_empty() && (broken || verdict != Verdict::Pass)).then(|| events.into());
        self.events += recording.judgement.events;
        self.wrapped = self.wrapped.max(recording.judgement.history.wrapped());
        if verdict == Verdict::Pass {
            self.passed += 1;
            for result in recording.judgement.results {
                self.add_result(result, run.as_ref(), None);
            }
            return;
        }
        let known = self.run_of(&verdict).is_some();
        self.astray_runs.extend(run.clone().filter(|_| !known).map(|run| (verdict.clone(), run)));
        self.add_astray(verdict.clone());
        if is_ground(&recording.judgement.troubles) {
            for result in recording.judgement.results.into_iter().filter(is_held_against_the_server) {
                self.add_result(result, run.as_ref(), Some(&verdict));
            }
        }
    }

    fn add_result(&mut self, result: RuleResult, run: Option<&Events>, cut: Option<&Verdict>) {
        let first = result.findings.into_iter().next();
        let tries = u32::from(result.broken > 0);
        let run = first.as_ref().and(run).cloned();
        let known = self.rules.iter().position(|one| one.rule.id == result.rule.id);
        // What holds in a part of a run was not put to the test as it should have been.
        let exercised = if cut.is_some() { result.exercised.min(result.broken) } else { result.exercised };
        let cut = cut.filter(|_| tries > 0);
        match known.and_then(|index| self.rules.get_mut(index)) {
            Some(one) => {
                one.exercised += exercised;
                one.broken += result.broken;
                one.tries += tries;
                one.cut.extend(cut.cloned());
                if one.first.is_none() {
                    (one.first, one.run) = (first, run);
                }
            }
            None => self.rules.push(RuleTries {
                rule: result.rule,
                exercised,
                broken: result.broken,
                tries,
                cut: cut.cloned().into_iter().collect(),
                first,
                run,
            }),
        }
    }

    /// The first try of which this was said, where events are kept.
    pub(super) fn run_of(&self, verdict: &Verdict) -> Option<&Events> {
        self.astray_runs.iter().find(|(one, _)| one == verdict).map(|(_, run)| run)
    }

    fn add_astray(&mut self, verdict: Verdict) {
        match self.astray.iter_mut().find(|(one, _)| *one == verdict) {
            Some((_, times)) => *times += 1,
            None => self.astray.push((verdict, 1)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::End;
    use crate::rules::testing::{Script, judged, reference};
    use crate::scenario::{Mishap, named};
    use crate::server::Which;

    fn left_behind(script: Script) -> Recording {
        Recording {
            judgement: judged(script),
            mishaps: Vec::new(),
            end: Some(End::Exited(0)),
            events: Vec::new(),
            stdout: String::new(),
            stderr: String::new(),
        }
    }

    fn many_at_once() -> Scenario {
        let overlaps = |scenario: &Scenario| {
            scenario.expects.iter().any(|expected| matches!(expected, Expectation::DataAtOnce(2..)))
        };
        named::of(Which::Nbdkit).into_iter().find(overlaps).unwrap()
    }

    fn exercised(tries: &Tries, id: &str) -> u64 {
        tries.rules.iter().filter(|one| one.rule.id == id).map(|one| one.exercised).sum()
    }

    #[test]
    fn what_could_not_overlap_is_inconclusive_and_no_pass() {
        // One request after the other: nothing is broken, and nothing could have been.
        let tries = Tries::play(|_| Ok(left_behind(reference())), &many_at_once(), 1).unwrap();
        assert_eq!(tries.count, MOST_ATTEMPTS, "it is tried again first");
        let [(Verdict::Inconclusive(why), 1)] = tries.astray.as_slice() else { panic!("{:?}", tries.astray) };
        assert!(why.contains("at most 1"), "{why}");
        assert_eq!(exercised(&tries, "close.last"), 0, "such a run puts no rule to the test");
        assert!(
            tries.controls.iter().any(|control| control.verdict.exit() == crate::verdict::Exit::Inconclusive)
        );
    }

    #[test]
    fn what_nobody_expects_is_judged_by_its_rules() {
        let calm = Scenario { expects: Vec::new(), ..many_at_once() };
        let tries = Tries::play(|_| Ok(left_behind(reference())), &calm, 1).unwrap();
        assert!(tries.astray.is_empty() && tries.count == 1);
        assert!(exercised(&tries, "close.last") > 0);
    }

    /// The reference run with a close too many, which came to its end in another way.
    fn cut(mishaps: Vec<Mishap>, change: impl Fn(Script) -> Script) -> Tries {
        let calm = Scenario { expects: Vec::new(), ..many_at_once() };
        let twice = || change(reference().doubled(0, layers_trace::Callback::Close, 0));
        let record = |_: &Scenario| Ok(Recording { mishaps: mishaps.clone(), ..left_behind(twice()) });
        Tries::play(record, &calm, 1).unwrap()
    }

    fn broken_by(tries: &Tries, id: &str) -> u64 {
        tries.rules.iter().filter(|one| one.rule.id == id).map(|one| one.broken).sum()
    }

    #[test]
    fn rules_judge_what_was_recorded_before_a_run_went_wrong() {
        let hang = Mishap::Hang { doing: "it hangs".to_owned() };
        let departed = Mishap::Script { step: 1, what: "Knock".to_owned(), how: "failed".to_owned() };
        for mishap in [hang, departed] {
            let tries = cut(vec![mishap], |script| script);
            assert_eq!(tries.passed, 0);
            assert!(broken_by(&tries, "close.exactly-once") > 0);
            // The rest of the run is missing: what holds in it was not put to the test.
            assert_eq!(exercised(&tries, "close.last"), 0);
        }
    }

    #[test]
    fn nothing_is_owed_by_a_server_that_was_cut_off() {
        // Nobody knows how it ended: no close, no cleanup and no unload is missing.
        let half = |script: Script| {
            let until = script.index(layers_trace::Kind::Enter, 0, layers_trace::Callback::Pread, 0);
            let mut script = script;
            script.events.truncate(until);
            script
        };
        let hang = Mishap::Hang { doing: "it hangs".to_owned() };
        let calm = Scenario { expects: Vec::new(), ..many_at_once() };
        let record =
            |_: &Scenario| Ok(Recording { mishaps: vec![hang.clone()], ..left_behind(half(reference())) });
        let tries = Tries::play(record, &calm, 1).unwrap();
        assert!(tries.rules.iter().all(|one| one.broken == 0), "{:?}", tries.rules);
    }

    #[test]
    fn what_is_broken_is_broken_all_the_same() {
        let twice = || reference().doubled(0, layers_trace::Callback::Close, 0);
        let tries = Tries::play(|_| Ok(left_behind(twice())), &many_at_once(), 1).unwrap();
        assert!(tries.rules.iter().any(|one| one.rule.id == "close.exactly-once" && one.broken > 0));
    }
}
