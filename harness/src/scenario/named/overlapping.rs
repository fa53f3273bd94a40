//! Requests, connections and layers at the same time, under each thread model.

use super::super::Scenario;

pub(super) fn all() -> Vec<Scenario> {
    Vec::new()
}
