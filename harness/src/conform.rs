//! `layers conform`: every selected scenario on one server, judged by every selected rule.

use crate::history::End;
use crate::rules::{Checker, Finding, Kind, Rule, Trouble};
use crate::scenario::{Mishap, Player, Recording, Scenario};
use crate::select::Selection;
use crate::server::nbdkit::{Nbdkit, ServerError};
use crate::verdict::{Exit, Verdict};

/// What the whole run says of one rule.
#[derive(Clone, Debug)]
pub struct RuleVerdict {
    /// The rule.
    pub rule: &'static Rule,
    /// What is said of it.
    pub verdict: Verdict,
    /// How often its antecedent was true, in all scenarios that are no race.
    pub exercised: u64,
    /// How often it was broken there.
    pub broken: u64,
    /// The scenarios that broke it.
    pub broken_in: Vec<String>,
    /// The first finding in each of those scenarios.
    pub findings: Vec<(String, Finding)>,
}

/// What one scenario says, apart from the rules.
#[derive(Clone, Debug)]
pub struct ScenarioVerdict {
    /// Its name.
    pub name: String,
    /// Pass: it went as planned, and its trace is whole.
    pub verdict: Verdict,
    /// Events recorded.
    pub events: u64,
}

/// A rule that a provoked race broke.
#[derive(Clone, Debug)]
pub struct Race {
    /// The scenario.
    pub scenario: String,
    /// How often it was played.
    pub tries: u32,
    /// Rules that were broken, each with the number of tries that broke it and the first finding.
    pub broken: Vec<(&'static Rule, u32, Finding)>,
    /// What else became of tries (a crash, a hang, …), each with their number.
    pub astray: Vec<(Verdict, u32)>,
}

impl Race {
    /// The exit code that it alone asks for: losing a race is no excuse for breaking a promise.
    fn exit(&self) -> Exit {
        let binding = |rule: &Rule| matches!(rule.kind, Kind::Required | Kind::Forbidden);
        let broken = self.broken.iter().any(|(rule, ..)| binding(rule)).then_some(Exit::Violation);
        let crashed = |verdict: &Verdict| verdict.exit() == Exit::Violation;
        let astray = self.astray.iter().any(|(verdict, _)| crashed(verdict)).then_some(Exit::Violation);
        Exit::of([broken, astray].into_iter().flatten().chain([Exit::Conformant]))
    }
}

/// A whole run.
#[derive(Debug)]
pub struct Conformance {
    /// One for each selected rule, in the order of the catalogue.
    pub rules: Vec<RuleVerdict>,
    /// One for each scenario played that is no race.
    pub scenarios: Vec<ScenarioVerdict>,
    /// The races.
    pub races: Vec<Race>,
}

impl Conformance {
    /// The exit code.
    pub fn exit(&self) -> Exit {
        let judged = self.rules.iter().any(|rule| rule.exercised > 0);
        let verdicts = self.rules.iter().map(|r| &r.verdict).chain(self.scenarios.iter().map(|s| &s.verdict));
        let floor = if judged { Exit::Conformant } else { Exit::NothingJudged };
        Exit::of(
            verdicts
                .map(Verdict::exit)
                .filter(|_| judged)
                .chain(self.races.iter().map(Race::exit))
                .chain([floor]),
        )
    }

    /// How many rules have this verdict.
    pub fn count(&self, word: &str) -> usize {
        self.rules.iter().filter(|rule| rule.verdict.word() == word).count()
    }
}

/// Hears of each scenario as soon as it is over.
pub trait Listener {
    /// This scenario is about to be played.
    fn playing(&mut self, scenario: &Scenario);
    /// It is over.
    fn played(&mut self, verdict: &ScenarioVerdict);
}

/// Plays everything.
pub fn conform(
    server: &Nbdkit,
    selection: &Selection,
    listener: &mut dyn Listener,
) -> Result<Conformance, ServerError> {
    let player = Player { rules: selection.rules.clone(), ..Player::new(server) };
    let mut tallies: Vec<RuleVerdict> = selection.rules.iter().map(|rule| fresh(rule)).collect();
    let (mut scenarios, mut races) = (Vec::new(), Vec::new());
    for scenario in &selection.scenarios {
        listener.playing(scenario);
        if scenario.is_race() {
            races.push(play_race(&player, scenario)?);
            continue;
        }
        let recording = player.play(scenario)?;
        let verdict = ScenarioVerdict {
            name: scenario.name.clone(),
            verdict: verdict_of(&recording, scenario),
            events: recording.judgement.events,
        };
        // What a run that went astray shows is not what its scenario is about; that it did is a verdict of its own.
        if verdict.verdict == Verdict::Pass {
            add(&mut tallies, scenario, &recording);
        }
        listener.played(&verdict);
        scenarios.push(verdict);
    }
    for tally in &mut tallies {
        tally.verdict = verdict_of_rule(tally, server);
    }
    Ok(Conformance { rules: tallies, scenarios, races })
}

fn fresh(rule: &'static Rule) -> RuleVerdict {
    RuleVerdict {
        rule,
        verdict: Verdict::Pass,
        exercised: 0,
        broken: 0,
        broken_in: Vec::new(),
        findings: Vec::new(),
    }
}

fn add(tallies: &mut [RuleVerdict], scenario: &Scenario, recording: &Recording) {
    for result in &recording.judgement.results {
        let Some(tally) = tallies.iter_mut().find(|tally| tally.rule.id == result.rule.id) else { continue };
        tally.exercised += result.exercised;
        tally.broken += result.broken;
        if result.broken > 0 {
            tally.broken_in.push(scenario.name.clone());
            let first = result.findings.first().map(|finding| (scenario.name.clone(), finding.clone()));
            tally.findings.extend(first);
        }
    }
}

/// Plays a race as often as it asks, and counts.
fn play_race(player: &Player<'_>, scenario: &Scenario) -> Result<Race, ServerError> {
    let mut broken: Vec<(&'static Rule, u32, Finding)> = Vec::new();
    let mut astray: Vec<(Verdict, u32)> = Vec::new();
    for _ in 0..scenario.tries {
        let recording = player.play(scenario)?;
        let verdict = verdict_of(&recording, scenario);
        if verdict != Verdict::Pass {
            match astray.iter_mut().find(|(one, _)| *one == verdict) {
                Some((_, tries)) => *tries += 1,
                None => astray.push((verdict, 1)),
            }
            continue;
        }
        for result in recording.judgement.results {
            let Some(finding) = result.findings.into_iter().next() else { continue };
            match broken.iter_mut().find(|(rule, ..)| rule.id == result.rule.id) {
                Some((_, tries, _)) => *tries += 1,
                None => broken.push((result.rule, 1, finding)),
            }
        }
    }
    broken.sort_by_key(|(rule, ..)| rule.id);
    Ok(Race { scenario: scenario.name.clone(), tries: scenario.tries, broken, astray })
}

fn verdict_of_rule(tally: &RuleVerdict, server: &Nbdkit) -> Verdict {
    let rule = tally.rule;
    match (rule.check, tally.broken) {
        (Checker::Nothing, _) => Verdict::NotApplicable("unspecified".to_owned()),
        (Checker::Later(reason), _) => Verdict::NotApplicable(reason.to_owned()),
        _ if rule.since > server.version => Verdict::NotApplicable(format!("since {}", rule.since)),
        (_, 0) if tally.exercised == 0 => {
            Verdict::NotApplicable(format!("never exercised: needs {}", rule.antecedent))
        }
        (_, 0) => Verdict::Pass,
        _ if rule.kind == Kind::Observed => Verdict::Warn,
        _ => Verdict::Fail,
    }
}

/// What is to be said of a run apart from the rules: did it go as planned, and is its trace whole?
pub fn verdict_of(recording: &Recording, scenario: &Scenario) -> Verdict {
    let of_trace = verdict_of_troubles(&recording.judgement.troubles);
    match (recording.mishaps.first(), of_trace) {
        (_, Some(crash @ Verdict::Crash(_))) => crash,
        (Some(mishap @ Mishap::Hang { .. }), _) => Verdict::Hang(mishap.to_string()),
        (Some(mishap), _) => Verdict::Inconclusive(mishap.to_string()),
        (None, Some(verdict)) => verdict,
        (None, None) => match recording.end {
            Some(End::Exited(code)) if scenario.start_fails == (code == 0) => {
                Verdict::Inconclusive(format!("the server ended with exit status {code}"))
            }
            _ => Verdict::Pass,
        },
    }
}

/// What a trace alone says, if it is not whole.
pub fn verdict_of_troubles(troubles: &[Trouble]) -> Option<Verdict> {
    troubles.iter().map(verdict_of_trouble).min_by_key(|verdict| match verdict {
        Verdict::Crash(_) => 0,
        _ => 1,
    })
}

fn verdict_of_trouble(trouble: &Trouble) -> Verdict {
    match trouble {
        Trouble::Killed(signal) if *signal == libc::SIGKILL => {
            Verdict::Inconclusive("the server was lost: something else killed it with SIGKILL".to_owned())
        }
        Trouble::Killed(signal) => Verdict::Crash(format!("the server was killed by signal {signal}")),
        other => Verdict::Inconclusive(other.to_string()),
    }
}
