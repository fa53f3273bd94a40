//! The rules that judge plugins and filters.

use crate::rules::{self, Party, Rule};

/// The rules of the catalogue that judge plugins and filters: theirs, and those about requests that filters pass on.
pub fn module_rules() -> impl Iterator<Item = &'static Rule> {
    rules::all().filter(|rule| is_module(rule.party) || rules::is_of_callers(rule))
}

/// Plugins and filters.
pub(crate) fn is_module(party: Party) -> bool {
    matches!(party, Party::Plugin | Party::Filter | Party::Module)
}
