//! nbdkit-plugin(3), "Callback lifecycle" and "SHUTDOWN": load, cleanup, unload.

mod cleanup;
mod load;
mod shutdown;
mod threads;
mod unload;

use crate::rules::check::Rule;

/// The rules of this family, a list for each topic, in the order of the catalogue.
pub const RULES: &[&[Rule]] = &[load::RULES, unload::RULES, cleanup::RULES, shutdown::RULES, threads::RULES];
