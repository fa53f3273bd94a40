//! Keywords of the instrument's own: they do what built-in ones do not, and some do what none may.

mod allocated;
mod bad;
mod context;
mod good;
mod interference;
mod keyword;
mod outside;
pub(crate) mod service;

use std::ffi::c_void;

use crate::instrument::Instrument;
use crate::memory::word;
use crate::slots::HEAD;
use keyword::{NODE, NODES, node};

pub(crate) use interference::meddle;
pub(crate) use keyword::has_keyword;

/// Adds the keywords to the server's, a list each.
pub(crate) fn register(instrument: &Instrument) {
    let nodes =
        NODES.get_or_init(|| good::ALL.iter().chain(bad::ALL).chain(outside::ALL).map(node).collect());
    for node in nodes {
        // SAFETY: a list of keywords that lives for ever.
        unsafe { (instrument.server.register_keywords)(*node as *mut c_void) };
        // New lists go to the end of the ring: behind ours is its head.
        HEAD.get_or_init(|| word(*node).unwrap_or_default());
    }
}

/// Adds a list without keywords: the server's are found by it.
pub(crate) fn register_none(instrument: &Instrument) {
    let node: &'static mut [usize; NODE] = Box::leak(Box::new([0; NODE]));
    let node = node.as_mut_ptr();
    // SAFETY: a list of keywords that lives for ever.
    unsafe { (instrument.server.register_keywords)(node.cast()) };
    HEAD.get_or_init(|| word(node.addr()).unwrap_or_default());
}
