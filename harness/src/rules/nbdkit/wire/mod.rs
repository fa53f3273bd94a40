//! The NBD protocol, as nbdkit-protocol(1) promises to speak it: what the harness's clients complain of, and what they wait
//! for in vain. Both are in the trace, written by whichever client it was.

mod answered;
mod blamed;
mod complaints;
mod granted;
mod refusal;
mod reply;

use crate::rules::check::Rule;
pub(super) use reply::is_option;

/// The rules of this family, a list for each topic, in the order of the catalogue.
pub const RULES: &[&[Rule]] = &[complaints::RULES, refusal::RULES, answered::RULES, granted::RULES];
