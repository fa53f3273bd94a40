//! How each script of a check begins.

use crate::validate::script::claims::Claims;
use crate::validate::script::op::Op;

/// Client 1 opens the export, then sets up, then is judged.
pub(super) fn script(claims: &Claims, setup: Vec<Op>, judged: Vec<Op>) -> Vec<Op> {
    let connect = Op::Connect(1, claims.export.clone());
    std::iter::once(connect).chain(setup).chain([Op::Judge]).chain(judged).collect()
}
