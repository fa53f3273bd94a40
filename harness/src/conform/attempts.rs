//! One scenario, played as often as the level asks, and what the tries say together.

use super::unclear::Unclear;
use super::verdicts::{is_ground, verdict_of, wrote};
use crate::baseline::Baseline;
use crate::campaign::event_budget::Events;
use crate::campaign::halt::{Halt, Limit};
use crate::history::{Unjudged, Wrapped};
use crate::outcome::{Verdict, What};
use crate::rules::haproxy::joined;
use crate::rules::{Finding, Kind, Rule, RuleResult};
use crate::scenario::{Expectation, Mishap, Patience, Recording, Scenario};
use crate::server::nbdkit::ServerError;
use crate::server::shortage::shortage;

/// What all tries of a scenario say.
#[derive(Clone, Debug, Default)]
pub struct Tries {
    /// How often it was played.
    pub count: u32,
    /// How many tries went as planned and left a whole trace.
    pub passed: u32,
    /// What became of the others.
    pub astray: Vec<Astray>,
    /// Events recorded in all of them.
    pub events: u64,
    /// What the tries say of each rule: all that those that passed say, and what those that went astray show to be broken.
    pub rules: Vec<RuleTries>,
    /// What the scenario must show, and whether the last try did.
    pub controls: Vec<Control>,
    /// What the instrument of HAProxy stands in for.
    pub wrapped: Wrapped,
    /// Commands of HAProxy of which the last try says nothing.
    pub unjudged: Vec<Unjudged>,
}

/// Tries that ended in the same way, and not as planned.
#[derive(Clone, Debug)]
pub struct Astray {
    /// How.
    pub verdict: Verdict,
    /// Why it cannot be told how they went, where that is the verdict.
    pub unclear: Option<Unclear>,
    /// How many.
    pub times: u32,
    /// Position in the trace at which the first of them went wrong.
    pub at: u32,
    /// The events of the first, where they are kept.
    pub run: Option<Events>,
    /// What a program of the scenario's has written in it.
    pub wrote: Option<String>,
}

/// By what tries are bound, besides their number.
#[derive(Clone, Copy, Debug)]
pub(super) struct Conduct<'a> {
    /// What is not waited for again.
    pub(super) patience: &'a Patience,
    /// What is known to go wrong.
    pub(super) baseline: &'a Baseline,
    /// When nothing more is played.
    pub(super) limit: Limit,
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
    /// How often it was true in tries that went wrong, of which what holds does not count.
    pub in_vain: u64,
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
    /// What a program of the scenario's has written in it.
    pub wrote: Option<String>,
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

/// A run that hangs or breaks in the same way so often, and is not known to, is not tried again.
const MOST_ALIKE: u32 = 3;

/// What is kept of a try in which something was found.
#[derive(Clone, Debug, Default)]
struct Kept {
    run: Option<Events>,
    wrote: Option<String>,
}

/// Something was found in it, or it went otherwise than it should.
fn is_broken(verdict: &Verdict, recording: &Recording) -> bool {
    *verdict != Verdict::Pass || recording.judgement.results.iter().any(|result| result.broken > 0)
}

impl Tries {
    /// Plays it `count` times, or until nothing new is to be had from it.
    pub(super) fn play(
        record: impl Fn(&Scenario) -> Result<Recording, ServerError>,
        scenario: &Scenario,
        count: u32,
        conduct: &Conduct<'_>,
    ) -> Result<Tries, ServerError> {
        let mut tries = Tries::default();
        while tries.count < count && !tries.all_alike(scenario, conduct) {
            if !tries.once(&record, scenario, conduct)? {
                return Ok(tries);
            }
        }
        while !tries.shown() && tries.count < count * MOST_ATTEMPTS {
            if !tries.once(&record, scenario, conduct)? {
                return Ok(tries);
            }
        }
        if !tries.shown() {
            let verdict = Verdict::Inconclusive(tries.not_shown());
            tries.add_astray(verdict, Some(Unclear::NotShown), u32::MAX, &Kept::default());
        }
        Ok(tries)
    }

    /// Every try so far went wrong in the same way, which is not known: so will the next.
    fn all_alike(&self, scenario: &Scenario, conduct: &Conduct<'_>) -> bool {
        let repeated = self.astray.iter().any(|one| one.unclear == Some(Unclear::Repeated));
        let alike = match self.astray.as_slice() {
            [one] => one.times >= MOST_ALIKE && !conduct.knows(&one.verdict, scenario),
            _ => false,
        };
        self.passed == 0 && (repeated || alike)
    }

    /// Plays it once more; false when there is no time for that.
    fn once(
        &mut self,
        record: impl Fn(&Scenario) -> Result<Recording, ServerError>,
        scenario: &Scenario,
        conduct: &Conduct<'_>,
    ) -> Result<bool, ServerError> {
        if conduct.limit.reached().is_some() {
            return Ok(false);
        }
        let recorded = record(scenario);
        let halt = conduct.limit.reached();
        if matches!(halt, Some(Halt::Signal(_))) {
            // Its server was killed, or not even started.
            return Ok(false);
        }
        let mut recording = match recorded {
            Ok(recording) => recording,
            Err(error) => {
                let refused = Halt::of(&error).ok_or(error)?;
                self.count += 1;
                let verdict = Verdict::Inconclusive(refused.reason());
                self.add_astray(verdict, Some(Unclear::Environment), u32::MAX, &Kept::default());
                return Ok(true);
            }
        };
        let (mut verdict, mut unclear) = conduct.verdict_of(&recording, scenario);
        if let Some(line) = shortage(&recording.stderr).filter(|_| is_broken(&verdict, &recording)) {
            // What it did without them says nothing of it.
            let why = format!("the system had no more for the server (see ulimit): {line}");
            (verdict, unclear) = (Verdict::Inconclusive(why), Some(Unclear::Environment));
            for result in &mut recording.judgement.results {
                (result.exercised, result.broken) = (0, 0);
                result.findings.clear();
            }
        }
        if halt.is_some() && !matches!(verdict, Verdict::Pass | Verdict::Crash(_)) {
            return Ok(false);
        }
        self.count += 1;
        self.controls = controls(&verdict, &recording, scenario);
        if !self.shown() {
            // What is broken is broken, but nothing that holds was put to the test as it should have been.
            for result in &mut recording.judgement.results {
                result.exercised = result.exercised.min(result.broken);
            }
        }
        let wrote = wrote(&recording, scenario, &verdict);
        self.add(verdict, unclear, recording, wrote);
        Ok(true)
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

    fn add(
        &mut self,
        verdict: Verdict,
        unclear: Option<Unclear>,
        mut recording: Recording,
        wrote: Option<String>,
    ) {
        let events = std::mem::take(&mut recording.events);
        let broken = recording.judgement.results.iter().any(|result| result.broken > 0);
        // Nothing is looked at in a run in which nothing was found.
        let run: Option<Events> =
            (!events.is_empty() && (broken || verdict != Verdict::Pass)).then(|| events.into());
        let kept = Kept { run, wrote };
        self.events += recording.judgement.events;
        self.wrapped = self.wrapped.max(recording.judgement.history.wrapped());
        self.unjudged = recording.judgement.history.unjudged().to_vec();
        if verdict == Verdict::Pass {
            self.passed += 1;
            for result in recording.judgement.results {
                self.add_result(result, &kept, None);
            }
            return;
        }
        let at = recording.departed.unwrap_or(u32::MAX);
        self.add_astray(verdict.clone(), unclear, at, &kept);
        if is_ground(&recording.judgement.troubles) {
            // After a wait that was cut short, that nothing had come by then shows nothing.
            let cut_short = recording.departed.filter(|_| unclear == Some(Unclear::Repeated));
            let given_up = |result: &RuleResult| {
                let last = result.findings.first().and_then(|first| first.calls.last());
                last.is_some_and(|call| cut_short.is_some_and(|departed| call.position + 1 == departed))
            };
            for mut result in recording.judgement.results {
                if !is_held_against_the_server(&result) || given_up(&result) {
                    result.broken = 0;
                    result.findings.clear();
                }
                self.add_result(result, &kept, Some(&verdict));
            }
        }
    }

    fn add_result(&mut self, result: RuleResult, kept: &Kept, cut: Option<&Verdict>) {
        let first = joined(result.rule, result.findings);
        let tries = u32::from(result.broken > 0);
        let Kept { run, wrote } = if first.is_some() { kept.clone() } else { Kept::default() };
        let known = self.rules.iter().position(|one| one.rule.id == result.rule.id);
        // What holds in a part of a run was not put to the test as it should have been.
        let exercised = if cut.is_some() { result.exercised.min(result.broken) } else { result.exercised };
        let in_vain = result.exercised - exercised;
        let cut = cut.filter(|_| tries > 0);
        match known.and_then(|index| self.rules.get_mut(index)) {
            Some(one) => {
                one.exercised += exercised;
                one.in_vain += in_vain;
                one.broken += result.broken;
                one.tries += tries;
                one.cut.extend(cut.cloned());
                if one.first.is_none() {
                    (one.first, one.run, one.wrote) = (first, run, wrote);
                }
            }
            None => self.rules.push(RuleTries {
                rule: result.rule,
                exercised,
                in_vain,
                broken: result.broken,
                tries,
                cut: cut.cloned().into_iter().collect(),
                first,
                run,
                wrote,
            }),
        }
    }

    fn add_astray(&mut self, verdict: Verdict, unclear: Option<Unclear>, at: u32, kept: &Kept) {
        match self.astray.iter_mut().find(|one| one.verdict == verdict) {
            Some(one) => one.times += 1,
            None => {
                let Kept { run, wrote } = kept.clone();
                self.astray.push(Astray { verdict, unclear, times: 1, at, run, wrote });
            }
        }
    }
}

impl Conduct<'_> {
    fn knows(&self, verdict: &Verdict, scenario: &Scenario) -> bool {
        self.baseline.find(&What::Verdict(verdict.clone()), &scenario.name).is_some()
    }

    /// What has become of a run. A hang that is new shortens the waits for the same that are still to come; one after so
    /// short a wait is none.
    fn verdict_of(&self, recording: &Recording, scenario: &Scenario) -> (Verdict, Option<Unclear>) {
        let verdict = verdict_of(recording, scenario);
        match (&verdict, recording.mishaps.first()) {
            (Verdict::Inconclusive(_), _) => (verdict, Some(Unclear::of(recording))),
            (Verdict::Hang(_), Some(Mishap::Hang { doing })) if !self.knows(&verdict, scenario) => {
                if self.patience.is_spent(doing) {
                    let why = doing.clone();
                    return (Verdict::Inconclusive(why), Some(Unclear::Repeated));
                }
                self.patience.lose(doing);
                (verdict, None)
            }
            _ => (verdict, None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::End;
    use crate::scenario::named;
    use crate::server::Which;
    use crate::testing::{Script, judged, reference};

    fn left_behind(script: Script) -> Recording {
        Recording {
            judgement: judged(script),
            mishaps: Vec::new(),
            departed: None,
            end: Some(End::Exited(0)),
            events: Vec::new(),
            stdout: String::new(),
            stderr: String::new(),
        }
    }

    fn play(record: impl Fn(&Scenario) -> Result<Recording, ServerError>, scenario: &Scenario) -> Tries {
        let (patience, baseline) = (Patience::default(), Baseline::default());
        let conduct = Conduct { patience: &patience, baseline: &baseline, limit: Limit::default() };
        Tries::play(record, scenario, 1, &conduct).unwrap()
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
        let tries = play(|_| Ok(left_behind(reference())), &many_at_once());
        assert_eq!(tries.count, MOST_ATTEMPTS, "it is tried again first");
        let [Astray { verdict: Verdict::Inconclusive(why), times: 1, .. }] = tries.astray.as_slice() else {
            panic!("{:?}", tries.astray)
        };
        assert!(why.contains("at most 1"), "{why}");
        assert_eq!(exercised(&tries, "close.last"), 0, "such a run puts no rule to the test");
        assert!(
            tries.controls.iter().any(|control| control.verdict.exit() == crate::outcome::Exit::Inconclusive)
        );
    }

    #[test]
    fn what_nobody_expects_is_judged_by_its_rules() {
        let calm = Scenario { expects: Vec::new(), ..many_at_once() };
        let tries = play(|_| Ok(left_behind(reference())), &calm);
        assert!(tries.astray.is_empty() && tries.count == 1);
        assert!(exercised(&tries, "close.last") > 0);
    }

    /// The reference run with a close too many, which came to its end in another way.
    fn cut(mishaps: Vec<Mishap>, change: impl Fn(Script) -> Script) -> Tries {
        let calm = Scenario { expects: Vec::new(), ..many_at_once() };
        let twice = || change(reference().doubled(0, layers_trace::Callback::Close, 0));
        let record = |_: &Scenario| Ok(Recording { mishaps: mishaps.clone(), ..left_behind(twice()) });
        play(record, &calm)
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
        let tries = play(record, &calm);
        assert!(tries.rules.iter().all(|one| one.broken == 0), "{:?}", tries.rules);
    }

    #[test]
    fn what_is_broken_is_broken_all_the_same() {
        let twice = || reference().doubled(0, layers_trace::Callback::Close, 0);
        let tries = play(|_| Ok(left_behind(twice())), &many_at_once());
        assert!(tries.rules.iter().any(|one| one.rule.id == "close.exactly-once" && one.broken > 0));
    }

    #[test]
    fn what_a_program_has_written_stays_with_a_hang_and_with_what_is_broken_before_it() {
        let calm = Scenario { expects: Vec::new(), command: Some("nbdinfo"), ..many_at_once() };
        let twice = || reference().doubled(0, layers_trace::Callback::Close, 0);
        let mishaps = vec![Mishap::Hang { doing: "it hangs".to_owned() }];
        let tries = play(
            |_| {
                let stderr = "nbdinfo: no\n".to_owned();
                Ok(Recording { mishaps: mishaps.clone(), stderr, ..left_behind(twice()) })
            },
            &calm,
        );
        let wrote = Some("`nbdinfo` wrote: nbdinfo: no".to_owned());
        assert_eq!(tries.astray[0].wrote, wrote);
        let broken = tries.rules.iter().find(|one| one.rule.id == "close.exactly-once").unwrap();
        assert_eq!(broken.wrote, wrote);
    }

    fn hangs(doing: &str) -> Recording {
        let mishaps = vec![Mishap::Hang { doing: doing.to_owned() }];
        Recording { mishaps, ..left_behind(reference()) }
    }

    #[test]
    fn what_hangs_in_the_same_way_is_not_tried_again_and_again() {
        let race = Scenario { expects: Vec::new(), tries: 25, ..many_at_once() };
        let (patience, baseline) = (Patience::default(), Baseline::default());
        let conduct = Conduct { patience: &patience, baseline: &baseline, limit: Limit::default() };
        let play = |doing| Tries::play(|_| Ok(hangs(doing)), &race, 25, &conduct).unwrap();
        let first = play("closes");
        assert_eq!((first.count, first.astray[0].verdict.word()), (MOST_ALIKE, "hang"));
        // In the next scenario the patience comes to its end, and what is then cut short is no hang and no pass.
        let next = play("closes");
        let said: Vec<_> = next.astray.iter().map(|one| (one.verdict.word(), one.unclear)).collect();
        assert_eq!(said.last(), Some(&("inconclusive", Some(Unclear::Repeated))));
        assert!(next.passed == 0 && next.count <= MOST_ALIKE, "{next:?}");
        assert_eq!(play("closes").count, 1);
        assert_eq!(play("answers").count, MOST_ALIKE, "another wait is another matter");
    }

    #[test]
    fn a_hang_that_is_known_shortens_nothing() {
        let (patience, scenario) = (Patience::default(), Scenario { expects: Vec::new(), ..many_at_once() });
        let verdict = Verdict::Hang(Mishap::Hang { doing: "closes".to_owned() }.to_string());
        let how = crate::baseline::How::Deterministic;
        let entry = crate::baseline::Entry::of(&What::Verdict(verdict), &scenario.name, how, "a test");
        let baseline = Baseline { entries: vec![entry] };
        let conduct = Conduct { patience: &patience, baseline: &baseline, limit: Limit::default() };
        for _ in 0..9 {
            Tries::play(|_| Ok(hangs("closes")), &scenario, 1, &conduct).unwrap();
        }
        assert!(!patience.is_spent("closes"));
    }

    #[test]
    fn when_the_time_is_over_nothing_is_played_and_no_hang_is_told() {
        let (patience, baseline) = (Patience::default(), Baseline::default());
        let over = Limit::new(Some(std::time::Duration::ZERO));
        let conduct = Conduct { patience: &patience, baseline: &baseline, limit: over };
        let tries = Tries::play(|_| Ok(hangs("closes")), &many_at_once(), 3, &conduct).unwrap();
        assert!(tries.count == 0 && tries.astray.is_empty());
    }
}
