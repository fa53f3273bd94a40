//! Keywords of the instrument's own: they do what built-in ones do not, and some do what none may.

mod bad;
mod context;
mod good;
pub(crate) mod service;

use std::ffi::{CStr, c_void};
use std::sync::OnceLock;
use std::sync::atomic::Ordering;

use crate::Instrument;
use crate::appctx::Entry;
use crate::keywords::{HEAD, IoHandler, IoRelease, PARSE, Parse};
use crate::memory::{self, word};
use crate::server::{Appctx, function};

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

/// What an own keyword or service can have done to its appctx between two calls, as a server that breaks its promises would
/// do it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Meddling {
    /// `svcctx` becomes another pointer.
    Svcctx = 1,
    /// A byte of the storage area becomes another one.
    Storage = 2,
    /// The slot of `io_release` is cleared.
    Release = 3,
}

/// Does to the appctx what its command has asked for, once.
///
/// # Safety
///
/// `appctx` is one that the server has just passed to a callback.
pub(crate) unsafe fn meddle(instrument: &Instrument, appctx: Appctx, entry: &Entry) {
    let wanted = entry.meddle.swap(0, Ordering::Relaxed);
    let layout = &instrument.layout;
    // SAFETY: fields of the appctx, aligned for their types.
    let put = |offset: usize, value: usize| unsafe { appctx.byte_add(offset).cast::<usize>().write(value) };
    match (layout.context, layout.io_handler()) {
        (Some(context), _) if wanted == Meddling::Svcctx as u32 => put(context.svcctx, appctx.addr()),
        (Some(context), _) if wanted == Meddling::Storage as u32 => put(context.storage, wanted as usize),
        (_, Some(io_handler)) if wanted == Meddling::Release as u32 => {
            put(io_handler + size_of::<usize>(), 0)
        }
        _ => {}
    }
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

/// Adds a list without keywords: the server's are found by it.
pub(crate) fn register_none(instrument: &Instrument) {
    let node: &'static mut [usize; NODE] = Box::leak(Box::new([0; NODE]));
    let node = node.as_mut_ptr();
    // SAFETY: a list of keywords that lives for ever.
    unsafe { (instrument.server.register_keywords)(node.cast()) };
    HEAD.get_or_init(|| word(node.addr()).unwrap_or_default());
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

/// What stands in the parse slot of our keyword of this name: its trampoline.
fn parse_of(name: &CStr) -> Option<Parse> {
    let is_named = |node: &&usize| {
        let second = word(*node + 8 * (KEYWORD + 1));
        second.and_then(|text| memory::text(text, 64)).as_deref() == Some(name.to_bytes())
    };
    let node = NODES.get()?.iter().find(is_named)?;
    // SAFETY: a slot of one of our keywords, which holds a function of this type.
    unsafe { function(word(node + 8 * CALLBACKS)?) }
}

/// The list node is one of ours.
pub(crate) fn is_node(node: usize) -> bool {
    NODES.get().is_some_and(|nodes| nodes.contains(&node))
}

/// The keyword is one of ours.
pub(crate) fn has_keyword(keyword: usize) -> bool {
    is_node(keyword.wrapping_sub(8 * KEYWORD))
}
