//! What stands beside the calls that a finding of `validate` shows, in every format.

use layers_trace::{Callback, Kind};

use crate::history::present;
use crate::rules::CallRef;
use crate::validate::ModuleFinding;

/// The call that a finding is about: the guilty one, or the last.
pub(crate) fn main(finding: &ModuleFinding) -> Option<u32> {
    finding.guilty.or_else(|| finding.calls.last().map(|call| call.position))
}

/// What is to be said of each of its calls, in their order.
pub(crate) fn marks(finding: &ModuleFinding) -> impl Iterator<Item = (&CallRef, Option<String>)> {
    let main = main(finding);
    finding.calls.iter().map(move |call| {
        let guilty = finding.guilty == Some(call.position);
        let mark = match (happens(call), Some(call.position) == main) {
            (Some(what), _) if guilty => Some(format!("{what} here: this call has done it")),
            (Some(what), _) => Some(format!("{what} here")),
            (None, true) => Some("here".to_owned()),
            (None, false) => None,
        };
        (call, mark)
    })
}

/// The calls as lines of text.
pub(crate) fn lines(finding: &ModuleFinding) -> String {
    let line = |(call, mark): (&CallRef, Option<String>)| {
        let mark = mark.map_or(String::new(), |mark| format!("   <- {mark}"));
        format!("{:>6} | {call}{mark}\n", call.position)
    };
    marks(finding).map(line).collect()
}

/// What happens to the bytes in question.
fn happens(call: &CallRef) -> Option<&'static str> {
    if call.kind != Kind::Enter {
        return None;
    }
    match present(call.callback?) {
        Callback::Pread => Some("read"),
        Callback::Pwrite => Some("written"),
        Callback::Zero => Some("zeroed"),
        Callback::Trim => Some("trimmed"),
        Callback::Flush => Some("flushed"),
        Callback::Extents => Some("told"),
        Callback::Cache => Some("cached"),
        _ => None,
    }
}
