//! What the lines of all verbs have in common.

use std::io::{self, Write};

use serde::Serialize;

use crate::baseline::Entry;
use crate::foreign::visible::visible_json;
use crate::outcome::{Fault, Verdict, What};
use crate::rules::CallRef;

/// Writes to `W`, a line at a time.
#[derive(Debug)]
pub struct Ndjson<W> {
    to: W,
    /// Several sets of parameters are told of, one after the other.
    pub(super) sets: bool,
}

impl<W: Write> Ndjson<W> {
    /// Writes to `to`.
    pub fn new(to: W) -> Ndjson<W> {
        Ndjson { to, sets: false }
    }

    pub(super) fn line(&mut self, line: &impl Serialize) -> io::Result<()> {
        let text = serde_json::to_string(line).map_err(io::Error::other)?;
        writeln!(self.to, "{}", visible_json(&text))?;
        self.to.flush()
    }
}

/// A line by itself.
pub(super) fn line(line: &impl Serialize) -> String {
    serde_json::to_string(line).map(|text| visible_json(&text).into_owned()).unwrap_or_default()
}

/// A word of [`Verdict::word`].
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(transparent)]
pub struct Word(&'static str);

impl From<&Verdict> for Word {
    fn from(verdict: &Verdict) -> Word {
        Word(verdict.word())
    }
}

/// A call that shows what is wrong.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename = "Call"))]
#[serde(deny_unknown_fields)]
pub struct CallLine {
    /// Position of its event in the trace.
    position: u32,
    /// Layer; 0 is the plugin.
    layer: u8,
    /// Thread.
    thread: u32,
    /// The event, as the human report shows it.
    call: String,
}

pub(super) fn calls(calls: &[CallRef]) -> Vec<CallLine> {
    let call = |call: &CallRef| CallLine {
        position: call.position,
        layer: call.layer,
        thread: call.tid,
        call: call.to_string(),
    };
    calls.iter().map(call).collect()
}

/// What is broken: a rule, or the server, which has crashed or hung.
#[derive(Clone, Debug, Default, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct BrokenLine<'a> {
    /// The rule that was broken.
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<&'a str>,
    /// Or the crash or hang.
    #[serde(skip_serializing_if = "Option::is_none")]
    verdict: Option<Word>,
    /// What it was like.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
}

impl BrokenLine<'_> {
    pub(super) fn of(what: &What) -> BrokenLine<'_> {
        match what {
            What::Rule(rule) => BrokenLine { rule: Some(rule.id), ..BrokenLine::default() },
            What::Verdict(verdict) => {
                BrokenLine { rule: None, verdict: Some(verdict.into()), reason: what.reason() }
            }
        }
    }

    /// As a baseline lists it.
    pub(super) fn listed(entry: &Entry) -> BrokenLine<'_> {
        let verdict = entry.verdict().as_ref().map(Word::from);
        let rule = Some(entry.id.as_str()).filter(|_| verdict.is_none());
        BrokenLine { rule, verdict, reason: entry.actual.as_deref() }
    }
}

/// How it is broken.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct FoundLine<'a> {
    #[serde(flatten)]
    broken: BrokenLine<'a>,
    /// Whose duty the rule is; this and what follows where a rule was broken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) party: Option<String>,
    /// What it promises.
    #[serde(skip_serializing_if = "Option::is_none")]
    statement: Option<&'a str>,
    /// Where that is written.
    #[serde(skip_serializing_if = "Option::is_none")]
    clause: Option<&'a str>,
    /// What was expected the first time.
    #[serde(skip_serializing_if = "Option::is_none")]
    expected: Option<&'a str>,
    /// What came instead.
    #[serde(skip_serializing_if = "Option::is_none")]
    actual: Option<&'a str>,
    /// The calls that show it.
    #[serde(skip_serializing_if = "Option::is_none")]
    calls: Option<Vec<CallLine>>,
}

impl FoundLine<'_> {
    pub(super) fn of(fault: &Fault) -> FoundLine<'_> {
        let rule = match &fault.what {
            What::Rule(rule) => fault.first.as_ref().map(|_| *rule),
            What::Verdict(_) => None,
        };
        let first = fault.first.as_ref().filter(|_| rule.is_some());
        FoundLine {
            broken: BrokenLine::of(&fault.what),
            party: rule.map(|rule| rule.party.to_string()),
            statement: rule.map(|rule| rule.statement),
            clause: rule.map(|rule| rule.clause),
            expected: first.map(|first| first.expected.as_str()),
            actual: first.map(|first| first.actual.as_str()),
            calls: first.map(|first| calls(&first.calls)),
        }
    }
}

/// An entry of the user's baseline of what was looked for, and did not happen.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct StaleLine<'a> {
    /// Id of the check or rule, or `crash`.
    id: &'a str,
    /// What exactly was listed, where that is said.
    actual: Option<&'a str>,
    /// Why it is listed.
    why: &'a str,
}

impl StaleLine<'_> {
    pub(super) fn of(entry: &Entry) -> StaleLine<'_> {
        StaleLine { id: &entry.id, actual: entry.actual.as_deref(), why: &entry.why }
    }
}
