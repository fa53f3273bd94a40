//! Requests: how they come to the layers.

pub mod nesting;

use super::Rule;

/// The rules of this family, a list for each topic, in the order of the catalogue.
pub const RULES: &[&[Rule]] = &[nesting::RULES];
