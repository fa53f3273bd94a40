//! What the layers answer to can_* questions, in all combinations, and what the server makes of requests then.

use super::super::Scenario;

pub(super) fn all() -> Vec<Scenario> {
    Vec::new()
}
