//! What a rule is, and the engine that judges a trace by all of them in one pass.

pub(super) mod all_of;
mod at;
mod engine;
mod finding;
mod now;
mod party;
pub(super) mod per_layer;
mod probed;
mod report;
mod rule;
mod watch;

pub(super) use at::{at, at_end, remembering};
pub use engine::{Judge, Judgement, RuleResult, Trouble};
pub use finding::{CallRef, Finding};
pub use now::Now;
pub use party::Party;
pub(super) use probed::Probed;
pub use report::Report;
pub use rule::{Check, Checker, Kind, Rule};
pub use watch::Watch;
pub(super) use watch::{calls, enters, enters_where, exits, exits_where, notes};

/// Names the check by which a rule is judged: an expression that makes it for each trace.
macro_rules! by {
    ($check:expr) => {
        $crate::rules::check::Checker::Trace(|| Box::new($check))
    };
}
pub(super) use by;
