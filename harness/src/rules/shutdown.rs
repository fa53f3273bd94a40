//! How a server, or one connection, ends while others are at work.

use super::Rule;

/// The rules of this family, a list for each topic, in the order of the catalogue.
pub const RULES: &[&[Rule]] = &[];
