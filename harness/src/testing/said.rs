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
