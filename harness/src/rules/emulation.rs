//! What the server does instead of a layer: zeroes as writes, FUA as a flush, cache as reads, extents made up.

use super::Rule;

/// The rules of this family, a list for each topic, in the order of the catalogue.
pub const RULES: &[&[Rule]] = &[];
