//! The named scenarios: what `conform` plays, and what `trace --scenario` shows.
//!
//! A family is a file; each function there makes one scenario or the members of one.

mod answers;
mod contexts;
mod data;
mod ending;
mod erring;
mod exports;
mod failing;
pub mod haproxy;
mod leaving;
mod oldstyle;
mod options;
mod overlapping;
mod quitting;
mod rejecting;
mod script;
mod serving;
mod starting;
mod telling;
mod tls;

use super::Scenario;
use crate::version::Which;
use script::{act, act_nth, always, connect, go, info, nth, nth_after_next, read, say};

/// All of them, in the order in which they are played: nbdkit's, then HAProxy's.
pub fn all() -> Vec<Scenario> {
    [of(Which::Nbdkit), of(Which::Haproxy)].concat()
}

/// Those for this server.
pub fn of(server: Which) -> Vec<Scenario> {
    match server {
        Which::Nbdkit => of_nbdkit(),
        Which::Haproxy => haproxy::all(),
    }
}

fn of_nbdkit() -> Vec<Scenario> {
    [
        serving::all(),
        data::all(),
        exports::all(),
        telling::all(),
        starting::all(),
        options::all(),
        oldstyle::all(),
        failing::all(),
        leaving::all(),
        ending::all(),
        rejecting::all(),
        erring::all(),
        tls::all(),
        answers::all(),
        overlapping::all(),
        contexts::all(),
        quitting::all(),
    ]
    .concat()
}

/// The scenario with this name.
pub fn find(name: &str) -> Option<Scenario> {
    all().into_iter().find(|scenario| scenario.name == name)
}
