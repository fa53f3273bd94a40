//! What only filters do: they stand between the server and a plugin that can do much or little, and that may fail.

use crate::validate::check::Check;

pub(super) const CHECKS: &[Check] = &[];
