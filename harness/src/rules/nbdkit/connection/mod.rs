//! nbdkit-plugin(3) and nbdkit-filter(3): what a connection is made of, from `preconnect` to the last `close`.

mod by_server;
mod close;
pub(super) mod default_export;
mod disconnect;
pub(super) mod finalize;
mod list;
mod open;
mod open_fails;
mod preconnect;
mod prepare;
pub(super) mod survival;
mod tls;

use crate::rules::check::Rule;
use by_server::{by_server, negotiates, once};

/// The rules of this family, a list for each topic, in the order of the catalogue.
pub const RULES: &[&[Rule]] = &[
    preconnect::RULES,
    list::RULES,
    default_export::RULES,
    tls::RULES,
    open::RULES,
    open_fails::RULES,
    prepare::RULES,
    finalize::RULES,
    close::RULES,
    disconnect::RULES,
];
