//! Traces of the named scenarios, recorded once from a real nbdkit, and how a changed one is judged.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::OnceLock;

use layers::rules::{Checker, Judge, Rule, Trouble, of};
use layers::scenario::{Player, Scenario, named};
use layers::server::Which;
use layers::server::nbdkit::Nbdkit;
use layers::server::process::become_subreaper;
use layers::version::Version;
use layers_trace::{Event, Kind};

use super::stored;

pub(crate) type Trace = Vec<Event>;
pub(crate) type Ids = BTreeSet<&'static str>;

/// One recorded run.
#[derive(Clone)]
pub(crate) struct Recorded {
    /// The scenario.
    pub(crate) name: String,
    pub(crate) trace: Trace,
    /// Its calls come in the same order each time.
    pub(crate) repeatable: bool,
    /// Rules that it exercises and does not break.
    pub(crate) holds: Ids,
    /// Rules that it breaks as it is.
    pub(crate) broken: Ids,
    /// What of it is no whole story, as it is.
    pub(crate) troubles: Vec<Trouble>,
}

/// What is said of a trace.
pub(crate) struct Said {
    pub(crate) broken: Ids,
    pub(crate) exercised: Ids,
    pub(crate) troubles: Vec<Trouble>,
}

/// All of them.
pub(crate) struct Recordings {
    pub(crate) version: Version,
    /// Every rule that is judged from a trace.
    pub(crate) rules: Vec<&'static Rule>,
    pub(crate) all: Vec<Recorded>,
}

/// Records every named scenario that is no race, the first time that it is asked for.
pub(crate) fn recordings() -> &'static Recordings {
    static RECORDINGS: OnceLock<Recordings> = OnceLock::new();
    RECORDINGS.get_or_init(|| {
        become_subreaper().unwrap();
        let server = Nbdkit::find(None).unwrap();
        let rules: Vec<_> =
            of(Which::Nbdkit).filter(|rule| matches!(rule.check, Checker::Trace(_))).collect();
        let scenarios: Vec<_> =
            named::of(Which::Nbdkit).into_iter().filter(|scenario| !scenario.is_race()).collect();
        let record = |scenario: &Scenario| {
            let trace = trace_of(scenario, &server);
            let Said { broken, exercised, troubles } = judged(&trace, &rules, server.version);
            let holds = exercised.difference(&broken).copied().collect();
            let name = scenario.name.clone();
            Recorded { name, trace, repeatable: scenario.repeatable, holds, broken, troubles }
        };
        let all = side_by_side(&scenarios, record);
        Recordings { version: server.version, rules, all }
    })
}

/// What the scenario leaves behind. With LAYERS_RECORDINGS, what it left behind when it was first recorded in that folder.
fn trace_of(scenario: &Scenario, server: &Nbdkit) -> Trace {
    let play = || {
        let player = Player { keep_events: true, ..Player::new(server) };
        player.play(scenario).unwrap().events
    };
    let Some(folder) = std::env::var_os("LAYERS_RECORDINGS") else { return play() };
    let file = PathBuf::from(folder).join(format!("{}.trace", scenario.name.replace('/', "-")));
    match std::fs::read_to_string(&file) {
        Ok(text) => stored::read(&text),
        Err(_) => {
            let trace = play();
            std::fs::write(file, stored::written(&trace)).unwrap();
            trace
        }
    }
}

/// Does it for each, in two threads; the results are in order.
pub(crate) fn side_by_side<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let (even, odd): (Vec<_>, Vec<_>) = items.iter().enumerate().partition(|(index, _)| index % 2 == 0);
    let work = |items: Vec<(usize, &T)>| -> Vec<(usize, R)> {
        items.into_iter().map(|(index, item)| (index, work(item))).collect()
    };
    let mut results = std::thread::scope(|scope| {
        let other = scope.spawn(|| work(odd));
        let mut results = work(even);
        results.extend(other.join().unwrap());
        results
    });
    results.sort_by_key(|(index, _)| *index);
    results.into_iter().map(|(_, result)| result).collect()
}

/// What `rules` say of this trace.
///
/// Positions are the places in the list; exits follow their enters, wherever those have gone.
pub(crate) fn judged(trace: &[Event], rules: &[&'static Rule], version: Version) -> Said {
    let mut judge = Judge::new(rules.iter().copied(), version);
    let mut places = vec![u32::MAX; trace.iter().map(|event| event.position as usize + 1).max().unwrap_or(0)];
    for (place, event) in trace.iter().enumerate() {
        places[event.position as usize] = place as u32;
    }
    for (place, event) in trace.iter().enumerate() {
        let position = place as u32;
        let call = match event.kind {
            Kind::Enter | Kind::Request => position,
            _ => places.get(event.call as usize).copied().unwrap_or(u32::MAX),
        };
        if (event.position, event.call) == (position, call) {
            judge.feed(event);
        } else {
            judge.feed(&Event { position, call, ..event.clone() });
        }
    }
    let judgement = judge.finish();
    let results = &judgement.results;
    let ids = |test: fn(&layers::rules::RuleResult) -> bool| {
        results.iter().filter(|result| test(result)).map(|result| result.rule.id).collect()
    };
    Said {
        broken: ids(|result| result.broken > 0),
        exercised: ids(|result| result.exercised > 0),
        troubles: judgement.troubles,
    }
}
