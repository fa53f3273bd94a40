//! What the server asks about a handle while it negotiates: sizes, abilities, descriptions.

mod asked_again;
mod asker;
mod bad_answer;
mod flags;
pub(super) mod info;
mod questions;
mod shortcuts;
mod told;

use crate::rules::check::Rule;
use asker::asked_by_server;

/// The rules of this family, a list for each topic, in the order of the catalogue.
pub const RULES: &[&[Rule]] = &[
    questions::RULES,
    shortcuts::RULES,
    info::RULES,
    flags::RULES,
    bad_answer::RULES,
    told::export::RULES,
    told::names::RULES,
    told::list::RULES,
    told::options::RULES,
    told::tls::RULES,
];
