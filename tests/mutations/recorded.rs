//! Traces of the named scenarios, recorded once from a real nbdkit, and how a changed one is judged.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::OnceLock;

use layers::rules::{Checker, Judge, Rule, Trouble, of};
use layers::run::Run;
use layers::scenario::{Player, Scenario, named};
use layers::server::Which;
use layers::server::nbdkit::Nbdkit;
use layers::server::process::become_subreaper;
use layers::version::Version;
use layers_trace::{Event, Field, Kind};

use super::side_by_side::each;
use super::stored;

/// Names another nbdkit than the one at hand.
const SERVER: &str = "LAYERS_SERVER";

pub(crate) type Trace = Vec<Event>;
pub(crate) type Ids = BTreeSet<&'static str>;

/// One recorded run.
#[derive(Clone)]
pub(crate) struct Recorded {
    /// The scenario.
    pub(crate) name: String,
    pub(crate) trace: Trace,
    /// Of the server.
    pub(crate) version: Version,
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

impl Recorded {
    pub(crate) fn new(name: String, trace: Trace) -> Recorded {
        let run: Run = serde_json::from_slice(&trace[0].text(Field::Json).unwrap().bytes).unwrap();
        let Said { broken, exercised, troubles } = judged(&trace, &judged_rules(), run.version);
        let holds = exercised.difference(&broken).copied().collect();
        Recorded { name, trace, version: run.version, holds, broken, troubles }
    }

    /// What it is called where it is stored.
    pub(crate) fn file_name(&self) -> String {
        let name = self.name.replace('/', "-");
        if std::env::var_os(SERVER).is_some() { format!("{name}-{}", self.version) } else { name }
    }
}

/// All of them.
pub(crate) struct Recordings {
    pub(crate) all: Vec<Recorded>,
}

impl Recordings {
    /// Of the server.
    pub(crate) fn version(&self) -> Version {
        self.all[0].version
    }
}

/// Every rule of nbdkit's that is judged from a trace.
pub(crate) fn judged_rules() -> Vec<&'static Rule> {
    of(Which::Nbdkit).filter(|rule| matches!(rule.check, Checker::Trace(_))).collect()
}

/// Records every named scenario that is no race, the first time that it is asked for; on the nbdkit at hand, or on the one
/// that LAYERS_SERVER names.
pub(crate) fn recordings() -> &'static Recordings {
    static RECORDINGS: OnceLock<Recordings> = OnceLock::new();
    RECORDINGS.get_or_init(|| {
        become_subreaper().unwrap();
        let path = std::env::var_os(SERVER).map(PathBuf::from);
        let server = Nbdkit::find(path.as_deref()).unwrap();
        let scenarios: Vec<_> =
            named::of(Which::Nbdkit).into_iter().filter(|scenario| !scenario.is_race()).collect();
        let all =
            each(&scenarios, 1, |scenario| Recorded::new(scenario.name.clone(), trace_of(scenario, &server)));
        Recordings { all }
    })
}

pub(crate) fn root() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

pub(crate) fn traces_folder() -> PathBuf {
    root().join("fixtures/traces")
}

/// The traces that are stored beside the tests, by name.
pub(crate) fn stored_traces() -> Vec<Recorded> {
    let Ok(folder) = std::fs::read_dir(traces_folder()) else { return Vec::new() };
    let mut files: Vec<PathBuf> = folder.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    each(&files, 1, |file| {
        let name = file.file_stem().unwrap().to_str().unwrap().to_owned();
        Recorded::new(name, stored::read(&std::fs::read_to_string(file).unwrap()))
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
