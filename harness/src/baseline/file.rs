//! Reading a baseline file. Whatever is wrong with it is said with the line.

use std::collections::HashSet;
use std::ops::Range;

use serde::Deserialize;
use toml::Spanned;

use super::{Baseline, Entry, How};
use crate::outcome::{Verdict, What};
use crate::rules::{self, Kind};
use crate::scenario::named;
use crate::version::Version;

/// Why a baseline cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BaselineError {
    /// No such file, or no right to read it.
    #[error("cannot read the baseline `{file}`: {source}")]
    Unreadable {
        /// The file.
        file: String,
        /// What the system says.
        source: std::io::Error,
    },
    /// It is no baseline.
    #[error("{file}:{line}: {what}")]
    Wrong {
        /// The file.
        file: String,
        /// From 1.
        line: usize,
        /// What is wrong there.
        what: String,
    },
}

impl BaselineError {
    /// Something is wrong at this byte of a file's text.
    pub(crate) fn at(file: &str, text: &str, byte: usize, what: String) -> BaselineError {
        let before = text.get(..byte).unwrap_or(text);
        BaselineError::Wrong { file: file.to_owned(), line: before.matches('\n').count() + 1, what }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    server: Spanned<String>,
    version: Spanned<Version>,
    #[serde(default)]
    known: Vec<Spanned<Known>>,
}

/// Every one of these in every one of these scenarios.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Known {
    #[serde(default)]
    rules: Vec<Spanned<String>>,
    verdict: Option<Spanned<String>>,
    reason: Option<String>,
    scenarios: Vec<Spanned<String>>,
    how: Spanned<String>,
    seen: Option<u32>,
    tries: Option<u32>,
    why: Spanned<String>,
}

/// What is wrong, and where in the text.
type Wrong = (Range<usize>, String);

pub(crate) fn parse(
    text: &str,
    name: &str,
    server: &str,
    version: Version,
) -> Result<Baseline, BaselineError> {
    let wrong = |(place, what): Wrong| BaselineError::at(name, text, place.start, what);
    let file: File = toml::from_str(text)
        .map_err(|error| wrong((error.span().unwrap_or_default(), error.message().to_owned())))?;
    if file.server.get_ref() != server || *file.version.get_ref() != version {
        let of = format!("{} {}", file.server.get_ref(), file.version.get_ref());
        let what = format!("this is the baseline of {of}, and the server is {server} {version}");
        return Err(wrong((file.server.span(), what)));
    }
    let (mut entries, names) = (Vec::new(), named::all().into_iter().map(|one| one.name).collect());
    for known in &file.known {
        add(known, &names, &mut entries).map_err(wrong)?;
    }
    Ok(Baseline { entries })
}

fn add(known: &Spanned<Known>, names: &HashSet<String>, entries: &mut Vec<Entry>) -> Result<(), Wrong> {
    let (place, known) = (known.span(), known.get_ref());
    let how = how(known)?;
    if known.why.get_ref().trim().is_empty() {
        return Err((known.why.span(), "`why` is empty: say why this is the server's fault".to_owned()));
    }
    let whats = whats(known, &place)?;
    if known.scenarios.is_empty() {
        return Err((place, "`scenarios` is empty".to_owned()));
    }
    for scenario in &known.scenarios {
        let name = scenario.get_ref();
        if !names.contains(name) {
            let what = format!("there is no scenario `{name}`: `layers trace --list` lists them all");
            return Err((scenario.span(), what));
        }
        for what in &whats {
            let new = Entry::of(what, name, how, known.why.get_ref().trim());
            let is_new = |one: &Entry| {
                one.is_in(name) && new.knows(&one.id, one.actual.as_deref().unwrap_or_default())
            };
            if entries.iter().any(|one| one.covers(what, name) || is_new(one)) {
                return Err((scenario.span(), format!("`{what}` in `{name}` stands here twice")));
            }
            entries.push(new);
        }
    }
    Ok(())
}

fn how(known: &Known) -> Result<How, Wrong> {
    match (known.how.get_ref().as_str(), known.seen, known.tries) {
        ("deterministic", None, None) => Ok(How::Deterministic),
        ("race", Some(seen), Some(tries)) if seen <= tries && tries > 0 => Ok(How::Race { seen, tries }),
        ("race", ..) => {
            Err((known.how.span(), "a race says how often it was `seen` in how many `tries`".to_owned()))
        }
        ("deterministic", ..) => {
            Err((known.how.span(), "`seen` and `tries` are for a race: this always happens".to_owned()))
        }
        (other, ..) => {
            Err((known.how.span(), format!("`how` is `deterministic` or `race`, and not `{other}`")))
        }
    }
}

fn whats(known: &Known, place: &Range<usize>) -> Result<Vec<What>, Wrong> {
    match (&known.verdict, &known.reason) {
        (None, None) if !known.rules.is_empty() => known.rules.iter().map(rule).collect(),
        (Some(verdict), Some(reason)) if known.rules.is_empty() => {
            let verdict = match verdict.get_ref().as_str() {
                "crash" => Verdict::Crash(reason.clone()),
                "hang" => Verdict::Hang(reason.clone()),
                other => {
                    let what = format!("`verdict` is `crash` or `hang`, and not `{other}`");
                    return Err((verdict.span(), what));
                }
            };
            Ok(vec![What::Verdict(verdict)])
        }
        _ => Err((place.clone(), "an entry has either `rules`, or `verdict` with `reason`".to_owned())),
    }
}

fn rule(id: &Spanned<String>) -> Result<What, Wrong> {
    let name = id.get_ref();
    let wrong = |what| Err((id.span(), what));
    match rules::find(name) {
        None => wrong(format!("there is no rule `{name}`: `layers rules` lists them all")),
        Some(rule) if !matches!(rule.kind, Kind::Required | Kind::Forbidden) => {
            wrong(format!("`{name}` is {}: that it is broken fails nothing", rule.kind))
        }
        Some(rule) if !rule.party.comes_with_server() => {
            wrong(format!("`{name}` is the duty of a {}, not of the server", rule.party))
        }
        Some(rule) => Ok(What::Rule(rule)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::Party;

    const GOOD: &str = r#"server = "nbdkit"
version = "1.32.5"

[[known]]
rules = ["close.exactly-once", "close.any-disconnect"]
scenarios = ["end/sigterm/connected", "captive/connected"]
how = "deterministic"
why = "it never closes"

[[known]]
verdict = "crash"
reason = "the server was killed by signal 6"
scenarios = ["race/hang-up-with-requests"]
how = "race"
seen = 13
tries = 25
why = "it aborts"
"#;

    /// How the last entry of `GOOD` comes about.
    const RACE: &str = "how = \"race\"\nseen = 13\ntries = 25";

    fn read(text: &str) -> Result<Baseline, String> {
        parse(text, "b.toml", "nbdkit", Version(1, 32, 5)).map_err(|error| error.to_string())
    }

    #[test]
    fn an_entry_stands_for_each_of_its_rules_in_each_of_its_scenarios() {
        let baseline = read(GOOD).unwrap();
        assert_eq!(baseline.entries.len(), 5);
        let what = What::Rule(rules::find("close.any-disconnect").unwrap());
        assert_eq!(baseline.find(&what, "captive/connected").unwrap().how, How::Deterministic);
        assert_eq!(baseline.find(&what, "classical"), None);
        let crash = What::Verdict(Verdict::Crash("the server was killed by signal 6".to_owned()));
        let entry = baseline.find(&crash, "race/hang-up-with-requests").unwrap();
        assert_eq!(entry.how, How::Race { seen: 13, tries: 25 });
    }

    #[test]
    fn a_crash_that_chance_decides_is_known_by_any_fatal_signal() {
        let crash =
            |signal| What::Verdict(Verdict::Crash(format!("the server was killed by signal {signal}")));
        let (race, always) =
            (read(GOOD).unwrap(), read(&GOOD.replacen(RACE, "how = \"deterministic\"", 1)).unwrap());
        let scenario = "race/hang-up-with-requests";
        for signal in [4, 6, 7, 8, 11] {
            assert_eq!(race.find(&crash(signal), scenario), race.entries.last());
            assert_eq!(always.find(&crash(signal), scenario).is_some(), signal == 6, "{signal}");
        }
        assert_eq!(race.find(&crash(6), "classical"), None);
        let hang = What::Verdict(Verdict::Hang("the server was killed by signal 6".to_owned()));
        assert_eq!(race.find(&hang, scenario), None);
        let (_, entry) = GOOD.rsplit_once("[[known]]").unwrap();
        let again = format!("{GOOD}[[known]]{}", entry.replacen("signal 6", "signal 11", 1));
        assert!(read(&again).unwrap_err().contains("twice"));
    }

    /// `GOOD` with something else in it must be refused, on this line, with this in the message.
    #[track_caller]
    fn refused(from: &str, to: &str, line: usize, said: &str) {
        assert!(GOOD.contains(from));
        let error = read(&GOOD.replacen(from, to, 1)).unwrap_err();
        assert!(error.starts_with(&format!("b.toml:{line}: ")) && error.contains(said), "{error}");
    }

    #[test]
    fn what_is_wrong_is_said_with_the_line() {
        refused("close.exactly-once", "close.exactly-onec", 5, "no rule `close.exactly-onec`");
        refused("captive/connected", "captive/conected", 6, "no scenario `captive/conected`");
        refused("\"it never closes\"", "\" \"", 8, "`why` is empty");
        refused("why = \"it never closes\"\n", "", 4, "why");
        refused("\"deterministic\"", "\"always\"", 7, "not `always`");
        refused("seen = 13\n", "", 14, "how often it was `seen`");
        refused("seen = 13", "seen = 26", 14, "how often it was `seen`");
        refused("verdict = \"crash\"", "verdict = \"pass\"", 11, "not `pass`");
        refused("reason = \"the server was killed by signal 6\"\n", "", 10, "`verdict` with `reason`");
        refused("seen = 13", "sene = 13", 15, "sene");
        refused("version = \"1.32.5\"", "version = \"1.48.1\"", 1, "the server is nbdkit 1.32.5");
        refused("\"captive/connected\"", "\"end/sigterm/connected\"", 6, "twice");
    }

    #[test]
    fn only_what_fails_a_run_can_be_known() {
        let observed = rules::all().find(|rule| rule.kind == Kind::Observed).unwrap().id;
        refused("close.exactly-once", observed, 5, "is observed");
        let ours = rules::all().find(|rule| rule.party == Party::Filter).unwrap().id;
        refused("close.exactly-once", ours, 5, "is the duty of a filter");
    }
}
