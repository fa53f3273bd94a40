//! Writing a baseline file from a run.

use super::{Baseline, Entry, How, What};
use crate::conform::{Conformance, Fault, Standing};
use crate::version::Version;

/// The text of `old` after this run: without what is stale, with what is new, and with the rates of races added up.
///
/// What is new has an empty `why`, with which the file is refused until somebody has written one.
pub fn updated(old: &Baseline, server: &str, version: Version, run: &Conformance) -> String {
    let kept = old.entries.iter().filter(|entry| !run.stale.contains(entry));
    let kept = kept.map(|entry| Entry { how: how(entry, run), ..entry.clone() });
    let new = run.faults.iter().filter(|fault| fault.standing == Standing::New);
    let new = new.map(|fault| entry(fault, run));
    let mut groups: Vec<Group> = Vec::new();
    for entry in kept.chain(new) {
        let what = Group {
            whats: vec![entry.what],
            scenarios: vec![entry.scenario],
            how: entry.how,
            why: entry.why,
        };
        gather(&mut groups, what, |one, other| one.scenarios == other.scenarios && one.is_of_rules(other));
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
    let fault = run.faults.iter().find(|fault| fault.what == entry.what && fault.scenario == entry.scenario);
    let played = run.scenarios.iter().find(|scenario| scenario.name == entry.scenario);
    How::Race {
        seen: seen + fault.map_or(0, |fault| fault.times),
        tries: tries + fault.map(|fault| fault.tries).or(played.map(|played| played.tries)).unwrap_or(0),
    }
}

fn entry(fault: &Fault, run: &Conformance) -> Entry {
    let race = run.scenarios.iter().any(|scenario| scenario.name == fault.scenario && scenario.race);
    let how = if race || fault.times < fault.tries {
        How::Race { seen: fault.times, tries: fault.tries }
    } else {
        How::Deterministic
    };
    Entry { what: fault.what.clone(), scenario: fault.scenario.clone(), how, why: String::new() }
}

/// Entries that are written as one.
struct Group {
    whats: Vec<What>,
    scenarios: Vec<String>,
    how: How,
    why: String,
}

impl Group {
    fn is_of_rules(&self, other: &Group) -> bool {
        let rules = |group: &Group| group.whats.iter().all(|what| matches!(what, What::Rule(_)));
        rules(self) && rules(other)
    }

    fn text(&self) -> String {
        let mut lines = vec!["[[known]]".to_owned()];
        match self.whats.first() {
            Some(What::Verdict(verdict)) => {
                lines.push(format!("verdict = {}", quoted(verdict.word())));
                lines.push(format!("reason = {}", quoted(verdict.reason().unwrap_or_default())));
            }
            _ => lines.push(list("rules", self.whats.iter().map(What::to_string))),
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
