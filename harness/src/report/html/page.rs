//! What stands on the page, whatever was judged.

use crate::baseline::Entry;
use crate::campaign::event_budget::Events;
use crate::outcome::{Exit, Promise};
use crate::rules::{self, CallRef, Rule};

/// A whole page.
#[derive(Debug)]
pub(super) struct Page {
    /// What was judged.
    pub(super) title: String,
    /// The verb, and what else tells this report from another.
    pub(super) about: String,
    /// What the run ended with.
    pub(super) exit: Exit,
    /// With which code the command ends, where it does so because of this.
    pub(super) code: Option<Exit>,
    /// What that means here.
    pub(super) meaning: String,
    /// What else is worth knowing, each with its name.
    pub(super) facts: Vec<(&'static str, String)>,
    /// Those that count first.
    pub(super) findings: Vec<Finding>,
    /// The runs that are drawn.
    pub(super) runs: Vec<Run>,
    /// The grid of verdicts.
    pub(super) sections: Vec<Section>,
}

/// A run that is drawn.
#[derive(Clone, Debug)]
pub(super) struct Run {
    /// The scenario, or the check that it was played for.
    pub(super) name: String,
    /// Its events.
    pub(super) events: Events,
}

/// Something that is broken.
#[derive(Debug, Default)]
pub(super) struct Finding {
    /// Of the rule or check; or what has become of the server.
    pub(super) id: String,
    /// The word of its verdict.
    pub(super) word: &'static str,
    /// It does not count: the baseline has it.
    pub(super) known: Option<String>,
    /// Where and how often.
    pub(super) place: String,
    /// What holds.
    pub(super) statement: String,
    /// Where it is promised.
    pub(super) clause: String,
    /// Who has failed.
    pub(super) at_fault: String,
    /// What was expected here.
    pub(super) expected: String,
    /// What came instead.
    pub(super) actual: String,
    /// What to do about it.
    pub(super) fix: String,
    /// What the evidence tells beyond that.
    pub(super) hint: Option<String>,
    /// What the server and the subject have said.
    pub(super) said: Vec<String>,
    /// What else has met the same thing.
    pub(super) also: String,
    /// The calls that conflict.
    pub(super) calls: Vec<CallRef>,
    /// What is to be said of each; may be empty.
    pub(super) marks: Vec<Option<String>>,
    /// The command that shows it again.
    pub(super) reproduce: Option<String>,
    /// What a program beside the server has written meanwhile.
    pub(super) wrote: Option<String>,
    /// All scenarios in which it shows itself, where there are several.
    pub(super) scenarios: Vec<String>,
    /// What is seen only with it.
    pub(super) with: Vec<String>,
    /// Its run, by number.
    pub(super) run: Option<usize>,
}

impl Finding {
    /// This is broken.
    pub(super) fn of(promise: Promise) -> Finding {
        Finding {
            id: promise.id.to_owned(),
            statement: promise.statement.to_owned(),
            clause: promise.clause.to_owned(),
            fix: promise.fix.to_owned(),
            ..Finding::default()
        }
    }

    /// This rule is broken, the first time like this.
    pub(super) fn of_rule(rule: &Rule, first: Option<&rules::Finding>) -> Finding {
        let finding = Finding { at_fault: rule.party.to_string(), ..Finding::of(rule.into()) };
        let Some(first) = first else { return finding };
        Finding {
            at_fault: first.party.to_string(),
            expected: first.expected.clone(),
            actual: first.actual.clone(),
            calls: first.calls.clone(),
            ..finding
        }
    }

    /// What is to be said of a call, by its number.
    pub(super) fn mark(&self, number: usize) -> Option<&String> {
        self.marks.get(number)?.as_ref()
    }

    /// Positions of the calls that conflict, as the page's script reads them.
    pub(super) fn positions(&self) -> String {
        let positions: Vec<String> = self.calls.iter().map(|call| call.position.to_string()).collect();
        positions.join(",")
    }
}

/// Verdicts of one kind: of rules, checks, scenarios.
#[derive(Debug)]
pub(super) struct Section {
    /// What it lists.
    pub(super) name: String,
    /// In their order.
    pub(super) families: Vec<Family>,
}

/// Verdicts on what has a name in common.
#[derive(Debug)]
pub(super) struct Family {
    /// That.
    pub(super) name: String,
    /// In their order.
    pub(super) cells: Vec<Cell>,
}

/// One verdict.
#[derive(Clone, Debug)]
pub(super) struct Cell {
    /// Of the rule, check or scenario.
    pub(super) id: String,
    /// The word.
    pub(super) word: &'static str,
    /// What it is about, where that is written down.
    pub(super) statement: &'static str,
    /// What else is to be said, a line each.
    pub(super) lines: Vec<String>,
    /// Its findings, by number.
    pub(super) findings: Vec<usize>,
}

impl Cell {
    /// An entry of the baseline that did not happen.
    fn stale(entry: &Entry) -> Cell {
        let (statement, lines) = ("The baseline lists it, and it did not happen.", vec![entry.why.clone()]);
        Cell { id: entry.to_string(), word: "stale", statement, lines, findings: Vec::new() }
    }

    /// What is left of the id when the family is known.
    pub(super) fn short<'a>(&'a self, family: &Family) -> &'a str {
        let rest = self.id.strip_prefix(family.name.as_str());
        rest.and_then(|rest| rest.strip_prefix(['.', '/'])).unwrap_or(&self.id)
    }
}

impl Section {
    /// These cells, by the first word of their ids.
    pub(super) fn new(name: impl Into<String>, cells: impl IntoIterator<Item = Cell>) -> Section {
        let mut families: Vec<Family> = Vec::new();
        for cell in cells {
            let first = cell.id.split(['.', '/']).next().unwrap_or_default().to_owned();
            match families.iter_mut().find(|family| family.name == first) {
                Some(family) => family.cells.push(cell),
                None => families.push(Family { name: first, cells: vec![cell] }),
            }
        }
        Section { name: name.into(), families }
    }

    /// What the baseline has wrong, if anything.
    pub(super) fn baseline(stale: &[Entry]) -> Option<Section> {
        let cells = || stale.iter().map(Cell::stale).collect();
        (!stale.is_empty()).then(|| Section::of_one_family("baseline", cells()))
    }

    /// These cells, which have nothing more in common than that.
    pub(super) fn of_one_family(name: impl Into<String>, cells: Vec<Cell>) -> Section {
        Section { name: name.into(), families: vec![Family { name: String::new(), cells }] }
    }
}

impl Page {
    /// One page of those of all sets of parameters, which end with this code together; `None` of none.
    pub(super) fn of_sets(pages: Vec<Page>, exit: Exit) -> Option<Page> {
        let several = pages.len() > 1;
        let joined = pages.into_iter().reduce(Page::and)?;
        let meaning = if several { exit.meaning().to_owned() } else { joined.meaning };
        Some(Page { exit, code: Some(exit), meaning, ..joined })
    }

    /// This page with another one behind it, whose findings and runs have other numbers then.
    fn and(mut self, other: Page) -> Page {
        let (findings, runs) = (self.findings.len(), self.runs.len());
        self.title = format!("{}; {}", self.title, other.title);
        self.facts.extend(other.facts);
        self.runs.extend(other.runs);
        let moved = |one: Finding| Finding { run: one.run.map(|run| run + runs), ..one };
        self.findings.extend(other.findings.into_iter().map(moved));
        for mut section in other.sections {
            let cells = section.families.iter_mut().flat_map(|family| &mut family.cells);
            cells.flat_map(|cell| &mut cell.findings).for_each(|finding| *finding += findings);
            self.sections.push(section);
        }
        self
    }

    /// The number of this run, which is drawn from now on.
    pub(super) fn draw(&mut self, name: &str, events: Option<&Events>) -> Option<usize> {
        let events = events?;
        let same = |run: &Run| std::sync::Arc::ptr_eq(&run.events, events);
        Some(self.runs.iter().position(same).unwrap_or_else(|| {
            self.runs.push(Run { name: name.to_owned(), events: events.clone() });
            self.runs.len() - 1
        }))
    }

    /// What a link to this finding says.
    pub(super) fn label(&self, number: &usize) -> String {
        self.findings.get(*number).map_or(String::new(), |finding| {
            let Finding { id, place, actual, .. } = finding;
            if place.is_empty() { format!("{id}: {actual}") } else { format!("{id} {place}") }
        })
    }

    /// How many findings are in the baseline.
    pub(super) fn known(&self) -> usize {
        self.findings.iter().filter(|finding| finding.known.is_some()).count()
    }

    /// The finding of this number is the first of those: they come last.
    pub(super) fn is_first_known(&self, number: &usize) -> bool {
        self.findings.iter().position(|finding| finding.known.is_some()) == Some(*number)
    }

    /// The words of the verdicts in the grid, each with how often it comes, the gravest first.
    pub(super) fn words(&self) -> Vec<(&'static str, usize)> {
        let cells = || self.sections.iter().flat_map(|section| &section.families).flat_map(|one| &one.cells);
        let count = |word: &str| cells().filter(|cell| cell.word == word).count();
        let words = WORDS.iter().map(|word| (*word, count(word)));
        words.filter(|(_, count)| *count > 0).collect()
    }
}

/// All words of verdicts, the gravest first.
pub(super) const WORDS: &[&str] = &[
    "fail",
    "crash",
    "hang",
    "harness-error",
    "stale",
    "inconclusive",
    "warn",
    "known",
    "pass",
    "skipped",
    "not-applicable",
];
