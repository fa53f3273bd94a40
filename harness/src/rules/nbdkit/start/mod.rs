//! nbdkit-plugin(3) and nbdkit-filter(3): from thread_model to after_fork, and runs that never serve.

mod dump;
mod fork;
mod thread_model;

use crate::rules::check::Rule;

/// The rules of this family, a list for each topic, in the order of the catalogue.
pub const RULES: &[&[Rule]] = &[thread_model::RULES, dump::RULES, fork::RULES];
