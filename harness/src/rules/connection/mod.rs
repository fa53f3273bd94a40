//! nbdkit-plugin(3) and nbdkit-filter(3): what a connection is made of, from `preconnect` to the last `close`.

pub mod preconnect;

use super::Rule;

/// The rules of this family, a list for each topic, in the order of the catalogue.
pub const RULES: &[&[Rule]] = &[preconnect::RULES];
