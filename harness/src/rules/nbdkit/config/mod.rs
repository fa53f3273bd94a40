//! nbdkit-plugin(3), `.config` and `.config_complete`: how parameters reach the layers.

mod arguments;
mod complete;
mod failure;

use crate::rules::check::Rule;

/// The rules of this family, a list for each topic, in the order of the catalogue.
pub const RULES: &[&[Rule]] = &[arguments::RULES, failure::RULES, complete::RULES];
