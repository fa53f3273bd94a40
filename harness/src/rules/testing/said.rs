//! What the rules say of a trace.

use layers_trace::Event;

use super::Script;
use crate::rules::{Judge, Judgement, Rule, all};
use crate::version::Version;

/// By these rules, as far as the version promises them.
pub(crate) fn judge(
    rules: impl IntoIterator<Item = &'static Rule>,
    version: Version,
    events: Vec<Event>,
) -> Judgement {
    let mut judge = Judge::new(rules, version);
    events.iter().for_each(|event| judge.feed(event));
    judge.finish()
}

/// By every rule of nbdkit.
impl From<Script> for Judgement {
    fn from(script: Script) -> Judgement {
        judge(all(), script.run.version, script.finish())
    }
}

pub(crate) fn judged(script: impl Into<Judgement>) -> Judgement {
    script.into()
}

/// Ids of the rules that this trace breaks.
pub(crate) fn broken(script: impl Into<Judgement>) -> Vec<&'static str> {
    judged(script).results.iter().filter(|result| result.broken > 0).map(|result| result.rule.id).collect()
}

/// The rule must reject this trace.
#[track_caller]
pub(crate) fn rejects(rule: &str, script: impl Into<Judgement>) {
    let broken = broken(script);
    assert!(broken.contains(&rule), "`{rule}` did not fire; fired: {broken:?}");
}

/// The rule must have something to say of this trace, and no rule may reject it.
#[track_caller]
pub(crate) fn accepts(rule: &str, script: impl Into<Judgement>) {
    let judgement = judged(script);
    let result = judgement.result(rule).expect("the rule is in the catalogue");
    assert!(result.exercised > 0, "`{rule}` was never exercised");
    let findings: Vec<_> = judgement.findings().collect();
    assert!(findings.is_empty(), "{findings:#?}");
}

/// The rule must have something to say of this trace and must not reject it, whatever others do.
#[track_caller]
pub(crate) fn exercised_and_holds(rule: &str, script: impl Into<Judgement>) {
    let judgement = judged(script);
    let result = judgement.result(rule).expect("the rule is in the catalogue");
    assert!(result.exercised > 0, "`{rule}` was never exercised");
    assert!(result.broken == 0, "{:#?}", result.findings);
}

/// The rule has nothing to say of this trace.
#[track_caller]
pub(crate) fn is_silent(rule: &str, script: impl Into<Judgement>) {
    let said = judged(script).result(rule).map_or(0, |result| result.exercised);
    assert_eq!(said, 0, "`{rule}` was exercised");
}
