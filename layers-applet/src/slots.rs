//! The callbacks of a keyword, where they stand in it, and where the ring of all keywords begins.

use std::ffi::{c_char, c_int, c_void};
use std::sync::OnceLock;

use crate::server::Appctx;

pub(crate) type Parse = unsafe extern "C" fn(*mut *mut c_char, *mut c_char, Appctx, *mut c_void) -> c_int;

pub(crate) type IoHandler = unsafe extern "C" fn(Appctx) -> c_int;

pub(crate) type IoRelease = unsafe extern "C" fn(Appctx);

/// Fields of `struct cli_kw`, in bytes: five words, the usage, then the callbacks.
pub(crate) const WORDS: usize = 5;

pub(crate) const PARSE: usize = 48;

/// The head of the ring of all lists of keywords: what stands behind our first list when that has just been added.
pub(crate) static HEAD: OnceLock<usize> = OnceLock::new();
