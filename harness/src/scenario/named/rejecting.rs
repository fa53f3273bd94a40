//! Clients that send what no client should: through the raw client.

use super::super::Scenario;

pub(super) fn all() -> Vec<Scenario> {
    Vec::new()
}
