//! What a rule is, and the engine that judges a trace by all of them in one pass.

pub(super) mod all_of;
mod engine;
mod finding;
pub(super) mod per_layer;
mod rule;
mod watch;

pub use engine::{Judge, Judgement, Now, Report, RuleResult, Trouble, judge};
pub use finding::{CallRef, Finding};
pub use rule::{Check, Checker, Kind, Party, Rule};
pub use watch::Watch;
