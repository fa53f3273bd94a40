//! What authors of plugins do with `layers`, done as they would: the example projects in `fixtures/examples`, each in a copy of
//! its own, with the very commands of its README.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod c;
mod document;
mod place;
mod rust;
mod scripts;
