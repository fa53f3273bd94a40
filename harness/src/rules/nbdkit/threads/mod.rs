//! nbdkit-plugin(3), "Threads": what may run at the same time.
//!
//! Which promises hold in a run depends on its thread model. They are about the calls that the server makes for clients;
//! what a filter does with contexts and threads of its own is for that filter to keep in order
//! (nbdkit-filter(3), "Manually managed contexts").
//!
//! A run in which nothing could overlap proves nothing, so these rules count as exercised only where clients had asked for
//! more than the server was allowed to do at once. That server and machine can overlap calls at all is what the
//! expectations of the scenarios under PARALLEL show.

mod models;
mod parallel;
mod scope;

use crate::rules::check::Rule;

/// The rules of this family, a list for each topic, in the order of the catalogue.
pub const RULES: &[&[Rule]] =
    &[models::CONNECTIONS, models::REQUESTS, parallel::RULES, models::TIGHTENED, &[DEFAULT_ORDER]];

const DEFAULT_ORDER: Rule = Rule {
    id: "tm.default-order-free",
    statement: "Under PARALLEL requests are carried out, and answered, in any order.",
    clause: "nbdkit-plugin(3), Threads",
    antecedent: "nothing; the order is left open",
    fix: "none needed; a client that depends on the order waits for each answer",
    ..Rule::UNSPECIFIED
};
