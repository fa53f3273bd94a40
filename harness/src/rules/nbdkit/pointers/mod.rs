//! Which pointers and strings a layer is given, and how long they stay what they are.

mod filter;
mod handle;
mod strings;

use crate::rules::check::Rule;

/// The rules of this family, a list for each topic, in the order of the catalogue.
pub const RULES: &[&[Rule]] = &[filter::RULES, handle::RULES, strings::RULES];
