//! The checks and rules that a validation selects.

use super::checks::{self, Row};
use super::subject::{HaproxyValidation, of_handlers};
use crate::campaign::select::{matches, nearest};
use crate::rules::Rule;
use crate::validate::run::builder::ValidateError;
use crate::version::Version;

/// What is to be judged.
pub(super) struct Selection {
    pub(super) rows: Vec<&'static Row>,
    pub(super) rules: Vec<&'static Rule>,
}

impl Selection {
    pub(super) fn new(validate: &HaproxyValidation) -> Result<Selection, ValidateError> {
        let ids: Vec<&str> =
            checks::all().map(|check| check.id).chain(of_handlers().map(|rule| rule.id)).collect();
        for pattern in validate.only.iter().chain(&validate.skip).chain(&validate.deny) {
            if !ids.iter().any(|id| matches(pattern, id)) {
                let nearest = nearest(pattern, ids.iter().copied()).map(str::to_owned);
                return Err(ValidateError::NoMatch { pattern: pattern.clone(), nearest });
            }
        }
        let rows = checks::ROWS.iter();
        Ok(Selection {
            rows: rows
                .filter(|row| row.check.level <= validate.level && validate.wants(row.check.id))
                .collect(),
            rules: of_handlers().filter(|rule| validate.wants(rule.id)).collect(),
        })
    }

    /// Without the rules that this version does not know.
    pub(super) fn since(mut self, version: Version) -> Selection {
        self.rules.retain(|rule| rule.since <= version);
        self
    }

    /// Returns true where this check is among them.
    pub(super) fn has(&self, id: &str) -> bool {
        self.rows.iter().any(|row| row.check.id == id)
    }
}
