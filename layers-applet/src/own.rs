//! Keywords of the instrument's own: they do what built-in ones do not.

use std::ffi::{CStr, c_int, c_void};
use std::sync::OnceLock;

use crate::Instrument;
use crate::keywords::{IoHandler, IoRelease, OWN_NODE, PARSE, Parse};
use crate::server::Appctx;

/// Words of 8 bytes for the node of a list, one keyword, and an empty one behind it, whatever its size.
const NODE: usize = 40;

/// A keyword `layers NAME`.
struct Own {
    name: &'static CStr,
    usage: &'static CStr,
    parse: Option<Parse>,
    io_handler: Option<IoHandler>,
    io_release: Option<IoRelease>,
}

const ALL: &[Own] = &[Own {
    name: c"plain",
    usage: c"layers plain                            : a handler that runs once and has no context",
    parse: None,
    io_handler: Some(once),
    io_release: None,
}];

static NODES: OnceLock<Vec<usize>> = OnceLock::new();

/// Adds the keywords to the server's, a list each.
pub(crate) fn register(instrument: &Instrument) {
    let nodes = ALL.iter().map(|own| {
        let node: &'static mut [usize; NODE] = Box::leak(Box::new([0; NODE]));
        let words = [c"layers".as_ptr().addr(), own.name.as_ptr().addr()];
        let functions = [
            own.parse.map_or(0, |f| f as usize),
            own.io_handler.map_or(0, |f| f as usize),
            own.io_release.map_or(0, |f| f as usize),
        ];
        node[2..4].copy_from_slice(&words);
        node[7] = own.usage.as_ptr().addr();
        node[2 + PARSE / 8..][..3].copy_from_slice(&functions);
        node.as_mut_ptr().addr()
    });
    let nodes = NODES.get_or_init(|| nodes.collect());
    for node in nodes {
        // SAFETY: a list of keywords that lives for ever.
        unsafe { (instrument.server.register_keywords)(*node as *mut c_void) };
    }
    if let Some(first) = nodes.first() {
        OWN_NODE.get_or_init(|| *first);
    }
}

/// The list node is one of ours.
pub(crate) fn is_node(node: usize) -> bool {
    NODES.get().is_some_and(|nodes| nodes.contains(&node))
}

/// The keyword is one of ours.
pub(crate) fn has_keyword(keyword: usize) -> bool {
    is_node(keyword.wrapping_sub(16))
}

unsafe extern "C" fn once(_appctx: Appctx) -> c_int {
    1
}
