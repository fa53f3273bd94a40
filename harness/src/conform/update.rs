//! Writing a baseline file from a run.

use super::Conformance;
use crate::baseline::{Baseline, Entry, How};
use crate::outcome::{Fault, Standing};
use crate::version::Version;

/// The text of `old` after this run: without what is stale, with what is new, and with the rates of races added up.
///
/// What is new has an empty `why`, with which the file is refused until somebody has written one.
pub fn updated(old: &Baseline, server: &str, version: Version, run: &Conformance) -> String {
    let kept = old.entries.iter().filter(|entry| !run.stale.contains(entry));
    let kept = kept.map(|entry| Entry { how: how(entry, run), ..entry.clone() });
    let mut groups: Vec<Group> = Vec::new();
    for entry in kept.chain(new(run)) {
        let group = Group {
            whats: vec![(entry.id, entry.actual)],
            scenarios: entry.scenario.into_iter().collect(),
            how: entry.how,
            why: entry.why,
        };
        gather(&mut groups, group, |one, other| one.scenarios == other.scenarios && one.is_of_rules(other));
    }
    let mut merged: Vec<Group> = Vec::new();
    for group in groups {
        gather(&mut merged, group, |one, other| one.whats == other.whats);
    }
    let head = format!("server = \"{server}\"\nversion = \"{version}\"\n");
    merged.iter().fold(head, |text, group| text + "\n" + &group.text())
}

/// The rate of a race, with the tries of this run added.
fn how(entry: &Entry, run: &Conformance) -> How {
    let How::Race { seen, tries } = entry.how else { return entry.how };
    let known = run.faults.iter().filter(|fault| entry.covers(&fault.what, &fault.scenario));
    let (times, of) = known.fold((0, None), |(times, _), fault| (times + fault.times, Some(fault.tries)));
    let played = run.scenarios.iter().find(|scenario| entry.is_in(&scenario.name));
    How::Race { seen: seen + times, tries: tries + of.or(played.map(|played| played.tries)).unwrap_or(0) }
}

/// Entries for what the baseline does not know: one for all the signals in which the crash of a race shows itself.
fn new(run: &Conformance) -> Vec<Entry> {
    let mut entries: Vec<Entry> = Vec::new();
    for fault in run.faults.iter().filter(|fault| fault.standing == Standing::New) {
        let known = entries.iter_mut().find(|entry| entry.covers(&fault.what, &fault.scenario));
        match known.map(|entry| &mut entry.how) {
            Some(How::Race { seen, .. }) => *seen += fault.times,
            _ => entries.push(entry(fault, run)),
        }
    }
    entries
}

fn entry(fault: &Fault, run: &Conformance) -> Entry {
    let race = run.scenarios.iter().any(|scenario| scenario.name == fault.scenario && scenario.race);
    let how = if race || fault.times < fault.tries {
        How::Race { seen: fault.times, tries: fault.tries }
    } else {
        How::Deterministic
    };
    Entry::of(&fault.what, &fault.scenario, how, "")
}

/// Entries that are written as one.
struct Group {
    /// Rules, or how the server crashes or hangs.
    whats: Vec<(String, Option<String>)>,
    scenarios: Vec<String>,
    how: How,
    why: String,
}

impl Group {
    fn is_of_rules(&self, other: &Group) -> bool {
        let rules = |group: &Group| group.whats.iter().all(|(_, how)| how.is_none());
        rules(self) && rules(other)
    }

    fn text(&self) -> String {
        let mut lines = vec!["[[known]]".to_owned()];
        match self.whats.first() {
            Some((verdict, Some(reason))) => {
                lines.push(format!("verdict = {}", quoted(verdict)));
                lines.push(format!("reason = {}", quoted(reason)));
            }
            _ => lines.push(list("rules", self.whats.iter().map(|(rule, _)| rule.clone()))),
        }
        lines.push(list("scenarios", self.scenarios.iter().cloned()));
        match self.how {
            How::Deterministic => lines.push("how = \"deterministic\"".to_owned()),
            How::Race { seen, tries } => {
                lines.extend([
                    "how = \"race\"".to_owned(),
                    format!("seen = {seen}"),
                    format!("tries = {tries}"),
                ]);
            }
        }
        lines.push(format!("why = {}\n", quoted(&self.why)));
        lines.join("\n")
    }
}

/// Adds to the group that it `fits`, where there is one with the same explanation.
fn gather(groups: &mut Vec<Group>, new: Group, fits: impl Fn(&Group, &Group) -> bool) {
    let same = |one: &&mut Group| one.how == new.how && one.why == new.why && fits(one, &new);
    match groups.iter_mut().find(same) {
        Some(group) => {
            group
                .whats
                .extend(new.whats.into_iter().filter(|what| !group.whats.contains(what)).collect::<Vec<_>>());
            let scenarios = new.scenarios.into_iter().filter(|name| !group.scenarios.contains(name));
            group.scenarios.extend(scenarios.collect::<Vec<_>>());
        }
        None => groups.push(new),
    }
}

fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}

fn list(key: &str, items: impl Iterator<Item = String>) -> String {
    let items: Vec<String> = items.map(|item| format!("    {},\n", quoted(&item))).collect();
    match &items[..] {
        [one] => format!("{key} = [{}]", one.trim().trim_end_matches(',')),
        many => format!("{key} = [\n{}]", many.concat()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::baseline::parse;
    use crate::conform::ScenarioVerdict;
    use crate::outcome::{Verdict, What};
    use crate::rules;

    const VERSION: Version = Version(1, 32, 5);

    fn broken(id: &str) -> What {
        What::Rule(rules::find(id).unwrap())
    }

    fn entry(what: What, scenario: &str, how: How) -> Entry {
        Entry::of(&what, scenario, how, "a \"test\"")
    }

    fn fault(what: What, scenario: &str, times: u32, tries: u32, standing: Standing) -> Fault {
        Fault {
            what,
            scenario: scenario.to_owned(),
            times,
            tries,
            first: None,
            at: 0,
            run: None,
            wrote: None,
            standing,
        }
    }

    fn scenario(name: &str, race: bool, tries: u32) -> ScenarioVerdict {
        let (name, verdict) = (name.to_owned(), Verdict::Pass);
        let (astray, unclear, controls) = Default::default();
        ScenarioVerdict { name, verdict, race, unclear, tries, astray, events: 0, controls }
    }

    fn run(faults: Vec<Fault>, stale: Vec<Entry>) -> Conformance {
        let scenarios =
            vec![scenario("classical", false, 1), scenario("race/hang-up-with-requests", true, 25)];
        Conformance {
            rules: Vec::new(),
            scenarios,
            faults,
            known: Vec::new(),
            stale,
            judged: true,
            wrapped: Default::default(),
            not_played: Vec::new(),
            unjudged: Vec::new(),
            halt: None,
        }
    }

    #[test]
    fn what_was_written_is_read_again() {
        let crash = What::Verdict(Verdict::Crash("the server was killed by signal 6".to_owned()));
        let entries = vec![
            entry(broken("close.last"), "classical", How::Deterministic),
            entry(broken("close.exactly-once"), "classical", How::Deterministic),
            entry(broken("close.last"), "depth/1", How::Deterministic),
            entry(crash, "race/hang-up-with-requests", How::Race { seen: 3, tries: 75 }),
        ];
        let old = Baseline { entries };
        let nothing = Conformance { scenarios: Vec::new(), ..run(Vec::new(), Vec::new()) };
        let read = parse(&updated(&old, "nbdkit", VERSION, &nothing), "b.toml", "nbdkit", VERSION).unwrap();
        assert_eq!(read.entries.len(), old.entries.len());
        assert!(old.entries.iter().all(|entry| read.entries.contains(entry)), "{read:?}");
    }

    #[test]
    fn what_is_stale_goes_and_what_is_new_comes_without_a_reason() {
        let old = Baseline { entries: vec![entry(broken("close.last"), "classical", How::Deterministic)] };
        let new = fault(broken("close.exactly-once"), "classical", 1, 1, Standing::New);
        let habit = fault(broken("close.after-inflight"), "classical", 1, 1, Standing::Habit);
        let text = updated(&old, "nbdkit", VERSION, &run(vec![new, habit], old.entries.clone()));
        assert!(!text.contains("close.last") && !text.contains("close.after-inflight"), "{text}");
        assert!(text.contains("rules = [\"close.exactly-once\"]"), "{text}");
        assert!(text.contains("how = \"deterministic\"\nwhy = \"\""), "{text}");
    }

    #[test]
    fn the_signals_of_a_race_add_up_to_one_entry() {
        let crash =
            |signal| What::Verdict(Verdict::Crash(format!("the server was killed by signal {signal}")));
        let race = "race/hang-up-with-requests";
        let both = |standing: Standing| {
            vec![fault(crash(11), race, 2, 25, standing.clone()), fault(crash(7), race, 1, 25, standing)]
        };
        let text = updated(&Baseline::default(), "nbdkit", VERSION, &run(both(Standing::New), Vec::new()));
        assert!(text.contains("signal 11") && text.contains("seen = 3\ntries = 25\n"), "{text}");
        assert!(!text.contains("signal 7"), "{text}");
        let old = Baseline { entries: vec![entry(crash(11), race, How::Race { seen: 3, tries: 75 })] };
        let known = Standing::Known { why: "a test".to_owned(), race: true };
        let text = updated(&old, "nbdkit", VERSION, &run(both(known), Vec::new()));
        assert!(text.contains("seen = 6\ntries = 100\n"), "{text}");
    }

    #[test]
    fn rates_of_races_add_up() {
        let (what, race) = (broken("close.last"), "race/hang-up-with-requests");
        let old = Baseline { entries: vec![entry(what.clone(), race, How::Race { seen: 3, tries: 75 })] };
        let known = Standing::Known { why: "a test".to_owned(), race: true };
        let text = updated(&old, "nbdkit", VERSION, &run(vec![fault(what, race, 2, 25, known)], Vec::new()));
        assert!(text.contains("seen = 5\ntries = 100\n"), "{text}");
        let text = updated(&old, "nbdkit", VERSION, &run(Vec::new(), Vec::new()));
        assert!(text.contains("seen = 3\ntries = 100\n"), "{text}");
        let new = fault(broken("close.last"), race, 25, 25, Standing::New);
        let text = updated(&Baseline::default(), "nbdkit", VERSION, &run(vec![new], Vec::new()));
        assert!(text.contains("how = \"race\"\nseen = 25\ntries = 25\n"), "{text}");
    }
}
