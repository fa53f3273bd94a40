//! What authors of plugins do with `layers`, done as they would: the example projects in `fixtures/examples`, each in a copy of
//! its own, with the very commands of its README; the recipes of docs/ci.md; and an installation.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod action;
mod c;
mod document;
#[path = "../documents/fences.rs"]
mod fences;
mod first_test;
mod installed;
mod place;
mod recipes;
mod rust;
mod scripts;
