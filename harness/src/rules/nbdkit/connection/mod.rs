//! nbdkit-plugin(3) and nbdkit-filter(3): what a connection is made of, from `preconnect` to the last `close`.

mod by_server;
pub mod close;
pub mod default_export;
pub mod disconnect;
pub mod finalize;
pub mod list;
pub mod open;
pub mod open_fails;
pub mod preconnect;
pub mod prepare;
pub(super) mod survival;
pub mod tls;

use crate::rules::check::Rule;
use by_server::{by_server, negotiates};

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
