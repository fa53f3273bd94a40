//! Requests: how they come to the layers.

mod asked;
mod buffers;
mod bytes;
mod errors;
mod extents;
mod flags;
mod gates;
mod lent;
mod nesting;
mod range;
mod request;
mod window;

use crate::rules::check::Rule;
use request::{caller, flag_names};

/// The rules of this family, a list for each topic, in the order of the catalogue.
pub const RULES: &[&[Rule]] = &[
    nesting::RULES,
    window::RULES,
    asked::RULES,
    range::RULES,
    flags::RULES,
    gates::RULES,
    errors::RULES,
    buffers::RULES,
    lent::RULES,
    bytes::RULES,
    extents::RULES,
];

/// The topics whose findings are blamed on whoever makes the call.
pub const OF_CALLERS: &[&[Rule]] = &[range::RULES, flags::RULES, gates::RULES];
