//! TLS: before, at and after the upgrade.

use super::super::Scenario;

pub(super) fn all() -> Vec<Scenario> {
    Vec::new()
}
