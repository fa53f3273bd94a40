//! HAProxy: what a keyword of its command line, and an applet, may rely on in their appctx.
//!
//! The promises are those of HAProxy's internals document on applet contexts (doc/internals/api/appctx.txt).

mod applet;
mod print;
mod release;
mod reserve;
mod seen;
mod storage;
mod svcctx;
mod tried;

use crate::rules::check::Rule;
pub(crate) use tried::{is_tried, joined, rule_of};

use seen::{ALL, FORBIDDEN, REQUIRED, SVCCTX, Seen, shown};

/// The rules of this family.
pub(super) const RULES: &[&[Rule]] = &[
    svcctx::RULES,
    storage::RULES,
    reserve::RULES,
    print::RULES,
    release::RULES,
    applet::RULES,
    tried::RULES,
];
