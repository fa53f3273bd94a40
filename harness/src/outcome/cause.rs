//! What was found, by cause: one cause is one finding, in however many scenarios it shows itself.

use std::collections::BTreeMap;

use super::fault::Fault;
use super::standing::Standing;
use super::verdict::Verdict;
use super::what::What;
use crate::rules::Finding;
use layers_trace::Callback;

/// What tells one cause from another: the rule and what was expected, or the verdict and its reason, without the numbers and
/// names that differ from scenario to scenario.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cause(String);

impl Cause {
    /// The cause of this fault, as far as it shows.
    pub fn of(fault: &Fault) -> Cause {
        let said = match (&fault.what, &fault.first) {
            (What::Rule(_), Some(first)) => kind(&first.expected),
            (What::Rule(_), None) => String::new(),
            // Another signal is another crash.
            (What::Verdict(Verdict::Crash(reason)), _) => reason.clone(),
            (What::Verdict(verdict), _) => shape(verdict.reason().unwrap_or_default()),
        };
        Cause(format!("{} {}: {said}", fault.standing.word(), fault.what))
    }
}

/// The text with `#` for each number, and `…` for what stands in quotation marks.
pub(crate) fn shape(text: &str) -> String {
    let (mut shape, mut letters) = (String::new(), text.chars().peekable());
    while let Some(letter) = letters.next() {
        match letter {
            '0'..='9' => {
                while letters.next_if(char::is_ascii_alphanumeric).is_some() {}
                shape.push('#');
            }
            '"' => {
                while letters.next_if(|letter| *letter != '"').is_some() {}
                letters.next();
                shape.push('…');
            }
            letter => shape.push(letter),
        }
    }
    shape
}

fn said(finding: &Finding) -> String {
    format!("expected {}; actual {}", finding.expected, finding.actual)
}

/// The shape of a text in which callbacks, errors and values are told from each other no more than numbers are: what is
/// wrong with one of them is wrong with each.
fn kind(text: &str) -> String {
    let mut kind = String::new();
    for word in listless(shape(text))
        .split_inclusive(|letter: char| !(letter.is_ascii_alphanumeric() || letter == '_'))
    {
        let end = word.trim_end_matches(|letter: char| !(letter.is_ascii_alphanumeric() || letter == '_'));
        let is_error =
            end.len() > 2 && end.starts_with('E') && end.bytes().all(|byte| byte.is_ascii_uppercase());
        let is_callback = Callback::ALL.iter().any(|callback| callback.name() == end);
        let is_value = kind.ends_with('=');
        kind.push_str(if is_error || is_callback || is_value { "_" } else { end });
        kind.push_str(word.get(end.len()..).unwrap_or_default());
    }
    kind
}

/// A list of layers is as long as the stack is deep.
fn listless(mut shape: String) -> String {
    while shape.contains("L#, L#") {
        shape = shape.replace("L#, L#", "L#");
    }
    shape
}

/// The faults of one cause.
#[derive(Clone, Debug)]
pub struct Group<'a> {
    /// The first scenario's first; never none.
    pub faults: Vec<&'a Fault>,
    /// Causes that show themselves only in scenarios of this one, and never before it.
    pub with: Vec<Group<'a>>,
}

impl<'a> Group<'a> {
    /// The scenarios, in order.
    pub fn scenarios(&self) -> Vec<&'a str> {
        self.faults.iter().map(|fault| fault.scenario.as_str()).collect()
    }

    /// The one that is shown.
    pub fn example(&self) -> Option<&'a Fault> {
        self.faults.first().copied()
    }

    /// The first fault of each other wording: of another callback, or with another error.
    pub fn others(&self) -> Vec<&'a Fault> {
        let wording = |fault: &Fault| fault.first.as_ref().map(|first| shape(&said(first)));
        let mut seen: Vec<_> = self.example().map(wording).into_iter().collect();
        let mut is_new = |fault: &&Fault| {
            let wording = wording(fault);
            let is_new = !seen.contains(&wording);
            seen.push(wording);
            is_new
        };
        self.faults.iter().copied().filter(|fault| is_new(fault)).collect()
    }

    /// All faults in it, also of what only comes with it.
    pub fn all(&self) -> impl Iterator<Item = &'a Fault> {
        self.faults.iter().chain(self.with.iter().flat_map(|with| &with.faults)).copied()
    }

    /// Where it shows itself: the only one of these places, or how many, and the first.
    pub fn place(&self, places: &str) -> Option<String> {
        let first = &self.example()?.scenario;
        Some(match self.faults.len() {
            1 => first.clone(),
            many => format!("{many} {places}s, first {first}"),
        })
    }

    /// What was found, and in how many of these places.
    pub fn heading(&self, places: &str) -> Option<String> {
        let (what, many) = (&self.example()?.what, self.faults.len());
        Some(format!("{what} in {many} {places}{}", if many == 1 { "" } else { "s" }))
    }

    fn places(&self) -> BTreeMap<&'a str, u32> {
        self.faults.iter().map(|fault| (fault.scenario.as_str(), fault.at)).collect()
    }

    fn is_crash(&self) -> bool {
        self.example().is_some_and(|fault| matches!(fault.what, What::Verdict(Verdict::Crash(_))))
    }

    /// What counts most comes first.
    fn rank(&self) -> (u8, usize) {
        let standing = match self.example().map(|fault| &fault.standing) {
            Some(Standing::New) if self.is_crash() => 0,
            Some(Standing::New) => 1,
            Some(Standing::Ours) => 2,
            Some(Standing::Habit) => 3,
            _ => 4,
        };
        (standing, usize::MAX - self.faults.len())
    }

    fn is_new(&self) -> bool {
        self.example().is_some_and(|fault| fault.standing == Standing::New)
    }

    /// It can stand under another cause: a crash never does, nor what is our own fault.
    fn can_follow(&self) -> bool {
        !self.is_crash()
            && self.example().is_some_and(|fault| {
                matches!(fault.standing, Standing::New | Standing::Habit | Standing::Follows)
            })
    }
}

/// These faults by their causes, the gravest first, each with the causes that only ever come with it.
pub fn groups<'a>(faults: impl IntoIterator<Item = &'a Fault>) -> Vec<Group<'a>> {
    let mut all: Vec<(Cause, Group<'a>)> = Vec::new();
    for fault in faults {
        let cause = Cause::of(fault);
        match all.iter_mut().find(|(one, _)| *one == cause) {
            Some((_, group)) => group.faults.push(fault),
            None => all.push((cause, Group { faults: vec![fault], with: Vec::new() })),
        }
    }
    let mut all: Vec<Group<'a>> = all.into_iter().map(|(_, group)| group).collect();
    all.sort_by_key(Group::rank);
    let places: Vec<BTreeMap<&str, u32>> = all.iter().map(Group::places).collect();
    // The order is strict, so that the first cause of all follows none.
    let follows = |later: usize, earlier: usize| {
        let (Some(late), Some(early)) = (places.get(later), places.get(earlier)) else { return false };
        let before = late.iter().all(|(scenario, at)| early.get(scenario).is_some_and(|first| first <= at));
        let same = before && late.len() == early.len() && late.iter().eq(early.iter());
        before && (!same || earlier < later)
    };
    let first: Vec<Option<usize>> = all
        .iter()
        .enumerate()
        .map(|(later, group)| {
            let mut earlier = (0..all.len()).filter(|earlier| *earlier != later);
            earlier
                .find(|earlier| all.get(*earlier).is_some_and(Group::is_new) && follows(later, *earlier))
                .filter(|_| group.can_follow())
        })
        .collect();
    let root = |mut index: usize| {
        // No longer than there are groups: the order is strict.
        for _ in 0..first.len() {
            match first.get(index).copied().flatten() {
                Some(earlier) => index = earlier,
                None => break,
            }
        }
        index
    };
    let roots: Vec<usize> = (0..all.len()).map(root).collect();
    let mut trees: BTreeMap<usize, Group<'a>> = BTreeMap::new();
    let mut with: Vec<(usize, Group<'a>)> = Vec::new();
    for (index, group) in all.into_iter().enumerate() {
        match roots.get(index) {
            Some(root) if *root != index => with.push((*root, group)),
            _ => {
                trees.insert(index, group);
            }
        }
    }
    for (root, group) in with {
        if let Some(tree) = trees.get_mut(&root) {
            tree.with.push(group);
        }
    }
    trees.into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::{self, Finding};

    fn fault(id: &str, scenario: &str, at: u32, actual: &str) -> Fault {
        let rule = rules::find(id).unwrap();
        let first = Finding {
            rule: rule.id,
            party: rule.party,
            calls: Vec::new(),
            expected: "it is closed".to_owned(),
            actual: actual.to_owned(),
        };
        Fault {
            what: What::Rule(rule),
            scenario: scenario.to_owned(),
            times: 1,
            tries: 1,
            first: Some(first),
            at,
            run: None,
            wrote: None,
            standing: Standing::New,
        }
    }

    fn ended(verdict: Verdict, scenario: &str, at: u32) -> Fault {
        Fault { what: What::Verdict(verdict), first: None, ..fault("close.last", scenario, at, "") }
    }

    fn shown(faults: &[Fault]) -> Vec<String> {
        let one = |group: &Group<'_>| format!("{} {}", group.faults[0].what, group.faults.len());
        let all = groups(faults);
        all.iter()
            .map(|group| {
                let with: Vec<String> = group.with.iter().map(one).collect();
                format!("{} [{}]", one(group), with.join(", "))
            })
            .collect()
    }

    #[test]
    fn one_cause_is_one_finding_whatever_its_numbers() {
        let faults = [
            fault("close.exactly-once", "a", 9, "handle 1 of L0 never is"),
            fault("close.exactly-once", "b", 12, "handle 27 of L3 never is"),
            fault("close.exactly-once", "c", 9, "handle 1 of L0 is closed twice"),
        ];
        assert_eq!(shown(&faults), ["close.exactly-once 3 []"]);
        let others = groups(&faults)[0].others().len();
        assert_eq!(others, 1, "it is told of, too, that one is closed twice");
        assert_eq!(kind("L2, L1, L0 closed next, in this order"), kind("L0 closed next, in this order"));
        assert_eq!(shape(r#"0x59 at 512 of "a b" in L0"#), "# at # of … in L#");
    }

    #[test]
    fn one_cause_is_one_finding_whatever_callback_shows_it() {
        let expecting = |scenario: &str, expected: &str| {
            let mut fault = fault("errno.wire", scenario, 9, "success");
            fault.first.as_mut().unwrap().expected = expected.to_owned();
            fault
        };
        let faults = [
            expecting("a", "EIO, as pread of L0 has failed with ENOSPC"),
            expecting("b", "EIO, as pread of L1 has failed with ENOSPC"),
            expecting("c", "EPERM, as pwrite of L2 has failed with EFBIG"),
            expecting("d", "success"),
        ];
        assert_eq!(shown(&faults), ["errno.wire 3 []", "errno.wire 1 []"]);
        let others: Vec<&str> =
            groups(&faults)[0].others().iter().map(|fault| fault.scenario.as_str()).collect();
        assert_eq!(others, ["c"]);
        assert_eq!(kind("thread_model=parallel, can_zero"), kind("thread_model=serialize_requests, can_fua"));
        assert_ne!(kind("thread_model=parallel"), kind("max_thread_model=parallel"));
    }

    #[test]
    fn what_only_comes_with_a_first_cause_stands_under_it() {
        let hang = || Verdict::Hang("handles stay open".to_owned());
        let faults = [
            fault("close.exactly-once", "a", 9, "never"),
            fault("close.last", "a", 10, "never"),
            ended(hang(), "a", u32::MAX),
            fault("close.exactly-once", "b", 9, "never"),
            ended(hang(), "b", u32::MAX),
            // The same rule without that cause, and another one that comes before it.
            fault("close.any-disconnect", "b", 8, "never"),
            fault("config.phase", "c", 3, "never"),
        ];
        assert_eq!(
            shown(&faults),
            ["close.exactly-once 2 [hang 2, close.last 1]", "close.any-disconnect 1 []", "config.phase 1 []"]
        );
    }

    #[test]
    fn a_crash_never_stands_under_another_cause() {
        let crash = || Verdict::Crash("the server was killed by signal 6".to_owned());
        let faults = [
            fault("close.exactly-once", "a", 9, "never"),
            ended(crash(), "a", u32::MAX),
            ended(crash(), "b", u32::MAX),
        ];
        assert_eq!(shown(&faults), ["crash 2 []", "close.exactly-once 1 []"]);
    }

    #[test]
    fn two_causes_that_always_come_together_are_one_under_the_other() {
        let faults = [fault("close.last", "a", 9, "x"), fault("close.exactly-once", "a", 9, "x")];
        assert_eq!(shown(&faults), ["close.last 1 [close.exactly-once 1]"]);
    }
}
