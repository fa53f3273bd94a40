//! nbdkit-filter(3), "nbdkit_next": contexts that a filter opens and manages itself.

mod identity;
mod life;
mod owner;
mod ownership;
mod place;
mod reopen;

use crate::rules::check::Rule;
use owner::{by_owner, opens_manual, top_of_manual};

/// The rules of this family, a list for each topic, in the order of the catalogue.
pub const RULES: &[&[Rule]] = &[life::RULES, place::RULES, identity::RULES, reopen::RULES, ownership::RULES];
