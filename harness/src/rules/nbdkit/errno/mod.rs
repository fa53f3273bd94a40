//! Error numbers: what a layer says, what the layer above is told of it, and what is sent to the client (nbdkit_error(3),
//! "Setting errno"; nbdkit-filter(3), "ERROR HANDLING"; the NBD protocol, "Error values").

mod error;
mod pieces;
pub(super) mod refused;
mod wire;

use crate::rules::check::Rule;
#[cfg(test)]
pub(crate) use error::ERROR_NAMES;
use error::{Answered, ORDINARY, name, names, told};

/// The rules of this family, a list for each topic, in the order of the catalogue.
pub const RULES: &[&[Rule]] = &[pieces::RULES, wire::RULES, refused::RULES];
