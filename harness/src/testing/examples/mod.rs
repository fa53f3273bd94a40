//! The examples of the rules: what [`Rule::good`] and [`Rule::bad`] say, played and judged (docs/rules.md, "Examples").

mod fields;
mod haproxy;
mod parse;
mod play;
mod words;

use layers_trace::Event;

use crate::rules::{self, Checker, Finding, Judge, Rule, RuleResult};
use crate::testing::Script;
use crate::version::{Version, Which};

/// A trace that is judged event by event.
struct Example {
    version: Version,
    events: Vec<Event>,
    /// The event with which the step begins that is written last.
    last: usize,
}

impl Example {
    fn of(text: &str, server: Which) -> Example {
        let (script, last) = match server {
            Which::Nbdkit => play::play(text),
            Which::Haproxy => haproxy::play(text),
        };
        Example { version: script.version(), events: script.finish(), last }
    }
}

fn server(rule: &Rule) -> Which {
    if rules::of(Which::Haproxy).any(|other| other.id == rule.id) { Which::Haproxy } else { Which::Nbdkit }
}

/// Returns the trace of nbdkit that a text describes.
pub(crate) fn script(text: &str) -> Script {
    play::play(text).0
}

/// Returns what is wrong with the good example of a rule.
fn good(rule: &Rule, text: &str) -> Option<String> {
    let server = server(rule);
    let example = Example::of(text, server);
    let mut judge = Judge::new(rules::of(server), example.version);
    example.events.iter().for_each(|event| judge.feed(event));
    let judgement = judge.finish();
    if judgement.findings().next().is_some() {
        return Some(format!("the good example breaks rules:{}", told(&judgement.results)));
    }
    let exercised = judgement.result(rule.id).is_some_and(|result| result.exercised > 0);
    (!exercised).then(|| format!("the good example does not exercise the rule:\n{:#?}", judgement.troubles))
}

/// Returns what is wrong with the bad example of a rule, which breaks these others, too; `None` is any.
fn bad(rule: &Rule, text: &str, also: Option<&[&str]>) -> Option<String> {
    let server = server(rule);
    let example = Example::of(text, server);
    let mut judge = Judge::new(rules::of(server), example.version);
    let mut breaks = |event: &Event| {
        judge.feed(event);
        judge.results().iter().any(|one| one.rule.id == rule.id && one.broken > 0)
    };
    let at = example.events.iter().position(&mut breaks);
    let results = if at.is_some() { judge.results() } else { judge.finish().results };
    let broken = results.iter().filter(|result| result.broken > 0);
    let mut said: Vec<&str> = broken.map(|result| result.rule.id).collect();
    let mut wanted: Vec<&str> = match also {
        Some(also) => also.iter().copied().chain([rule.id]).collect(),
        None if said.contains(&rule.id) => said.clone(),
        None => vec![rule.id],
    };
    said.sort_unstable();
    wanted.sort_unstable();
    if at.is_some_and(|at| at < example.last) {
        return Some(format!("the bad example breaks its rule before its last step:{}", told(&results)));
    }
    (said != wanted)
        .then(|| format!("the bad example breaks {said:?}, and not {wanted:?}:{}", told(&results)))
}

/// Returns the findings in short.
fn told(results: &[RuleResult]) -> String {
    let findings = results.iter().flat_map(|result| &result.findings);
    let line = |finding: &Finding| {
        let calls: Vec<_> = finding.calls.iter().map(|call| format!("{} {call}", call.position)).collect();
        let (rule, expected, actual) = (finding.rule, &finding.expected, &finding.actual);
        format!("\n    {rule}: {}: expected {expected}, actual {actual}", calls.join(", "))
    };
    findings.map(line).collect()
}

#[test]
fn every_example_says_what_its_rule_does() {
    let mut wrong = Vec::new();
    for rule in rules::all().filter(|rule| matches!(rule.check, Checker::Trace(_))) {
        let good = said_of(&|| good(rule, rule.good));
        let bad = said_of(&|| bad(rule, rule.bad, Some(rule.also)));
        wrong.extend(good.into_iter().chain(bad).map(|said| format!("{}: {said}", rule.id)));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What else rules say, family by family: more cases than the two that explain a rule.
const CASES: &[&str] = &[
    include_str!("../../rules/nbdkit/config/cases.txt"),
    include_str!("../../rules/nbdkit/connection/cases.txt"),
    include_str!("../../rules/nbdkit/contexts/cases.txt"),
    include_str!("../../rules/nbdkit/data/cases.txt"),
    include_str!("../../rules/nbdkit/emulation/cases.txt"),
    include_str!("../../rules/nbdkit/errno/cases.txt"),
    include_str!("../../rules/nbdkit/lifecycle/cases.txt"),
    include_str!("../../rules/nbdkit/negotiation/cases.txt"),
    include_str!("../../rules/nbdkit/pointers/cases.txt"),
    include_str!("../../rules/nbdkit/shutdown/cases.txt"),
    include_str!("../../rules/nbdkit/start/cases.txt"),
    include_str!("../../rules/nbdkit/threads/cases.txt"),
    include_str!("../../rules/nbdkit/wire/cases.txt"),
    include_str!("../../rules/nbdkit/pass_through.txt"),
    include_str!("../../rules/haproxy/cases.txt"),
];

/// Cases of a file that LAYERS_CASES names are tried in place of these, without building anything.
#[test]
fn every_case_is_judged_as_it_says() {
    let file = std::env::var("LAYERS_CASES").ok().map(|file| std::fs::read_to_string(file).unwrap());
    let cases = file.as_deref().map_or(CASES.to_vec(), |text| vec![text]);
    let mut wrong = Vec::new();
    for paragraph in cases.iter().flat_map(|text| text.split("\n\n")) {
        let mut lines = paragraph.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
        let Some(id) = lines.next() else { continue };
        let rule = rules::find(id).unwrap_or_else(|| panic!("`{id}` is no rule"));
        for line in lines {
            let said = said_of(&|| case(rule, line));
            wrong.extend(said.map(|said| format!("{id}: {line}\n  {said}")));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Returns what is wrong with one line of a family's cases.
fn case(rule: &Rule, line: &str) -> Option<String> {
    let (word, text) = line.split_once(": ").expect("a word, a colon, and a trace");
    let server = server(rule);
    let said = || {
        let example = Example::of(text, server);
        let judgement = crate::testing::judge(rules::of(server), example.version, example.events);
        let result =
            judgement.results.iter().find(|result| result.rule.id == rule.id).expect("it is judged").clone();
        (result.exercised, result.broken, told(&[result]))
    };
    match word {
        "good" => good(rule, text),
        "bad" => bad(rule, text, None),
        // Others may be broken.
        "holds" => match said() {
            (0, ..) => Some("the rule is not exercised".to_owned()),
            (_, 0, _) => None,
            (.., told) => Some(format!("the rule is broken:{told}")),
        },
        "silent" => (said().0 > 0).then(|| format!("the rule is exercised{}", said().2)),
        "unbroken" => (said().1 > 0).then(|| format!("the rule is broken:{}", said().2)),
        _ => Some(format!("`{word}` is none of good, holds, bad, silent, unbroken")),
    }
}

/// Tells that an example cannot be read like anything else that is wrong with it.
fn said_of(judge: &dyn Fn() -> Option<String>) -> Option<String> {
    let judged = std::panic::catch_unwind(std::panic::AssertUnwindSafe(judge));
    judged.unwrap_or_else(|panic| {
        let said =
            panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
        Some(format!("the example cannot be read: {}", said.unwrap_or_default()))
    })
}
