//! How a server, or one connection, ends while others are at work.

mod disconnect;
mod quit;
mod request;
mod single;

use crate::rules::check::Rule;

/// The rules of this family, a list for each topic, in the order of the catalogue.
pub const RULES: &[&[Rule]] = &[quit::RULES, disconnect::RULES, single::RULES];
