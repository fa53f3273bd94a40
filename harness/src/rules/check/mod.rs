//! What a rule is, and the engine that judges a trace by all of them in one pass.

pub(super) mod all_of;
mod engine;
mod finding;
mod now;
mod party;
pub(super) mod per_layer;
mod report;
mod rule;
mod watch;

pub use engine::{Judge, Judgement, RuleResult, Trouble};
pub use finding::{CallRef, Finding};
pub use now::Now;
pub use party::Party;
pub use report::Report;
pub use rule::{Check, Checker, Kind, Rule};
pub use watch::Watch;
