//! What a rule is, and the engine that judges a trace by all of them in one pass.

mod all_of;
mod at;
mod cited;
mod engine;
mod finding;
mod given;
mod kept;
mod now;
mod party;
mod probed;
mod report;
mod rule;
mod watch;

pub(super) use all_of::Both;
pub(super) use at::{at, at_end, remembering};
pub use cited::Cited;
pub use engine::{Judge, Judgement, RuleResult, Trouble};
pub(super) use finding::quoted;
pub use finding::{CallRef, Finding};
pub use given::Said;
pub(super) use given::{given, unless};
pub(super) use kept::{Kept, PerConnection, PerLayer};
pub use now::Now;
pub use party::Party;
pub(super) use probed::probed;
pub use report::Report;
pub use rule::{Check, Checker, Kind, Rule};
pub use watch::Watch;
pub(super) use watch::{calls, calls_where, enters, enters_where, exits, exits_where, notes};

/// Names the check by which a rule is judged: an expression that makes it for each trace.
macro_rules! by {
    ($check:expr) => {
        $crate::rules::check::Checker::Trace(|| Box::new($check))
    };
}
pub(super) use by;
