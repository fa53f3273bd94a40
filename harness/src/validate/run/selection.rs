//! The checks and rules that a validation selects.

use super::builder::{Validate, ValidateError};
use crate::campaign::select::{matches, nearest};
use crate::rules::Rule;
use crate::validate::checks;
use crate::validate::checks::check::ModuleCheck;
use crate::validate::checks::module_rules::module_rules;

/// What is to be judged.
#[derive(Debug)]
pub(crate) struct Selection {
    pub(crate) checks: Vec<&'static ModuleCheck>,
    pub(crate) rules: Vec<&'static Rule>,
}

impl Selection {
    pub(in crate::validate) fn new(validate: &Validate) -> Result<Selection, ValidateError> {
        let ids: Vec<&str> =
            checks::all().map(|check| check.id).chain(module_rules().map(|rule| rule.id)).collect();
        for pattern in validate.only.iter().chain(&validate.skip).chain(&validate.deny) {
            if !ids.iter().any(|id| matches(pattern, id)) {
                let nearest = nearest(pattern, ids.iter().copied()).map(str::to_owned);
                return Err(ValidateError::NoMatch { pattern: pattern.clone(), nearest });
            }
        }
        let wanted = |id: &str| {
            (validate.only.is_empty() || validate.only.iter().any(|pattern| matches(pattern, id)))
                && !validate.skip.iter().any(|pattern| matches(pattern, id))
        };
        let checks = checks::all().filter(|check| validate.asks(check) && wanted(check.id));
        Ok(Selection {
            checks: checks.collect(),
            rules: module_rules().filter(|rule| wanted(rule.id)).collect(),
        })
    }
}
