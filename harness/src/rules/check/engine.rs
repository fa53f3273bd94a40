//! One pass over a trace, all rules at once.

use layers_trace::{Callback, Event, Kind, ReadError};

use super::finding::Finding;
use super::now::Now;
use super::report::{Report, Tally};
use super::rule::{Check, Checker, Rule};
use crate::history::{End, Flaws, History, RecordingFault};
use crate::version::Version;

/// What one trace says of one rule.
#[derive(Clone, Debug)]
pub struct RuleResult {
    /// The rule.
    pub rule: &'static Rule,
    /// How often its antecedent was true.
    pub exercised: u64,
    /// How often it was broken.
    pub broken: u64,
    /// The first few times.
    pub findings: Vec<Finding>,
}

/// Why a trace does not tell the whole story.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    /// This many records did not fit.
    #[error("the trace was full: {0} records did not fit (--trace-room gives it more)")]
    Lost(u64),
    /// This many records were claimed and never written, and nobody killed the server in between.
    #[error("{0} records were claimed and never written")]
    Unpublished(u64),
    /// It cannot be read to its end.
    #[error("the trace cannot be read to its end: {0}")]
    Damaged(ReadError),
    /// It does not begin with a description of the run.
    #[error("the trace does not say how the run was started")]
    NoRun,
    /// It does not say how the server ended: the harness was cut off.
    #[error("the trace was cut off: it does not say how the server ended")]
    NoEnd,
    /// It says what no server can have brought about.
    #[error("the recording is faulty: {flaw} (event {position}; {count} in all)")]
    Faulty {
        /// The first thing of that sort.
        flaw: RecordingFault,
        /// Its event.
        position: u32,
        /// How many there are.
        count: u64,
    },
    /// What reads the trace while it is written was left behind, and so whole calls of data were not recorded.
    #[error(
        "{calls} calls of data were not recorded from event {from} on: what reads the trace was left behind"
    )]
    LeftOut {
        /// How many.
        calls: u64,
        /// The position from which on that may be.
        from: u64,
    },
    /// It was left so far behind that nothing was recorded any more.
    #[error("nothing was recorded from event {0} on: what reads the trace was left behind")]
    Stopped(u64),
    /// Of HAProxy's keywords, or of its applets, none is recorded.
    #[error("the instrument does not know this server: {0}")]
    Unwrapped(String),
    /// The server was killed by a signal that the harness did not send.
    #[error("the server was killed by signal {0}")]
    Killed(i32),
}

impl Trouble {
    /// Returns true when the trace does not tell of the whole run, apart from its end.
    pub fn is_cut(&self) -> bool {
        !matches!(self, Trouble::NoEnd | Trouble::Killed(_))
    }

    /// Returns true when the recording itself is at fault, and not the server: nothing is proved by what it lacks.
    pub fn is_of_recording(&self) -> bool {
        !matches!(self, Trouble::Killed(_))
    }
}

/// What one trace says.
#[derive(Debug)]
pub struct Judgement {
    /// One for each rule asked about that applies to the version and can be judged.
    pub results: Vec<RuleResult>,
    /// What was still open at the end, and how the run was described.
    pub history: History,
    /// Why it does not tell the whole story.
    pub troubles: Vec<Trouble>,
    /// Events seen.
    pub events: u64,
}

impl Judgement {
    /// What was said of this rule.
    pub fn result(&self, id: &str) -> Option<&RuleResult> {
        self.results.iter().find(|result| result.rule.id == id)
    }

    /// All findings, by rule.
    pub fn findings(&self) -> impl Iterator<Item = &Finding> {
        self.results.iter().flat_map(|result| &result.findings)
    }
}

struct Running {
    rule: &'static Rule,
    tally: Tally,
}

impl Running {
    fn result(&self) -> RuleResult {
        let Tally { exercised, broken, findings, .. } = self.tally.clone();
        RuleResult { rule: self.rule, exercised, broken, findings }
    }
}

/// A pass in progress: feed it events, then finish.
pub struct Judge {
    history: History,
    running: Vec<Running>,
    /// The check of each of them, close together: every event asks some dozens.
    checks: Vec<Box<dyn Check>>,
    /// Which checks want an event, by kind and number.
    routes: Vec<Route>,
    /// How many events have changed which checks mind data calls.
    changes: u64,
    events: u64,
}

/// The checks that want one sort of event.
#[derive(Clone, Debug, Default)]
struct Route {
    watching: Vec<u16>,
    /// Those of them that mind a data call, after so many changes.
    minding: Vec<u16>,
    changes: Option<u64>,
}

impl Route {
    /// Returns the checks that mind a data call, asking them anew if anything has changed.
    fn minding(&mut self, changes: u64, checks: &[Box<dyn Check>], history: &History) -> &[u16] {
        if self.changes != Some(changes) {
            let minds = |index: &&u16| {
                checks.get(usize::from(**index)).is_some_and(|check| check.minds_data(history))
            };
            self.minding.clear();
            self.minding.extend(self.watching.iter().filter(minds));
            self.changes = Some(changes);
        }
        &self.minding
    }
}

/// Callbacks that there can be: a set of them is one u64.
const CALLBACKS: usize = 64;
/// Two for each callback, and one for each other kind of event.
const ROUTES: usize = 2 * CALLBACKS + 16;

fn route(kind: Kind, number: u8) -> usize {
    match kind {
        Kind::Enter => usize::from(number),
        Kind::Exit => CALLBACKS + usize::from(number),
        other => 2 * CALLBACKS + other as usize,
    }
}

impl Judge {
    /// Judges by those of `rules` that can be judged from a trace and that `version` promises.
    pub fn new(rules: impl IntoIterator<Item = &'static Rule>, version: Version) -> Judge {
        let (mut running, mut checks) = (Vec::new(), Vec::new());
        for rule in rules {
            if let Checker::Trace(check) = rule.check
                && rule.since <= version
            {
                running.push(Running { rule, tally: Tally::of(rule.id, rule.party) });
                checks.push(check());
            }
        }
        let mut routes = vec![Route::default(); ROUTES];
        for (index, check) in checks.iter().enumerate() {
            for (kind, number) in check.watches().sorts() {
                if let Some(takers) = routes.get_mut(route(kind, number)) {
                    takers.watching.push(index as u16);
                }
            }
        }
        Judge { history: History::new(), running, checks, routes, changes: 0, events: 0 }
    }

    /// The next event.
    pub fn feed(&mut self, event: &Event) {
        self.events += 1;
        let step = self.history.step(event);
        let (history, call) = (step.history(), step.call());
        let handle = call.filter(|call| call.handle() > 0).and_then(|call| history.handle(call.handle()));
        let now = Now { history, event, call, handle };
        let Some(route) = self.routes.get_mut(route(event.kind, event.number)) else { return };
        let is_data = event.callback().is_some_and(Callback::is_data);
        self.changes += u64::from(!is_data && !matches!(event.kind, Kind::Request | Kind::Reply));
        let takers = match is_data {
            true => route.minding(self.changes, &self.checks, history),
            false => &route.watching,
        };
        for index in takers {
            let index = usize::from(*index);
            if let (Some(check), Some(one)) = (self.checks.get_mut(index), self.running.get_mut(index)) {
                check.see(&now, &mut Report { tally: &mut one.tally, present: Some(event) });
            }
        }
    }

    /// What is open now.
    pub fn history(&self) -> &History {
        &self.history
    }

    /// What has been said so far of the rules that are broken.
    pub fn broken(&self) -> impl Iterator<Item = RuleResult> {
        self.running.iter().filter(|one| one.tally.broken > 0).map(Running::result)
    }

    /// What has been said up to now, for tests.
    #[cfg(test)]
    pub(crate) fn results(&self) -> Vec<RuleResult> {
        self.running.iter().map(Running::result).collect()
    }

    /// No more events.
    pub fn finish(self) -> Judgement {
        self.finish_at(true)
    }

    /// No more events; unless it is the end of the run, nothing is asked for that may still have come.
    pub(in crate::rules) fn finish_at(mut self, is_end: bool) -> Judgement {
        for (one, check) in self.running.iter_mut().zip(&mut self.checks) {
            if is_end {
                let present = self.history.end_event();
                check.end(&self.history, &mut Report { tally: &mut one.tally, present });
            }
            // Some checks count only what comes to its end; a broken rule has had something to say all the same.
            one.tally.exercised = one.tally.exercised.max(u64::from(one.tally.broken > 0));
        }
        let mut troubles = Vec::new();
        if self.history.run().is_none() {
            troubles.push(Trouble::NoRun);
        }
        let wrapped = self.history.wrapped();
        if let Some(why) = self.history.unwrapped().filter(|_| wrapped.keywords == 0 || wrapped.applets == 0)
        {
            troubles.push(Trouble::Unwrapped(why.to_owned()));
            // What is not seen looks like what did not happen.
            for tally in self.running.iter_mut().map(|one| &mut one.tally) {
                (tally.exercised, tally.broken) = (0, 0);
                tally.findings.clear();
            }
        }
        let Flaws { count, first } = self.history.flaws();
        troubles.extend(first.map(|(flaw, position)| Trouble::Faulty { flaw, position, count }));
        match self.history.end() {
            None if self.history.is_watched() => {}
            None => troubles.push(Trouble::NoEnd),
            Some(End::Killed(signal)) => {
                let sent = self.history.signals().iter().any(|sent| sent.a as i32 == signal);
                // A server that was asked for too much stops on purpose.
                if !sent && self.history.asked_too_much().is_none() {
                    troubles.push(Trouble::Killed(signal));
                }
            }
            Some(End::Exited(_)) => {}
        }
        Judgement {
            results: self.running.iter().map(Running::result).collect(),
            history: self.history,
            troubles,
            events: self.events,
        }
    }
}
