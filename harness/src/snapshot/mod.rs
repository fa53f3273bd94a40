//! Regression snapshots: the tree of calls of somebody's stack in chosen scenarios, stored and later compared.
//!
//! A tree is said to be another one, or stored for the first time, only if several runs agree on it: what varies from run to
//! run is inconclusive, never a difference.

mod compare;
mod played;
mod selection;
mod sessions;
mod store;
mod stored;

pub use compare::{CompareError, Compared, Comparison, SnapshotPlan, TreeOutcome, compare, words};
pub use selection::{NoScenario, ScenarioSelection, USUAL};
pub use sessions::{SessionsPlan, compare_sessions};
pub use store::{Store, StoreError};
pub use stored::{FormatError, MadeFrom, Stored};
