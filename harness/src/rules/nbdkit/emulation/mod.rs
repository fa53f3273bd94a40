//! What the server does instead of a layer: zeroes as writes, FUA as a flush, cache as reads, extents made up.

mod cache;
mod extents;
mod fua;
pub(super) mod task;
mod zero;

use crate::rules::check::Rule;

/// The rules of this family, a list for each topic, in the order of the catalogue.
pub const RULES: &[&[Rule]] = &[zero::RULES, fua::RULES, cache::RULES, extents::RULES];
