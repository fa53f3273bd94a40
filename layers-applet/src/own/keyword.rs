//! One keyword of the instrument's own, as the server wants it.

use std::ffi::CStr;
use std::sync::OnceLock;

use crate::memory::{self, word};
use crate::server::function;
use crate::slots::{IoHandler, IoRelease, PARSE, Parse};

/// Words of 8 bytes for the node of a list, one keyword, and an empty one behind it, whatever its size.
pub(super) const NODE: usize = 40;

/// Where the keyword begins in it, where its usage stands, and its callbacks.
const KEYWORD: usize = 2;

const USAGE: usize = KEYWORD + 5;

const CALLBACKS: usize = KEYWORD + PARSE / 8;

/// A keyword `layers NAME`.
pub(super) struct Own {
    pub(super) name: &'static CStr,
    pub(super) usage: &'static CStr,
    pub(super) parse: Option<Parse>,
    pub(super) io_handler: Option<IoHandler>,
    pub(super) io_release: Option<IoRelease>,
}

pub(super) static NODES: OnceLock<Vec<usize>> = OnceLock::new();

pub(super) fn node(own: &Own) -> usize {
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
pub(super) fn parse_of(name: &CStr) -> Option<Parse> {
    let is_named = |node: &&usize| {
        let second = word(*node + 8 * (KEYWORD + 1));
        second.and_then(|text| memory::text(text, 64)).as_deref() == Some(name.to_bytes())
    };
    let node = NODES.get()?.iter().find(is_named)?;
    // SAFETY: a slot of one of our keywords, which holds a function of this type.
    unsafe { function(word(node + 8 * CALLBACKS)?) }
}

/// The list node is one of ours.
fn is_node(node: usize) -> bool {
    NODES.get().is_some_and(|nodes| nodes.contains(&node))
}

/// The keyword is one of ours.
pub(crate) fn has_keyword(keyword: usize) -> bool {
    is_node(keyword.wrapping_sub(8 * KEYWORD))
}
