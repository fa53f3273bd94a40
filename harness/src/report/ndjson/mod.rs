//! The reports for programs: one JSON object a line, from the first thing that happens on, with a version in the first line.
//!
//! What a line holds is declared once, as a type; the schemas in `schemas/` are made from those types.

pub mod conform;
#[cfg(feature = "schema")]
pub mod schema;
pub mod traces;
pub mod validate;

use std::io::{self, Write};

use serde::Serialize;

use crate::foreign::visible::visible_json;
use crate::outcome::Verdict;
use crate::rules::CallRef;

/// Writes to `W`, a line at a time.
#[derive(Debug)]
pub struct Ndjson<W> {
    to: W,
    /// Several sets of parameters are told of, one after the other.
    sets: bool,
}

impl<W: Write> Ndjson<W> {
    /// Writes to `to`.
    pub fn new(to: W) -> Ndjson<W> {
        Ndjson { to, sets: false }
    }

    fn line(&mut self, line: &impl Serialize) -> io::Result<()> {
        let text = serde_json::to_string(line).map_err(io::Error::other)?;
        writeln!(self.to, "{}", visible_json(&text))?;
        self.to.flush()
    }
}

/// A line by itself.
fn line(line: &impl Serialize) -> String {
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

fn calls(calls: &[CallRef]) -> Vec<CallLine> {
    let call = |call: &CallRef| CallLine {
        position: call.position,
        layer: call.layer,
        thread: call.tid,
        call: call.to_string(),
    };
    calls.iter().map(call).collect()
}
