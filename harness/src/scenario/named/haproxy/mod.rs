//! Sessions with HAProxy: a family is a file; each function there makes one scenario or the members of one.

mod commands;
mod ending;
mod http;
mod leaving;
mod loading;
mod masters;
mod memory;
mod own;
mod sessions;
mod trying;

use super::super::Scenario;
use sessions::{CACHED, CONTEXTS, OLDEST, PLAIN, SERVICE, SMALL, send, session, waiting, with};

pub use leaving::{DUMPS, NOT_SWEPT};

pub(super) fn all() -> Vec<Scenario> {
    [
        commands::all(),
        leaving::all(),
        own::all(),
        loading::all(),
        masters::all(),
        http::all(),
        ending::all(),
        memory::all(),
        trying::all(),
    ]
    .concat()
}
