//! Keywords of the instrument's own: they do what built-in ones do not, and some do what none may.

mod bad;
mod context;
mod good;
pub(crate) mod service;

use std::ffi::{CStr, c_void};
use std::sync::OnceLock;

use crate::Instrument;
use crate::keywords::{HEAD, IoHandler, IoRelease, PARSE, Parse};
use crate::memory::word;

/// Words of 8 bytes for the node of a list, one keyword, and an empty one behind it, whatever its size.
const NODE: usize = 40;
/// Where the keyword begins in it, where its usage stands, and its callbacks.
const KEYWORD: usize = 2;
const USAGE: usize = KEYWORD + 5;
const CALLBACKS: usize = KEYWORD + PARSE / 8;

/// A keyword `layers NAME`.
pub(super) struct Own {
    name: &'static CStr,
    usage: &'static CStr,
    parse: Option<Parse>,
    io_handler: Option<IoHandler>,
    io_release: Option<IoRelease>,
}

static NODES: OnceLock<Vec<usize>> = OnceLock::new();

/// Adds the keywords to the server's, a list each.
pub(crate) fn register(instrument: &Instrument) {
    let nodes = NODES.get_or_init(|| good::ALL.iter().chain(bad::ALL).map(node).collect());
    for node in nodes {
        // SAFETY: a list of keywords that lives for ever.
        unsafe { (instrument.server.register_keywords)(*node as *mut c_void) };
        // New lists go to the end of the ring: behind ours is its head.
        HEAD.get_or_init(|| word(*node).unwrap_or_default());
    }
}

fn node(own: &Own) -> usize {
    let node: &'static mut [usize; NODE] = Box::leak(Box::new([0; NODE]));
    let words = [
        (KEYWORD, c"layers".as_ptr().addr()),
        (KEYWORD + 1, own.name.as_ptr().addr()),
        (USAGE, own.usage.as_ptr().addr()),
        (CALLBACKS, own.parse.map_or(0, |f| f as usize)),
        (CALLBACKS + 1, own.io_handler.map_or(0, |f| f as usize)),
        (CALLBACKS + 2, own.io_release.map_or(0, |f| f as usize)),
    ];
    for (index, value) in words {
        if let Some(word) = node.get_mut(index) {
            *word = value;
        }
    }
    node.as_mut_ptr().addr()
}

/// The list node is one of ours.
pub(crate) fn is_node(node: usize) -> bool {
    NODES.get().is_some_and(|nodes| nodes.contains(&node))
}

/// The keyword is one of ours.
pub(crate) fn has_keyword(keyword: usize) -> bool {
    is_node(keyword.wrapping_sub(8 * KEYWORD))
}
