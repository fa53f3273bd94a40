//! The examples of the rules: what [`Rule::good`] and [`Rule::bad`] say, played and judged (docs/rules.md, "Examples").

mod fields;
mod haproxy;
mod parse;
mod play;
mod words;

use layers_trace::Event;

use super::{Judge, Judgement, Rule};
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
        match server {
            Which::Nbdkit => {
                let (script, last) = play::play(text);
                Example { version: script.version(), events: script.finish(), last }
            }
            Which::Haproxy => haproxy::play(text),
        }
    }
}

fn server(rule: &Rule) -> Which {
    if super::of(Which::Haproxy).any(|other| other.id == rule.id) { Which::Haproxy } else { Which::Nbdkit }
}

/// An example of nbdkit, judged by every rule.
impl From<&str> for Judgement {
    fn from(text: &str) -> Judgement {
        let (script, _) = play::play(text);
        script.into()
    }
}

fn broken(results: &[super::RuleResult]) -> Vec<&'static str> {
    results.iter().filter(|result| result.broken > 0).map(|result| result.rule.id).collect()
}

/// Returns what is wrong with the good example of a rule.
fn good(rule: &Rule, text: &str) -> Option<String> {
    let server = server(rule);
    let example = Example::of(text, server);
    let mut judge = Judge::new(super::of(server), example.version);
    example.events.iter().for_each(|event| judge.feed(event));
    let judgement = judge.finish();
    if judgement.findings().next().is_some() {
        return Some(format!("the good example breaks rules:{}", told(&judgement.results)));
    }
    let exercised = judgement.result(rule.id).is_some_and(|result| result.exercised > 0);
    (!exercised).then(|| format!("the good example does not exercise the rule:\n{:#?}", judgement.troubles))
}

/// Returns what is wrong with the bad example of a rule.
fn bad(rule: &Rule, text: &str, also: &[&str]) -> Option<String> {
    let server = server(rule);
    let example = Example::of(text, server);
    let mut judge = Judge::new(super::of(server), example.version);
    let is_broken =
        |judge: &Judge| judge.results().iter().any(|one| one.rule.id == rule.id && one.broken > 0);
    let mut at = None;
    for (place, event) in example.events.iter().enumerate() {
        judge.feed(event);
        if is_broken(&judge) {
            at = Some(place);
            break;
        }
    }
    let results = if at.is_some() { judge.results() } else { judge.finish().results };
    let mut said = broken(&results);
    let mut wanted: Vec<&str> = also.iter().copied().chain([rule.id]).collect();
    said.sort_unstable();
    wanted.sort_unstable();
    if at.is_some_and(|at| at < example.last) {
        return Some(format!("the bad example breaks its rule before its last step:{}", told(&results)));
    }
    (said != wanted)
        .then(|| format!("the bad example breaks {said:?}, and not {wanted:?}:{}", told(&results)))
}

/// Returns the findings in short.
fn told(results: &[super::RuleResult]) -> String {
    let findings = results.iter().flat_map(|result| &result.findings);
    let line = |finding: &super::Finding| {
        let calls: Vec<String> =
            finding.calls.iter().map(|call| format!("{} {call}", call.position)).collect();
        format!(
            "\n    {}: {}: expected {}, actual {}",
            finding.rule,
            calls.join(", "),
            finding.expected,
            finding.actual
        )
    };
    findings.map(line).collect()
}

#[test]
fn every_example_says_what_its_rule_does() {
    let rows = super::all().filter(|rule| matches!(rule.check, super::Checker::Trace(_)));
    let rows = rows.map(|rule| (rule, rule.good.to_owned(), rule.bad.to_owned(), rule.also.to_vec()));
    let mut wrong = Vec::new();
    for (rule, holds, breaks, also) in drafts().unwrap_or_else(|| rows.collect()) {
        let good = said_of(&|| good(rule, &holds));
        let bad = said_of(&|| bad(rule, &breaks, &also));
        wrong.extend(good.into_iter().chain(bad).map(|said| format!("{}: {said}", rule.id)));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
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

type Row = (&'static Rule, String, String, Vec<&'static str>);

/// Examples in the file that LAYERS_EXAMPLES names, to try them without building: paragraphs of an id and lines that begin
/// with `good:`, `bad:` or `also:`.
fn drafts() -> Option<Vec<Row>> {
    let text = std::fs::read_to_string(std::env::var("LAYERS_EXAMPLES").ok()?).unwrap();
    let paragraph = |text: &str| {
        let mut lines = text.lines();
        let rule = super::find(lines.next()?)?;
        let field = |name: &str| {
            text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim().to_owned()
        };
        let also = field("also:");
        let also = also.split_whitespace().map(|id| super::find(id).expect("a rule").id).collect();
        Some((rule, field("good:"), field("bad:"), also))
    };
    Some(text.split("\n\n").filter_map(paragraph).collect())
}
