//! nbdkit's rules: a folder a family, named after the section of the manual that promises it.

pub mod config;
pub mod connection;
pub mod contexts;
pub mod data;
pub mod emulation;
pub mod errno;
pub mod lifecycle;
pub mod negotiation;
mod order;
mod pass_through;
pub mod pointers;
pub mod results;
pub mod shutdown;
pub mod start;
pub mod threads;
pub mod wire;

use super::check::Rule;

/// The families, in the order of the catalogue; each is a list for each topic.
pub const RULES: &[&[&[Rule]]] = &[
    lifecycle::RULES,
    config::RULES,
    start::RULES,
    pointers::RULES,
    connection::RULES,
    negotiation::RULES,
    data::RULES,
    &[results::RULES],
    emulation::RULES,
    errno::RULES,
    threads::RULES,
    contexts::RULES,
    shutdown::RULES,
    wire::RULES,
];
