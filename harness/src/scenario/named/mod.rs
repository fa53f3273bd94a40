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
mod serving;
mod starting;
mod telling;
mod tls;

use layers_behaviour::{Act, Deed, Failure, Telling};
use layers_trace::{Callback, Operation};

use super::{Scenario, Step, command};
use crate::client::nbd::Wishes;
use crate::client::raw::Message;
use crate::version::Which;

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

fn connect(client: u32) -> Step {
    Step::Connect(client, Wishes::default())
}

fn go(client: u32, export: &str) -> Step {
    Step::Go(client, export.to_owned())
}

fn info(client: u32, export: &str) -> Step {
    Step::Info(client, export.to_owned())
}

fn say(client: u32, messages: impl Into<Vec<Message>>) -> Step {
    Step::Say(client, messages.into())
}

fn read(client: u32) -> Step {
    Step::Request(client, command(Operation::Read, 0, 512, 0))
}

/// Every call of this callback fails with EIO.
fn always(callback: Callback) -> Failure {
    Failure { callback, nth: None, errno: libc::EIO, after_next: false, told: Telling::Both }
}

/// Its n-th call fails with EIO.
fn nth(callback: Callback, nth: u32) -> Failure {
    Failure { nth: Some(nth), ..always(callback) }
}

/// A filter's n-th call fails after the layer below has succeeded.
fn nth_after_next(callback: Callback, n: u32) -> Failure {
    Failure { after_next: true, ..nth(callback, n) }
}

/// This deed in every call of this callback.
fn act(callback: Callback, deed: Deed) -> Act {
    Act { callback, nth: None, deed }
}

/// This deed in its n-th call.
fn act_nth(callback: Callback, nth: u32, deed: Deed) -> Act {
    Act { nth: Some(nth), ..act(callback, deed) }
}
